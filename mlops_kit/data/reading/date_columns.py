"""Columns of timestamps: the one format that all rows share.

Rules
-----
- One format for the whole column, from all rows: the order of day, month and year, the clock of
  24 or 12 hours, and whether rows state their offset from UTC. Seconds and their fraction may be
  absent, and so may the time of day, which is then midnight; both are reported.
- The format that reads every row that another one reads, and more, is chosen: ``27/02/2024`` in
  one row decides for all. If two formats read the same rows differently, the dates are ambiguous.
- Rows with offsets are read to UTC, each by its own.
- Two-digit years are read as 1969 to 2068.
- Whole numbers such as ``20240131`` are numbers unless a format is set; times of day and months
  are text.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from mlops_kit.core.lazy import LazyModule, np
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.reading.date_layouts import DATE_ORDERS, check_date_format
from mlops_kit.data.reading.date_parsing import DateReadings, parse_dates
from mlops_kit.data.reading.date_problems import (
    AmbiguousDates,
    DateProblem,
    DateReading,
    MixedDates,
    describe_date_problem,
    describe_order,
)
from mlops_kit.data.reading.parsed_column import ParsedColumn, count_values
from mlops_kit.data.reading.texts import ColumnTexts, to_mask

pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")

_MIN_DATE_LENGTH = len("1/1/24")
_ISO_DATE_LENGTH = len("2024-01-31")
_ISO_MINUTE_LENGTH = len("2024-01-31T10:15")
_MIN_PLAUSIBLE_YEAR = 1900
_MAX_PLAUSIBLE_YEAR = 2100
_MAX_READINGS_SHOWN = 3
_FEW_VALUES = 10
_MANY_VALUES = 20


@dataclass(frozen=True)
class DateAttempt:
    """A column read as timestamps, or why it cannot be.

    Parameters
    ----------
    parsed : ParsedColumn, optional
        The timestamps; None if the column does not hold dates or has a problem.
    problem : AmbiguousDates or MixedDates, optional
        What is wrong with dates that cannot be read without a setting.
    notes : list of str
        Sentences for a column that stays text.
    """

    parsed: ParsedColumn | None = None
    problem: DateProblem | None = None
    notes: list[str] = field(default_factory=list)


def can_be_dates(texts: Any) -> np.ndarray:
    """Return which texts are dates in some known format; what is not, is in none."""
    is_read = np.zeros(len(texts), dtype=bool)
    for readings in parse_dates(pc.utf8_trim_whitespace(texts), None):
        is_read |= readings.is_read
    return is_read


def read_dates(
    name: str,
    column: ColumnTexts,
    is_present: np.ndarray,
    date_format: str | None,
    max_unreadable: int,
) -> DateAttempt:
    """Read a column as timestamps.

    Parameters
    ----------
    name : str
        Name of the column.
    column : ColumnTexts
        The column.
    is_present : ndarray of bool
        Which texts are values, not missing words.
    date_format : str, optional
        The format that is set, or ``day-first`` or ``month-first``.
    max_unreadable : int
        So many rows may have another format.

    Raises
    ------
    KitError
        If the format that is set is not supported.
    """
    if date_format is not None:
        check_date_format(date_format)
    present = column.keep_only(is_present)
    if date_format is None or date_format in DATE_ORDERS:
        parsed = _read_iso_dates(column, present, is_present)
        if parsed is not None:
            return DateAttempt(parsed)
    trimmed = pc.utf8_trim_whitespace(present)
    all_readings = _merge_dates_without_time(parse_dates(trimmed, date_format))
    return _choose_readings(name, column, present, is_present, all_readings, max_unreadable)


def _read_iso_dates(
    column: ColumnTexts, present: Any, is_present: np.ndarray
) -> ParsedColumn | None:
    """Read a column of ISO 8601 by Arrow, which is fast; None if a text is written otherwise."""
    lengths = pc.binary_length(present)
    bounds = pc.min_max(lengths).as_py()
    if bounds["min"] is None or bounds["min"] < _ISO_DATE_LENGTH:
        return None
    for arrow_type in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            timestamps = pc.cast(present, arrow_type)
        except pa.ArrowInvalid:
            continue
        longest = pc.index(lengths, bounds["max"]).as_py()
        example = parse_dates(present.slice(longest, 1), None)
        if not example:
            return None
        has_time = to_mask(pc.greater(lengths, _ISO_DATE_LENGTH))
        is_utc = arrow_type.tz is not None
        conversions = _describe_absent_times(column, has_time, is_present)
        is_uniform = bounds["min"] in {_ISO_DATE_LENGTH, bounds["max"]}
        if not is_uniform and bounds["min"] < _ISO_MINUTE_LENGTH:
            return None
        microseconds = timestamps.cast(pa.int64()).fill_null(0).to_numpy()
        return ParsedColumn(
            ColumnKind.TIMESTAMP,
            microseconds.view("datetime64[us]"),
            is_present,
            example[0].notation,
            conversions,
            _describe_years(column, microseconds, is_present),
            is_utc,
        )
    return None


def _merge_dates_without_time(all_readings: list[DateReadings]) -> list[DateReadings]:
    """Add dates without a time of day to the format with one, if there is exactly one."""
    merged = []
    for readings in all_readings:
        date = readings.format.date
        with_time = [
            other
            for other in all_readings
            if other.format.date == date and other.format.clock and not other.format.has_offset
        ]
        if readings.format.clock and not readings.format.has_offset:
            without_time = [
                other
                for other in all_readings
                if other.format.date == date and not other.format.clock
            ]
            if len(with_time) == 1 and without_time:
                readings = _unite(readings, without_time[0])
        elif not readings.format.clock and len(with_time) == 1:
            continue
        merged.append(readings)
    return merged


def _unite(first: DateReadings, second: DateReadings) -> DateReadings:
    """Return the readings of the first, and of the second where the first has none."""
    return replace(
        first,
        microseconds=np.where(first.is_read, first.microseconds, second.microseconds),
        is_read=first.is_read | second.is_read,
        has_time=first.has_time & first.is_read,
        is_truncated=first.is_truncated & first.is_read,
    )


def _choose_readings(
    name: str,
    column: ColumnTexts,
    present: Any,
    is_present: np.ndarray,
    all_readings: list[DateReadings],
    max_unreadable: int,
) -> DateAttempt:
    """Choose the one format of a column, or find that there is none."""
    present_count = column.count_rows(is_present)
    candidates = []
    for readings in all_readings:
        count = column.count_rows(readings.is_read)
        if present_count - count <= max_unreadable and 2 * count > present_count:
            candidates.append((count, readings))
    if not candidates:
        problem = _find_mixed_formats(name, column, all_readings, present_count, max_unreadable)
        if problem is not None:
            return _build_problem(problem)
        return DateAttempt(notes=_describe_rejection(column, is_present, all_readings))
    candidates.sort(key=lambda candidate: candidate[0], reverse=True)
    chosen, notes = _prefer_plausible_years([readings for _, readings in candidates])
    best = chosen[0]
    for rival in chosen[1:]:
        is_only_rival = rival.is_read & ~best.is_read
        is_only_best = best.is_read & ~rival.is_read
        differs = best.is_read & rival.is_read & (best.microseconds != rival.microseconds)
        if is_only_rival.any() or (differs.any() and not is_only_best.any()):
            return _build_problem(_describe_readings(name, column, chosen, differs))
        if differs.any():
            example = column.list_examples(is_only_best, 1)[0]
            counted = count_values(column.count_rows(is_only_best), "decides", "decide")
            order = describe_order(best.notation)
            notes.append(f"{counted} that the order is {order}, such as {example!r}")
    return DateAttempt(_build_parsed(column, present, is_present, best, notes))


def _prefer_plausible_years(
    candidates: list[DateReadings],
) -> tuple[list[DateReadings], list[str]]:
    """Leave out readings of two-digit years in which days and years are evidently exchanged.

    Read with the year first, ``31.12.24`` and its neighbors would span decades, but only a few
    days of the month.
    """
    if len(candidates) == 1 or not any("%y" in readings.format.date for readings in candidates):
        return candidates, []
    counts = [_count_days_and_years(readings) for readings in candidates]
    has_plausible = any(days >= _MANY_VALUES and years <= _FEW_VALUES for days, years in counts)
    if not has_plausible:
        return candidates, []
    plausible = [
        readings
        for readings, (days, years) in zip(candidates, counts, strict=True)
        if not (days <= _FEW_VALUES and years >= _MANY_VALUES)
    ]
    if len(plausible) == len(candidates):
        return candidates, []
    note = (
        f"read as {describe_order(plausible[0].notation)}, because otherwise all dates would be on "
        "the same few days of the month"
    )
    return plausible, [note]


def _count_days_and_years(readings: DateReadings) -> tuple[int, int]:
    """Count the distinct days of the month and the distinct years."""
    timestamps = readings.microseconds[readings.is_read].view("datetime64[us]")
    days = timestamps.astype("datetime64[D]")
    day_numbers = (days - days.astype("datetime64[M]")).astype(np.int64)
    years = days.astype("datetime64[Y]").astype(np.int64)
    return len(np.unique(day_numbers)), len(np.unique(years))


def _find_mixed_formats(
    name: str,
    column: ColumnTexts,
    all_readings: list[DateReadings],
    present_count: int,
    max_unreadable: int,
) -> MixedDates | None:
    """Find the formats of a column that holds dates of several ones; None if it does not."""
    rest = np.ones(len(column.texts), dtype=bool)
    found: list[DateReading] = []
    remaining = list(all_readings)
    while remaining:
        counts = [column.count_rows(readings.is_read & rest) for readings in remaining]
        best_position = int(np.argmax(counts))
        if not counts[best_position]:
            break
        readings = remaining.pop(best_position)
        found.append(_describe_reading(column, readings, readings.is_read & rest))
        rest &= ~readings.is_read
    read_count = sum(reading.rows for reading in found)
    is_mixed = present_count - read_count <= max_unreadable and 2 * read_count > present_count
    if len(found) < 2 or not is_mixed:
        return None
    return MixedDates(column=name, readings=found[:_MAX_READINGS_SHOWN])


def _describe_readings(
    name: str, column: ColumnTexts, candidates: list[DateReadings], differs: np.ndarray
) -> AmbiguousDates:
    """Describe the readings of a column by an example that they read differently."""
    readings = [
        _describe_reading(column, candidate, differs & candidate.is_read)
        for candidate in candidates
    ]
    return AmbiguousDates(column=name, readings=readings[:_MAX_READINGS_SHOWN])


def _describe_reading(column: ColumnTexts, readings: DateReadings, mask: np.ndarray) -> DateReading:
    """Describe how texts are read in a format, by the first one that a mask selects."""
    position = (
        int(np.flatnonzero(mask)[0]) if mask.any() else int(np.flatnonzero(readings.is_read)[0])
    )
    timestamp = np.datetime64(int(readings.microseconds[position]), "us")
    text = str(timestamp.astype("datetime64[m]")).replace("T", " ")
    if not readings.has_time[position]:
        text = str(timestamp.astype("datetime64[D]"))
    return DateReading(
        format=readings.notation,
        rows=column.count_rows(mask),
        text=column.get_text(position),
        timestamp=f"{text} UTC" if readings.format.has_offset else text,
    )


def _build_problem(problem: DateProblem) -> DateAttempt:
    """Build the result for a column whose dates cannot be read without a setting."""
    return DateAttempt(problem=problem, notes=[f"left as text: {describe_date_problem(problem)}"])


def _describe_rejection(
    column: ColumnTexts, is_present: np.ndarray, all_readings: list[DateReadings]
) -> list[str]:
    """Describe why a column that is mostly dates stays text; empty for other columns."""
    for readings in all_readings:
        is_other = is_present & ~readings.is_read
        if 2 * column.count_rows(is_other) < column.count_rows(is_present):
            counted = count_values(column.count_rows(is_other), "does not", "do not")
            example = column.list_examples(is_other, 1)[0]
            return [
                f"left as text: {counted} have the format {readings.notation}, such as {example!r}"
            ]
    return []


def _build_parsed(
    column: ColumnTexts,
    present: Any,
    is_present: np.ndarray,
    readings: DateReadings,
    notes: list[str],
) -> ParsedColumn:
    """Build the column from the chosen readings."""
    is_read = readings.is_read & is_present
    conversions = _describe_absent_times(column, readings.has_time, is_read)
    truncated = column.count_rows(readings.is_truncated & is_read)
    if truncated:
        counted = count_values(truncated, "has", "have")
        conversions.append(f"{counted} more than six decimals of a second, which were cut off")
    lengths = pc.utf8_length(present).fill_null(0).to_numpy()
    trimmed_lengths = pc.utf8_length(pc.utf8_trim_whitespace(present)).fill_null(0).to_numpy()
    spaces = column.count_rows((lengths != trimmed_lengths) & is_read)
    if spaces:
        counted = count_values(spaces, "had spaces around it", "had spaces around them")
        conversions.append(f"{counted}, which were removed")
    if "%y" in readings.notation:
        conversions.append("two-digit years are read as 1969 to 2068")
    return ParsedColumn(
        ColumnKind.TIMESTAMP,
        readings.microseconds.view("datetime64[us]"),
        is_read,
        readings.notation,
        conversions,
        notes + _describe_years(column, readings.microseconds, is_read),
        readings.format.has_offset,
    )


def _describe_absent_times(
    column: ColumnTexts, has_time: np.ndarray, is_read: np.ndarray
) -> list[str]:
    """Describe that some dates have no time of day although others have one."""
    without_time = column.count_rows(is_read & ~has_time)
    if not without_time or not (has_time & is_read).any():
        return []
    counted = count_values(without_time, "has no time of day", "have no time of day")
    return [f"{counted}, which is read as midnight"]


def _describe_years(
    column: ColumnTexts, microseconds: np.ndarray, is_read: np.ndarray
) -> list[str]:
    """Describe that some years are improbable."""
    years = microseconds.view("datetime64[us]").astype("datetime64[Y]").astype(np.int64) + 1970
    is_improbable = is_read & ((years < _MIN_PLAUSIBLE_YEAR) | (years > _MAX_PLAUSIBLE_YEAR))
    count = column.count_rows(is_improbable)
    if not count:
        return []
    example = column.list_examples(is_improbable, 1)[0]
    limits = f"before {_MIN_PLAUSIBLE_YEAR} or after {_MAX_PLAUSIBLE_YEAR}"
    return [f"{count_values(count, 'is', 'are')} {limits}, such as {example!r}"]
