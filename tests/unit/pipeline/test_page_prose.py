"""The prose of a notebook's page: nothing that only introduces code stands there alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nbformat import v4

from mlops_kit.pipeline.page_prose import CODE_INTRODUCTION_TAG, select_page_cells
from mlops_kit.pipeline.report import write_notebook_page
from tests.support.environment import ROOT
from tests.support.page_text import read_text

PARAGRAPH = "**What is read?** The newest rows are read:"
SHOWN = {"output_type": "stream", "name": "stdout", "text": "300 rows."}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def make_prose(source: str = PARAGRAPH, *tags: str) -> Any:
    return v4.new_markdown_cell(source, metadata={"tags": list(tags)})


def read_prose(*cells: Any) -> list[str]:
    return [cell.source for cell in select_page_cells(cells) if cell.cell_type == "markdown"]


@pytest.mark.parametrize(
    ("outputs", "tags", "expected"),
    [
        ([SHOWN], [], [PARAGRAPH]),
        ([SHOWN], [CODE_INTRODUCTION_TAG], []),
        ([], [], [f"{PARAGRAPH[:-1]}."]),
        ([], [CODE_INTRODUCTION_TAG], []),
    ],
)
def test_prose_before_code_that_shows_nothing_does_not_lead_in(
    outputs: list[dict[str, Any]], tags: list[str], expected: list[str]
) -> None:
    code = v4.new_code_cell("read()", outputs=[v4.new_output(**output) for output in outputs])
    assert read_prose(make_prose(PARAGRAPH, *tags), code) == expected


def test_several_cells_of_code_belong_to_the_prose_above_them() -> None:
    silent = v4.new_code_cell("rows = read()")
    loud = v4.new_code_cell("rows", outputs=[v4.new_output(**SHOWN)])
    assert read_prose(make_prose(), silent, loud) == [PARAGRAPH]
    assert read_prose(make_prose(), silent, silent, make_prose("End."), loud) == [
        f"{PARAGRAPH[:-1]}.",
        "End.",
    ]


@pytest.mark.parametrize("source", ["## Rows:", "The rows:\n\n| a |\n|---|\n| 1 |", "All is read."])
def test_other_prose_is_kept_as_it_is(source: str) -> None:
    assert read_prose(make_prose(source), v4.new_code_cell("read()")) == [source]
    assert read_prose(make_prose(source)) == [source]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_pages_of_the_seven_notebooks_introduce_no_code(notebook: Path, tmp_path: Path) -> None:
    """Without any output: then no paragraph may lead in to one."""
    copy = tmp_path / notebook.name
    copy.write_text(notebook.read_text(encoding="utf-8"), encoding="utf-8")
    page = write_notebook_page(copy).read_text(encoding="utf-8")
    assert ":</p>" not in page
    shown = read_text(page)
    assert "parameters below" not in shown
    assert "Opening the stage" not in shown
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [cell for cell in cells if CODE_INTRODUCTION_TAG in cell["metadata"].get("tags", [])]
    assert len(tagged) >= 2
    for cell in cells:
        first_line = "".join(cell["source"]).splitlines()[0]
        if cell["cell_type"] == "markdown" and first_line.startswith("#"):
            assert first_line.lstrip("# ") in shown
