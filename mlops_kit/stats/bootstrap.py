"""Bootstrap intervals of metrics, of ratios, and of differences between two models.

Rows of one day share its weather and its traffic, so resampling single rows would give intervals
that are too narrow. Where ``blocks`` are given, such as the days of the rows, whole blocks are
resampled. Rows may have weights: each draw multiplies them by how often the row is drawn. Weights
change the values; they do not add rows, so an interval does not narrow as if rows were repeated.

References
----------
Efron & Tibshirani, "An introduction to the bootstrap" (1993): paired samples in chapter 8, blocks
in section 8.6, percentile intervals in chapter 13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from mlops_kit.core.lazy import np
from mlops_kit.core.results import Interval
from mlops_kit.core.tasks import is_finite_score, summarize_score, to_score_array
from mlops_kit.stats.metrics import METRICS, MetricFunction, check_same_length

MIN_BLOCKS = 5  # with fewer blocks an interval says little more than how many there are
_INTERVAL_QUANTILES = (0.025, 0.975)
_MIN_FINITE_SHARE = 0.5  # of the draws, else there is no interval


class SamplingDesign(NamedTuple):
    """How rows were sampled: which belong together, and how much each counts.

    Attributes
    ----------
    blocks : ndarray or None
        The block of each row, such as its day or group; None: single rows were sampled.
    weights : ndarray or None
        The weight of each row; None: all rows count the same.
    """

    blocks: np.ndarray | None = None
    weights: np.ndarray | None = None

    def select(self, rows: np.ndarray) -> SamplingDesign:
        """Return the design of some of the rows, given by a mask or by positions."""
        return SamplingDesign(
            blocks=None if self.blocks is None else self.blocks[rows],
            weights=None if self.weights is None else self.weights[rows],
        )


def make_sampling_design(blocks: Any) -> SamplingDesign:
    """Make a sampling design of blocks; one that is a design already is returned as it is."""
    if isinstance(blocks, SamplingDesign):
        return blocks
    return SamplingDesign(None if blocks is None else np.asarray(blocks))


class _AlignedScores(NamedTuple):
    """Labels, scores and design of the rows in which labels and scores are finite."""

    y: np.ndarray
    scores: list[np.ndarray]
    design: SamplingDesign


def draw_row_counts(
    rows: int,
    blocks: Any,
    draws: int,
    seed: int,
) -> Iterator[np.ndarray]:
    """Iterate over bootstrap draws: how often each row is drawn.

    Parameters
    ----------
    rows : int
        Number of rows.
    blocks : array-like or None
        The block of each row; whole blocks are drawn. None: single rows are drawn.
    draws, seed : int
        Number of draws, and the random seed.
    """
    rng = np.random.default_rng(seed)
    block_of_row = np.arange(rows)
    if blocks is not None:
        block_of_row = np.unique(np.asarray(blocks), return_inverse=True)[1]
    block_count = int(block_of_row.max()) + 1
    for _ in range(draws):
        drawn_blocks = rng.integers(0, block_count, block_count)
        counts = np.bincount(drawn_blocks, minlength=block_count).astype(float)
        yield counts[block_of_row]


def _align_scores(
    y: Any,
    scores: list[Any],
    blocks: Any,
) -> _AlignedScores:
    """Keep the rows in which label and all scores are finite, sorted by the first score.

    Sorting once makes the sort in each draw cheap.
    """
    y = np.asarray(y, dtype=float)
    score_arrays = [to_score_array(score) for score in scores]
    is_finite = np.isfinite(y)
    for score in score_arrays:
        check_same_length(y, score)
        is_finite = is_finite & is_finite_score(score)
    finite_rows = np.flatnonzero(is_finite)
    order = finite_rows[np.argsort(summarize_score(score_arrays[0][finite_rows]), kind="stable")]
    return _AlignedScores(
        y=y[order],
        scores=[score[order] for score in score_arrays],
        design=make_sampling_design(blocks).select(order),
    )


def _compute_percentile_interval(value: float, drawn_values: list[float]) -> Interval:
    """Compute the 95% percentile interval; without ends if most draws have no value."""
    if not math.isfinite(value):
        return Interval(None)
    finite_values = [drawn for drawn in drawn_values if math.isfinite(drawn)]
    if not finite_values or len(finite_values) < _MIN_FINITE_SHARE * len(drawn_values):
        return Interval(value)
    low, high = np.quantile(finite_values, _INTERVAL_QUANTILES)
    return Interval(value, float(low), float(high))


def compute_prediction_interval(drawn_values: Any) -> tuple[float, float]:
    """Compute between which values a new draw is with a probability of 95%.

    Of n draws the k-th smallest is exceeded by a new one with probability 1 - k / (n + 1), so the
    interval is right for any number of draws.

    References
    ----------
    Hyndman & Fan, "Sample quantiles in statistical packages", The American Statistician 50 (1996):
    definition 6.
    """
    low, high = np.quantile(drawn_values, _INTERVAL_QUANTILES, method="weibull")
    return float(low), float(high)


def bootstrap_statistics(
    compute_statistics: Callable[[np.ndarray], dict[str, float]],
    rows: int,
    blocks: Any,
    draws: int,
    seed: int,
) -> dict[str, Interval]:
    """Compute statistics of weighted rows, each with its bootstrap interval.

    Parameters
    ----------
    compute_statistics : callable
        From the weight of each row to the statistics by name.
    rows : int
        Number of rows.
    blocks : array-like, SamplingDesign or None
        The block of each row, or blocks and weights; None: single rows are resampled.
    draws, seed : int
        Number of draws, and the random seed.

    Returns
    -------
    dict of str to Interval
        Without ends if there are fewer than two rows or five blocks.
    """
    design = make_sampling_design(blocks)
    if design.blocks is None:
        can_resample = rows > 1
    else:
        can_resample = len(np.unique(design.blocks)) >= MIN_BLOCKS
    row_weights = np.ones(rows) if design.weights is None else design.weights
    values = compute_statistics(row_weights)
    drawn_values: dict[str, list[float]] = {name: [] for name in values}
    if can_resample:
        for row_counts in draw_row_counts(rows, design.blocks, draws, seed):
            for name, drawn_value in compute_statistics(row_counts * row_weights).items():
                drawn_values[name].append(drawn_value)
    intervals = {}
    for name, value in values.items():
        intervals[name] = _compute_percentile_interval(value, drawn_values[name])
    return intervals


def compute_metric_intervals(
    names: Iterable[str],
    y: Any,
    score: Any,
    blocks: Any = None,
    draws: int = 500,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute metrics with percentile bootstrap intervals; all metrics use the same draws.

    Parameters
    ----------
    names : iterable of str
        Registered metrics.
    y, score : array-like, shape (rows,)
        Labels and scores (of shape (rows, classes) for a multiclass task); rows in which either is
        missing are left out.
    blocks : array-like or SamplingDesign, optional
        Rows that are resampled together, such as those of a day, or blocks and weights. With fewer
        than 5 blocks there is no interval.
    draws, seed : int
        Number of draws, and the random seed.

    Returns
    -------
    dict of str to Interval
        ``value`` is None if the metric cannot be computed, ``low`` and ``high`` are None if nothing
        can be resampled.
    """
    return compute_function_intervals(
        {name: METRICS[name].function for name in names},
        y,
        score,
        blocks,
        draws,
        seed,
    )


