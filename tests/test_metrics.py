"""Metrics: the contract of every registered one, and the numbers against scikit-learn and by hand."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from sklearn import metrics as sk
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

SKLEARN = {
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "log_loss": sk.log_loss,
    "brier": sk.brier_score_loss,
    "r2": sk.r2_score,
    "rmse": sk.root_mean_squared_error,
    "mae": sk.mean_absolute_error,
}


def table(task: str, rows: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels and middling scores, with ties."""
    rng = np.random.default_rng(seed)
    if task == "binary":
        y = (rng.random(rows) < 0.3).astype(float)
        return y, np.round(np.clip(0.3 + 0.2 * (y - 0.3) + rng.normal(0, 0.15, rows), 0, 1), 2)
    y = rng.normal(50, 10, rows)
    return y, y + rng.normal(0, 5, rows)


every = pytest.mark.parametrize("name", list(metrics.METRICS))


@every
def test_perfect_beats_middling_beats_random(name: str) -> None:
    known = metrics.METRICS[name]
    y, score = table(known.task)
    noise = np.random.default_rng(0).permutation(y)
    perfect, middling, random = (metrics.compute_metric(name, y, s) for s in (y, score, noise))
    assert known.compute_gain(perfect, random) > 0
    assert known.compute_gain(perfect, middling) > 0
    if (
        name != "calibration_error"
    ):  # a shuffled label is calibrated neither more nor less by contract
        assert known.compute_gain(middling, random) > 0


@every
def test_a_row_with_a_missing_label_or_score_is_left_out(name: str) -> None:
    y, score = table(metrics.METRICS[name].task)
    gaps_y, gaps_score = np.r_[y, np.nan, 1.0, np.nan], np.r_[score, 0.5, np.nan, np.inf]
    assert metrics.compute_metric(name, gaps_y, gaps_score) == pytest.approx(
        metrics.compute_metric(name, y, score), abs=1e-12
    )


@every
@pytest.mark.parametrize("y", [[], [np.nan, np.nan]])
def test_nothing_to_judge_is_nan_and_no_interval(name: str, y: list[float]) -> None:
    assert math.isnan(metrics.compute_metric(name, y, [0.5] * len(y)))
    found = compute_metric_intervals([name], y, [0.5] * len(y), draws=10)[name]
    assert (found.value, found.low, found.high) == (None, None, None)


@pytest.mark.parametrize("name", metrics.list_task_metrics("binary"))
@pytest.mark.parametrize("only", [0.0, 1.0])
def test_one_class_is_nan(name: str, only: float) -> None:
    assert math.isnan(metrics.compute_metric(name, np.full(9, only), np.linspace(0, 1, 9)))


def test_a_constant_target_has_no_r2() -> None:
    assert math.isnan(metrics.compute_metric("r2", [3.0, 3.0], [3.0, 4.0]))


@every
def test_whole_weights_are_copies_of_the_rows(name: str) -> None:
    known = metrics.METRICS[name]
    y, score = table(known.task)
    counts = np.random.default_rng(3).integers(1, 4, len(y))
    if name == "calibration_error":
        return  # its bins are those of the rows given, so copies move them
    assert known.function(y, score, None, counts) == pytest.approx(
        metrics.compute_metric(name, np.repeat(y, counts), np.repeat(score, counts))
    )


@pytest.mark.parametrize("name", SKLEARN)
def test_equals_scikit_learn(name: str) -> None:
    y, score = table(metrics.METRICS[name].task)
    score = np.clip(score, 0.01, 0.99) if metrics.METRICS[name].task == "binary" else score
    assert metrics.compute_metric(name, y, score) == pytest.approx(
        SKLEARN[name](y, score), rel=1e-9
    )


def test_every_metric_but_calibration_is_compared_with_scikit_learn() -> None:
    assert set(metrics.METRICS) == {*SKLEARN, "calibration_error"}


def test_calibration_error_equals_the_bins_of_scikit_learn() -> None:
    y, _ = table("binary", 1000)
    score = np.random.default_rng(5).random(1000)  # no ties: bins of a hundred rows each
    seen, said = calibration_curve(y, score, n_bins=10, strategy="quantile")
    assert metrics.compute_metric("calibration_error", y, score) == pytest.approx(
        np.abs(seen - said).mean()
    )


