"""Weights with which the reference resembles a window, and why there are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlops_kit.stages.monitor.reweighting import reweight_reference


def make_frame(rows: int, mean: float, seed: int, group: str = "a") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"x": rng.normal(mean, 1, rows), "g": group})


def test_weighted_reference_has_the_mean_of_the_window() -> None:
    reference = make_frame(5_000, 0, 1)
    window = make_frame(2_000, 0.8, 2)
    found = reweight_reference(reference, window, ["x", "g"])
    assert found.weights is not None
    assert np.average(reference["x"], weights=found.weights) == pytest.approx(0.8, abs=0.12)
    # The exact density ratio of both normal distributions.
    exact = np.exp(0.8 * reference["x"] - 0.8**2 / 2)
    assert np.corrcoef(found.weights, exact)[0, 1] > 0.8


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        (make_frame(1_000, 0, 2), "hardly differs"),
        (make_frame(1_000, 4, 2), "hardly overlaps"),
        (make_frame(1_000, 0.8, 2, group="b"), "'g'"),
        (make_frame(100, 0.8, 2), "fewer than 200 rows"),
    ],
)
def test_reason_for_no_weights_is_named(window: pd.DataFrame, reason: str) -> None:
    found = reweight_reference(make_frame(3_000, 0, 1), window, ["x", "g"])
    assert found.weights is None
    assert found.sentence.startswith("not reweighted: ")
    assert reason in found.sentence


def test_timestamps_alone_cannot_be_compared() -> None:
    frame = pd.DataFrame({"t": pd.date_range("2024-01-01", periods=300, freq="h")})
    assert "no feature" in reweight_reference(frame, frame, ["t"]).sentence
