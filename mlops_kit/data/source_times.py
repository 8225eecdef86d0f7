"""The time columns of the source: parsed to UTC, with what is unusual about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import pd
from mlops_kit.data.reading.records import MAX_STORED_LINES, ReadReport, RejectedLine
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.timestamps import (
    convert_to_utc,
    count_clock_changes,
    describe_clock_changes,
    find_latest_time,
    parse_in_own_zone,
)
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration, is_duration

_MAX_TEXT_CHARACTERS = 200


@dataclass(frozen=True)
class SourceTimes:
    """What is unusual about the times of a source; nothing for a table without time.

    Parameters
    ----------
    future_rows : DataFrame
        Rows that are later than the time of reading and ``clock_skew``; no stage uses them.
    sentences : tuple of str
        By which rule local times at clock changes were read.
    """

    future_rows: pd.DataFrame | None = None
    sentences: tuple[str, ...] = ()


def parse_time_columns(config: ProjectConfig, frame: pd.DataFrame) -> SourceTimes:
    """Parse the time columns of the source to UTC, in place.

    Raises
    ------
    KitError
        If a column does not hold timestamps in one format.
    """
    sentences: list[str] = []
    settings = ReadSettings.from_source(config.source)
    for column in _list_time_columns(config):
        times = parse_in_own_zone(frame[column], column, settings.find_date_format(column))
        changes = count_clock_changes(times, config.timezone)
        sentences += describe_clock_changes(changes, column, config.timezone)
        frame[column] = convert_to_utc(times, config.timezone)
    return SourceTimes(frame[find_future_rows(frame, config)], tuple(sentences))


def find_future_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.Series:
    """Return which rows are later than a clock can say now."""
    if config.time is None:
        return pd.Series(False, index=frame.index)
    return frame[config.time] > pd.Timestamp(find_latest_time(config.clock_skew))


def report_times(report: ReadReport, times: SourceTimes, config: ProjectConfig) -> ReadReport:
    """Return the report on what was read, with future rows among those that are rejected."""
    notes = [*report.notes, *(f"{sentence}." for sentence in times.sentences)]
    future_rows = times.future_rows
    if future_rows is None or future_rows.empty:
        return report.model_copy(update={"notes": notes})
    lines = islice(_reject_future_rows(report, future_rows, config), MAX_STORED_LINES)
    rejected = [*report.rejected, *lines]
    return report.model_copy(
        update={
            "notes": notes,
            "rejected": rejected[:MAX_STORED_LINES],
            "rejected_count": report.rejected_count + len(future_rows),
            "rows_kept": report.rows_kept - len(future_rows),
        }
    )


def find_later_rows(
    unreadable_rows: pd.DataFrame | None, config: ProjectConfig, known_by: datetime
) -> frozenset[int]:
    """Find the rows with an unreadable value that are at or after a time.

    Parameters
    ----------
    unreadable_rows : DataFrame, optional
        Rows by their position in the source; a row without a readable time is not found.
    """
    if unreadable_rows is None or unreadable_rows.empty or config.time not in unreadable_rows:
        return frozenset()
    times = unreadable_rows[config.time]
    if not pd.api.types.is_datetime64_any_dtype(times):
        return frozenset()
    is_later = convert_to_utc(times, config.timezone) >= pd.Timestamp(known_by)
    return frozenset(unreadable_rows.index[is_later].tolist())


def limit_report(
    report: ReadReport, known_by: datetime, known_rows: int, later_rows: frozenset[int]
) -> ReadReport:
    """Return the report of what was known at a time.

    Parameters
    ----------
    known_rows : int
        Number of rows that were known at that time.
    later_rows : frozenset of int
        Positions of rejected rows that are later; they do not count.
    """
    rejected = [line for line in report.rejected if line.row not in later_rows]
    return report.model_copy(
        update={
            "known_by": known_by,
            "rows_known": known_rows,
            "rejected": rejected,
            "rejected_count": report.rejected_count - len(later_rows),
        }
    )


def _reject_future_rows(
    report: ReadReport, future_rows: pd.DataFrame, config: ProjectConfig
) -> Iterator[RejectedLine]:
    """Yield future rows as rejected lines; their line numbers are not known any more."""
    file = report.files[0] if report.files else ""
    skew = format_duration(config.clock_skew)
    times = future_rows[config.time]
    for timestamp, row in zip(times, future_rows.itertuples(index=False), strict=True):
        reason = (
            f"{config.time}: {timestamp:%Y-%m-%d %H:%M} UTC is later than the time of reading and "
            f"clock_skew ({skew})"
        )
        text = ", ".join(map(str, row))[:_MAX_TEXT_CHARACTERS]
        yield RejectedLine(file=file, line=0, text=text, reason=reason)


def _list_time_columns(config: ProjectConfig) -> list[str]:
    """Return the time column and the columns that say when others became known."""
    known_time_columns = {rule for rule in config.known_later.values() if not is_duration(rule)}
    if config.time:
        return [config.time, *known_time_columns]
    return list(known_time_columns)


def build_future_error(timestamps: pd.Series, config: ProjectConfig) -> RunFailedError:
    """Build the error for a source of which all rows are in the future."""
    latest_time = find_latest_time(config.clock_skew)
    return RunFailedError(
        f"all rows of the source are in the future, such as {timestamps.min():%Y-%m-%d %H:%M} UTC",
        f"a row before {latest_time:%Y-%m-%d %H:%M} UTC",
        "fix the source, or allow for it by 'clock_skew' in mlops.yaml",
    )
