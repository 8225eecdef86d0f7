"""Comparison of the code cells and figures of two runs."""

from __future__ import annotations

import io
from pathlib import Path

from mlops_kit.core.extras import import_from_extra
from mlops_kit.pipeline.compare.records import FigurePair
from mlops_kit.project.notebook_cells import RUN_CELL_TAGS, load_code_cells
from mlops_kit.project.run_folder import read_stage_records


def diff_code_cells(old: Path, new: Path) -> str:
    """Return how the code cells of a notebook differ, as nbdime shows it; empty if they do not."""
    if not old.exists() or not new.exists():
        return ""
    old_sources = _list_sources(old)
    new_sources = _list_sources(new)
    if old_sources == new_sources:
        return ""
    # Here: importing nbdime takes longer than comparing runs whose code is the same.
    with import_from_extra("lab"):
        import nbdime
        from nbdime.prettyprint import PrettyPrintConfig, pretty_print_notebook_diff

    old_notebook = _build_notebook(old_sources)
    new_notebook = _build_notebook(new_sources)
    output = io.StringIO()
    pretty_print_notebook_diff(
        old.stem,
        new.stem,
        old_notebook,
        nbdime.diff_notebooks(old_notebook, new_notebook),
        PrettyPrintConfig(
            out=output,
            use_git=False,
            use_diff=False,
            use_color=False,
        ),
    )
    header, separator, body = output.getvalue().partition("## ")
    return separator + body if separator else header  # the header names files and times


def _list_sources(notebook: Path) -> list[str]:
    """Return the sources of a notebook's own code cells, without those that the run inserted."""
    sources = []
    for cell in load_code_cells(notebook):
        tags = set(cell["metadata"].get("tags", []))
        if not tags & RUN_CELL_TAGS:
            sources.append(cell["source"])
    return sources


def _build_notebook(sources: list[str]) -> dict[str, object]:
    """Build a notebook of code cells whose ids depend on their positions only."""
    with import_from_extra("lab"):
        from nbformat.v4 import new_code_cell, new_notebook

    cells = [new_code_cell(source, id=f"cell{position}") for position, source in enumerate(sources)]
    notebook: dict[str, object] = new_notebook(cells=cells)
    return notebook


def compare_figures(old: Path, new: Path) -> list[FigurePair]:
    """Return the figures that differ, matched by stage and title."""
    old_figures = _read_figures(old)
    new_figures = _read_figures(new)
    pairs = []
    for title in dict.fromkeys([*old_figures, *new_figures]):
        pair = FigurePair(title, old_figures.get(title, ""), new_figures.get(title, ""))
        if pair.old != pair.new:
            pairs.append(pair)
    return pairs


def _read_figures(run: Path) -> dict[str, str]:
    """Read the figures of a run as SVG, by ``stage: title``."""
    figures = {}
    for stage, record in read_stage_records(run).items():
        for shown in record["shown"]:
            path = run / (shown["figure"] or "")
            if path.is_file():
                figures[f"{stage}: {shown['title']}"] = path.read_text(encoding="utf-8")
    return figures
