"""What a column's drift costs, and how its distributions differ.

The cost is valid only while the target depends on the features as it did at the review. See
``performance_estimate`` for the estimated performance of a window.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import to_score_array
from mlops_kit.data.column_kinds import StatisticalKind, infer_statistical_kind
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.column_values import to_categories, to_numbers
from mlops_kit.stages.monitor.drift_tests import SideWeights
from mlops_kit.stats.metrics import METRICS, compute_metric

REFERENCE_BINS = 10  # of a number's reference values; missing values have a bin of their own
# Smallest share of the reference's rows that must still count after reweighting, and largest share
# of current rows in bins that the reference does not have.
_MIN_EFFECTIVE_SHARE = 0.1
_MAX_UNSEEN_SHARE = 0.1


class _BinnedColumn(NamedTuple):
    """A column's bins: their labels, the shares of either side, the reference's bin by row."""

    labels: list[str]
    reference_shares: np.ndarray
    current_shares: np.ndarray
    reference_bins: np.ndarray


class ReferenceMetric(NamedTuple):
    """The headline metric on the labeled reference, and the decision threshold that it is for."""

    value: float
    threshold: float | None = None


def _assign_bins(
    reference: pd.Series,
    current: pd.Series,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Assign both sides of a column to bins; also return the bins' labels.

    A number is cut at the reference's deciles. A category is a bin of its own; rare and new ones
    share one, and missing values have one.
    """
    kind = infer_statistical_kind(reference)
    is_number = kind in (StatisticalKind.NUMBER, StatisticalKind.CODE)
    if is_number and reference.nunique() > REFERENCE_BINS:
        return _assign_quantile_bins(reference, current)
    return _assign_category_bins(reference, current)


