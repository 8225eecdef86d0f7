"""Profiles of Parquet files: one scan, counted in batches, so that rows need no memory.

No Python code runs per row: numbers are assigned to their bins, and categories to theirs through
the dictionary that a column has in the file, batch by batch. The scan is that of PyArrow: numbers
and dictionaries come as NumPy arrays, without the conversion that the result of a query needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.stages.monitor.column_bins import (
    MAX_LISTED_UNSEEN,
    ColumnBins,
    assign_bins,
    assign_numbers,
)
from mlops_kit.stages.monitor.column_values import format_categories
from mlops_kit.stages.monitor.profiles import DriftProfile

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 131_072
_SLOT_SECONDS = 900  # every time zone begins its days at a multiple of 15 minutes


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
        The column of timestamps; those without a time zone are in UTC. Rows without one are left
        out.
    timezone : str
        The time zone in which a day begins.
    """
    files = sorted(glob(str(file))) or [str(file)]
    calendar = _make_calendar(files, time_column, timezone)
    counter = _BatchCounter(bins, calendar)
    columns = list(dict.fromkeys([time_column, *bins]))
    text_columns = [name for name, column in bins.items() if not column.is_number]
    # NumPy and Arrow work without the interpreter's lock: columns are counted in parallel.
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for batch in _read_batches(files, columns, text_columns):
            times = batch.column(time_column)
            has_time = batch.filter(times.is_valid()) if times.null_count else batch
            if has_time.num_rows:
                slots = _compute_slots(has_time.column(time_column))
                counter.count(has_time, slots, threads)
    return counter.make_profile()


def _read_batches(
    files: Sequence[str],
    columns: Sequence[str],
    dictionary_columns: Sequence[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Read some columns of all files, batch by batch; text by its dictionary where it has one."""
    import pyarrow.parquet as pq

    for file in files:
        with pq.ParquetFile(file, read_dictionary=list(dictionary_columns)) as parquet_file:
            # A reader of all row groups would load the whole file first.
            for group in range(parquet_file.num_row_groups):
                yield from parquet_file.iter_batches(
                    _BATCH_ROWS,
                    row_groups=[group],
                    columns=list(columns),
                )


def _compute_slots(times: pa.Array) -> np.ndarray:
    """Compute the time slot of each time; a text without a time zone is in UTC."""
    import pyarrow as pa

    if not pa.types.is_temporal(times.type):
        parsed = pd.to_datetime(times.to_pandas(), utc=True, format="ISO8601")
        values = parsed.dt.tz_localize(None).to_numpy()
    else:
        values = times.to_numpy(zero_copy_only=False)
    seconds = values.astype("datetime64[s]").astype(np.int64)
    return np.asarray(seconds // _SLOT_SECONDS)


def _make_calendar(files: Sequence[str], time_column: str, timezone: str) -> _DayCalendar:
    """Find the days of the rows: the conversion to a time zone is done by slot, not by row."""
    bounds = []
    for batch in _read_batches(files, [time_column]):
        times = batch.column(0).drop_null()
        if len(times):
            slots = _compute_slots(times)
            bounds += [int(slots.min()), int(slots.max())]
    if not bounds:
        return _DayCalendar([], 0, np.empty(0, dtype=np.intp))
    first = min(bounds)
    seconds = np.arange(first, max(bounds) + 1) * _SLOT_SECONDS
    local = pd.to_datetime(seconds, unit="s", utc=True).tz_convert(timezone)
    codes, days = pd.factorize(local.tz_localize(None).normalize())
    return _DayCalendar(pd.DatetimeIndex(days).strftime("%Y-%m-%d").tolist(), first, codes)


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
        slots: np.ndarray,
        threads: ThreadPoolExecutor,
    ) -> None:
        """Add the rows of a batch, which has at least one, by the time slots of its rows."""
        day_codes = self.calendar.day_codes[slots - self.calendar.first_slot]
        self.rows += np.bincount(day_codes, minlength=len(self.rows))
        # Rows in the order of time have few days in a batch: only these are counted.
        first_day = int(day_codes.min())
        later_days = day_codes - first_day
        # Most columns have the same number of bins, and so the same first position of each day.
        sizes = {column.size for column in self.bins.values()}
        first_positions = {size: later_days * size for size in sizes}
        count_column = partial(self._count_column, batch, first_day, first_positions)
        for _ in threads.map(count_column, self.bins):
            pass  # an error of a thread is raised here

    def _count_column(
        self,
        batch: pa.RecordBatch,
        first_day: int,
        first_positions: Mapping[int, np.ndarray],
        name: str,
    ) -> None:
        """Add the rows of a batch to the counts of one column."""
        column = self.bins[name]
        if column.is_number:
            assigned = _assign_numbers_of_batch(batch.column(name), column)
        else:
            assigned = self._assign_categories_of_batch(batch, name, column)
        counted = np.bincount(first_positions[column.size] + assigned)
        start = first_day * column.size
        self.counts[name][start : start + len(counted)] += counted

    def _assign_categories_of_batch(
        self,
        batch: pa.RecordBatch,
        name: str,
        column: ColumnBins,
    ) -> np.ndarray:
        """Assign the categories of a batch to bins."""
        encoded = _encode_dictionary(batch.column(name))
        names = format_categories(encoded.dictionary.to_pylist())
        positions = {category: position for position, category in enumerate(column.categories)}
        bin_of_code = [positions.get(category, column.unseen_bin) for category in names]
        codes = encoded.indices.fill_null(len(names)).to_numpy()
        bins_of_rows = np.array([*bin_of_code, column.missing_bin])[codes]
        if column.unseen_bin in bin_of_code:
            # The dictionary of a file may have names that no row of the batch has.
            unseen_codes = np.unique(codes[bins_of_rows == column.unseen_bin])
            self.unseen_names[name].update(names[code] for code in unseen_codes)
        return np.asarray(bins_of_rows)

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


def _encode_dictionary(values: pa.Array) -> pa.DictionaryArray:
    """Encode values by a dictionary that is not larger than they are."""
    import pyarrow as pa

    if not pa.types.is_dictionary(values.type):
        return values.dictionary_encode()
    if len(values.dictionary) > len(values):
        return values.dictionary_decode().dictionary_encode()
    return values


def _assign_numbers_of_batch(values: pa.Array, column: ColumnBins) -> np.ndarray:
    """Assign the numbers of a batch to bins; NaN in a column of numbers is a missing value."""
    import pyarrow as pa

    if pa.types.is_float64(values.type):
        return assign_numbers(values.to_numpy(zero_copy_only=False), column)
    return assign_bins(values.to_pandas(), column).bins
