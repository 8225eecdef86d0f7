"""Monitoring with row weights and groups: tests, estimates and realized performance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import drift, drift_sides, drift_tests, estimate, realized
from mlops_kit.stages.monitor.drift_tests import DriftTestResult, SideWeights
from mlops_kit.stages.monitor.performance_estimate import (
    WindowRows,
    estimate_performance,
    fit_outcome_model,
)
from mlops_kit.stats.bootstrap import SamplingDesign


def make_config(**settings: Any) -> ProjectConfig:
    base = {"name": "t", "source": "x.csv", "target": "y", "task": "binary", "id": ["k"]}
    return ProjectConfig(**{**base, "time": "t", "review": {"draws": 100}, **settings})


def make_sides(rows: int = 400, shift: float = 0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(2)
    sides = []
    for side_shift in (0.0, shift):
        value = rng.normal(side_shift, 1, rows)
        sides.append(pd.DataFrame({"value": value, "name": np.where(value > 0.5, "high", "low")}))
    return sides[0], sides[1]


@pytest.mark.parametrize(("name", "column"), [("ks", "value"), ("cramers_v", "name")])
def test_equal_weights_give_the_unweighted_test(name: str, column: str) -> None:
    before, now = make_sides(shift=0.4)
    plain = drift_tests.run_drift_test(name, before[column], now[column])
    equal = SideWeights(np.full(len(before), 2.5), np.full(len(now), 0.1))
    weighted = drift_tests.run_drift_test(name, before[column], now[column], equal)
    assert weighted == pytest.approx(plain)


def test_weighted_ks_distance_is_that_of_repeated_rows() -> None:
    before, now = make_sides(shift=0.4)
    rng = np.random.default_rng(0)
    weights = SideWeights(rng.integers(0, 4, len(before)), rng.integers(1, 3, len(now)))
    found = drift_tests.run_drift_test("ks", before["value"], now["value"], weights)
    repeated = scipy_stats.ks_2samp(
        np.repeat(before["value"], weights.reference), np.repeat(now["value"], weights.current)
    )
    assert found.statistic == pytest.approx(repeated.statistic)
    # Weights add no rows, so the test is less certain than one of repeated rows.
    assert found.p_value > repeated.pvalue


@pytest.mark.parametrize(("name", "column"), [("ks", "value"), ("cramers_v", "name")])
def test_unequal_weights_do_not_reject_too_often(name: str, column: str) -> None:
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(300):
        values = pd.DataFrame({"value": rng.normal(size=300)})
        values["name"] = np.where(values["value"] > 0.3, "high", "low")
        weights = rng.exponential(size=300)
        result = drift_tests.run_drift_test(
            name,
            values[column][:150],
            values[column][150:],
            SideWeights(weights[:150], weights[150:]),
        )
        p_values.append(result.p_value)
    assert np.mean(np.array(p_values) < 0.05) < 0.09


def test_cramers_v_of_weighted_shares_by_hand() -> None:
    before = pd.Series(["a", "b"] * 100)
    now = pd.Series(["a", "b"] * 100)
    weights = SideWeights(np.ones(200), np.tile([3.0, 1.0], 100))
    found = drift_tests.run_drift_test("cramers_v", before, now, weights)
    # Shares 50/50 and 75/25; n is 200 and 400² / (100 · 10) = 160.
    table = np.array([[100.0, 100.0], [120.0, 40.0]])
    expected = scipy_stats.chi2_contingency(table, correction=False)
    assert found.p_value == pytest.approx(expected.pvalue)
    phi2 = (0.25**2 / 1.25 + 0.25**2 / 0.75) / 2
    assert found.statistic == pytest.approx(np.sqrt(phi2))


def test_drift_that_weights_undo_is_none() -> None:
    rng = np.random.default_rng(3)
    name = rng.choice(["a", "b"], 2000)
    oversampled = rng.choice(["a", "b"], 2000, p=[0.8, 0.2])
    reference, current = pd.DataFrame({"name": name}), pd.DataFrame({"name": oversampled})
    limits = make_config().monitor
    plain = drift.measure_drift(reference, current, ["name"], limits)
    assert plain.data["status"].tolist() == ["alert"]
    weights = SideWeights(np.ones(2000), np.where(oversampled == "a", 0.5 / 0.8, 0.5 / 0.2))
    weighted = drift.measure_drift(reference, current, ["name"], limits, design=weights)
    assert weighted.data["status"].tolist() == ["none"]
    assert "effective number of rows" in weighted.notes[-1]


def test_missing_share_is_weighted_and_rows_of_weight_zero_do_not_count() -> None:
    before, now = make_sides()
    now.loc[:199, "value"] = np.nan
    weights = SideWeights(np.ones(400), np.r_[np.zeros(200), np.ones(200)])
    row = drift.measure_drift(before, now, ["value"], make_config().monitor, 0, weights).data.iloc[
        0
    ]
    assert row["missing_current"] == 0
    assert row["status"] == "none"


@pytest.mark.parametrize("takes_weights", [False, True])
def test_test_of_a_plugin_without_weights_is_named(takes_weights: bool) -> None:
    @drift_tests.register_drift_test("mean_shift", "number", takes_weights=takes_weights)
    def run_mean_shift_test(reference: Any, current: Any, *_: Any) -> DriftTestResult:
        return DriftTestResult(0.0, abs(float(current.mean() - reference.mean())), 1.0)

    try:
        before, now = make_sides()
        tests = {"number": "mean_shift"}
        limits = make_config().monitor.model_copy(update={"tests": tests})
        weights = SideWeights(np.ones(400), np.tile([3.0, 1.0], 200))  # 400 rows tell as 320
        table = drift.measure_drift(before, now, ["value", "name"], limits, 0, weights)
        is_named = table.notes[-1].endswith("These tests take no weights: mean_shift.")
        assert is_named is not takes_weights
        effective_rows = table.data.set_index("column")["effective_rows"]
        assert effective_rows["value"] == pytest.approx(320 if takes_weights else 400)
    finally:
        del drift_tests.DRIFT_TESTS["mean_shift"]


def test_weights_of_both_sides_are_needed() -> None:
    config = make_config(weight="w")
    table = pd.DataFrame(
        {"k": range(4), "part": ["train", "test", "test", "gap"], "w": [9, 1, 2, 9]}
    )
    scored = pd.DataFrame({"k": [7, 8], "w": [3.0, np.nan]})
    weights = drift_sides.get_drift_weights(config, table, scored)
    assert weights is not None
    assert weights.reference.tolist() == [1, 2]
    assert weights.current.tolist() == [3, 3]
    assert drift_sides.get_drift_weights(config, table, scored.drop(columns="w")) is None
    assert drift_sides.get_drift_weights(make_config(), table, scored) is None


def test_group_and_weight_are_not_compared() -> None:
    config = make_config(weight="w", validation={"group": "g"})
    table = pd.DataFrame({"k": [1, 2], "g": ["a", "b"], "w": 1.0, "part": "test", "x": [1.0, 2.0]})
    scored = table.drop(columns="part").assign(score=0.5)
    held_out = pd.DataFrame({"k": [1, 2], "score": 0.4})
    reference, current = drift_sides.select_reference_and_current(config, table, held_out, scored)
    assert list(reference.columns) == list(current.columns) == ["x", "score"]


def make_scored(rows: int = 600) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    score = rng.random(rows)
    scored = pd.DataFrame(
        {
            "k": range(rows),
            "t": pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC"),
            "score": score,
        }
    )
    source = scored[["k", "t"]].assign(
        y=(rng.random(rows) < score) * 1, w=rng.integers(0, 4, rows), g=rng.integers(0, 60, rows)
    )
    return scored, source


def test_realized_performance_takes_weights_from_the_source() -> None:
    scored, source = make_scored()
    config = make_config(weight="w")
    table = realized.measure_realized_performance(scored, source, config, None)
    expected = roc_auc_score(source["y"], scored["score"], sample_weight=source["w"])
    assert table.to_intervals()["roc_auc"].value == pytest.approx(expected)
    days = realized.measure_performance_by_day(scored, source, config)
    first = scored["t"].dt.date == scored["t"].dt.date.iloc[0]
    expected = roc_auc_score(
        source["y"][first], scored["score"][first], sample_weight=source["w"][first]
    )
    assert days.data["roc_auc"].iloc[0] == pytest.approx(expected)


def test_realized_performance_resamples_groups() -> None:
    scored, source = make_scored()
    by_day = realized.measure_realized_performance(scored, source, make_config(), None)
    grouped = make_config(validation={"group": "g"})
    by_group = realized.measure_realized_performance(scored, source, grouped, None)
    assert by_group.data["value"].tolist() == by_day.data["value"].tolist()
    assert by_group.data["low"].tolist() != by_day.data["low"].tolist()


def test_estimate_of_whole_weights_is_that_of_repeated_rows() -> None:
    scored, source = make_scored()
    reference = source.assign(score=scored["score"])
    model = fit_outcome_model(reference, ["g"], make_config(weight=None))
    repeats = source["w"].to_numpy()
    features = reference[["g"]]
    weighted = estimate_performance(
        model,
        WindowRows(scored["score"], features, SamplingDesign(None, repeats.astype(float))),
    )
    repeated = estimate_performance(
        model,
        WindowRows(
            np.repeat(scored["score"].to_numpy(), repeats),
            features.loc[features.index.repeat(repeats)],
        ),
    )
    assert weighted.interval.value == pytest.approx(repeated.interval.value)


def test_cost_of_drift_of_whole_weights_is_that_of_repeated_rows() -> None:
    scored, source = make_scored()
    reference = source.assign(score=scored["score"], x=scored["score"] + source["y"])
    current = reference.sample(300, weights=reference["x"], random_state=0).reset_index(drop=True)
    weights = SideWeights(reference["w"].to_numpy(dtype=float), current["w"].to_numpy(dtype=float))
    found = estimate.estimate_drift_costs(reference, current, ["g"], make_config(), weights)
    sides = [frame.loc[frame.index.repeat(frame["w"])] for frame in (reference, current)]
    expected = estimate.estimate_drift_costs(*sides, ["g"], make_config())
    # The quantile bins are those of the rows, so the costs are close and not the same.
    assert found["g"] == pytest.approx(expected["g"], abs=0.02)
    plain = estimate.compare_distributions(reference["g"] % 3, current["g"] % 3, weights)
    assert sum(plain["current"]) == pytest.approx(1, abs=0.001)
