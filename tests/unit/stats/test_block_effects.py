"""Random effects of blocks."""

from __future__ import annotations

import numpy as np
import pytest

from mlops_kit.stats.block_effects import BlockEffects, encode_blocks, estimate_block_effects


def estimate_from_days(effect: float, blocks: np.ndarray | None, seed: int) -> BlockEffects:
    rng = np.random.default_rng(seed)
    days = np.repeat(np.arange(80), 50)
    residuals = rng.normal(0, 1, 4_000) + rng.normal(0, effect, 80)[days]
    return estimate_block_effects(
        residuals[:, None],
        np.ones((4_000, 1)),
        np.array([[4_000.0]]),
        days if blocks is None else blocks,
    )


def test_variance_between_days_is_estimated() -> None:
    found = np.mean([estimate_from_days(0.5, None, seed).variances[0] for seed in range(20)])
    assert found == pytest.approx(0.25, abs=0.03)
    without = np.mean([estimate_from_days(0.0, None, seed).variances[0] for seed in range(20)])
    assert without < 0.005


def test_few_blocks_have_no_effect() -> None:
    few = estimate_from_days(0.5, np.arange(4_000) % 4, 1)
    assert few.block_count == 0
    assert few.draw(7, np.random.default_rng(0)).tolist() == [[0.0]] * 7


def test_drawn_effects_have_the_covariance() -> None:
    covariance = np.array([[1.0, -0.5], [-0.5, 0.5]])
    effects = BlockEffects(covariance, 100_000)
    drawn = effects.draw(20_000, np.random.default_rng(2))
    assert np.cov(drawn.T) == pytest.approx(covariance, abs=0.03)


def test_covariance_from_few_blocks_varies() -> None:
    effects = BlockEffects(np.eye(1), 6)
    rng = np.random.default_rng(3)
    spreads = [effects.draw(500, rng).std() for _ in range(300)]
    # The mean of (n - 1) / chi-square(n - 1) is (n - 1) / (n - 3).
    assert np.mean(np.square(spreads)) == pytest.approx(5 / 3, rel=0.25)


def test_rows_without_blocks_are_blocks_of_their_own() -> None:
    codes, count = encode_blocks(np.array(["b", "a", "b"]), 3)
    assert (codes.tolist(), count) == ([1, 0, 1], 2)
    codes, count = encode_blocks(None, 2)
    assert (codes.tolist(), count) == ([0, 1], 2)
    codes, count = encode_blocks(np.array([]), 0)
    assert (codes.tolist(), count) == ([], 0)