def test_calibration_error_by_hand() -> None:
    assert metrics.compute_metric(
        "calibration_error", [0, 1, 1, 1], [0.5, 0.5, 0.5, 0.5]
    ) == pytest.approx(0.25)


def test_roc_auc_by_hand_counts_a_tie_half() -> None:
    assert metrics.compute_metric("roc_auc", [0, 0, 1, 1], [0.1, 0.5, 0.5, 0.9]) == pytest.approx(
        3.5 / 4
    )


def test_an_unknown_metric_lists_the_known() -> None:
    with pytest.raises(KitError, match="roc_auc"):
        metrics.compute_metric("roc_auk", [0, 1], [0, 1])


def test_lengths_that_differ_are_worded() -> None:
    with pytest.raises(KitError, match="2 labels and 3 scores"):
        metrics.compute_metric("mae", [1, 2], [1, 2, 3])
    with pytest.raises(KitError, match="2 labels and 3 scores"):
        compute_metric_intervals(["mae"], [1, 2], [1, 2, 3])


def test_the_interval_of_a_mean_is_the_textbook_one() -> None:
    error = 10 + np.random.default_rng(2).normal(0, 1, 800)
    found = compute_metric_intervals(["mae"], np.zeros(800), error, draws=2000)["mae"]
    half = 1.96 * error.std(ddof=1) / math.sqrt(800)
    assert found.value == pytest.approx(error.mean())
    assert found.low == pytest.approx(error.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(error.mean() + half, abs=0.1 * half)


def test_rows_of_one_day_make_the_interval_wider() -> None:
    rng = np.random.default_rng(4)
    day = np.repeat(np.arange(30), 40)
    error = np.abs(rng.normal(0, 1, 30)[day] + rng.normal(0, 0.1, len(day)))
    rows = compute_metric_intervals(["mae"], np.zeros(len(day)), error, draws=300)["mae"]
    days = compute_metric_intervals(["mae"], np.zeros(len(day)), error, blocks=day, draws=300)[
        "mae"
    ]
    assert days.high - days.low > 3 * (rows.high - rows.low)
    assert days.value == rows.value


def test_the_days_names_do_not_matter_and_the_seed_does() -> None:
    y, score = table("binary")
    day = np.arange(len(y)) // 20
    first = compute_metric_intervals(["roc_auc"], y, score, blocks=day, draws=100)
    assert first == compute_metric_intervals(
        ["roc_auc"], y, score, blocks=np.array([f"d{d:03d}" for d in day], dtype=object), draws=100
    )
    assert first != compute_metric_intervals(["roc_auc"], y, score, blocks=day, draws=100, seed=1)


def test_too_few_days_give_a_value_without_an_interval() -> None:
    y, score = table("binary")
    found = compute_metric_intervals(["roc_auc"], y, score, blocks=np.arange(len(y)) % 4)["roc_auc"]
    assert found.value is not None
    assert found.low is None
    assert found.high is None


def test_a_draw_holds_whole_blocks() -> None:
    block = np.repeat(np.arange(10), 3)
    for counts in draw_row_counts(30, block, 20, 0):
        assert (counts.reshape(10, 3) == counts.reshape(10, 3)[:, :1]).all()
        assert counts.sum() == 30


@every
def test_the_paired_difference_is_positive_where_the_first_is_better(name: str) -> None:
    y, score = table(metrics.METRICS[name].task)
    better = compute_paired_difference(name, y, (y, score), draws=100)
    assert 0 < better.low <= better.value <= better.high
    assert compute_paired_difference(name, y, (score, y), draws=100).high < 0
    same = compute_paired_difference(name, y, (score, score), draws=100)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_pairing_tells_apart_what_two_intervals_do_not() -> None:
    y, score = table("regression")
    worse = score + 0.5 * np.sign(score - y)
    found = (
        compute_metric_intervals(["mae"], y, score, draws=200)["mae"],
        compute_metric_intervals(["mae"], y, worse, draws=200)["mae"],
    )
    assert found[0].high > found[1].low
    assert compute_paired_difference("mae", y, (score, worse), draws=200).low > 0


def test_the_paired_interval_is_that_of_days_drawn_by_hand() -> None:
    y, score = table("binary", 900)
    rng = np.random.default_rng(7)
    worse, day = np.clip(score + rng.normal(0, 0.1, len(y)), 0, 1), np.arange(len(y)) % 30
    found = compute_paired_differences(
        ["roc_auc", "brier"], y, (score, worse), blocks=day, draws=600
    )
    held = [np.flatnonzero(day == d) for d in range(30)]
    drawn = []
    for _ in range(600):
        at = np.concatenate([held[d] for d in rng.integers(0, 30, 30)])
        drawn.append(
            (
                sk.roc_auc_score(y[at], score[at]) - sk.roc_auc_score(y[at], worse[at]),
                sk.brier_score_loss(y[at], worse[at]) - sk.brier_score_loss(y[at], score[at]),
            )
        )
    for interval, (low, high) in zip(
        found.values(), np.quantile(drawn, [0.025, 0.975], axis=0).T, strict=True
    ):
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.15 * (high - low))


