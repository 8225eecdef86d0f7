"""Decision costs and the decision threshold that follows from them."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.lazy import np, pd
from mlops_kit.stats.metrics import DEFAULT_THRESHOLD, to_finite_arrays

_COST_TOLERANCE = 1e-12  # costs closer than this are equal


def compute_row_costs(
    y: Any,
    score: Any,
    threshold: float,
    cost_false_alarm: float,
    cost_miss: float,
) -> np.ndarray:
    """Compute the cost of the decision on each row: a false positive, a false negative, or 0."""
    is_flagged = np.asarray(score, dtype=float) >= threshold
    y = np.asarray(y, dtype=float)
    return np.asarray(np.where(is_flagged, cost_false_alarm * (1 - y), cost_miss * y))


def compute_cost_curve(
    y: Any,
    score: Any,
    cost_false_alarm: float,
    cost_miss: float,
    thresholds: Any = None,
    weights: Any = None,
) -> pd.DataFrame:
    """Compute for each threshold how many rows it flags, how well, and at what cost.

    A row is flagged if its score is at least the threshold.

    Parameters
    ----------
    y, score : array-like, shape (rows,)
        Labels and scores; rows in which either is missing are left out.
    cost_false_alarm, cost_miss : float
        Cost of a false positive and of a false negative.
    thresholds : array-like, optional
        The thresholds; by default the hundredths from 0 to 1.
    weights : array-like, optional
        The weight of each row; shares, rows and costs are weighted.

    Returns
    -------
    DataFrame
        threshold, flagged, precision, recall (shares), false_alarms, misses (rows), cost (per row,
        in the unit of the costs).
    """
    y, score, weights = to_finite_arrays(y, score, weights)
    if thresholds is None:
        thresholds = np.linspace(0, 1, 101)
    thresholds = np.asarray(thresholds, dtype=float)
    order = np.argsort(score, kind="stable")
    rows_below = np.searchsorted(score[order], thresholds, side="left")
    # Totals are the last cumulative sums, so that nothing remains of them where no row is flagged.
    cumulated_rows = np.r_[0.0, weights[order].cumsum()]
    cumulated_positives = np.r_[0.0, (weights * y)[order].cumsum()]
    flagged = cumulated_rows[-1] - cumulated_rows[rows_below]
    misses = cumulated_positives[rows_below]
    true_positives = cumulated_positives[-1] - misses
    false_alarms = flagged - true_positives
    positives = np.full(len(thresholds), cumulated_positives[-1])
    rows = cumulated_rows[-1] or 1.0
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "flagged": flagged / rows,
            "precision": _divide_or_nan(true_positives, flagged),
            "recall": _divide_or_nan(true_positives, positives),
            "false_alarms": false_alarms,
            "misses": misses,
            "cost": (cost_false_alarm * false_alarms + cost_miss * misses) / rows,
        }
    )


def _divide_or_nan(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; NaN if the denominator is 0."""
    ratio = np.full(len(numerator), np.nan)
    np.divide(
        numerator,
        denominator,
        out=ratio,
        where=denominator > 0,
    )
    return ratio


def find_best_threshold(
    y: Any,
    score: Any,
    cost_false_alarm: float,
    cost_miss: float,
    weights: Any = None,
) -> float:
    """Find the threshold with the lowest cost on these rows.

    Of several, it is the one nearest to ``cost_false_alarm / (cost_false_alarm + cost_miss)``,
    which is optimal for calibrated probabilities. Without labeled rows it is that one.

    References
    ----------
    Elkan, "The foundations of cost-sensitive learning", IJCAI (2001), equation 2.
    """
    total_cost = cost_false_alarm + cost_miss
    theoretical = cost_false_alarm / total_cost if total_cost > 0 else DEFAULT_THRESHOLD
    y, score, weights = to_finite_arrays(y, score, weights)
    if len(y) == 0:
        return float(theoretical)
    distinct_scores = np.unique(score)
    midpoints = (distinct_scores[1:] + distinct_scores[:-1]) / 2
    above_all = np.nextafter(distinct_scores[-1], np.inf)
    candidates = np.r_[distinct_scores[0], midpoints, above_all, theoretical]
    curve = compute_cost_curve(
        y,
        score,
        cost_false_alarm,
        cost_miss,
        candidates,
        weights,
    )
    costs = curve["cost"].to_numpy()
    cheapest = candidates[costs <= costs.min() + _COST_TOLERANCE]
    return float(cheapest[np.argmin(np.abs(cheapest - theoretical))])
