"""Measures of how two fits agree, compared with SciPy and NumPy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss

from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.stats.refit_agreement import (
    ReferenceRefit,
    compute_mean_shift,
    compute_relative_gain,
    compute_score_correlation,
    measure_reference_refit,
    summarize_reference_refits,
)

RNG = np.random.default_rng(0)
FIRST = RNG.uniform(size=200)
SECOND = np.clip(FIRST + RNG.normal(0, 0.1, 200), 0.01, 0.99).round(2)


def test_correlation_of_scores_is_spearmans() -> None:
    expected = stats.spearmanr(FIRST, SECOND).statistic
    assert compute_score_correlation(FIRST, SECOND) == pytest.approx(expected)
    assert math.isnan(compute_score_correlation(FIRST, np.full(200, 0.5)))


def test_correlation_of_class_probabilities_is_pearsons_without_class_means() -> None:
    first = RNG.dirichlet([8, 1, 1], 50)
    second = RNG.dirichlet([8, 1, 1], 50)
    centered = [(scores - scores.mean(axis=0)).ravel() for scores in (first, second)]
    expected = stats.pearsonr(*centered).statistic
    assert compute_score_correlation(first.tolist(), second.tolist()) == pytest.approx(expected)
    assert abs(expected) < 0.4  # the shares of the classes alone do not correlate
    assert compute_score_correlation(first, second[:, :2]) == 0


def test_mean_shift_is_in_units_and_of_the_class_that_changed_most() -> None:
    assert compute_mean_shift([1.0, 2.0], [2.0, 4.0], 3.0) == pytest.approx(0.5)
    assert compute_mean_shift([[0.5, 0.3, 0.2]], [[0.1, 0.5, 0.4]], 1.0) == pytest.approx(-0.4)
    assert math.isnan(compute_mean_shift([1.0], [2.0], math.nan))
    assert math.isnan(compute_mean_shift([[0.5, 0.5]], [[0.2, 0.2, 0.6]], 1.0))


def test_gain_is_a_share_of_the_loss() -> None:
    assert compute_relative_gain(0.1, 0.4) == pytest.approx(0.25)
    assert compute_relative_gain(0.0, 0.0) == 0
    assert math.isnan(compute_relative_gain(math.nan, 0.4))


def test_reference_refit_has_loss_and_gain_on_the_left_out_rows() -> None:
    labels = (RNG.uniform(size=200) < SECOND).astype(int)
    refit = measure_reference_refit(FIRST, SECOND, labels, "binary", fitted_rows=900)
    assert (refit.fitted_rows, refit.compared_rows) == (900, 200)
    assert refit.loss == pytest.approx(log_loss(labels, FIRST))
    assert refit.gain == pytest.approx(1 - log_loss(labels, SECOND) / log_loss(labels, FIRST))


def test_table_of_refits_survives_json() -> None:
    refits = [ReferenceRefit(80, 20, 0.9, 0.01, 0.4, 0.05), ReferenceRefit(60, 20, 0.8, 0, 0.5, 0)]
    stored = json.loads(json.dumps(to_json_value(summarize_reference_refits(refits))))
    read = from_json_value(stored)
    assert read.list_refits() == tuple(refits)
    assert read.schema_version == 1
    assert "0.800 to 0.900" in read.sentence
    assert summarize_reference_refits([]).list_refits() == ()
