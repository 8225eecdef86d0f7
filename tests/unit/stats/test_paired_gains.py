"""Gains on the same rows: their variance, and that looking again and again does not mislead."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mlops_kit.stats.bootstrap import SamplingDesign
from mlops_kit.stats.paired_gains import (
    PairedGain,
    ScoredRows,
    compute_sequential_interval,
    measure_paired_gain,
)

DAYS_PER_WINDOW = 7


def test_variance_of_a_mean_is_that_of_the_means_of_days() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(size=60)
    scores = labels + rng.normal(size=60)
    other_scores = labels + rng.normal(size=60)
    days = np.repeat(np.arange(6), 10)
    gain = measure_paired_gain(
        "mae", ScoredRows(labels, scores, other_scores), SamplingDesign(days)
    )
    row_gains = abs(labels - other_scores) - abs(labels - scores)
    day_means = row_gains.reshape(6, 10).mean(axis=1)
    assert gain is not None
    assert gain.value == pytest.approx(row_gains.mean())
    assert gain.variance == pytest.approx(day_means.var(ddof=1) / 6)
    assert (gain.degrees_of_freedom, gain.rows) == (5, 60)


def test_gain_is_that_of_the_metric_and_rows_without_a_label_are_left_out() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(200) < 0.5).astype(float)
    scores = labels + rng.normal(size=200)
    other_scores = rng.normal(size=200)
    with_missing = np.append(labels, [np.nan] * 5)
    rows = ScoredRows(with_missing, np.append(scores, [9] * 5), np.append(other_scores, [0] * 5))
    gain = measure_paired_gain("roc_auc", rows, SamplingDesign())
    assert gain is not None
    assert gain.value == pytest.approx(
        roc_auc_score(labels, scores) - roc_auc_score(labels, other_scores)
    )
    assert gain.degrees_of_freedom == 9  # tenths of the rows, because there are no days
    one_class = ScoredRows(np.ones(50), np.arange(50), np.arange(50))
    assert measure_paired_gain("roc_auc", one_class, SamplingDesign()) is None


def make_gain(day_gains: np.ndarray) -> PairedGain:
    """The gain of a window from the gains of its days."""
    return PairedGain(
        float(day_gains.mean()),
        float(day_gains.var(ddof=1) / len(day_gains)),
        len(day_gains) - 1,
        1000,
    )


@pytest.mark.slow
def test_equal_models_are_rarely_found_worse_in_52_looks() -> None:
    rng = np.random.default_rng(2)
    histories = 200
    found_worse = 0
    for _ in range(histories):
        gains: list[PairedGain] = []
        for _ in range(52):
            gains.append(make_gain(rng.normal(size=DAYS_PER_WINDOW)))
            high = compute_sequential_interval(gains).high
            if high is not None and high < 0:
                found_worse += 1
                break
    assert found_worse <= 0.05 * histories


def test_clear_loss_is_found_at_the_first_look_and_a_small_one_later() -> None:
    rng = np.random.default_rng(3)
    clear = compute_sequential_interval([make_gain(rng.normal(-0.05, 0.02, DAYS_PER_WINDOW))])
    assert clear.high is not None
    assert clear.high < 0
    small = [make_gain(rng.normal(-0.01, 0.02, DAYS_PER_WINDOW)) for _ in range(26)]
    first = compute_sequential_interval(small[:1])
    last = compute_sequential_interval(small)
    assert first.high is not None
    assert first.high > 0
    assert last.high is not None
    assert last.high < 0
