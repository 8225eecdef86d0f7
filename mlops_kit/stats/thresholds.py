"""Thresholds."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.lazy import np, pd
from mlops_kit.stats.metrics import to_finite_arrays


def compute_row_costs(
    y: Any, score: Any, threshold: float, cost_false_alarm: float, cost_miss: float
) -> np.ndarray:
    """What the decision on each row costs: a false alarm, a miss, or nothing."""
    flagged, y = np.asarray(score, dtype=float) >= threshold, np.asarray(y, dtype=float)
    return np.asarray(np.where(flagged, cost_false_alarm * (1 - y), cost_miss * y))


def compute_cost_curve(
    y: Any, score: Any, cost_false_alarm: float, cost_miss: float, thresholds: Any = None
) -> pd.DataFrame:
    """What each threshold flags, catches and costs; a row is flagged if its score is at least the threshold.

    Parameters
    ----------
    thresholds : array-like, optional
        Where to look; by default the hundredths from 0 to 1.

    Returns
    -------
    DataFrame
        threshold, flagged, precision, recall (shares), false_alarms, misses (rows), cost (a row, in the cost's unit).
    """
    y, score, _ = to_finite_arrays(y, score)
    cuts = np.linspace(0, 1, 101) if thresholds is None else np.asarray(thresholds, dtype=float)
    order = np.argsort(score, kind="stable")
    below = np.searchsorted(score[order], cuts, side="left")
    positives_below = np.r_[0.0, y[order].cumsum()][below]
    flagged, rows = len(y) - below, max(len(y), 1)
    caught, total = y.sum() - positives_below, y.sum()
    alarms = flagged - caught
    share = {"precision": (caught, flagged), "recall": (caught, np.full(len(cuts), total))}
    found = {
        n: np.divide(a, b, out=np.full(len(cuts), np.nan), where=b > 0)
        for n, (a, b) in share.items()
    }
    cost = (cost_false_alarm * alarms + cost_miss * positives_below) / rows
    return pd.DataFrame(
        {
            "threshold": cuts,
            "flagged": flagged / rows,
            **found,
            "false_alarms": alarms,
            "misses": positives_below,
            "cost": cost,
        }
    )


def find_best_threshold(y: Any, score: Any, cost_false_alarm: float, cost_miss: float) -> float:
    """The threshold with the least cost on these rows; of several, the one nearest to theory's.

    Theory's is ``c_false_alarm / (c_false_alarm + c_miss)``, the optimum for calibrated
    probabilities (Elkan 2001, eq. 2). It stands alone where there is no labelled row.
    """
    both = cost_false_alarm + cost_miss
    theory = cost_false_alarm / both if both > 0 else 0.5
    y, score, _ = to_finite_arrays(y, score)
    if len(y) == 0:
        return float(theory)
    known = np.unique(score)
    cuts = np.r_[known[0], (known[1:] + known[:-1]) / 2, np.nextafter(known[-1], np.inf), theory]
    cost = compute_cost_curve(y, score, cost_false_alarm, cost_miss, cuts)["cost"].to_numpy()
    least = cuts[cost <= cost.min() + 1e-12]
    return float(least[np.argmin(np.abs(least - theory))])
