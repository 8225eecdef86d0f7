"""How labels are distributed given the scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from mlops_kit.stages.monitor.label_model import fit_label_model
from mlops_kit.stats.bootstrap import SamplingDesign


def make_labels(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make true probabilities, overconfident scores, and labels."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(2, 3, rows)
    odds = (probability / (1 - probability)) ** 2
    return probability, odds / (1 + odds), (rng.random(rows) < probability).astype(float)


def test_calibrated_probability_is_the_true_one() -> None:
    probability, scores, labels = make_labels(4_000, 1)
    model = fit_label_model(scores, labels, draws=2)
    assert np.abs(model.predict(scores) - probability).mean() < 0.02
    assert np.abs(scores - probability).mean() > 0.1


def compute_expected_area(scores: np.ndarray, probability: np.ndarray) -> float:
    """ROC-AUC of rows that count as positive with a probability."""
    return float(
        roc_auc_score(
            np.repeat([1, 0], len(scores)),
            np.tile(scores, 2),
            sample_weight=np.r_[probability, 1 - probability],
        )
    )


def test_large_reference_without_steps_is_not_made_to_look_better_by_noise() -> None:
    true_probability, new_scores, _ = make_labels(8_000, 3)
    for seed in range(20, 24):
        _, scores, labels = make_labels(6_000, seed)
        model = fit_label_model(scores, labels, draws=2)
        stacked = model.predict(new_scores)
        steps = IsotonicRegression(out_of_bounds="clip").fit(scores, labels)
        isotonic = steps.predict(new_scores)
        assert model.curves[0].steps_weight < 0.5
        stacked_error = np.abs(stacked - true_probability).mean()
        assert stacked_error < 0.8 * np.abs(isotonic - true_probability).mean()
        assert compute_expected_area(new_scores, stacked) < compute_expected_area(
            new_scores, isotonic
        )


def test_large_reference_follows_steps() -> None:
    rng = np.random.default_rng(2)
    scores = rng.random(8_000)
    probability = np.where(scores < 0.3, 0.1, np.where(scores < 0.7, 0.4, 0.9))
    labels = (rng.random(8_000) < probability).astype(float)
    model = fit_label_model(scores, labels, draws=2)
    assert model.curves[0].steps_weight > 0.8
    assert np.abs(model.predict(scores) - probability).mean() < 0.03


def test_steps_do_not_follow_the_labels_of_days_with_similar_scores() -> None:
    days = np.arange(60).repeat(100)
    draws_of_a_day = np.random.default_rng(0).normal(0, 0.7, 200)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        logits = rng.normal(-1, 1, 60)[days] + rng.normal(0, 0.05, len(days))
        day_effects = rng.normal(0, 0.7, 60)[days]
        labels = (rng.random(len(days)) < expit(logits + day_effects)).astype(float)
        true_probability = expit(logits[:, None] + draws_of_a_day).mean(axis=1)
        errors = []
        for design in (SamplingDesign(days), SamplingDesign()):
            model = fit_label_model(expit(logits), labels, design, draws=2)
            assert model is not None
            errors.append(np.abs(model.predict(expit(logits)) - true_probability).mean())
        assert errors[0] < errors[1]


def test_bootstrapped_curves_vary_as_those_of_other_samples() -> None:
    grid = np.array([0.1, 0.5, 0.9])
    others = []
    for seed in range(60):
        _, scores, labels = make_labels(1_500, 10 + seed)
        others.append(fit_label_model(scores, labels, draws=2).predict(grid))
    _, scores, labels = make_labels(1_500, 5)
    model = fit_label_model(scores, labels, draws=200)
    simulated = np.stack(
        list(model.simulate(np.repeat(grid, 4_000), None, np.random.default_rng(1)))
    )
    spread = simulated.reshape(200, 3, 4_000).mean(axis=2).std(axis=0)
    noise = np.sqrt(model.predict(grid) * (1 - model.predict(grid)) / 4_000)
    expected = np.sqrt(np.std(others, axis=0) ** 2 + noise**2)
    assert spread == pytest.approx(expected, rel=0.4)


def test_scores_of_zero_and_one_have_the_share_of_their_labels() -> None:
    rng = np.random.default_rng(3)
    scores = rng.choice([0.0, 0.5, 1.0], 3_000)
    labels = (rng.random(3_000) < np.where(scores == 0, 0.1, np.where(scores == 1, 0.8, 0.5))) + 0.0
    model = fit_label_model(scores, labels, draws=2)
    known = [labels[scores == value].mean() for value in (0.0, 0.5, 1.0)]
    assert model.predict(np.array([0.0, 0.5, 1.0])) == pytest.approx(known, abs=0.05)


def test_days_that_differ_are_simulated_to_differ() -> None:
    rng = np.random.default_rng(4)
    days = np.repeat(np.arange(60), 60)
    scores = rng.random(3_600)
    level = np.log(scores / (1 - scores)) + rng.normal(0, 0.7, 60)[days]
    labels = (rng.random(3_600) < 1 / (1 + np.exp(-level))).astype(float)
    model = fit_label_model(scores, labels, SamplingDesign(days), draws=100)
    assert np.sqrt(model.effects.variances[0]) == pytest.approx(0.7, abs=0.2)
    independent = fit_label_model(scores, labels, draws=100)
    means = []
    for fitted, blocks in ((model, np.zeros(500)), (independent, None)):
        draws = list(fitted.simulate(scores[:500], blocks, np.random.default_rng(5)))
        means.append(np.mean(draws, axis=1).std())
    assert means[0] > 3 * means[1]


def test_probabilities_of_several_classes_sum_to_one() -> None:
    rng = np.random.default_rng(6)
    scores = rng.dirichlet([1, 1, 1], 3_000)
    labels = (rng.random(3_000)[:, None] > scores.cumsum(axis=1)).sum(axis=1).clip(max=2)
    model = fit_label_model(scores, labels.astype(float), draws=20)
    predicted = model.predict(scores)
    assert predicted.sum(axis=1) == pytest.approx(np.ones(3_000))
    assert np.abs(predicted - scores).mean() < 0.03
    drawn = np.stack(list(model.simulate(scores, None, np.random.default_rng(7))))
    assert (drawn == 1).mean() == pytest.approx(scores[:, 1].mean(), abs=0.02)


def test_one_class_has_no_model() -> None:
    assert fit_label_model(np.array([0.1, 0.2]), np.array([1.0, 1.0])) is None
    assert fit_label_model(np.array([]), np.array([])) is None
