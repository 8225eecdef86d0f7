"""The records of a text file, block by block: regular ones for the parser, the others rejected.

A block whose quotes all open at the beginning of a field and close at its end is checked with
vectorized operations. Any other block is split line by line. A quote that is never closed
therefore costs its own line, never the lines after it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mlops_kit.core.lazy import np
from mlops_kit.data.reading.line_parser import (
    UNQUOTED_SEPARATOR,
    LineParser,
    ParsedRecord,
    RecordProblem,
)
from mlops_kit.data.reading.records import MAX_STORED_LINES, RejectedLine

_NEWLINE = ord("\n")
_CARRIAGE_RETURN = ord("\r")
_MAX_OPEN_BYTES = 1 << 22  # a quoted field that is longer was never closed
_MAX_JOINED_LINES = 1000
_MIN_SWALLOWING_LINES = 2  # a field of so many lines has none that is inside it as a whole
_MANY_SEPARATORS = 3
_MANY_LINES = 3
_MAX_TEXT_CHARACTERS = 200
_PHYSICAL_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+\Z")
_NUL_REASON = "the line contains NUL bytes"


class WrongEncodingError(ValueError):
    """The bytes of a line are not text in the encoding of the file.

    Attributes
    ----------
    line : int
        Number of the line, from 1.
    data : bytes
        The bytes around it.
    """

    def __init__(self, line: int, data: bytes) -> None:
        super().__init__(f"line {line}")
        self.line = line
        self.data = data


@dataclass(frozen=True)
class RecordFormat:
    """What a record of the file looks like."""

    separator: str
    quote: str
    escape: str
    field_count: int
    has_trailing_separator: bool


@dataclass(frozen=True)
class CleanBlock:
    """Regular records as UTF-8 text; ``has_line_ends`` says that values contain line ends."""

    data: bytes
    has_line_ends: bool


@dataclass
class RecordLog:
    """What happened to the records of a file so far.

    Attributes
    ----------
    record_count : int
        Number of records, without blank lines.
    rejected_positions : list of int
        Positions of the rejected records, from 0.
    rejected : list of RejectedLine
        The first of them.
    line_blocks : list of _LineBlock
        The lines on which records begin.
    """

    file: str
    record_count: int = 0
    blank_lines: int = 0
    repaired_separators: int = 0
    rewritten_records: int = 0
    rejected_positions: list[int] = field(default_factory=list)
    rejected: list[RejectedLine] = field(default_factory=list)
    line_blocks: list[_LineBlock] = field(default_factory=list)

    def reject(
        self,
        position: int,
        line: int,
        text: str,
        reason: str,
    ) -> None:
        """Note that a record is rejected."""
        self.rejected_positions.append(position)
        if len(self.rejected) >= MAX_STORED_LINES:
            return
        self.rejected.append(
            RejectedLine(
                file=self.file,
                line=line,
                text=text[:_MAX_TEXT_CHARACTERS],
                reason=reason,
            )
        )

    def add_lines(self, lines: np.ndarray, first_position: int | None = None) -> None:
        """Note on which lines the records of a block begin."""
        if not len(lines):
            return
        position = self.record_count if first_position is None else first_position
        is_contiguous = int(lines[-1] - lines[0]) == len(lines) - 1
        stored = None if is_contiguous else lines.astype(np.int32)
        self.line_blocks.append(_LineBlock(position, int(lines[0]), stored))

    def find_line(self, position: int) -> int:
        """Return the line on which a record begins.

        Parameters
        ----------
        position : int
            Position of the record, rejected ones included.
        """
        block = self.line_blocks[bisect_right(self.line_blocks, position, key=_get_position) - 1]
        offset = position - block.position
        if block.lines is None:
            return block.first_line + offset
        return int(block.lines[offset])


class _LineBlock(NamedTuple):
    """The lines on which consecutive records begin; ``lines`` is None if they are consecutive."""

    position: int
    first_line: int
    lines: np.ndarray | None


def _get_position(block: _LineBlock) -> int:
    return block.position


class RecordStream:
    """Splits the text of a file into regular and rejected records.

    Parameters
    ----------
    record_format : RecordFormat
        What a record looks like.
    file : str
        The file, as the rejected lines name it.
    first_line : int
        Number of the first line that is passed, from 1.
    """

    def __init__(
        self,
        record_format: RecordFormat,
        file: str,
        first_line: int,
    ) -> None:
        self.format = record_format
        self.log = RecordLog(file)
        self._line = first_line
        self._parser = LineParser(
            record_format.separator,
            record_format.quote,
            record_format.escape,
        )
        self._separator = (record_format.separator or UNQUOTED_SEPARATOR).encode()
        self._quote = record_format.quote.encode()

    def clean_blocks(self, chunks: Iterator[bytes]) -> Iterator[CleanBlock]:
        """Yield the regular records of text in UTF-8, in blocks."""
        rest = b""
        for chunk in chunks:
            data = rest + chunk
            if b"\n" not in chunk and len(data) < _MAX_OPEN_BYTES:
                rest = data
                continue
            rest = yield from self._clean_data(data, is_last=False)
        if rest:
            yield from self._clean_data(rest, is_last=True)

    def _clean_data(self, data: bytes, is_last: bool) -> Generator[CleanBlock, None, bytes]:
        """Yield the complete records of ``data``; return the bytes that are left over."""
        if is_last and not data.endswith(b"\n"):
            data += b"\n"
        while data:
            scan = self._scan(data)
            if scan is None or not scan.end:
                is_incomplete = scan is not None and len(data) < _MAX_OPEN_BYTES
                if is_incomplete and not is_last:
                    return data
                block, used = self._clean_by_line(data, is_last)
            else:
                block, used = self._clean_complete(data[: scan.end], scan), scan.end
            if block.data:
                yield block
            data = data[used:]
            if not is_last:
                return data
        return data

    def _clean_complete(self, data: bytes, scan: _Scan) -> CleanBlock:
        """Return the regular ones of complete, scanned records."""
        if not data.isascii():
            self._check_utf8(data)
        cleaned = self._clean_by_scan(data, scan)
        if cleaned is None:
            block, _ = self._clean_by_line(data, is_last=True)
            return block
        return CleanBlock(cleaned, scan.has_line_ends)

    def _check_utf8(self, data: bytes) -> str:
        """Decode complete lines.

        Raises
        ------
        WrongEncodingError
            If they are not UTF-8.
        """
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = self._line + data[: error.start].count(b"\n")
            around = data[max(0, error.start - 50_000) : error.start + 50_000]
            raise WrongEncodingError(line, around) from error

    def _scan(self, data: bytes) -> _Scan | None:
        """Find the records of regular text; None if it has to be split line by line."""
        is_regular = b"\0" not in data and not self.format.escape
        if not is_regular or data.count(b"\r") != data.count(b"\r\n"):
            return None
        values = np.frombuffer(data, dtype=np.uint8)
        newlines = np.flatnonzero(values == _NEWLINE)
        separators = np.flatnonzero(values == self._separator[0])
        if not self._quote or self._quote not in data:
            return _Scan.build(newlines, newlines, separators)
        quotes = np.flatnonzero(values == self._quote[0])
        boundaries = {_NEWLINE, self._separator[0], self._quote[0]}
        if not _are_strict_quotes(values, quotes, boundaries):
            return None
        outer_newlines = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
        outer_separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
        return _Scan.build(newlines, outer_newlines, outer_separators)

    def _clean_by_scan(self, data: bytes, scan: _Scan) -> bytes | None:
        """Return the regular records of scanned text, and log all of them.

        None if a field with line ends has swallowed records, because its quote was not closed.
        """
        for index in np.flatnonzero(scan.lines_per_record > _MIN_SWALLOWING_LINES).tolist():
            text = data[scan.starts[index] : scan.ends[index]].decode()
            if self._has_swallowed_records(text.split("\n")[1:-1]):
                return None
        expected = self.format.field_count
        counts = scan.count_fields()
        lengths = scan.ends - scan.starts
        is_blank = (lengths == 0) | ((lengths == 1) & _starts_with_return(data, scan.starts))
        if expected == 1:
            is_blank &= False
        is_irregular = (counts != expected) & ~is_blank
        lines = self._line + scan.lines_before
        self._line += int(scan.lines_per_record.sum())
        first_position = self.log.record_count
        is_record = ~is_blank
        self.log.add_lines(lines[is_record])
        self.log.record_count += int(is_record.sum())
        self.log.blank_lines += int(is_blank.sum())
        to_change = np.flatnonzero(is_irregular | is_blank)
        if not len(to_change):
            return data
        positions = first_position + np.cumsum(is_record) - 1
        pieces = []
        copied = 0
        for index in to_change.tolist():
            start = int(scan.starts[index])
            end = int(scan.ends[index])
            pieces.append(data[copied:start])
            copied = end + 1
            if is_blank[index]:
                continue
            text = data[start:end].decode("utf-8").removesuffix("\r")
            repaired = self._repair(text, int(counts[index]))
            if repaired is None:
                reason = self._describe_count(int(counts[index]))
                self.log.reject(int(positions[index]), int(lines[index]), text, reason)
            else:
                pieces.append(repaired.encode() + b"\n")
        pieces.append(data[copied:])
        return b"".join(pieces)

    def _repair(self, text: str, field_count: int) -> str | None:
        """Return a record with the separator at its end as in other records, if it differs."""
        expected = self.format.field_count
        separator = self._parser.separator
        if expected == 1 and not self.format.separator:
            return None
        if field_count == expected + 1 and text.endswith(separator):
            self.log.repaired_separators += 1
            return text[: -len(separator)]
        if field_count == expected - 1 and self.format.has_trailing_separator:
            self.log.repaired_separators += 1
            return text + separator
        return None

    def _describe_count(self, field_count: int) -> str:
        """Describe a wrong number of fields."""
        noun = "field" if field_count == 1 else "fields"
        return f"{field_count} {noun} instead of {self.format.field_count}"

    def _clean_by_line(self, data: bytes, is_last: bool) -> tuple[CleanBlock, int]:
        """Split text line by line; return the regular records and the number of bytes used."""
        end = len(data) if is_last else data.rfind(b"\n") + 1
        text = self._check_utf8(data[:end])
        lines = _PHYSICAL_LINE.findall(text)
        kept: list[str] = []
        record_lines: list[int] = []
        first_position = self.log.record_count
        index = 0
        while index < len(lines):
            body = lines[index].rstrip("\r\n")
            if not body and self.format.field_count > 1:
                self.log.blank_lines += 1
                index += 1
                continue
            parsed, used = self._parse_record(lines, index)
            is_cut_off = parsed.problem == RecordProblem.OPEN_QUOTE and not is_last
            may_wait = index > 0 or len(data) < _MAX_OPEN_BYTES
            if is_cut_off and may_wait and len(lines) - index <= _MAX_JOINED_LINES:
                break
            record_lines.append(self._line + index)
            record_text = "".join(lines[index : index + used]).rstrip("\r\n")
            cleaned = self._clean_record(parsed, record_text, self._line + index)
            if cleaned is not None:
                kept.append(cleaned)
            index += used
        self.log.add_lines(np.array(record_lines, dtype=np.int64), first_position)
        self._line += index
        used_bytes = len("".join(lines[:index]).encode())
        return CleanBlock("".join(kept).encode(), has_line_ends=True), used_bytes

    def _parse_record(self, lines: list[str], index: int) -> tuple[ParsedRecord, int]:
        """Parse the record that begins on a line, and count its lines.

        Lines are joined while a quote is open. If it is not closed, or the field has swallowed
        records, the first line alone is the record, and is irregular.
        """
        body = lines[index].rstrip("\r\n")
        parsed = self._parser.parse(body)
        if parsed.problem != RecordProblem.OPEN_QUOTE:
            return parsed, 1
        joined = lines[index]
        for count in range(2, _MAX_JOINED_LINES + 1):
            if index + count > len(lines):
                return parsed, 1
            next_line = lines[index + count - 1]
            joined += next_line
            if self._parser.quote not in next_line:
                continue
            together = self._parser.parse(joined.rstrip("\r\n"))
            if together.problem == RecordProblem.OPEN_QUOTE:
                continue
            inner_lines = lines[index + 1 : index + count - 1]
            if together.problem is None and not self._has_swallowed_records(inner_lines):
                return together, count
            return parsed, 1
        return parsed, 1

    def _has_swallowed_records(self, inner_lines: list[str]) -> bool:
        """Return whether all lines inside a record are records themselves, and not text.

        Text has a separator now and then, too, so few lines or few separators prove nothing, nor
        do lines without any value.
        """
        separators = self.format.field_count - 1
        separator = self._parser.separator
        lines_with_values = [line for line in inner_lines if line.strip().strip(separator)]
        is_evident = separators >= _MANY_SEPARATORS or len(lines_with_values) >= _MANY_LINES
        if not inner_lines or not separators or not is_evident:
            return False
        return all(line.count(separator) == separators for line in inner_lines)

    def _clean_record(
        self,
        parsed: ParsedRecord,
        text: str,
        line: int,
    ) -> str | None:
        """Return the text of a regular record; log and reject any other."""
        position = self.log.record_count
        self.log.record_count += 1
        field_count = len(parsed.fields)
        reason = ""
        if "\0" in text:
            reason = _NUL_REASON
        elif parsed.problem is not None:
            reason = str(parsed.problem)
        elif field_count != self.format.field_count:
            repaired = self._repair(text, field_count)
            if repaired is not None:
                return repaired + "\n"
            reason = self._describe_count(field_count)
        if reason:
            self.log.reject(position, line, text, reason)
            return None
        if not parsed.is_rewritten:
            return text + "\n"
        self.log.rewritten_records += 1
        quote = self.format.quote
        fields = [f"{quote}{value.replace(quote, quote * 2)}{quote}" for value in parsed.fields]
        return self._parser.separator.join(fields) + "\n"


@dataclass(frozen=True)
class _Scan:
    """The complete records of a text: where each begins and ends, and its separators."""

    starts: np.ndarray
    ends: np.ndarray
    separators: np.ndarray
    lines_before: np.ndarray
    lines_per_record: np.ndarray
    end: int
    has_line_ends: bool

    @classmethod
    def build(
        cls,
        newlines: np.ndarray,
        ends: np.ndarray,
        separators: np.ndarray,
    ) -> _Scan:
        """Build it from the positions of newlines, record ends and separators."""
        starts = np.empty_like(ends)
        if len(ends):
            starts[0] = 0
            starts[1:] = ends[:-1] + 1
        lines_before = np.searchsorted(newlines, starts)
        lines_after = np.searchsorted(newlines, ends) + 1
        return cls(
            starts=starts,
            ends=ends,
            separators=separators,
            lines_before=lines_before,
            lines_per_record=lines_after - lines_before,
            end=int(ends[-1]) + 1 if len(ends) else 0,
            has_line_ends=len(newlines) > len(ends),
        )

    def count_fields(self) -> np.ndarray:
        """Count the fields of each record."""
        separators_up_to_end = np.searchsorted(self.separators, self.ends)
        return np.diff(separators_up_to_end, prepend=0) + 1


def _are_strict_quotes(values: np.ndarray, quotes: np.ndarray, boundaries: set[int]) -> bool:
    """Return whether quotes open only at the beginning of a field, and close only at its end."""
    is_boundary = np.zeros(256, dtype=bool)
    is_boundary[list(boundaries)] = True
    opening = quotes[0::2]
    if len(opening) and opening[0] == 0:
        opening = opening[1:]
    if not is_boundary[values[opening - 1]].all():
        return False
    is_boundary[_CARRIAGE_RETURN] = True
    closing = quotes[1::2]
    closing = closing[closing + 1 < len(values)]
    return bool(is_boundary[values[closing + 1]].all())


def _starts_with_return(data: bytes, starts: np.ndarray) -> np.ndarray:
    """Return which records begin with a carriage return."""
    values = np.frombuffer(data, dtype=np.uint8)
    first_bytes = values[np.minimum(starts, len(values) - 1)]
    is_return: np.ndarray = first_bytes == _CARRIAGE_RETURN
    return is_return
