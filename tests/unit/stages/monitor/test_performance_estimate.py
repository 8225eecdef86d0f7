"""Estimated performance: against hand calculations, realized values and simulated coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, log_loss, precision_score, recall_score, roc_auc_score

from mlops_kit.core.errors import KitError
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.performance_estimate import (
    EstimationMethod,
    WindowRows,
    estimate_functions,
    estimate_performance,
    fit_outcome_model,
    list_window_functions,
)
from mlops_kit.stats import metrics
from mlops_kit.stats.bootstrap import SamplingDesign

pytestmark = pytest.mark.slow  # each test fits models

TASKS = ("binary", "multiclass", "regression")


def make_config(task: str, draws: int = 100, **values: Any) -> ProjectConfig:
    return ProjectConfig(
        name="t", source="t.csv", target="y", task=task, review={"draws": draws}, **values
    )


def make_rows(task: str, rows: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    """Make rows of an overconfident model whose error grows with ``b``."""
    rng = np.random.default_rng(seed)
    a = rng.normal(shift, 1, rows)
    b = rng.normal(shift, 1, rows)
    frame = pd.DataFrame({"a": a, "b": b, "c": rng.choice(["x", "y"], rows)})
    if task == "binary":
        frame["y"] = (rng.random(rows) < 1 / (1 + np.exp(-a))).astype(float)
        frame["score"] = 1 / (1 + np.exp(-2 * a))
    elif task == "multiclass":
        strength = np.exp(np.column_stack([a, b, np.zeros(rows)]))
        cumulated = (strength / strength.sum(axis=1, keepdims=True)).cumsum(axis=1)
        frame["y"] = (rng.random(rows)[:, None] > cumulated).sum(axis=1).clip(max=2).astype(float)
        scores = strength**1.5 / (strength**1.5).sum(axis=1, keepdims=True)
        frame["score"] = pd.Series(scores.tolist())
    else:
        frame["score"] = 2 * a
        frame["y"] = frame["score"] + np.exp(0.5 * b) * rng.normal(0, 1, rows)
    return frame


def make_window(frame: pd.DataFrame, **values: Any) -> WindowRows:
    return WindowRows(frame["score"], frame[["a", "b", "c"]], **values)


METRICS_BY_TASK = [(task, name) for task in TASKS for name in metrics.list_task_metrics(task)]


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    fitted = {}
    for task in TASKS:
        reference = make_rows(task, 4_000, 1)
        fitted[task] = fit_outcome_model(reference, ["a", "b", "c"], make_config(task))
    return fitted


@pytest.mark.parametrize(("task", "name"), METRICS_BY_TASK)
def test_every_metric_is_estimated_close_to_its_realized_value(
    models: dict[str, Any], task: str, name: str
) -> None:
    current = make_rows(task, 4_000, 2)
    estimated = estimate_performance(models[task], make_window(current), name)
    interval = estimated.interval
    realized = metrics.compute_metric(name, current["y"], current["score"])
    half_width = (interval.high - interval.low) / 2
    assert interval.low < interval.value < interval.high
    assert abs(interval.value - realized) < 2 * half_width
    assert half_width < 0.3 * max(abs(realized), 0.1)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("roc_auc", roc_auc_score),
        ("log_loss", log_loss),
        ("f1", lambda y, p: f1_score(y, p >= 0.5)),
        ("precision", lambda y, p: precision_score(y, p >= 0.5)),
        ("recall", lambda y, p: recall_score(y, p >= 0.5)),
    ],
)
def test_estimate_matches_scikit_learn_on_many_labels(
    models: dict[str, Any], name: str, known: Any
) -> None:
    current = make_rows("binary", 30_000, 3)
    estimated = estimate_performance(models["binary"], make_window(current), name)
    assert estimated.interval.value == pytest.approx(
        known(current["y"], current["score"]), abs=0.03
    )


def test_expected_metric_of_two_rows_matches_hand_calculation(models: dict[str, Any]) -> None:
    scores = np.array([0.9, 0.3])
    features = pd.DataFrame({"a": [0.0, 0.0], "b": [0.0, 0.0], "c": ["x", "y"]})
    high, low = models["binary"].labels.predict(scores)
    # A flagged row is a true positive with its probability, the other a false negative.
    expected = 2 * high / (1 + high + low)
    estimated = estimate_performance(models["binary"], WindowRows(scores, features), "f1")
    assert estimated.interval.value == pytest.approx(expected)
    # At a threshold of 0.2 both rows are flagged.
    both_flagged = WindowRows(scores, features, threshold=0.2)
    estimated = estimate_performance(models["binary"], both_flagged, "precision")
    assert estimated.interval.value == pytest.approx((high + low) / 2)


def test_estimated_cost_matches_the_costs_of_expected_labels() -> None:
    config = make_config("binary", cost={"false_alarm": 1, "miss": 4})
    model = fit_outcome_model(make_rows("binary", 2_000, 1), ["a", "b", "c"], config)
    current = make_rows("binary", 3_000, 2)
    functions = list_window_functions(config, 0.2)
    estimates = estimate_functions(model, make_window(current, threshold=0.2), functions)
    estimated = estimates["cost"]
    probability = model.labels.predict(current["score"].to_numpy())
    is_flagged = current["score"] >= 0.2
    expected = np.where(is_flagged, 1 - probability, 4 * probability).mean()
    realized = np.where(is_flagged, 1 - current["y"], 4 * current["y"]).mean()
    assert estimated.interval.value == pytest.approx(expected)
    assert estimated.interval.low < realized < estimated.interval.high
    # The draws are shared, so the headline metric is what it is without costs.
    assert estimates["roc_auc"] == estimate_performance(model, make_window(current))


def test_cost_is_estimated_where_decisions_have_a_threshold_and_costs_are_stated() -> None:
    stated = make_config("binary", cost={"miss": 4})
    assert list(list_window_functions(stated, 0.2)) == ["roc_auc", "cost"]
    assert list(list_window_functions(stated, None)) == ["roc_auc"]
    assert list(list_window_functions(make_config("binary"), 0.2)) == ["roc_auc"]


def test_window_that_differs_is_reweighted_and_the_same_one_is_not(
    models: dict[str, Any],
) -> None:
    same = estimate_performance(models["binary"], make_window(make_rows("binary", 2_000, 4)))
    assert same.method is EstimationMethod.CALIBRATED
    assert "hardly differs" in same.note
    shifted_rows = make_rows("binary", 2_000, 5, shift=0.7)
    shifted = estimate_performance(models["binary"], make_window(shifted_rows))
    assert shifted.method is EstimationMethod.REWEIGHTED
    assert "effective sample share" in shifted.note
    realized = roc_auc_score(shifted_rows["y"], shifted_rows["score"])
    assert shifted.interval.low < realized < shifted.interval.high


def test_reweighting_follows_a_calibration_that_depends_on_a_feature() -> None:
    def make_frame(share: float, seed: int) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        score = rng.random(8_000)
        is_hard = rng.random(8_000) < share
        y = rng.random(8_000) < np.where(is_hard, 0.5, score)
        group = np.where(is_hard, "hard", "easy")
        return pd.DataFrame({"c": group, "score": score, "y": y.astype(float)})

    config = make_config("binary")
    model = fit_outcome_model(make_frame(0.2, 1), ["c"], config)
    current = make_frame(0.7, 2)
    realized = roc_auc_score(current["y"], current["score"])
    estimated = estimate_performance(model, WindowRows(current["score"], current[["c"]]))
    assert estimated.method is EstimationMethod.REWEIGHTED
    assert estimated.interval.value == pytest.approx(realized, abs=0.02)
    plain = estimate_performance(model, WindowRows(current["score"], current[[]]))
    assert abs(plain.interval.value - realized) > 0.1


def test_harmful_helpful_and_no_drift_of_a_regression_are_distinguished(
    models: dict[str, Any],
) -> None:
    reference = make_rows("regression", 4_000, 1)
    carried_forward = np.abs(reference["y"] - reference["score"]).mean()
    estimates = {}
    errors = []
    carried_errors = []
    for name, shift in (("helpful", -1.0), ("none", 0.0), ("harmful", 1.0)):
        current = make_rows("regression", 3_000, 6, shift)
        realized = np.abs(current["y"] - current["score"]).mean()
        estimated = estimate_performance(models["regression"], make_window(current), "mae")
        assert estimated.method is EstimationMethod.ERROR_MODEL
        estimates[name] = estimated.interval
        errors.append(abs(estimated.interval.value - realized))
        carried_errors.append(abs(carried_forward - realized))
    assert estimates["helpful"].high < estimates["none"].low
    assert estimates["none"].high < estimates["harmful"].low
    assert sum(errors) <= sum(carried_errors) / 2


@pytest.mark.parametrize("task", TASKS)
def test_rows_without_a_score_are_left_out(models: dict[str, Any], task: str) -> None:
    current = make_rows(task, 1_000, 7)
    with_gaps = pd.concat([current, current.head(5).assign(score=None)], ignore_index=True)
    expected = estimate_performance(models[task], make_window(current))
    found = estimate_performance(models[task], make_window(with_gaps))
    assert found.interval == expected.interval
    unscored = estimate_performance(models[task], make_window(current.assign(score=None)))
    assert unscored.interval.value is None
    assert unscored.note == "Not known: no row has a score."


def test_categorical_and_nullable_columns_are_values_like_any_other(
    models: dict[str, Any],
) -> None:
    current = make_rows("binary", 1_000, 8)
    converted = current.assign(
        score=current["score"].astype("category"),
        c=current["c"].astype("category"),
        a=current["a"].astype("Float64"),
    )
    expected = estimate_performance(models["binary"], make_window(current))
    assert estimate_performance(models["binary"], make_window(converted)) == expected


def test_text_as_a_score_is_an_error_with_its_value(models: dict[str, Any]) -> None:
    current = make_rows("binary", 10, 9).assign(score="high")
    with pytest.raises(KitError, match="high"):
        estimate_performance(models["binary"], make_window(current))


def test_reference_of_one_class_has_no_estimate() -> None:
    reference = make_rows("binary", 500, 1).assign(y=1.0)
    model = fit_outcome_model(reference, ["a"], make_config("binary"))
    estimated = estimate_performance(model, make_window(make_rows("binary", 100, 2)))
    assert estimated.interval.value is None
    assert estimated.method is EstimationMethod.NONE


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_interval_covers_the_realized_value_of_windows(task: str) -> None:
    """A small version of ``evidence/coverage.py``, in which labels of a day are alike."""
    day_effect = 0.6
    days = np.repeat(np.arange(40), 20)
    window_days = np.repeat(np.arange(7), 60)
    covered = 0
    windows = 40
    for number in range(windows):
        current = _make_day_sample(task, window_days, day_effect, 2 * number + 1)
        if number % 4 == 0:
            reference = _make_day_sample(task, days, day_effect, 2 * number)
            model = fit_outcome_model(reference, [], make_config(task, time="t"))
        name = "mae" if task == "regression" else "accuracy"
        window = WindowRows(current["score"], current[[]], SamplingDesign(window_days))
        interval = estimate_performance(model, window, name).interval
        realized = metrics.compute_metric(name, current["y"], current["score"])
        covered += interval.low <= realized <= interval.high
    assert 0.85 * windows <= covered


def _make_day_sample(task: str, days: np.ndarray, day_effect: float, seed: int) -> pd.DataFrame:
    """Make rows whose labels are high or low together on a day."""
    rng = np.random.default_rng(seed)
    effects = rng.normal(0, day_effect, int(days.max()) + 1)[days]
    rows = len(days)
    level = rng.normal(0, 1, rows)
    start = pd.Timestamp("2024-01-01", tz="UTC")
    frame = pd.DataFrame({"t": start + pd.to_timedelta(days, unit="D")})
    positive = rng.random(rows) < 1 / (1 + np.exp(-level - effects))
    if task == "binary":
        return frame.assign(score=1 / (1 + np.exp(-level)), y=positive.astype(float))
    if task == "multiclass":
        share = 0.6 / (1 + np.exp(-level))
        scores = np.column_stack([share, 0.6 - share, np.full(rows, 0.4)])
        labels = np.where(rng.random(rows) < 0.4, 2, np.where(positive, 0, 1))
        return frame.assign(score=pd.Series(scores.tolist()), y=labels.astype(float))
    return frame.assign(score=level, y=level + rng.normal(0, 1, rows) + effects)
