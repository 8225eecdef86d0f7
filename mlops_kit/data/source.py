"""Where a project's rows come from, and what of them was known by a moment.

``read`` gives the table as it stood at a moment: later rows are not there, and values that became
known only later (the label, and the columns of ``known_later``) are missing. Every stage reads
through here, so no stage can see what was not known then.

To add a source: an entry in ``READERS`` for its file name's ending.
"""

from __future__ import annotations

import csv
import os
from datetime import datetime, timedelta
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError, RunFailedError, suggest_names
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.data.columns import ROW_ID, list_key_columns, parse_timestamps
from mlops_kit.data.datasets import DATASETS
from mlops_kit.data.readers import read_query, read_table, resolve_location
from mlops_kit.project.config.data import QuerySource
from mlops_kit.project.config.value_types import parse_duration
from mlops_kit.project.loader import Project

fsspec = LazyModule("fsspec")


def read_raw_source(project: Project, limit: int | None = None) -> pd.DataFrame:
    """The source's rows as they are, before anything is made of them.

    Raises
    ------
    KitError
        If the source is missing or cannot be read.
    """
    source = project.config.source
    if isinstance(source, QuerySource):
        return read_query(source, limit)
    if source.startswith("dataset:"):
        return DATASETS[source.removeprefix("dataset:")](limit)
    return read_table(
        resolve_location(project, source),
        limit,
        f"source: {source!r}",
        "edit 'source' in mlops.yaml",
    )


def list_source_columns(project: Project) -> list[str]:
    """The source's column names, without reading all of it.

    Raises
    ------
    RunFailed
        If the source has no rows.
    """
    if names := _read_csv_header(project):
        return names
    frame = read_raw_source(project, limit=5)
    if frame.empty:
        raise _empty_source_error(project)
    return list(map(str, frame.columns))


def _read_csv_header(project: Project) -> list[str]:
    """The columns of a local CSV file that has rows; empty where it takes pandas (a second to import) to tell."""
    source = project.config.source
    path = project.resolve_path(source) if isinstance(source, str) else Path()
    if path.suffix.lower() != ".csv" or not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            names, row = [*islice(csv.reader(stream), 2)]
    except (ValueError, csv.Error):
        return []
    return names if all(names) and len(names) == len(set(names)) == len(row) else []


def _empty_source_error(project: Project) -> RunFailedError:
    """The error of a source that is empty."""
    return RunFailedError(
        f"the source {str(project.config.source)!r} has no rows",
        "at least a header and some rows",
        "look at what fills it",
    )


def check_configured_columns(project: Project) -> None:
    """Refuse a source without rows, and a config that names columns which it does not have.

    Raises
    ------
    KitError
        Naming each field, its column and the nearest right name; all of them at once.
    RunFailed
        If the source is empty.
    """
    if project.config.source == "":  # a chain of own notebooks that read for themselves
        return
    config, known = project.config, list_source_columns(project)
    lists = {
        "target": [config.target],
        "id": config.id,
        "time": [config.time] if config.time else [],
        "excluded_columns": config.excluded_columns,
        "known_later": config.known_later,
        "review.slices": [] if config.features else config.review.slices,
    }
    named = [
        *((field, c) for field, names in lists.items() for c in names),
        *((f"known_later.{c}", v) for c, v in config.known_later.items() if not _is_duration(v)),
    ]
    said = [
        f"{field}: column {column!r} is not in the source; expected {suggest_names(column, known)}"
        for field, column in named
        if column not in known
    ]
    if said:
        raise KitError(
            "mlops.yaml does not fit the data:\n  " + "\n  ".join(said), hint="edit mlops.yaml"
        )


def _is_duration(text: str | timedelta) -> bool:
    """Whether a ``known_later`` entry is a delay and not a column."""
    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


def compute_known_times(project: Project, frame: pd.DataFrame, column: str) -> pd.Series:
    """The moment from which a column's value is known, row by row: for the target, its delay."""
    config = project.config
    if config.time is None:
        raise KitError(
            f"{column!r} has no moment: the table has no time column", "'time' in mlops.yaml"
        )
    rule = (
        config.label_delay
        if column == config.target
        else config.known_later.get(column, timedelta(0))
    )
    return frame[config.time] + parse_duration(rule) if _is_duration(rule) else frame[rule]


def read_source(project: Project, known_by: datetime | None = None) -> pd.DataFrame:
    """The source as it was known at a moment, in the order of time.

    Rows after ``known_by`` are not there; a value known only after it is missing. A table without
    time comes whole and in its own order. A table without an ``id`` gets its position as ``row_id``.

    Raises
    ------
    RunFailed
        If the table is empty, or has no row by that moment.
    """
    config = project.config
    frame = read_raw_source(project)
    if frame.empty:
        raise _empty_source_error(project)
    absent = [
        c
        for c in {config.target, *config.id, *([config.time] if config.time else [])}
        if c not in frame.columns
    ]
    if absent:
        raise RunFailedError(
            f"the source has no column {absent[0]!r}",
            suggest_names(absent[0], frame.columns),
            "edit mlops.yaml, or mend the source",
        )
    if not config.id:
        frame.insert(0, ROW_ID, range(len(frame)))
    if config.time is None:
        return frame
    frame[config.time] = parse_timestamps(frame[config.time], config.time, config.timezone)
    for rule in set(config.known_later.values()):
        if not _is_duration(rule):
            frame[rule] = parse_timestamps(frame[rule], rule, config.timezone)
    if known_by is not None:
        limit = pd.Timestamp(known_by)
        frame = mask_unknown_values(project, frame[~(frame[config.time] >= limit)], limit)
    if frame.empty:
        raise RunFailedError(
            f"no row of the source was known by {known_by:%Y-%m-%d %H:%M} UTC",
            "an as_of after the first rows",
            "mlops run --as-of …",
        )
    by = [config.time, *list_key_columns(project)]
    return (
        frame.reset_index(drop=True)
        if _is_sorted(frame, by)
        else frame.sort_values(by, kind="stable", ignore_index=True)
    )


