"""Performance by class of a multiclass task: confusion matrix, decisions and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review.calibration import compute_calibration_curve
from mlops_kit.stats.binary_metrics import compute_calibration_error
from mlops_kit.stats.metrics import to_finite_arrays
from mlops_kit.stats.multiclass_metrics import count_by_class

_CONFUSION_TITLE = "Confusion matrix"
_CALIBRATION_TITLE = "Calibration by class"
_DECISIONS_TITLE = "Predicted classes"


class _ConfusionCell(NamedTuple):
    """One cell of a confusion matrix; `compute_confusion_matrix` explains the columns."""

    true_class: str
    predicted_class: str
    rows: int
    share: float


class _ClassRow(NamedTuple):
    """Precision and recall of one class."""

    true_class: str
    rows: int
    predicted: int
    precision: float
    recall: float
    f1: float


class _ClassCalibration(NamedTuple):
    """The calibration of one class against the rest."""

    name: str
    rows: int
    mean_probability: float
    observed_share: float
    calibration_error: float


def evaluate_classes(
    rows: pd.DataFrame, config: ProjectConfig, classes: Sequence[Any] = ()
) -> dict[str, Table]:
    """Evaluate each class of a multiclass task on the held-out rows.

    Parameters
    ----------
    rows : DataFrame
        Held-out rows with target and score.
    classes : sequence
        The names of the classes in the order of their codes.

    Returns
    -------
    dict of str to Table
        ``confusion``, ``calibration_by_class`` and ``calibration_curves_by_class``; empty for
        another task.
    """
    if config.task != "multiclass":
        return {}
    evaluated = (rows[config.target], rows["score"], classes, get_row_weights(rows, config))
    return {
        "confusion": compute_confusion_matrix(*evaluated),
        "calibration_by_class": evaluate_class_calibration(*evaluated),
        "calibration_curves_by_class": compute_class_calibration_curves(*evaluated),
    }


def _sum_cells(y: Any, score: Any, weights: Any = None) -> np.ndarray:
    """Sum the weights of the labeled rows by true class (rows) and predicted class (columns)."""
    y, score, weights = to_finite_arrays(y, score, weights)
    if len(y) == 0:
        return np.zeros((0, 0))
    return count_by_class(y, score, weights)


def _get_names(classes: Sequence[Any], class_count: int) -> list[str]:
    """Return the names of the classes; their codes if they are not on record."""
    return [str(value) for value in classes] or [str(code) for code in range(class_count)]


def compute_confusion_matrix(
    y: Any, score: Any, classes: Sequence[Any] = (), weights: Any = None
) -> Table:
    """Count the rows of each true class by predicted class, the most probable one.

    Parameters
    ----------
    y : array-like, shape (rows,)
        Codes of the true classes; rows without a label are left out.
    score : array-like, shape (rows, classes)
        The probability of each class.
    classes : sequence
        The names of the classes in the order of their codes.
    weights : array-like, optional
        The weight of each row.

    Returns
    -------
    Table
        One row per pair of classes: true class, predicted class, rows, share (of the true class,
        with weights).
    """
    counts = _sum_cells(y, score)
    sums = _sum_cells(y, score, weights)
    names = _get_names(classes, len(counts))
    cells = []
    for true_code, name in enumerate(names[: len(counts)]):
        total = float(sums[true_code].sum())
        for predicted_code, predicted_name in enumerate(names):
            cell = (true_code, predicted_code)
            share = _divide(float(sums[cell]), total)
            cells.append(_ConfusionCell(name, predicted_name, int(counts[cell]), share))
    data = pd.DataFrame(cells, columns=list(_ConfusionCell._fields))
    data = data.rename(columns={"true_class": "true class", "predicted_class": "predicted class"})
    return Table(
        _CONFUSION_TITLE,
        _summarize_confusion(counts, names),
        data,
        {"share": "of the true class"},
    )


def _summarize_confusion(counts: np.ndarray, names: list[str]) -> str:
    """Word the most frequent confusion."""
    total = int(counts.sum())
    if not total:
        return "There is no labeled row."
    errors = counts * (1 - np.eye(len(counts)))
    if not errors.any():
        return f"All {total:,} rows are predicted correctly."
    true_code, predicted_code = np.unravel_index(int(errors.argmax()), errors.shape)
    count = int(errors[true_code, predicted_code])
    share = format_percent(count / int(counts[true_code].sum()))
    return (
        f"{int(errors.sum()):,} of {total:,} rows are predicted wrongly; the most frequent error "
        f"is {names[predicted_code]} instead of {names[true_code]}: {count:,} rows, {share} of "
        f"{names[true_code]}."
    )


def evaluate_predicted_classes(
    y: Any, score: Any, classes: Sequence[Any] = (), weights: Any = None
) -> Table:
    """Compute precision, recall and F1 of each class; the most probable class is predicted.

    There is no threshold, and errors have no cost.

    Returns
    -------
    Table
        One row per class: class, rows, predicted (rows), precision, recall, f1 (with weights).
    """
    counts = _sum_cells(y, score)
    sums = _sum_cells(y, score, weights)
    names = _get_names(classes, len(counts))
    hits = np.diag(sums)
    true_sums = sums.sum(axis=1)
    predicted_sums = sums.sum(axis=0)
    class_rows = []
    for code in range(len(counts)):
        class_rows.append(
            _ClassRow(
                true_class=names[code],
                rows=int(counts[code].sum()),
                predicted=int(counts[:, code].sum()),
                precision=_divide(hits[code], predicted_sums[code]),
                recall=_divide(hits[code], true_sums[code]),
                f1=_divide(2 * hits[code], true_sums[code] + predicted_sums[code]),
            )
        )
    data = pd.DataFrame(class_rows, columns=list(_ClassRow._fields))
    data = data.rename(columns={"true_class": "class"})
    lead = "The most probable class is predicted, without a threshold and without costs."
    if not counts.any():
        return Table(_DECISIONS_TITLE, f"{lead} There is no labeled row.", data)
    weakest = data.sort_values(["recall", "class"]).iloc[0]
    sentence = (
        f"{lead} The lowest recall is that of {weakest['class']}: "
        f"{format_percent(float(weakest['recall']))} of {int(weakest['rows']):,} rows."
    )
    return Table(_DECISIONS_TITLE, sentence, data)


def _divide(numerator: float, denominator: float) -> float:
    """Divide; NaN by zero."""
    return float(numerator / denominator) if denominator else float("nan")


def evaluate_class_calibration(
    y: Any, score: Any, classes: Sequence[Any] = (), weights: Any = None
) -> Table:
    """Compute the calibration error of each class against the rest.

    Returns
    -------
    Table
        One row per class: class, rows, mean_probability, observed_share, calibration_error
        (expected calibration error over ten quantile bins); the last three with weights.
    """
    y, score, weights = to_finite_arrays(y, score, weights)
    names = _get_names(classes, score.shape[1] if len(y) else 0)
    rows = []
    for code, name in enumerate(names if len(y) else []):
        is_class = (y == code).astype(float)
        rows.append(
            _ClassCalibration(
                name=name,
                rows=int(is_class.sum()),
                mean_probability=float(np.average(score[:, code], weights=weights)),
                observed_share=float(np.average(is_class, weights=weights)),
                calibration_error=compute_calibration_error(is_class, score[:, code], 0.5, weights),
            )
        )
    data = pd.DataFrame(rows, columns=list(_ClassCalibration._fields))
    data = data.rename(columns={"name": "class"})
    if data.empty:
        return Table(_CALIBRATION_TITLE, "There is no labeled row.", data)
    worst = data.sort_values(["calibration_error", "class"], ascending=[False, True]).iloc[0]
    sentence = (
        f"Predicted and observed probability differ most for {worst['class']}, by "
        f"{format_percent(float(worst['calibration_error']), 1)} on average; the mean over "
        f"{len(data)} classes is {format_percent(float(data['calibration_error'].mean()), 1)}."
    )
    return Table(_CALIBRATION_TITLE, sentence, data, {"calibration_error": "against the rest"})


def compute_class_calibration_curves(
    y: Any, score: Any, classes: Sequence[Any] = (), weights: Any = None
) -> Table:
    """Compute the reliability curve of each class against the rest.

    Returns
    -------
    Table
        One row per class and bin: class, predicted, observed, low, high (95% interval of observed),
        rows, share (of all rows).
    """
    is_weighted = weights is not None
    y, score, finite_weights = to_finite_arrays(y, score, weights)
    columns = ["class", "predicted", "observed", "low", "high", "rows", "share"]
    names = _get_names(classes, score.shape[1] if len(y) else 0)
    curves = []
    for code, name in enumerate(names if len(y) else []):
        curve = compute_calibration_curve(
            (y == code).astype(float),
            score[:, code],
            weights=finite_weights if is_weighted else None,
        )
        curves.append(curve.to_frame().assign(**{"class": name}))
    sentence = f"{len(curves)} curves, each of one class against the rest."
    data = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=columns)
    return Table("Calibration curves by class", sentence, data[columns], {"share": "of all rows"})
