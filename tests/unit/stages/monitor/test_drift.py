"""Drift: contracts of meaning for every test, both conditions, and a status for every column."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import drift, drift_sides, drift_tests
from mlops_kit.stages.monitor.drift_classification import DRIFT_COLUMNS
from mlops_kit.stages.monitor.schema import check_schema

LIMITS = MonitorConfig()
NUMERIC = [n for n, t in drift_tests.DRIFT_TESTS.items() if "number" in t.column_kinds]
CATEGORICAL = [n for n, t in drift_tests.DRIFT_TESTS.items() if "category" in t.column_kinds]


def sample(kind: str, rows: int, shift: float, seed: int) -> pd.Series:
    """A column of a kind; ``shift`` of 0 is the reference's own distribution."""
    rng = np.random.default_rng(seed)
    if kind == "number":
        return pd.Series(rng.normal(shift, 1, rows))
    if kind == "boolean":
        return pd.Series(rng.random(rows) < 0.3 + shift / 3)
    names = np.array(["a", "b", "c", "d"]) if kind == "category" else np.arange(4)
    weights = np.array([0.4, 0.3, 0.2, 0.1]) + shift * np.array([-0.3, -0.1, 0.1, 0.3])
    return pd.Series(rng.choice(names, rows, p=weights))


def classify(before: object, now: object, limits: MonitorConfig = LIMITS) -> tuple[str, str]:
    """Status and reason of one column."""
    found = measure_column(before, now, limits)
    return found["status"], found["reason"]


def measure_column(before: object, now: object, limits: MonitorConfig = LIMITS) -> pd.Series:
    """The row of one column."""
    table = drift.measure_drift(
        pd.DataFrame({"x": before}), pd.DataFrame({"x": now}), ["x"], limits
    )
    return table.data.iloc[0]


TESTS_AND_KINDS = [(n, k) for n, t in drift_tests.DRIFT_TESTS.items() for k in t.column_kinds]


@pytest.mark.parametrize(("name", "kind"), TESTS_AND_KINDS)
def test_same_sample_has_no_effect(name: str, kind: str) -> None:
    values = sample(kind, 2000, 0.0, 1)
    found = drift_tests.DRIFT_TESTS[name].function(values, values)
    assert found.effect == 0
    assert found.p_value > 0.99


@pytest.mark.parametrize(("name", "kind"), TESTS_AND_KINDS)
@pytest.mark.parametrize("rows", [300, 5000, 150_000])
def test_same_distribution_never_alerts(name: str, kind: str, rows: int) -> None:
    found = classify(sample(kind, rows, 0.0, 1), sample(kind, rows, 0.0, 2))
    assert found == ("none", "effect")


@pytest.mark.parametrize(("name", "kind"), TESTS_AND_KINDS)
@pytest.mark.parametrize("rows", [300, 5000])
def test_shifted_distribution_alerts(name: str, kind: str, rows: int) -> None:
    found = classify(sample(kind, rows, 0.0, 1), sample(kind, rows, 1.0, 2))
    assert found == ("alert", "effect")


@pytest.mark.parametrize("kind", ["number", "category"])
def test_tiny_shift_never_alerts_with_many_rows(kind: str) -> None:
    found = measure_column(sample(kind, 100_000, 0.0, 1), sample(kind, 100_000, 0.04, 2))
    assert found["adjusted_p"] < LIMITS.alpha
    assert found["status"] == "none"


@pytest.mark.parametrize("name", NUMERIC)
def test_degenerate_numbers_give_finite_results(name: str) -> None:
    odd = [pd.Series([1.0] * 50), pd.Series([1.0, math.inf, -math.inf] * 20), pd.Series([0.0])]
    for now in odd:
        assert all(
            map(math.isfinite, drift_tests.DRIFT_TESTS[name].function(pd.Series([1.0] * 50), now))
        )


@pytest.mark.parametrize("name", CATEGORICAL)
def test_degenerate_categories_give_finite_results(name: str) -> None:
    for before, now in (
        (["a"] * 50, ["a"] * 50),
        (["a"] * 50, ["b"] * 50),
        (["a", "b"] * 25, ["a"] * 50),
        (["a"] * 3, ["b"] * 2),
    ):
        found = drift_tests.DRIFT_TESTS[name].function(pd.Series(before), pd.Series(now))
        assert all(map(math.isfinite, found))
        assert 0 <= found.effect <= 1


