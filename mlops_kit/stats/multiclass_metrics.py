"""Metrics of multiclass tasks: a score has a probability for each class."""

from __future__ import annotations

import math

from mlops_kit.core.lazy import np
from mlops_kit.core.tasks import predict_codes
from mlops_kit.stats.binary_metrics import compute_calibration_error, compute_roc_auc
from mlops_kit.stats.metric_registry import NoSkill, register_metric


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


@register_metric(
    "balanced_accuracy",
    "balanced accuracy",
    "multiclass",
    greater_is_better=True,
    no_skill=NoSkill.INDEPENDENT,
)
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


@register_metric(
    "f1_macro",
    "macro F1",
    "multiclass",
    greater_is_better=True,
    no_skill=NoSkill.INDEPENDENT,
)
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


@register_metric(
    "precision_macro",
    "macro precision",
    "multiclass",
    greater_is_better=True,
    no_skill=NoSkill.INDEPENDENT,
)
def compute_macro_precision(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean precision over the classes that occur or are predicted.

    The precision of a class that is never predicted is 0.
    """
    confusion = count_by_class(y, score, weights)
    return _average_class_shares(confusion, confusion.sum(axis=0))


@register_metric(
    "recall_macro",
    "macro recall",
    "multiclass",
    greater_is_better=True,
    no_skill=NoSkill.INDEPENDENT,
)
def compute_macro_recall(
    y: np.ndarray,
    score: np.ndarray,
    _threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the mean recall over the classes that occur or are predicted.

    The recall of a class that is predicted and does not occur is 0; ``balanced_accuracy`` leaves
    such a class out.
    """
    confusion = count_by_class(y, score, weights)
    return _average_class_shares(confusion, confusion.sum(axis=1))


def _average_class_shares(confusion: np.ndarray, totals: np.ndarray) -> float:
    """Average the share of right rows in a total of each class; 0 where the total is 0."""
    shares = np.divide(
        np.diag(confusion),
        totals,
        out=np.zeros(len(totals)),
        where=totals > 0,
    )
    occurs = (confusion.sum(axis=1) + confusion.sum(axis=0)) > 0
    return float(shares[occurs].mean())


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


@register_metric(
    "roc_auc_ovr",
    "one-vs-rest ROC-AUC",
    "multiclass",
    greater_is_better=True,
    no_skill=0.5,
)
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
