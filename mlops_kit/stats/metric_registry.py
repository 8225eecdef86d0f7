"""The registry of metrics, and what every registered function is protected from.

Rows whose label or score is missing are left out before a metric sees them; what cannot be computed
(no rows, one class) is NaN. ``mlops_kit.stats.metrics`` says how to add one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.extensions import (
    ExtensionKind,
    ExtensionRegistry,
    convert_option,
    name_failing_extension,
)
from mlops_kit.core.lazy import np
from mlops_kit.core.tasks import TASKS, is_finite_score, predict_codes, to_score_array

MetricFunction = Callable[..., float]
DEFAULT_THRESHOLD = 0.5


class NoSkill(StrEnum):
    """Which model knows nothing, where its value depends on the rows.

    Attributes
    ----------
    INDEPENDENT
        Predicts each class as often as the model does, independently of the label: of precision
        that is the share of positives, of recall the share of flagged rows.
    MAJORITY
        Predicts the most frequent class for every row; of accuracy that is the share of that class.
    """

    INDEPENDENT = "independent"
    MAJORITY = "majority"


class Metric(NamedTuple):
    """A registered metric; call its ``function(y, score, threshold, weights=None)``.

    ``no_skill`` is the value of a model that knows nothing, such as 0.5 for ROC-AUC, or which model
    that is.
    """

    name: str
    title: str
    tasks: tuple[str, ...]
    greater_is_better: bool
    function: MetricFunction
    no_skill: float | NoSkill = 0.0

    def compute_gain(
        self,
        better: float,
        worse: float,
    ) -> float:
        """Compute how much better the first value is; positive means better for every metric."""
        return better - worse if self.greater_is_better else worse - better

    def compute_scale(
        self,
        reference: float,
        no_skill: float | None = None,
    ) -> float:
        """Compute what a change is compared with: the skill of the reference, or its loss.

        It is the distance of the reference from a model without skill; of an error or a loss,
        where less is better, it is the reference itself.

        Parameters
        ----------
        reference : float
            The value of the model.
        no_skill : float, optional
            That of a model without skill, from ``compute_no_skill``. Without it the registered
            number counts, and 0 where it depends on the rows.
        """
        if not self.greater_is_better:
            return abs(reference)
        if no_skill is None:
            no_skill = 0.0 if isinstance(self.no_skill, NoSkill) else self.no_skill
        return abs(reference - no_skill)

    def compute_no_skill(
        self,
        y: np.ndarray,
        score: np.ndarray,
        threshold: float | None = None,
        weights: np.ndarray | None = None,
    ) -> float | None:
        """Compute the value of a model without skill on these rows; None without rows.

        Examples
        --------
        >>> y = np.array([1.0, 0.0, 0.0, 0.0])
        >>> score = np.array([0.9, 0.6, 0.2, 0.1])
        >>> METRICS["accuracy"].compute_no_skill(y, score)
        0.75
        >>> METRICS["precision"].compute_no_skill(y, score)
        0.25
        """
        if not isinstance(self.no_skill, NoSkill):
            return self.no_skill
        y, score, weights = to_finite_arrays(y, score, weights)
        if len(y) == 0:
            return None
        if threshold is None:
            threshold = DEFAULT_THRESHOLD
        class_count = 2 if score.ndim == 1 else score.shape[1]
        predicted = score >= threshold if score.ndim == 1 else predict_codes(score)
        shares = np.bincount(y.astype(int), weights, class_count) / weights.sum()
        if self.no_skill is NoSkill.MAJORITY:
            return float(shares.max())
        predicted_shares = np.bincount(predicted.astype(int), weights, class_count)
        # A row for each pair of a true and a predicted class, which counts with both shares.
        codes = np.repeat(np.arange(class_count, dtype=float), class_count)
        pair_scores = np.tile(np.eye(class_count), (class_count, 1))
        if score.ndim == 1:
            pair_scores = pair_scores[:, 1]
        pair_weights = np.outer(shares, predicted_shares / weights.sum()).ravel()
        value = self.function(codes, pair_scores, DEFAULT_THRESHOLD, pair_weights)
        return value if math.isfinite(value) else None


METRICS: ExtensionRegistry[Metric] = ExtensionRegistry(ExtensionKind.METRIC)


def register_metric(
    name: str,
    title: str,
    task: str | tuple[str, ...],
    greater_is_better: bool,
    no_skill: float | NoSkill | str = 0.0,
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
    no_skill : float or {"independent", "majority"}
        The value of a model that knows nothing, such as 0.5 for ROC-AUC, or which model that is
        where its value depends on the rows (``NoSkill``). Monitoring measures drops of a metric
        where greater is better from there.

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

    no_skill_model = no_skill
    if isinstance(no_skill_model, str):
        no_skill_model = convert_option(NoSkill, no_skill_model, "model without skill")

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
            no_skill_model,
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
