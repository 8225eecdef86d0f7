"""How errors of a regression are distributed given the features."""

from __future__ import annotations

import numpy as np
import pytest

from mlops_kit.stages.monitor.error_model import fit_error_model
from mlops_kit.stats.bootstrap import SamplingDesign


def make_errors(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make features, and errors whose size depends on the first of them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (rows, 2))
    return features, np.exp(0.5 * features[:, 0]) * rng.normal(0, 1, rows)


def test_size_of_errors_follows_the_features() -> None:
    features, errors = make_errors(4_000, 1)
    scores = np.zeros(4_000)
    model = fit_error_model(scores, errors, features)
    grid = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    expected = np.exp(0.5 * grid[:, 0]) * np.sqrt(2 / np.pi)
    assert model.predict_sizes(grid).mean(axis=0) == pytest.approx(expected, rel=0.25)


def test_simulated_errors_have_the_distribution_of_the_real_ones() -> None:
    features, errors = make_errors(4_000, 2)
    model = fit_error_model(np.full(4_000, 5.0), 5 + errors, features)
    new_features, new_errors = make_errors(4_000, 3)
    draws = model.simulate(np.full(4_000, 5.0), new_features, None, 40, np.random.default_rng(4))
    simulated = np.stack(list(draws)) - 5
    assert np.abs(simulated).mean() == pytest.approx(np.abs(new_errors).mean(), rel=0.08)
    assert np.sqrt((simulated**2).mean()) == pytest.approx(np.sqrt((new_errors**2).mean()), rel=0.1)
    assert simulated.mean() == pytest.approx(0, abs=0.1)


def test_days_whose_errors_are_high_together_are_found() -> None:
    rng = np.random.default_rng(5)
    days = np.repeat(np.arange(50), 40)
    errors = rng.normal(0, 1, 2_000) + rng.normal(0, 0.5, 50)[days]
    model = fit_error_model(np.zeros(2_000), errors, np.empty((2_000, 0)), SamplingDesign(days))
    relative_effect = np.sqrt(model.level_effects.variances[0]) * model.mean_size
    assert relative_effect == pytest.approx(0.5, abs=0.15)


def test_few_rows_have_one_size_and_no_error_has_no_model() -> None:
    features, errors = make_errors(50, 6)
    model = fit_error_model(np.zeros(50), errors, features)
    assert model.predict_sizes(features) == pytest.approx(np.full((1, 50), np.abs(errors).mean()))
    assert fit_error_model(np.ones(3), np.ones(3), np.ones((3, 1))) is None