def test_disjoint_categories_have_effect_of_one() -> None:
    assert drift_tests.run_cramers_v_test(
        pd.Series(["a"] * 50), pd.Series(["b"] * 50)
    ).effect == pytest.approx(1.0)


def test_ks_effect_is_scipy_statistic_less_second_moment() -> None:
    before, now = sample("number", 400, 0.0, 1), sample("number", 600, 0.5, 2)
    found = drift_tests.run_ks_test(before, now)
    expected = stats.ks_2samp(before, now, method="asymp")
    assert (found.statistic, found.p_value) == (expected.statistic, expected.pvalue)
    second_moment = stats.kstwobign.var() + stats.kstwobign.mean() ** 2
    assert second_moment == pytest.approx(math.pi**2 / 12, rel=1e-4)
    assert found.effect == pytest.approx(
        math.sqrt(expected.statistic**2 - second_moment * (1 / 400 + 1 / 600)), rel=1e-3
    )


def test_cramers_v_matches_hand_calculation() -> None:
    before, now = ["a"] * 60 + ["b"] * 40, ["a"] * 40 + ["b"] * 60
    found = drift_tests.run_cramers_v_test(pd.Series(before), pd.Series(now))
    chi2 = 4 * 10**2 / 50  # each of four cells differs by 10 from the 50 expected
    phi2 = chi2 / 200
    assert found.statistic == pytest.approx(math.sqrt(phi2))
    assert found.effect == pytest.approx(math.sqrt((phi2 - 1 / 199) / (1 - 1 / 199)))
    assert found.p_value == pytest.approx(stats.chi2.sf(chi2, 1))


def test_cramers_v_does_not_shrink_for_short_window() -> None:
    before = ["a"] * 500 + ["b"] * 500
    long, short = ["a"] * 300 + ["b"] * 700, ["a"] * 60 + ["b"] * 140
    assert drift_tests.run_cramers_v_test(
        pd.Series(before * 100), pd.Series(short)
    ).effect == pytest.approx(
        drift_tests.run_cramers_v_test(pd.Series(before), pd.Series(long)).effect, abs=0.01
    )


def test_p_values_are_adjusted_over_columns() -> None:
    before = pd.DataFrame({f"c{i}": sample("number", 500, 0.0, i) for i in range(6)})
    now = pd.DataFrame({f"c{i}": sample("number", 500, 0.1 * i, 10 + i) for i in range(6)})
    data = drift.measure_drift(before, now, before.columns, LIMITS).data
    assert list(data["adjusted_p"]) == pytest.approx(
        list(stats.false_discovery_control(data["p_value"]))
    )
    assert data["column"].iloc[0] == "c5"


DAYS = pd.Series(pd.date_range("2024-01-01", periods=300, freq="h", tz="UTC"))
ONES = [1.0] * 300
SPREAD = list(np.linspace(0, 1, 300))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (ONES, ONES, ("not_tested", "constant")),
        ([None] * 300, [None] * 300, ("not_tested", "all_missing")),
        (SPREAD, [None] * 300, ("alert", "missing_values")),
        (SPREAD, SPREAD[:240] + [None] * 60, ("alert", "missing_values")),
        (SPREAD, SPREAD[:294] + [None] * 6, ("warning", "missing_values")),
        (SPREAD, SPREAD[:50], ("not_tested", "too_few_rows")),
        (["a", "b"] * 150, ["a", "b"] * 148 + ["z"] * 4, ("warning", "new_values")),
        (["a", "b"] * 150, ["z"] * 300, ("alert", "effect")),
        (SPREAD, SPREAD[:297] + [math.inf] * 3, ("warning", "new_values")),
        (SPREAD, ["a"] * 300, ("not_tested", "type_changed")),
        (DAYS, DAYS + pd.Timedelta(days=30), ("not_tested", "not_comparable")),
        (
            [f"id{i}" for i in range(300)],
            [f"id{i}" for i in range(300, 600)],
            ("not_tested", "not_comparable"),
        ),
        (ONES, SPREAD, ("alert", "effect")),
        ([1, 2, 3] * 100, [1.0, 2.0, 3.0] * 100, ("none", "effect")),
        ([True, False] * 150, [True, False] * 150, ("none", "effect")),
        (
            pd.Series([1, 2, None] * 100, dtype="Int64"),
            pd.Series([1, 2, None] * 100, dtype="Int64"),
            ("none", "effect"),
        ),
        (pd.Categorical(["a", "b"] * 150), pd.Categorical(["a", "b"] * 150), ("none", "effect")),
        ([[1], [2]] * 150, [[1], [2]] * 150, ("none", "effect")),
    ],
)
def test_unusual_column_has_status_and_reason(
    before: object, now: object, expected: tuple[str, str]
) -> None:
    assert classify(before, now) == expected


