"""Prediction intervals of counts have their coverage, also with outliers and days that vary."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mlops_kit.stats.arrivals import Dispersion, estimate_dispersion, predict_count


def draw_counts(
    rng: np.random.Generator, mean: float, dispersion: float, shape: tuple[int, ...]
) -> np.ndarray:
    effects = np.ones(shape)
    if dispersion:
        effects = rng.gamma(1 / dispersion, dispersion, shape)
    return rng.poisson(mean * effects)


@pytest.mark.parametrize(("mean", "dispersion"), [(50, 0.0), (1000, 0.01), (50_000, 0.04)])
def test_dispersion_is_found(mean: float, dispersion: float) -> None:
    rng = np.random.default_rng(1)
    estimates = []
    for _ in range(50):
        counts = draw_counts(rng, mean, dispersion, (7, 8)).tolist()
        estimates.append(estimate_dispersion(counts).value)
    assert np.mean(estimates) == pytest.approx(dispersion, rel=0.4, abs=0.005)


def test_a_failure_among_the_counts_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    counts = draw_counts(rng, 1000, 0.01, (7, 8))
    with_failures = counts.copy()
    with_failures[:3, 0] = 0
    before = estimate_dispersion(counts.tolist())
    after = estimate_dispersion(with_failures.tolist())
    assert after.value == pytest.approx(before.value, abs=0.003)
    assert predict_count([0, *counts[0]], before, 0.99).low > 500


@pytest.mark.slow
def test_interval_covers_a_further_count() -> None:
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(600):
        counts = draw_counts(rng, 300, 0.02, (7, 9))
        dispersion = estimate_dispersion(counts[:, :8].tolist())
        interval = predict_count(counts[0, :8].tolist(), dispersion, 0.95)
        inside.append(interval.low <= counts[0, 8] <= interval.high)
    assert 0.93 <= np.mean(inside) <= 0.99


def test_interval_of_many_equal_counts_is_that_of_poisson() -> None:
    interval = predict_count([100] * 10_000, Dispersion(), 0.99)
    low, high = stats.poisson.ppf([0.005, 0.995], 100)
    assert (interval.low, interval.high) == (low, high)


def test_no_rows_predict_none() -> None:
    assert predict_count([0, 0, 3], Dispersion(0.1, 9), 0.99) == (0, 0.0, 0)
    assert estimate_dispersion([[0, 0], [], [4]]).value == 0.0


def test_interval_of_a_dispersion_that_is_uncertain_is_wider() -> None:
    counts = [900, 1000, 1100, 1000]
    lows = [predict_count(counts, Dispersion(0.01, free), 0.999).low for free in (4, 20, 400)]
    assert lows == sorted(lows)
    assert lows[0] < lows[-1] - 100
