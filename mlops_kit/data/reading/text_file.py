"""Reading a delimited text file: all fields as text, with the lines that are not records."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import LazyModule
from mlops_kit.data.reading.dialect import SAMPLE_BYTES, TextDialect, detect_dialect
from mlops_kit.data.reading.encoding import guess_encoding
from mlops_kit.data.reading.file_content import check_is_table
from mlops_kit.data.reading.line_parser import UNQUOTED_SEPARATOR
from mlops_kit.data.reading.names import ColumnName, choose_names
from mlops_kit.data.reading.raw_table import find_record
from mlops_kit.data.reading.record_stream import (
    CleanBlock,
    RecordFormat,
    RecordLog,
    RecordStream,
    WrongEncodingError,
)
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.storage import open_binary, read_chunks, read_sample

pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")
pa_csv = LazyModule("pyarrow.csv")

_CHUNK_BYTES = 1 << 24
_PARSER_BLOCK_BYTES = 1 << 21
_UTF8_NAMES = {"utf-8", "utf-8-sig", "ascii"}


@dataclass(frozen=True)
class TextTable:
    """The fields of a file as text.

    Parameters
    ----------
    names : list of ColumnName
        The columns.
    columns : list of pyarrow.ChunkedArray
        Their texts, of the regular records only.
    dialect : TextDialect
        How the file is written.
    log : RecordLog
        The lines of the records, and the rejected ones.
    notes : list of str
        Sentences about the file.
    """

    names: list[ColumnName]
    columns: list[Any]
    dialect: TextDialect
    log: RecordLog
    notes: list[str]


def detect_file_dialect(location: str, settings: ReadSettings, file: str) -> TextDialect:
    """Detect how a file is written, from its beginning.

    Raises
    ------
    KitError
        If the file is empty, or is not a table.
    """
    sample, is_complete = read_sample(location, SAMPLE_BYTES)
    if not sample.strip(b"\0\r\n\t \xef\xbb\xbf\xff\xfe"):
        raise KitError(
            f"{file} has no rows: the file is empty",
            "a header and at least one row",
            "check the job that writes the file",
        )
    check_is_table(sample, file)
    return detect_dialect(sample, is_complete, settings, file)


def list_dialect_names(dialect: TextDialect) -> list[ColumnName]:
    """Return the columns of a file by its dialect; one that is always empty may be among them."""
    names = dialect.names or [""] * dialect.field_count
    return choose_names(names)


def read_text_file(
    location: str,
    settings: ReadSettings,
    limit: int | None,
    file: str,
) -> TextTable:
    """Read a delimited text file.

    Parameters
    ----------
    location : str
        Path or URL.
    limit : int, optional
        Number of records to read; None for all.
    file : str
        How errors and the report name the file.

    Raises
    ------
    KitError
        If the file is empty, not a table, or not text in the encoding that is set.
    """
    dialect = detect_file_dialect(location, settings, file)
    try:
        return _read_with_dialect(location, dialect, limit, file)
    except WrongEncodingError as error:
        return _read_again(location, settings, limit, file, dialect, error)


def _read_again(
    location: str,
    settings: ReadSettings,
    limit: int | None,
    file: str,
    dialect: TextDialect,
    error: WrongEncodingError,
) -> TextTable:
    """Read a file whose later lines are not in the encoding of its beginning."""
    encoding = guess_encoding(error.data)
    if settings.encoding is not None or dialect.encoding not in _UTF8_NAMES:
        raise KitError(
            f"{file}: line {error.line} is not {dialect.encoding} text",
            "text in one encoding",
            "set another 'encoding'",
        ) from error
    changed = replace(settings, encoding=encoding)
    redetected = detect_file_dialect(location, changed, file)
    note = f"The encoding {encoding} is a guess from the characters of line {error.line}."
    redetected = replace(redetected, notes=(*redetected.notes, note))
    try:
        return _read_with_dialect(location, redetected, limit, file)
    except WrongEncodingError as second_error:
        raise KitError(
            f"{file}: line {second_error.line} is not {encoding} text",
            "text in one encoding",
            "set 'encoding'",
        ) from second_error


def _read_with_dialect(
    location: str,
    dialect: TextDialect,
    limit: int | None,
    file: str,
) -> TextTable:
    """Read a file whose dialect is known."""
    record_format = RecordFormat(
        separator=dialect.separator,
        quote=dialect.quote,
        escape=dialect.escape,
        field_count=dialect.field_count,
        has_trailing_separator=dialect.has_trailing_separator,
    )
    stream = RecordStream(record_format, file, dialect.lines_before_data + 1)
    tables = []
    row_count = 0
    chunk_size = _CHUNK_BYTES if limit is None else SAMPLE_BYTES
    with open_binary(location) as binary:
        chunks = _convert_to_utf8(read_chunks(binary, chunk_size), dialect)
        for block in stream.clean_blocks(_skip_lines(chunks, dialect.lines_before_data)):
            table = _parse_block(block, dialect)
            tables.append(table)
            row_count += table.num_rows
            if limit is not None and row_count >= limit:
                break
    table = pa.concat_tables(tables) if tables else _build_empty_table(dialect.field_count)
    if limit is not None:
        table = table.slice(0, limit)
    columns = list(table.itercolumns())
    names = list_dialect_names(dialect)
    notes = [*dialect.notes, *_describe_log(stream.log)]
    if dialect.field_count == 1:
        columns = [_drop_last_blanks(columns[0], stream.log)]
    is_closed_by_separator = dialect.has_trailing_separator and _is_all_empty(columns[-1])
    if is_closed_by_separator:
        columns.pop()
        names.pop()
        notes.append("A separator at the end of each line was read as no column of its own.")
    columns = _reject_repeated_headers(columns, dialect, stream.log)
    return TextTable(names, columns, dialect, stream.log, notes)


def _convert_to_utf8(chunks: Iterator[bytes], dialect: TextDialect) -> Iterator[bytes]:
    """Yield text as UTF-8 with line feeds, without a byte order mark."""
    is_utf8 = dialect.encoding in _UTF8_NAMES
    decoder = codecs.getincrementaldecoder(dialect.encoding)()
    is_first = True
    line = 1
    for chunk in chunks:
        converted = chunk
        if is_utf8 and is_first:
            converted = chunk.removeprefix(codecs.BOM_UTF8)
        elif not is_utf8:
            try:
                converted = decoder.decode(chunk).encode("utf-8")
            except UnicodeDecodeError as error:
                raise WrongEncodingError(line + chunk[: error.start].count(b"\n"), chunk) from error
        line += chunk.count(b"\n")
        is_first = False
        if dialect.line_end == "\r":
            converted = converted.replace(b"\r", b"\n")
        yield converted
    if is_utf8:
        return
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:  # the file ends in the middle of a character
        raise WrongEncodingError(line, error.object) from error


def _skip_lines(chunks: Iterator[bytes], line_count: int) -> Iterator[bytes]:
    """Yield text without its first lines."""
    remaining = line_count
    for chunk in chunks:
        start = 0
        while remaining:
            end = chunk.find(b"\n", start)
            if end < 0:
                start = len(chunk)
                break
            start = end + 1
            remaining -= 1
        if start < len(chunk):
            yield chunk[start:]


def _list_parser_names(field_count: int) -> list[str]:
    return [f"c{position}" for position in range(field_count)]


def _build_empty_table(field_count: int) -> Any:
    """Return a table of text columns without rows."""
    names = _list_parser_names(field_count)
    return pa.table({name: pa.array([], pa.string()) for name in names})


def _parse_block(block: CleanBlock, dialect: TextDialect) -> Any:
    """Split regular records into columns of text."""
    names = _list_parser_names(dialect.field_count)
    return pa_csv.read_csv(
        pa.BufferReader(block.data),
        read_options=pa_csv.ReadOptions(
            column_names=names,
            block_size=max(_PARSER_BLOCK_BYTES, len(block.data) if block.has_line_ends else 0),
        ),
        parse_options=pa_csv.ParseOptions(
            delimiter=dialect.separator or UNQUOTED_SEPARATOR,
            quote_char=dialect.quote or False,
            newlines_in_values=block.has_line_ends,
            ignore_empty_lines=False,
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            strings_can_be_null=False,
            null_values=[],
            check_utf8=False,
        ),
    )


def _is_all_empty(column: Any) -> bool:
    """Return whether all fields of a column are empty."""
    return not len(column) or pc.max(pc.binary_length(column)).as_py() == 0


def _drop_last_blanks(column: Any, log: RecordLog) -> Any:
    """Return the only column of a file without the blank lines at its end."""
    count = len(column)
    while count and column[count - 1].as_py() == "":
        count -= 1
    dropped = len(column) - count
    log.record_count -= dropped
    log.blank_lines += dropped
    return column.slice(0, count)


def _reject_repeated_headers(columns: list[Any], dialect: TextDialect, log: RecordLog) -> list[Any]:
    """Reject records that repeat the header, as in files that were joined; return the others."""
    names = dialect.names[: len(columns)]
    if len(names) < 2:
        return columns
    is_repeated = pc.equal(columns[0], names[0])
    for column, name in zip(columns[1:], names[1:], strict=True):
        if not pc.any(is_repeated).as_py():
            return columns
        is_repeated = pc.and_(is_repeated, pc.equal(column, name))
    rows = pc.indices_nonzero(is_repeated).to_pylist()
    if not rows:
        return columns
    text = dialect.separator.join(names)
    earlier_positions = list(log.rejected_positions)
    for row in rows:
        position = find_record(row, earlier_positions)
        log.reject(position, log.find_line(position), text, "the header again")
    log.rejected_positions.sort()
    return [column.filter(pc.invert(is_repeated)) for column in columns]


def _describe_log(log: RecordLog) -> list[str]:
    """Describe what was done with lines."""
    notes = []
    if log.blank_lines:
        notes.append(f"Blank lines were skipped: {log.blank_lines:,}.")
    if log.repaired_separators:
        notes.append(
            "Lines that differ from the others in a separator at the end: "
            f"{log.repaired_separators:,}."
        )
    if log.rewritten_records:
        notes.append(
            "Lines in which spaces around quotes, or escape characters, were removed: "
            f"{log.rewritten_records:,}."
        )
    return notes
