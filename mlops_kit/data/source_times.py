"""The time columns of the source: parsed to UTC, with what is unusual about them."""

from __future__ import annotations

from dataclasses import dataclass

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import pd
from mlops_kit.data.timestamps import (
    convert_to_utc,
    count_clock_changes,
    describe_clock_changes,
    find_latest_time,
    parse_in_own_zone,
)
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import is_duration


@dataclass(frozen=True)
class SourceTimes:
    """What is unusual about the times of a source.

    Parameters
    ----------
    future_rows : DataFrame
        Rows that are later than the time of reading and ``clock_skew``; no stage uses them.
    sentences : tuple of str
        By which rule local times at clock changes were read.
    """

    future_rows: pd.DataFrame
    sentences: tuple[str, ...] = ()


def parse_time_columns(config: ProjectConfig, frame: pd.DataFrame) -> SourceTimes:
    """Parse the time columns of the source to UTC, in place.

    Raises
    ------
    KitError
        If a column does not hold timestamps in one format.
    """
    sentences: list[str] = []
    for column in _list_time_columns(config):
        times = parse_in_own_zone(frame[column], column, None)
        changes = count_clock_changes(times, config.timezone)
        sentences += describe_clock_changes(changes, column, config.timezone)
        frame[column] = convert_to_utc(times, config.timezone)
    return SourceTimes(frame[find_future_rows(frame, config)], tuple(sentences))


def find_future_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.Series:
    """Return which rows are later than a clock can say now."""
    if config.time is None:
        return pd.Series(False, index=frame.index)
    return frame[config.time] > pd.Timestamp(find_latest_time(config.clock_skew))


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
