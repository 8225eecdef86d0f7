"""Metrics by task, with intervals, paired differences and the threshold that costs least.

A metric is one function of labels, scores and a decision threshold; it takes optional weights, so
that a bootstrap draw is a vector of counts and no copy of the rows. Rows whose label or score is
missing are left out; what cannot be computed (no rows, one class, a constant target) is NaN.

To add a metric: 1. a function ``(y, score, threshold, weights) -> float`` over NumPy arrays without
missing values, 2. ``@metric(name, title, task, greater_is_better)`` above it; the contract tests,
the review and monitoring know it from then on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple

from mlops_kit.errors import KitError
from mlops_kit.late import np, pd
from mlops_kit.registry import Registry
from mlops_kit.results import Interval

Function = Callable[..., float]
BINS = 10  # quantile bins of the calibration error
FEWEST_BLOCKS = 5  # below, a resampling of blocks says little more than their number


class Metric(NamedTuple):
    """A named measure: ``function(y, score, threshold, weights=None) -> float``."""

    name: str
    title: str
    task: Literal["binary", "regression"]
    greater_is_better: bool
    function: Function

    def gain(self, better: float, worse: float) -> float:
        """How much better the first value is; positive means better, whichever way the metric points."""
        return better - worse if self.greater_is_better else worse - better


METRICS: Registry[Metric] = Registry("metric")


def metric(
    name: str, title: str, task: Literal["binary", "regression"], greater_is_better: bool
) -> Callable[[Function], Function]:
    """Register the decorated function as a metric: on finite rows only; NaN where there are none, or a classifier has seen one class."""

    def keep(function: Function) -> Function:
        def safe(y: Any, score: Any, threshold: float | None = None, weights: Any = None) -> float:
            y, score, weights = arrays(y, score, weights)
            kept = y[weights > 0]
            if len(kept) == 0 or (task == "binary" and kept.min() == kept.max()):
                return math.nan
            with np.errstate(all="ignore"):
                return float(function(y, score, 0.5 if threshold is None else threshold, weights))

        METRICS.register(name)(Metric(name, title, task, greater_is_better, safe))
        return function

    return keep


def arrays(y: Any, score: Any, weights: Any = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and weights as floats, without the rows in which label or score is not finite.

    Raises
    ------
    KitError
        If the lengths differ.
    """
    y, score = np.asarray(y, dtype=float), np.asarray(score, dtype=float)
    if y.shape != score.shape:
        raise KitError(
            f"{len(y)} labels and {len(score)} scores", "one score a label", "score the same rows"
        )
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    finite = np.isfinite(y) & np.isfinite(score)
    return (y, score, weights) if finite.all() else (y[finite], score[finite], weights[finite])


