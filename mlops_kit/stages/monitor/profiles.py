"""Profiles of rows: how many rows of each day are in each bin of each column.

Profiles with the same bins add up. A window is the sum of its days, so another windowing reads no
row again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlops_kit.core.lazy import np, pd
from mlops_kit.stages.monitor.binned_tests import CountedColumn
from mlops_kit.stages.monitor.column_bins import ColumnBins, assign_bins
from mlops_kit.stages.monitor.column_values import format_day_codes


@dataclass(frozen=True)
class DriftProfile:
    """Rows of each day in each bin of some columns.

    Attributes
    ----------
    days : tuple of str
        The days, in order.
    rows, weights, squared_weights : ndarray, shape (days,)
        Number of rows, sum of their weights, and of the squares of these. Without weights all three
        are the same.
    counts : mapping of str to ndarray, shape (days, bins)
        By column, the rows (or their weights) in each bin.
    unseen_names : mapping of str to tuple of str
        By column, some of the values that have no bin.
    """

    days: tuple[str, ...]
    rows: np.ndarray
    weights: np.ndarray
    squared_weights: np.ndarray
    counts: Mapping[str, np.ndarray]
    unseen_names: Mapping[str, tuple[str, ...]]

    @property
    def row_count(self) -> int:
        """Number of all rows."""
        return int(self.rows.sum())

    def select_days(self, is_selected: np.ndarray) -> DriftProfile:
        """Return the profile of some of the days, given by a mask."""
        days = tuple(np.array(self.days, dtype=object)[is_selected].tolist())
        counts = {name: counts[is_selected] for name, counts in self.counts.items()}
        return replace(
            self,
            days=days,
            rows=self.rows[is_selected],
            weights=self.weights[is_selected],
            squared_weights=self.squared_weights[is_selected],
            counts=counts,
        )

    def count_effective_rows(self, column: str) -> np.ndarray:
        """Return the counts of a column, scaled to the effective number of rows."""
        squares = self.squared_weights.sum()
        return self.counts[column] * (self.weights.sum() / squares if squares else 1.0)


def profile_rows(
    frame: pd.DataFrame,
    bins: Mapping[str, ColumnBins],
    days: Any = None,
    weights: np.ndarray | None = None,
) -> DriftProfile:
    """Profile rows in memory.

    Parameters
    ----------
    bins : mapping of str to ColumnBins
        The bins of the columns to profile.
    days : array-like, optional
        The day of each row; by default all rows are of one day. Rows without a day are left out.
    weights : ndarray, optional
        The weight of each row.
    """
    codes, names = format_day_codes(np.full(len(frame), "") if days is None else days)
    has_day = codes >= 0
    counts = {}
    unseen_names = {}
    for name, column_bins in bins.items():
        assigned = assign_bins(frame[name], column_bins)
        positions = codes * column_bins.size + assigned.bins
        counted = np.bincount(
            positions[has_day],
            None if weights is None else weights[has_day],
            minlength=len(names) * column_bins.size,
        )
        counts[name] = counted.astype(float).reshape(len(names), column_bins.size)
        unseen_names[name] = assigned.unseen_names
    row_weights = np.ones(len(frame)) if weights is None else weights
    day_codes = codes[has_day]
    day_weights = row_weights[has_day]
    return DriftProfile(
        days=tuple(names),
        rows=np.bincount(day_codes, minlength=len(names)).astype(float),
        weights=np.bincount(day_codes, day_weights, minlength=len(names)),
        squared_weights=np.bincount(day_codes, day_weights**2, minlength=len(names)),
        counts=counts,
        unseen_names=unseen_names,
    )


def combine_sides(
    column: str,
    bins: ColumnBins,
    reference: DriftProfile,
    current: DriftProfile,
) -> CountedColumn:
    """Combine the counts of a column on both sides."""
    return CountedColumn(
        bins,
        reference.count_effective_rows(column),
        current.count_effective_rows(column),
    )
