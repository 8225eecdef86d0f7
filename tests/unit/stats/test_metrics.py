"""Metrics: the contract of every registered one, and values from scikit-learn and by hand."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from mlops_kit.core.errors import KitError
from mlops_kit.stats import metrics, thresholds
from mlops_kit.stats.bootstrap import (
    compute_metric_intervals,
    compute_paired_difference,
    compute_paired_differences,
    compute_ratio_interval,
    draw_row_counts,
)


def predict_classes(score: Any) -> np.ndarray:
    """Return the predicted class of each row: the most probable one, or positive from 0.5 on."""
    score = np.asarray(score)
    return score >= 0.5 if score.ndim == 1 else score.argmax(axis=1)


SKLEARN_FUNCTIONS = {
    "accuracy": lambda y, score, **weights: sklearn_metrics.accuracy_score(
        y, predict_classes(score), **weights
    ),
    "balanced_accuracy": lambda y, score, **weights: sklearn_metrics.balanced_accuracy_score(
        y, predict_classes(score), **weights
    ),
    "f1_macro": lambda y, score, **weights: sklearn_metrics.f1_score(
        y, predict_classes(score), average="macro", **weights
    ),
    "precision_macro": lambda y, score, **weights: sklearn_metrics.precision_score(
        y, predict_classes(score), average="macro", zero_division=0, **weights
    ),
    "recall_macro": lambda y, score, **weights: sklearn_metrics.recall_score(
        y, predict_classes(score), average="macro", zero_division=0, **weights
    ),
    "f1": lambda y, score, **weights: sklearn_metrics.f1_score(
        y, predict_classes(score), **weights
    ),
    "precision": lambda y, score, **weights: sklearn_metrics.precision_score(
        y, predict_classes(score), **weights
    ),
    "recall": lambda y, score, **weights: sklearn_metrics.recall_score(
        y, predict_classes(score), **weights
    ),
    "multiclass_log_loss": lambda y, score, **weights: sklearn_metrics.log_loss(
        y, score, labels=range(np.shape(score)[1]), **weights
    ),
    "roc_auc_ovr": partial(sklearn_metrics.roc_auc_score, multi_class="ovr", average="macro"),
    "roc_auc": sklearn_metrics.roc_auc_score,
    "average_precision": sklearn_metrics.average_precision_score,
    "log_loss": sklearn_metrics.log_loss,
    "brier": sklearn_metrics.brier_score_loss,
    "r2": sklearn_metrics.r2_score,
    "rmse": sklearn_metrics.root_mean_squared_error,
    "mae": sklearn_metrics.mean_absolute_error,
}


def make_labels_and_scores(
    task: str, rows: int = 400, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Make labels and scores of a mediocre model; those of a classifier have ties."""
    rng = np.random.default_rng(seed)
    if task == "binary":
        y = (rng.random(rows) < 0.3).astype(float)
        probability = 0.3 + 0.2 * (y - 0.3) + rng.normal(0, 0.15, rows)
        return y, np.round(np.clip(probability, 0, 1), 2)
    if task == "multiclass":
        y = rng.choice(4, rows, p=[0.5, 0.3, 0.15, 0.05]).astype(float)
        strength = np.exp(rng.normal(0, 1, (rows, 4)) + 1.2 * np.eye(4)[y.astype(int)])
        return y, strength / strength.sum(axis=1, keepdims=True)
    y = rng.normal(50, 10, rows)
    return y, y + rng.normal(0, 5, rows)


def make_perfect_score(task: str, y: np.ndarray) -> np.ndarray:
    """Make the scores of a model that is always right and certain."""
    return np.eye(4)[y.astype(int)] if task == "multiclass" else y


CALIBRATION_METRICS = {"calibration_error", "classwise_calibration_error"}
TASKS_AND_METRICS = [
    (name, task) for name, metric in metrics.METRICS.items() for task in metric.tasks
]
for_every_metric = pytest.mark.parametrize(("name", "task"), TASKS_AND_METRICS)