def bind_threshold(names: Iterable[str], threshold: float | None) -> dict[str, MetricFunction]:
    """Return the functions of metrics, at a decision threshold; None: 0.5."""
    return {name: partial(METRICS[name].function, threshold=threshold) for name in names}


def compute_function_intervals(
    functions: Mapping[str, MetricFunction],
    y: Any,
    score: Any,
    blocks: Any = None,
    draws: int = 500,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute functions of labels, scores and weights; see ``compute_metric_intervals``.

    Parameters
    ----------
    functions : mapping of str to callable
        Such as those of ``bind_threshold``.
    y, score, blocks, draws, seed
        See ``compute_metric_intervals``.
    """
    aligned = _align_scores(y, [score], blocks)
    aligned_score = aligned.scores[0]

    def compute_metrics(weights: np.ndarray) -> dict[str, float]:
        values = {}
        for name, function in functions.items():
            values[name] = function(aligned.y, aligned_score, weights=weights)
        return values

    return bootstrap_statistics(
        compute_metrics,
        len(aligned.y),
        aligned.design,
        draws,
        seed,
    )


def compute_ratio_interval(
    numerator: Any,
    denominator: Any,
    blocks: Any = None,
    draws: int = 500,
    seed: int = 0,
) -> Interval:
    """Compute the ratio of two sums with a percentile bootstrap interval.

    It is a mean if the denominator is 1 for every row, and a proportion of some rows if it is 1
    for these (precision: true positives by flagged rows).

    Parameters
    ----------
    numerator, denominator : array-like, shape (rows,)
        What is summed.
    blocks, draws, seed
        See ``compute_metric_intervals``.
    """
    numerator = np.asarray(numerator, dtype=float)
    denominator = np.asarray(denominator, dtype=float)

    def compute_ratio(weights: np.ndarray) -> dict[str, float]:
        total = float((weights * denominator).sum())
        if total <= 0:
            return {"ratio": math.nan}
        return {"ratio": float((weights * numerator).sum()) / total}

    return bootstrap_statistics(
        compute_ratio,
        len(numerator),
        blocks,
        draws,
        seed,
    )["ratio"]


def compute_paired_differences(
    names: Iterable[str],
    y: Any,
    scores: tuple[Any, Any],
    blocks: Any = None,
    draws: int = 500,
    seed: int = 0,
) -> dict[str, Interval]:
    """Compute how much better one model is than another on the same rows, by metric.

    Each draw has the same rows for both models and for all metrics, so that what is difficult for
    both cancels out. Noise adds to the calibration error of both models, so a difference in it is
    understated.

    Parameters
    ----------
    names : iterable of str
        Registered metrics.
    y : array-like, shape (rows,)
        Labels.
    scores : tuple of two array-likes
        The scores of the model and of the one it is compared with; rows in which a score or the
        label is missing are left out.
    blocks, draws, seed
        See ``compute_metric_intervals``.

    Returns
    -------
    dict of str to Interval
        Positive if the first model is better, whichever way the metric points. ``value`` is None
        if a metric cannot be computed, ``low`` and ``high`` are None if nothing can be resampled.
    """
    metrics = {name: METRICS[name] for name in names}
    aligned = _align_scores(y, list(scores), blocks)
    score, other_score = aligned.scores
    # Sorted by its own score, the sort in each draw is cheap for the second model too.
    other_order = np.argsort(summarize_score(other_score), kind="stable")
    other_y = aligned.y[other_order]
    other_score = other_score[other_order]

    def compute_gains(weights: np.ndarray) -> dict[str, float]:
        gains = {}
        for name, metric in metrics.items():
            value = metric.function(aligned.y, score, None, weights)
            other_value = metric.function(other_y, other_score, None, weights[other_order])
            gains[name] = metric.compute_gain(value, other_value)
        return gains

    return bootstrap_statistics(
        compute_gains,
        len(aligned.y),
        aligned.design,
        draws,
        seed,
    )


def compute_paired_difference(
    name: str,
    y: Any,
    scores: tuple[Any, Any],
    blocks: Any = None,
    draws: int = 500,
    seed: int = 0,
) -> Interval:
    """Compute how much better one model is in one metric; see ``compute_paired_differences``."""
    return compute_paired_differences(
        [name],
        y,
        scores,
        blocks,
        draws,
        seed,
    )[name]
