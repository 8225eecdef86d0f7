"""What differs between the tasks: binary, multiclass and regression.

A label is a number for every task; that of a classifier is the code of a class. The score of a row
is the probability of the positive class, the probability of each class (in the order of the codes),
or the predicted value.

To add a task: 1. an entry in ``TASKS``, 2. metrics for it in ``mlops_kit.stats.metrics``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops_kit.core.lazy import np, pd


@dataclass(frozen=True)
class Task:
    """A kind of prediction.

    Attributes
    ----------
    name : str
        Its name in ``mlops.yaml``.
    search_metric, headline_metric : str
        The metrics that the search and the review use by default.
    loss_metric : str
        What models are fitted to, as far as it can be measured on any rows.
    calibration_metric : str
        The calibration error; empty for a regression.
    has_threshold : bool
        Whether a decision threshold turns the score into a predicted class.
    has_class_probabilities : bool
        Whether a score has a probability for each class.
    """

    name: str
    search_metric: str
    headline_metric: str
    loss_metric: str
    calibration_metric: str = ""
    has_threshold: bool = False
    has_class_probabilities: bool = False

    @property
    def has_classes(self) -> bool:
        """Whether the target is a class."""
        return self.has_threshold or self.has_class_probabilities


TASKS = {
    task.name: task
    for task in (
        Task(
            name="binary",
            search_metric="log_loss",
            headline_metric="roc_auc",
            loss_metric="log_loss",
            calibration_metric="calibration_error",
            has_threshold=True,
        ),
        Task(
            name="multiclass",
            search_metric="multiclass_log_loss",
            headline_metric="accuracy",
            loss_metric="multiclass_log_loss",
            calibration_metric="classwise_calibration_error",
            has_class_probabilities=True,
        ),
        Task(
            name="regression",
            search_metric="rmse",
            headline_metric="r2",
            loss_metric="rmse",
        ),
    )
}


def to_score_array(scores: Any) -> np.ndarray:
    """Convert scores to an array: shape (rows,), or (rows, classes) for class probabilities.

    A column of a table holds the class probabilities of a row as a list; a row without a score has
    NaN for each class.

    >>> to_score_array(pd.Series([[0.2, 0.8], None])).tolist()
    [[0.2, 0.8], [nan, nan]]
    >>> to_score_array([0.2, 0.8]).tolist()
    [0.2, 0.8]
    """
    array = np.asarray(scores)
    if array.dtype != object or array.ndim != 1:
        return array.astype(float)
    lengths = {len(value) for value in array if np.ndim(value) == 1}
    if not lengths:
        return array.astype(float)
    missing = np.full(max(lengths), np.nan)
    return np.array([value if np.ndim(value) == 1 else missing for value in array], dtype=float)


def to_score_column(scores: np.ndarray) -> Any:
    """Convert scores to the values of a column, see ``to_score_array``."""
    if scores.ndim == 1:
        return scores
    return pd.Series(list(scores.tolist()), dtype=object).to_numpy()


def is_finite_score(scores: np.ndarray) -> np.ndarray:
    """Return whether the score of each row is finite, for every class."""
    is_finite: np.ndarray = np.isfinite(scores)
    if scores.ndim == 2:
        return np.asarray(is_finite.all(axis=1))
    return is_finite


def summarize_score(scores: np.ndarray) -> np.ndarray:
    """Return one number per row: the score, or the probability of the most probable class."""
    summary: np.ndarray = scores if scores.ndim == 1 else scores.max(axis=1)
    return summary


def predict_codes(scores: np.ndarray) -> np.ndarray:
    """Return the code of the most probable class of each row; of equal ones the first."""
    codes: np.ndarray = scores.argmax(axis=1)
    return codes
