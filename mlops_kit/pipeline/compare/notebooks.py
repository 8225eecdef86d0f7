"""Notebooks."""

from __future__ import annotations

import io
from pathlib import Path

from mlops_kit.project import notebook_cells, run_folder
from mlops_kit.project.notebook_cells import RUN_CELL_TAGS


def diff_code_cells(old: Path, new: Path) -> str:
    """How the code cells of a notebook differ, as nbdime says it; empty if they do not."""
    if not (old.exists() and new.exists()):
        return ""
    cells = [
        [
            c["source"]
            for c in notebook_cells.load_code_cells(f)
            if not RUN_CELL_TAGS & set(c["metadata"].get("tags", []))
        ]
        for f in (old, new)
    ]
    if cells[0] == cells[1]:
        return ""
    import nbdime
    from nbdime.prettyprint import PrettyPrintConfig, pretty_print_notebook_diff
    from nbformat.v4 import new_code_cell, new_notebook

    a, b = (
        new_notebook(cells=[new_code_cell(s, id=f"cell{n}") for n, s in enumerate(c)])
        for c in cells
    )
    out = io.StringIO()
    pretty_print_notebook_diff(
        old.stem,
        new.stem,
        a,
        nbdime.diff_notebooks(a, b),
        PrettyPrintConfig(out=out, use_git=False, use_diff=False, use_color=False),
    )
    head, mark, body = out.getvalue().partition("## ")  # the head names files and times
    return mark + body if mark else head


def compare_figures(old: Path, new: Path) -> list[tuple[str, str, str]]:
    """Figures of a stage and title that are not alike: title, old and new as SVG, empty where there is none."""

    def drawn(run: Path) -> dict[tuple[str, str], str]:
        shown = [
            (s, f)
            for s, r in run_folder.read_stage_records(run).items()
            for f in r["shown"]
            if f["figure"] and (run / f["figure"]).exists()
        ]
        return {(s, f["title"]): (run / f["figure"]).read_text(encoding="utf-8") for s, f in shown}

    a, b = drawn(old), drawn(new)
    return [
        (f"{s}: {t}", a.get((s, t), ""), b.get((s, t), ""))
        for s, t in dict.fromkeys([*a, *b])
        if a.get((s, t)) != b.get((s, t))
    ]
