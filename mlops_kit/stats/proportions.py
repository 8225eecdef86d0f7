"""Confidence intervals of proportions."""

from __future__ import annotations

import math

from mlops_kit.core.lazy import scipy_stats


def compute_wilson_interval(successes: int, rows: int) -> tuple[float, float]:
    """Compute the 95% Wilson score interval of a proportion.

    Unlike the normal interval it stays between 0 and 1 for few rows as well.

    References
    ----------
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Examples
    --------
    >>> [round(end, 4) for end in compute_wilson_interval(5, 10)]
    [0.2366, 0.7634]
    """
    interval = scipy_stats.binomtest(successes, rows).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def compute_weighted_wilson_interval(share: float, effective_rows: float) -> tuple[float, float]:
    """Compute the 95% Wilson score interval of a weighted share.

    Parameters
    ----------
    share : float
        The weighted share.
    effective_rows : float
        Effective number of rows, see ``mlops_kit.stats.weights.compute_effective_rows``.

    References
    ----------
    Korn & Graubard, "Confidence intervals for proportions with small expected number of positive
    counts estimated from survey data", Survey Methodology 24 (1998): an interval for proportions
    with the effective in place of the actual sample size.

    Examples
    --------
    >>> [round(end, 4) for end in compute_weighted_wilson_interval(0.5, 10)]
    [0.2366, 0.7634]
    """
    z = float(scipy_stats.norm.ppf(0.975))
    shrinkage = 1 + z**2 / effective_rows
    center = (share + z**2 / (2 * effective_rows)) / shrinkage
    share_variance = share * (1 - share) / effective_rows
    variance = share_variance + z**2 / (4 * effective_rows**2)
    half_width = z * math.sqrt(variance) / shrinkage
    low = max(0.0, center - half_width)
    high = min(1.0, center + half_width)
    return low, high
