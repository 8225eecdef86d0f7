"""Parsing the dates of a column in all formats that its texts allow, many texts at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops_kit.core.lazy import LazyModule, np
from mlops_kit.data.reading.date_layouts import DateFormat, DateLayout, find_layouts
from mlops_kit.data.reading.date_names import list_month_spellings, list_weekday_spellings
from mlops_kit.data.reading.texts import to_mask

pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")

MICROSECONDS_PER_DAY = 86_400_000_000
_BLOCK_ROWS = 65_536
_MAX_LENGTH = 60
_FIRST_BYTE_BEYOND_ASCII = 128
_MIN_LENGTH = 6
_MIN_DIGITS = 3
_MAX_SHAPES = 600  # a column with more shapes does not hold dates
_MAX_FORMATS = 16
_MAX_OFFSET_HOURS = 18
_FIRST_YEAR_OF_TWO_DIGITS = 69  # as in POSIX: 69 is 1969, and 68 is 2068


@dataclass(frozen=True)
class DateReadings:
    """The timestamps that a column has in one format.

    Parameters
    ----------
    format : DateFormat
        The format.
    notation : str
        The most detailed notation that occurs, as for ``strptime``.
    microseconds : ndarray of int
        Microseconds since 1970, in UTC if the format has offsets; one per text.
    is_read : ndarray of bool
        Which texts have the format.
    has_time, is_truncated : ndarray of bool
        Which texts have a time of day, and which more than six decimals of a second.
    """

    format: DateFormat
    notation: str
    microseconds: np.ndarray
    is_read: np.ndarray
    has_time: np.ndarray
    is_truncated: np.ndarray


class _Collector:
    """The readings of a column in every format, filled block by block."""

    def __init__(self, row_count: int) -> None:
        self.row_count = row_count
        self.readings: dict[DateFormat, DateReadings] = {}

    def add(
        self,
        layout: DateLayout,
        positions: np.ndarray,
        fields: _Fields,
    ) -> None:
        """Add the texts of one shape, read by one layout."""
        readings = self.readings.get(layout.format)
        if readings is None:
            readings = DateReadings(
                layout.format,
                layout.notation,
                np.zeros(self.row_count, dtype=np.int64),
                np.zeros(self.row_count, dtype=bool),
                np.zeros(self.row_count, dtype=bool),
                np.zeros(self.row_count, dtype=bool),
            )
        elif _rate_notation(layout.notation) > _rate_notation(readings.notation):
            readings = DateReadings(
                layout.format,
                layout.notation,
                readings.microseconds,
                readings.is_read,
                readings.has_time,
                readings.is_truncated,
            )
        self.readings[layout.format] = readings
        readings.microseconds[positions] = fields.microseconds
        readings.is_read[positions] = fields.is_valid
        readings.has_time[positions] = "H" in layout.spans
        readings.is_truncated[positions] = fields.is_truncated


def _rate_notation(notation: str) -> tuple[int, int]:
    """Rate how much a notation says: fields, then names in full."""
    return notation.count("%"), notation.count("%A") + notation.count("%B")


@dataclass(frozen=True)
class _Fields:
    """The timestamps of texts of one shape."""

    microseconds: np.ndarray
    is_valid: np.ndarray
    is_truncated: np.ndarray


def parse_dates(texts: Any, date_format: str | None) -> list[DateReadings]:
    """Parse texts in every format that one of them allows.

    Parameters
    ----------
    texts : pyarrow.ChunkedArray of str
        Texts without surrounding spaces; null is not parsed.
    date_format : str, optional
        A format in the notation of ``strptime``, ``day-first`` or ``month-first``.

    Returns
    -------
    list of DateReadings
        One per format; empty if the texts are too different to be dates.

    Examples
    --------
    >>> import pyarrow as pa
    >>> readings = parse_dates(pa.chunked_array([["27/02/2024"]]), None)
    >>> [(reading.notation, reading.is_read.tolist()) for reading in readings]
    [('%d/%m/%Y', [True]), ('%m/%d/%Y', [False])]
    """
    collector = _Collector(len(texts))
    seen_shapes: set[bytes] = set()
    for start in range(0, len(texts), _BLOCK_ROWS):
        block = texts.slice(start, _BLOCK_ROWS)
        _parse_block(
            collector,
            block,
            start,
            date_format,
            seen_shapes,
        )
        if len(seen_shapes) > _MAX_SHAPES or len(collector.readings) > _MAX_FORMATS:
            return []
    return list(collector.readings.values())


def _parse_block(
    collector: _Collector,
    block: Any,
    start: int,
    date_format: str | None,
    seen_shapes: set[bytes],
) -> None:
    """Parse a block of texts, grouped by length and shape."""
    content, offsets = _get_buffers(block)
    lengths = np.diff(offsets)
    lengths[~to_mask(block.is_valid())] = 0
    shape_classes = _get_shape_classes()
    for length in np.unique(lengths):
        if not _MIN_LENGTH <= length <= _MAX_LENGTH:
            continue
        positions = np.flatnonzero(lengths == length)
        characters = content[offsets[positions][:, None] + np.arange(length)]
        shapes = shape_classes[characters]
        while len(positions):
            is_same = (shapes == shapes[0]).all(axis=1)
            shape = shapes[0].tobytes()
            seen_shapes.add(shape)
            if len(seen_shapes) > _MAX_SHAPES:
                return
            _parse_shape(
                collector,
                shape,
                characters[is_same],
                positions[is_same] + start,
                date_format,
            )
            positions = positions[~is_same]
            characters = characters[~is_same]
            shapes = shapes[~is_same]


def _get_buffers(block: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of texts, and the offset of each."""
    array = block.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    _, offset_buffer, content_buffer = array.buffers()
    offset_type = np.int64 if pa.types.is_large_string(array.type) else np.int32
    offsets = np.frombuffer(offset_buffer, dtype=offset_type)
    offsets = offsets[array.offset : array.offset + len(array) + 1].astype(np.int64)
    if content_buffer is None:
        return np.zeros(0, dtype=np.uint8), offsets
    return np.frombuffer(content_buffer, dtype=np.uint8), offsets


