"""Faults of the labels of a window or day: flipped, or those of other rows.

Both look like a performance drop, and training on them would make the model follow the fault.

Flipped labels agree with the model as well as before once they are flipped back, and so does their
mean. Where about half of the labels are positive, or the mean of numbers is about zero, the mean
says nothing, and only time separates flipped labels from a concept that is inverted as a whole: the
labels before and after a fault are as usual, an inverted concept stays. As long as no later labels
are known, the labels count as flipped. A fault that lasts cannot be told from an inverted concept.

Labels of other rows, after a shifted join, have nothing to do with the scores, and no model learns
them from the features. Concept drift is neither: the features still determine the labels, in
another way.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import predict_codes, summarize_score, to_score_array
from mlops_kit.stages.monitor.feature_matrix import encode_columns
from mlops_kit.stages.monitor.feed_faults import FeedFaultKind

MIN_LABELED_ROWS = 200
NEIGHBORING_ROWS = 100  # before and after a period, with which its labels are compared
_MAX_STANDARD_ERRORS = 3.0  # of what is explained by chance
_MAX_RECOVERY_ERRORS = 2.0  # between flipped labels and the reference
_MIN_DROP_ERRORS = 6.0
_FOLDS = 3
_MAX_TREES = 40


class LabeledRows(NamedTuple):
    """The labels of rows, the scores that a model gave them, and their features."""

    labels: np.ndarray
    scores: np.ndarray
    features: pd.DataFrame


class Neighbors(NamedTuple):
    """The rows just before and after a period; empty where none are labeled yet."""

    before: LabeledRows
    after: LabeledRows


class _Association(NamedTuple):
    """How well scores order, or name, the labels: its value, that of chance, and its errors."""

    value: float
    chance: float
    chance_error: float
    error: float


def find_label_fault(
    window: LabeledRows,
    reference: LabeledRows,
    task: str,
    seed: int = 0,
    neighbors: Neighbors | None = None,
) -> tuple[FeedFaultKind, str] | None:
    """Find a fault of the labels of a window; None if there is none that can be told.

    Parameters
    ----------
    window, reference : LabeledRows
        The rows of the window, and those that the model was evaluated on; rows without a label are
        left out.
    task : {"binary", "multiclass", "regression"}
        The task. Flipped labels are looked for with two classes and with numbers.
    neighbors : Neighbors, optional
        The rows around the window. Without them flipped labels are found by their mean only.

    Notes
    -----
    The association is ROC-AUC, with the standard error of Hanley & McNeil, Radiology 143 (1982);
    accuracy; or Spearman's rank correlation.
    """
    window = _select_labeled(window)
    reference = _select_labeled(reference)
    if min(len(window.labels), len(reference.labels)) < MIN_LABELED_ROWS:
        return None
    usual = _measure_association(reference.labels, reference.scores, task)
    present = _measure_association(window.labels, window.scores, task)
    if usual is None or present is None:
        return None
    error = math.hypot(present.error, usual.error)
    drop = usual.value - present.value
    if drop < _MIN_DROP_ERRORS * error or usual.value <= usual.chance:
        return None
    flipped_value = 2 * present.chance - present.value
    is_recovered = abs(usual.value - flipped_value) <= _MAX_RECOVERY_ERRORS * error
    if task != "multiclass" and is_recovered:
        sentence = (
            f"the labels agree with the model ({format_number(flipped_value)}) only if they "
            f"are flipped, as well as before ({format_number(usual.value)})"
        )
        return _find_flipped_labels(window, reference, task, neighbors, sentence)
    # A concept that changes within the window cancels out over all of it, but not in each half.
    middle = len(window.labels) // 2
    parts = [window, _select_part(window, 0, middle), _select_part(window, middle, None)]
    if not all(_is_by_chance(part, task) for part in parts):
        return None
    if _is_learnable(window, task, seed):
        return None
    return (
        FeedFaultKind.SHIFTED_LABELS,
        "the labels have nothing to do with the scores, and no model learns them from the "
        "features: they are those of other rows",
    )


def _find_flipped_labels(
    window: LabeledRows,
    reference: LabeledRows,
    task: str,
    neighbors: Neighbors | None,
    sentence: str,
) -> tuple[FeedFaultKind, str] | None:
    """Tell flipped labels from an inverted concept, by their mean or by the rows around them."""
    if _is_mean_flipped(window.labels, reference.labels, task):
        return FeedFaultKind.FLIPPED_LABELS, sentence
    if neighbors is None or _is_opposed(neighbors.before, task) is not False:
        return None
    is_opposed_after = _is_opposed(neighbors.after, task)
    if is_opposed_after:
        return None
    if is_opposed_after is None:
        sentence += "; later labels will show whether the concept is inverted instead"
        return FeedFaultKind.FLIPPED_LABELS, sentence
    return FeedFaultKind.FLIPPED_LABELS, f"{sentence}, and those before and after are not"


def _is_opposed(rows: LabeledRows, task: str) -> bool | None:
    """Whether labels contradict the scores; None if there are too few to tell."""
    rows = _select_labeled(rows)
    if len(rows.labels) < NEIGHBORING_ROWS // 2:
        return None
    found = _measure_association(rows.labels, rows.scores, task)
    if found is None:
        return None
    return found.value < found.chance


def agrees_with_scores(rows: LabeledRows, task: str) -> bool:
    """Whether labels agree with the scores, more than by chance."""
    found = _measure_association(*_select_labeled(rows)[:2], task)
    if found is None:
        return False
    return found.value - found.chance > _MAX_STANDARD_ERRORS * found.chance_error


def _is_mean_flipped(
    labels: np.ndarray,
    reference_labels: np.ndarray,
    task: str,
) -> bool:
    """Whether the mean of the labels is that of the reference only once they are flipped."""
    flipped_labels = 1 - labels if task == "binary" else -labels
    usual = float(reference_labels.mean())
    error = math.hypot(
        float(labels.std()) / math.sqrt(len(labels)),
        float(reference_labels.std()) / math.sqrt(len(reference_labels)),
    )
    is_changed = abs(float(labels.mean()) - usual) > _MIN_DROP_ERRORS * error
    distance = abs(float(flipped_labels.mean()) - usual)
    return is_changed and distance < abs(float(labels.mean()) - usual) / 2


def _select_part(
    rows: LabeledRows,
    start: int,
    end: int | None,
) -> LabeledRows:
    return LabeledRows(rows.labels[start:end], rows.scores[start:end], rows.features[start:end])


def _is_by_chance(rows: LabeledRows, task: str) -> bool:
    """Whether the scores of rows agree with their labels no more, and no less, than by chance."""
    found = _measure_association(rows.labels, rows.scores, task)
    if found is None:
        return False
    return abs(found.value - found.chance) <= _MAX_STANDARD_ERRORS * found.chance_error


def _select_labeled(rows: LabeledRows) -> LabeledRows:
    labels = np.asarray(rows.labels, dtype=float)
    scores = to_score_array(rows.scores)
    is_known = np.isfinite(labels) & np.isfinite(summarize_score(scores))
    return LabeledRows(labels[is_known], scores[is_known], rows.features[is_known])


def _measure_association(
    labels: np.ndarray,
    scores: np.ndarray,
    task: str,
) -> _Association | None:
    """Measure how well scores agree with labels; None if the labels do not vary."""
    from scipy import stats
    from sklearn.metrics import roc_auc_score

    count = len(labels)
    if len(np.unique(labels)) < 2:
        return None
    if task == "binary":
        auc = float(roc_auc_score(labels, scores))
        positives = int(labels.sum())
        negatives = count - positives
        chance_error = math.sqrt((count + 1) / (12 * positives * negatives))
        return _Association(auc, 0.5, chance_error, _compute_auc_error(auc, positives, negatives))
    if task == "multiclass":
        accuracy = float((predict_codes(scores) == labels).mean())
        shares = np.bincount(labels.astype(int)) / count
        predicted_shares = np.bincount(predict_codes(scores).astype(int), minlength=len(shares))
        chance = float((shares * predicted_shares[: len(shares)] / count).sum())
        error = math.sqrt(max(accuracy * (1 - accuracy), 1 / count) / count)
        return _Association(accuracy, chance, math.sqrt(chance * (1 - chance) / count), error)
    correlation = float(stats.spearmanr(labels, scores).statistic)
    if not math.isfinite(correlation):
        return None
    error = 1 / math.sqrt(count - 3)
    return _Association(correlation, 0.0, error, error)


def _compute_auc_error(
    auc: float,
    positives: int,
    negatives: int,
) -> float:
    """Compute the standard error of ROC-AUC (Hanley & McNeil 1982, equation 2)."""
    better = max(auc, 1 - auc)
    q1 = better / (2 - better)
    q2 = 2 * better**2 / (1 + better)
    variance = better * (1 - better)
    variance += (positives - 1) * (q1 - better**2) + (negatives - 1) * (q2 - better**2)
    return math.sqrt(variance / (positives * negatives))


def _is_learnable(
    window: LabeledRows,
    task: str,
    seed: int,
) -> bool:
    """Whether a model that is fitted on some rows of a window says anything about the others."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    settings = {"max_iter": _MAX_TREES, "early_stopping": False, "random_state": seed}
    features = encode_columns(window.features, window.features.head(0))
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    labels = window.labels
    if task == "regression":
        model = HistGradientBoostingRegressor(**settings)
        scores = cross_val_predict(model, features, labels, cv=folds)
    else:
        # The columns of the probabilities are the classes that occur, so labels are numbered alike.
        labels = np.unique(labels, return_inverse=True)[1]
        model = HistGradientBoostingClassifier(**settings)
        scores = cross_val_predict(
            model,
            features,
            labels,
            cv=folds,
            method="predict_proba",
        )
        if task == "binary":
            scores = scores[:, 1]
    learned = _measure_association(labels, scores, task)
    if learned is None:
        return False
    return learned.value - learned.chance > _MAX_STANDARD_ERRORS * learned.chance_error
