"""Three-way merges of a text and of a notebook: the original, what was edited, what is new."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import import_from_extra

# git merge-file returns the number of conflicts, and 255 for an error.
_MAX_CONFLICTS = 127
_LABELS = ("your version", "as it came from mlops-kit", "mlops-kit now")
_CONFLICT_MARKER = "<<<<<<< "


class MergedText(NamedTuple):
    """The result of a merge; conflicts are marked in the text."""

    text: str
    conflicts: int


def has_conflict_markers(text: str) -> bool:
    r"""Return whether a text has conflicts that nobody has resolved.

    >>> has_conflict_markers("a\n<<<<<<< your version\nb\n"), has_conflict_markers("a < b")
    (True, False)
    """
    return any(line.startswith(_CONFLICT_MARKER) for line in text.splitlines())


def merge_texts(edited: str, original: str, new: str) -> MergedText:
    """Merge what changed from the original to the new text into the edited one.

    Raises
    ------
    KitError
        If git is not installed.
    RunFailedError
        If git cannot merge the texts.
    """
    if edited in (original, new):
        return MergedText(new, 0)
    if new == original:
        return MergedText(edited, 0)
    if shutil.which("git") is None:
        raise KitError(
            "git is not installed, which merges your edits with the new version",
            "git on the PATH",
            "install git",
        )
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in zip(("edited", "original", "new"), (edited, original, new), strict=True):
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            paths.append(str(path))
        options = [option for label in _LABELS for option in ("-L", label)]
        merged = subprocess.run(
            ["git", "merge-file", "-p", "--diff3", *options, *paths],
            capture_output=True,
            check=False,
        )
    if not 0 <= merged.returncode <= _MAX_CONFLICTS:
        problem = merged.stderr.decode(errors="replace").strip()
        raise RunFailedError(f"git cannot merge the texts: {problem}", "texts in UTF-8")
    return MergedText(merged.stdout.decode("utf-8"), merged.returncode)


def merge_notebooks(edited: str, original: str, new: str) -> MergedText:
    """Merge notebooks cell by cell, with nbdime; a conflict is marked inside its cell.

    Raises
    ------
    MissingExtraError
        If nbdime is not installed.
    RunFailedError
        If nbdime fails.
    """
    if normalize_notebook(edited) == normalize_notebook(original):
        return MergedText(new, 0)
    if normalize_notebook(new) == normalize_notebook(original):
        return MergedText(edited, 0)
    with import_from_extra("lab"):
        from nbdime import nbmergeapp

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, text in zip(("original", "edited", "new"), (original, edited, new), strict=True):
            path = Path(folder) / f"{name}.ipynb"
            path.write_text(text, encoding="utf-8")
            paths.append(str(path))
        result = Path(folder) / "merged.ipynb"
        # In a process of its own: nbdime reads the configuration of Jupyter and logs to the root.
        merged = subprocess.run(
            [sys.executable, "-m", nbmergeapp.__name__, *paths, "--out", str(result)],
            capture_output=True,
            text=True,
            check=False,
        )
        if not result.exists():
            raise RunFailedError(
                f"nbdime cannot merge the notebooks: {merged.stderr.strip()}",
                "notebooks that JupyterLab opens",
            )
        return MergedText(result.read_text(encoding="utf-8"), merged.returncode)


def normalize_notebook(text: str) -> str:
    """Return the parts of a notebook that people edit: type, source and tags of each cell.

    Outputs, counters and metadata of the editor do not count.

    Raises
    ------
    RunFailedError
        If the text is not a notebook.
    """
    try:
        cells = json.loads(text)["cells"]
        parts = []
        for cell in cells:
            tags = cell["metadata"].get("tags", [])
            parts.append((cell["cell_type"], "".join(cell["source"]), tags))
    except (ValueError, KeyError, TypeError) as error:
        raise RunFailedError(
            f"a notebook cannot be read: {error}", "a file that JupyterLab opens"
        ) from error
    return json.dumps(parts)
