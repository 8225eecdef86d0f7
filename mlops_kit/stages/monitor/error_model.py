"""How errors of a regression are distributed given the features.

The size of the error is predicted from the features and the prediction; what remains is the
distribution of errors relative to it. Errors of one day may be high or low, or large or small,
together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mlops_kit.core.lazy import np
from mlops_kit.stats.block_effects import (
    BlockEffects,
    encode_blocks,
    estimate_block_effects,
    make_no_effects,
)
from mlops_kit.stats.bootstrap import SamplingDesign

_FOLDS = 5
_MIN_ROWS = 100  # of the reference, to predict the size of errors from features
_MIN_RELATIVE_SIZE = 0.05  # of the mean error, below which no size is predicted
_MAX_SIZE_BINS = 10
_MIN_BIN_ROWS = 100


class ErrorModel(NamedTuple):
    """The distribution of errors given features; see ``fit_error_model``.

    Attributes
    ----------
    regressors : tuple
        Models of the error's size, each fitted without one part of the reference.
    mean_size : float
        The mean absolute error of the reference.
    size_cuts : ndarray
        Where predicted sizes are cut into bins.
    relative_errors, bins, blocks, weights : ndarray, shape (rows,)
        Of each row of the reference, sorted by bin: the error, divided by its predicted size,
        without the variance of ``level_effects``; the bin of that size; the number of its day or
        group; its weight.
    level_effects, size_effects : BlockEffects
        What the rows of a day have in common: the mean of the relative errors, and their size.
    """

    regressors: tuple[Any, ...]
    mean_size: float
    size_cuts: np.ndarray
    relative_errors: np.ndarray
    bins: np.ndarray
    blocks: np.ndarray
    weights: np.ndarray
    level_effects: BlockEffects
    size_effects: BlockEffects

    def predict_sizes(self, features: np.ndarray) -> np.ndarray:
        """Predict the absolute error of each row with each regressor, shape (regressors, rows)."""
        from threadpoolctl import threadpool_limits

        if not self.regressors:
            return np.full((1, len(features)), self.mean_size)
        with threadpool_limits(1):
            sizes = np.stack([regressor.predict(features) for regressor in self.regressors])
        return np.asarray(np.maximum(sizes, _MIN_RELATIVE_SIZE) * self.mean_size)

    def simulate(
        self,
        scores: np.ndarray,
        features: np.ndarray,
        blocks: np.ndarray | None,
        draws: int,
        rng: np.random.Generator,
    ) -> Iterator[np.ndarray]:
        """Iterate over simulated values of the target.

        Each draw predicts the sizes with one of the regressors and resamples the reference's
        blocks. The relative error of a row is that of a reference row of about the same size.
        """
        sizes = self.predict_sizes(features)
        bins = np.searchsorted(self.size_cuts, sizes / self.mean_size, side="right")
        block_codes, block_count = encode_blocks(blocks, len(scores))
        for draw in range(draws):
            number = draw % len(sizes)
            relative_errors = self._draw_relative_errors(bins[number], rng)
            level = self.level_effects.draw(block_count, rng)[block_codes, 0]
            growth = np.exp(self.size_effects.draw(block_count, rng)[block_codes, 0])
            yield scores + sizes[number] * growth * (relative_errors + level)

    def _draw_relative_errors(
        self,
        bins: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Draw a relative error for each row, from reference rows of its bin."""
        reference_blocks = int(self.blocks.max()) + 1
        drawn_blocks = rng.integers(0, reference_blocks, reference_blocks)
        block_counts = np.bincount(drawn_blocks, minlength=reference_blocks)
        ends = np.cumsum(block_counts[self.blocks] * self.weights)
        bin_borders = np.searchsorted(self.bins, np.arange(len(self.size_cuts) + 2))
        totals = np.r_[0.0, ends][bin_borders]
        low = totals[bins]
        high = totals[bins + 1]
        is_empty = high <= low  # none of the bin's rows was drawn: any row serves
        low = np.where(is_empty, 0.0, low)
        high = np.where(is_empty, ends[-1], high)
        positions = low + rng.random(len(bins)) * (high - low)
        rows = np.searchsorted(ends, positions, side="right")
        return np.asarray(self.relative_errors[np.minimum(rows, len(ends) - 1)])


