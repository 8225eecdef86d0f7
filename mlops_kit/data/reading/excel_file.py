"""Reading a sheet of an Excel file: its header row, serial dates, and cells with errors."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.lazy import LazyModule
from mlops_kit.data.reading.header import is_header
from mlops_kit.data.reading.names import choose_names
from mlops_kit.data.reading.raw_table import RawTable
from mlops_kit.data.reading.records import UnreadableValue
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.storage import open_binary

pa = LazyModule("pyarrow")
openpyxl = LazyModule("openpyxl")

_ERROR_TYPE = "e"  # of openpyxl's cells
_FORMULA_TYPE = "f"
_MIN_DATE_SHARE = 0.5  # of a column's dates and numbers: above it, numbers are serial dates
_SERIAL_DATES = (1.0, 2_958_466.0)  # from 1900 to the year 9999
_MAX_HEADER_ROWS = 200
_ERROR_REASON = "is an error of the spreadsheet"
_FORMULA_REASON = "is a formula whose result is not stored"


@dataclass(frozen=True)
class _Cell:
    """A cell: its value, and why it is not one."""

    value: Any
    problem: str = ""


_EMPTY = _Cell(None)


@dataclass(frozen=True)
class _Sheet:
    """A sheet with its cells; ``epoch`` is the day from which serial dates count."""

    name: str
    all_names: list[str]
    epoch: datetime
    rows: list[list[_Cell]]


@dataclass(frozen=True)
class _Layout:
    """The column names of a sheet, and the row (from 1) on which its records begin."""

    names_in_file: Sequence[str]
    first_line: int
    has_header: bool


def read_excel_file(
    location: str,
    settings: ReadSettings,
    limit: int | None,
    file: str,
) -> RawTable:
    """Read a sheet of an Excel file.

    Cells with errors, and formulas without a stored result, are unreadable values. In a column of
    dates, numbers are the serial dates that Excel stores.

    Raises
    ------
    KitError
        If the file has no such sheet, or the sheet has no cells.
    """
    with open_binary(location) as stream:
        data = stream.read()
    sheet = _read_sheet(data, settings, file)
    first_row, rows = _trim_rows(sheet.rows, settings)
    if not rows:
        raise KitError(
            f"{file}: the sheet {sheet.name!r} is empty",
            "a header and at least one row",
            f"set 'sheet' to one of: {', '.join(sheet.all_names)}",
        )
    texts = [[_format_cell(cell.value) or "" for cell in row] for row in rows[:_MAX_HEADER_ROWS]]
    title_count = 0
    if settings.skip_rows is None:
        title_count = _count_titles(texts)
    texts = texts[title_count:]
    has_header = settings.header
    if has_header is None:
        has_header = is_header(texts[0], texts[1:])
    first_record = title_count + has_header
    layout = _Layout(
        names_in_file=texts[0] if has_header else [""] * len(texts[0]),
        first_line=first_row + first_record + 1,
        has_header=has_header,
    )
    body = rows[first_record:]
    if limit is not None:
        body = body[:limit]
    return _build_table(file, sheet, layout, body)


def _read_sheet(
    data: bytes,
    settings: ReadSettings,
    file: str,
) -> _Sheet:
    """Read the cells of the sheet that is set.

    Raises
    ------
    ValueError
        If the file is not an Excel file.
    """
    try:
        book = openpyxl.load_workbook(
            io.BytesIO(data),
            read_only=True,
            data_only=True,
        )
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is not an Excel workbook ({error})") from error
    formulas = openpyxl.load_workbook(
        io.BytesIO(data),
        read_only=True,
        data_only=False,
    )
    try:
        name = _choose_sheet(book.sheetnames, settings.sheet, file)
        for sheet in (book[name], formulas[name]):
            sheet.reset_dimensions()  # some programs store wrong ones
        rows = []
        for row, formula_row in zip(book[name].rows, formulas[name].rows, strict=True):
            cells = [_read_cell(*pair) for pair in zip(row, formula_row, strict=True)]
            rows.append(cells)
        return _Sheet(name, list(book.sheetnames), book.epoch, rows)
    finally:
        book.close()
        formulas.close()


def _choose_sheet(
    names: Sequence[str],
    sheet: str | int | None,
    file: str,
) -> str:
    """Return the name of the sheet that is set, or of the first one."""
    if sheet is None:
        return names[0]
    if isinstance(sheet, int) and 1 <= sheet <= len(names):
        return names[sheet - 1]
    if str(sheet) in names:
        return str(sheet)
    raise KitError(
        f"{file} has no sheet {sheet!r}",
        suggest_names(str(sheet), names),
        "edit 'sheet'",
    )


def _read_cell(cell: Any, formula_cell: Any) -> _Cell:
    """Return a cell with its stored result."""
    if cell.value is None:
        is_unknown = formula_cell.data_type == _FORMULA_TYPE
        return _Cell(str(formula_cell.value), _FORMULA_REASON) if is_unknown else _EMPTY
    if cell.data_type == _ERROR_TYPE:
        return _Cell(str(cell.value), _ERROR_REASON)
    return _Cell(cell.value)


def _trim_rows(
    rows: list[list[_Cell]],
    settings: ReadSettings,
) -> tuple[int, list[list[_Cell]]]:
    """Return the rows as long as the longest, without empty ones around, and how many were before.

    Columns without any cell at the end are left out.
    """
    first = settings.skip_rows or 0
    used = rows[first:]
    while used and all(cell.value is None for cell in used[0]):
        used = used[1:]
        first += 1
    while used and all(cell.value is None for cell in used[-1]):
        used = used[:-1]
    width = 0
    for row in used:
        filled = [position for position, cell in enumerate(row) if cell.value is not None]
        width = max(width, filled[-1] + 1 if filled else 0)
    padded = [[*row[:width], *[_EMPTY] * (width - len(row))] for row in used]
    return first, padded


def _count_titles(texts: Sequence[Sequence[str]]) -> int:
    """Count the rows before the header: those with one or two cells above wider ones."""
    filled_counts = [sum(cell.strip() != "" for cell in row) for row in texts]
    widest = max(filled_counts)
    for position, count in enumerate(filled_counts):
        is_title = count < min(3, widest) and count < widest / 2 + 0.5
        if not is_title:
            return position
    return 0


def _build_table(
    file: str,
    sheet: _Sheet,
    layout: _Layout,
    body: list[list[_Cell]],
) -> RawTable:
    """Build the table of a sheet; empty rows are left out."""
    notes = []
    if len(sheet.all_names) > 1:
        others = ", ".join(name for name in sheet.all_names if name != sheet.name)
        notes.append(f"The sheet {sheet.name!r} was read; the file also has {others}.")
    lines = []
    rows = []
    for position, row in enumerate(body):
        if any(cell.value is not None for cell in row):
            lines.append(layout.first_line + position)
            rows.append(row)
    if len(rows) < len(body):
        notes.append(f"{len(body) - len(rows):,} empty rows were skipped.")
    names = choose_names(layout.names_in_file)
    columns = []
    unreadable: list[UnreadableValue] = []
    conversions = {}
    kept_names = []
    for position, name in enumerate(names):
        cells = [row[position] for row in rows]
        if not name.name_in_file.strip() and all(cell.value is None for cell in cells):
            continue
        kept_names.append(name)
        texts, sentences = _convert_column(cells, sheet.epoch)
        columns.append(pa.chunked_array([pa.array(texts, pa.string())]))
        if sentences:
            conversions[name.column] = sentences
        for row_number, cell in enumerate(cells):
            if cell.problem:
                unreadable.append(
                    UnreadableValue(
                        row=row_number,
                        column=name.column,
                        value=cell.value,
                        reason=cell.problem,
                    )
                )
    return RawTable(
        file=file,
        names=kept_names,
        columns=columns,
        record_count=len(rows),
        rejected_positions=[],
        rejected=[],
        find_line=lines.__getitem__,
        header_line=layout.first_line - 1 if layout.has_header else 0,
        skipped_lines=layout.first_line - 1 - layout.has_header,
        notes=notes,
        unreadable=unreadable,
        has_plain_numbers=True,
        conversions=conversions,
    )


def _convert_column(
    cells: Sequence[_Cell],
    epoch: datetime,
) -> tuple[list[str | None], list[str]]:
    """Return a column as text, and sentences about what was converted."""
    values = [None if cell.problem else cell.value for cell in cells]
    date_count = sum(isinstance(value, date) for value in values)
    serials = [value for value in values if _is_serial_date(value)]
    is_date_column = date_count > _MIN_DATE_SHARE * (date_count + len(serials))
    sentences = []
    if is_date_column and serials:
        values = [_convert_serial_date(value, epoch) for value in values]
        sentences.append(f"{len(serials):,} serial dates of Excel were converted.")
    has_times = any(isinstance(value, datetime) and value.time() != time() for value in values)
    return [_format_cell(value, has_times) for value in values], sentences


def _is_serial_date(value: Any) -> bool:
    """Return whether a number can be a date as Excel stores it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and _SERIAL_DATES[0] <= value < _SERIAL_DATES[1]


def _convert_serial_date(value: Any, epoch: datetime) -> Any:
    """Convert a serial date; other values stay unchanged."""
    if not _is_serial_date(value):
        return value
    return openpyxl.utils.datetime.from_excel(value, epoch)


def _format_cell(value: Any, has_times: bool = True) -> str | None:
    """Return the value of a cell as text; a whole number has no decimals.

    Parameters
    ----------
    has_times : bool
        Whether timestamps are written with their time of day.
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime):
        return value.isoformat(sep=" ") if has_times else value.date().isoformat()
    if isinstance(value, date) and has_times:
        return f"{value.isoformat()} 00:00:00"
    if isinstance(value, timedelta):
        return str(value)
    return str(value)
