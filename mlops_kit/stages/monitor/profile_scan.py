# ruff: noqa: S608 - names in the SQL are quoted
"""Profiles of Parquet files: one scan by DuckDB, counted in batches, so that rows need no memory.

No Python code runs per row: numbers are assigned to their bins, and categories to theirs through a
dictionary, batch by batch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.stages.monitor.column_bins import MAX_LISTED_UNSEEN, ColumnBins, assign_numbers
from mlops_kit.stages.monitor.column_values import format_categories
from mlops_kit.stages.monitor.profiles import DriftProfile

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_BATCH_ROWS = 131_072
_SLOT_SECONDS = 900  # every time zone begins its days at a multiple of 15 minutes
_MICROSECONDS = 1_000_000
_MICROSECOND_TYPES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
_SLOT_COLUMN = "time slot"
_MISSING_SUFFIX = " is missing"


class _DayCalendar(NamedTuple):
    """The days of all time slots from the first one of the rows."""

    days: list[str]
    first_slot: int
    day_codes: np.ndarray


def profile_parquet(
    file: Path,
    bins: Mapping[str, ColumnBins],
    time_column: str,
    timezone: str = "UTC",
) -> DriftProfile:
    """Profile the rows of Parquet files by day.

    Parameters
    ----------
    file : Path
        A file, or a pattern of several.
    bins : mapping of str to ColumnBins
        The bins of the columns to profile.
    time_column : str
        The column of timestamps; rows without one are left out.
    timezone : str
        The time zone in which a day begins.
    """
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        source = "read_parquet('{}')".format(str(file).replace("'", "''"))
        time = _quote(time_column)
        time_type = str(connection.sql(f"SELECT {time} FROM {source} LIMIT 0").types[0])
        if time_type not in _MICROSECOND_TYPES:
            time += "::TIMESTAMPTZ"  # a text without a zone is in UTC
        slot = f"(epoch_us({time}) // {_SLOT_SECONDS * _MICROSECONDS})::INTEGER"
        condition = f"{_quote(time_column)} IS NOT NULL"
        relation = f"(SELECT {slot} AS {_quote(_SLOT_COLUMN)}, * FROM {source} WHERE {condition})"
        calendar = _make_calendar(connection, relation, timezone)
        counter = _BatchCounter(bins, calendar)
        reader = connection.sql(_select_columns(connection, relation, bins))
        # NumPy and Arrow work without the interpreter's lock: columns are counted in parallel.
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for batch in reader.to_arrow_reader(_BATCH_ROWS):
                counter.count(batch, threads)
    return counter.make_profile()


def _quote(name: str) -> str:
    """Quote the name of a column for SQL."""
    return '"{}"'.format(name.replace('"', '""'))


def _make_calendar(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    timezone: str,
) -> _DayCalendar:
    """Find the days of the rows: the conversion to a time zone is done by slot, not by row."""
    slot = _quote(_SLOT_COLUMN)
    first, last = connection.sql(f"SELECT min({slot}), max({slot}) FROM {relation}").fetchall()[0]
    if first is None:
        return _DayCalendar([], 0, np.empty(0, dtype=np.intp))
    seconds = np.arange(first, last + 1) * _SLOT_SECONDS
    local = pd.to_datetime(seconds, unit="s", utc=True).tz_convert(timezone)
    codes, days = pd.factorize(local.tz_localize(None).normalize())
    return _DayCalendar(pd.DatetimeIndex(days).strftime("%Y-%m-%d").tolist(), first, codes)


def _select_columns(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    bins: Mapping[str, ColumnBins],
) -> str:
    """Return the query of all columns; text in place of numbers comes with where it is missing."""
    described = connection.sql(f"SELECT * FROM {relation} LIMIT 0")
    types = dict(zip(described.columns, map(str, described.types), strict=True))
    selected = [_quote(_SLOT_COLUMN)]
    for name, column in bins.items():
        quoted = _quote(name)
        if not column.is_number or types[name] == "DOUBLE":
            selected.append(quoted)
            continue
        selected.append(f"TRY_CAST({quoted} AS DOUBLE) AS {quoted}")
        selected.append(f"{quoted} IS NULL AS {_quote(name + _MISSING_SUFFIX)}")
    return f"SELECT {', '.join(selected)} FROM {relation}"


class _BatchCounter:
    """The counts of all columns, to which batches are added."""

    def __init__(
        self,
        bins: Mapping[str, ColumnBins],
        calendar: _DayCalendar,
    ) -> None:
        self.bins = bins
        self.calendar = calendar
        day_count = len(calendar.days)
        self.rows = np.zeros(day_count)
        self.counts = {name: np.zeros(day_count * column.size) for name, column in bins.items()}
        self.unseen_names: dict[str, set[str]] = {name: set() for name in bins}

    def count(
        self,
        batch: pa.RecordBatch,
        threads: ThreadPoolExecutor,
    ) -> None:
        """Add the rows of a batch."""
        slots = batch.column(_SLOT_COLUMN).to_numpy()
        day_codes = self.calendar.day_codes[slots - self.calendar.first_slot]
        self.rows += np.bincount(day_codes, minlength=len(self.rows))
        # Most columns have the same number of bins, and so the same first position of each day.
        sizes = {column.size for column in self.bins.values()}
        first_positions = {size: day_codes * size for size in sizes}
        for _ in threads.map(partial(self._count_column, batch, first_positions), self.bins):
            pass  # an error of a thread is raised here

    def _count_column(
        self,
        batch: pa.RecordBatch,
        first_positions: Mapping[int, np.ndarray],
        name: str,
    ) -> None:
        """Add the rows of a batch to the counts of one column."""
        column = self.bins[name]
        if column.is_number:
            assigned = _assign_numbers_of_batch(batch, name, column)
        else:
            assigned = self._assign_categories_of_batch(batch, name, column)
        counts = self.counts[name]
        positions = first_positions[column.size] + assigned
        counts += np.bincount(positions, minlength=len(counts))

    def _assign_categories_of_batch(
        self,
        batch: pa.RecordBatch,
        name: str,
        column: ColumnBins,
    ) -> np.ndarray:
        """Assign the categories of a batch to bins."""
        encoded = batch.column(name).dictionary_encode()
        names = format_categories(encoded.dictionary.to_pylist())
        positions = {category: position for position, category in enumerate(column.categories)}
        bin_of_code = [positions.get(category, column.unseen_bin) for category in names]
        self.unseen_names[name].update(set(names) - positions.keys())
        codes = encoded.indices.fill_null(len(names)).to_numpy()
        return np.asarray(np.array([*bin_of_code, column.missing_bin])[codes])

    def make_profile(self) -> DriftProfile:
        """Make the profile of all batches; days without rows are left out."""
        counts = {}
        unseen_names = {}
        for name, column in self.bins.items():
            counts[name] = self.counts[name].reshape(len(self.rows), column.size)
            unseen_names[name] = tuple(sorted(self.unseen_names[name])[:MAX_LISTED_UNSEEN])
        days = tuple(self.calendar.days)
        profile = DriftProfile(
            days=days,
            rows=self.rows,
            weights=self.rows,
            squared_weights=self.rows,
            counts=counts,
            unseen_names=unseen_names,
        )
        return profile.select_days(self.rows > 0)


def _assign_numbers_of_batch(
    batch: pa.RecordBatch,
    name: str,
    column: ColumnBins,
) -> np.ndarray:
    """Assign the numbers of a batch to bins; NaN in a column of numbers is a missing value."""
    numbers = batch.column(name).to_numpy(zero_copy_only=False)
    assigned = assign_numbers(numbers, column)
    if name + _MISSING_SUFFIX in batch.schema.names:
        is_missing = batch.column(name + _MISSING_SUFFIX).to_numpy(zero_copy_only=False)
        assigned[np.isnan(numbers) & ~is_missing] = column.unseen_bin
    return assigned