def test_absent_column_is_not_tested() -> None:
    data = drift.measure_drift(
        pd.DataFrame({"x": SPREAD}), pd.DataFrame({"y": SPREAD}), ["x"], LIMITS
    ).data
    assert data["status"].tolist() == ["not_tested"]
    assert data["reason"].tolist() == ["column_absent"]


def test_drift_without_rows_is_not_applicable() -> None:
    table = drift.measure_drift(pd.DataFrame({"x": SPREAD}), pd.DataFrame({"x": []}), ["x"], LIMITS)
    assert len(table.data) == 0
    assert list(table.data.columns) == DRIFT_COLUMNS
    assert "Not applicable" in table.sentence


def test_sentence_names_the_column_with_most_drift() -> None:
    before = pd.DataFrame({"calm": SPREAD, "moved": SPREAD})
    table = drift.measure_drift(
        before, before.assign(moved=before["moved"] + 0.5), ["calm", "moved"], LIMITS
    )
    assert table.sentence.startswith("moved drifted most")
    assert "1 of 2 columns raises an alert" in table.sentence


def test_limits_come_from_the_config() -> None:
    before, now = sample("number", 2000, 0.0, 1), sample("number", 2000, 0.4, 2)
    assert classify(before, now) == ("alert", "effect")
    assert classify(before, now, MonitorConfig(alert_effect=0.5)) == ("warning", "effect")
    assert classify(before, now, MonitorConfig(min_rows=5000)) == ("not_tested", "too_few_rows")


def test_sampling_is_seeded_and_limited() -> None:
    values = pd.Series(range(drift.MAX_ROWS_PER_SIDE + 10))
    assert len(drift.limit_rows(values, 0)) == drift.MAX_ROWS_PER_SIDE
    assert drift.limit_rows(values, 3).equals(drift.limit_rows(values, 3))


def test_schema_check_lists_what_changed() -> None:
    before = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [1.0, 2.0]})
    assert check_schema(before, before.assign(d=1)).outcome == "passed"
    assert check_schema(before, before.assign(a=[1.5, None])).outcome == "passed"
    broken = check_schema(before, before.drop(columns="b").assign(c=["1", "2"]))
    assert broken.is_blocking
    assert broken.diagnostics == {
        "missing": ["b"],
        "added": [],
        "changed": ["c (number → category)"],
    }
    assert check_schema(before, before.head(0)).outcome == "not applicable"


def test_reference_is_held_out_rows_and_current_is_scored_rows() -> None:
    config = ProjectConfig(name="t", source="x.csv", target="y", task="binary", id=["k"], time="t")
    timestamps = pd.date_range("2024-01-01", periods=4, freq="D", tz="UTC")
    table = pd.DataFrame(
        {
            "k": range(4),
            "t": timestamps,
            "y": [0, 1, 0, 1.0],
            "part": ["train", "train", "test", "test"],
            "a": [1.0, 2, 3, 4],
        }
    )
    held_out = pd.DataFrame({"k": [3, 2], "score": [0.3, 0.2], "refitted": [0, 0]})
    scored = pd.DataFrame(
        {
            "prediction_id": ["p"],
            "k": [9],
            "t": timestamps[:1],
            "score": [0.9],
            "decision": [1.0],
            "model_version": ["1"],
            "day": ["d"],
            "a": [5.0],
        }
    )
    reference, current = drift_sides.select_reference_and_current(config, table, held_out, scored)
    assert reference.to_dict("list") == {"a": [3.0, 4.0], "score": [0.2, 0.3]}
    assert set(current.columns) == {"a", "score"}


def test_class_probabilities_are_compared_as_predicted_classes() -> None:
    rows = pd.DataFrame({"x": [1, 2, 3], "score": [[0.7, 0.3], [0.2, 0.8], None]})
    replaced = drift_sides.replace_class_probabilities(rows, ["no frost", "frost"])
    assert replaced["score"].tolist() == ["no frost", "frost", None]
    plain = pd.DataFrame({"score": [0.1, 0.2]})
    assert drift_sides.replace_class_probabilities(plain, ["a", "b"]) is plain
