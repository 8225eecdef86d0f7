"""How much the days of rows inflate the variance of a share or a mean.

Rows of one day share its weather and its prices. If they do, a window of seven days tells little
more than seven values do, however many rows it has. The design effect says by how much the variance
of a mean exceeds that of independent rows; the effective number of rows is the rows over it.

References
----------
Searle, Casella & McCulloch, "Variance components" (1992), chapter 3: the estimate of the variance
between days from unbalanced data (analysis of variance).
Kish, "Survey sampling" (1965), section 5.4: design effect = 1 + (rows per day - 1) · correlation.
Rao & Scott, "The analysis of categorical data from complex sample surveys", JASA 76 (1981): the
mean design effect corrects a chi-square statistic; referring it to F with the degrees of freedom of
the days is that of Rao & Scott, Annals of Statistics 15 (1987).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mlops_kit.core.lazy import np


class DesignEffects(NamedTuple):
    """Design effects on either side, and the degrees of freedom on which they rest.

    They are arrays with a value per score, or single numbers where the scores were pooled. Without
    days the design effect is one, and there are infinitely many degrees of freedom.
    """

    reference: np.ndarray
    current: np.ndarray
    degrees_of_freedom: float

    def take_largest(self) -> DesignEffects:
        """Return the largest design effects of all scores."""
        return DesignEffects(
            np.asarray(self.reference.max()),
            np.asarray(self.current.max()),
            self.degrees_of_freedom,
        )


class _MeanSquares(NamedTuple):
    """Mean squares between and within days, per score."""

    between: np.ndarray
    within: np.ndarray
    degrees_of_freedom: int
    rows_per_day: float


def estimate_design_effects(
    reference: np.ndarray,
    current: np.ndarray,
    scores: np.ndarray,
    pool_weights: np.ndarray | None = None,
) -> DesignEffects:
    """Estimate the design effects of the mean of scores.

    Both sides contribute to the variance between days; a shift between the sides does not.

    Parameters
    ----------
    reference, current : ndarray, shape (days, bins)
        Rows of each day in each bin.
    scores : ndarray, shape (bins, scores)
        The value that a row of a bin has.
    pool_weights : ndarray, shape (scores,), optional
        With these weights, the scores are pooled to one design effect.
    """
    sides = [counts[counts.sum(axis=1) > 0] for counts in (reference, current)]
    squares = _compute_mean_squares(sides, scores)
    if squares is None:
        ones = np.ones(scores.shape[1] if pool_weights is None else ())
        return DesignEffects(ones, ones, math.inf)
    between = squares.between
    within = squares.within
    if pool_weights is not None:
        between = np.asarray((between * pool_weights).sum())
        within = np.asarray((within * pool_weights).sum())
    day_variance = np.maximum(0.0, (between - within) / squares.rows_per_day)
    total_variance = day_variance + within
    correlation = np.divide(
        day_variance,
        total_variance,
        out=np.zeros_like(total_variance),
        where=total_variance > 0,
    )
    effects = []
    for counts in sides:
        other_rows = _compute_typical_rows(counts) - 1
        effects.append(1 + np.maximum(0.0, other_rows) * correlation)
    return DesignEffects(effects[0], effects[1], float(squares.degrees_of_freedom))


def _compute_typical_rows(counts: np.ndarray) -> float:
    """Return how many rows the day of a row has, averaged over rows."""
    rows_by_day = counts.sum(axis=1)
    return float((rows_by_day**2).sum() / rows_by_day.sum())


def _compute_mean_squares(sides: list[np.ndarray], scores: np.ndarray) -> _MeanSquares | None:
    """Compute the mean squares; None if the days do not suffice to tell them apart."""
    days = sum(len(counts) for counts in sides)
    rows = float(sum(counts.sum() for counts in sides))
    degrees_of_freedom = days - len(sides)
    if degrees_of_freedom < 1 or rows <= days or any(not len(counts) for counts in sides):
        return None
    between = np.zeros(scores.shape[1])
    within = np.zeros(scores.shape[1])
    typical_rows = 0.0
    for counts in sides:
        rows_by_day = counts.sum(axis=1)
        day_weights = rows_by_day[:, None]
        sums = counts @ scores
        means = sums / day_weights
        side_mean = sums.sum(axis=0) / rows_by_day.sum()
        squares_of_means = day_weights * means**2
        between += (day_weights * (means - side_mean) ** 2).sum(axis=0)
        within += (counts @ scores**2 - squares_of_means).sum(axis=0)
        typical_rows += _compute_typical_rows(counts)
    return _MeanSquares(
        between=between / degrees_of_freedom,
        within=np.maximum(within, 0) / (rows - days),
        degrees_of_freedom=degrees_of_freedom,
        rows_per_day=max(1.0, (rows - typical_rows) / degrees_of_freedom),
    )


def widen_p_value(p_value: np.ndarray | float, degrees_of_freedom: float) -> np.ndarray:
    """Refer a two-sided normal p-value to Student's t with the degrees of freedom of the days."""
    from scipy import special

    p_value = np.asarray(p_value, dtype=float)
    if math.isinf(degrees_of_freedom):
        return p_value
    deviation = special.ndtri(np.clip(p_value, 1e-300, 1) / 2)
    return np.asarray(2 * special.stdtr(degrees_of_freedom, deviation))
