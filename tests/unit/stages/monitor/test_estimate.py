"""Estimated performance against hand calculations, and what a column's drift costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlops_kit.project.config import root
from mlops_kit.stages.monitor import estimate
from mlops_kit.stats import metrics

CONFIG = root.ProjectConfig(
    name="t", source="t.csv", target="y", task="binary", review={"draws": 100}
)


def make_reference(count: int = 20_000) -> pd.DataFrame:
    """In group "hard" the score says nothing, in "easy" all."""
    rng = np.random.default_rng(3)
    hard = rng.random(count) < 0.2
    y = rng.random(count) < 0.5
    score = np.where(hard, rng.random(count), 0.5 * y + 0.5 * rng.random(count))
    return pd.DataFrame(
        {
            "g": np.where(hard, "hard", "easy"),
            "x": rng.normal(size=count),
            "score": score,
            "y": y.astype(float),
        }
    )


def test_drift_cost_matches_reweighting_by_hand() -> None:
    known = make_reference()
    now = pd.DataFrame({"g": ["hard"] * 60 + ["easy"] * 40, "x": np.linspace(-2, 2, 100)})
    share = (known["g"] == "hard").mean()
    weights = np.where(known["g"] == "hard", 0.6 / share, 0.4 / (1 - share))
    expected = roc_auc_score(known["y"], known["score"]) - roc_auc_score(
        known["y"], known["score"], sample_weight=weights
    )
    found = estimate.estimate_drift_costs(known, now, ["g"], CONFIG)["g"]
    assert found == pytest.approx(expected, abs=1e-9)
    assert found > 0.1


def test_unchanged_or_irrelevant_column_costs_nothing() -> None:
    known = make_reference()
    shifted = known.sample(5_000, random_state=1).assign(x=lambda f: f["x"] + 0.5)
    found = estimate.estimate_drift_costs(known, shifted, ["g", "x"], CONFIG)
    assert abs(found["g"]) < 0.01
    assert abs(found["x"]) < 0.01


def test_cost_from_too_few_rows_is_unknown() -> None:
    known = make_reference()
    rare = known["x"] > known["x"].quantile(0.9)
    assert (
        math.isnan(
            estimate.estimate_drift_costs(known, known[rare].assign(x=9.0), ["x"], CONFIG)["x"]
        )
        or estimate.estimate_drift_cost(
            known, known[rare], "x", CONFIG, estimate.ReferenceMetric(0.8)
        )[1]
        <= 0.11
    )
    assert math.isnan(
        estimate.estimate_drift_costs(known, pd.DataFrame({"g": ["new"] * 100}), ["g"], CONFIG)["g"]
    )


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([1.0, 2.0, np.nan] * 30, [np.nan] * 10),
        ([1.0] * 30, [1.0] * 30),
        (list(np.arange(100.0)), [np.inf, -np.inf, 5.0]),
        (["a", "b", None] * 30, ["c", None, "a"]),
        ([True, False, None] * 20, [True, True, None]),
        (list("abcdefghijklmnopqrstuvwxyz") * 3, ["a", "z"]),
    ],
)
def test_binned_shares_sum_to_one_for_any_column(before: list[Any], now: list[Any]) -> None:
    found = estimate.compare_distributions(pd.Series(before), pd.Series(now))
    assert sum(found["reference"]) == pytest.approx(1, abs=0.01)
    assert sum(found["current"]) == pytest.approx(1, abs=0.01)
    assert (
        len(found["bins"])
        == len(found["reference"])
        == len(found["current"])
        <= estimate.REFERENCE_BINS + 2
    )


def test_cost_sign_follows_metric_direction() -> None:
    known = make_reference()
    loss = CONFIG.model_copy(
        update={"review": CONFIG.review.model_copy(update={"metric": "log_loss"})}
    )
    harder = pd.DataFrame({"g": ["hard"] * 60 + ["easy"] * 40})
    reference_value = metrics.compute_metric("log_loss", known["y"], known["score"])
    assert reference_value > 0
    assert estimate.estimate_drift_costs(known, harder, ["g"], loss)["g"] > 0
