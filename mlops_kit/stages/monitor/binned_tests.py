"""The drift tests of this package, on the rows of each day in each bin of a column.

They need no row, only counts that add up over days, and account for days (``day_effects``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.stages.monitor.column_bins import ColumnBins, assign_bins, make_column_bins
from mlops_kit.stages.monitor.day_effects import (
    DesignEffects,
    estimate_design_effects,
    widen_p_value,
)
from mlops_kit.stats.weights import compute_effective_rows

MAX_COMPARED_CATEGORIES = 50  # most frequent ones that are compared one by one; the rest is pooled
_LOCATION_SHARE = 0.9  # of the significance level; the rest is for changes other than a shift
_MIN_EXPECTED_COUNT = 5  # of a cell of the contingency table (Cochran's rule)


class CountedColumn(NamedTuple):
    """A column on both sides: rows of each day in each bin of the reference.

    The counts of weighted rows add up to the side's effective number of rows.
    """

    bins: ColumnBins
    reference: np.ndarray
    current: np.ndarray

    def select_values(self) -> CountedColumn:
        """Return the counts without those of missing values."""
        end = self.bins.missing_bin
        return self._replace(reference=self.reference[:, :end], current=self.current[:, :end])


class BinnedResult(NamedTuple):
    """A statistic, the effect corrected for its bias, the p-value, and the effective rows."""

    statistic: float
    effect: float
    p_value: float
    effective_rows: float = math.nan


def count_series(
    reference: pd.Series,
    current: pd.Series,
    kind: str,
    weights: tuple[np.ndarray, np.ndarray] | None = None,
) -> CountedColumn:
    """Count both sides of a column in the reference's bins, as rows of one day."""
    bins = make_column_bins(reference, kind)
    counts = []
    for position, side in enumerate((reference, current)):
        assigned = assign_bins(side, bins).bins
        side_weights = None if weights is None else scale_weights(weights[position])
        counted = np.bincount(assigned, side_weights, minlength=bins.size)
        counts.append(counted.astype(float)[None, :])
    return CountedColumn(bins, counts[0], counts[1])


def scale_weights(weights: np.ndarray) -> np.ndarray:
    """Scale weights so that they add up to the effective number of rows."""
    total = weights.sum()
    if not total:
        return weights
    scale = compute_effective_rows(weights) / total
    return np.asarray(weights * scale)


class _Distances(NamedTuple):
    """How far two binned distributions of a number are apart.

    Attributes
    ----------
    distance : float
        The largest distance of the distribution functions.
    score_shift : float
        Difference of the mean normal scores: of normal distributions, the shift in their standard
        deviations.
    score_variance : float
        Variance of a row's normal score among all rows.
    effects : DesignEffects
        Those of the normal score, of the relative rank, and of its distance from the middle.
    """

    distance: float
    score_shift: float
    score_variance: float
    effects: DesignEffects
    reference_rows: float
    current_rows: float


def _measure_distances(column: CountedColumn) -> _Distances:
    """Measure how far the counts of both sides are apart."""
    end = column.bins.value_bins
    reference_days = column.reference[:, :end]
    current_days = column.current[:, :end]
    reference = reference_days.sum(axis=0)
    current = current_days.sum(axis=0)
    reference_rows = reference.sum()
    current_rows = current.sum()
    together = (reference + current) / (reference_rows + current_rows)
    upper_ranks = together.cumsum()
    ranks = upper_ranks - together / 2
    scores = _compute_normal_scores(upper_ranks, together)
    reference_shares = reference / reference_rows
    current_shares = current / current_rows
    distribution_gap = np.abs((reference_shares - current_shares).cumsum())
    effects = estimate_design_effects(
        reference_days,
        current_days,
        np.column_stack([scores, ranks, np.abs(ranks - 0.5)]),
    )
    return _Distances(
        distance=min(1.0, float(distribution_gap.max())),
        score_shift=float(((current_shares - reference_shares) * scores).sum()),
        score_variance=float((together * scores**2).sum()),
        effects=effects,
        reference_rows=float(reference_rows),
        current_rows=float(current_rows),
    )


