"""Gains of one model over another on the same rows, looked at again with every new window.

The gain of a window is the difference of a metric on its rows. Its variance is that of the
delete-a-block jackknife: rows of one day resemble one another, and both models are scored on the
same rows, so whole days are left out, of both models at once. The windows are combined as strata.

Whoever looks at an interval after every window, and acts the first time that it excludes zero,
acts by chance much more often than one look suggests. Look k therefore gets the share
α / (k (k + 1)) of the error rate, which sums to α over any number of looks, however the looks
depend on one another (Bonferroni's inequality).

References
----------
Efron & Tibshirani, "An introduction to the bootstrap" (1993), chapter 11: the jackknife. Lan &
DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70 (1983): spending the
error rate over looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mlops_kit.core.lazy import np
from mlops_kit.core.results import Interval
from mlops_kit.core.tasks import to_score_array
from mlops_kit.stats.bootstrap import MIN_BLOCKS, SamplingDesign
from mlops_kit.stats.metrics import METRICS, compute_metric

ROLLBACK_ERROR_RATE = 0.05  # share of equal models for which any look shows a loss
_ROW_BLOCKS = 10  # of consecutive rows, where there are too few days or groups
_MAX_BLOCKS = 50  # more are merged, since each one costs a computation of the metric


class PairedGain(NamedTuple):
    """The gain of a model over another one on the same rows.

    Attributes
    ----------
    value, variance : float
        The gain in a metric, positive if the model is better, and its sampling variance.
    degrees_of_freedom : int
        Blocks minus one, summed over windows.
    rows : int
        The rows that both models have scored and that have a label.
    """

    value: float
    variance: float
    degrees_of_freedom: int
    rows: int


class ScoredRows(NamedTuple):
    """The labels of rows, the scores of two models, and the decision threshold of each."""

    labels: np.ndarray
    scores: np.ndarray
    other_scores: np.ndarray
    threshold: float | None = None
    other_threshold: float | None = None


def measure_paired_gain(
    metric: str,
    rows: ScoredRows,
    design: SamplingDesign,
) -> PairedGain | None:
    """Measure the gain of a model over another one, with its jackknife variance.

    Parameters
    ----------
    metric : str
        The name of a registered metric.
    rows : ScoredRows
        The rows in the order of time; those without a label are left out.
    design : SamplingDesign
        The days or groups of the rows, and their weights. With fewer than five blocks, tenths of
        the rows in their order are the blocks.

    Returns
    -------
    PairedGain or None
        None if the metric cannot be computed.
    """
    known_rows = np.flatnonzero(np.isfinite(np.asarray(rows.labels, dtype=float)))
    if not len(known_rows):
        return None
    known = ScoredRows(
        np.asarray(rows.labels, dtype=float)[known_rows],
        to_score_array(rows.scores)[known_rows],
        to_score_array(rows.other_scores)[known_rows],
        rows.threshold,
        rows.other_threshold,
    )
    known_design = design.select(known_rows)
    weights = known_design.weights
    if weights is None:
        weights = np.ones(len(known_rows))
    blocks = _number_blocks(known_design.blocks, len(known_rows))
    value = _compute_gain(metric, known, weights)
    block_count = int(blocks.max()) + 1
    gains = []
    for block in range(block_count):
        gains.append(_compute_gain(metric, known, np.where(blocks == block, 0.0, weights)))
    left_out_gains = np.array(gains)
    if not np.isfinite([value, *gains]).all():
        return None
    deviations = left_out_gains - left_out_gains.mean()
    variance = (block_count - 1) / block_count * float((deviations**2).sum())
    return PairedGain(value, variance, block_count - 1, len(known_rows))


def _number_blocks(blocks: Any, row_count: int) -> np.ndarray:
    """Return the block of each row, from zero; tenths of the rows where there are too few."""
    numbers = np.zeros(row_count, dtype=int)
    if blocks is not None:
        numbers = np.unique(np.asarray(blocks), return_inverse=True)[1] % _MAX_BLOCKS
    if numbers.max() + 1 >= MIN_BLOCKS:
        return numbers
    row_blocks = min(_ROW_BLOCKS, row_count)
    return np.arange(row_count) * row_blocks // row_count


def _compute_gain(
    metric: str,
    rows: ScoredRows,
    weights: np.ndarray,
) -> float:
    """Compute the gain of the model over the other one on weighted rows."""
    value = compute_metric(
        metric,
        rows.labels,
        rows.scores,
        rows.threshold,
        weights,
    )
    other_value = compute_metric(
        metric,
        rows.labels,
        rows.other_scores,
        rows.other_threshold,
        weights,
    )
    return METRICS[metric].compute_gain(value, other_value)


def compute_sequential_interval(
    gains: Sequence[PairedGain], error_rate: float = ROLLBACK_ERROR_RATE
) -> Interval:
    """Combine the gains of windows, with an interval that stays valid if one looks at every window.

    Parameters
    ----------
    gains : sequence of PairedGain
        The gains of all windows so far; their number is that of the looks.
    error_rate : float
        The share of models without a loss for which any of the intervals is below zero.

    Returns
    -------
    Interval
        The mean gain per row. Each of its ends has the error rate of this look.

    Examples
    --------
    >>> gain = PairedGain(-0.02, 0.005**2, 6, 1000)
    >>> compute_sequential_interval([gain]).high < 0
    True
    >>> compute_sequential_interval([]).value is None
    True
    """
    from scipy import stats

    total_rows = sum(gain.rows for gain in gains)
    if not total_rows:
        return Interval(None)
    value = 0.0
    variance = 0.0
    for gain in gains:
        share = gain.rows / total_rows
        value += share * gain.value
        variance += share**2 * gain.variance
    look = len(gains)
    look_error_rate = error_rate / (look * (look + 1))
    degrees_of_freedom = sum(gain.degrees_of_freedom for gain in gains)
    if degrees_of_freedom < 1:
        return Interval(value)
    quantile = float(stats.t.isf(look_error_rate, degrees_of_freedom))
    half_width = quantile * math.sqrt(variance)
    return Interval(value, value - half_width, value + half_width, 1 - 2 * look_error_rate)


def shows_loss(interval: Interval, margin: float) -> bool:
    """Whether an interval of the gain shows that a model is worse, and by more than a margin.

    Examples
    --------
    >>> shows_loss(Interval(-0.02, -0.03, -0.01), 0.005)
    True
    >>> shows_loss(Interval(-0.02, -0.05, 0.01), 0.005)
    False
    """
    if interval.value is None or interval.high is None:
        return False
    return interval.high < 0 and interval.value < -margin
