"""Row weights in statistics: scikit-learn's sample_weight, and repeated rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn import metrics as sklearn_metrics

from mlops_kit.stats import bootstrap, metrics, proportions, thresholds, weights
from mlops_kit.stats.calibration import assign_quantile_bins

SKLEARN_METRICS: dict[str, Callable[..., float]] = {
    "roc_auc": sklearn_metrics.roc_auc_score,
    "average_precision": sklearn_metrics.average_precision_score,
    "log_loss": sklearn_metrics.log_loss,
    "brier": sklearn_metrics.brier_score_loss,
    "r2": sklearn_metrics.r2_score,
    "rmse": sklearn_metrics.root_mean_squared_error,
    "mae": sklearn_metrics.mean_absolute_error,
}
# Its bins are those of the rows, whatever they weigh.
BINNED_METRIC = "calibration_error"
BINNED_METRICS = {BINNED_METRIC, "classwise_calibration_error"}


def make_sample(task: str, rows: int = 300, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    score = rng.random(rows).round(2)
    y = (rng.random(rows) < score).astype(float)
    if task == "regression":
        y = score + rng.normal(scale=0.2, size=rows)
    if task == "multiclass":
        y = rng.integers(0, 4, rows).astype(float)
        score = rng.dirichlet(np.ones(4), rows)
    return y, score, rng.integers(0, 5, rows).astype(float)


@pytest.mark.parametrize("name", SKLEARN_METRICS)
def test_weighted_metric_is_scikit_learns(name: str) -> None:
    y, score, _ = make_sample(metrics.METRICS[name].tasks[0])
    row_weights = np.random.default_rng(1).exponential(size=len(y))
    expected = SKLEARN_METRICS[name](y, score, sample_weight=row_weights)
    assert metrics.compute_metric(name, y, score, weights=row_weights) == pytest.approx(expected)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_whole_weights_are_repeated_rows(seed: int) -> None:
    for name, metric in metrics.METRICS.items():
        if name in BINNED_METRICS:
            continue
        y, score, row_weights = make_sample(metric.tasks[0], 60, seed)
        repeats = row_weights.astype(int)
        expected = metrics.compute_metric(
            name, np.repeat(y, repeats), np.repeat(score, repeats, axis=0)
        )
        assert metrics.compute_metric(name, y, score, weights=row_weights) == pytest.approx(
            expected, nan_ok=True
        )


def test_calibration_error_weights_the_rows_of_its_bins() -> None:
    y, score, row_weights = make_sample("binary")
    bins = assign_quantile_bins(score, 10)
    errors = []
    for number in np.unique(bins):
        inside = bins == number
        errors.append(abs((row_weights[inside] * (y - score)[inside]).sum()))
    expected = sum(errors) / row_weights.sum()
    found = metrics.compute_metric(BINNED_METRIC, y, score, weights=row_weights)
    assert found == pytest.approx(expected)


def test_intervals_of_weighted_blocks_are_those_of_repeated_rows() -> None:
    y, score, row_weights = make_sample("binary")
    blocks = np.arange(len(y)) // 10
    repeats = row_weights.astype(int)
    names = ["roc_auc", "log_loss", "brier"]
    weighted = bootstrap.compute_metric_intervals(
        names, y, score, bootstrap.SamplingDesign(blocks, row_weights), draws=100
    )
    repeated = bootstrap.compute_metric_intervals(
        names, np.repeat(y, repeats), np.repeat(score, repeats), np.repeat(blocks, repeats), 100
    )
    for name in names:
        assert weighted[name].value == pytest.approx(repeated[name].value)
        assert weighted[name].low == pytest.approx(repeated[name].low)
        assert weighted[name].high == pytest.approx(repeated[name].high)


def test_intervals_do_not_narrow_where_all_weights_are_greater() -> None:
    y, score, _ = make_sample("binary")
    plain = bootstrap.compute_metric_intervals(["brier"], y, score, draws=100)
    heavy = bootstrap.SamplingDesign(weights=np.full(len(y), 7.0))
    weighted = bootstrap.compute_metric_intervals(["brier"], y, score, heavy, draws=100)
    assert weighted["brier"].low == pytest.approx(plain["brier"].low)
    assert weighted["brier"].high == pytest.approx(plain["brier"].high)


def test_missing_label_leaves_out_its_weight() -> None:
    y, score, row_weights = make_sample("binary")
    y[:5] = np.nan
    design = bootstrap.SamplingDesign(weights=row_weights)
    found = bootstrap.compute_metric_intervals(["brier"], y, score, design, draws=10)["brier"]
    expected = sklearn_metrics.brier_score_loss(y[5:], score[5:], sample_weight=row_weights[5:])
    assert found.value == pytest.approx(expected)
    assert metrics.compute_metric("brier", y, score, weights=row_weights) == pytest.approx(expected)


def test_paired_difference_is_weighted_for_both_models() -> None:
    y, score, row_weights = make_sample("binary")
    other = np.clip(score + 0.1, 0, 1)
    design = bootstrap.SamplingDesign(np.arange(len(y)) // 10, row_weights)
    found = bootstrap.compute_paired_difference("brier", y, (score, other), design, draws=50)
    expected = sklearn_metrics.brier_score_loss(y, other, sample_weight=row_weights)
    expected -= sklearn_metrics.brier_score_loss(y, score, sample_weight=row_weights)
    assert found.value == pytest.approx(expected)


def test_cost_curve_and_threshold_of_whole_weights_are_those_of_repeated_rows() -> None:
    y, score, row_weights = make_sample("binary")
    repeats = row_weights.astype(int)
    repeated = (np.repeat(y, repeats), np.repeat(score, repeats, axis=0))
    weighted_curve = thresholds.compute_cost_curve(y, score, 10, 25, weights=row_weights)
    repeated_curve = thresholds.compute_cost_curve(*repeated, 10, 25)
    assert weighted_curve.to_numpy() == pytest.approx(repeated_curve.to_numpy(), nan_ok=True)
    weighted_best = thresholds.find_best_threshold(y, score, 10, 25, row_weights)
    assert weighted_best == pytest.approx(thresholds.find_best_threshold(*repeated, 10, 25))
    without = thresholds.find_best_threshold(y, score, 10, 25)
    heavy_positives = np.where(y == 1, 10.0, 1.0)
    assert thresholds.find_best_threshold(y, score, 10, 25, heavy_positives) < without


def test_precision_is_missing_where_nothing_is_flagged() -> None:
    row_weights = np.full(3, 0.1)
    curve = thresholds.compute_cost_curve([0, 1, 1], [0.1, 0.2, 0.3], 1, 1, [0.9], row_weights)
    assert curve["flagged"].tolist() == [0.0]
    assert np.isnan(curve["precision"]).all()


def test_effective_rows_by_hand() -> None:
    assert weights.compute_effective_rows(np.ones(7)) == 7
    assert weights.compute_effective_rows([2.0, 2.0]) == 2
    assert weights.compute_effective_rows([1, 0, 0]) == 1
    assert weights.compute_effective_rows([]) == 0
    assert weights.compute_effective_rows([4, 1, 1]) == pytest.approx(36 / 18)


def test_weighted_mean_is_numpys_of_known_values() -> None:
    values = np.array([1.0, np.nan, 3.0, 8.0])
    row_weights = np.array([1.0, 5.0, 2.0, 0.0])
    assert weights.compute_weighted_mean(values, row_weights) == pytest.approx(7 / 3)
    assert weights.compute_weighted_mean(values, None) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(weights.compute_weighted_mean([np.nan], None))
        assert np.isnan(weights.compute_weighted_mean([1.0], np.zeros(1)))


@pytest.mark.parametrize(("successes", "rows"), [(0, 5), (3, 10), (40, 40), (12, 300)])
def test_weighted_wilson_interval_of_equal_weights_is_wilsons(successes: int, rows: int) -> None:
    expected: Any = scipy_stats.binomtest(successes, rows).proportion_ci(method="wilson")
    found = proportions.compute_weighted_wilson_interval(successes / rows, rows)
    assert found == pytest.approx((expected.low, expected.high))
