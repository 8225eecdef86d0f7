"""The loss of each row: its mean is that of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from mlops_kit.stats.row_losses import compute_row_losses


def test_mean_row_loss_is_the_metric() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50)
    scores = rng.uniform(0.05, 0.95, 50)
    assert compute_row_losses("binary", labels, scores).mean() == pytest.approx(
        sk.log_loss(labels, scores)
    )
    codes = rng.integers(0, 3, 50)
    probabilities = rng.dirichlet([2, 2, 2], 50)
    assert compute_row_losses("multiclass", codes, probabilities).mean() == pytest.approx(
        sk.log_loss(codes, np.clip(probabilities, 1e-3, 1)), rel=1e-3
    )
    assert compute_row_losses("regression", labels, scores).mean() == pytest.approx(
        sk.mean_squared_error(labels, scores)
    )


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_row_without_label_has_no_loss(task: str) -> None:
    losses = compute_row_losses(task, [1.0, np.nan], [0.4, 0.4])
    assert np.isnan(losses).tolist() == [False, True]


def test_certain_error_has_a_finite_loss() -> None:
    assert compute_row_losses("binary", [1, 0], [0.0, 0.0]).round(2).tolist() == [6.91, 0.0]
