"""What was read, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.reading.records import ColumnReading, ReadReport

_MAX_LISTED_LINES = 5
_CHARACTER_NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "space", ".": "point"}


def summarize_reading(report: ReadReport | None) -> Table:
    """Summarize what was read: one row per column, and what was rejected.

    Returns
    -------
    Table
        Columns ``column``, ``type``, ``format``, ``missing words``, ``missing``, ``suspected
        sentinels``, ``examples`` and ``remarks``.

    Raises
    ------
    KitError
        If nothing has been read yet.
    """
    if report is None:
        raise KitError("the source has not been read yet", "stage.read_source()", "call it before")
    rows = [_describe_column(reading) for reading in report.columns]
    data = pd.DataFrame(
        rows,
        columns=[
            "column",
            "type",
            "format",
            "missing words",
            "missing",
            "suspected sentinels",
            "examples",
            "remarks",
        ],
    )
    return Table(
        "What was read",
        describe_reading(report),
        data,
        {"missing": "share of rows"},
        notes=tuple(_list_notes(report)),
    )


def _describe_column(reading: ColumnReading) -> tuple[str | float, ...]:
    """Describe a column in one row."""
    words = [
        f"{word or 'empty'}: {format_number(count)}"
        for word, count in reading.missing_words.items()
    ]
    remarks = [*reading.conversions, *reading.notes]
    if reading.name_in_file != reading.column:
        remarks.insert(0, f"named {reading.name_in_file[:100]!r} in the file")
    return (
        reading.column,
        str(reading.type),
        reading.format,
        ", ".join(words),
        reading.missing_share,
        ", ".join(reading.sentinels),
        ", ".join(repr(example) for example in reading.examples),
        "; ".join(remarks),
    )


def describe_reading(report: ReadReport) -> str:
    """Describe in a sentence how many rows were read, and how many were rejected.

    >>> describe_reading(ReadReport(files=["a.csv"], rows_in_file=3, rows_kept=3))
    'All 3 rows of a.csv were read; it has 0 columns.'
    """
    files = report.files[0] if report.files else "the source"
    if len(report.files) > 1:
        files = f"{len(report.files)} files"
    columns = f"it has {len(report.columns)} columns"
    total = format_number(report.rows_in_file)
    kept = f"{format_number(report.rows_kept)} of {total}"
    if report.rows_kept == report.rows_in_file:
        kept = f"All {total}"
    sentences = [f"{kept} rows of {files} were read; {columns}.", _describe_known_rows(report)]
    if report.rejected_count:
        sentences.append(describe_rejected_rows(report))
    return " ".join(filter(None, sentences))


def _describe_known_rows(report: ReadReport) -> str:
    """Describe how many rows a report as of a time covers; empty if it covers all."""
    if report.known_by is None or report.rows_known is None:
        return ""
    sentences = []
    time = f"{report.known_by:%Y-%m-%d %H:%M} UTC"
    if report.rows_known < report.rows_kept:
        sentences.append(
            f"{format_number(report.rows_known)} of them were known by {time}, and only these are "
            "used; types, missing values and examples are those of all rows, later ones included."
        )
    later_count = report.rows_in_file - report.rows_kept - report.rejected_count
    if later_count:
        noun, verb = ("row that was", "is") if later_count == 1 else ("rows that were", "are")
        sentences.append(f"{format_number(later_count)} {noun} not read {verb} later than {time}.")
    return " ".join(sentences)


def describe_rejected_rows(report: ReadReport) -> str:
    """Describe in a sentence which rows were rejected, and why the first one was."""
    noun = "row was" if report.rejected_count == 1 else "rows were"
    reason = report.rejected[0].reason if report.rejected else ""
    count = format_number(report.rejected_count)
    first = "" if report.rejected_count == 1 else "the first: "
    return f"{count} {noun} rejected{_list_lines(report)}: {first}{reason}."


def _list_lines(report: ReadReport) -> str:
    """List the lines of rejected rows in parentheses; empty if they are not known."""
    lines = [str(line.line) for line in report.rejected[:_MAX_LISTED_LINES] if line.line]
    if not lines:
        return ""
    place = "line" if report.rejected_count == 1 else "lines"
    more = ", …" if report.rejected_count > len(lines) else ""
    return f" ({place} {', '.join(lines)}{more})"


def _list_notes(report: ReadReport) -> list[str]:
    """Return sentences about the file as a whole."""
    notes = []
    if report.separator or report.encoding:
        facts = [
            f"encoding {report.encoding}" if report.encoding else "",
            f"separator {_name_characters(report.separator)}" if report.separator else "",
            f"decimal {_name_characters(report.decimal)}" if report.decimal else "",
            f"thousands {_name_characters(report.thousands)}" if report.thousands else "",
            f"header in line {report.header_line}" if report.header_line else "no header",
        ]
        notes.append(f"Read with {', '.join(fact for fact in facts if fact)}.")
    return [*notes, *report.notes]


def _name_characters(characters: str) -> str:
    """Return the names of characters that are hard to see."""
    return " or ".join(_CHARACTER_NAMES.get(part, part) for part in _split(characters))


def _split(characters: str) -> Sequence[str]:
    return [characters] if len(characters) == 1 else characters.split(", ")
