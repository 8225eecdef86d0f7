"""Pairs of features that depend on one another in another way in a window than in the reference.

Two features may have the same distributions as before and another correlation. Trees find that only
by chance, because no first split by either feature tells the samples apart; the product of both
does. A pair is selected if the means of this product differ between the samples by more than chance
among all pairs (Welch's statistic, with Bonferroni's correction). Products are those of normal
scores of ranks, so that outliers do not decide.
"""

from __future__ import annotations

from typing import NamedTuple

from mlops_kit.core.lazy import np

MAX_PAIRS = 10
_MAX_P_VALUE = 0.01  # over all pairs
_QUANTILES = 64  # at which a feature is cut to look up its normal score


class FeaturePairs(NamedTuple):
    """Selected pairs, and how features become normal scores.

    Attributes
    ----------
    first, second : ndarray, shape (pairs,)
        The columns of each pair.
    cuts : dict of int to ndarray
        By column of a pair, the quantiles at which it is cut.
    """

    first: np.ndarray
    second: np.ndarray
    cuts: dict[int, np.ndarray]

    def add_products(self, features: np.ndarray) -> np.ndarray:
        """Append a column for each pair: the product of both normal scores."""
        if not len(self.first):
            return features
        scores = {
            column: _compute_normal_scores(features[:, column], cuts)
            for column, cuts in self.cuts.items()
        }
        products = [
            scores[first] * scores[second]
            for first, second in zip(self.first.tolist(), self.second.tolist(), strict=True)
        ]
        return np.column_stack([features, *products])


def select_feature_pairs(
    features: np.ndarray,
    is_window: np.ndarray,
    is_categorical: np.ndarray,
) -> FeaturePairs:
    """Select the pairs of numbers whose dependence differs most between the samples.

    Parameters
    ----------
    features : ndarray, shape (rows, features)
        Rows of both samples; NaN where a value is missing.
    is_window : ndarray, shape (rows,)
        The sample of each row.
    is_categorical : ndarray, shape (features,)
        Columns to leave out: codes have no order.

    Returns
    -------
    FeaturePairs
        At most ``MAX_PAIRS``; none if no difference is significant.
    """
    from scipy import special

    numbers = np.flatnonzero(~is_categorical)
    empty = np.empty(0, dtype=int)
    if len(numbers) < 2:
        return FeaturePairs(empty, empty, {})
    cuts = [_find_cuts(features[:, column]) for column in numbers]
    scores = np.column_stack(
        [
            _compute_normal_scores(features[:, column], column_cuts)
            for column, column_cuts in zip(numbers, cuts, strict=True)
        ]
    )
    first, second = np.triu_indices(len(numbers), k=1)
    difference = np.zeros(len(first))
    variance = np.zeros(len(first))
    for side, sign in ((is_window, 1), (~is_window, -1)):
        side_scores = scores[side]
        squares = side_scores**2
        rows = max(1, len(side_scores))
        means = (side_scores.T @ side_scores)[first, second] / rows
        mean_squares = (squares.T @ squares)[first, second] / rows
        difference += sign * means
        variance += (mean_squares - means**2) / rows
    statistics = np.divide(
        np.abs(difference),
        np.sqrt(variance),
        out=np.zeros_like(difference),
        where=variance > 0,
    )
    limit = -special.ndtri(_MAX_P_VALUE / 2 / len(first))
    largest = np.argsort(-statistics, kind="stable")[:MAX_PAIRS]
    selected = largest[statistics[largest] > limit]
    used = sorted({*first[selected].tolist(), *second[selected].tolist()})
    return FeaturePairs(
        numbers[first[selected]],
        numbers[second[selected]],
        {int(numbers[position]): cuts[position] for position in used},
    )


def _find_cuts(values: np.ndarray) -> np.ndarray:
    """Find the quantiles at which a feature is cut."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.empty(0)
    return np.asarray(np.quantile(known, np.arange(1, _QUANTILES) / _QUANTILES))


def _compute_normal_scores(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Look up the normal score of each value; zero, the middle, where it is missing."""
    from scipy import special

    # Of a value between equal quantiles, the middle of them.
    lower = np.searchsorted(cuts, values, side="left")
    upper = np.searchsorted(cuts, values, side="right")
    score_by_position = special.ndtri((np.arange(2 * _QUANTILES - 1) + 1) / (2 * _QUANTILES))
    scores = score_by_position[np.minimum(lower + upper, 2 * _QUANTILES - 2)]
    return np.where(np.isnan(values), 0.0, scores)