def _get_shape_classes() -> np.ndarray:
    """Return what stands for each byte in a shape."""
    classes = np.arange(256, dtype=np.uint8)
    classes[ord("0") : ord("9") + 1] = ord("9")
    classes[ord("A") : ord("Z") + 1] = ord("a")
    classes[ord("a") : ord("z") + 1] = ord("a")
    classes[_FIRST_BYTE_BEYOND_ASCII:] = ord("a")
    return classes


def _parse_shape(
    collector: _Collector,
    shape: bytes,
    characters: np.ndarray,
    positions: np.ndarray,
    date_format: str | None,
) -> None:
    """Parse the texts of one shape by every layout that it allows."""
    text = shape.decode("latin-1")
    if text.count("9") < _MIN_DIGITS:
        return
    for layout in find_layouts(text, date_format):
        collector.add(layout, positions, _read_fields(layout, characters))


def _read_fields(layout: DateLayout, characters: np.ndarray) -> _Fields:
    """Read the timestamps of texts of one shape."""
    is_valid = np.ones(len(characters), dtype=bool)
    for position, byte in layout.literals.items():
        is_valid &= _lower(characters, (position, position + 1))[:, 0] == byte
    if "t" in layout.spans:
        is_valid &= (_lower(characters, layout.spans["t"]) == ord("t")).all(axis=1)
    days = _read_days(layout, characters, is_valid)
    time, is_truncated = _read_time(layout, characters, is_valid)
    offset = np.zeros(len(characters), dtype=np.int64)
    if "z" in layout.spans:
        offset = _read_offset(layout, characters, is_valid)
    microseconds = days * MICROSECONDS_PER_DAY + time - offset * 60_000_000
    return _Fields(microseconds, is_valid, is_truncated)


