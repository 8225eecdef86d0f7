"""Comparison of the code cells and figures of two runs."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path

from mlops_kit.pipeline.compare.line_diff import diff_lines
from mlops_kit.pipeline.compare.records import FigurePair
from mlops_kit.project.notebook_cells import RUN_CELL_TAGS, load_code_cells
from mlops_kit.project.run_folder import read_stage_records


def diff_code_cells(old: Path, new: Path) -> str:
    """Return how the code cells of a notebook differ, line by line; empty if they do not.

    Each changed cell begins with its number among the code cells, counted from one.
    """
    if not old.exists() or not new.exists():
        return ""
    old_sources = _list_sources(old)
    new_sources = _list_sources(new)
    matcher = SequenceMatcher(None, old_sources, new_sources, autojunk=False)
    lines: list[str] = []
    for tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        old_cells = old_sources[old_start:old_end]
        new_cells = new_sources[new_start:new_end]
        if len(old_cells) == len(new_cells):
            for offset, (old_cell, new_cell) in enumerate(zip(old_cells, new_cells, strict=True)):
                lines.append(f"code cell {new_start + offset + 1}:")
                lines += diff_lines(old_cell.splitlines(), new_cell.splitlines())
        else:
            lines.append(_describe_block(range(old_start, old_end), range(new_start, new_end)))
            lines += diff_lines(_join_cells(old_cells), _join_cells(new_cells))
    return "\n".join(lines)


def _describe_block(old_positions: range, new_positions: range) -> str:
    """Return which cells were inserted, removed, or split and merged, as a heading.

    >>> _describe_block(range(2, 2), range(2, 4))
    'new code cells 3 to 4:'
    >>> _describe_block(range(0, 1), range(0, 2))
    'code cells 1 to 2, before: code cell 1:'
    """
    if not old_positions:
        return f"new {_number_cells(new_positions)}:"
    if not new_positions:
        return f"removed {_number_cells(old_positions)}:"
    return f"{_number_cells(new_positions)}, before: {_number_cells(old_positions)}:"


def _number_cells(positions: range) -> str:
    """Return the numbers of cells at consecutive positions, counted from one."""
    if len(positions) == 1:
        return f"code cell {positions[0] + 1}"
    return f"code cells {positions[0] + 1} to {positions[-1] + 1}"


def _join_cells(sources: list[str]) -> list[str]:
    """Return the lines of several cells, with an empty line between two."""
    return "\n\n".join(sources).splitlines()


def _list_sources(notebook: Path) -> list[str]:
    """Return the sources of a notebook's own code cells, without those that the run inserted."""
    sources = []
    for cell in load_code_cells(notebook):
        tags = set(cell["metadata"].get("tags", []))
        if not tags & RUN_CELL_TAGS:
            sources.append(cell["source"])
    return sources


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