def fit_error_model(
    scores: np.ndarray,
    y: np.ndarray,
    features: np.ndarray,
    design: SamplingDesign | None = None,
    categorical: np.ndarray | None = None,
    seed: int = 0,
) -> ErrorModel | None:
    """Fit how errors are distributed given the features; None without an error.

    Parameters
    ----------
    scores, y : ndarray, shape (rows,)
        Predictions of the reference, and its labels; all finite.
    features : ndarray, shape (rows, columns)
        Features as numbers, NaN where missing.
    design : SamplingDesign, optional
        The day or group, and the weight, of each row.
    categorical : ndarray of bool, shape (columns,), optional
        Which columns are codes of categories.

    Notes
    -----
    The size is predicted by gradient-boosted trees, each row's by those that were fitted without
    its part of the reference, as in NannyML's direct loss estimation (DLE).
    """
    errors = y - scores
    sizes = np.abs(errors)
    if len(errors) == 0 or not sizes.any():
        return None
    blocks, weights = design or SamplingDesign()
    mean_size = float(np.average(sizes, weights=weights))
    block_codes, _ = encode_blocks(blocks, len(errors))
    regressors, predicted = _cross_fit_sizes(
        features,
        sizes / mean_size,
        SamplingDesign(block_codes, weights),
        categorical,
        seed,
    )
    relative_errors = errors / (predicted * mean_size)
    bin_count = max(1, min(_MAX_SIZE_BINS, len(errors) // _MIN_BIN_ROWS))
    inner_shares = np.linspace(0, 1, bin_count + 1)[1:-1]
    size_cuts = np.unique(np.quantile(predicted, inner_shares))
    bins = np.searchsorted(size_cuts, predicted, side="right")
    level_effects = make_no_effects(1)
    size_effects = make_no_effects(1)
    if blocks is not None:
        level_effects = _estimate_level_effects(relative_errors, block_codes)
        size_effects = _estimate_size_effects(relative_errors, block_codes)
    order = np.argsort(bins, kind="stable")
    row_weights = np.ones(len(errors)) if weights is None else weights
    return ErrorModel(
        regressors,
        mean_size,
        size_cuts,
        _remove_level_variance(relative_errors[order], level_effects),
        bins[order],
        block_codes[order],
        row_weights[order],
        level_effects,
        size_effects,
    )


def _cross_fit_sizes(
    features: np.ndarray,
    relative_sizes: np.ndarray,
    design: SamplingDesign,
    categorical: np.ndarray | None,
    seed: int,
) -> tuple[tuple[Any, ...], np.ndarray]:
    """Fit the size of errors without each fold, and predict it for the rows of that fold."""
    block_codes, block_count = encode_blocks(design.blocks, len(relative_sizes))
    weights = design.weights
    if len(relative_sizes) < _MIN_ROWS or block_count < _FOLDS or not features.shape[1]:
        return (), np.ones(len(relative_sizes))
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    fold_of_block = rng.permutation(block_count) % _FOLDS
    fold_of_row = fold_of_block[block_codes]
    predicted = np.empty(len(relative_sizes))
    regressors = []
    for fold in range(_FOLDS):
        is_inside = fold_of_row == fold
        regressor = HistGradientBoostingRegressor(
            loss="poisson",
            learning_rate=0.1,
            max_iter=50,
            max_leaf_nodes=8,
            min_samples_leaf=30,
            early_stopping=False,
            categorical_features=categorical,
            random_state=seed,
        )
        fold_weights = None if weights is None else weights[~is_inside]
        with threadpool_limits(1):  # more threads are slower on so few rows
            regressor.fit(features[~is_inside], relative_sizes[~is_inside], fold_weights)
            predicted[is_inside] = regressor.predict(features[is_inside])
        regressors.append(regressor)
    return tuple(regressors), np.maximum(predicted, _MIN_RELATIVE_SIZE)


def _estimate_level_effects(relative: np.ndarray, blocks: np.ndarray) -> BlockEffects:
    """Estimate how the mean of the relative errors differs between blocks."""
    residuals = relative - relative.mean()
    return estimate_block_effects(
        residuals[:, None],
        np.ones((len(relative), 1)),
        np.array([[_sum_squares_within(residuals, blocks)]]),
        blocks,
    )


def _estimate_size_effects(relative: np.ndarray, blocks: np.ndarray) -> BlockEffects:
    """Estimate how the size of the relative errors differs between blocks, as a share of it."""
    centered = relative - _average_by_block(relative, blocks)
    sizes = np.abs(centered)
    residuals = sizes / sizes.mean() - 1
    return estimate_block_effects(
        residuals[:, None],
        np.ones((len(relative), 1)),
        np.array([[_sum_squares_within(residuals, blocks)]]),
        blocks,
    )


def _remove_level_variance(relative: np.ndarray, level_effects: BlockEffects) -> np.ndarray:
    """Shrink relative errors towards their mean by the variance that their days explain."""
    variance = float(relative.var())
    if variance <= 0:
        return relative
    level_variance = float(level_effects.variances[0])
    within_share = max(0.0, 1 - level_variance / variance)
    center = float(relative.mean())
    return np.asarray(center + (relative - center) * np.sqrt(within_share))


def _average_by_block(values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Return the mean of each row's block."""
    sums = np.bincount(blocks, values)
    return np.asarray((sums / np.maximum(np.bincount(blocks), 1))[blocks])


def _sum_squares_within(values: np.ndarray, blocks: np.ndarray) -> float:
    """Sum the variance of each row, as it is within its block."""
    deviations = values - _average_by_block(values, blocks)
    freedom = len(values) - len(np.unique(blocks))
    if freedom <= 0:
        return float((values**2).sum())
    return float((deviations**2).sum() / freedom * len(values))
