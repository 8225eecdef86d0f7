"""Rendering."""

from __future__ import annotations

import html
import re

from mlops_kit.pipeline.compare.records import RunComparison

_DIFFERENCE_MARKS = {
    False: ("▲", "watch", "differs"),
    True: ("●", "good", "no clear difference"),
    None: ("◆", "faint", "cannot tell"),
}


def print_comparison(found: RunComparison) -> None:
    """Print the comparison: tables in a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        print(format_comparison_text(found))
        return
    colours = {"watch": "yellow", "good": "green", "faint": "dim"}
    console.print(Text(found.sentence, style="bold"))
    for section, rows in found.rows_by_section.items():
        grid = Grid("", "", "before", "now", "", title=Text(section), title_justify="left")
        for r in rows:
            mark, colour, _ = _DIFFERENCE_MARKS[r.is_same]
            grid.add_row(
                Text(mark, style=colours[colour]), *map(Text, (r.name, r.old, r.new, r.explanation))
            )
        console.print(grid)
    for book, diff in found.code_diffs.items():
        console.print(Text(f"\n{book}\n{diff}"))


def format_comparison_text(found: RunComparison) -> str:
    """The comparison as plain lines."""
    from mlops_kit.core.formatting import align_columns

    lines = [
        found.sentence,
        "; ".join(f"{mark} {word}" for mark, _, word in _DIFFERENCE_MARKS.values()),
    ]
    for section, rows in found.rows_by_section.items():
        lines += [
            "",
            section,
            align_columns(
                [
                    (
                        f"  {_DIFFERENCE_MARKS[r.is_same][0]}",
                        r.name,
                        _shorten_value(r.old),
                        "→" if r.old or r.new else "",
                        _shorten_value(r.new),
                        r.explanation,
                    )
                    for r in rows
                ]
            ),
        ]
    return "\n".join([*lines, *(f"\n{book}\n{diff}" for book, diff in found.code_diffs.items())])


def _shorten_value(value: str, limit: int = 60) -> str:
    """A value that fits into a column."""
    line = " ".join(value.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def format_comparison_markdown(found: RunComparison) -> str:
    """The comparison for a pull request; nothing in it can leave its cell or its block of code."""

    def escaped(value: str) -> str:
        return re.sub(r"([\\`*\[<|~&])", r"\\\1", value)

    def cell(value: str) -> str:
        return escaped(_shorten_value(value, 100))

    lines = [
        f"### Run {found.new_run} against {found.old_run}",
        "",
        escaped(found.differences[:1].upper() + found.differences[1:]),
    ]
    for section, rows in found.rows_by_section.items():
        told = [
            f"| {_DIFFERENCE_MARKS[r.is_same][0]} {_DIFFERENCE_MARKS[r.is_same][2]} | {' | '.join(map(cell, (r.name, r.old, r.new, r.explanation)))} |"
            for r in rows
        ]
        lines += [
            "",
            f"<details><summary>{section} ({len(rows)})</summary>",
            "",
            "| | | before | now | |",
            "|---|---|---|---|---|",
            *told,
            "",
            "</details>",
        ]
    for book, diff in found.code_diffs.items():
        fence = "~" * max(4, 1 + max(map(len, re.findall("~+", diff)), default=0))
        lines += [
            "",
            f"<details><summary>code of {html.escape(book)}</summary>",
            "",
            f"{fence}diff",
            diff.rstrip(),
            fence,
            "",
            "</details>",
        ]
    return "\n".join(lines) + "\n"


def render_comparison_page(found: RunComparison) -> str:
    """The comparison as an HTML page of its own."""
    from mlops_kit.pipeline.report import render_report_template

    return render_report_template("diff.html", c=found, marks=_DIFFERENCE_MARKS)
