"""Reading files of the formats that the package knows, with a report on what was read.

The formats are imported when a file is read: a run with nothing to do reads none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING

from mlops_kit.core.errors import KitError
from mlops_kit.data.reading.records import TableRead
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.storage import list_files, remove_compression_ending

if TYPE_CHECKING:
    from mlops_kit.data.reading.raw_table import RawTable

RawReader = Callable[[str, ReadSettings, "int | None", str], "RawTable"]

TEXT_ENDINGS = (".csv", ".tsv", ".txt", ".psv")
JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
EXCEL_ENDINGS = (".xlsx", ".xlsm")
PARQUET_ENDINGS = (".parquet", ".pq")
FILE_ENDINGS = (*TEXT_ENDINGS, *JSON_ENDINGS, *EXCEL_ENDINGS, *PARQUET_ENDINGS)


def find_file_ending(location: str) -> str:
    """Return the ending that says how a file is read; empty if the package does not know it.

    Text and JSON files may be compressed.

    >>> find_file_ending("rows.CSV.gz"), find_file_ending("rows.doc")
    ('.csv', '')
    """
    name = location.lower()
    for ending in FILE_ENDINGS:
        if name.endswith(ending):
            return ending
    uncompressed = remove_compression_ending(name)
    for ending in (*TEXT_ENDINGS, *JSON_ENDINGS):
        if uncompressed != name and uncompressed.endswith(ending):
            return ending
    return ""


def read_files(
    location: str,
    ending: str,
    settings: ReadSettings,
    limit: int | None = None,
) -> TableRead:
    """Read a file, a folder of Parquet files or all files that match a pattern.

    Parameters
    ----------
    location : str
        A path, pattern or fsspec URL.
    ending : str
        How it is read, as ``find_file_ending`` returns it.
    limit : int, optional
        Number of rows to read; None for all.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KitError
        If a file is not a table, or files have different columns.
    """
    from mlops_kit.data.reading.assembly import assemble_table
    from mlops_kit.data.reading.typed_table import read_parquet

    if ending in PARQUET_ENDINGS:
        return read_parquet(location, limit, _shorten(location))
    read_raw = _choose_reader(ending)
    tables: list[RawTable] = []
    remaining = limit
    for file in list_files(location):
        table = read_raw(file, settings, remaining, _shorten(file))
        tables.append(table)
        if remaining is not None:
            remaining -= table.row_count
            if remaining <= 0:
                break
    return assemble_table(tables, settings)


def list_text_columns(location: str, settings: ReadSettings) -> list[str]:
    """Return the columns of a text file by its first lines; empty if it has no rows there.

    It neither loads pandas nor reads the file as a whole.
    """
    from mlops_kit.data.reading.text_file import detect_file_dialect, list_dialect_names

    file = list_files(location)[0]
    dialect = detect_file_dialect(file, settings, _shorten(file))
    if not dialect.row_count:
        return []
    names = [name.column for name in list_dialect_names(dialect)]
    if dialect.has_trailing_separator:
        names.pop()
    return names


def _choose_reader(ending: str) -> RawReader:
    """Return the function that reads files of an ending."""
    from mlops_kit.data.reading.excel_file import read_excel_file
    from mlops_kit.data.reading.json_file import read_json_file

    if ending in EXCEL_ENDINGS:
        return read_excel_file
    if ending in JSON_ENDINGS:
        return read_json_file
    if ending in TEXT_ENDINGS:
        return _read_text
    raise KitError(f"files ending in {ending!r} cannot be read", ", ".join(FILE_ENDINGS))


def _read_text(
    location: str,
    settings: ReadSettings,
    limit: int | None,
    file: str,
) -> RawTable:
    """Read a delimited text file."""
    from mlops_kit.data.reading.raw_table import RawTable
    from mlops_kit.data.reading.text_file import read_text_file

    table = read_text_file(location, settings, limit, file)
    log = table.log
    record_count = log.record_count
    if limit is not None and table.columns:
        record_count = len(table.columns[0]) + len(log.rejected_positions)
    return RawTable(
        file=file,
        names=table.names,
        columns=table.columns,
        record_count=record_count,
        rejected_positions=log.rejected_positions,
        rejected=log.rejected,
        find_line=log.find_line,
        encoding=table.dialect.encoding,
        separator=table.dialect.separator,
        header_line=table.dialect.header_line,
        skipped_lines=table.dialect.skipped_lines,
        notes=table.notes,
    )


def _shorten(location: str) -> str:
    """Return how messages name a file: its name without the folders."""
    return PurePath(location).name or location
