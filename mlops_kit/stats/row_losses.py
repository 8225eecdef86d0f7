"""The loss of each row: log loss of a classifier, squared error of a regression."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.lazy import np
from mlops_kit.core.tasks import TASKS, to_score_array

_MIN_PROBABILITY = 1e-3  # so that one confident error does not outweigh a day


def compute_row_losses(task: str, labels: Any, scores: Any) -> np.ndarray:
    """Compute the loss of each row; NaN where label or score is missing.

    Parameters
    ----------
    task : {"binary", "multiclass", "regression"}
        The task.
    labels : array-like, shape (rows,)
        Labels as numbers; of a classifier the codes of the classes.
    scores : array-like
        Scores of shape (rows,), or (rows, classes) for a multiclass task.

    Examples
    --------
    >>> compute_row_losses("binary", [1, 0], [0.5, 0.5]).round(3).tolist()
    [0.693, 0.693]
    >>> compute_row_losses("regression", [1.0, 3.0], [2.0, 3.0]).tolist()
    [1.0, 0.0]
    """
    labels = np.asarray(labels, dtype=float)
    scores = to_score_array(scores)
    if not TASKS[task].has_classes:
        return np.asarray((labels - scores) ** 2)
    is_known = np.isfinite(labels)
    codes = np.where(is_known, labels, 0).astype(int)
    if scores.ndim == 1:
        probabilities = np.where(codes == 1, scores, 1 - scores)
    else:
        probabilities = scores[np.arange(len(scores)), codes]
    losses = -np.log(np.clip(probabilities, _MIN_PROBABILITY, 1))
    return np.where(is_known, losses, np.nan)
