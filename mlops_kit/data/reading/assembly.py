"""From text to a table: align files by column, decide types, and reject unreadable rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.data.reading.column_types import (
    ColumnSettings,
    decide_column,
    detect_number_style,
)
from mlops_kit.data.reading.date_problems import DateProblem
from mlops_kit.data.reading.raw_table import RawTable
from mlops_kit.data.reading.records import (
    MAX_STORED_LINES,
    ColumnReading,
    ReadReport,
    RejectedLine,
    TableRead,
    UnreadableValue,
)
from mlops_kit.data.reading.settings import ReadSettings

pa = LazyModule("pyarrow")

_MAX_TEXT_CHARACTERS = 200
_POINT = "."


def assemble_table(tables: Sequence[RawTable], settings: ReadSettings) -> TableRead:
    """Decide the type of each column of one or more files, and reject rows that do not fit.

    Raises
    ------
    KitError
        If the files have different columns.
    """
    first = tables[0]
    columns = _align_columns(tables)
    decimal, thousands, style_notes = _choose_number_style(tables, columns, settings)
    unreadable = list(_list_unreadable_cells(tables))
    row_texts: dict[int, list[str]] = {}
    series: dict[str, pd.Series] = {}
    readings: list[ColumnReading] = []
    date_problems: dict[str, DateProblem] = {}
    for name in first.names:
        texts = columns[name.column]
        column_settings = ColumnSettings(
            decimal=decimal,
            thousands=thousands,
            missing=settings.missing,
            date_format=settings.find_date_format(name.column),
            max_unreadable_share=settings.max_unreadable_share,
            is_inspected=name.column not in settings.excluded_columns,
        )
        decision = decide_column(name.column, texts, column_settings)
        unreadable += decision.unreadable
        if decision.date_problem is not None:
            date_problems[name.column] = decision.date_problem
        readings.append(_complete_reading(decision.reading, tables, name.column))
        series[name.column] = decision.values
    reasons = _describe_unreadable(unreadable)
    for row in list(reasons)[:MAX_STORED_LINES]:
        row_texts[row] = [str(columns[name.column][row].as_py() or "") for name in first.names]
    columns.clear()
    row_count = sum(table.row_count for table in tables)
    frame = pd.DataFrame(series, index=pd.RangeIndex(row_count), copy=False)
    series.clear()
    unreadable_rows = frame.iloc[list(reasons)]
    if reasons:
        frame = frame.drop(index=list(reasons)).reset_index(drop=True)
    rejected = [line for table in tables for line in table.rejected]
    rejected += _reject_rows(tables, reasons, row_texts)
    rejected.sort(key=lambda line: (line.file, line.line))
    record_count = sum(table.record_count for table in tables)
    notes = [note for table in tables for note in table.notes]
    report = ReadReport(
        files=[table.file for table in tables],
        encoding=_join_distinct(table.encoding for table in tables),
        separator=_join_distinct(table.separator for table in tables),
        decimal=decimal or "",
        thousands=thousands or "",
        header_line=first.header_line,
        skipped_lines=first.skipped_lines,
        rows_in_file=record_count,
        rows_kept=len(frame),
        columns=readings,
        rejected=rejected[:MAX_STORED_LINES],
        rejected_count=record_count - len(frame),
        notes=list(dict.fromkeys([*notes, *style_notes])),
    )
    nested = frozenset[str]().union(*(table.nested_columns for table in tables))
    return TableRead(frame, report, nested, date_problems, unreadable_rows)


def _align_columns(tables: Sequence[RawTable]) -> dict[str, Any]:
    """Return the columns of all files by name; their order may differ.

    Raises
    ------
    KitError
        If a file lacks a column, or has another one.
    """
    first = tables[0]
    expected = [name.column for name in first.names]
    chunks: dict[str, list[Any]] = {column: [] for column in expected}
    for table in tables:
        names = [name.column for name in table.names]
        _check_same_columns(first.file, expected, table.file, names)
        for name, column in zip(names, table.columns, strict=True):
            chunks[name] += column.chunks
        table.columns.clear()
    return {name: pa.chunked_array(parts, pa.string()) for name, parts in chunks.items()}


def _check_same_columns(
    first_file: str,
    expected: Sequence[str],
    file: str,
    names: Sequence[str],
) -> None:
    """Check that a file has the columns of the first one."""
    missing = [name for name in expected if name not in names]
    added = [name for name in names if name not in expected]
    if not missing and not added:
        return
    differences = []
    if missing:
        differences.append(f"lacks {', '.join(map(repr, missing))}")
    if added:
        differences.append(f"has {', '.join(map(repr, added))} besides")
    raise KitError(
        f"the files have different columns: {file} {' and '.join(differences)}, "
        f"compared with {first_file}",
        "files with the same columns, in any order",
        "correct the file, or set a pattern that leaves it out",
    )


def _choose_number_style(
    tables: Sequence[RawTable],
    columns: dict[str, Any],
    settings: ReadSettings,
) -> tuple[str | None, str | None, list[str]]:
    """Return the decimal and thousands separators that are set or detected, and notes."""
    if all(table.has_plain_numbers for table in tables):
        return settings.decimal or _POINT, settings.thousands, []
    if settings.decimal is not None and settings.thousands is not None:
        return settings.decimal, settings.thousands, []
    inspected = {
        name: texts for name, texts in columns.items() if name not in settings.excluded_columns
    }
    style = detect_number_style(inspected)
    decimal = settings.decimal or style.decimal
    thousands = style.thousands if settings.thousands is None else settings.thousands
    if thousands == decimal:
        thousands = None
    return decimal, thousands, list(style.notes)


def _list_unreadable_cells(tables: Sequence[RawTable]) -> Iterable[UnreadableValue]:
    """Yield cells that are no values, with their rows counted over all files."""
    offset = 0
    for table in tables:
        for cell in table.unreadable:
            yield cell.model_copy(update={"row": cell.row + offset})
        offset += table.row_count


def _complete_reading(
    reading: ColumnReading,
    tables: Sequence[RawTable],
    column: str,
) -> ColumnReading:
    """Add the name in the file, and what was changed before the type was decided."""
    name = next(name for name in tables[0].names if name.column == column)
    notes = [*reading.notes]
    if name.note:
        notes.append(name.note)
    if any(column in table.nested_columns for table in tables):
        notes.append("The values are lists or objects, read as JSON text.")
    conversions = [sentence for table in tables for sentence in table.conversions.get(column, [])]
    return reading.model_copy(
        update={
            "name_in_file": name.name_in_file,
            "notes": notes,
            "conversions": [*conversions, *reading.conversions],
        }
    )


def _describe_unreadable(values: Sequence[UnreadableValue]) -> dict[int, str]:
    """Return why rows are unreadable, by row in rising order."""
    reasons: dict[int, list[str]] = {}
    for value in values:
        reason = f"{value.column}: {value.value[:50]!r} {value.reason}"
        reasons.setdefault(value.row, []).append(reason)
    return {row: "; ".join(reasons[row]) for row in sorted(reasons)}


def _reject_rows(
    tables: Sequence[RawTable],
    reasons: dict[int, str],
    row_texts: dict[int, list[str]],
) -> list[RejectedLine]:
    """Return the rows with unreadable values as rejected lines, as far as they are stored."""
    lines = []
    offset = 0
    for table in tables:
        separator = table.separator or ", "
        for row, texts in row_texts.items():
            if not offset <= row < offset + table.row_count:
                continue
            line = RejectedLine(
                file=table.file,
                line=table.find_line(table.find_record(row - offset)),
                text=separator.join(texts)[:_MAX_TEXT_CHARACTERS],
                reason=reasons[row],
                row=row,
            )
            lines.append(line)
        offset += table.row_count
    return lines


def _join_distinct(texts: Iterable[str]) -> str:
    """Join what differs between files."""
    return ", ".join(dict.fromkeys(texts))
