"""Metrics by task.

A metric is a function of labels, scores and a decision threshold; the score of a multiclass task
has a probability for each class (``mlops_kit.core.tasks``). It takes optional weights, so
that a bootstrap draw is a vector of counts instead of a copy of the rows. Rows whose label or
score is missing are left out; what cannot be computed (no rows, one class, a constant target) is
NaN.

To add a metric, in the package or in a plugin of a project:

1. Write a function ``(y, score, threshold, weights) -> float`` of NumPy arrays without missing
   values.
2. Decorate it with ``@register_metric(name, title, task, greater_is_better)``.

The contract tests, the review and monitoring then know it; ``train.metric`` and ``review.metric``
choose it.
"""

from __future__ import annotations

import math
from typing import Any

from mlops_kit.core.lazy import np
from mlops_kit.stats import binary_metrics, multiclass_metrics
from mlops_kit.stats.metric_registry import (
    DEFAULT_THRESHOLD,
    METRICS,
    Metric,
    MetricFunction,
    NoSkill,
    check_same_length,
    list_task_metrics,
    register_metric,
    to_finite_arrays,
)

__all__ = [
    "DEFAULT_THRESHOLD",
    "METRICS",
    "Metric",
    "MetricFunction",
    "NoSkill",
    "binary_metrics",
    "check_same_length",
    "compute_mae",
    "compute_metric",
    "compute_r2",
    "compute_rmse",
    "list_task_metrics",
    "multiclass_metrics",
    "register_metric",
    "to_finite_arrays",
]


@register_metric("r2", "R²", "regression", greater_is_better=True)
def compute_r2(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the share of the variance that is explained; NaN for a constant target."""
    mean = np.average(y, weights=weights)
    variance = np.average((y - mean) ** 2, weights=weights)
    if variance <= 0:
        return math.nan
    return float(1 - np.average((y - score) ** 2, weights=weights) / variance)


@register_metric("rmse", "RMSE", "regression", greater_is_better=False)
def compute_rmse(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the root mean squared error, in the target's unit."""
    return math.sqrt(np.average((y - score) ** 2, weights=weights))


@register_metric("mae", "MAE", "regression", greater_is_better=False)
def compute_mae(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean absolute error, in the target's unit."""
    return float(np.average(abs(y - score), weights=weights))


def compute_metric(
    name: str,
    y: Any,
    score: Any,
    threshold: float | None = None,
    weights: Any = None,
) -> float:
    """Compute a registered metric; NaN if it cannot be computed.

    With weights, a row counts as often as its weight says.

    >>> compute_metric("mae", [1, 2, float("nan")], [1, 4, 3])
    1.0
    >>> compute_metric("mae", [1, 2, 3], [1, 4, 4], weights=[2, 1, 1])
    0.75
    """
    return float(METRICS[name].function(y, score, threshold, weights))
