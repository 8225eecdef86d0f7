"""The filter by which git commits notebooks without their outputs: nbstripout.

A project's ``.gitattributes`` names the filter. What it runs is a setting of each clone, because
git takes no command from a repository.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.pipeline.manifest import run_git

_FILTER = "filter.nbstripout"


def set_up_notebook_filter(root: Path) -> str:
    """Set the filter in the repository of a project, unless it is set.

    Returns
    -------
    str
        What was done, in a sentence.

    Raises
    ------
    KitError
        If the project is in no repository, git or nbstripout is missing, or git cannot change its
        settings.
    """
    if find_spec("nbstripout") is None:
        raise KitError(
            "notebooks cannot be committed without outputs: nbstripout is not installed",
            "nbstripout",
            "pip install nbstripout",
        )
    if not is_in_repository(root):
        raise KitError(
            f"{str(root)!r} is not in a git repository, or git is not installed",
            "a git repository",
            "git init, then mlops notebook filter",
        )
    if run_git(root, "config", "--get", f"{_FILTER}.clean"):
        return "git commits notebooks without outputs: the filter nbstripout was set before."
    command = f'"{Path(sys.executable).as_posix()}" -m nbstripout --keep-id'
    for name, value in (("clean", command), ("smudge", "cat")):
        setting = f"{_FILTER}.{name}"
        if run_git(root, "config", "--local", setting, value) is None:
            raise RunFailedError(
                f"git could not set {setting} in the repository of {str(root)!r}",
                "a repository whose config can be written, and is not locked by another git",
                "correct it, then: mlops notebook filter",
            )
    return f"git commits notebooks without outputs: {_FILTER} was set in this repository's config."


def is_in_repository(root: Path) -> bool:
    """Return whether a folder is in the work tree of a git repository."""
    return run_git(root, "rev-parse", "--is-inside-work-tree") == "true"
