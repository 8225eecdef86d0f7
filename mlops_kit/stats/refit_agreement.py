"""How closely two fits of one recipe agree, and by how much refits of a recipe differ anyway.

The final model is refitted with the held-out rows, so it cannot be evaluated on rows that it has
not seen; the review can only compare it with the evaluation model. How much a sound refit differs
depends on the recipe and the rows: a linear model hardly changes, boosted trees that fit their
training rows closely score the very rows that were added differently. No fixed limit is right for
both, so the training measures it: it refits the recipe with a held-out part of the *training* rows
taken away and with another seed, and compares that refit with the model that has seen these rows.
The two then differ as the evaluation model and the final model do.

References
----------
Comparing a statistic with its values for repeated fits on resampled rows follows Efron &
Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 6; that two models of the same
quality can still disagree on rows is the "predictive multiplicity" of Marx, Calmon & Ustun, ICML
(2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.core.tasks import TASKS, to_score_array
from mlops_kit.stats.metrics import compute_metric


class ReferenceRefit(NamedTuple):
    """How a refit with other rows and another seed differs from a model that has seen more rows.

    Attributes
    ----------
    fitted_rows, compared_rows : int
        Rows that the refit was fitted on, and rows that only the other model has seen; the two are
        compared on these.
    correlation : float
        See ``compute_score_correlation``.
    mean_shift : float
        See ``compute_mean_shift``.
    loss : float
        The loss of the refit on rows that it has not seen.
    gain : float
        See ``compute_relative_gain``: how much better the other model fits rows that it has seen.
    """

    fitted_rows: int
    compared_rows: int
    correlation: float
    mean_shift: float
    loss: float
    gain: float


@dataclass(frozen=True, repr=False)
class ReferenceRefits(Table):
    """The reference refits of a training, a row each; the artifact ``refits``.

    Parameters
    ----------
    schema_version : int
        Version of the columns.
    """

    schema_version: int = 1

    def list_refits(self) -> tuple[ReferenceRefit, ...]:
        """Return the refits as records."""
        refits = []
        numbers = self.data[list(ReferenceRefit._fields)].astype(float)
        for fitted_rows, compared_rows, *measures in numbers.to_numpy().tolist():
            refits.append(ReferenceRefit(int(fitted_rows), int(compared_rows), *measures))
        return tuple(refits)


def summarize_reference_refits(refits: list[ReferenceRefit]) -> ReferenceRefits:
    """Return the table of reference refits, with its sentence."""
    data = pd.DataFrame(refits, columns=list(ReferenceRefit._fields))
    sentence = "The recipe was not refitted for comparison."
    if refits:
        correlations = [refit.correlation for refit in refits]
        sentence = (
            f"{len(refits)} refits of the recipe with fewer rows and other seeds: the scores "
            f"correlate by {format_number(min(correlations))} to "
            f"{format_number(max(correlations))} on rows that only one of two models has seen."
        )
    return ReferenceRefits("Agreement of refits", sentence, data)


def measure_reference_refit(
    earlier: Any,
    later: Any,
    labels: Any,
    task: str,
    fitted_rows: int,
    weights: np.ndarray | None = None,
) -> ReferenceRefit:
    """Measure how a model that has not seen some rows differs from one that has.

    Parameters
    ----------
    earlier, later : array-like
        The scores of the model that has not seen the rows, and of the one that has.
    labels : array-like
        The labels of the rows.
    fitted_rows : int
        Rows that the earlier model was fitted on.
    weights : ndarray, optional
        The weight of each row in the loss.
    """
    loss = TASKS[task].loss_metric
    earlier_loss = compute_metric(loss, labels, earlier, weights=weights)
    later_loss = compute_metric(loss, labels, later, weights=weights)
    return ReferenceRefit(
        fitted_rows=fitted_rows,
        compared_rows=len(np.asarray(labels)),
        correlation=compute_score_correlation(earlier, later),
        mean_shift=compute_mean_shift(earlier, later, compute_score_unit(labels, task)),
        loss=earlier_loss,
        gain=compute_relative_gain(earlier_loss - later_loss, earlier_loss),
    )


def compute_score_correlation(first: Any, second: Any) -> float:
    """Compute the correlation of two models' scores on the same rows.

    It is Spearman's rank correlation. Of class probabilities it is Pearson's correlation over all
    rows and classes, after the mean of each class is subtracted: with many classes most
    probabilities are close to zero, and their ranks are noise. NaN if the scores of a model are
    constant, 0 if the models do not know the same number of classes.
    """
    first_array = to_score_array(first)
    second_array = to_score_array(second)
    if first_array.shape != second_array.shape:
        return 0.0
    if first_array.ndim == 1:
        first_values = pd.Series(first_array).rank()
        second_values = pd.Series(second_array).rank()
    else:
        first_values = pd.Series((first_array - first_array.mean(axis=0)).ravel())
        second_values = pd.Series((second_array - second_array.mean(axis=0)).ravel())
    if first_values.nunique() < 2 or second_values.nunique() < 2:
        return math.nan
    return float(first_values.corr(second_values))


def compute_mean_shift(first: Any, second: Any, unit: float) -> float:
    """Compute by how much the second scores are higher on average, in units.

    Of class probabilities it is the shift of the class whose probability changed most. NaN without
    rows, without a unit, or if the models do not know the same number of classes.
    """
    first_array = to_score_array(first)
    second_array = to_score_array(second)
    if first_array.shape != second_array.shape or not len(first_array) or not unit > 0:
        return math.nan
    shifts = np.atleast_1d(np.nanmean(second_array - first_array, axis=0))
    largest = int(np.abs(shifts).argmax())
    return float(shifts[largest]) / unit


def compute_score_unit(labels: Any, task: str) -> float:
    """Return the unit of a mean shift: 1 for probabilities, else the target's deviation."""
    if TASKS[task].has_classes:
        return 1.0
    return float(pd.Series(np.asarray(labels, dtype=float)).std())


def compute_relative_gain(gain: float, earlier_loss: float) -> float:
    """Return a gain in loss as a share of the loss before; 0 if there was no loss to reduce."""
    if math.isnan(gain) or math.isnan(earlier_loss):
        return math.nan
    if earlier_loss <= 0:
        return 0.0
    return gain / earlier_loss
