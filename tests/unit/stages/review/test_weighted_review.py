"""A review with row weights and groups: scikit-learn's numbers, and whole groups resampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages import review
from mlops_kit.stages.review.champion_comparison import ScoredModel, compare_with_champion

MakeRows = Callable[..., pd.DataFrame]
MakeConfig = Callable[..., ProjectConfig]


@pytest.fixture
def weighted(make_rows: MakeRows) -> pd.DataFrame:
    frame = make_rows()
    rng = np.random.default_rng(4)
    return frame.assign(
        w=rng.integers(0, 4, len(frame)).astype(float), patient=rng.integers(0, 150, len(frame))
    )


def repeat_rows(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[frame.index.repeat(frame["w"].astype(int))].reset_index(drop=True)


def make_both(make_config: MakeConfig, **settings: Any) -> tuple[ProjectConfig, ProjectConfig]:
    """Make a configuration with weights, and the same one without."""
    values = {"cost": {"false_alarm": 10, "miss": 25}, **settings}
    return make_config(weight="w", **values), make_config(**values)


def test_performance_of_whole_weights_is_that_of_repeated_rows(
    weighted: pd.DataFrame, make_config: MakeConfig
) -> None:
    with_weights, without = make_both(make_config)
    found = review.evaluate_performance(weighted, with_weights, draws=100)
    expected = review.evaluate_performance(repeat_rows(weighted), without, draws=100)
    other = expected.to_frame().set_index("metric").drop("calibration_error")
    data = found.to_frame().set_index("metric").drop("calibration_error")
    assert data.to_numpy(float) == pytest.approx(other.to_numpy(float))
    auc = roc_auc_score(weighted["late"], weighted["score"], sample_weight=weighted["w"])
    assert data.loc["roc_auc", "value"] == pytest.approx(auc)


def test_costs_of_whole_weights_are_those_of_repeated_rows(
    weighted: pd.DataFrame, make_config: MakeConfig
) -> None:
    with_weights, without = make_both(make_config)
    repeated = repeat_rows(weighted)
    found = review.evaluate_decisions(weighted, with_weights, 0.3).to_frame()
    expected = review.evaluate_decisions(repeated, without, 0.3).to_frame()
    numbers = ["flagged", "precision", "recall", "false_alarms", "misses", "cost"]
    assert found[numbers].to_numpy() == pytest.approx(expected[numbers].to_numpy(), nan_ok=True)
    cost, saving = review.compute_decision_cost(weighted, 0.3, with_weights)
    other_cost, other_saving = review.compute_decision_cost(repeated, 0.3, without)
    assert (cost.value, cost.low) == pytest.approx((other_cost.value, other_cost.low))
    assert (saving.value, saving.high) == pytest.approx((other_saving.value, other_saving.high))


def test_slices_of_whole_weights_are_those_of_repeated_rows(
    weighted: pd.DataFrame, make_config: MakeConfig
) -> None:
    with_weights, without = make_both(make_config)
    found = review.evaluate_slices(weighted, with_weights, ["group"], draws=100).to_frame()
    expected = review.evaluate_slices(repeat_rows(weighted), without, ["group"], 100).to_frame()
    numbers = ["mean_target", "value", "low", "high", "gap", "lift"]
    assert found["slice"].tolist() == expected["slice"].tolist()
    assert found[numbers].to_numpy(float) == pytest.approx(expected[numbers].to_numpy(float))
    assert found["rows"].sum() == len(weighted)


def test_champion_is_compared_with_weights(weighted: pd.DataFrame, make_config: MakeConfig) -> None:
    with_weights, without = make_both(make_config, review={"draws": 100})
    tables = []
    for frame, config in ((weighted, with_weights), (repeat_rows(weighted), without)):
        scores = frame["score"].to_numpy()
        challenger = ScoredModel("this version", scores, 0.3)
        champion = ScoredModel("version 1", np.clip(scores + 0.05, 0, 1), 0.4, version="1")
        slices = review.evaluate_slices(frame, config, ["group"], draws=100)
        tables.append(compare_with_champion(frame, challenger, champion, slices, config).to_frame())
    found, expected = (table.set_index("metric") for table in tables)
    numbers = ["difference", "low", "high", "margin"]
    shared = ["cost", "roc_auc", "log_loss", "worst_slice"]
    assert found.loc[shared, numbers].to_numpy() == pytest.approx(
        expected.loc[shared, numbers].to_numpy()
    )


def test_importance_is_scikit_learns_with_weights(
    weighted: pd.DataFrame, make_config: MakeConfig
) -> None:
    frame = weighted.assign(noise=np.random.default_rng(0).normal(size=len(weighted)))
    names = ["x", "noise"]
    model = LogisticRegression().fit(frame[names], frame["late"])
    found = review.compute_permutation_importance(
        model, frame, names, make_config(weight="w"), seed=3
    )
    expected = permutation_importance(
        model,
        frame[names],
        frame["late"],
        scoring="roc_auc",
        n_repeats=3,
        random_state=3,
        sample_weight=frame["w"].to_numpy(),
    )
    data = found.to_frame().set_index("feature").loc[names]
    assert data["importance"].to_numpy() == pytest.approx(expected.importances_mean)


def test_calibration_curve_has_weighted_means_and_wider_intervals(weighted: pd.DataFrame) -> None:
    y, score, row_weights = weighted["late"], weighted["score"], weighted["w"]
    found = review.compute_calibration_curve(y, score, weights=row_weights).to_frame()
    counted = weighted[row_weights > 0]
    bins = pd.qcut(score, 10, labels=False)[counted.index]
    means = [
        np.average(part["late"], weights=part["w"]) for _, part in counted.groupby(bins.to_numpy())
    ]
    assert found["observed"].to_numpy() == pytest.approx(means, abs=1e-9)
    assert found["share"].sum() == pytest.approx(1)
    equal = review.compute_calibration_curve(y, score, weights=np.full(len(y), 3.0)).to_frame()
    plain = review.compute_calibration_curve(y, score).to_frame()
    assert equal.to_numpy() == pytest.approx(plain.to_numpy())
    assert (found["high"] - found["low"]).mean() > (plain["high"] - plain["low"]).mean()


def test_absolute_errors_are_weighted_quantiles() -> None:
    found = review.summarize_absolute_errors([0, 0, 0], [1, 2, 9], weights=[1, 8, 1]).to_frame()
    assert found["off by at most"].tolist() == [2.0, 2.0, 2.0, 9.0, 9.0]


def test_intervals_of_groups_resample_whole_groups(
    make_config: MakeConfig,
) -> None:
    grouped_config = make_config(time=None, validation={"group": "patient"})
    one_value = pd.DataFrame(
        {
            "id": range(400),
            "late": np.repeat(np.arange(40) % 2, 10).astype(float),
            "score": np.repeat(np.random.default_rng(0).random(40), 10),
            "patient": np.repeat(np.arange(40), 10),
        }
    )
    narrow = review.evaluate_performance(one_value, make_config(time=None), draws=200)
    wide = review.evaluate_performance(one_value, grouped_config, draws=200)
    assert "draws of rows" in narrow.notes[0]
    assert "200 draws of whole groups of 'patient'" in wide.notes[0]
    widths = [
        float((table.to_frame()["high"] - table.to_frame()["low"]).iloc[0])
        for table in (narrow, wide)
    ]
    assert widths[1] > 2 * widths[0]


def test_scheme_is_stated_below_the_performance(
    weighted: pd.DataFrame, make_config: MakeConfig
) -> None:
    config = make_config(validation={"group": "patient"}, label_delay="1d")
    notes = review.evaluate_performance(weighted, config, draws=100).notes
    assert "No group of 'patient' is in two parts of a split." in notes[1]