def counted(y: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, the highest score first."""
    order = np.argsort(score, kind="stable")[::-1]
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return np.add.reduceat((weights * y)[order], starts), np.add.reduceat(
        (weights * (1 - y))[order], starts
    )


@metric("roc_auc", "ROC-AUC", "binary", True)
def roc_auc(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive ranks above a negative, ties half (Hanley & McNeil 1982)."""
    positive, negative = counted(y, score, weights)
    above = negative.sum() - negative.cumsum()
    return float((positive * (above + negative / 2)).sum() / (positive.sum() * negative.sum()))


@metric("average_precision", "average precision", "binary", True)
def average_precision(
    y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray
) -> float:
    """Sum of precision times the step in recall, without interpolation (scikit-learn's definition)."""
    positive, negative = counted(y, score, weights)
    caught, flagged = positive.cumsum(), (positive + negative).cumsum()
    return float(
        (positive * np.divide(caught, flagged, out=np.zeros_like(caught), where=flagged > 0)).sum()
        / positive.sum()
    )


@metric("log_loss", "log loss", "binary", False)
def log_loss(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept off 0 and 1 by one float's epsilon."""
    tiny = np.finfo(float).eps
    p = np.clip(score, tiny, 1 - tiny)
    return -float(np.average(y * np.log(p) + (1 - y) * np.log1p(-p), weights=weights))


@metric("brier", "Brier score", "binary", False)
def brier(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Mean squared difference of probability and outcome (Brier 1950)."""
    return float(np.average((score - y) ** 2, weights=weights))


@metric("calibration_error", "calibration error", "binary", False)
def calibration_error(
    y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray
) -> float:
    """Expected calibration error over quantile bins (Naeini et al. 2015).

    The bins are those of all rows given, so that they stay the same from one bootstrap draw to the next.
    """
    edges = np.quantile(score, np.linspace(0, 1, BINS + 1))
    bins = np.searchsorted(edges[1:-1], score)
    return float(np.abs(np.bincount(bins, weights * (y - score), BINS)).sum() / weights.sum())


@metric("r2", "R²", "regression", True)
def r2(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Share of the variance explained; NaN for a constant target."""
    total = np.average((y - np.average(y, weights=weights)) ** 2, weights=weights)
    return (
        float(1 - np.average((y - score) ** 2, weights=weights) / total) if total > 0 else math.nan
    )


@metric("rmse", "RMSE", "regression", False)
def rmse(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Root of the mean squared error, in the target's unit."""
    return math.sqrt(np.average((y - score) ** 2, weights=weights))


@metric("mae", "MAE", "regression", False)
def mae(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Mean absolute error, in the target's unit."""
    return float(np.average(abs(y - score), weights=weights))


def for_task(task: str) -> list[str]:
    """Names of the metrics that fit a task, in the order of their registration."""
    return [name for name, known in METRICS.items() if known.task == task]


def value(name: str, y: Any, score: Any, threshold: float | None = None) -> float:
    """A metric's value; NaN where it cannot be computed.

    >>> value("mae", [1, 2, float("nan")], [1, 4, 3])
    1.0
    """
    return float(METRICS[name].function(y, score, threshold))


def resampled(rows: int, blocks: Any, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Counts of each row in each bootstrap draw; rows are drawn, or whole blocks."""
    rng = np.random.default_rng(seed)
    codes = (
        np.arange(rows) if blocks is None else np.unique(np.asarray(blocks), return_inverse=True)[1]
    )
    count = int(codes.max()) + 1
    for _ in range(draws):
        yield np.bincount(rng.integers(0, count, count), minlength=count).astype(float)[codes]


def aligned(y: Any, scores: list[Any], blocks: Any) -> tuple[np.ndarray, list[np.ndarray], Any]:
    """The rows in which label and all scores are finite, sorted by the first score (each draw's sort is then cheap)."""
    y, scores = np.asarray(y, dtype=float), [np.asarray(s, dtype=float) for s in scores]
    for score in scores:
        if score.shape != y.shape:
            raise KitError(
                f"{len(y)} labels and {len(score)} scores",
                "one score a label",
                "score the same rows",
            )
    finite = np.flatnonzero(np.isfinite(y) & np.all([np.isfinite(s) for s in scores], axis=0))
    kept = finite[np.argsort(scores[0][finite], kind="stable")]
    return y[kept], [s[kept] for s in scores], None if blocks is None else np.asarray(blocks)[kept]


def percentiles(point: float, drawn: list[float]) -> Interval:
    """The 95 % interval between the percentiles of what was drawn; without ends if most draws say nothing."""
    known = [d for d in drawn if math.isfinite(d)]
    if not math.isfinite(point) or not known or len(known) < len(drawn) / 2:
        return Interval(point if math.isfinite(point) else None)
    return Interval(point, *map(float, np.quantile(known, [0.025, 0.975])))


def bootstrapped(
    measured: Callable[[np.ndarray], dict[str, float]],
    rows: int,
    blocks: Any,
    draws: int,
    seed: int,
) -> dict[str, Interval]:
    """What is measured of weighted rows, each with its interval; without one if there is too little to resample."""
    drawable = rows > 1 if blocks is None else len(np.unique(blocks)) >= FEWEST_BLOCKS
    points, drawn = (
        measured(np.ones(rows)),
        [measured(w) for w in resampled(rows, blocks, draws, seed)] if drawable else [],
    )
    return {n: percentiles(p, [d[n] for d in drawn]) for n, p in points.items()}


def intervals(
    names: Iterable[str], y: Any, score: Any, blocks: Any = None, draws: int = 500, seed: int = 0
) -> dict[str, Interval]:
    """Metrics with percentile bootstrap intervals (Efron & Tibshirani 1993, ch. 13).

    Rows of one day share its weather and its traffic: drawn one by one they would promise too much.
    Where ``blocks`` is given whole blocks are drawn instead (ch. 8.6), and all metrics see the same draws.

    Parameters
    ----------
    names : iterable of str
        Registered metrics.
    y, score : array-like, shape (rows,)
        Labels and scores; rows where either is missing are left out.
    blocks : array-like, optional
        What rows are drawn together, such as the day. With fewer than 5 blocks there is no interval.

    Returns
    -------
    dict of str to Interval
        ``value`` is None where the metric cannot be computed, ``low`` and ``high`` where nothing can be drawn.
    """
    chosen = {n: METRICS[n].function for n in names}
    y, (score,), blocks = aligned(y, [score], blocks)
    return bootstrapped(
        lambda weights: {n: f(y, score, None, weights) for n, f in chosen.items()},
        len(y),
        blocks,
        draws,
        seed,
    )


def ratio(over: Any, under: Any, blocks: Any = None, draws: int = 500, seed: int = 0) -> Interval:
    """The sum of ``over`` by the sum of ``under``, with a percentile bootstrap interval.

    A mean where ``under`` is one for each row, a share among some rows where it is one for these
    (precision: hits by flagged). Blocks are drawn as in ``intervals``.
    """
    over, under = np.asarray(over, dtype=float), np.asarray(under, dtype=float)

    def value(weights: Any) -> dict[str, float]:
        total = float((weights * under).sum())
        return {"": float((weights * over).sum()) / total if total > 0 else math.nan}

    return bootstrapped(value, len(over), blocks, draws, seed)[""]


def row_costs(
    y: Any, score: Any, threshold: float, cost_false_alarm: float, cost_miss: float
) -> np.ndarray:
    """What the decision on each row costs: a false alarm, a miss, or nothing."""
    flagged, y = np.asarray(score, dtype=float) >= threshold, np.asarray(y, dtype=float)
    return np.asarray(np.where(flagged, cost_false_alarm * (1 - y), cost_miss * y))


def paired_differences(
    names: Iterable[str],
    y: Any,
    a: Any,
    b: Any,
    blocks: Any = None,
    draws: int = 500,
    seed: int = 0,
) -> dict[str, Interval]:
    """How much better ``a`` is than ``b`` on the same rows, by metric, with paired bootstrap intervals.

    Each draw holds the same rows for both, and for all metrics, so that what is hard for both cancels
    out (Efron & Tibshirani 1993, ch. 8). Positive means that ``a`` is better, also for a metric of which
    less is better. Noise adds to the calibration error of both, so a difference in it is understated.

    Returns
    -------
    dict of str to Interval
        ``value`` is None where a metric cannot be computed, ``low`` and ``high`` where nothing can be drawn.
    """
    chosen = {n: METRICS[n] for n in names}
    y, (a, b), blocks = aligned(y, [a, b], blocks)
    order = np.argsort(b, kind="stable")  # the sort in each draw is then cheap for both
    y_b, b = y[order], b[order]

    def gains(weights: np.ndarray) -> dict[str, float]:
        return {
            n: m.gain(m.function(y, a, None, weights), m.function(y_b, b, None, weights[order]))
            for n, m in chosen.items()
        }

    return bootstrapped(gains, len(y), blocks, draws, seed)


def paired_difference(
    name: str, y: Any, a: Any, b: Any, blocks: Any = None, draws: int = 500, seed: int = 0
) -> Interval:
    """How much better ``a`` is than ``b`` in one metric; as of ``paired_differences``."""
    return paired_differences([name], y, a, b, blocks, draws, seed)[name]


def cost_curve(
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
    y, score, _ = arrays(y, score)
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


def best_threshold(y: Any, score: Any, cost_false_alarm: float, cost_miss: float) -> float:
    """The threshold with the least cost on these rows; of several, the one nearest to theory's.

    Theory's is ``c_false_alarm / (c_false_alarm + c_miss)``, the optimum for calibrated
    probabilities (Elkan 2001, eq. 2). It stands alone where there is no labelled row.
    """
    both = cost_false_alarm + cost_miss
    theory = cost_false_alarm / both if both > 0 else 0.5
    y, score, _ = arrays(y, score)
    if len(y) == 0:
        return float(theory)
    known = np.unique(score)
    cuts = np.r_[known[0], (known[1:] + known[:-1]) / 2, np.nextafter(known[-1], np.inf), theory]
    cost = cost_curve(y, score, cost_false_alarm, cost_miss, cuts)["cost"].to_numpy()
    least = cuts[cost <= cost.min() + 1e-12]
    return float(least[np.argmin(np.abs(least - theory))])
