"""Timestamps of a table: parsed to UTC, by one format and one stated rule for clock changes.

A reader of files has decided already; its columns of timestamps are only moved to UTC. Text, from
Parquet or a query, is decided here in the same way. Local times that occur twice when clocks are
set back are taken as the later ones, and those that clocks skip are moved forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.data.columns import ColumnKind

pa = LazyModule("pyarrow")

_EXPECTED = "dates or ISO 8601 timestamps"
_MICROSECONDS_UTC = "datetime64[us, UTC]"
_OBJECT_TYPES = frozenset({"datetime", "datetime64", "date"})


@dataclass(frozen=True)
class ClockChanges:
    """Local times of a column at changes of the clock.

    Parameters
    ----------
    repeated : int
        Times that occur twice, because clocks were set back.
    skipped : int
        Times that do not exist, because clocks were set forward.
    """

    repeated: int = 0
    skipped: int = 0


def parse_timestamps(
    values: pd.Series,
    name: str,
    zone: str,
    date_format: str | None = None,
) -> pd.Series:
    """Parse a column of timestamps to UTC, in microseconds.

    Parameters
    ----------
    values : Series
        Timestamps, or text in one format.
    name : str
        The column's name, for errors.
    zone : str
        Time zone of timestamps without one. A time that occurs twice when clocks are set back is
        taken as the later one; a time that clocks skip is moved forward.
    date_format : str, optional
        Format of text in the notation of ``strptime``, ``day-first`` or ``month-first``; None:
        inferred from all rows.

    Raises
    ------
    RunFailedError
        If the column holds numbers, or values that are not timestamps.
    KitError
        If its dates have two readings or several formats.

    Examples
    --------
    >>> values = pd.Series(["27/02/2024 14:30", "01/03/2024 09:00"])
    >>> parse_timestamps(values, "created", "Europe/Berlin").dt.strftime("%d %b %H:%M").tolist()
    ['27 Feb 13:30', '01 Mar 08:00']
    """
    return convert_to_utc(parse_in_own_zone(values, name, date_format), zone)


def convert_to_utc(values: pd.Series, zone: str) -> pd.Series:
    """Convert timestamps to UTC; those without a zone are local times of ``zone``."""
    if values.dt.tz is None:
        values = values.dt.tz_localize(
            zone,
            ambiguous=False,
            nonexistent="shift_forward",
        )
    converted: pd.Series = values.dt.tz_convert("UTC").astype(_MICROSECONDS_UTC)
    return converted


def parse_in_own_zone(values: pd.Series, name: str, date_format: str | None) -> pd.Series:
    """Parse a column of timestamps; those without a zone keep none.

    Parameters and errors are those of ``parse_timestamps``.
    """
    if pd.api.types.is_datetime64_any_dtype(values):
        return values
    # pandas would read numbers as nanoseconds since 1970.
    if pd.api.types.is_numeric_dtype(values) and values.notna().any():
        raise _build_number_error(values.dropna().iloc[0], name)
    present_type = pd.api.types.infer_dtype(values, skipna=True)
    if present_type in _OBJECT_TYPES:
        return _parse_objects(values, name)
    return _parse_texts(values, name, date_format)


def _build_number_error(example: Any, name: str) -> RunFailedError:
    """Build the error for a time column of numbers."""
    return RunFailedError(
        f"the time column {name!r} holds numbers: {example!s}",
        _EXPECTED,
        "convert them to timestamps in the source, set their format under source.dates, or set "
        "another column under 'time'",
    )


def _parse_objects(values: pd.Series, name: str) -> pd.Series:
    """Parse a column of date and datetime objects."""
    has_zone = values.dropna().map(lambda value: getattr(value, "tzinfo", None) is not None)
    if has_zone.nunique() > 1:
        raise KitError(
            f"the column {name!r} cannot be read: {format_number(has_zone.sum())} of "
            f"{format_number(len(has_zone))} timestamps have a time zone",
            "timestamps either with or without a time zone",
            "fix the source",
        )
    return pd.to_datetime(values, utc=bool(has_zone.any()))


def _parse_texts(values: pd.Series, name: str, date_format: str | None) -> pd.Series:
    """Parse a column of text by the one format of all rows."""
    # A table whose timestamps are timestamps needs none of this.
    from mlops_kit.data.reading.column_types import ColumnSettings, decide_column
    from mlops_kit.data.reading.date_problems import build_date_error

    texts = values.map(str, na_action="ignore")
    column = pa.chunked_array([pa.array(texts, type=pa.string(), from_pandas=True)])
    decision = decide_column(name, column, ColumnSettings(date_format=date_format))
    if decision.date_problem is not None:
        raise build_date_error(decision.date_problem)
    kind = decision.reading.type
    if kind == ColumnKind.EMPTY:
        return pd.Series(pd.NaT, index=values.index, dtype="datetime64[us]")
    if kind in {ColumnKind.INTEGER, ColumnKind.NUMBER}:
        raise _build_number_error(decision.reading.examples[0], name)
    if kind != ColumnKind.TIMESTAMP:
        raise RunFailedError(
            f"the time column {name!r} does not hold timestamps: {decision.reading.examples[0]!r}",
            f"{_EXPECTED}, with months as numbers, or as names in English or one of 16 other "
            "European languages",
            "set their format under source.dates, or another column under 'time'",
        )
    return decision.values.set_axis(values.index)


def count_clock_changes(values: pd.Series, zone: str) -> ClockChanges:
    """Count the local times that occur twice or never.

    Parameters
    ----------
    values : Series of datetime
        Timestamps; those with a time zone state which they are, so none counts.
    zone : str
        The time zone in which they are read.

    Examples
    --------
    >>> values = pd.Series(pd.to_datetime(["2024-03-31 02:30", "2024-10-27 02:30"]))
    >>> count_clock_changes(values, "Europe/Berlin")
    ClockChanges(repeated=1, skipped=1)
    """
    is_naive = pd.api.types.is_datetime64_any_dtype(values) and values.dt.tz is None
    if not is_naive or zone == "UTC":
        return ClockChanges()
    present = values.dropna()
    later = present.dt.tz_localize(
        zone, ambiguous=np.zeros(len(present), dtype=bool), nonexistent="shift_forward"
    )
    earlier = present.dt.tz_localize(
        zone, ambiguous=np.ones(len(present), dtype=bool), nonexistent="shift_forward"
    )
    repeated = int((later != earlier).sum())
    skipped = int((later.dt.tz_localize(None) != present).sum())
    return ClockChanges(repeated, skipped)


def describe_clock_changes(changes: ClockChanges, name: str, zone: str) -> list[str]:
    """Describe by which rule local times at clock changes were read."""
    sentences = []
    if changes.repeated:
        sentences.append(
            f"{format_number(changes.repeated)} values of {name!r} occur twice in {zone}, because "
            "clocks were set back; they are read as the later time"
        )
    if changes.skipped:
        sentences.append(
            f"{format_number(changes.skipped)} values of {name!r} do not exist in {zone}, because "
            "clocks were set forward; they are moved forward"
        )
    return sentences


def find_latest_time(clock_skew: timedelta) -> datetime:
    """Return the latest time that a row can have: now, and what clocks may differ."""
    return datetime.now(UTC) + clock_skew
