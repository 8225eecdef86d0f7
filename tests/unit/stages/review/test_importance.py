"""Permutation importance, calibration, decision costs and absolute errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review import (
    compare_calibration_curves,
    compare_decision_rules,
    compute_calibration_curve,
    compute_permutation_importance,
    evaluate_decisions,
    summarize_absolute_errors,
)
from mlops_kit.stats.proportions import compute_wilson_interval

MakeConfig = Callable[..., ProjectConfig]


def rows(count: int = 800) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3))
    y = (x[:, 0] + 0.3 * x[:, 1] + rng.normal(size=count) > 0).astype(float)
    return pd.DataFrame(x, columns=["strong", "weak", "idle"]).assign(late=y)


def test_most_important_feature_comes_first(make_config: MakeConfig) -> None:
    frame, names = rows(), ["idle", "weak", "strong"]
    model = LogisticRegression().fit(frame[names], frame["late"])
    found = compute_permutation_importance(model, frame, names, make_config())
    assert list(found.to_frame()["feature"])[:2] == ["strong", "weak"]
    assert found.to_frame()["importance"].iloc[0] > 0.1
    assert found.sentence.startswith("strong matters most")
    again = compute_permutation_importance(model, frame, names, make_config())
    pd.testing.assert_frame_equal(found.to_frame(), again.to_frame())


def test_importance_is_positive_for_smaller_is_better_metric(make_config: MakeConfig) -> None:
    frame = rows()
    model = LinearRegression().fit(frame[["strong", "idle"]], frame["late"])
    found = compute_permutation_importance(
        model,
        frame,
        ["strong", "idle"],
        make_config("regression", review={"metric": "rmse"}),
        max_rows=300,
    )
    assert found.to_frame()["feature"].iloc[0] == "strong"
    assert found.to_frame()["importance"].iloc[0] > 0
    assert found.notes[0].startswith("300 rows")


@pytest.mark.parametrize("label", [np.nan, 0.0])
def test_importance_is_empty_without_a_metric(make_config: MakeConfig, label: float) -> None:
    frame = rows()
    model = LogisticRegression().fit(frame[["strong"]], frame["late"])
    found = compute_permutation_importance(
        model, frame.assign(late=label), ["strong"], make_config()
    )
    assert found.to_frame().empty
    assert "cannot be computed" in found.sentence


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (5, 10), (10, 10), (3, 1000)])
def test_wilson_interval_is_the_formula(hits: int, count: int) -> None:
    square, share = 1.959963984540054**2, hits / count
    half = math.sqrt(square * share * (1 - share) / count + square**2 / (4 * count**2))
    expected = [
        (share + square / (2 * count) + side * half) / (1 + square / count) for side in (-1, 1)
    ]
    assert compute_wilson_interval(hits, count) == pytest.approx(expected, abs=1e-12)


def test_calibration_bins_are_equal_and_contain_all_rows() -> None:
    score = np.random.default_rng(0).random(1000)
    y = (np.random.default_rng(1).random(1000) < score).astype(float)
    data = compute_calibration_curve(y, score).to_frame()
    assert list(data["rows"]) == [100] * 10
    assert data["share"].sum() == pytest.approx(1)
    assert (data["predicted"] * data["rows"]).sum() == pytest.approx(score.sum())
    assert ((data["low"] <= data["observed"]) & (data["observed"] <= data["high"])).all()


def test_constant_score_is_one_bin_and_no_rows_is_no_bin() -> None:
    assert len(compute_calibration_curve([0, 1, 1], [0.5, 0.5, 0.5]).to_frame()) == 1
    assert compute_calibration_curve([np.nan], [0.5]).to_frame().empty


def test_regression_bins_contain_means() -> None:
    data = compute_calibration_curve(
        [10.0, 12.0, 20.0, 22.0], [11.0, 11.0, 21.0, 21.0], bins=2
    ).to_frame()
    assert list(data["observed"]) == [11.0, 21.0]
    half = 1.959963984540054 * np.sqrt(2) / np.sqrt(2)
    assert data["high"].iloc[0] == pytest.approx(11.0 + half)


def test_decision_costs_by_hand(make_config: MakeConfig) -> None:
    made = make_config(cost={"false_alarm": 10, "miss": 25, "unit": "$"})
    found = compare_decision_rules([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9], 0.25, made)
    data = found.to_frame().set_index("rule")
    assert data.loc["the model's threshold", "cost"] == 2.5  # one false alarm in four rows
    assert data.loc["flag every row", "cost"] == 5.0
    assert data.loc["flag no row", "cost"] == 12.5
    assert data.loc["flag above one half", "misses"] == 1
    assert "Errors cost $2.50 per row, $5.00 without a model." in found.sentence
    assert found.units["cost"] == "$ per row"


def test_absolute_errors_of_a_regression(make_config: MakeConfig) -> None:
    scores = pd.DataFrame({"late": [0.0, 0.0, 0.0], "score": [1.0, -2.0, 3.0]})
    found = evaluate_decisions(scores, make_config("regression"), None)
    assert found.to_frame()["off by at most"].tolist()[0] == 2.0
    assert found.to_frame()["off by at most"].tolist()[-1] == 3.0
    assert summarize_absolute_errors([], []).sentence == "There is no labeled row."


def test_calibration_curves_of_two_models() -> None:
    y, said = [0.0, 1.0, 1.0, 0.0], [0.1, 0.9, 0.6, 0.4]
    found = compare_calibration_curves(
        y, {"this version": said, "version 7": [0.5] * 4, "version 6": None}, bins=2
    )
    assert list(found.to_frame().columns) == [
        "model",
        "predicted",
        "observed",
        "low",
        "high",
        "share",
    ]
    assert found.to_frame()["model"].tolist() == ["this version", "this version", "version 7"]
    assert found.to_frame()["predicted"].tolist() == pytest.approx([0.25, 0.75, 0.5])
    assert found.sentence.startswith("This version: largest deviation: predicted ")
    assert " Version 7: largest deviation: predicted 50%" in found.sentence
    alone = compare_calibration_curves([math.nan], {"this version": [0.5], "": None})
    assert alone.to_frame().empty
    assert "no labeled row" in alone.sentence


@pytest.mark.slow
def test_calibration_intervals_cover_what_they_claim_though_rows_of_a_day_are_alike() -> None:
    days, rows_per_day, draws = 30, 40, 300
    row_days = np.repeat(np.arange(days), rows_per_day)
    score = np.full(days * rows_per_day, 0.3)
    covered = {"rows": 0, "days": 0}
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        share = np.clip(0.3 + rng.normal(0, 0.1, days), 0, 1)[row_days]
        labels = (rng.random(len(share)) < share).astype(float)
        for name, blocks in (("rows", None), ("days", row_days)):
            (curve,) = (
                compute_calibration_curve(labels, score, blocks=blocks).to_frame().itertuples()
            )
            covered[name] += curve.low <= 0.3 <= curve.high
    assert 0.92 <= covered["days"] / draws <= 0.98
    assert covered["rows"] / draws < 0.85


def test_interval_of_blocks_is_the_cluster_robust_one() -> None:
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1], dtype=float)
    blocks = np.repeat(["a", "b", "c", "d"], 3)
    (curve,) = (
        compute_calibration_curve(labels, np.full(12, 0.4), blocks=blocks).to_frame().itertuples()
    )
    # Mean 5/12; sums of deviations by block: 1.75, -1.25, -0.25, -0.25.
    variance = 4 / 3 * (1.75**2 + 1.25**2 + 0.25**2 + 0.25**2) / 12**2
    half_width = 3.182446 * math.sqrt(variance)  # Student's t with 3 degrees of freedom
    assert curve.high == pytest.approx(min(1, 5 / 12 + half_width), rel=1e-5)
    assert curve.low == pytest.approx(max(0, 5 / 12 - half_width), abs=1e-5)
