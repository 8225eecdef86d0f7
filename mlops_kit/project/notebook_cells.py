"""Read the cells of a notebook as JSON: nbformat takes ten times as long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError

# Tags of cells that a run has inserted into a notebook.
RUN_CELL_TAGS = frozenset({"injected-parameters", "papermill-error-cell-tag"})

NotebookCell = dict[str, Any]  # as nbformat defines it, with the source as one text


def load_cells(notebook: Path) -> list[NotebookCell]:
    """Return the cells of a notebook, each with its source as one text.

    Raises
    ------
    KitError
        If the file does not exist or is not a notebook.
    """
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        return [{**cell, "source": "".join(cell["source"])} for cell in content["cells"]]
    except FileNotFoundError as error:
        raise KitError(
            f"the notebook {notebook.name!r} does not exist",
            str(notebook.parent),
            "put it there, or name another one under 'stages'",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(
            f"{notebook.name} is not a notebook: {error}",
            "a file that JupyterLab opens",
            "restore it from git",
        ) from error


def load_code_cells(notebook: Path) -> list[NotebookCell]:
    """Return the code cells of a notebook, in order."""
    return [cell for cell in load_cells(notebook) if cell["cell_type"] == "code"]


def read_notebook_title(notebook: Path) -> str:
    """Return the title of a notebook: its first heading, or the name of its file.

    A notebook that does not exist has the name of its file: a run of one stage does not need the
    notebooks of the others.
    """
    if not notebook.exists():
        return notebook.stem
    for cell in load_cells(notebook):
        source = cell["source"].lstrip()
        if cell["cell_type"] == "markdown" and source.startswith("# "):
            return str(source.splitlines()[0].removeprefix("# "))
    return notebook.stem