def test_paired_differences_come_from_the_same_draws() -> None:
    y, score = table("binary")
    worse = np.round(np.clip(score + np.random.default_rng(1).normal(0, 0.1, len(y)), 0, 1), 2)
    together = compute_paired_differences(
        metrics.list_task_metrics("binary"), y, (score, worse), draws=50
    )
    assert together == {
        n: compute_paired_difference(n, y, (score, worse), draws=50)
        for n in metrics.list_task_metrics("binary")
    }


def test_the_cost_curve_by_hand() -> None:
    found = thresholds.compute_cost_curve(
        [0, 1, 0, 1], [0.1, 0.4, 0.6, 0.9], 1, 3, thresholds=[0, 0.5, 1]
    ).to_dict("list")
    assert found["flagged"] == [1, 0.5, 0]
    assert found["false_alarms"] == [2, 1, 0]
    assert found["misses"] == [0, 1, 2]
    assert found["cost"] == [0.5, 1.0, 1.5]
    assert found["precision"][:2] == [0.5, 0.5]
    assert math.isnan(found["precision"][2])
    assert found["recall"] == [1, 0.5, 0]


def test_the_best_threshold_costs_least_of_all() -> None:
    y, score = table("binary", 2000)
    best = thresholds.find_best_threshold(y, score, 1, 3)
    least = thresholds.compute_cost_curve(y, score, 1, 3, thresholds=[best])["cost"].iloc[0]
    assert (
        least
        <= thresholds.compute_cost_curve(
            y, score, 1, 3, thresholds=np.unique(np.r_[score, 0, 1.1])
        )["cost"].min()
        + 1e-12
    )


def test_of_calibrated_scores_the_best_threshold_is_the_one_of_theory() -> None:
    score = np.repeat(np.linspace(0.05, 0.95, 10), 1000)
    y = (np.tile(np.arange(1000), 10) < 1000 * score).astype(float)
    assert thresholds.find_best_threshold(y, score, 10, 30) == pytest.approx(0.25, abs=1e-9)
    assert thresholds.find_best_threshold([], [], 10, 30) == 0.25


def test_free_misses_flag_nothing() -> None:
    assert thresholds.find_best_threshold([0, 1], [0.2, 0.8], 1, 0) > 0.8


def test_a_months_flights_take_seconds() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(28_000) < 0.25).astype(float)
    score = np.clip(0.25 + 0.2 * (y - 0.25) + rng.normal(0, 0.15, len(y)), 0, 1)
    start = time.perf_counter()
    compute_metric_intervals(
        metrics.list_task_metrics("binary"), y, score, rng.integers(0, 30, len(y)), draws=100
    )
    assert time.perf_counter() - start < 10


def test_a_ratio_is_a_mean_or_a_share_among_some() -> None:
    assert compute_ratio_interval([1, 2, 3], [1, 1, 1], draws=100).value == 2
    assert compute_ratio_interval([1, 0, 0], [1, 1, 0], draws=100).value == 0.5
    assert compute_ratio_interval([0, 0], [0, 0], draws=100).value is None


def test_the_interval_of_a_mean_is_that_of_scipys_bootstrap() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(0).exponential(size=400)
    found = compute_ratio_interval(values, np.ones(400), draws=4000)
    expected = bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_what_a_row_costs() -> None:
    assert list(thresholds.compute_row_costs([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9], 0.35, 10, 25)) == [
        0,
        10,
        25,
        0,
    ]
