"""The numbers that a decision hangs on: by hand, in their order, beside the champion's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlops_kit.core.results import Verdict
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review import (
    ScoredModel,
    compute_decision_cost,
    evaluate_performance,
    summarize_key_numbers,
    summarize_review,
)
from mlops_kit.stages.review.decision_costs import compute_flagged_precision
from mlops_kit.stages.review.summary import measure_response_times

MakeConfig = Callable[..., ProjectConfig]
MakeRows = Callable[..., pd.DataFrame]
COST_SETTINGS = {
    "cost": {"false_alarm": 10, "miss": 25, "unit": "$"},
    "row_name": "flight",
    "review": {"draws": 100},
}
NO_CHAMPION_MODEL = ScoredModel("", note="There was no champion to compare with.")


class Echo:
    """A model that says what stands in its column."""

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return frame["x"].to_numpy()

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.column_stack([1 - frame["x"], frame["x"]])


def own(frame: pd.DataFrame, threshold: float | None = 0.3) -> ScoredModel:
    return ScoredModel("this version", frame["score"].to_numpy(), threshold, Echo(), ("x",))


def test_cost_and_precision_by_hand(make_config: MakeConfig) -> None:
    made = make_config(**COST_SETTINGS, time=None)
    scores = pd.DataFrame({"late": [0, 0, 1, 1, np.nan], "score": [0.1, 0.4, 0.3, 0.9, 0.5]})
    cost, saved = compute_decision_cost(scores, 0.25, made)
    assert cost.value == 2.5
    assert saved.value == 2.5
    assert compute_flagged_precision(scores, 0.25, made).value == pytest.approx(2 / 3)
    assert math.isnan(compute_flagged_precision(scores, 0.95, made).value or math.nan)


def test_key_numbers_begin_with_the_cost(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame, made = make_rows(), make_config(**COST_SETTINGS)
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame), NO_CHAMPION_MODEL, made
    )
    assert [n.title for n in found.items] == [
        "Cost per flight",
        "Late among flagged",
        "ROC-AUC",
        "Response time",
    ]
    keys = [n.key for n in found.items]
    assert keys == ["cost", "precision_of_flagged", "roc_auc", "response_time"]
    cost, saved = compute_decision_cost(frame, 0.3, made)
    assert (
        found.sentence == f"Errors cost ${cost.value:.2f} per flight with this model, "
        f"${saved.value:.2f} less than without one."
    )
    assert found.items[0].value == f"${cost.value:.2f}"
    assert "without a model: $" in found.items[0].details[1]
    assert found.items[1].details[1] == "flagged from a score of 0.300"


def test_key_numbers_without_cost_begin_with_the_headline_metric(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = make_rows(), make_config(review={"draws": 100})
    table = evaluate_performance(frame, made, 100)
    found = summarize_key_numbers(frame, table, own(frame), NO_CHAMPION_MODEL, made)
    assert [n.title for n in found.items] == [
        "ROC-AUC",
        "Late among flagged",
        "Average precision",
        "Response time",
    ]
    assert found.sentence == table.sentence


def test_cost_without_a_unit(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame, made = make_rows(), make_config(cost={"miss": 3}, review={"draws": 100})
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame), NO_CHAMPION_MODEL, made
    )
    assert found.items[0].title == "Cost per row"
    assert re.fullmatch(r"0\.\d{3}", found.items[0].value)


def test_each_key_number_ends_with_the_champions_value(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = make_rows(), make_config(**COST_SETTINGS)
    theirs = np.random.default_rng(1).permutation(frame["score"].to_numpy())
    other = ScoredModel("version 7", theirs, 0.4, Echo(), ("x",))
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame), other, made
    )
    y, flagged = frame["late"], theirs >= 0.4
    cost = np.where(flagged, 10 * (1 - y), 25 * y).mean()
    assert found.items[0].details[-1] == f"version 7: ${cost:.2f}"
    assert found.items[1].details[-1] == f"version 7: {100 * y[flagged].mean():.0f}%"
    assert found.items[2].details[-1] == f"version 7: {roc_auc_score(y, theirs):.3f}"
    assert re.fullmatch(r"version 7: [\d.]+ ms", found.items[3].details[-1])
    assert (
        "version 7" not in found.sentence
    )  # whether the difference is sure is for the comparison to say


def test_flagging_every_row_costs_as_much_as_no_model(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = (
        make_rows(rows=300),
        make_config(**{**COST_SETTINGS, "cost": {"false_alarm": 1, "miss": 25}}),
    )
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame, 0.0), NO_CHAMPION_MODEL, made
    )
    assert found.sentence.endswith("with this model, as much as without one.")


def test_incomparable_champion_has_no_value(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame, made = make_rows(rows=300), make_config(**COST_SETTINGS)
    found = summarize_key_numbers(
        frame,
        evaluate_performance(frame, made, 100),
        own(frame),
        ScoredModel("version 7", note="Version 7 has learnt from some."),
        made,
    )
    assert not any("version 7" in line for n in found.items for line in n.details)
    assert "version 7" not in found.sentence


def test_regression_has_no_cost_and_no_precision(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = make_rows("regression"), make_config("regression", review={"draws": 100})
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame, None), NO_CHAMPION_MODEL, made
    )
    assert [n.title for n in found.items] == ["R²", "RMSE", "MAE", "Response time"]


def test_response_time_is_that_of_one_row(make_config: MakeConfig, make_rows: MakeRows) -> None:
    seen = []

    class Counting(Echo):
        def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
            seen.append(len(frame))
            return super().predict_proba(frame)

    usual, slow = measure_response_times(
        ScoredModel("this version", None, 0.3, Counting(), ("x",)),
        make_rows(rows=300),
        make_config(),
        calls=20,
    )
    assert 0 < usual <= slow
    assert seen == [1] * 21
    assert all(
        math.isnan(t)
        for t in measure_response_times(
            own(make_rows(rows=300)), make_rows(rows=300).head(0), make_config()
        )
    )


def test_summary_names_champion_comparison_and_what_blocks(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = make_rows(rows=300), make_config(review={"draws": 100})
    table = evaluate_performance(frame, made, 100)
    told = summarize_key_numbers(frame, table, own(frame), NO_CHAMPION_MODEL, made)
    champion = Verdict(
        "no_worse_than_champion", "t", "passed", "blocks", "No worse than the champion."
    )
    assert (
        summarize_review(told, table, [champion])
        == f"{table.sentence} No worse than the champion. No check blocks it."
    )
    broken = Verdict("least", "t", "failed", "blocks", "It misses its limit.")
    assert summarize_review(told, table, [champion, broken]).endswith(
        "Blocked by: It misses its limit."
    )
    uncertain = Verdict("better", "t", "cannot tell", "blocks", "It may be no better.")
    unusual = Verdict("calibration", "t", "failed", "warns", "It is not calibrated.")
    assert summarize_review(told, table, [champion, unusual, uncertain]).endswith(
        "No check blocks it, with reservations: It may be no better."
    )
    # A reservation that is stated already does not hide the others.
    undecided = Verdict("no_worse_than_champion", "t", "cannot tell", "blocks", "Not comparable.")
    assert summarize_review(told, table, [undecided, unusual]).endswith(
        "Not comparable. No check blocks it, with reservations: It is not calibrated."
    )
