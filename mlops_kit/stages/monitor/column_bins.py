"""The bins in which a column is compared, made from its reference.

A number is cut at percentiles of the reference. A value that fills a percentile alone is a bin of
its own, and so are the infinities, so that numbers with many ties are compared exactly. A category
is a bin of its own, rare ones included. Values without a bin (new categories, text in a column of
numbers) and missing values are counted beside the others.

Bins are fixed by the reference: counts of different days add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.data.column_kinds import StatisticalKind
from mlops_kit.stages.monitor.column_values import to_categories, to_numbers

COUNTED_KINDS = (  # the kinds of column that have bins
    StatisticalKind.NUMBER,
    StatisticalKind.CATEGORY,
    StatisticalKind.CODE,
    StatisticalKind.BOOLEAN,
)
NUMBER_BINS = 100
MAX_CATEGORY_BINS = 1_000  # categories that are counted one by one; rarer ones share a bin
MAX_LISTED_UNSEEN = 3
TAIL_SHARE = 0.005  # of the reference's values, on either side
_BINS_BESIDE_VALUES = 2  # unseen and missing
_MIN_TABLE_ROWS = 20_000  # of fewer numbers, each bin is searched for
_TABLE_CELLS = 16_384
_SEARCHED = -1  # in the table of cells: the bin has to be searched for


def _make_no_edges() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True)
class ColumnBins:
    """The bins of a column: those of its values, then ``unseen``, then ``missing``.

    Attributes
    ----------
    kind : str
        The statistical kind of the reference's values.
    edges : ndarray
        Of a number: the upper ends of the bins, which belong to them; the last bin has none.
    categories : tuple of str
        Of another kind: the categories, the most frequent first.
    has_others : bool
        Whether the bin after the categories holds all rarer ones, known or not. Otherwise it is
        empty on the reference.
    tails : tuple of two floats
        Of a number: values below the first or above the second are tails.
    distinct : int
        Number of distinct values in the reference; of a number, at most one per bin is counted.
    """

    kind: str
    edges: np.ndarray = field(default_factory=_make_no_edges)
    categories: tuple[str, ...] = ()
    has_others: bool = False
    tails: tuple[float, float] = (-math.inf, math.inf)
    distinct: int = 0

    @property
    def is_number(self) -> bool:
        """Whether the values are compared as numbers."""
        return self.kind == StatisticalKind.NUMBER

    @property
    def value_bins(self) -> int:
        """Number of bins that hold values of the reference."""
        return len(self.edges) + 1 if self.is_number else len(self.categories)

    @property
    def unseen_bin(self) -> int:
        """Position of the bin of values that have no other."""
        return self.value_bins

    @property
    def missing_bin(self) -> int:
        """Position of the bin of missing values."""
        return self.value_bins + 1

    @property
    def size(self) -> int:
        """Number of all bins."""
        return self.value_bins + _BINS_BESIDE_VALUES

    def select_tail_bins(self) -> np.ndarray:
        """Return for each bin whether it is one of the tails of a number."""
        upper_ends = np.append(self.edges, np.inf)
        lower_ends = np.append(-np.inf, self.edges)
        is_tail = (upper_ends < self.tails[0]) | (lower_ends >= self.tails[1])
        return np.append(is_tail, [False] * _BINS_BESIDE_VALUES)

    @cached_property
    def cell_table(self) -> np.ndarray:
        """The bin of each of many equal cells within the tails.

        The outer cells, and those that an edge touches, have none: it has to be searched for.
        """
        borders = np.linspace(self.tails[0], self.tails[1], _TABLE_CELLS + 1)
        border_bins = np.searchsorted(self.edges, borders, side="left")
        table = np.full(_TABLE_CELLS, _SEARCHED, dtype=np.int16)  # small, to stay in the cache
        # An edge in a neighboring cell counts too, because positions are rounded.
        is_exact = border_bins[:-3] == border_bins[3:]
        table[1:-1][is_exact] = border_bins[:-3][is_exact]
        return table


class AssignedBins(NamedTuple):
    """The bin of each row, and the names of some unseen values."""

    bins: np.ndarray
    unseen_names: tuple[str, ...] = ()


def make_column_bins(values: pd.Series, kind: str) -> ColumnBins:
    """Make the bins of a column from its reference.

    Parameters
    ----------
    kind : str
        The kind under which both sides are compared.
    """
    if kind == StatisticalKind.NUMBER:
        numbers = to_numbers(values)
        return make_number_bins(numbers[~np.isnan(numbers)])
    codes, names = to_categories(values)
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    return make_category_bins(dict(zip(names, counts.tolist(), strict=True)), kind)


def make_number_bins(numbers: np.ndarray) -> ColumnBins:
    """Make the bins of a number from its known values in the reference."""
    finite = numbers[np.isfinite(numbers)]
    largest = np.finfo(float).max
    edges = [np.array([-np.inf, largest])]
    tails = (-math.inf, math.inf)
    distinct_count = len(np.unique(numbers[~np.isfinite(numbers)]))
    if len(finite):
        ordered = np.sort(finite)
        shares = np.append(np.linspace(0, 1, NUMBER_BINS + 1), [TAIL_SHARE, 1 - TAIL_SHARE])
        # The least value with at least so many of the values up to it: a value of the reference.
        positions = np.ceil(shares * len(ordered) - 1e-9).astype(int) - 1
        *cuts, low, high = ordered[np.maximum(positions, 0)]
        tails = (float(low), float(high))
        distinct, counts = np.unique(cuts, return_counts=True)
        distinct_count += len(distinct)
        # Each value that fills a bin is separated from smaller ones.
        frequent = distinct if len(distinct) < NUMBER_BINS / 2 else distinct[counts > 1]
        separated = np.append(frequent, [low, distinct[0]])
        ends_of_smaller_values = np.nextafter(separated, -np.inf)
        edges += [distinct, ends_of_smaller_values, np.array([high])]
    return ColumnBins(
        kind=StatisticalKind.NUMBER.value,
        edges=np.unique(np.concatenate(edges)),
        tails=tails,
        distinct=distinct_count,
    )


def make_category_bins(counts: dict[str, int], kind: str) -> ColumnBins:
    """Make the bins of categories from how often each occurs in the reference."""
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return ColumnBins(
        kind=kind,
        categories=tuple(ordered[:MAX_CATEGORY_BINS]),
        has_others=len(ordered) > MAX_CATEGORY_BINS,
        distinct=len(ordered),
    )


def assign_bins(values: pd.Series, bins: ColumnBins) -> AssignedBins:
    """Assign each row to its bin."""
    if bins.is_number:
        return AssignedBins(_assign_number_bins(values, bins))
    codes, names = to_categories(values)
    position_by_name = {name: position for position, name in enumerate(bins.categories)}
    positions = [position_by_name.get(name, bins.unseen_bin) for name in names]
    bin_of_code = np.array([*positions, bins.missing_bin])  # the code -1 is the last one
    unseen = [name for name in names if name not in position_by_name]
    return AssignedBins(bin_of_code[codes], tuple(sorted(unseen)[:MAX_LISTED_UNSEEN]))


def _assign_number_bins(values: pd.Series, bins: ColumnBins) -> np.ndarray:
    """Assign numbers to bins; what is there and not a number is unseen."""
    numbers = to_numbers(values)
    assigned = assign_numbers(numbers, bins)
    if np.isnan(numbers).any():
        is_unseen = np.isnan(numbers) & values.notna().to_numpy()
        assigned[is_unseen] = bins.unseen_bin
    return assigned


def assign_numbers(numbers: np.ndarray, bins: ColumnBins) -> np.ndarray:
    """Assign numbers to bins, NaN to that of missing values.

    With many numbers, most are looked up in a table of equal cells within the tails; only those in
    a cell that an edge touches, and NaN, are searched for.
    """
    low, high = bins.tails
    if len(numbers) < _MIN_TABLE_ROWS or not 0 < high - low < math.inf:
        return _search_bins(numbers, bins)
    with np.errstate(over="ignore", invalid="ignore"):
        positions = numbers - low
        positions *= _TABLE_CELLS / (high - low)
        # What is far outside, or NaN, becomes a position outside the table, which is clipped.
        cells = positions.astype(np.intp)
    assigned = bins.cell_table.take(cells, mode="clip")
    searched = np.flatnonzero(assigned == _SEARCHED)
    assigned[searched] = _search_bins(numbers[searched], bins)
    return assigned


def _search_bins(numbers: np.ndarray, bins: ColumnBins) -> np.ndarray:
    """Search for the bin of each number; NaN is in that of missing values."""
    assigned = np.searchsorted(bins.edges, numbers, side="left")
    assigned[np.isnan(numbers)] = bins.missing_bin
    return assigned
