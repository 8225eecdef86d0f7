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
from collections.abc import Callable
from typing import Any, NamedTuple

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.extensions import (
    ExtensionKind,
    ExtensionRegistry,
    name_failing_extension,
)
from mlops_kit.core.lazy import np
from mlops_kit.core.tasks import TASKS, is_finite_score, predict_codes, to_score_array
from mlops_kit.stats.calibration import assign_quantile_bins

MetricFunction = Callable[..., float]
DEFAULT_THRESHOLD = 0.5
_CALIBRATION_BINS = 10


class Metric(NamedTuple):
    """A registered metric; call its ``function(y, score, threshold, weights=None)``."""

    name: str
    title: str
    task: str
    greater_is_better: bool
    function: MetricFunction

    def compute_gain(
        self,
        better: float,
        worse: float,
    ) -> float:
        """Compute how much better the first value is; positive means better for every metric."""
        return better - worse if self.greater_is_better else worse - better


METRICS: ExtensionRegistry[Metric] = ExtensionRegistry(ExtensionKind.METRIC)


def register_metric(
    name: str,
    title: str,
    task: str,
    greater_is_better: bool,
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
    task : {"binary", "multiclass", "regression"}
        The task that it is for.
    greater_is_better : bool
        Whether a greater value is better.

    Raises
    ------
    KitError
        If there is no such task.

    Examples
    --------
    >>> @register_metric("median_error", "median error", "regression", greater_is_better=False)
    ... def compute_median_error(y, score, threshold, weights):
    ...     return float(np.median(abs(y - score)))
    >>> compute_metric("median_error", [1, 2, 3], [1, 4, 6])
    2.0
    >>> del METRICS["median_error"]
    """
    if task not in TASKS:
        raise KitError(
            f"the metric {name!r} is for the unknown task {task!r}",
            suggest_names(task, TASKS),
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
            if task == "binary" and weighted_labels.min() == weighted_labels.max():
                return math.nan
            if threshold is None:
                threshold = DEFAULT_THRESHOLD
            with np.errstate(all="ignore"), name_failing_extension(ExtensionKind.METRIC, name):
                return float(function(y, score, threshold, weights))

        metric = Metric(
            name,
            title,
            task,
            greater_is_better,
            compute_on_finite_rows,
        )
        METRICS.register(name, applies_to=[task])(metric)
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


def _sum_weights_by_score(
    y: np.ndarray,
    score: np.ndarray,
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Sum the weights of positives and negatives for each distinct score, the highest first."""
    order = np.argsort(score, kind="stable")[::-1]
    sorted_score = score[order]
    is_new_score = np.r_[True, sorted_score[1:] != sorted_score[:-1]]
    starts = np.flatnonzero(is_new_score)
    positive = np.add.reduceat((weights * y)[order], starts)
    negative = np.add.reduceat((weights * (1 - y))[order], starts)
    return positive, negative


@register_metric("roc_auc", "ROC-AUC", "binary", greater_is_better=True)
def compute_roc_auc(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the area under the ROC curve.

    It is the probability that a positive ranks above a negative; ties count half.

    References
    ----------
    Hanley & McNeil, "The meaning and use of the area under a ROC curve", Radiology 143 (1982).
    """
    positive, negative = _sum_weights_by_score(y, score, weights)
    lower_negatives = negative.sum() - negative.cumsum()
    pairs_in_order = (positive * (lower_negatives + negative / 2)).sum()
    return float(pairs_in_order / (positive.sum() * negative.sum()))


@register_metric("average_precision", "average precision", "binary", greater_is_better=True)
def compute_average_precision(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Sum precision times the step in recall, without interpolation, as scikit-learn does."""
    positive, negative = _sum_weights_by_score(y, score, weights)
    true_positives = positive.cumsum()
    flagged = (positive + negative).cumsum()
    precision = np.divide(
        true_positives,
        flagged,
        out=np.zeros_like(true_positives),
        where=flagged > 0,
    )
    return float((positive * precision).sum() / positive.sum())


@register_metric("log_loss", "log loss", "binary", greater_is_better=False)
def compute_log_loss(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean negative log-likelihood in nats.

    Probabilities are clipped by the machine epsilon to exclude 0 and 1.
    """
    epsilon = np.finfo(float).eps
    probability = np.clip(score, epsilon, 1 - epsilon)
    log_likelihood = y * np.log(probability) + (1 - y) * np.log1p(-probability)
    return -float(np.average(log_likelihood, weights=weights))


@register_metric("brier", "Brier score", "binary", greater_is_better=False)
def compute_brier_score(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean squared difference of probability and label.

    References
    ----------
    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78
    (1950).
    """
    return float(np.average((score - y) ** 2, weights=weights))


@register_metric("calibration_error", "calibration error", "binary", greater_is_better=False)
def compute_calibration_error(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the expected calibration error over quantile bins.

    The bins are those of the unweighted rows, so that they are the same in every bootstrap draw.

    References
    ----------
    Naeini, Cooper & Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI (2015).
    """
    bins = assign_quantile_bins(score, _CALIBRATION_BINS)
    weighted_errors = np.bincount(bins, weights * (y - score), _CALIBRATION_BINS)
    return float(np.abs(weighted_errors).sum() / weights.sum())


def count_by_class(
    y: np.ndarray,
    score: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Sum the weights by true class (rows) and predicted class (columns).

    Parameters
    ----------
    y : ndarray, shape (rows,)
        Codes of the true classes.
    score : ndarray, shape (rows, classes)
        The probability of each class.
    weights : ndarray, shape (rows,)
        The weight of each row.
    """
    class_count = score.shape[1]
    cells = y.astype(int) * class_count + predict_codes(score)
    sums = np.bincount(cells, weights, class_count**2)
    return sums.reshape(class_count, class_count)


@register_metric("accuracy", "accuracy", "multiclass", greater_is_better=True)
def compute_accuracy(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the share of rows whose most probable class is the true one."""
    return float(np.average(predict_codes(score) == y, weights=weights))


@register_metric("balanced_accuracy", "balanced accuracy", "multiclass", greater_is_better=True)
def compute_balanced_accuracy(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean recall over the classes that occur, each with the same weight."""
    confusion = count_by_class(y, score, weights)
    rows_by_class = confusion.sum(axis=1)
    occurs = rows_by_class > 0
    recall = np.diag(confusion)[occurs] / rows_by_class[occurs]
    return float(recall.mean())


@register_metric("f1_macro", "macro F1", "multiclass", greater_is_better=True)
def compute_macro_f1(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean F1 over the classes that occur or are predicted, each weighing the same."""
    confusion = count_by_class(y, score, weights)
    rows_and_predictions = confusion.sum(axis=1) + confusion.sum(axis=0)
    occurs = rows_and_predictions > 0
    f1 = 2 * np.diag(confusion)[occurs] / rows_and_predictions[occurs]
    return float(f1.mean())


@register_metric("multiclass_log_loss", "log loss", "multiclass", greater_is_better=False)
def compute_multiclass_log_loss(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean negative log-likelihood of the true class, in nats.

    Probabilities are clipped by the machine epsilon to exclude 0 and 1.
    """
    epsilon = np.finfo(float).eps
    probability = score[np.arange(len(y)), y.astype(int)]
    log_likelihood = np.log(np.clip(probability, epsilon, 1 - epsilon))
    return -float(np.average(log_likelihood, weights=weights))


@register_metric("roc_auc_ovr", "one-vs-rest ROC-AUC", "multiclass", greater_is_better=True)
def compute_one_vs_rest_roc_auc(
    y: np.ndarray,
    score: np.ndarray,
    threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean ROC-AUC of each class against all others, each class weighing the same.

    Classes that do not occur are left out; NaN if only one occurs.

    References
    ----------
    Provost & Domingos, "Well-trained PETs: Improving probability estimation trees", CeDER Working
    Paper #IS-00-04 (2000); unlike theirs, the mean is not weighted by the class shares.
    """
    areas = []
    for code in np.unique(y[weights > 0]).astype(int):
        is_class = (y == code).astype(float)
        areas.append(compute_roc_auc(is_class, score[:, code], threshold, weights))
    return float(np.mean(areas)) if len(areas) > 1 else math.nan


@register_metric(
    "classwise_calibration_error",
    "classwise calibration error",
    "multiclass",
    greater_is_better=False,
)
def compute_classwise_calibration_error(
    y: np.ndarray,
    score: np.ndarray,
    threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean over the classes of the expected calibration error, each against the rest.

    References
    ----------
    Kull, Perello-Nieto, Kängsepp et al., "Beyond temperature scaling: Obtaining well-calibrated
    multiclass probabilities with Dirichlet calibration", NeurIPS (2019).
    """
    errors = []
    for code in range(score.shape[1]):
        is_class = (y == code).astype(float)
        errors.append(compute_calibration_error(is_class, score[:, code], threshold, weights))
    return float(np.mean(errors))


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


def list_task_metrics(task: str) -> list[str]:
    """List the names of a task's metrics in the order of their registration."""
    return [name for name, metric in METRICS.items() if metric.task == task]


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