def _read_number(characters: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Read a field of digits."""
    number = np.zeros(len(characters), dtype=np.int64)
    for position in range(*span):
        number = number * 10 + (characters[:, position].astype(np.int64) - ord("0"))
    return number


def _read_days(
    layout: DateLayout,
    characters: np.ndarray,
    is_valid: np.ndarray,
) -> np.ndarray:
    """Read days since 1970; dates that do not exist become invalid."""
    spans = layout.spans
    if "Y" in spans:
        year = _read_number(characters, spans["Y"])
    else:
        year = _read_number(characters, spans["y"])
        year += np.where(year < _FIRST_YEAR_OF_TWO_DIGITS, 2000, 1900)
    if "m" in spans:
        month = _read_number(characters, spans["m"])
    else:
        month = _read_name(characters, spans["b"], list_month_spellings())
    day = np.ones(len(characters), dtype=np.int64)
    if "d" in spans:
        day = _read_number(characters, spans["d"])
    is_valid &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
    months = (np.clip(year, 1, 9999) - 1970) * 12 + np.clip(month, 1, 12) - 1
    first_day = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    next_month = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    is_valid &= day <= next_month - first_day
    days: np.ndarray = first_day + day - 1
    if "a" in spans:
        weekday = _read_name(characters, spans["a"], list_weekday_spellings())
        # 1970-01-01 was a Thursday.
        is_valid &= weekday == (days + 3) % 7 + 1
    return days


def _read_name(
    characters: np.ndarray,
    span: tuple[int, int],
    spellings: dict[int, list[tuple[bytes, int]]],
) -> np.ndarray:
    """Read the number of a month or weekday from its name or abbreviation; 0 if there is none."""
    letters = _lower(characters, span)
    number = np.zeros(len(characters), dtype=np.int64)
    for spelling, spelling_number in spellings.get(span[1] - span[0], []):
        expected = np.frombuffer(spelling, dtype=np.uint8)
        number[(letters == expected).all(axis=1)] = spelling_number
    return number


def _lower(characters: np.ndarray, span: tuple[int, int]) -> np.ndarray:
    """Return letters in lower case."""
    letters = characters[:, span[0] : span[1]]
    is_upper = (letters >= ord("A")) & (letters <= ord("Z"))
    return np.where(is_upper, letters + 32, letters)


def _read_time(
    layout: DateLayout,
    characters: np.ndarray,
    is_valid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Read microseconds since midnight, and which texts have more decimals than that."""
    spans = layout.spans
    is_truncated = np.zeros(len(characters), dtype=bool)
    zero = np.zeros(len(characters), dtype=np.int64)
    if "H" not in spans:
        return zero, is_truncated
    hour = _read_number(characters, spans["H"])
    minute = _read_number(characters, spans["M"]) if "M" in spans else zero
    second = _read_number(characters, spans["S"]) if "S" in spans else zero
    if "p" in spans:
        marker = _lower(characters, spans["p"])
        is_afternoon = marker[:, 0] == ord("p")
        is_valid &= (is_afternoon | (marker[:, 0] == ord("a"))) & (hour >= 1) & (hour <= 12)
        last_letter = 2 if spans["p"][1] - spans["p"][0] > 2 else 1
        is_valid &= marker[:, last_letter] == ord("m")
        hour = hour % 12 + np.where(is_afternoon, 12, 0)
    is_valid &= (hour < 24) & (minute < 60) & (second < 60)
    microseconds = ((hour * 60 + minute) * 60 + second) * 1_000_000
    if "f" in spans:
        start, end = spans["f"]
        used_end = min(end, start + 6)
        fraction = _read_number(characters, (start, used_end))
        microseconds += fraction * 10 ** (6 - (used_end - start))
        is_truncated = _read_number(characters, (used_end, end)) > 0
    return microseconds, is_truncated


def _read_offset(
    layout: DateLayout,
    characters: np.ndarray,
    is_valid: np.ndarray,
) -> np.ndarray:
    """Read the offset from UTC in minutes."""
    start, end = layout.spans["z"]
    first = characters[:, start]
    zero = np.zeros(len(characters), dtype=np.int64)
    is_signed = first[0] in {ord("+"), ord("-")}
    if not is_signed:
        letters = _lower(characters, (start, end))
        expected = [b"z"] if end - start == 1 else [b"utc", b"gmt"]
        is_known = np.zeros(len(characters), dtype=bool)
        for name in expected:
            is_known |= (letters == np.frombuffer(name, dtype=np.uint8)).all(axis=1)
        is_valid &= is_known
        return zero
    hours = _read_number(characters, (start + 1, start + 3))
    has_minutes = end - start > 3
    minutes = _read_number(characters, (end - 2, end)) if has_minutes else zero
    is_valid &= (hours <= _MAX_OFFSET_HOURS) & (minutes < 60)
    sign = np.where(first == ord("-"), -1, 1)
    offset: np.ndarray = sign * (hours * 60 + minutes)
    return offset
