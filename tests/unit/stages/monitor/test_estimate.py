"""Estimated performance against hand calculations, and what a column's drift costs."""

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


class IdentityCalibrator:
    """A calibrator that changes nothing."""

    @staticmethod
    def predict(score: Any) -> Any:
        return score


def test_estimated_auc_of_two_rows_matches_hand_calculation() -> None:
    # Scores 0.8 and 0.4, both true probabilities. Weights of positives: (0.8, 0.4), of negatives:
    # (0.2, 0.6). Pairs in which the positive ranks higher: 0.8 x 0.6; equal (a row against itself,
    # half): 0.8 x 0.2 and 0.4 x 0.6; lower: 0.4 x 0.2.
    expected = (0.8 * 0.6 + (0.8 * 0.2 + 0.4 * 0.6) / 2) / ((0.8 + 0.4) * (0.2 + 0.6))
    assert estimate.estimate_performance(
        [0.8, 0.4], ["a", "a"], IdentityCalibrator(), CONFIG
    ).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "known"), [("roc_auc", roc_auc_score), ("log_loss", log_loss)])
def test_estimate_matches_realized_for_true_probabilities(name: str, known: Any) -> None:
    rng = np.random.default_rng(1)
    chance = rng.beta(1, 2, 200_000)
    y = rng.random(200_000) < chance
    found = estimate.estimate_performance(
        chance,
        np.arange(200_000) % 10,
        IdentityCalibrator(),
        CONFIG.model_copy(update={"review": CONFIG.review.model_copy(update={"metric": name})}),
    )
    assert found.value == pytest.approx(known(y, chance), abs=0.003)
    assert found.low < found.value < found.high


def test_overconfident_model_is_calibrated_first() -> None:
    rng = np.random.default_rng(2)
    chance = rng.beta(2, 2, 50_000)
    scores = chance**3  # ranks as it should, too low
    y = rng.random(50_000) < chance
    calibrator = estimate.fit_calibrator(scores[:25_000], y[:25_000])
    estimated = estimate.estimate_performance(scores[25_000:], ["a"] * 25_000, calibrator, CONFIG)
    realized = roc_auc_score(y[25_000:], scores[25_000:])
    assert estimated.value == pytest.approx(realized, abs=0.01)
    uncalibrated = estimate.estimate_performance(
        scores[25_000:], ["a"] * 25_000, IdentityCalibrator(), CONFIG
    )
    assert abs(uncalibrated.value - realized) > 0.02
    assert estimated.low is None  # one day: nothing to draw


def test_inestimable_metric_has_no_value() -> None:
    regression = root.ProjectConfig(name="t", source="t.csv", target="y", task="regression")
    fixed = CONFIG.model_copy(
        update={"review": CONFIG.review.model_copy(update={"metric": "calibration_error"})}
    )
    cases = [
        ([0.5], IdentityCalibrator(), regression),
        ([0.5], IdentityCalibrator(), fixed),
        ([0.5], None, CONFIG),
        ([], IdentityCalibrator(), CONFIG),
    ]
    assert [estimate.estimate_performance(s, ["a"] * len(s), c, k).value for s, c, k in cases] == [
        None
    ] * 4
    assert estimate.fit_calibrator([0.1, 0.2], [1, 1]) is None
    assert estimate.fit_calibrator([0.1, math.nan], [1, math.nan]) is None


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


MULTICLASS_CONFIG = root.ProjectConfig(
    name="t", source="t.csv", target="y", task="multiclass", review={"draws": 100}
)


def make_class_scores(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make true probabilities of four classes, and classes that were drawn with them."""
    rng = np.random.default_rng(seed)
    scores = rng.dirichlet([1, 1, 1, 0.5], rows)
    drawn = rng.random(rows)[:, None] > scores.cumsum(axis=1)
    return scores, drawn.sum(axis=1).clip(max=3).astype(float)


def test_estimated_accuracy_is_the_mean_confidence() -> None:
    estimated = estimate.estimate_performance(
        [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]], ["a", "a"], IdentityCalibrator(), MULTICLASS_CONFIG
    )
    assert estimated.value == pytest.approx((0.7 + 0.4) / 2)


def test_estimated_accuracy_matches_the_realized_one() -> None:
    reference, labels = make_class_scores(20_000, 3)
    sharpened = reference**2 / (reference**2).sum(axis=1, keepdims=True)  # overconfident
    calibrator = estimate.fit_calibrator(pd.Series(sharpened.tolist()), labels)
    current, current_labels = make_class_scores(20_000, 4)
    scores = current**2 / (current**2).sum(axis=1, keepdims=True)
    is_certain = scores.max(axis=1) > 0.6  # other rows than at the review
    scores = scores[is_certain]
    realized = metrics.compute_metric("accuracy", current_labels[is_certain], scores)
    days = np.arange(len(scores)) % 10
    estimated = estimate.estimate_performance(scores, days, calibrator, MULTICLASS_CONFIG)
    assert estimated.low - 0.005 < realized < estimated.high + 0.005
    uncalibrated = estimate.estimate_performance(
        scores, days, IdentityCalibrator(), MULTICLASS_CONFIG
    )
    assert abs(uncalibrated.value - realized) > 0.05


def test_other_multiclass_metrics_have_no_estimate() -> None:
    config = MULTICLASS_CONFIG.model_copy(
        update={"review": MULTICLASS_CONFIG.review.model_copy(update={"metric": "f1_macro"})}
    )
    scores, _ = make_class_scores(50, 5)
    assert (
        estimate.estimate_performance(scores, [1] * 50, IdentityCalibrator(), config).value is None
    )