def _compute_normal_scores(upper_ranks: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Compute the mean normal score of the rows in each bin; their mean over all rows is zero.

    Parameters
    ----------
    upper_ranks : ndarray
        The relative rank at the upper end of each bin.
    shares : ndarray
        The share of all rows in each bin.
    """
    from scipy import special

    ends = special.ndtri(np.clip(np.append(0.0, upper_ranks), 0.0, 1.0))
    densities = np.exp(-(ends**2) / 2) / math.sqrt(2 * math.pi)
    scores = np.divide(
        densities[:-1] - densities[1:],
        shares,
        out=np.zeros_like(shares),
        where=shares > 0,
    )
    return np.asarray(scores)


def measure_ks(column: CountedColumn) -> BinnedResult:
    """Run the Kolmogorov-Smirnov test on counts; see ``drift_tests.run_ks_test``."""
    distances = _measure_distances(column)
    return _measure_ks_distance(distances)


def _measure_ks_distance(distances: _Distances) -> BinnedResult:
    """Compute the effect and the p-value of the largest distance of the distribution functions.

    The p-value is the asymptotic one with Stephens' correction (JRSS B 32 (1970)).
    """
    from scipy import special

    distance = distances.distance
    effects = distances.effects.take_largest()
    reference_rows = distances.reference_rows / float(effects.reference)
    current_rows = distances.current_rows / float(effects.current)
    effective_rows = reference_rows * current_rows / (reference_rows + current_rows)
    root = math.sqrt(effective_rows)
    scaled_distance = distance * (root + 0.12 + 0.11 / root)
    independent_p = special.kolmogorov(scaled_distance)
    return BinnedResult(
        statistic=distance,
        effect=correct_ks_distance(distance, reference_rows, current_rows),
        p_value=float(widen_p_value(independent_p, effects.degrees_of_freedom)),
        effective_rows=min(reference_rows, current_rows),
    )


def correct_ks_distance(
    distance: float,
    reference_rows: float,
    current_rows: float,
) -> float:
    """Correct the Kolmogorov-Smirnov distance for its bias; see ``drift_tests.run_ks_test``."""
    bias = math.pi**2 / 12 * (1 / reference_rows + 1 / current_rows)
    return math.sqrt(max(0.0, distance**2 - bias))


def measure_ranks(column: CountedColumn) -> BinnedResult:
    """Run the test of ranks on counts; see ``drift_tests.run_rank_test``."""
    distances = _measure_distances(column)
    shape = _measure_ks_distance(distances)
    effects = distances.effects
    reference_part = float(effects.reference[0]) / distances.reference_rows
    current_part = float(effects.current[0]) / distances.current_rows
    variance = distances.score_variance * (reference_part + current_part)
    location_p = 1.0
    if variance > 0:
        deviation = abs(distances.score_shift) / math.sqrt(variance)
        normal_p = math.erfc(deviation / math.sqrt(2))
        location_p = float(widen_p_value(normal_p, effects.degrees_of_freedom))
    unbiased_shift = math.sqrt(max(0.0, distances.score_shift**2 - variance))
    # P(X < Y) - 1/2 of normal distributions with this shift.
    rank_shift = math.erf(unbiased_shift / 2) / 2
    location_effect = math.sqrt(2) * rank_shift
    corrected_location_p = location_p / _LOCATION_SHARE
    corrected_shape_p = shape.p_value / (1 - _LOCATION_SHARE)
    return shape._replace(
        effect=max(shape.effect, location_effect),
        p_value=min(corrected_location_p, corrected_shape_p, 1.0),
    )


def measure_cramers_v(column: CountedColumn) -> BinnedResult:
    """Compute Cramér's V on counts; see ``drift_tests.run_cramers_v_test``."""
    pooled = _pool_categories(column.select_values())
    categories = pooled.reference.shape[1]
    if categories < 2:
        return BinnedResult(0.0, 0.0, 1.0)
    counts = np.vstack([pooled.reference.sum(axis=0), pooled.current.sum(axis=0)])
    category_shares = counts.sum(axis=0) / counts.sum()
    effects = _estimate_category_effects(pooled, category_shares)
    rows = counts.sum(axis=1)
    shares = counts / rows[:, None]
    effective_rows = rows / [float(effects.reference), float(effects.current)]
    effective_counts = shares * effective_rows[:, None]
    share_differences = np.diff(shares, axis=0)[0]
    phi2 = float((share_differences**2 / shares.sum(axis=0)).sum() / 2)
    # The symbols of the formula in run_cramers_v_test; its r - 1 is 1 - 1 / (n - 1).
    n = max(2.0, 4 * effective_rows[0] * effective_rows[1] / effective_rows.sum())
    unbiased_phi2 = max(0.0, phi2 - (categories - 1) / (n - 1))
    v_squared = unbiased_phi2 / (1 - 1 / (n - 1) + 1e-12)
    return BinnedResult(
        statistic=math.sqrt(phi2),
        effect=min(1.0, math.sqrt(v_squared)),
        p_value=_compute_chi_square_p_value(effective_counts, effects.degrees_of_freedom),
        effective_rows=float(effective_rows.min()),
    )


def _pool_categories(column: CountedColumn) -> CountedColumn:
    """Pool rare categories: those below the most frequent ones, and those expected too rarely."""
    reference = column.reference
    current = column.current
    totals = np.vstack([reference.sum(axis=0), current.sum(axis=0)])
    smaller_side_rows = totals.sum(axis=1).min()
    expected = totals.sum(axis=0) * smaller_side_rows / totals.sum()
    is_single = expected >= _MIN_EXPECTED_COUNT
    is_single[MAX_COMPARED_CATEGORIES:] = False  # categories are ordered by frequency
    sides = []
    for counts in (reference, current):
        pool = counts[:, ~is_single].sum(axis=1, keepdims=True)
        sides.append(np.hstack([counts[:, is_single], pool]))
    pooled_reference = sides[0]
    pooled_current = sides[1]
    pooled_totals = pooled_reference.sum(axis=0) + pooled_current.sum(axis=0)
    is_used = pooled_totals > 0
    return column._replace(
        reference=pooled_reference[:, is_used],
        current=pooled_current[:, is_used],
    )


def _estimate_category_effects(column: CountedColumn, shares: np.ndarray) -> DesignEffects:
    """Estimate the mean design effect of a chi-square statistic."""
    return estimate_design_effects(
        column.reference,
        column.current,
        np.eye(len(shares)),
        pool_weights=1 / shares,
    )


def _compute_chi_square_p_value(counts: np.ndarray, degrees_of_freedom: float) -> float:
    """Compute the p-value of a contingency table of effective rows."""
    from scipy import special

    side_rows = counts.sum(axis=1)
    category_shares = counts.sum(axis=0) / counts.sum()
    expected = side_rows[:, None] * category_shares
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = counts.shape[1] - 1
    if math.isinf(degrees_of_freedom):
        return float(special.chdtrc(freedom, statistic))
    return float(special.fdtrc(freedom, freedom * degrees_of_freedom, statistic / freedom))
