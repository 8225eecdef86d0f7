"""Reference performance: at the decision threshold, with the value of a model without skill."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from mlops_kit.core.results import Table
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.realized import measure_labeled_rows
from mlops_kit.stages.monitor.reference_performance import (
    ReferencePerformance,
    accept_value,
    get_reference_performance,
    select_held_out_rows,
)
from mlops_kit.stats.metrics import METRICS


def make_config(task: str = "binary", **review: Any) -> ProjectConfig:
    return ProjectConfig(
        name="t",
        source="x.csv",
        target="y",
        task=task,
        time="t",
        review={"draws": 100, **review},
    )


def make_rows(rows: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    score = rng.random(rows) ** 2
    return pd.DataFrame(
        {
            "t": pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC"),
            "score": score,
            "y": (rng.random(rows) < score).astype(float),
        }
    )


def make_evaluation(**values: float) -> Table:
    frame = pd.DataFrame({"metric": list(values), "value": list(values.values())})
    return Table("m", "s", frame.assign(low=frame["value"] - 0.1, high=frame["value"] + 0.1))


def test_reference_performance_is_the_headline_metric() -> None:
    evaluation = make_evaluation(log_loss=0.5, roc_auc=0.8)
    reference = get_reference_performance(evaluation, make_config())
    assert reference == ReferencePerformance(0.8, pytest.approx(0.7), pytest.approx(0.9))
    assert get_reference_performance(make_evaluation(log_loss=0.5), make_config()) is None


def test_metric_of_predicted_classes_is_measured_again_at_the_decision_threshold() -> None:
    rows = make_rows()
    config = make_config(metric="f1")
    reference = get_reference_performance(make_evaluation(f1=0.1), config, rows, 0.3)
    assert reference is not None
    assert reference.value == pytest.approx(f1_score(rows["y"], rows["score"] >= 0.3))
    assert reference.low < reference.value < reference.high
    assert reference.threshold == 0.3
    realized = measure_labeled_rows(rows, config, reference)
    assert realized.to_intervals()["f1"].value == reference.value
    assert realized.notes[1] == (
        "Rows count as predicted positive from a score of 0.300 on, the decision threshold."
    )


@pytest.mark.parametrize("name", ["roc_auc", "log_loss"])
def test_metric_of_scores_stays_as_the_review_measured_it(name: str) -> None:
    config = make_config(metric=name)
    reference = get_reference_performance(make_evaluation(**{name: 0.6}), config, make_rows(), 0.3)
    assert reference is not None
    assert (reference.value, reference.threshold) == (0.6, None)
    assert reference.describe_threshold() == ""


def test_regression_has_no_threshold() -> None:
    config = make_config("regression", metric="mae")
    reference = get_reference_performance(make_evaluation(mae=1.5), config, make_rows(), None)
    assert reference is not None
    assert (reference.value, reference.threshold) == (1.5, None)


def test_accepted_value_keeps_the_threshold_and_has_no_interval() -> None:
    reference = ReferencePerformance(0.8, 0.7, 0.9, no_skill=0.6, threshold=0.3)
    accepted = ReferencePerformance(0.75, None, None, no_skill=0.6, threshold=0.3)
    assert accept_value(reference, 0.75) == accepted


def test_stored_reference_performance_can_be_read_back() -> None:
    reference = ReferencePerformance(0.8, 0.7, 0.9, no_skill=0.6, threshold=0.3)
    assert from_json_value(to_json_value(reference)) == reference


def test_held_out_rows_have_features_time_target_and_score() -> None:
    rows = make_rows(4)
    config = make_config().model_copy(update={"id": ["k"]})
    table = rows[["t"]].assign(k=range(4), a=1.5, part=["train", "test", "test", "gap"])
    scores = rows[["score", "y"]].assign(k=range(4)).iloc[[2, 1]]
    selected = select_held_out_rows(table, scores, config)
    assert selected["k"].tolist() == [1, 2]
    assert selected["score"].tolist() == rows["score"][1:3].tolist()
    assert {"t", "a", "y"} <= set(selected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 0.7),  # the most frequent class for every row
        ("precision", 0.3),  # the share of positives
        ("recall", 0.4),  # the share of flagged rows
        ("f1", 2 * 0.3 * 0.4 / 0.7),
        ("average_precision", 0.3),
        ("roc_auc", 0.5),
    ],
)
def test_model_without_skill_of_a_binary_task_by_hand(name: str, expected: float) -> None:
    y = np.repeat([1.0, 0.0], [3, 7])
    score = np.array([0.9, 0.8, 0.2, 0.7, 0.6, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert METRICS[name].compute_no_skill(y, score, 0.5) == pytest.approx(expected)
    repeated = np.repeat(np.arange(10), 2)
    weighted = METRICS[name].compute_no_skill(
        y[repeated], score[repeated], 0.5, np.tile([0.0, 2.0], 10)
    )
    assert weighted == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 0.5),
        ("balanced_accuracy", 1 / 3),
        ("recall_macro", 1 / 3),
        ("precision_macro", 1 / 3),
    ],
)
def test_model_without_skill_of_a_multiclass_task_by_hand(name: str, expected: float) -> None:
    y = np.array([0.0, 0.0, 1.0, 2.0])
    score = np.eye(3)[[0, 1, 1, 2]]
    assert METRICS[name].compute_no_skill(y, score) == pytest.approx(expected)


def test_shuffled_labels_have_the_value_of_a_model_without_skill() -> None:
    rng = np.random.default_rng(1)
    rows = make_rows(2_000)
    for name in ("precision", "recall", "f1", "average_precision"):
        values = []
        for _ in range(50):
            shuffled = rng.permutation(rows["y"])
            values.append(METRICS[name].function(shuffled, rows["score"], 0.3))
        expected = METRICS[name].compute_no_skill(rows["y"], rows["score"], 0.3)
        assert np.mean(values) == pytest.approx(expected, abs=0.01)
