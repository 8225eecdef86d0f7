"""Performance without labels against hand calculations, and what a column's drift costs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from mlops_kit.project.config import root
from mlops_kit.stages.monitor import estimate
from mlops_kit.stats import metrics

CONFIG = root.ProjectConfig(
    name="t", source="t.csv", target="y", task="binary", review={"draws": 100}
)


class Same:
    """A calibration that changes nothing."""

    @staticmethod
    def predict(score: Any) -> Any:
        return score


def measured(**settings: Any) -> root.ProjectConfig:
    return CONFIG.model_copy(update=settings)


def test_the_expected_auc_of_two_rows_is_the_one_worked_out_by_hand() -> None:
    # Scores 0.8 and 0.4, both true probabilities. Positives weigh (0.8, 0.4), negatives (0.2, 0.6). Pairs in which the
    # positive ranks higher: 0.8 x 0.6; equal (a row against itself, half): 0.8 x 0.2 and 0.4 x 0.6; lower: 0.4 x 0.2.
    by_hand = (0.8 * 0.6 + (0.8 * 0.2 + 0.4 * 0.6) / 2) / ((0.8 + 0.4) * (0.2 + 0.6))
    assert estimate.estimate_performance(
        [0.8, 0.4], ["a", "a"], Same(), CONFIG
    ).value == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(("name", "known"), [("roc_auc", roc_auc_score), ("log_loss", log_loss)])
def test_the_estimate_is_what_is_realised_where_the_probabilities_are_true(
    name: str, known: Any
) -> None:
    rng = np.random.default_rng(1)
    chance = rng.beta(1, 2, 200_000)
    y = rng.random(200_000) < chance
    found = estimate.estimate_performance(
        chance,
        np.arange(200_000) % 10,
        Same(),
        CONFIG.model_copy(update={"review": CONFIG.review.model_copy(update={"metric": name})}),
    )
    assert found.value == pytest.approx(known(y, chance), abs=0.003)
    assert found.low < found.value < found.high


def test_a_model_too_sure_of_itself_is_calibrated_first() -> None:
    rng = np.random.default_rng(2)
    chance = rng.beta(2, 2, 50_000)
    said = chance**3  # ranks as it should, says too little
    y = rng.random(50_000) < chance
    calibrated = estimate.fit_calibrator(said[:25_000], y[:25_000])
    found, realised = (
        estimate.estimate_performance(said[25_000:], ["a"] * 25_000, calibrated, CONFIG),
        roc_auc_score(y[25_000:], said[25_000:]),
    )
    assert found.value == pytest.approx(realised, abs=0.01)
    assert (
        abs(
            estimate.estimate_performance(said[25_000:], ["a"] * 25_000, Same(), CONFIG).value
            - realised
        )
        > 0.02
    )
    assert found.low is None  # one day: nothing to draw


def test_what_cannot_be_estimated_has_no_value() -> None:
    regression = root.ProjectConfig(name="t", source="t.csv", target="y", task="regression")
    fixed = CONFIG.model_copy(
        update={"review": CONFIG.review.model_copy(update={"metric": "calibration_error"})}
    )
    cases = [
        ([0.5], Same(), regression),
        ([0.5], Same(), fixed),
        ([0.5], None, CONFIG),
        ([], Same(), CONFIG),
    ]
    assert [estimate.estimate_performance(s, ["a"] * len(s), c, k).value for s, c, k in cases] == [
        None
    ] * 4
    assert estimate.fit_calibrator([0.1, 0.2], [1, 1]) is None
    assert estimate.fit_calibrator([0.1, math.nan], [1, math.nan]) is None


def reference(count: int = 20_000) -> pd.DataFrame:
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


def test_a_drift_to_the_hard_rows_costs_what_reweighting_by_hand_says() -> None:
    known = reference()
    now = pd.DataFrame({"g": ["hard"] * 60 + ["easy"] * 40, "x": np.linspace(-2, 2, 100)})
    share = (known["g"] == "hard").mean()
    weights = np.where(known["g"] == "hard", 0.6 / share, 0.4 / (1 - share))
    by_hand = roc_auc_score(known["y"], known["score"]) - roc_auc_score(
        known["y"], known["score"], sample_weight=weights
    )
    found = estimate.estimate_drift_costs(known, now, ["g"], CONFIG)["g"]
    assert found == pytest.approx(by_hand, abs=1e-9)
    assert found > 0.1


def test_a_column_that_did_not_move_or_does_not_matter_costs_nothing() -> None:
    known = reference()
    shifted = known.sample(5_000, random_state=1).assign(x=lambda f: f["x"] + 0.5)
    found = estimate.estimate_drift_costs(known, shifted, ["g", "x"], CONFIG)
    assert abs(found["g"]) < 0.01
    assert abs(found["x"]) < 0.01


def test_a_cost_that_rests_on_too_few_rows_is_not_known() -> None:
    known = reference()
    rare = known["x"] > known["x"].quantile(0.9)
    assert (
        math.isnan(
            estimate.estimate_drift_costs(known, known[rare].assign(x=9.0), ["x"], CONFIG)["x"]
        )
        or estimate.estimate_drift_cost(known, known[rare], "x", CONFIG, 0.8)[1] <= 0.11
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
def test_both_sides_of_a_sketch_sum_to_one_whatever_the_column_holds(
    before: list[Any], now: list[Any]
) -> None:
    found = estimate.compare_distributions(pd.Series(before), pd.Series(now))
    assert sum(found["reference"]) == pytest.approx(1, abs=0.01)
    assert sum(found["current"]) == pytest.approx(1, abs=0.01)
    assert (
        len(found["bins"])
        == len(found["reference"])
        == len(found["current"])
        <= estimate.REFERENCE_BINS + 2
    )


def test_less_is_better_turns_the_sign_of_a_cost() -> None:
    known = reference()
    loss = CONFIG.model_copy(
        update={"review": CONFIG.review.model_copy(update={"metric": "log_loss"})}
    )
    harder = pd.DataFrame({"g": ["hard"] * 60 + ["easy"] * 40})
    whole = metrics.compute_metric("log_loss", known["y"], known["score"])
    assert whole > 0
    assert estimate.estimate_drift_costs(known, harder, ["g"], loss)["g"] > 0