@for_every_metric
def test_perfect_model_beats_mediocre_model_beats_random_model(name: str, task: str) -> None:
    metric = metrics.METRICS[name]
    y, score = make_labels_and_scores(task)
    perfect_score = make_perfect_score(task, y)
    random_score = np.random.default_rng(0).permutation(perfect_score)
    perfect = metrics.compute_metric(name, y, perfect_score)
    mediocre = metrics.compute_metric(name, y, score)
    random = metrics.compute_metric(name, y, random_score)
    assert metric.compute_gain(perfect, random) > 0
    assert metric.compute_gain(perfect, mediocre) > 0
    if name not in CALIBRATION_METRICS:  # permuted labels may be calibrated as well
        assert metric.compute_gain(mediocre, random) > 0


@for_every_metric
def test_row_with_a_missing_label_or_score_is_left_out(name: str, task: str) -> None:
    y, score = make_labels_and_scores(task)
    y_with_gaps = np.r_[y, np.nan, 1.0, np.nan]
    score_with_gaps = np.r_[score, [np.full(score.shape[1:], gap) for gap in (0.5, np.nan, np.inf)]]
    assert metrics.compute_metric(name, y_with_gaps, score_with_gaps) == pytest.approx(
        metrics.compute_metric(name, y, score), abs=1e-12
    )


@for_every_metric
@pytest.mark.parametrize("y", [[], [np.nan, np.nan]])
def test_without_labeled_rows_there_is_no_value_and_no_interval(
    name: str, task: str, y: list[float]
) -> None:
    assert task in metrics.METRICS[name].tasks
    assert math.isnan(metrics.compute_metric(name, y, [0.5] * len(y)))
    interval = compute_metric_intervals([name], y, [0.5] * len(y), draws=10)[name]
    assert (interval.value, interval.low, interval.high) == (None, None, None)


@pytest.mark.parametrize("name", metrics.list_task_metrics("binary"))
@pytest.mark.parametrize("only_class", [0.0, 1.0])
def test_one_class_is_nan(name: str, only_class: float) -> None:
    y = np.full(9, only_class)
    assert math.isnan(metrics.compute_metric(name, y, np.linspace(0, 1, 9)))


def test_r2_of_a_constant_target_is_nan() -> None:
    assert math.isnan(metrics.compute_metric("r2", [3.0, 3.0], [3.0, 4.0]))


@for_every_metric
def test_integer_weights_are_copies_of_the_rows(name: str, task: str) -> None:
    metric = metrics.METRICS[name]
    y, score = make_labels_and_scores(task)
    counts = np.random.default_rng(3).integers(1, 4, len(y))
    if name in CALIBRATION_METRICS:
        return  # its bins are those of the rows given, so copies change them
    assert metric.function(y, score, None, counts) == pytest.approx(
        metrics.compute_metric(name, np.repeat(y, counts), np.repeat(score, counts, axis=0))
    )


@pytest.mark.parametrize(
    ("name", "task"), [pair for pair in TASKS_AND_METRICS if pair[0] in SKLEARN_FUNCTIONS]
)
def test_metric_equals_that_of_scikit_learn(name: str, task: str) -> None:
    y, score = make_labels_and_scores(task)
    if task == "binary":
        score = np.clip(score, 0.01, 0.99)
    expected = SKLEARN_FUNCTIONS[name](y, score)
    assert metrics.compute_metric(name, y, score) == pytest.approx(expected, rel=1e-9)
    weights = np.random.default_rng(6).random(len(y))
    weighted = metrics.METRICS[name].function(y, score, None, weights)
    expected = SKLEARN_FUNCTIONS[name](y, score, sample_weight=weights)
    assert weighted == pytest.approx(expected, rel=1e-9)


def test_every_metric_but_calibration_error_is_compared_with_scikit_learn() -> None:
    assert set(metrics.METRICS) == {*SKLEARN_FUNCTIONS, *CALIBRATION_METRICS}


@pytest.mark.parametrize("name", ["accuracy", "f1", "precision", "recall"])
def test_predicted_classes_follow_the_threshold(name: str) -> None:
    y, score = make_labels_and_scores("binary")
    shifted = np.where(score >= 0.4, 0.9, 0.1)
    value = metrics.compute_metric(name, y, score, threshold=0.4)
    assert value == pytest.approx(SKLEARN_FUNCTIONS[name](y, shifted))
    assert value != metrics.compute_metric(name, y, score)


