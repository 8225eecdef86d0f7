"""How a delimited text file is written: separator, quotes, header, and lines before the table.

It is detected from the beginning of the file. Only the standard library is used, so that the
columns of a file can be listed quickly.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mlops_kit.core.errors import KitError
from mlops_kit.data.reading.encoding import detect_encoding, find_byte_order_mark
from mlops_kit.data.reading.header import is_header
from mlops_kit.data.reading.separators import (
    SampleRecord,
    SeparatorCandidate,
    choose_separator,
    is_comment,
)
from mlops_kit.data.reading.settings import ReadSettings

SAMPLE_BYTES = 1 << 18
_CERTAIN_ENCODINGS = {"utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"}
_MAX_TITLE_FIELDS = 2  # a line before the table with more fields is a broken header
_LINE_END = re.compile(r"\r\n|\n|\r")
_EXCEL_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)


@dataclass(frozen=True)
class TextDialect:
    """How a text file is written.

    Attributes
    ----------
    encoding : str
        The name of a Python codec.
    separator, quote, escape : str
        Empty where there is none.
    line_end : str
        A carriage return for files of old Macintosh programs, else a line feed.
    names : tuple of str
        The column names as written; empty without a header.
    field_count : int
        Number of fields of a record.
    header_line : int
        Number of the header's line, from 1; 0 without a header.
    lines_before_data : int
        Number of lines up to the first record.
    skipped_lines : int
        Number of those that are titles or comments.
    has_trailing_separator : bool
        Whether records end with a separator, which adds an empty field.
    row_count : int
        Number of records in the sample.
    notes : tuple of str
        Sentences about what was skipped or is uncertain.
    """

    encoding: str
    separator: str
    quote: str
    escape: str
    line_end: str
    names: tuple[str, ...]
    field_count: int
    header_line: int
    lines_before_data: int
    skipped_lines: int
    has_trailing_separator: bool
    row_count: int
    notes: tuple[str, ...] = ()


def detect_dialect(
    sample: bytes,
    is_complete: bool,
    settings: ReadSettings,
    file: str,
) -> TextDialect:
    """Detect how a text file is written.

    Parameters
    ----------
    sample : bytes
        The beginning of the file.
    is_complete : bool
        Whether it is the whole file.
    settings : ReadSettings
        What is known already.
    file : str
        How errors name the file.

    Raises
    ------
    KitError
        If the file is not a table, or its header does not fit its rows.
    """
    encoding = _choose_encoding(sample, is_complete, settings, file)
    text = _decode_sample(sample, encoding, is_complete, file)
    line_end = "\r" if "\r" in text and "\n" not in text else "\n"
    lines = _LINE_END.split(text)
    if not is_complete and len(lines) > 1:
        lines.pop()
    start, separator, notes = _find_first_line(lines, settings)
    candidate = choose_separator(lines, start, separator, file)
    dialect = _describe_table(candidate, start, settings, file)
    if encoding not in _CERTAIN_ENCODINGS and settings.encoding is None:
        notes.append(f"The encoding {encoding} is a guess from the characters.")
    return replace(
        dialect,
        encoding=encoding,
        line_end=line_end,
        notes=(*notes, *dialect.notes),
    )


def _choose_encoding(
    sample: bytes,
    is_complete: bool,
    settings: ReadSettings,
    file: str,
) -> str:
    """Return the encoding that is set, or the one that is detected."""
    if settings.encoding is None:
        return detect_encoding(sample, is_complete)
    try:
        name = codecs.lookup(settings.encoding).name
    except LookupError as error:
        raise KitError(
            f"{file}: the encoding {settings.encoding!r} is not known",
            "a name such as utf-8, cp1252 or utf-16",
            "edit 'encoding'",
        ) from error
    if name == "utf-8" and find_byte_order_mark(sample) == "utf-8-sig":
        return "utf-8-sig"
    return name


def _decode_sample(
    sample: bytes,
    encoding: str,
    is_complete: bool,
    file: str,
) -> str:
    """Decode the sample; a character that is cut off at its end is left out."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        return decoder.decode(sample, final=is_complete)
    except UnicodeDecodeError as error:
        line = sample[: error.start].count(b"\n") + 1
        raise KitError(
            f"{file}: line {line} is not {encoding} text",
            "text in one encoding",
            "set another 'encoding'",
        ) from error


def _find_first_line(
    lines: Sequence[str],
    settings: ReadSettings,
) -> tuple[int, str | None, list[str]]:
    """Return the position of the first line to consider, the separator if known, and notes."""
    if settings.skip_rows is not None:
        return settings.skip_rows, settings.separator, []
    stated = _EXCEL_SEPARATOR_LINE.fullmatch(lines[0].strip().strip('"')) if lines else None
    if stated is not None:
        separator = settings.separator or stated[1]
        return 1, separator, [f"Line 1 states the separator: {lines[0].strip()}"]
    return 0, settings.separator, []


