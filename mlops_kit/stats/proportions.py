"""Confidence intervals of proportions."""

from __future__ import annotations

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
