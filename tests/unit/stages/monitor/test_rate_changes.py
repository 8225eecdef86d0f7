"""Small shares: rare categories, missing values and extreme values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor import drift
from mlops_kit.stages.monitor.rate_changes import compute_rate_p_values

LIMITS = MonitorConfig()
ROWS = 20_000
REPEATS = 20


def classify(before: object, now: object) -> tuple[str, str]:
    data = drift.measure_drift(
        pd.DataFrame({"x": before}), pd.DataFrame({"x": now}), ["x"], LIMITS
    ).data
    return data["status"].iloc[0], data["reason"].iloc[0]


def draw_categories(rare_share: float, rng: np.random.Generator) -> np.ndarray:
    shares = [0.5, 0.3, 0.2 - rare_share, rare_share]
    return rng.choice(["a", "b", "c", "rare"], ROWS, p=shares)


def test_rate_p_value_is_the_mid_p_of_the_binomial() -> None:
    before, now, part = 40, 80, 0.4
    upper = stats.binom.sf(now, before + now, part) + stats.binom.pmf(now, before + now, part) / 2
    found = compute_rate_p_values(np.array([before]), np.array([now]), np.array([part]))
    assert found[0] == pytest.approx(2 * upper)
    assert compute_rate_p_values(np.zeros(1), np.zeros(1), np.array([0.5]))[0] == 1


def test_rare_category_that_doubles_is_a_warning() -> None:
    rng = np.random.default_rng(0)
    outcomes = [
        classify(draw_categories(0.002, rng), draw_categories(0.004, rng)) for _ in range(REPEATS)
    ]
    assert outcomes.count(("warning", "rare_values")) >= 0.9 * REPEATS


def test_missing_values_below_five_points_are_an_alert() -> None:
    rng = np.random.default_rng(1)
    for _ in range(REPEATS):
        values = rng.normal(size=ROWS)
        missing = pd.Series(rng.normal(size=ROWS)).mask(rng.random(ROWS) < 0.04)
        assert classify(values, missing) == ("alert", "missing_values")


def test_values_times_hundred_in_five_percent_are_an_alert() -> None:
    rng = np.random.default_rng(2)
    for _ in range(REPEATS):
        scaled = rng.normal(size=ROWS) * np.where(rng.random(ROWS) < 0.05, 100, 1)
        assert classify(rng.normal(size=ROWS), scaled) == ("alert", "extreme_values")


@pytest.mark.slow
def test_unchanged_small_shares_are_no_drift() -> None:
    rng = np.random.default_rng(3)
    outcomes = []
    for _ in range(REPEATS):
        outcomes.append(classify(draw_categories(0.002, rng), draw_categories(0.002, rng)))
        sides = [pd.Series(rng.standard_t(3, ROWS)).mask(rng.random(ROWS) < 0.01) for _ in range(2)]
        outcomes.append(classify(*sides))
    assert [status for status, _ in outcomes].count("alert") == 0
    assert [status for status, _ in outcomes].count("warning") <= 3


def test_large_share_of_missing_values_that_varies_by_chance_is_no_alert() -> None:
    rng = np.random.default_rng(4)
    values = pd.Series(rng.normal(size=250))
    half = [values.mask(rng.random(250) < share) for share in (0.48, 0.54)]
    rise = half[1].isna().mean() - half[0].isna().mean()
    assert rise > LIMITS.max_missing_increase
    assert classify(*half)[0] == "not_tested"  # too few known values, and not significant


def test_tiny_change_of_a_share_is_not_reported_with_many_rows() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(size=400_000)
    few_missing = pd.Series(values).mask(rng.random(400_000) < 0.0005)
    assert classify(values, few_missing) == ("none", "effect")
