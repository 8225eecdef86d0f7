"""The project's source table, as it was known at a given time.

``read_source`` hides what was not known yet: later rows are dropped, and values that became known
later (the label, and the columns of ``known_later``) are missing. Every stage reads through this
module, so no stage can see data from its future.

To add a file format or a dataset, see ``mlops_kit.data.readers`` and ``mlops_kit.data.datasets``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from glob import glob
from typing import Any

from mlops_kit.core.errors import KitError, RunFailedError, suggest_names
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.data.columns import ROW_ID, list_key_columns
from mlops_kit.data.readers import resolve_location
from mlops_kit.data.reading.records import ReadReport, TableRead
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.storage import is_url
from mlops_kit.data.reading.summary import describe_rejected_rows
from mlops_kit.data.source_table import (
    DATASET_PREFIX,
    build_empty_source_error,
    list_source_columns,
    read_raw_source,
    read_rows_to_score,
    read_source_table,
)
from mlops_kit.data.source_times import (
    SourceTimes,
    build_future_error,
    find_future_rows,
    find_later_rows,
    limit_report,
    parse_time_columns,
    report_times,
)
from mlops_kit.data.splitters import draw_random_rows
from mlops_kit.data.timestamps import find_latest_time, parse_timestamps
from mlops_kit.project.config.data import get_file_location
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import is_duration, parse_duration
from mlops_kit.project.loader import Project

__all__ = [
    "SourceHistory",
    "check_configured_columns",
    "compute_known_times",
    "draw_sample",
    "list_source_columns",
    "mask_unknown_values",
    "read_known_table",
    "read_raw_source",
    "read_rows_to_score",
    "read_source",
    "read_source_table",
    "resolve_cutoffs",
]

_CUTOFF_ORIGIN = "settled at the start of the run"  # where `mlops config` says a cut-off comes from
_SAMPLE_TEST_PERIODS = 3  # a sample covers this many times the period that the review keeps


def check_configured_columns(project: Project) -> None:
    """Check that the source has rows, and all columns that the configuration names.

    Raises
    ------
    KitError
        Listing every wrong column with its setting and the most similar existing name.
    RunFailedError
        If the source is empty.
    """
    if project.config.source == "":  # a project whose own notebooks read their data
        return
    existing = list_source_columns(project)
    problems = [
        f"{setting}: column {column!r} is not in the source; "
        f"expected {suggest_names(column, existing)}"
        for setting, column in _list_configured_columns(project.config)
        if column not in existing
    ]
    if problems:
        raise KitError(
            "mlops.yaml does not fit the data:\n  " + "\n  ".join(problems),
            hint="edit mlops.yaml",
        )


def _list_configured_columns(config: ProjectConfig) -> Iterator[tuple[str, str]]:
    """Yield each setting that names a column of the source, with the column."""
    settings = [("target", [config.target]), ("id", config.id)]
    if config.time:
        settings.append(("time", [config.time]))
    settings.append(("excluded_columns", config.excluded_columns))
    settings.append(("known_later", list(config.known_later)))
    if config.validation.group:
        settings.append(("validation.group", [config.validation.group]))
    if config.weight:
        settings.append(("weight", [config.weight]))
    # Views may add columns of slices and features, so those are checked only without views.
    if not config.features:
        settings.append(("review.slices", config.review.slices))
        settings.append(("review.confirmed_features", config.review.confirmed_features))
    for setting, columns in settings:
        for column in columns:
            yield setting, column
    for column, rule in config.known_later.items():
        if not is_duration(rule):
            yield f"known_later.{column}", rule


def compute_known_times(project: Project, frame: pd.DataFrame, column: str) -> pd.Series:
    """Compute from when each value of a column was known.

    Parameters
    ----------
    column : str
        The target (known after ``label_delay``), a column of ``known_later``, or any other column
        (known at the row's own time).

    Returns
    -------
    Series of timestamp
        One per row.

    Raises
    ------
    KitError
        If the table has no time column.
    """
    config = project.config
    if config.time is None:
        raise KitError(
            f"it is not known when {column!r} becomes known: the table has no time column",
            "'time' in mlops.yaml",
        )
    rule: str | timedelta = config.known_later.get(column, timedelta(0))
    if column == config.target:
        rule = config.label_delay
    if is_duration(rule):
        return frame[config.time] + parse_duration(rule)
    return frame[rule]


def read_source(project: Project, known_by: datetime | None = None) -> pd.DataFrame:
    """Read the source as it was known at a given time, in time order.

    Rows at or after ``known_by``, and rows later than the time of reading and ``clock_skew``, are
    dropped, and values that became known later are missing. A table without time is returned whole
    and in its own order. A table without ``id`` gets its row number as the column ``row_id``.

    Raises
    ------
    RunFailedError
        If the table is empty, or has no row before ``known_by``.
    """
    frame, _ = _select_known_rows(project, read_raw_source(project), known_by)
    return frame


def read_known_table(project: Project, known_by: datetime | None = None) -> TableRead:
    """Read the source as ``read_source`` does, with a report on what was read.

    Rows later than the time of reading and ``clock_skew`` count among those that were rejected;
    rejected rows at or after ``known_by`` do not. Columns are described over the whole source.
    """
    table = read_source_table(project)
    frame, times = _select_known_rows(project, table.frame, known_by)
    report = report_times(table.report, times, project.config)
    if known_by is not None and project.config.time is not None:
        later_rows = find_later_rows(table.unreadable_rows, project.config, known_by)
        report = limit_report(report, known_by, len(frame), later_rows)
    return replace(table, frame=frame, report=report)


def _select_known_rows(
    project: Project,
    frame: pd.DataFrame,
    known_by: datetime | None = None,
    keeps_future_rows: bool = False,
) -> tuple[pd.DataFrame, SourceTimes]:
    """Return the rows of the source as they were known at a given time; see ``read_source``.

    Parameters
    ----------
    frame : DataFrame
        The source's rows as they were read; it is changed.
    keeps_future_rows : bool
        Whether rows later than the time of reading and ``clock_skew`` stay.
    """
    config = project.config
    if frame.empty:
        raise build_empty_source_error(project)
    _check_required_columns(frame, config)
    if not config.id:
        frame.insert(0, ROW_ID, range(len(frame)))
    if config.time is None:
        return frame, SourceTimes()
    times = parse_time_columns(config, frame)
    is_future = find_future_rows(frame, config)
    if is_future.all():
        raise build_future_error(frame[config.time], config)
    if is_future.any() and not keeps_future_rows:
        frame = frame[~is_future]
    if known_by is not None:
        cutoff = pd.Timestamp(known_by)
        # The negation keeps rows without a timestamp.
        earlier_rows = frame[~(frame[config.time] >= cutoff)]
        frame = mask_unknown_values(project, earlier_rows, cutoff)
    if frame.empty:
        raise RunFailedError(
            f"no row of the source was known by {known_by:%Y-%m-%d %H:%M} UTC",
            "an as_of after the first rows",
            "mlops run --as-of …",
        )
    sort_columns = [config.time, *list_key_columns(project)]
    if _is_sorted(frame, sort_columns):
        return frame.reset_index(drop=True), times
    sorted_frame = frame.sort_values(
        sort_columns,
        kind="stable",
        ignore_index=True,
    )
    return sorted_frame, times


def _check_required_columns(frame: pd.DataFrame, config: ProjectConfig) -> None:
    """Check that the source has the target, id and time columns."""
    required = {config.target, *config.id}
    if config.time:
        required.add(config.time)
    missing = [column for column in required if column not in frame.columns]
    if missing:
        raise RunFailedError(
            f"the source has no column {missing[0]!r}",
            suggest_names(missing[0], frame.columns),
            "edit mlops.yaml, or fix the source",
        )


class SourceHistory:
    """The source as of any time, read again only when its files change."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self._rows: pd.DataFrame | None = None
        self._file_marks: Any = None
        self._unreported: ReadReport | None = None

    def read_until(self, known_by: datetime, since: datetime | None = None) -> pd.DataFrame:
        """Return the rows from ``since`` on, as they were known at ``known_by``.

        Unlike ``read_source``, an empty result is not an error.
        """
        rows = self._read_rows()
        time = self.project.config.time
        if time is None:
            return rows
        cutoff = pd.Timestamp(known_by)
        # A row may have been in the future when its file was read.
        is_selected = (rows[time] < cutoff) & ~find_future_rows(rows, self.project.config)
        if since is not None:
            is_selected &= rows[time] >= pd.Timestamp(since)
        return mask_unknown_values(
            self.project,
            rows[is_selected].reset_index(drop=True),
            cutoff,
        )

    def _read_rows(self) -> pd.DataFrame:
        """Return all rows, read again if the files changed or cannot be compared."""
        marks = self.describe_files()
        if self._rows is None or marks is None or marks != self._file_marks:
            table = read_source_table(self.project)
            rows, times = _select_known_rows(self.project, table.frame, keeps_future_rows=True)
            self._rows = rows
            self._unreported = report_times(table.report, times, self.project.config)
        self._file_marks = marks
        return self._rows

    def take_rejected_rows(self) -> str:
        """Describe the rows that could not be read; empty if there are none that are new."""
        report = self._unreported
        self._unreported = None
        if report is None or not report.rejected_count:
            return ""
        return describe_rejected_rows(report)

    def describe_files(self) -> Any:
        """Return the source files' sizes and modification times.

        None if a change cannot be detected without reading the source.
        """
        source = get_file_location(self.project.config.source)
        if not source or is_url(source):
            return None
        if source.startswith(DATASET_PREFIX):
            return source
        path = resolve_location(self.project, source)
        files = sorted(glob(path)) or [path]
        marks = []
        for file in files:
            if os.path.exists(file):
                status = os.stat(file)
                marks.append((file, status.st_mtime_ns, status.st_size))
        return marks


def mask_unknown_values(project: Project, frame: pd.DataFrame, cutoff: Any) -> pd.DataFrame:
    """Return the rows with values that became known after ``cutoff`` set to missing."""
    masked_columns = {}
    for column in (project.config.target, *project.config.known_later):
        if column in frame:
            is_known = compute_known_times(project, frame, column) <= cutoff
            masked_columns[column] = frame[column].where(is_known)
    return frame.assign(**masked_columns)


def _is_sorted(frame: pd.DataFrame, columns: list[str]) -> bool:
    """Return whether rows are sorted by time and one key, which is much faster than sorting.

    With several key columns, or a missing key, the answer is False.
    """
    times = frame[columns[0]]
    keys = frame[columns[1]]
    if len(columns) > 2 or not times.is_monotonic_increasing or keys.isna().any():
        return False
    is_same_time = times.to_numpy()[1:] == times.to_numpy()[:-1]
    previous_keys = keys.to_numpy()[:-1][is_same_time]
    next_keys = keys.to_numpy()[1:][is_same_time]
    return bool((previous_keys <= next_keys).all())


def _find_default_as_of(project: Project) -> datetime | None:
    """Return the time just after the newest row got its label; None for a table without time."""
    config = project.config
    if config.time is None:
        return None
    times = read_raw_source(project)[config.time]
    date_format = ReadSettings.from_source(config.source).find_date_format(config.time)
    timestamps = parse_timestamps(times, config.time, config.timezone, date_format)
    latest_time = find_latest_time(config.clock_skew)
    newest = timestamps[timestamps <= pd.Timestamp(latest_time)].max()
    if pd.isna(newest) and timestamps.notna().any():
        raise build_future_error(timestamps, config)
    if pd.isna(newest):
        raise RunFailedError(
            f"the time column {config.time!r} holds no timestamp at all",
            "dates or ISO 8601 timestamps",
            "fix the source, or set another column under 'time'",
        )
    smallest_step = pd.Timedelta(microseconds=1)
    as_of: datetime = (newest + config.label_delay + smallest_step).to_pydatetime()
    return as_of


def resolve_cutoffs(project: Project) -> Project:
    """Return the project with ``as_of`` and ``until`` set, so that a run can be repeated.

    Raises
    ------
    KitError
        If ``until`` lies before the default ``as_of``.
    """
    config = project.config
    if config.time is None:
        return project
    as_of = config.as_of or _find_default_as_of(project)
    if as_of and config.until and config.to_utc(config.until) < config.to_utc(as_of):
        raise KitError(
            f"until {config.until:%Y-%m-%d} lies before as_of, "
            f"which defaults to the newest row with a label, {as_of:%Y-%m-%d}",
            "as_of at or before until",
            "set as_of too",
        )
    missing = [name for name in ("as_of", "until") if getattr(config, name) is None]
    return project.with_values(_CUTOFF_ORIGIN, **dict.fromkeys(missing, as_of))


def draw_sample(project: Project, frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    """Draw a sample for a quick trial run.

    With time, the sample is spread evenly over the newest part of the table: three times the
    period that the review keeps, so that split, folds and daily intervals work as in a full run.
    (The newest rows alone would cover a few days only.) If the review keeps a share instead of a
    period, it covers the whole table. Without time, rows are drawn at random, stratified by the
    target, or whole groups of ``validation.group`` are drawn.

    Parameters
    ----------
    rows : int
        Number of rows; 0, or more than there are, selects all.
    """
    frame = to_pandas(frame)
    if not rows or rows >= len(frame):
        return frame
    config = project.config
    if config.time is None:
        drawn = draw_random_rows(frame, rows, config)
        return frame.iloc[drawn].reset_index(drop=True)
    candidates = frame
    if isinstance(config.validation.test, timedelta):
        times = frame[config.time]
        start = times.max() - _SAMPLE_TEST_PERIODS * config.validation.test
        candidates = frame[times > start]
    if len(candidates) <= rows:
        candidates = frame.tail(rows)
    positions = np.linspace(0, len(candidates) - 1, rows).round().astype(int)
    return candidates.iloc[positions].reset_index(drop=True)
