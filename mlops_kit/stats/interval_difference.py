"""Interval of the difference of two independent estimates."""

from __future__ import annotations

import math

from mlops_kit.core.results import Interval


def compute_difference_interval(minuend: Interval, subtrahend: Interval) -> Interval:
    """Compute the difference of two independent estimates with its interval.

    The distances from the values to the bounds of their intervals are combined as standard errors
    are, on each side for itself, so that intervals may be asymmetric.

    Parameters
    ----------
    minuend, subtrahend : Interval
        Estimates from different rows, with intervals of the same level.

    Returns
    -------
    Interval
        ``minuend - subtrahend``; without bounds if one of the estimates has none, without a value
        if one of them has none.

    References
    ----------
    .. [1] G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures: a
       general approach", Statistics in Medicine 27 (2008), 1693-1702.

    Examples
    --------
    >>> compute_difference_interval(Interval(8, 5, 12), Interval(3, 0, 7))
    Interval(value=5, low=0.0, high=10.0, level=0.95)
    """
    if minuend.value is None or subtrahend.value is None:
        return Interval(None, level=minuend.level)
    value = minuend.value - subtrahend.value
    if minuend.low is None or minuend.high is None:
        return Interval(value, level=minuend.level)
    if subtrahend.low is None or subtrahend.high is None:
        return Interval(value, level=minuend.level)
    distance_below = math.hypot(minuend.value - minuend.low, subtrahend.high - subtrahend.value)
    distance_above = math.hypot(minuend.high - minuend.value, subtrahend.value - subtrahend.low)
    return Interval(value, value - distance_below, value + distance_above, minuend.level)
