"""A policy is recommended only if it is cheaper beyond noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlops_kit.project import loader
from mlops_kit.watch.policy_replay.costs import (
    CostRatio,
    PolicyLoss,
    choose_policy,
    compute_saving,
)

ROWS = np.full(24, 100)
FREE = CostRatio(1.0, 0.0, "a retraining is free")


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(
        "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\ntime: at\n"
    )
    return loader.load_project(tmp_path)


def make_losses(mean: float, seed: int, noise: float = 2.0) -> np.ndarray:
    """Make the losses of 24 windows around a mean."""
    return np.random.default_rng(seed).normal(mean, noise, 24)


def test_a_cost_is_the_sum_of_losses_and_retrainings() -> None:
    policy = PolicyLoss("p", np.array([3.0, 4.0]), 2)
    assert policy.compute_cost(CostRatio(1.0, 10.0, "")) == pytest.approx(27.0)


def test_a_saving_counts_retrainings_as_they_are() -> None:
    losses = make_losses(20, 0)
    present = PolicyLoss("default", losses, 3)
    other = PolicyLoss("static", losses, 0)
    saving = compute_saving(present, other, CostRatio(1.0, 240.0, ""), ROWS)
    assert (saving.value, saving.low, saving.high) == pytest.approx((0.3, 0.3, 0.3))


@pytest.mark.slow
def test_no_difference_beyond_noise_keeps_the_present_policy(project: loader.Project) -> None:
    kept = 0
    for seed in range(40):
        present = PolicyLoss("default", make_losses(20, seed), 1)
        other = PolicyLoss("drift", make_losses(20, 1000 + seed), 1)
        choice = choose_policy([present, other], FREE, ROWS, project.config)
        kept += choice.recommended == "default"
    assert kept >= 36


def test_a_clear_saving_is_recommended(project: loader.Project) -> None:
    present = PolicyLoss("default", make_losses(20, 0), 1)
    better = PolicyLoss("performance", make_losses(14, 1), 1)
    choice = choose_policy([present, better], FREE, ROWS, project.config)
    assert choice.recommended == choice.cheapest == "performance"
    assert choice.saving.low is not None
    assert choice.saving.low > 0


def test_more_comparisons_widen_the_interval() -> None:
    present = PolicyLoss("default", make_losses(20, 0), 1)
    other = PolicyLoss("drift", make_losses(19, 1), 1)
    alone = compute_saving(present, other, FREE, ROWS)
    among_five = compute_saving(present, other, FREE, ROWS, comparisons=5)
    assert among_five.low < alone.low < alone.high < among_five.high


def test_few_windows_have_no_interval() -> None:
    present = PolicyLoss("default", np.array([3.0, 4.0]), 1)
    other = PolicyLoss("drift", np.array([2.0, 4.0]), 1)
    saving = compute_saving(present, other, FREE, np.array([10, 10]))
    assert saving.value == pytest.approx(0.05)
    assert saving.low is None
