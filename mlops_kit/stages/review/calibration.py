"""Calibration: how well predicted probabilities agree with what was observed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlops_kit.core.formatting import capitalize_first, format_number, format_percent
from mlops_kit.core.lazy import np, pd, scipy_stats
from mlops_kit.core.results import Table
from mlops_kit.core.tasks import predict_codes, summarize_score
from mlops_kit.stats.calibration import assign_quantile_bins
from mlops_kit.stats.metrics import to_finite_arrays
from mlops_kit.stats.proportions import (
    compute_weighted_wilson_interval,
    compute_wilson_interval,
)
from mlops_kit.stats.weights import compute_effective_rows, compute_weighted_mean

_UPPER_TAIL = 0.975
_NORMAL_QUANTILE_97_5 = 1.959963984540054
_TITLE = "Calibration"


class _CalibrationBin(NamedTuple):
    """One bin of a calibration curve; `compute_calibration_curve` explains the columns."""

    predicted: float
    observed: float
    low: float
    high: float
    rows: int
    share: float


def compute_calibration_curve(
    y: Any, score: Any, bins: int = 10, weights: Any = None, blocks: Any = None
) -> Table:
    """Compare predicted with observed values in bins of equally many rows.

    Labels of 0 and 1 get Wilson intervals, other targets the normal interval of a mean. With
    weights, the means and shares are weighted and the intervals rest on the effective number of
    rows in the bin.

    Of class probabilities it is the reliability diagram of the most probable class: its probability
    against the share of rows in which it is the true class (Guo, Pleiss, Sun & Weinberger, "On
    calibration of modern neural networks", ICML 2017).

    Parameters
    ----------
    y, score : array-like, shape (rows,)
        Labels and scores; rows in which either is missing are left out.
    bins : int
        Number of bins.
    weights : array-like, optional
        The weight of each row.
    blocks : array-like, optional
        The block of each row, such as its day. Rows of a block resemble one another, so that the
        intervals get wider: they rest on the cluster-robust variance of the mean with Student's t
        (Liang & Zeger, "Longitudinal data analysis using generalized linear models", Biometrika
        1986), and are never narrower than those of independent rows.

    Returns
    -------
    Table
        One row per bin: predicted (mean score), observed (mean label), low, high (95% interval of
        observed), rows, share (of all rows).
    """
    is_weighted = weights is not None
    row_blocks = None
    if blocks is not None:
        block_codes, _ = pd.factorize(np.asarray(blocks))
        # In the place of weights: the blocks of the rows that are kept.
        _, _, row_blocks = to_finite_arrays(y, score, block_codes)
    y, score, weights = to_finite_arrays(y, score, weights)
    if score.ndim == 2:
        y = (predict_codes(score) == y).astype(float)
        score = summarize_score(score)
    if len(y) == 0:
        return Table(
            _TITLE,
            "There is no labeled row to compare with.",
            pd.DataFrame(columns=list(_CalibrationBin._fields)),
        )
    bin_of_row = assign_quantile_bins(score, bins)
    labels_are_classes = bool(np.isin(y, (0, 1)).all())
    rows = []
    for number in np.unique(bin_of_row):
        is_inside = (bin_of_row == number) & (weights > 0)
        if not is_inside.any():
            continue
        labels = y[is_inside]
        bin_weights = weights[is_inside] if is_weighted else None
        low, high = _compute_interval(labels, bin_weights, labels_are_classes)
        if row_blocks is not None:
            block_interval = _compute_block_interval(
                labels, weights[is_inside], row_blocks[is_inside]
            )
            low, high = _widen_interval((low, high), block_interval, labels_are_classes)
        rows.append(
            _CalibrationBin(
                predicted=compute_weighted_mean(score[is_inside], bin_weights),
                observed=compute_weighted_mean(labels, bin_weights),
                low=low,
                high=high,
                rows=len(labels),
                share=float(weights[is_inside].sum() / weights.sum()),
            )
        )
    data = pd.DataFrame(rows, columns=list(_CalibrationBin._fields))
    sentence = _summarize_calibration(data, labels_are_classes)
    return Table(_TITLE, sentence, data, {"share": "of all rows"})


def _compute_interval(
    labels: np.ndarray, weights: np.ndarray | None, labels_are_classes: bool
) -> tuple[float, float]:
    """Compute the 95% interval of the mean label of a bin."""
    if labels_are_classes and weights is None:
        return compute_wilson_interval(int(labels.sum()), len(labels))
    mean = compute_weighted_mean(labels, weights)
    effective_rows = float(len(labels))
    variance = float(labels.var(ddof=1)) if len(labels) > 1 else math.nan
    if weights is not None:
        effective_rows = compute_effective_rows(weights)
        unbiased = effective_rows - 1
        variance = math.nan
        if unbiased > 0:
            squares = compute_weighted_mean((labels - mean) ** 2, weights)
            variance = squares * effective_rows / unbiased
    if labels_are_classes:
        return compute_weighted_wilson_interval(mean, effective_rows)
    half_width = _NORMAL_QUANTILE_97_5 * math.sqrt(variance) / math.sqrt(effective_rows)
    return mean - half_width, mean + half_width


def _compute_block_interval(
    labels: np.ndarray, weights: np.ndarray, blocks: np.ndarray
) -> tuple[float, float]:
    """Compute the 95% interval of a mean whose rows resemble one another within blocks.

    It is unbounded with a single block.
    """
    codes, _ = pd.factorize(blocks)
    block_count = int(codes.max()) + 1
    if block_count <= 1:
        return -math.inf, math.inf
    mean = compute_weighted_mean(labels, weights)
    block_sums = np.bincount(codes, weights * (labels - mean), block_count)
    correction = block_count / (block_count - 1)
    variance = correction * float((block_sums**2).sum()) / float(weights.sum()) ** 2
    half_width = float(scipy_stats.t.ppf(_UPPER_TAIL, block_count - 1)) * math.sqrt(variance)
    return mean - half_width, mean + half_width


def _widen_interval(
    interval: tuple[float, float], other: tuple[float, float], labels_are_classes: bool
) -> tuple[float, float]:
    """Return an interval that contains both; a share stays between 0 and 1."""
    low = min(interval[0], other[0])
    high = max(interval[1], other[1])
    if labels_are_classes:
        return max(low, 0.0), min(high, 1.0)
    return low, high


def find_bins_outside(curve: pd.DataFrame) -> pd.Series:
    """Find the bins in which the mean prediction is outside the interval of the mean label."""
    return (curve["predicted"] < curve["low"]) | (curve["predicted"] > curve["high"])


def _summarize_calibration(data: pd.DataFrame, labels_are_classes: bool) -> str:
    """Word the bin with the largest deviation, and how many bins are off."""
    deviation = (data["observed"] - data["predicted"]).abs()
    worst = data.iloc[int(deviation.to_numpy().argmax())]
    is_outside = find_bins_outside(data)
    format_value = format_percent if labels_are_classes else format_number
    return (
        f"Largest deviation: predicted {format_value(float(worst['predicted']))}, observed "
        f"{format_value(float(worst['observed']))}; in {int(is_outside.sum())} of {len(data)} bins "
        "the prediction is outside the interval."
    )


def compare_calibration_curves(
    y: Any,
    scores: Mapping[str, Any],
    bins: int = 10,
    weights: Any = None,
    blocks: Any = None,
) -> Table:
    """Compute the calibration curves of several models on the same rows.

    Parameters
    ----------
    scores : mapping of str to array-like
        Scores by the name of the model; a model without scores is left out.
    weights, blocks : array-like, optional
        The weight and the block of each row, as in ``compute_calibration_curve``.

    Returns
    -------
    Table
        One row per model and bin: model, predicted, observed, low, high, share (of all rows).
    """
    sentences = []
    frames = []
    for name, model_scores in scores.items():
        if model_scores is None:
            continue
        curve = compute_calibration_curve(y, model_scores, bins, weights, blocks)
        first_letter = curve.sentence[0].lower()
        sentences.append(f"{capitalize_first(name)}: {first_letter}{curve.sentence[1:]}")
        frames.append(curve.to_frame().assign(model=name))
    data = pd.concat(frames, ignore_index=True)
    columns = ["model", "predicted", "observed", "low", "high", "share"]
    return Table(_TITLE, " ".join(sentences), data[columns], {"share": "of all rows"})
