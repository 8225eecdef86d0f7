"""Where a project's rows come from, and what of them was known by a moment.

``read`` gives the table as it stood at a moment: later rows are not there, and values that became
known only later (the label, and the columns of ``known_later``) are missing. Every stage reads
through here, so no stage can see what was not known then.

To add a source: an entry in ``READERS`` for its file name's ending.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any

from mlops_kit import trace
from mlops_kit.config import Project, Query, duration
from mlops_kit.datasets import DATASETS
from mlops_kit.errors import KitError, RunFailed, nearest
from mlops_kit.late import Late, np, pd

fsspec = Late("fsspec")
ROW = "row_id"  # the key of a table that names none


def read_csv(url: str, limit: int | None) -> pd.DataFrame:
    """A CSV file, or all that match a glob."""
    files = fsspec.open_files(url, "rb", compression="infer")
    if not files:
        raise FileNotFoundError(url)
    parts: list[pd.DataFrame] = []
    for item in files:
        with item as stream:
            parts.append(
                pd.read_csv(
                    stream, nrows=limit, sep="\t" if item.path.lower().endswith(".tsv") else ","
                )
            )
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def read_parquet(url: str, limit: int | None) -> pd.DataFrame:
    """A Parquet file, a folder of them, or a glob."""
    import pyarrow.dataset as ds

    fs, path = fsspec.core.url_to_fs(url)
    found = sorted(fs.glob(path)) if any(c in path for c in "*?[") else path
    if not found:
        raise FileNotFoundError(url)
    table = ds.dataset(found, filesystem=fs, partitioning="hive")
    frame: pd.DataFrame = (table.to_table() if limit is None else table.head(limit)).to_pandas(
        ignore_metadata=False
    )
    return frame


READERS: dict[str, Callable[[str, int | None], pd.DataFrame]] = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".csv.zip": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".xlsx": lambda url, limit: pd.read_excel(url, nrows=limit),
}


def located(project: Project, source: str) -> str:
    """A source's path from the project's folder; URLs stay as they are."""
    return source if "://" in source else str(project.path(source))


def raw(project: Project, limit: int | None = None) -> pd.DataFrame:
    """The source's rows as they are, before anything is made of them.

    Raises
    ------
    KitError
        If the source is missing or cannot be read.
    """
    source = project.config.source
    if isinstance(source, Query):
        return query(source, limit)
    if source.startswith("dataset:"):
        return DATASETS[source.removeprefix("dataset:")](limit)
    return table(
        located(project, source), limit, f"source: {source!r}", "edit 'source' in mlops.yaml"
    )


def table(
    url: str, limit: int | None = None, said: str = "", cure: str = "name another file"
) -> pd.DataFrame:
    """The rows of a file, a folder of Parquet files or a glob; ``said`` is how errors call it.

    Raises
    ------
    KitError
        If it is missing, is of no kind that is known, or cannot be read.
    """
    said = said or repr(url)
    ending = next(
        (e for e in READERS if url.lower().endswith(e)),
        ".parquet" if "://" in url or os.path.isdir(url) else "",
    )
    if not ending:
        problem = "has an ending that is not known" if os.path.exists(url) else "does not exist"
        raise KitError(
            f"{said} {problem}",
            f"a file ending in {', '.join(READERS)}, a folder of Parquet files, or dataset:{' or dataset:'.join(DATASETS)}",
            cure,
        )
    try:
        if "://" in url:
            trace.unknowable.add(url)
        elif not any(c in url for c in "*?[") and not os.path.exists(url):
            raise FileNotFoundError(url)
        else:
            trace.file(url)
        return READERS[ending](url, limit)
    except FileNotFoundError as error:
        raise KitError(
            f"{said} does not exist", f"a file at {url}", f"{cure}, or put the file there"
        ) from error
    except (ValueError, OSError) as error:
        raise KitError(
            f"{said} cannot be read: {str(error).splitlines()[0]}",
            f"a {ending.lstrip('.')} file with a header",
            "look at the file's first lines",
        ) from error


def query(source: Query, limit: int | None) -> pd.DataFrame:
    """The rows of a SQL query; ``${NAME}`` in the URL comes from the environment."""
    import sqlalchemy

    trace.unknowable.add("a query")
    missing = [n for n in re.findall(r"\$\{(\w+)\}", source.url) if n not in os.environ]
    if missing:
        raise KitError(
            f"source.url needs the environment variable {missing[0]!r}, which is not set",
            "its value in the environment",
            f"export {missing[0]}=…",
        )
    sql = (
        source.sql.rstrip("; \n")
        if limit is None
        else f"SELECT * FROM ({source.sql.rstrip('; ')}) AS q LIMIT {limit}"
    )  # noqa: S608 - the project's own query
    try:
        return pd.read_sql(sqlalchemy.text(sql), os.path.expandvars(source.url))
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise KitError(
            f"source.sql failed: {str(error).splitlines()[0]}",
            "a SELECT that the database answers",
            "edit 'source' in mlops.yaml",
        ) from error


def columns(project: Project) -> list[str]:
    """The source's column names, without reading all of it.

    Raises
    ------
    RunFailed
        If the source has no rows.
    """
    if names := glance(project):
        return names
    frame = raw(project, limit=5)
    if frame.empty:
        raise no_rows(project)
    return list(map(str, frame.columns))


def glance(project: Project) -> list[str]:
    """The columns of a local CSV file that has rows; empty where it takes pandas (a second to import) to tell."""
    source = project.config.source
    path = project.path(source) if isinstance(source, str) else Path()
    if path.suffix.lower() != ".csv" or not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            names, row = [*islice(csv.reader(stream), 2)]
    except (ValueError, csv.Error):
        return []
    return names if all(names) and len(names) == len(set(names)) == len(row) else []


def no_rows(project: Project) -> RunFailed:
    """The error of a source that is empty."""
    return RunFailed(
        f"the source {str(project.config.source)!r} has no rows",
        "at least a header and some rows",
        "look at what fills it",
    )


def check_columns(project: Project) -> None:
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
    config, known = project.config, columns(project)
    lists = {
        "target": [config.target],
        "id": config.id,
        "time": [config.time] if config.time else [],
        "leave_out": config.leave_out,
        "known_later": config.known_later,
        "review.slices": [] if config.features else config.review.slices,
    }
    named = [
        *((field, c) for field, names in lists.items() for c in names),
        *((f"known_later.{c}", v) for c, v in config.known_later.items() if not is_duration(v)),
    ]
    said = [
        f"{field}: column {column!r} is not in the source; expected {nearest(column, known)}"
        for field, column in named
        if column not in known
    ]
    if said:
        raise KitError(
            "mlops.yaml does not fit the data:\n  " + "\n  ".join(said), cure="edit mlops.yaml"
        )


def is_duration(text: str | timedelta) -> bool:
    """Whether a ``known_later`` entry is a delay and not a column."""
    try:
        duration(text)
    except ValueError:
        return False
    return True


def moments(values: pd.Series, name: str, zone: str) -> pd.Series:
    """A column of moments as UTC, microseconds; naive ones are read in the project's zone.

    Moments that the clock change makes doubtful are taken as the later (standard) ones.
    """
    if (
        pd.api.types.is_numeric_dtype(values) and values.notna().any()
    ):  # pandas would take them as nanoseconds since 1970
        raise RunFailed(
            f"the time column {name!r} holds numbers: {values.dropna().iloc[0]!s}",
            "dates or ISO 8601 moments",
            "write them as moments in the source, or name another column under 'time'",
        )
    try:
        parsed = pd.to_datetime(
            values,
            format=None if pd.api.types.is_datetime64_any_dtype(values) else "ISO8601",
            errors="raise",
        )
    except (ValueError, TypeError):
        parsed = pd.to_datetime(values, errors="coerce", format="mixed")
        if parsed.isna().sum() > 0.5 * len(values):
            raise RunFailed(
                f"the time column {name!r} does not hold moments: {values.dropna().iloc[0]!r}",
                "dates or ISO 8601 moments",
                "name another column under 'time'",
            ) from None
    if parsed.dt.tz is None:
        parsed = parsed.dt.tz_localize(zone, ambiguous=False, nonexistent="shift_forward")
    return parsed.dt.tz_convert("UTC").astype("datetime64[us, UTC]")


def known_at(project: Project, frame: pd.DataFrame, column: str) -> pd.Series:
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
    return frame[config.time] + duration(rule) if is_duration(rule) else frame[rule]


def read(project: Project, known_by: datetime | None = None) -> pd.DataFrame:
    """The source as it was known at a moment, in the order of time.

    Rows after ``known_by`` are not there; a value known only after it is missing. A table without
    time comes whole and in its own order. A table without an ``id`` gets its position as ``row_id``.

    Raises
    ------
    RunFailed
        If the table is empty, or has no row by that moment.
    """
    config = project.config
    frame = raw(project)
    if frame.empty:
        raise no_rows(project)
    absent = [
        c
        for c in {config.target, *config.id, *([config.time] if config.time else [])}
        if c not in frame.columns
    ]
    if absent:
        raise RunFailed(
            f"the source has no column {absent[0]!r}",
            nearest(absent[0], frame.columns),
            "edit mlops.yaml, or mend the source",
        )
    if not config.id:
        frame.insert(0, ROW, range(len(frame)))
    if config.time is None:
        return frame
    frame[config.time] = moments(frame[config.time], config.time, config.timezone)
    for rule in set(config.known_later.values()):
        if not is_duration(rule):
            frame[rule] = moments(frame[rule], rule, config.timezone)
    if known_by is not None:
        limit = pd.Timestamp(known_by)
        frame = masked(project, frame[~(frame[config.time] >= limit)], limit)
    if frame.empty:
        raise RunFailed(
            f"no row of the source was known by {known_by:%Y-%m-%d %H:%M} UTC",
            "an as_of after the first rows",
            "mlops run --as-of …",
        )
    by = [config.time, *keys(project)]
    return (
        frame.reset_index(drop=True)
        if in_order(frame, by)
        else frame.sort_values(by, kind="stable", ignore_index=True)
    )


class History:
    """The source, read again only when its files have changed, and seen as of any moment."""

    def __init__(self, project: Project) -> None:
        self.project, self.mark = project, None
        self.whole: pd.DataFrame | None = None

    def upto(self, known_by: datetime, since: datetime | None = None) -> pd.DataFrame:
        """The rows from ``since`` on as they were known at a moment; as ``read`` gives them, but no row is no error."""
        mark, config = self.files(), self.project.config
        whole = (
            self.whole
            if self.whole is not None and mark is not None and mark == self.mark
            else read(self.project)
        )
        self.whole, self.mark = whole, mark
        if config.time is None:
            return whole
        moments, limit = whole[config.time], pd.Timestamp(known_by)
        kept = (moments < limit) & (moments >= pd.Timestamp(since) if since is not None else True)
        return masked(self.project, whole[kept].reset_index(drop=True), limit)

    def files(self) -> Any:
        """What the source's files look like from outside: None where that cannot be told without reading them."""
        source = self.project.config.source
        if not isinstance(source, str) or "://" in source:
            return None
        if source.startswith("dataset:"):
            return source
        path = located(self.project, source)
        return [
            (f, os.stat(f).st_mtime_ns, os.stat(f).st_size)
            for f in sorted(glob(path) or [path])
            if os.path.exists(f)
        ]


