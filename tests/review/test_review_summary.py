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

Make = Callable[..., ProjectConfig]
Judged = Callable[..., pd.DataFrame]
PRICED = {
    "cost": {"false_alarm": 10, "miss": 25, "unit": "$"},
    "row": "flight",
    "review": {"draws": 100},
}
NOBODY = ScoredModel("", note="There is no champion yet.")


class Echo:
    """A model that says what stands in its column."""

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        return frame["x"].to_numpy()

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.column_stack([1 - frame["x"], frame["x"]])


def own(frame: pd.DataFrame, threshold: float | None = 0.3) -> ScoredModel:
    return ScoredModel("this version", frame["score"].to_numpy(), threshold, Echo(), ("x",))


def test_cost_and_precision_by_hand(config: Make) -> None:
    made = config(**PRICED, time=None)
    scores = pd.DataFrame({"late": [0, 0, 1, 1, np.nan], "score": [0.1, 0.4, 0.3, 0.9, 0.5]})
    cost, saved = compute_decision_cost(scores, 0.25, made)
    assert cost.value == 2.5
    assert saved.value == 2.5
    assert compute_flagged_precision(scores, 0.25, made).value == pytest.approx(2 / 3)
    assert math.isnan(compute_flagged_precision(scores, 0.95, made).value or math.nan)


def test_the_numbers_that_matter_begin_with_the_cost(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(**PRICED)
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame), NOBODY, made
    )
    assert [n.title for n in found.items] == [
        "Cost a flight",
        "Late among flagged",
        "ROC-AUC",
        "One answer takes",
    ]
    cost, saved = compute_decision_cost(frame, 0.3, made)
    assert (
        found.sentence
        == f"A flight costs $ {cost.value:.2f} with this model, $ {saved.value:.2f} less than without one."
    )
    assert found.items[0].value == f"$ {cost.value:.2f}"
    assert "without a model: $" in found.items[0].details[1]
    assert found.items[1].details[1] == "flagged from a score of 0.300"


def test_without_a_cost_they_begin_with_the_headline(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(review={"draws": 100})
    table = evaluate_performance(frame, made, 100)
    found = summarize_key_numbers(frame, table, own(frame), NOBODY, made)
    assert [n.title for n in found.items] == [
        "ROC-AUC",
        "Late among flagged",
        "Average precision",
        "One answer takes",
    ]
    assert found.sentence == table.sentence


def test_a_cost_without_a_unit_is_a_cost(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(cost={"miss": 3}, review={"draws": 100})
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame), NOBODY, made
    )
    assert found.items[0].title == "Cost a row"
    assert re.fullmatch(r"0\.\d{3}", found.items[0].value)


def test_each_number_ends_with_the_champions_on_the_same_rows(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(**PRICED)
    theirs = np.random.default_rng(1).permutation(frame["score"].to_numpy())
    other = ScoredModel("version 7", theirs, 0.4, Echo(), ("x",))
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame), other, made
    )
    y, flagged = frame["late"], theirs >= 0.4
    cost = np.where(flagged, 10 * (1 - y), 25 * y).mean()
    assert found.items[0].details[-1] == f"version 7: $ {cost:.2f}"
    assert found.items[1].details[-1] == f"version 7: {100 * y[flagged].mean():.0f}%"
    assert found.items[2].details[-1] == f"version 7: {roc_auc_score(y, theirs):.3f}"
    assert re.fullmatch(r"version 7: [\d.]+ ms", found.items[3].details[-1])
    assert (
        "version 7" not in found.sentence
    )  # whether the difference is sure is for the comparison to say


def test_a_model_that_flags_every_row_costs_as_much_as_none(config: Make, judged: Judged) -> None:
    frame, made = judged(rows=300), config(**{**PRICED, "cost": {"false_alarm": 1, "miss": 25}})
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame, 0.0), NOBODY, made
    )
    assert found.sentence.endswith("with this model, as much as without one.")


def test_a_champion_that_cannot_be_compared_has_no_number(config: Make, judged: Judged) -> None:
    frame, made = judged(rows=300), config(**PRICED)
    found = summarize_key_numbers(
        frame,
        evaluate_performance(frame, made, 100),
        own(frame),
        ScoredModel("version 7", note="Version 7 has learnt from some."),
        made,
    )
    assert not any("version 7" in line for n in found.items for line in n.details)
    assert "version 7" not in found.sentence


def test_a_regression_has_no_cost_and_no_threshold(config: Make, judged: Judged) -> None:
    frame, made = judged("regression"), config("regression", review={"draws": 100})
    found = summarize_key_numbers(
        frame, evaluate_performance(frame, made, 100), own(frame, None), NOBODY, made
    )
    assert [n.title for n in found.items] == ["R²", "RMSE", "MAE", "One answer takes"]


def test_an_answers_time_is_that_of_one_row(config: Make, judged: Judged) -> None:
    seen = []

    class Counting(Echo):
        def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
            seen.append(len(frame))
            return super().predict_proba(frame)

    usual, slow = measure_response_times(
        ScoredModel("this version", None, 0.3, Counting(), ("x",)),
        judged(rows=300),
        config(),
        calls=20,
    )
    assert 0 < usual <= slow
    assert seen == [1] * 21
    assert all(
        math.isnan(t)
        for t in measure_response_times(own(judged(rows=300)), judged(rows=300).head(0), config())
    )


def test_the_conclusion_says_what_blocks_and_how_the_champion_stands(
    config: Make, judged: Judged
) -> None:
    frame, made = judged(rows=300), config(review={"draws": 100})
    table = evaluate_performance(frame, made, 100)
    told = summarize_key_numbers(frame, table, own(frame), NOBODY, made)
    champion = Verdict(
        "no_worse_than_champion", "t", "passed", "blocks", "No worse than the champion."
    )
    assert (
        summarize_review(told, table, [champion])
        == f"{table.sentence} No worse than the champion. Nothing blocks it."
    )
    broken = Verdict("least", "t", "failed", "blocks", "It misses its limit.")
    assert summarize_review(told, table, [champion, broken]).endswith(
        "What blocks it: It misses its limit."
    )