class SourceHistory:
    """The source, read again only when its files have changed, and seen as of any moment."""

    def __init__(self, project: Project) -> None:
        self.project, self._file_marks = project, None
        self._rows: pd.DataFrame | None = None

    def read_until(self, known_by: datetime, since: datetime | None = None) -> pd.DataFrame:
        """The rows from ``since`` on as they were known at a moment; as ``read`` gives them, but no row is no error."""
        mark, config = self.describe_files(), self.project.config
        whole = (
            self._rows
            if self._rows is not None and mark is not None and mark == self._file_marks
            else read_source(self.project)
        )
        self._rows, self._file_marks = whole, mark
        if config.time is None:
            return whole
        moments, limit = whole[config.time], pd.Timestamp(known_by)
        kept = (moments < limit) & (moments >= pd.Timestamp(since) if since is not None else True)
        return mask_unknown_values(self.project, whole[kept].reset_index(drop=True), limit)

    def describe_files(self) -> Any:
        """What the source's files look like from outside: None where that cannot be told without reading them."""
        source = self.project.config.source
        if not isinstance(source, str) or "://" in source:
            return None
        if source.startswith("dataset:"):
            return source
        path = resolve_location(self.project, source)
        return [
            (f, os.stat(f).st_mtime_ns, os.stat(f).st_size)
            for f in sorted(glob(path) or [path])
            if os.path.exists(f)
        ]


def mask_unknown_values(project: Project, frame: pd.DataFrame, limit: Any) -> pd.DataFrame:
    """The rows with the values missing that were not known yet at a moment."""
    return frame.assign(
        **{
            c: frame[c].where(compute_known_times(project, frame, c) <= limit)
            for c in [project.config.target, *project.config.known_later]
            if c in frame
        }
    )


def _is_sorted(frame: pd.DataFrame, by: list[str]) -> bool:
    """Whether rows are in order by a moment and one key already: to see it is far quicker than to sort."""
    time, key = frame[by[0]], frame[by[1]]
    if len(by) > 2 or not time.is_monotonic_increasing or key.isna().any():
        return False
    same = time.to_numpy()[1:] == time.to_numpy()[:-1]
    left, right = key.to_numpy()[:-1][same], key.to_numpy()[1:][same]
    return bool((left <= right).all())


def _find_default_as_of(project: Project) -> datetime | None:
    """The moment just after the newest row has got its label: the default of ``as_of``."""
    config = project.config
    if config.time is None:
        return None
    last = parse_timestamps(
        read_raw_source(project)[config.time], config.time, config.timezone
    ).max()
    if pd.isna(last):
        raise RunFailedError(
            f"the time column {config.time!r} holds no moment at all",
            "dates or ISO 8601 moments",
            "mend the source, or name another column under 'time'",
        )
    after: datetime = (last + config.label_delay + pd.Timedelta(microseconds=1)).to_pydatetime()
    return after


def resolve_cutoffs(project: Project) -> Project:
    """The project with both of its moments fixed, so that a run can be repeated."""
    config = project.config
    if config.time is None:
        return project
    as_of = config.as_of or _find_default_as_of(project)
    if as_of and config.until and config.to_utc(config.until) < config.to_utc(as_of):
        raise KitError(
            f"until {config.until:%Y-%m-%d} lies before as_of, which without a value is after the newest row, {as_of:%Y-%m-%d}",
            "as_of at or before until",
            "give as_of too",
        )
    return project.with_values(
        "settled at the start of the run",
        **{name: as_of for name in ("as_of", "until") if getattr(config, name) is None},
    )


def draw_sample(project: Project, frame: pd.DataFrame, rows: int) -> pd.DataFrame:
    """A sample: the newest stretch of time, evenly thinned; without time a draw stratified by the target.

    The stretch is three times the time kept for the review, so that split, folds and intervals by day
    are as in a full run: the newest rows without a gap would be a few days, on which nothing can be
    judged. Where the review keeps a share it is all of the time. ``rows`` of 0, or more than there
    are, is all of them.
    """
    if not rows or rows >= len(frame):
        return frame
    config = project.config
    if config.time:
        test, time = config.split.test, frame[config.time]
        recent = frame[time > time.max() - 3 * test] if isinstance(test, timedelta) else frame
        kept = recent if len(recent) > rows else frame.tail(rows)
        return kept.iloc[np.linspace(0, len(kept) - 1, rows).round().astype(int)].reset_index(
            drop=True
        )
    from sklearn.model_selection import train_test_split

    target = frame[config.target]
    strata = (
        target.astype(str)
        if config.task == "binary" and target.value_counts(dropna=False).min() > 1
        else None
    )
    drawn, _ = train_test_split(
        np.arange(len(frame)), train_size=rows, random_state=config.seed, stratify=strata
    )
    return frame.iloc[np.sort(drawn)].reset_index(drop=True)
