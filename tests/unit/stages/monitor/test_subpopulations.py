"""Windows that the reference hardly resembles: how much calibration differs between its parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.feature_matrix import fit_feature_encoder
from mlops_kit.stages.monitor.label_model import fit_label_model
from mlops_kit.stages.monitor.performance_estimate import (
    WindowRows,
    estimate_performance,
    fit_outcome_model,
)
from mlops_kit.stages.monitor.subpopulations import estimate_population_effects
from mlops_kit.stats.metrics import compute_metric

GROUP_SD = 0.8


def make_rows(groups: list[str], shift: float, rows: int, seed: int) -> pd.DataFrame:
    """Make rows whose labels are more or less frequent by group, which the score does not know."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": rng.choice(groups, rows), "a": rng.normal(shift, 1, rows)})
    effects = {}
    for group in groups:
        effects[group] = GROUP_SD * np.random.default_rng(int(group)).normal()
    level = rng.normal(0, 1.5, rows)
    probability = 1 / (1 + np.exp(-level - frame["g"].map(effects)))
    return frame.assign(
        score=1 / (1 + np.exp(-level)), y=(rng.random(rows) < probability).astype(float)
    )


def estimate_effect_sd(frame: pd.DataFrame, names: list[str]) -> float:
    scores = frame["score"].to_numpy()
    labels = frame["y"].to_numpy()
    model = fit_label_model(scores, labels, draws=2)
    encoder = fit_feature_encoder(frame, names)
    effects = estimate_population_effects(model, scores, labels, encoder.encode(frame), encoder)
    return float(np.sqrt(effects.variances[0]))


REFERENCE_GROUPS = [str(number) for number in range(100, 130)]


def test_effect_is_that_of_the_feature_whose_slices_differ_most() -> None:
    frame = make_rows(REFERENCE_GROUPS, 0.0, 4_000, 1)
    assert estimate_effect_sd(frame, ["g", "a"]) == pytest.approx(GROUP_SD, rel=0.3)
    assert estimate_effect_sd(frame, ["a"]) < 0.25
    frame.loc[:500, "a"] = np.nan
    assert estimate_effect_sd(frame, ["a"]) < 0.25


def test_features_with_few_slices_have_no_effect() -> None:
    frame = make_rows(REFERENCE_GROUPS, 0.0, 1_000, 1)
    frame["a"] = np.where(frame["a"] > 0, 1, 0)
    assert estimate_effect_sd(frame, ["a"]) == 0


@pytest.mark.slow
def test_interval_of_a_window_outside_the_support_covers_what_new_groups_realize() -> None:
    config = ProjectConfig(
        name="t", source="t.csv", target="y", task="binary", review={"draws": 200}
    )
    model = fit_outcome_model(make_rows(REFERENCE_GROUPS, 0.0, 4_000, 1), ["g", "a"], config)
    covered = 0
    covered_by_reference = 0
    windows = 40
    for number in range(windows):
        window = make_rows([str(500 + number)], 0.0, 1_000, number)
        realized = compute_metric("precision", window["y"], window["score"])
        for name in ("new", REFERENCE_GROUPS[0]):
            features = window[["g", "a"]].assign(g=name)
            if name != "new":  # the same rows, as if the reference knew them
                features["g"] = np.random.default_rng(number).choice(REFERENCE_GROUPS, 1_000)
            rows = WindowRows(window["score"], features)
            interval = estimate_performance(model, rows, "precision").interval
            is_covered = interval.low <= realized <= interval.high
            if name == "new":
                covered += is_covered
            else:
                covered_by_reference += is_covered
    assert covered >= 0.85 * windows
    assert covered_by_reference < 0.6 * windows
