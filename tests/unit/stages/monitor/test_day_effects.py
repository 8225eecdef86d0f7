"""Days inflate variances: design effects, effective rows, and p-values that account for both."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor import drift, drift_tests
from mlops_kit.stages.monitor.binned_tests import CountedColumn, measure_ranks
from mlops_kit.stages.monitor.column_bins import ColumnBins
from mlops_kit.stages.monitor.day_effects import estimate_design_effects, widen_p_value
from mlops_kit.stages.monitor.drift_sides import DriftDesign, SideDays, make_drift_sides

LIMITS = MonitorConfig()
DAYS = 28
WINDOW_DAYS = 7


def make_rows(
    days: int, rows_per_day: int, day_sd: float, rng: np.random.Generator, columns: int = 10
) -> tuple[pd.DataFrame, np.ndarray]:
    day = np.repeat(np.arange(days), rows_per_day)
    values = rng.normal(size=(len(day), columns))
    values += rng.normal(0, day_sd, (days, columns))[day]
    return pd.DataFrame(values, columns=[f"c{i}" for i in range(columns)]), day


def test_design_effect_matches_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    shares = rng.beta(8, 8, 20)
    ones = rng.binomial(50, shares)
    counts = np.column_stack([50 - ones, ones]).astype(float)
    values = [np.repeat([0.0, 1.0], [50 - count, count]) for count in ones]
    # One side twice: the variance between its days is that of the one-way analysis.
    effects = estimate_design_effects(counts, counts, np.array([[0.0], [1.0]]))
    within = np.mean([day.var() for day in values]) * 50 / 49
    means = np.array([day.mean() for day in values])
    between = 50 * means.var(ddof=1)
    day_variance = (between - within) / 50
    expected = 1 + 49 * day_variance / (day_variance + within)
    assert effects.reference[0] == pytest.approx(expected)
    assert effects.degrees_of_freedom == 38


def test_without_days_there_is_no_design_effect() -> None:
    counts = np.array([[40.0, 60.0]])
    effects = estimate_design_effects(counts, counts, np.array([[0.0], [1.0]]))
    assert effects.reference[0] == 1
    assert math.isinf(effects.degrees_of_freedom)
    assert widen_p_value(0.01, math.inf) == 0.01


def test_p_value_is_that_of_students_t() -> None:
    assert widen_p_value(2 * stats.norm.sf(2.5), 12) == pytest.approx(2 * stats.t.sf(2.5, 12))
    assert widen_p_value(1.0, 12) == 1


def test_rank_test_of_days_is_the_t_test_of_their_means() -> None:
    rng = np.random.default_rng(1)
    bins = ColumnBins("number", edges=np.array([0.5]))
    sides = []
    for days in (12, 7):
        ones = rng.binomial(400, rng.beta(5, 5, days))
        sides.append(np.column_stack([400 - ones, ones, 0 * ones, 0 * ones]).astype(float))
    result = measure_ranks(CountedColumn(bins, sides[0], sides[1]))
    shares = [side[:, 1] / 400 for side in sides]
    expected = stats.ttest_ind(*shares).pvalue
    # The variance of single rows, which the test takes from both sides, differs a little.
    assert result.p_value * 0.9 == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("rows_per_day", [140, 1_500])
@pytest.mark.slow
def test_days_that_differ_raise_no_alert(rows_per_day: int) -> None:
    rng = np.random.default_rng(2)
    reference, reference_days = make_rows(DAYS, rows_per_day, 0.3, rng)
    with_days = 0
    without_days = 0
    for _ in range(8):
        current, days = make_rows(WINDOW_DAYS, rows_per_day, 0.3, rng)
        for design in (DriftDesign(SideDays(reference_days, days)), None):
            data = drift.measure_drift(
                reference, current, reference.columns, LIMITS, 0, design
            ).data
            alerts = int((data["status"] == "alert").sum())
            if design is None:
                without_days += alerts
            else:
                with_days += alerts
    assert with_days == 0
    assert without_days > 4  # of 80 columns


def test_independent_days_cost_little_power() -> None:
    rng = np.random.default_rng(3)
    reference, reference_days = make_rows(DAYS, 140, 0.0, rng)
    statuses = []
    for _ in range(5):
        current, days = make_rows(WINDOW_DAYS, 140, 0.0, rng)
        design = DriftDesign(SideDays(reference_days, days))
        data = drift.measure_drift(
            reference, current + 0.2, reference.columns, LIMITS, 0, design
        ).data
        statuses += data["status"].tolist()
    assert np.mean([status in ("warning", "alert") for status in statuses]) > 0.9


def test_categories_of_days_that_differ_raise_no_alert() -> None:
    rng = np.random.default_rng(4)

    def draw(days: int) -> tuple[pd.DataFrame, np.ndarray]:
        shares = rng.beta(6, 6, days)
        names = np.where(rng.random((days, 400)) < shares[:, None], "a", "b").ravel()
        return pd.DataFrame({"x": names}), np.repeat(np.arange(days), 400)

    reference, reference_days = draw(DAYS)
    statuses = []
    effective_rows = []
    for _ in range(20):
        current, days = draw(WINDOW_DAYS)
        design = DriftDesign(SideDays(reference_days, days))
        row = drift.measure_drift(reference, current, ["x"], LIMITS, 0, design).data.iloc[0]
        statuses.append(row["status"])
        effective_rows.append(row["effective_rows"])
    assert "alert" not in statuses
    # Correlation of rows of one day: 1/13, so seven days tell as much as about 90 rows.
    assert np.mean(effective_rows) == pytest.approx(90, rel=0.3)


def test_rows_of_weight_zero_leave_days_and_rows() -> None:
    rows = pd.DataFrame({"x": range(3)})
    weights = drift_tests.SideWeights(np.array([1.0, 0, 1]), np.ones(3))
    sides = make_drift_sides(rows, rows, DriftDesign(SideDays(np.arange(3), np.arange(3)), weights))
    assert sides.reference["x"].tolist() == [0, 2]
    assert sides.days is not None
    assert sides.days.reference.tolist() == [0, 2]