def _assign_quantile_bins(
    reference: pd.Series,
    current: pd.Series,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Cut numbers at the quantiles of the reference; what is not a number counts as missing."""
    sides = [to_numbers(reference), to_numbers(current)]
    quantiles = np.linspace(0, 1, REFERENCE_BINS + 1)[1:-1]
    cuts = np.unique(np.quantile(sides[0][~np.isnan(sides[0])], quantiles))
    ends = [f"{cut:.3g}" for cut in cuts]
    inner = [f"{low} – {high}" for low, high in pairwise(ends)]
    labels = [f"< {ends[0]}", *inner, f"≥ {ends[-1]}", "missing"]
    missing_bin = len(cuts) + 1
    assigned = []
    for numbers in sides:
        bins = np.searchsorted(cuts, numbers, side="right")
        assigned.append(np.where(np.isnan(numbers), missing_bin, bins))
    return assigned[0], assigned[1], labels


def _assign_category_bins(
    reference: pd.Series,
    current: pd.Series,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Give each of the reference's most frequent categories a bin of its own."""
    sides = [to_categories(reference), to_categories(current)]
    codes, names = sides[0]
    counts = pd.Series(np.bincount(codes[codes >= 0], minlength=len(names)), index=names)
    top = sorted(counts.sort_values(ascending=False, kind="stable").head(REFERENCE_BINS).index)
    bin_by_category = {category: position for position, category in enumerate(top)}
    others_bin = len(top)
    missing_bin = others_bin + 1
    assigned = []
    for side in sides:
        positions = [bin_by_category.get(name, others_bin) for name in side.names]
        assigned.append(np.array([*positions, missing_bin])[side.codes])
    return assigned[0], assigned[1], [*top, "others", "missing"]


def _bin_column(
    reference: pd.Series,
    current: pd.Series,
    weights: SideWeights | None = None,
) -> _BinnedColumn:
    """Bin a column, and compute the share of each bin on either side."""
    reference_bins, current_bins, labels = _assign_bins(reference, current)
    reference_weights, current_weights = weights or (None, None)
    return _BinnedColumn(
        labels,
        _compute_bin_shares(reference_bins, len(labels), reference_weights),
        _compute_bin_shares(current_bins, len(labels), current_weights),
        reference_bins,
    )


def _compute_bin_shares(
    bins: np.ndarray,
    bin_count: int,
    weights: np.ndarray | None,
) -> np.ndarray:
    if weights is None:
        return np.bincount(bins, minlength=bin_count) / max(len(bins), 1)
    totals = np.bincount(bins, weights, bin_count)
    return np.asarray(totals / weights.sum())


def estimate_drift_cost(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    column: str,
    config: ProjectConfig,
    reference_metric: ReferenceMetric,
    weights: SideWeights | None = None,
) -> tuple[float, float]:
    """Estimate what the drift of one column costs in the headline metric.

    The labeled reference is weighted by the column's density ratio over bins, and the metric is
    computed again; no model is called.

    Parameters
    ----------
    reference_metric : ReferenceMetric
        The headline metric on the reference as it is.
    weights : SideWeights, optional
        The weights of the rows of both sides.

    Returns
    -------
    cost, effective_share : float
        A positive cost means that the metric becomes worse. The share of rows that the estimate
        rests on is the effective sample size (Σw)² / (n Σw²). Below a tenth, or with a bin that the
        reference does not have, the cost is NaN.
    """
    binned = _bin_column(reference[column], current[column], weights)
    in_reference = binned.reference_shares > 0
    unseen_share = float(binned.current_shares[~in_reference].sum())
    density_ratio = np.divide(
        binned.current_shares,
        binned.reference_shares,
        out=np.zeros_like(binned.current_shares),
        where=in_reference,
    )
    row_weights = density_ratio[binned.reference_bins]
    if weights is not None:
        row_weights = row_weights * weights.reference
    effective_share = 0.0
    if row_weights.any():
        squares = len(row_weights) * (row_weights**2).sum()
        effective_share = float(row_weights.sum() ** 2 / squares)
    if effective_share < _MIN_EFFECTIVE_SHARE or unseen_share > _MAX_UNSEEN_SHARE:
        return math.nan, effective_share
    metric = METRICS[config.headline_metric]
    weighted_value = metric.function(
        reference[config.target].to_numpy(float),
        to_score_array(reference["score"]),
        reference_metric.threshold,
        row_weights,
    )
    return -metric.compute_gain(weighted_value, reference_metric.value), effective_share


def estimate_drift_costs(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: list[str],
    config: ProjectConfig,
    weights: SideWeights | None = None,
    threshold: float | None = None,
) -> dict[str, float]:
    """Estimate what the drift of each of some columns costs; NaN where it is not known.

    Parameters
    ----------
    reference : DataFrame
        The rows that the model was evaluated on: features, ``score`` and the target as a number.
    current : DataFrame
        The features of the window.
    weights : SideWeights, optional
        The weights of the rows of both sides.
    threshold : float, optional
        The decision threshold; 0.5 if there is none.
    """
    is_labeled = reference[config.target].notna().to_numpy()
    labeled = reference[is_labeled].reset_index(drop=True)
    if weights is not None:
        weights = SideWeights(weights.reference[is_labeled], weights.current)
    reference_value = math.nan
    if len(labeled):
        reference_value = compute_metric(
            config.headline_metric,
            labeled[config.target],
            labeled["score"],
            threshold,
            weights=None if weights is None else weights.reference,
        )
    costs = {}
    for column in columns:
        if column in labeled and column in current:
            cost, _ = estimate_drift_cost(
                labeled,
                current,
                column,
                config,
                ReferenceMetric(reference_value, threshold),
                weights,
            )
            costs[column] = cost
    return costs


def compare_distributions(
    reference: pd.Series,
    current: pd.Series,
    weights: SideWeights | None = None,
) -> dict[str, Any]:
    """Compare both distributions of a column in a few bins, for a chart.

    With weights of the rows of both sides, shares are weighted.

    Returns
    -------
    dict
        ``bins`` (labels), and the shares ``reference`` and ``current``; empty bins are left out.
    """
    binned = _bin_column(reference, current, weights)
    comparison: dict[str, Any] = {"bins": [], "reference": [], "current": []}
    shares = zip(binned.labels, binned.reference_shares, binned.current_shares, strict=True)
    for label, reference_share, current_share in shares:
        if reference_share or current_share:
            comparison["bins"].append(label)
            comparison["reference"].append(round(float(reference_share), 4))
            comparison["current"].append(round(float(current_share), 4))
    return comparison
