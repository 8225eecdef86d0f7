"""Notebook cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError


def load_code_cells(notebook: Path) -> list[dict[str, Any]]:
    """A notebook's code cells, in their order."""
    return [c for c in load_cells(notebook) if c["cell_type"] == "code"]


def load_cells(notebook: Path) -> list[dict[str, Any]]:
    """A notebook's cells, read as JSON (nbformat takes ten times as long)."""
    try:
        held = json.loads(notebook.read_text(encoding="utf-8"))
        return [{**c, "source": "".join(c["source"])} for c in held["cells"]]
    except FileNotFoundError as error:
        raise KitError(
            f"the notebook {notebook.name!r} does not exist",
            str(notebook.parent),
            "put it there, or name another under 'stages'",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(
            f"{notebook.name} is not a notebook: {error}",
            "a file that JupyterLab opens",
            "restore it from git",
        ) from error


def read_notebook_title(notebook: Path) -> str:
    """The notebook's title, which is the question that its stage answers; its file's name without one.

    A run of one stage needs no other stage's notebook.
    """
    if not notebook.exists():
        return notebook.stem
    titled = (c["source"].lstrip() for c in load_cells(notebook) if c["cell_type"] == "markdown")
    return next(
        (t.splitlines()[0].removeprefix("# ") for t in titled if t.startswith("# ")), notebook.stem
    )


RUN_CELL_TAGS = {
    "injected-parameters",
    "papermill-error-cell-tag",
}  # tags of cells that a run has put into a notebook
