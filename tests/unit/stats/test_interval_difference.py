"""Interval of the difference of two independent estimates."""

from __future__ import annotations

import pytest

from mlops_kit.core.results import Interval
from mlops_kit.stats.interval_difference import compute_difference_interval
from mlops_kit.stats.proportions import compute_wilson_interval


def get_share(successes: int, rows: int) -> Interval:
    low, high = compute_wilson_interval(successes, rows)
    return Interval(successes / rows, low, high)


# R. G. Newcombe, Statistics in Medicine 17 (1998), 873-890, table II, method 10.
@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
    ],
)
def test_differences_of_proportions_equal_the_published_intervals(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    difference = compute_difference_interval(get_share(*first), get_share(*second))
    assert difference.low == pytest.approx(low, abs=5e-5)
    assert difference.high == pytest.approx(high, abs=5e-5)


def test_an_estimate_without_bounds_gives_a_difference_without_bounds() -> None:
    difference = compute_difference_interval(Interval(0.75), Interval(0.5, 0.4, 0.6))
    assert difference == Interval(0.25)


def test_a_missing_estimate_gives_no_difference() -> None:
    assert compute_difference_interval(Interval(0.75, 0.7, 0.8), Interval(None)) == Interval(None)
