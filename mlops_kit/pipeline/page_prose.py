"""The prose of a notebook on its page, which shows no code: nothing that only introduces code.

In a notebook a paragraph leads in to the code below it. On the page that code is not there, and
where it shows nothing, neither is anything else that the paragraph could lead in to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CODE_INTRODUCTION_TAG = "introduces-code"  # of a markdown cell that is about the code alone


def select_page_cells(cells: Sequence[Any]) -> list[Any]:
    """Select the cells of an executed notebook that its page shows, with their prose.

    Left out is a markdown cell with the tag ``introduces-code``. Any other markdown cell keeps all
    its words; a colon at its end becomes a full stop if the code below shows nothing.

    Parameters
    ----------
    cells : sequence of NotebookNode
        The cells of the notebook. Those whose prose changes are changed in place.
    """
    selected = []
    for position, cell in enumerate(cells):
        is_prose = cell["cell_type"] == "markdown"
        if is_prose and CODE_INTRODUCTION_TAG in cell["metadata"].get("tags", []):
            continue
        if is_prose and _introduces_hidden_code(cells, position):
            cell["source"] = end_with_full_stop(cell["source"])
        selected.append(cell)
    return selected


def _introduces_hidden_code(cells: Sequence[Any], position: int) -> bool:
    """Whether code follows a cell, and nothing of it is seen until the next prose."""
    code_cells = []
    for cell in cells[position + 1 :]:
        if cell["cell_type"] != "code":
            break
        code_cells.append(cell)
    return bool(code_cells) and not any(_shows_something(cell) for cell in code_cells)


def _shows_something(code_cell: Any) -> bool:
    """Whether a code cell has an output that the page shows."""
    for output in code_cell["outputs"]:
        if output["output_type"] == "error" or output.get("text") or output.get("data"):
            return True
    return False


def end_with_full_stop(prose: str) -> str:
    """End a paragraph that ends in a colon with a full stop.

    >>> end_with_full_stop("The rows are sorted:")
    'The rows are sorted.'
    >>> end_with_full_stop("## Rows:")
    '## Rows:'
    """
    stripped = prose.rstrip()
    is_heading = stripped.rpartition("\n")[2].startswith("#")
    if not stripped.endswith(":") or is_heading:
        return prose
    return f"{stripped[:-1]}."