def test_precision_without_flagged_rows_is_zero_as_in_scikit_learn() -> None:
    y = [0, 1, 1]
    expected = sklearn_metrics.precision_score(y, [0, 0, 0], zero_division=0)
    assert metrics.compute_metric("precision", y, [0.1, 0.2, 0.3]) == expected == 0
    assert metrics.compute_metric("f1", y, [0.1, 0.2, 0.3]) == 0


def test_scale_is_the_skill_of_a_score_and_the_size_of_a_loss() -> None:
    assert metrics.METRICS["roc_auc"].compute_scale(0.8) == pytest.approx(0.3)
    assert metrics.METRICS["roc_auc_ovr"].compute_scale(0.9) == pytest.approx(0.4)
    assert metrics.METRICS["r2"].compute_scale(0.4) == 0.4
    assert metrics.METRICS["mae"].compute_scale(846) == 846
    assert metrics.METRICS["brier"].compute_scale(0.12) == 0.12


def test_calibration_error_equals_that_of_scikit_learns_curve() -> None:
    y, _ = make_labels_and_scores("binary", 1000)
    score = np.random.default_rng(5).random(1000)  # without ties: 100 rows per bin
    observed, predicted = calibration_curve(y, score, n_bins=10, strategy="quantile")
    assert metrics.compute_metric("calibration_error", y, score) == pytest.approx(
        np.abs(observed - predicted).mean()
    )


def test_classwise_calibration_error_is_the_mean_over_the_classes() -> None:
    y, score = make_labels_and_scores("multiclass")
    errors = [
        metrics.compute_metric("calibration_error", y == code, score[:, code]) for code in range(4)
    ]
    value = metrics.compute_metric("classwise_calibration_error", y, score)
    assert value == pytest.approx(np.mean(errors))


def test_class_that_does_not_occur_is_left_out_of_the_mean() -> None:
    y, score = make_labels_and_scores("multiclass")
    occurs = y != 3
    areas = [
        sklearn_metrics.roc_auc_score(y[occurs] == code, score[occurs, code]) for code in range(3)
    ]
    value = metrics.compute_metric("roc_auc_ovr", y[occurs], score[occurs])
    assert value == pytest.approx(np.mean(areas))
    assert math.isnan(metrics.compute_metric("roc_auc_ovr", [1, 1], score[:2]))
    assert metrics.compute_metric("accuracy", [0, 0], [[0.6, 0.4], [0.5, 0.5]]) == 1


def test_class_probabilities_may_be_lists_in_a_column() -> None:
    y, score = make_labels_and_scores("multiclass")
    column = pd.Series([*score.tolist(), None])
    value = metrics.compute_metric("accuracy", [*y, 1], column)
    assert value == metrics.compute_metric("accuracy", y, score)


def test_calibration_error_by_hand() -> None:
    value = metrics.compute_metric("calibration_error", [0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5])
    assert value == pytest.approx(0.25)


def test_roc_auc_by_hand_counts_a_tie_half() -> None:
    value = metrics.compute_metric("roc_auc", [0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9])
    assert value == pytest.approx(3.5 / 4)


def test_unknown_metric_is_an_error_that_suggests_a_name() -> None:
    with pytest.raises(KitError, match="roc_auc"):
        metrics.compute_metric("roc_auk", [0, 1], [0, 1])


def test_different_numbers_of_labels_and_scores_are_an_error() -> None:
    with pytest.raises(KitError, match="2 labels and 3 scores"):
        metrics.compute_metric("mae", [1, 2], [1, 2, 3])
    with pytest.raises(KitError, match="2 labels and 3 scores"):
        compute_metric_intervals(["mae"], [1, 2], [1, 2, 3])


def test_interval_of_a_mean_is_the_textbook_interval() -> None:
    error = 10 + np.random.default_rng(2).normal(0, 1, 800)
    interval = compute_metric_intervals(["mae"], np.zeros(800), error, draws=2000)["mae"]
    half_width = 1.96 * error.std(ddof=1) / math.sqrt(800)
    assert interval.value == pytest.approx(error.mean())
    assert interval.low == pytest.approx(error.mean() - half_width, abs=0.1 * half_width)
    assert interval.high == pytest.approx(error.mean() + half_width, abs=0.1 * half_width)


