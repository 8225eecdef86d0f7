"""Metrics of binary tasks: a score is the probability of the positive class."""

from __future__ import annotations

from mlops_kit.core.lazy import np
from mlops_kit.core.tasks import predict_codes
from mlops_kit.stats.calibration import assign_quantile_bins
from mlops_kit.stats.metric_registry import NoSkill, register_metric

_CALIBRATION_BINS = 10


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


@register_metric("roc_auc", "ROC-AUC", "binary", greater_is_better=True, no_skill=0.5)
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


@register_metric(
    "average_precision",
    "average precision",
    "binary",
    greater_is_better=True,
    no_skill=NoSkill.INDEPENDENT,
)
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


@register_metric(
    "f1",
    "F1",
    "binary",
    greater_is_better=True,
    no_skill=NoSkill.INDEPENDENT,
)
def compute_f1(
    y: np.ndarray,
    score: np.ndarray,
    threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the harmonic mean of precision and recall of the positive class.

    References
    ----------
    van Rijsbergen, "Information retrieval" (1979), chapter 7.
    """
    is_flagged = score >= threshold
    true_positives = (weights * y * is_flagged).sum()
    rows_and_predictions = (weights * y).sum() + (weights * is_flagged).sum()
    return float(2 * true_positives / rows_and_predictions)


@register_metric(
    "precision",
    "precision",
    "binary",
    greater_is_better=True,
    no_skill=NoSkill.INDEPENDENT,
)
def compute_precision(
    y: np.ndarray,
    score: np.ndarray,
    threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the share of positives among the flagged rows; 0 if no row is flagged."""
    is_flagged = score >= threshold
    flagged = float((weights * is_flagged).sum())
    if flagged <= 0:
        return 0.0
    return float((weights * y * is_flagged).sum()) / flagged


@register_metric(
    "recall",
    "recall",
    "binary",
    greater_is_better=True,
    no_skill=NoSkill.INDEPENDENT,
)
def compute_recall(
    y: np.ndarray,
    score: np.ndarray,
    threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the share of the positives that are flagged."""
    is_flagged = score >= threshold
    return float((weights * y * is_flagged).sum() / (weights * y).sum())


@register_metric(
    "accuracy",
    "accuracy",
    ("binary", "multiclass"),
    greater_is_better=True,
    no_skill=NoSkill.MAJORITY,
)
def compute_accuracy(
    y: np.ndarray,
    score: np.ndarray,
    threshold: float,
    weights: np.ndarray,
) -> float:
    """Compute the share of rows whose predicted class is the true one.

    The predicted class of a binary task is positive from the threshold on; that of a multiclass
    task is the most probable one.
    """
    predicted = score >= threshold if score.ndim == 1 else predict_codes(score)
    return float(np.average(predicted == y, weights=weights))
