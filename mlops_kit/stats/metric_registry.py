"""The registry of metrics, and what every registered function is protected from.

Rows whose label or score is missing are left out before a metric sees them; what cannot be computed
(no rows, one class) is NaN. ``mlops_kit.stats.metrics`` says how to add one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.extensions import (
    ExtensionKind,
    ExtensionRegistry,
    name_failing_extension,
)
from mlops_kit.core.lazy import np
from mlops_kit.core.tasks import TASKS, is_finite_score, to_score_array

MetricFunction = Callable[..., float]
DEFAULT_THRESHOLD = 0.5


class Metric(NamedTuple):
    """A registered metric; call its ``function(y, score, threshold, weights=None)``.

    ``no_skill`` is the value of a model that knows nothing, such as 0.5 for ROC-AUC.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    greater_is_better: bool
    function: MetricFunction
    no_skill: float = 0.0

    def compute_gain(
        self,
        better: float,
        worse: float,
    ) -> float:
        """Compute how much better the first value is; positive means better for every metric."""
        return better - worse if self.greater_is_better else worse - better

    def compute_scale(self, reference: float) -> float:
        """Compute what a change is compared with: the skill of the reference, or its loss.

        It is the distance of the reference from a model without skill; of an error or a loss,
        where less is better, it is the reference itself.
        """
        if self.greater_is_better:
            return abs(reference - self.no_skill)
        return abs(reference)


METRICS: ExtensionRegistry[Metric] = ExtensionRegistry(ExtensionKind.METRIC)


def register_metric(
    name: str,
    title: str,
    task: str | tuple[str, ...],
    greater_is_better: bool,
    no_skill: float = 0.0,
) -> Callable[[MetricFunction], MetricFunction]:
    """Return a decorator that registers a function as a metric.

    The registered function leaves out rows whose label or score is not finite. It returns NaN
    without rows and, for a binary task, if there is only one class.

    Parameters
    ----------
    name : str
        The name in ``mlops.yaml``, such as ``roc_auc``.
    title : str
        The name in sentences and tables, such as ``ROC-AUC``.
    task : {"binary", "multiclass", "regression"} or tuple of these
        The task that it is for, or several.
    greater_is_better : bool
        Whether a greater value is better.
    no_skill : float
        The value of a model that knows nothing, such as 0.5 for ROC-AUC. Monitoring measures drops
        of a metric where greater is better from there.

    Raises
    ------
    KitError
        If there is no such task.

    Examples
    --------
    >>> @register_metric("median_error", "median error", "regression", greater_is_better=False)
    ... def compute_median_error(y, score, threshold, weights):
    ...     return float(np.median(abs(y - score)))
    >>> METRICS["median_error"].function([1, 2, 3], [1, 4, 6])
    2.0
    >>> del METRICS["median_error"]
    """
    tasks = (task,) if isinstance(task, str) else tuple(task)
    for task_name in tasks:
        if task_name not in TASKS:
            raise KitError(
                f"the metric {name!r} is for the unknown task {task_name!r}",
                suggest_names(task_name, TASKS),
                "correct the task where the metric is registered",
            )

    def register(function: MetricFunction) -> MetricFunction:
        def compute_on_finite_rows(
            y: Any,
            score: Any,
            threshold: float | None = None,
            weights: Any = None,
        ) -> float:
            y, score, weights = to_finite_arrays(y, score, weights)
            weighted_labels = y[weights > 0]
            if len(weighted_labels) == 0:
                return math.nan
            is_binary = "binary" in tasks and score.ndim == 1
            if is_binary and weighted_labels.min() == weighted_labels.max():
                return math.nan
            if threshold is None:
                threshold = DEFAULT_THRESHOLD
            with np.errstate(all="ignore"), name_failing_extension(ExtensionKind.METRIC, name):
                return float(function(y, score, threshold, weights))

        metric = Metric(
            name,
            title,
            tasks,
            greater_is_better,
            compute_on_finite_rows,
            no_skill,
        )
        METRICS.register(name, applies_to=tasks)(metric)
        return function

    return register


def to_finite_arrays(
    y: Any,
    score: Any,
    weights: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert labels, scores and weights to floats, without rows that are not finite.

    Raises
    ------
    KitError
        If there are not as many scores as labels.
    """
    y = np.asarray(y, dtype=float)
    score = to_score_array(score)
    check_same_length(y, score)
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    is_finite = np.isfinite(y) & is_finite_score(score)
    if is_finite.all():
        return y, score, weights
    return y[is_finite], score[is_finite], weights[is_finite]


def check_same_length(y: np.ndarray, score: np.ndarray) -> None:
    """Check that there is a score for each label.

    Raises
    ------
    KitError
        If there is not.
    """
    if len(y) != len(score):
        raise KitError(
            f"{len(y)} labels and {len(score)} scores", "one score per label", "score the same rows"
        )


def list_task_metrics(task: str) -> list[str]:
    """List the names of a task's metrics in the order of their registration."""
    return [name for name, metric in METRICS.items() if task in metric.tasks]