def test_interval_of_blocks_is_wider_if_rows_of_a_block_are_alike() -> None:
    rng = np.random.default_rng(4)
    day = np.repeat(np.arange(30), 40)
    error = np.abs(rng.normal(0, 1, 30)[day] + rng.normal(0, 0.1, len(day)))
    y = np.zeros(len(day))
    by_row = compute_metric_intervals(["mae"], y, error, draws=300)["mae"]
    by_day = compute_metric_intervals(["mae"], y, error, blocks=day, draws=300)["mae"]
    assert by_day.high - by_day.low > 3 * (by_row.high - by_row.low)
    assert by_day.value == by_row.value


def test_interval_depends_on_the_seed_and_not_on_the_names_of_the_blocks() -> None:
    y, score = make_labels_and_scores("binary")
    day = np.arange(len(y)) // 20
    day_names = np.array([f"d{number:03d}" for number in day], dtype=object)
    intervals = compute_metric_intervals(["roc_auc"], y, score, blocks=day, draws=100)
    named = compute_metric_intervals(["roc_auc"], y, score, blocks=day_names, draws=100)
    other_seed = compute_metric_intervals(["roc_auc"], y, score, blocks=day, draws=100, seed=1)
    assert named == intervals
    assert other_seed != intervals


def test_too_few_blocks_give_a_value_without_an_interval() -> None:
    y, score = make_labels_and_scores("binary")
    blocks = np.arange(len(y)) % 4
    interval = compute_metric_intervals(["roc_auc"], y, score, blocks=blocks)["roc_auc"]
    assert interval.value is not None
    assert interval.low is None
    assert interval.high is None


def test_draw_has_whole_blocks() -> None:
    blocks = np.repeat(np.arange(10), 3)
    for counts in draw_row_counts(30, blocks, 20, 0):
        counts_by_block = counts.reshape(10, 3)
        assert (counts_by_block == counts_by_block[:, :1]).all()
        assert counts.sum() == 30


@for_every_metric
def test_paired_difference_is_positive_if_the_first_model_is_better(name: str, task: str) -> None:
    y, score = make_labels_and_scores(task)
    perfect = make_perfect_score(task, y)
    better = compute_paired_difference(name, y, (perfect, score), draws=100)
    assert 0 < better.low <= better.value <= better.high
    assert compute_paired_difference(name, y, (score, perfect), draws=100).high < 0
    same = compute_paired_difference(name, y, (score, score), draws=100)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_paired_difference_is_clear_where_two_intervals_overlap() -> None:
    y, score = make_labels_and_scores("regression")
    worse_score = score + 0.5 * np.sign(score - y)
    better = compute_metric_intervals(["mae"], y, score, draws=200)["mae"]
    worse = compute_metric_intervals(["mae"], y, worse_score, draws=200)["mae"]
    assert better.high > worse.low
    assert compute_paired_difference("mae", y, (score, worse_score), draws=200).low > 0


@pytest.mark.slow
def test_paired_interval_equals_that_of_days_drawn_by_hand() -> None:
    y, score = make_labels_and_scores("binary", 900)
    rng = np.random.default_rng(7)
    worse_score = np.clip(score + rng.normal(0, 0.1, len(y)), 0, 1)
    day = np.arange(len(y)) % 30
    intervals = compute_paired_differences(
        ["roc_auc", "brier"], y, (score, worse_score), blocks=day, draws=600
    )
    rows_by_day = [np.flatnonzero(day == number) for number in range(30)]
    drawn_differences = []
    for _ in range(600):
        rows = np.concatenate([rows_by_day[number] for number in rng.integers(0, 30, 30)])
        auc = sklearn_metrics.roc_auc_score(y[rows], score[rows])
        worse_auc = sklearn_metrics.roc_auc_score(y[rows], worse_score[rows])
        brier = sklearn_metrics.brier_score_loss(y[rows], score[rows])
        worse_brier = sklearn_metrics.brier_score_loss(y[rows], worse_score[rows])
        drawn_differences.append((auc - worse_auc, worse_brier - brier))
    ends_by_metric = np.quantile(drawn_differences, [0.025, 0.975], axis=0).T
    for interval, (low, high) in zip(intervals.values(), ends_by_metric, strict=True):
        tolerance = 0.15 * (high - low)
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=tolerance)


