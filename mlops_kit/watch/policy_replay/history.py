"""What was known of the project's rows on each day of a replayed period.

The features of all rows are built once: each row's are those of its own time, which the leakage
check of a run verifies. Whatever else a decision or a fit uses is selected by
``ReplayHistory.get_rows_known_at``: rows that had arrived, and labels that were known.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from math import ceil
from typing import Any, NamedTuple

from mlops_kit.core.errors import KitError
from mlops_kit.core.files import hash_table
from mlops_kit.core.lazy import np, pd
from mlops_kit.data.columns import list_key_columns
from mlops_kit.data.features import build_features
from mlops_kit.data.source import SourceHistory, compute_known_times
from mlops_kit.data.target import encode_target
from mlops_kit.db.predictions import encode_row_key, load_labeled_predictions
from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring
from mlops_kit.watch.change_detection import encode_version_labels
from mlops_kit.watch.window_borders import list_ended_windows, list_filled_windows

_MIN_WINDOWS = 3


class ReplayWindow(NamedTuple):
    """A monitoring window of a replayed period.

    Attributes
    ----------
    number : int
        Its position among the windows.
    start, end : datetime
        The window contains the rows from ``start`` on, before ``end``.
    labels_due_at : datetime
        When all of its labels should have arrived.
    evaluated_at : datetime
        The first pass of the watch after that.
    """

    number: int
    start: datetime
    end: datetime
    labels_due_at: datetime
    evaluated_at: datetime


@dataclass(frozen=True)
class ReplayHistory:
    """The rows of a project until the end of a replayed period.

    Attributes
    ----------
    project : Project
        The project.
    table : DataFrame
        Features and encoded target of all rows in time order, numbered from zero.
    label_times : Series of timestamp
        When the label of each row was known.
    rejected : ndarray of bool
        The rows that the data contract rejects; they have no score and train no model.
    classes : tuple
        The classes in the order of their codes; empty for a regression.
    start, end : datetime
        The period.
    digest : str
        Hash of the rows.
    """

    project: Project
    table: pd.DataFrame
    label_times: pd.Series
    rejected: np.ndarray
    classes: tuple[Any, ...]
    start: datetime
    end: datetime
    digest: str

    @cached_property
    def times(self) -> np.ndarray:
        """The time of each row in nanoseconds since 1970."""
        return _to_nanoseconds(self.table[self.project.config.time])

    @cached_property
    def windows(self) -> tuple[ReplayWindow, ...]:
        """The windows that have rows, and whose labels are due before the period ends."""
        config = self.project.config
        if config.watch.window_rows is None:
            borders = list_ended_windows(self.start, self.end, config.watch.window)
        else:
            first = self.find_position(self.start)
            row_times = self.table[config.time].iloc[first:].dt.to_pydatetime()
            borders = list_filled_windows(self.start, list(row_times), config.watch.window_rows)
        windows: list[ReplayWindow] = []
        for start, end in borders:
            labels_due_at = end + config.label_delay
            evaluated_at = self._find_pass(labels_due_at)
            has_rows = self.find_position(start) < self.find_position(end)
            if has_rows and evaluated_at <= self.end:
                windows.append(ReplayWindow(len(windows), start, end, labels_due_at, evaluated_at))
        return tuple(windows)

    def _find_pass(self, time: datetime) -> datetime:
        """Find the first pass of the watch at or after a time."""
        interval = self.project.config.watch.interval
        passes: int = ceil((time - self.start) / interval)
        return self.start + passes * interval

    def find_position(self, time: datetime) -> int:
        """Find the position of the first row at or after a time."""
        return int(np.searchsorted(self.times, pd.Timestamp(time).value, side="left"))

    def list_positions(self, start: datetime, end: datetime) -> np.ndarray:
        """List the positions of the accepted rows of ``[start, end)``."""
        positions = np.arange(self.find_position(start), self.find_position(end))
        return np.asarray(positions[~self.rejected[positions]])

    def get_rows_known_at(self, as_of: datetime) -> pd.DataFrame:
        """Get the accepted rows before a time, with the labels that were known by then.

        The index of a row is its position.
        """
        rows = self.table.iloc[: self.find_position(as_of)]
        rows = rows[~self.rejected[: len(rows)]]
        return self._hide_later_labels(rows, as_of)

    def get_window_rows(self, positions: np.ndarray, as_of: datetime) -> pd.DataFrame:
        """Get rows with the labels that were known by a time."""
        return self._hide_later_labels(self.table.iloc[positions], as_of)

    def _hide_later_labels(self, rows: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
        target = self.project.config.target
        is_known = self.label_times.loc[rows.index] <= pd.Timestamp(as_of)
        return rows.assign(**{target: rows[target].where(is_known)})


def _to_nanoseconds(times: pd.Series) -> np.ndarray:
    utc = pd.to_datetime(times, utc=True).dt.tz_localize(None)
    return utc.astype("datetime64[ns]").to_numpy().astype("int64")


def load_history(
    project: Project,
    classes: tuple[Any, ...],
    period: tuple[datetime, datetime],
) -> ReplayHistory:
    """Load the rows of a project, with their features, as they were known at the end of a period.

    Parameters
    ----------
    classes : tuple
        The classes in the order of their codes, as the replayed version has them.
    period : tuple of datetime
        Start and end of the replay.

    Raises
    ------
    KitError
        If the table has no time column, or the period has too few windows.
    """
    start, end = period
    source = SourceHistory(project)
    rows = source.read_until(end)
    check = scoring.check_rows_to_score(project, rows, rows)
    table, label_times = _build_table(project, classes, rows, end)
    digest = hash_table(table.assign(label_time=label_times, is_rejected=check.is_rejected))
    history = ReplayHistory(
        project=project,
        table=table,
        label_times=label_times,
        rejected=check.is_rejected,
        classes=classes,
        start=start,
        end=end,
        digest=digest,
    )
    if len(history.windows) < _MIN_WINDOWS:
        raise KitError(
            f"the period from {start:%Y-%m-%d} to {end:%Y-%m-%d} has {len(history.windows)} "
            "windows whose labels are known",
            f"at least {_MIN_WINDOWS} windows of watch.window, and label_delay after them",
            "replay a longer period",
        )
    return history


def _build_table(
    project: Project, classes: tuple[Any, ...], rows: pd.DataFrame, end: datetime
) -> tuple[pd.DataFrame, pd.Series]:
    """Build the feature table of all rows, and when their labels were known."""
    typed_rows, _ = scoring.convert_to_contract_types(project, rows)
    encoded, _ = encode_target(typed_rows, project.config, classes)
    label_times = compute_known_times(project, encoded, project.config.target)
    encoded, label_times = _apply_logged_labels(project, classes, encoded, label_times, end)
    return build_features(project, encoded, typed_rows), label_times


def _apply_logged_labels(
    project: Project,
    classes: tuple[Any, ...],
    rows: pd.DataFrame,
    label_times: pd.Series,
    end: datetime,
) -> tuple[pd.DataFrame, pd.Series]:
    """Apply what the log of labels says: labels that arrived later, and those of other origins.

    The source states the value of a label and, by ``label_delay``, its earliest time. A label that
    the log knows since a later time was known since then.
    """
    config = project.config
    logged = load_labeled_predictions(project, rows[config.time].min().to_pydatetime(), end)
    logged = encode_version_labels(project, logged, classes)
    logged = logged[logged["label"].notna()].drop_duplicates("key", keep="last").set_index("key")
    if logged.empty:
        return rows, label_times
    keys = rows[list_key_columns(project)].itertuples(index=False, name=None)
    row_keys = pd.Series([encode_row_key(key) for key in keys], index=rows.index)
    logged_times = pd.to_datetime(row_keys.map(logged["known"]), utc=True, format="ISO8601")
    known_times = pd.to_datetime(label_times, utc=True)
    later_times = known_times.where(~(logged_times > known_times), logged_times)
    labels = rows[config.target].fillna(row_keys.map(logged["label"]))
    return rows.assign(**{config.target: labels}), later_times
