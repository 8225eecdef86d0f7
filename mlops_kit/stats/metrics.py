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
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.lazy import np

MetricFunction = Callable[..., float]
_CALIBRATION_BINS = 10  # quantile bins of the calibration error


class Metric(NamedTuple):
    """A named measure: ``function(y, score, threshold, weights=None) -> float``."""

    name: str
    title: str
    task: Literal["binary", "regression"]
    greater_is_better: bool
    function: MetricFunction

    def compute_gain(self, better: float, worse: float) -> float:
        """How much better the first value is; positive means better, whichever way the metric points."""
        return better - worse if self.greater_is_better else worse - better


METRICS: ExtensionRegistry[Metric] = ExtensionRegistry("metric")


def register_metric(
    name: str, title: str, task: Literal["binary", "regression"], greater_is_better: bool
) -> Callable[[MetricFunction], MetricFunction]:
    """Register the decorated function as a metric: on finite rows only; NaN where there are none, or a classifier has seen one class."""

    def keep(function: MetricFunction) -> MetricFunction:
        def safe(y: Any, score: Any, threshold: float | None = None, weights: Any = None) -> float:
            y, score, weights = to_finite_arrays(y, score, weights)
            kept = y[weights > 0]
            if len(kept) == 0 or (task == "binary" and kept.min() == kept.max()):
                return math.nan
            with np.errstate(all="ignore"):
                return float(function(y, score, 0.5 if threshold is None else threshold, weights))

        METRICS.register(name)(Metric(name, title, task, greater_is_better, safe))
        return function

    return keep


def to_finite_arrays(
    y: Any, score: Any, weights: Any = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _sum_weights_by_score(
    y: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, the highest score first."""
    order = np.argsort(score, kind="stable")[::-1]
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return np.add.reduceat((weights * y)[order], starts), np.add.reduceat(
        (weights * (1 - y))[order], starts
    )


@register_metric("roc_auc", "ROC-AUC", "binary", True)
def compute_roc_auc(
    y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray
) -> float:
    """Area under the ROC curve: the chance that a positive ranks above a negative, ties half (Hanley & McNeil 1982)."""
    positive, negative = _sum_weights_by_score(y, score, weights)
    above = negative.sum() - negative.cumsum()
    return float((positive * (above + negative / 2)).sum() / (positive.sum() * negative.sum()))


@register_metric("average_precision", "average precision", "binary", True)
def compute_average_precision(
    y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray
) -> float:
    """Sum of precision times the step in recall, without interpolation (scikit-learn's definition)."""
    positive, negative = _sum_weights_by_score(y, score, weights)
    caught, flagged = positive.cumsum(), (positive + negative).cumsum()
    return float(
        (positive * np.divide(caught, flagged, out=np.zeros_like(caught), where=flagged > 0)).sum()
        / positive.sum()
    )


@register_metric("log_loss", "log loss", "binary", False)
def compute_log_loss(
    y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray
) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept off 0 and 1 by one float's epsilon."""
    tiny = np.finfo(float).eps
    p = np.clip(score, tiny, 1 - tiny)
    return -float(np.average(y * np.log(p) + (1 - y) * np.log1p(-p), weights=weights))


@register_metric("brier", "Brier score", "binary", False)
def compute_brier_score(
    y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray
) -> float:
    """Mean squared difference of probability and outcome (Brier 1950)."""
    return float(np.average((score - y) ** 2, weights=weights))


@register_metric("calibration_error", "calibration error", "binary", False)
def compute_calibration_error(
    y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray
) -> float:
    """Expected calibration error over quantile bins (Naeini et al. 2015).

    The bins are those of all rows given, so that they stay the same from one bootstrap draw to the next.
    """
    edges = np.quantile(score, np.linspace(0, 1, _CALIBRATION_BINS + 1))
    bins = np.searchsorted(edges[1:-1], score)
    return float(
        np.abs(np.bincount(bins, weights * (y - score), _CALIBRATION_BINS)).sum() / weights.sum()
    )


@register_metric("r2", "R²", "regression", True)
def compute_r2(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Share of the variance explained; NaN for a constant target."""
    total = np.average((y - np.average(y, weights=weights)) ** 2, weights=weights)
    return (
        float(1 - np.average((y - score) ** 2, weights=weights) / total) if total > 0 else math.nan
    )


@register_metric("rmse", "RMSE", "regression", False)
def compute_rmse(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Root of the mean squared error, in the target's unit."""
    return math.sqrt(np.average((y - score) ** 2, weights=weights))


@register_metric("mae", "MAE", "regression", False)
def compute_mae(y: np.ndarray, score: np.ndarray, threshold: float, weights: np.ndarray) -> float:
    """Mean absolute error, in the target's unit."""
    return float(np.average(abs(y - score), weights=weights))


def list_task_metrics(task: str) -> list[str]:
    """Names of the metrics that fit a task, in the order of their registration."""
    return [name for name, known in METRICS.items() if known.task == task]


def compute_metric(name: str, y: Any, score: Any, threshold: float | None = None) -> float:
    """A metric's value; NaN where it cannot be computed.

    >>> value("mae", [1, 2, float("nan")], [1, 4, 3])
    1.0
    """
    return float(METRICS[name].function(y, score, threshold))