def test_paired_differences_of_all_metrics_use_the_same_draws() -> None:
    names = metrics.list_task_metrics("binary")
    y, score = make_labels_and_scores("binary")
    noise = np.random.default_rng(1).normal(0, 0.1, len(y))
    worse_score = np.round(np.clip(score + noise, 0, 1), 2)
    together = compute_paired_differences(names, y, (score, worse_score), draws=50)
    for name in names:
        alone = compute_paired_difference(name, y, (score, worse_score), draws=50)
        assert together[name] == alone


def test_cost_curve_by_hand() -> None:
    curve = thresholds.compute_cost_curve(
        [0, 1, 0, 1], [0.1, 0.4, 0.6, 0.9], 1, 3, thresholds=[0, 0.5, 1]
    ).to_dict("list")
    assert curve["flagged"] == [1, 0.5, 0]
    assert curve["false_alarms"] == [2, 1, 0]
    assert curve["misses"] == [0, 1, 2]
    assert curve["cost"] == [0.5, 1.0, 1.5]
    assert curve["precision"][:2] == [0.5, 0.5]
    assert math.isnan(curve["precision"][2])
    assert curve["recall"] == [1, 0.5, 0]


def test_best_threshold_has_the_lowest_cost() -> None:
    y, score = make_labels_and_scores("binary", 2000)
    best = thresholds.find_best_threshold(y, score, 1, 3)
    best_cost = thresholds.compute_cost_curve(y, score, 1, 3, thresholds=[best])["cost"].iloc[0]
    all_thresholds = np.unique(np.r_[score, 0, 1.1])
    costs = thresholds.compute_cost_curve(y, score, 1, 3, thresholds=all_thresholds)["cost"]
    assert best_cost <= costs.min() + 1e-12


def test_best_threshold_of_calibrated_scores_is_the_theoretical_one() -> None:
    score = np.repeat(np.linspace(0.05, 0.95, 10), 1000)
    y = (np.tile(np.arange(1000), 10) < 1000 * score).astype(float)
    assert thresholds.find_best_threshold(y, score, 10, 30) == pytest.approx(0.25, abs=1e-9)
    assert thresholds.find_best_threshold([], [], 10, 30) == 0.25


def test_nothing_is_flagged_if_false_negatives_cost_nothing() -> None:
    assert thresholds.find_best_threshold([0, 1], [0.2, 0.8], 1, 0) > 0.8


@pytest.mark.slow
def test_bootstrap_is_faster_than_resampling_rows() -> None:
    """A draw is a vector of weights, so it needs no copy of the rows."""
    rng = np.random.default_rng(0)
    y = (rng.random(28_000) < 0.25).astype(float)
    score = np.clip(0.25 + 0.2 * (y - 0.25) + rng.normal(0, 0.15, len(y)), 0, 1)
    names = metrics.list_task_metrics("binary")
    compute_metric_intervals(names, y, score, draws=2)  # imports what it needs
    start = time.process_time()
    compute_metric_intervals(names, y, score, rng.integers(0, 30, len(y)), draws=100)
    seconds = time.process_time() - start
    start = time.process_time()
    for _ in range(100):
        rows = rng.integers(0, len(y), len(y))
        for name in ("roc_auc", "average_precision", "log_loss", "brier"):
            SKLEARN_FUNCTIONS[name](y[rows], score[rows])
    assert seconds < time.process_time() - start


def test_ratio_is_a_mean_or_a_proportion() -> None:
    assert compute_ratio_interval([1, 2, 3], [1, 1, 1], draws=100).value == 2
    assert compute_ratio_interval([1, 0, 0], [1, 1, 0], draws=100).value == 0.5
    assert compute_ratio_interval([0, 0], [0, 0], draws=100).value is None


def test_interval_of_a_ratio_equals_that_of_scipys_bootstrap() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).exponential(size=400)
    interval = compute_ratio_interval(values, np.ones(400), draws=4000)
    expected = bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_cost_of_a_row_is_that_of_its_decision() -> None:
    costs = thresholds.compute_row_costs([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9], 0.35, 10, 25)
    assert list(costs) == [0, 10, 25, 0]
