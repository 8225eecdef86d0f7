"""Change points: found where they are, rarely found where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from mlops_kit.stats.change_point import find_change_point


def test_change_is_found_on_its_day_with_the_means_of_both_sides() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.5, 0.05, 40), rng.normal(1.3, 0.05, 6)])
    change = find_change_point(values)
    assert change is not None
    assert change.position == 40
    assert change.mean_before == pytest.approx(values[:40].mean())
    assert change.mean_after == pytest.approx(values[40:].mean())
    assert change.p_value == 0.001


@pytest.mark.slow
def test_stationary_days_rarely_have_a_change() -> None:
    found = 0
    for seed in range(150):
        values = np.random.default_rng(seed).gamma(4, 0.1, 60)
        found += find_change_point(values, seed=seed) is not None
    assert found <= 5  # 1.5 are expected; more than 5 have a probability of 0.4%


def test_newest_of_several_changes_is_found() -> None:
    rng = np.random.default_rng(1)
    levels = np.repeat([0.4, 1.2, 0.5], 20)
    change = find_change_point(levels + rng.normal(0, 0.05, 60))
    assert change is not None
    assert change.position == 40
    assert change.mean_after < change.mean_before


def test_days_with_many_rows_count_more() -> None:
    values = np.array([0.5, 0.6, 0.5, 0.6, 0.5, 0.6, 1.0, 1.1, 1.0, 1.1])
    weights = np.array([100, 100, 100, 100, 100, 100, 100, 100, 100, 1])
    change = find_change_point(values, weights)
    assert change is not None
    assert change.mean_after == pytest.approx(np.average(values[6:], weights=weights[6:]))


@pytest.mark.parametrize("values", [[], [1.0], [0.5] * 30, [0.1, 0.9, 0.1, 0.9, 0.1]], ids=str)
def test_few_or_constant_days_have_no_change(values: list[float]) -> None:
    assert find_change_point(values) is None
