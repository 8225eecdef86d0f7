"""Proportions."""

from __future__ import annotations

from mlops_kit.core.lazy import scipy_stats


def compute_wilson_interval(hits: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); it stays between 0 and 1, also for few rows.

    >>> tuple(round(end, 4) for end in wilson(5, 10))
    (0.2366, 0.7634)
    """
    found = scipy_stats.binomtest(hits, rows).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
