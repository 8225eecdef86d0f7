"""Which separator a delimited text file has.

The beginning of the file is split with each possible separator. The one with which most lines
have the same number of fields is taken, if the fields are such as tables have; a decimal comma is
told from a separator that way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from mlops_kit.core.errors import KitError
from mlops_kit.data.reading.header import NUMBER_TEXT
from mlops_kit.data.reading.line_parser import LineParser

_SEPARATORS = (",", ";", "\t", "|")
_SEPARATOR_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "|", " ": "a space"}
_COMMENT_MARKS = ("#", "//", "%")
_MAX_SAMPLE_RECORDS = 500
_MAX_JOINED_LINES = 100  # that a quoted field may span in the sample
_MIN_REGULAR_SHARE = 0.6  # of the records with the most frequent number of fields
_ALIGNED_FIELDS = re.compile(r"\S {2,}\S")
_FEW_RECORDS = 4  # up to so many records, numbers of fields that differ by one are regular too
_TITLE_FACTOR = 0.6  # for a separator with which the first line is no record of the table
_OTHER_SEPARATOR_FACTOR = 0.4  # for a field that contains another separator


class SampleRecord(NamedTuple):
    """A record of the sample: its first line (from 1), the line after it, and its fields."""

    line: int
    next_line: int
    text: str
    fields: list[str]
    is_valid: bool


class SeparatorCandidate(NamedTuple):
    """A separator with the records that it gives."""

    separator: str
    quote: str
    escape: str
    records: list[SampleRecord]
    field_count: int
    score: float


def choose_separator(
    lines: Sequence[str],
    start: int,
    separator: str | None,
    file: str,
) -> SeparatorCandidate:
    """Return the separator that fits the lines best, with its records."""
    if separator is not None:
        return _build_candidate(lines, start, separator)
    candidates = [_build_candidate(lines, start, one) for one in _SEPARATORS]
    best = max(candidates, key=lambda candidate: candidate.score)
    if best.score > 0:
        return best
    spaced = _build_candidate(lines, start, " ")
    is_numeric_table = spaced.field_count > 2 and spaced.score > 0
    if is_numeric_table and _count_numeric_cells(spaced) > len(spaced.records):
        return spaced
    return _build_single_column(lines, start, candidates, file)


def _build_single_column(
    lines: Sequence[str],
    start: int,
    candidates: Sequence[SeparatorCandidate],
    file: str,
) -> SeparatorCandidate:
    """Return the table of one column, unless the first line names several.

    Raises
    ------
    KitError
        If it does.
    """
    single = _build_candidate(lines, start, "")
    first = next((r.text for r in single.records if not is_comment(r.text)), "")
    for candidate in candidates:
        field_count = len(first.split(candidate.separator))
        if field_count > 1 and len(single.records) > 1:
            name = _SEPARATOR_NAMES[candidate.separator]
            raise KitError(
                f"{file}: no separator gives most lines the same number of fields; the first "
                f"line has {field_count} with {name}",
                "a table whose lines have the same number of fields",
                "set 'separator' and 'skip_rows', or correct the file",
            )
    texts = [record.text for record in single.records]
    if len(texts) > 1 and all(_ALIGNED_FIELDS.search(text.strip()) for text in texts):
        raise KitError(
            f"{file}: the fields are aligned with spaces, without a separator",
            "a character between the fields",
            "convert the file, or register a reader that calls pandas.read_fwf",
        )
    return single


def _build_candidate(
    lines: Sequence[str],
    start: int,
    separator: str,
) -> SeparatorCandidate:
    """Split the lines with a separator and rate the result."""
    text = "\n".join(lines)
    quote = '"'
    opens_with_apostrophe = re.search(rf"(?:^|{re.escape(separator)})'[^'\n]*'", text, re.M)
    if separator and '"' not in text and opens_with_apostrophe:
        quote = "'"
    escape = ""
    if f"\\{quote}" in text and f"{quote}{quote}" not in text:
        escape = "\\"
    records = _split_records(lines, start, LineParser(separator, quote, escape))
    has_quoted_field = re.search(rf"(?:^|\t){quote}[^{quote}]*{quote}(?:\t|$)", text, re.M)
    if separator == "\t" and not has_quoted_field and not all(r.is_valid for r in records):
        quote = ""
        records = _split_records(lines, start, LineParser(separator, ""))
    table = [record for record in records if record.is_valid and not is_comment(record.text)]
    counts = Counter(len(record.fields) for record in table)
    field_count = 1
    if counts:
        field_count = max(counts, key=lambda count: (counts[count], count))
    score = _rate_records(table, field_count, separator)
    return SeparatorCandidate(
        separator,
        quote,
        escape,
        records,
        field_count,
        score,
    )


def _split_records(
    lines: Sequence[str],
    start: int,
    parser: LineParser,
) -> list[SampleRecord]:
    """Split lines into records; blank lines are left out."""
    records: list[SampleRecord] = []
    position = start
    while position < len(lines) and len(records) < _MAX_SAMPLE_RECORDS:
        text = lines[position]
        next_position = position + 1
        parsed = parser.parse(text)
        if parsed.problem is not None:
            for end in range(position + 2, min(position + _MAX_JOINED_LINES, len(lines)) + 1):
                joined = "\n".join(lines[position:end])
                parsed_together = parser.parse(joined)
                if parsed_together.problem is None:
                    parsed, text, next_position = parsed_together, joined, end
                    break
        if text.strip():
            record = SampleRecord(
                position + 1,
                next_position + 1,
                text,
                parsed.fields,
                parsed.problem is None,
            )
            records.append(record)
        position = next_position
    return records


def is_comment(text: str) -> bool:
    """Return whether a line is a comment."""
    return text.lstrip().startswith(_COMMENT_MARKS)


def _rate_records(
    records: Sequence[SampleRecord],
    field_count: int,
    separator: str,
) -> float:
    """Rate a separator: the share of regular records times the share of plausible fields."""
    if field_count < 2 or not separator:
        return 0.0
    regular = [record for record in records if len(record.fields) == field_count]
    regular_share = len(regular) / len(records)
    counts = [len(record.fields) for record in records]
    is_small = len(records) <= _FEW_RECORDS and min(counts) > 1
    is_nearly_regular = is_small and max(counts) - min(counts) <= 1
    if regular_share < _MIN_REGULAR_SHARE and not is_nearly_regular:
        return 0.0
    holds_decimals = all(NUMBER_TEXT.fullmatch(record.text.strip()) for record in regular)
    if holds_decimals and separator not in records[0].text:
        return 0.0
    others = [one for one in _SEPARATORS if one != separator]
    cells = [cell for record in regular for cell in record.fields]
    plausible = 0.0
    for cell in cells:
        holds_other = any(other in cell for other in others)
        is_plausible = not holds_other or NUMBER_TEXT.fullmatch(cell.strip()) is not None
        plausible += 1 if is_plausible else _OTHER_SEPARATOR_FACTOR
    score = regular_share * (plausible / len(cells)) ** 2 * (1 - 0.5 / field_count)
    begins_with_table = abs(len(records[0].fields) - field_count) <= 1 < len(records[0].fields)
    return score if begins_with_table else _TITLE_FACTOR * score


def _count_numeric_cells(candidate: SeparatorCandidate) -> int:
    """Count the cells that are numbers."""
    return sum(
        NUMBER_TEXT.fullmatch(cell.strip()) is not None
        for record in candidate.records
        for cell in record.fields
    )