def masked(project: Project, frame: pd.DataFrame, limit: Any) -> pd.DataFrame:
    """The rows with the values missing that were not known yet at a moment."""
    return frame.assign(
        **{
            c: frame[c].where(known_at(project, frame, c) <= limit)
            for c in [project.config.target, *project.config.known_later]
            if c in frame
        }
    )


def in_order(frame: pd.DataFrame, by: list[str]) -> bool:
    """Whether rows are in order by a moment and one key already: to see it is far quicker than to sort."""
    time, key = frame[by[0]], frame[by[1]]
    if len(by) > 2 or not time.is_monotonic_increasing or key.isna().any():
        return False
    same = time.to_numpy()[1:] == time.to_numpy()[:-1]
    left, right = key.to_numpy()[:-1][same], key.to_numpy()[1:][same]
    return bool((left <= right).all())


def keys(project: Project) -> list[str]:
    """The columns that name a row."""
    return list(project.config.id) or [ROW]


def newest(project: Project) -> datetime | None:
    """The moment just after the newest row has got its label: the default of ``as_of``."""
    config = project.config
    if config.time is None:
        return None
    last = moments(raw(project)[config.time], config.time, config.timezone).max()
    if pd.isna(last):
        raise RunFailed(
            f"the time column {config.time!r} holds no moment at all",
            "dates or ISO 8601 moments",
            "mend the source, or name another column under 'time'",
        )
    after: datetime = (last + config.label_delay + pd.Timedelta(microseconds=1)).to_pydatetime()
    return after


def settled(project: Project) -> Project:
    """The project with both of its moments fixed, so that a run can be repeated."""
    config = project.config
    if config.time is None:
        return project
    as_of = config.as_of or newest(project)
    if as_of and config.until and config.utc(config.until) < config.utc(as_of):
        raise KitError(
            f"until {config.until:%Y-%m-%d} lies before as_of, which without a value is after the newest row, {as_of:%Y-%m-%d}",
            "as_of at or before until",
            "give as_of too",
        )
    return project.with_values(
        "settled at the start of the run",
        **{name: as_of for name in ("as_of", "until") if getattr(config, name) is None},
    )


def thinned(project: Project, frame: pd.DataFrame, rows: int) -> pd.DataFrame:
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
