"""Change points: the time from which a sequence of daily losses has another mean.

The statistic is the maximum over all splits of the standardized difference in means (CUSUM), its
null distribution is that of permuted days, and binary segmentation continues in the newer segment,
so that the newest change is found.

References
----------
Page, "Continuous inspection schemes", Biometrika 41 (1954); Vostrikova, "Detecting disorder in
multidimensional random processes", Soviet Mathematics Doklady 24 (1981), binary segmentation;
Antoch & Hušková, "Permutation tests in change point analysis", Statistics & Probability Letters 53
(2001).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from mlops_kit.core.lazy import np

_MIN_SEGMENT_DAYS = 3  # on each side of a change
_PERMUTATIONS = 999
_PERMUTATIONS_PER_BATCH = 111  # a batch is a matrix of so many rows
_MAX_P_VALUE = 0.01


class ChangePoint(NamedTuple):
    """A change in the mean of a sequence.

    Attributes
    ----------
    position : int
        Position of the first value after the change.
    p_value : float
        Share of permutations whose statistic is at least as large.
    mean_before, mean_after : float
        Weighted mean of the segment before and after the change.
    """

    position: int
    p_value: float
    mean_before: float
    mean_after: float


def find_change_point(
    values: Any,
    weights: Any = None,
    seed: int = 0,
) -> ChangePoint | None:
    """Find the newest significant change in the mean of a sequence.

    Parameters
    ----------
    values : array-like, shape (days,)
        One value per day, such as the mean loss, in time order.
    weights : array-like, shape (days,), optional
        How much each day counts, such as its rows.
    seed : int
        Seed of the permutations.

    Returns
    -------
    ChangePoint or None
        None if no change is significant: of sequences of exchangeable days, in 1% there is one.

    Examples
    --------
    >>> change = find_change_point([0.5, 0.4, 0.5, 0.6, 0.5, 0.4, 1.5, 1.6, 1.4, 1.5])
    >>> change.position, round(change.mean_after, 2)
    (6, 1.5)
    >>> find_change_point([0.5, 0.4, 0.5, 0.6, 0.5, 0.4, 0.5, 0.6, 0.4, 0.5]) is None
    True
    """
    values = np.asarray(values, dtype=float)
    weights = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    newest = None
    start = 0
    while True:
        change = _test_segment(values[start:], weights[start:], seed)
        if change is None:
            return newest
        start += change.position
        newest = change._replace(position=start)


def _test_segment(
    values: np.ndarray,
    weights: np.ndarray,
    seed: int,
) -> ChangePoint | None:
    """Test one segment for one change."""
    days = len(values)
    if days < 2 * _MIN_SEGMENT_DAYS or weights.sum() <= 0:
        return None
    statistics = _compute_statistics(values[None, :], weights[None, :])[0]
    position = int(statistics.argmax())
    observed = float(statistics[position])
    if not math.isfinite(observed) or observed <= 0:
        return None
    p_value = _compute_p_value(values, weights, observed, seed)
    if p_value > _MAX_P_VALUE:
        return None
    first = position + _MIN_SEGMENT_DAYS
    return ChangePoint(
        position=first,
        p_value=p_value,
        mean_before=float(np.average(values[:first], weights=weights[:first])),
        mean_after=float(np.average(values[first:], weights=weights[first:])),
    )


def _compute_statistics(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the squared standardized CUSUM of each row of a matrix at each allowed split."""
    totals = weights.sum(axis=1, keepdims=True)
    means = (values * weights).sum(axis=1, keepdims=True) / totals
    cumulated = ((values - means) * weights).cumsum(axis=1)
    weight_before = weights.cumsum(axis=1)
    variance = weight_before * (totals - weight_before) / totals
    inner = slice(_MIN_SEGMENT_DAYS - 1, values.shape[1] - _MIN_SEGMENT_DAYS)
    with np.errstate(all="ignore"):
        statistics = cumulated[:, inner] ** 2 / variance[:, inner]
    return np.asarray(np.nan_to_num(statistics, nan=0.0, posinf=0.0))


def _compute_p_value(values: np.ndarray, weights: np.ndarray, observed: float, seed: int) -> float:
    """Compute the share of permutations, the observed order included, that are as extreme."""
    rng = np.random.default_rng(seed)
    extreme = 1
    for _ in range(_PERMUTATIONS // _PERMUTATIONS_PER_BATCH):
        shape = (_PERMUTATIONS_PER_BATCH, len(values))
        order = rng.random(shape).argsort(axis=1)
        statistics = _compute_statistics(values[order], weights[order])
        extreme += int((statistics.max(axis=1) >= observed - 1e-12).sum())
    return extreme / (_PERMUTATIONS + 1)
