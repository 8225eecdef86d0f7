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
    content = _load_notebook(notebook)
    try:
        return [{**cell, "source": "".join(cell["source"])} for cell in content["cells"]]
    except (KeyError, TypeError) as error:
        raise _not_a_notebook_error(notebook, error) from error


def load_notebook_metadata(notebook: Path) -> dict[str, Any]:
    """Return the metadata of a notebook: its kernelspec and its language, among others.

    Raises
    ------
    KitError
        If the file does not exist or is not a notebook.
    """
    metadata = _load_notebook(notebook).get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def _load_notebook(notebook: Path) -> dict[str, Any]:
    """Return the content of a notebook."""
    try:
        content: Any = json.loads(notebook.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise KitError(
            f"the notebook {notebook.name!r} does not exist",
            str(notebook.parent),
            "put it there, or name another one under 'stages'",
        ) from error
    except ValueError as error:
        raise _not_a_notebook_error(notebook, error) from error
    if not isinstance(content, dict):
        raise _not_a_notebook_error(notebook, f"it holds a {type(content).__name__}")
    return content


def _not_a_notebook_error(notebook: Path, problem: Exception | str) -> KitError:
    """Build the error for a file that is not a notebook."""
    return KitError(
        f"{notebook.name} is not a notebook: {problem}",
        "a file that JupyterLab opens",
        "restore it from git",
    )


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
