"""How Sphinx builds the documentation (``make docs``); every warning is an error there."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "_extensions"))

import mlops_kit  # noqa: E402 - conf.py is a script; the folder above comes first

project = "mlops-kit"
author = "the mlops-kit authors"
project_copyright = author
release = mlops_kit.__version__
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated_reference",
]
exclude_patterns = ["_extensions"]

# Markdown
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# README, changelog and the like are written for the repository and included in the site.
suppress_warnings = ["myst.header"]

# API reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
python_use_unqualified_type_names = True

# HTML: a page requests nothing from other hosts.
html_theme = "furo"
html_title = f"mlops-kit {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_theme_options = {"top_of_page_buttons": []}
html_extra_path: list[str] = []
