"""Projects from the package's template: creating, updating, and the notebooks that one edits.

A project keeps in ``.mlops-origin.json`` what came from the package, as it was: the files of the
template, the answers they were rendered with, and each copied notebook. So a later version of the
package can be merged with what was edited since, wherever the package is installed from.
"""