def _describe_table(
    candidate: SeparatorCandidate,
    start: int,
    settings: ReadSettings,
    file: str,
) -> TextDialect:
    """Find header and first record, and describe the table; the encoding is left open."""
    records = [record for record in candidate.records if record.line > start]
    first = _find_table_start(records, candidate.field_count, settings, file)
    body = [r for r in records[first:] if r.is_valid and not is_comment(r.text)]
    header, rows, notes = _separate_header(records, first, body, settings)
    names = list(header.fields) if header else []
    if header is not None and is_comment(header.text):
        names[0] = names[0].lstrip().lstrip("#/%").strip()
    field_count = max(candidate.field_count, len(names))
    if rows:
        field_count = Counter(len(row.fields) for row in rows).most_common(1)[0][0]
    has_trailing_separator = (
        bool(rows)
        and field_count > 1
        and all(row.fields[-1] == "" for row in rows if len(row.fields) == field_count)
    )
    if header is not None and len(names) == field_count - 1:
        names, note, has_trailing_separator = _complete_names(
            names,
            rows,
            field_count,
            has_trailing_separator,
            header.line,
            file,
        )
        notes.append(note)
    elif header is not None and rows and len(names) != field_count:
        raise _header_error(file, header.line, len(names), field_count)
    has_trailing_separator &= not names or names[-1] == ""
    if header is not None:
        lines_before = header.next_line - 1
    elif body:
        lines_before = body[0].line - 1
    else:
        lines_before = start
    skipped = (header.line if header else lines_before + 1) - 1
    if skipped:
        notes.append(_describe_skipped_lines(candidate.records, skipped))
    if header is None and body:
        notes.append("There is no header: the columns are named by their position.")
    return TextDialect(
        encoding="",
        separator=candidate.separator if field_count > 1 else "",
        quote=candidate.quote,
        escape=candidate.escape,
        line_end="",
        names=tuple(names),
        field_count=field_count,
        header_line=header.line if header else 0,
        lines_before_data=lines_before,
        skipped_lines=skipped,
        has_trailing_separator=has_trailing_separator,
        row_count=len(rows),
        notes=tuple(notes),
    )


def _find_table_start(
    records: Sequence[SampleRecord],
    field_count: int,
    settings: ReadSettings,
    file: str,
) -> int:
    """Return the position of the first record of the table: header or row.

    Raises
    ------
    KitError
        If a line before it seems to be a header that does not fit the rows.
    """
    if settings.skip_rows is not None or settings.header is True:
        return next((i for i, r in enumerate(records) if not is_comment(r.text)), 0)
    for position, record in enumerate(records):
        if is_comment(record.text):
            continue
        is_regular = len(record.fields) == field_count
        filled = sum(field.strip() != "" for field in record.fields)
        later_records = [r for r in records[position + 1 :] if any(map(str.strip, r.fields))]
        next_record = later_records[0] if later_records else None
        is_title = field_count > 2 and filled <= 1 and _has_more_fields(next_record, filled)
        if is_regular and not is_title:
            return position
        if next_record is not None and _is_short_header(record, next_record, field_count):
            return position
        if filled > _MAX_TITLE_FIELDS and record.is_valid:
            raise _header_error(file, record.line, len(record.fields), field_count)
    return 0


def _is_short_header(
    record: SampleRecord,
    row: SampleRecord,
    field_count: int,
) -> bool:
    """Return whether a record is a header without a name for one field of the rows."""
    name_count = field_count - 1
    is_one_short = len(record.fields) == name_count and len(row.fields) == field_count
    return is_one_short and name_count > 1 and is_header(record.fields, [])


def _has_more_fields(record: SampleRecord | None, filled: int) -> bool:
    """Return whether a record has more filled fields."""
    if record is None:
        return False
    return sum(field.strip() != "" for field in record.fields) > filled


def _header_error(
    file: str,
    line: int,
    name_count: int,
    field_count: int,
) -> KitError:
    """Build the error for a header that does not fit the rows."""
    return KitError(
        f"{file}: line {line} names {name_count} columns, but the rows have {field_count} fields",
        "a header with one name per field",
        "correct the header, or set 'skip_rows' and 'header: false' to read without it",
    )


def _separate_header(
    records: Sequence[SampleRecord],
    first: int,
    body: list[SampleRecord],
    settings: ReadSettings,
) -> tuple[SampleRecord | None, list[SampleRecord], list[str]]:
    """Return the header, if there is one, the rows, and notes."""
    if not body or settings.header is False:
        return None, body, []
    rows = body[1:]
    if settings.header is True:
        return body[0], rows, []
    if is_header(body[0].fields, [row.fields for row in rows]):
        return body[0], rows, []
    before = records[first - 1] if first else None
    if before is not None and _is_commented_header(before, body[0]):
        return before, body, [f"The header is the comment in line {before.line}."]
    return None, body, []


def _is_commented_header(comment: SampleRecord, row: SampleRecord) -> bool:
    """Return whether the line before the first row is a comment with the column names."""
    name_count = len(comment.fields)
    return is_comment(comment.text) and name_count > 1 and name_count == len(row.fields)


def _complete_names(
    names: list[str],
    rows: Sequence[SampleRecord],
    field_count: int,
    has_trailing_separator: bool,
    line: int,
    file: str,
) -> tuple[list[str], str, bool]:
    """Add the name that a header lacks: of the empty last field, or of row names in the first.

    Raises
    ------
    KitError
        If neither the last field is empty nor the first one holds row names.
    """
    if has_trailing_separator:
        return [*names, ""], "Rows end with a separator, the header does not.", True
    first_fields = [row.fields[0] for row in rows if len(row.fields) == field_count]
    if len(set(first_fields)) == len(first_fields) and len(first_fields) > 1:
        note = "The header has one name less than the rows have fields: the first are row names."
        return ["", *names], note, False
    raise _header_error(file, line, len(names), field_count)


def _describe_skipped_lines(records: Sequence[SampleRecord], skipped: int) -> str:
    """Describe the lines before the table."""
    texts = [record.text.strip() for record in records if record.line <= skipped]
    quoted = texts[0][:60] if texts else ""
    lines = "Line 1 was" if skipped == 1 else f"Lines 1 to {skipped} were"
    example = f": {quoted!r}" if quoted else ""
    return f"{lines} skipped as titles, comments or blank lines{example}."
