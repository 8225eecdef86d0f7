"""The forms in which a comparison of runs is shown: terminal, plain text, Markdown and HTML."""

from __future__ import annotations

import html
import re
import sys
from typing import NamedTuple

from mlops_kit.core.formatting import align_columns, capitalize_first
from mlops_kit.pipeline.compare.records import ComparisonRow, Difference, RunComparison

_MAX_TEXT_CHARACTERS = 60  # of a value in plain text
_MAX_MARKDOWN_CHARACTERS = 100  # of a value in a Markdown table
_MIN_FENCE_CHARACTERS = 4


class _DifferenceMark(NamedTuple):
    """How a difference is shown: by shape, CSS class and color in a terminal."""

    symbol: str
    css_class: str
    terminal_color: str


_DIFFERENCE_MARKS = {
    Difference.DIFFERENT: _DifferenceMark("▲", "watch", "yellow"),
    Difference.NONE: _DifferenceMark("●", "good", "green"),
    Difference.UNKNOWN: _DifferenceMark("◆", "faint", "dim"),
}


def print_comparison(comparison: RunComparison) -> None:
    """Print a comparison: tables in a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        sys.stdout.write(format_comparison_text(comparison) + "\n")
        return
    console.print(Text(comparison.sentence, style="bold"))
    for section, rows in comparison.rows_by_section.items():
        table = Table("", "", "before", "now", "", title=Text(section), title_justify="left")
        for row in rows:
            mark = _DIFFERENCE_MARKS[row.difference]
            values = (row.name, row.old, row.new, row.explanation)
            table.add_row(Text(mark.symbol, style=mark.terminal_color), *map(Text, values))
        console.print(table)
    for notebook, diff in comparison.code_diffs.items():
        console.print(Text(f"\n{notebook}\n{diff}"))


def format_comparison_text(comparison: RunComparison) -> str:
    """Format a comparison as plain lines."""
    legend = [f"{mark.symbol} {difference}" for difference, mark in _DIFFERENCE_MARKS.items()]
    parts = [comparison.sentence, "; ".join(legend)]
    for section, rows in comparison.rows_by_section.items():
        parts += ["", section, align_columns([_list_text_cells(row) for row in rows])]
    for notebook, diff in comparison.code_diffs.items():
        parts.append(f"\n{notebook}\n{diff}")
    return "\n".join(parts)


def _list_text_cells(row: ComparisonRow) -> list[str]:
    """Return the columns of a row in plain text."""
    return [
        f"  {_DIFFERENCE_MARKS[row.difference].symbol}",
        row.name,
        _shorten_value(row.old, _MAX_TEXT_CHARACTERS),
        "→" if row.old or row.new else "",
        _shorten_value(row.new, _MAX_TEXT_CHARACTERS),
        row.explanation,
    ]


def _shorten_value(value: str, max_characters: int) -> str:
    """Return a value on one line, cut to a number of characters."""
    line = " ".join(value.split())
    if len(line) <= max_characters:
        return line
    return line[: max_characters - 1] + "…"


def format_comparison_markdown(comparison: RunComparison) -> str:
    """Format a comparison for a pull request; values are escaped."""
    parts = [
        f"### Run {comparison.new_run} compared with {comparison.old_run}",
        "",
        _escape_markdown(capitalize_first(comparison.differences)),
    ]
    for section, rows in comparison.rows_by_section.items():
        parts += [
            "",
            f"<details><summary>{section} ({len(rows)})</summary>",
            "",
            "| | | before | now | |",
            "|---|---|---|---|---|",
            *map(_format_markdown_row, rows),
            "",
            "</details>",
        ]
    for notebook, diff in comparison.code_diffs.items():
        fence = _build_fence(diff)
        parts += [
            "",
            f"<details><summary>code of {html.escape(notebook)}</summary>",
            "",
            f"{fence}diff",
            diff.rstrip(),
            fence,
            "",
            "</details>",
        ]
    return "\n".join(parts) + "\n"


def _escape_markdown(text: str) -> str:
    """Escape the characters that have a meaning in Markdown."""
    return re.sub(r"([\\`*\[<|~&])", r"\\\1", text)


def _format_markdown_row(row: ComparisonRow) -> str:
    """Format a row of a Markdown table."""
    values = [
        _escape_markdown(_shorten_value(value, _MAX_MARKDOWN_CHARACTERS))
        for value in (row.name, row.old, row.new, row.explanation)
    ]
    symbol = _DIFFERENCE_MARKS[row.difference].symbol
    return f"| {symbol} {row.difference} | {' | '.join(values)} |"


def _build_fence(text: str) -> str:
    """Build a fence for a block of code that is longer than any in the text."""
    longest = max(map(len, re.findall("~+", text)), default=0)
    return "~" * max(_MIN_FENCE_CHARACTERS, longest + 1)


def render_comparison_page(comparison: RunComparison) -> str:
    """Render a comparison as an HTML page of its own."""
    # Here: the report loads the database, which no other form of a comparison needs.
    from mlops_kit.pipeline.report import render_report_template

    return render_report_template("diff.html", comparison=comparison, marks=_DIFFERENCE_MARKS)
