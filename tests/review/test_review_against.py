"""This model against the champion: differences by hand and by a bootstrap of our own, and each verdict reached."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from mlops_kit.core.results import Interval, Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry import versions
from mlops_kit.stages.review import (
    CHAMPION_CHECKS,
    ScoredModel,
    champion_comparison,
    evaluate_performance,
    evaluate_slices,
    evidence,
    extract_champion_gain,
    make_challenger,
    run_checks,
    score_champion,
)
from mlops_kit.stages.review.champion_comparison import (
    COMPARISON_COLUMNS,
    classify_difference,
    describe_metric_change,
    describe_reduction,
    describe_rows_needed,
)
from mlops_kit.stages.review.evidence import NO_CHAMPION

Make = Callable[..., ProjectConfig]
CHAMPION = versions.ModelVersion(
    version="7",
    model_hash="m7",
    evidence_hash="e7",
    review="passed",
    sample_rows=0,
    author="ann",
    uri="models:/m-7",
    sha256="s7",
    features=("x",),
    threshold=0.25,
    evaluation=versions.EvaluationModel("models:/m-6", "m6", "s6", "", ""),
    as_of="None",
)
Judged = Callable[..., pd.DataFrame]
PRICED = {
    "cost": {"false_alarm": 10, "miss": 25, "unit": "$"},
    "row": "flight",
    "review": {"draws": 100, "slices": ["group"]},
}
NO_SLICES = Table("", "", pd.DataFrame())


def noisy(rows: pd.DataFrame, size: float, seed: int = 1) -> np.ndarray:
    """The scores with noise on top: a poorer model."""
    return np.clip(
        rows["score"] + np.random.default_rng(seed).normal(0, size, len(rows)), 0.001, 0.999
    ).to_numpy()


def mine(rows: pd.DataFrame, scores: Any = None, threshold: float | None = 0.3) -> ScoredModel:
    return ScoredModel(
        "this version", rows["score"].to_numpy() if scores is None else scores, threshold
    )


def champion(scores: Any, threshold: float | None = 0.3) -> ScoredModel:
    return ScoredModel(
        "version 7", scores, threshold, note="Version 7 has seen none of these rows."
    )


@pytest.fixture
def lined(config: Make, judged: Judged) -> Callable[..., pd.DataFrame]:
    """The table of a model against a noisier one, by metric."""

    def make(
        own: float = 0.0, theirs: float = 0.3, rows: int = 3000, **values: Any
    ) -> pd.DataFrame:
        frame, made = judged(rows=rows), config(**{**PRICED, **values})
        scores = frame["score"].to_numpy() if own == 0 else noisy(frame, own)
        table = champion_comparison(
            frame,
            mine(frame, scores),
            champion(noisy(frame, theirs, 2)),
            evaluate_slices(frame, made, draws=100),
            made,
        )
        return table.frame().set_index("metric")

    return make


def test_the_same_model_twice_is_no_worse(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(**PRICED)
    found = champion_comparison(
        frame,
        mine(frame),
        champion(frame["score"].to_numpy()),
        evaluate_slices(frame, made, draws=100),
        made,
    )
    data = found.frame()
    assert list(data.columns) == list(COMPARISON_COLUMNS)
    assert list(data["metric"]) == [
        "cost",
        "roc_auc",
        "log_loss",
        "calibration_error",
        "worst_slice",
    ]
    assert (data[["difference", "low", "high"]] == 0).all(axis=None)
    assert set(data["verdict"]) == {"no worse"}
    assert set(data["text"]) == {"the same"}
    assert found.title == "Better than version 7?"
    assert (
        found.sentence
        == "On the same 3,000 rows of 2013-06-01 to 2013-06-30, 95 % intervals. No worse: Cost a flight, ROC-AUC, Log loss, Calibration error, Worst slice."
    )
    assert found.notes == (
        "Version 7 has seen none of these rows.",
        "How much worse still counts as no worse: 0.005; 1 % of version 7's for Cost a flight, Log loss.",
    )


def test_each_difference_by_hand(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(**PRICED)
    y, own, theirs = frame["late"], frame["score"].clip(0.001, 0.999).to_numpy(), noisy(frame, 0.3)
    data = (
        champion_comparison(
            frame,
            mine(frame, own),
            champion(theirs, 0.4),
            evaluate_slices(frame, made, draws=100),
            made,
        )
        .frame()
        .set_index("metric")
    )

    def cost(score: np.ndarray, threshold: float) -> float:
        return float(np.where(score >= threshold, 10 * (1 - y), 25 * y).mean())

    inside = frame["group"] == "b"
    expected = {
        "cost": cost(theirs, 0.4) - cost(own, 0.3),
        "roc_auc": sk.roc_auc_score(y, own) - sk.roc_auc_score(y, theirs),
        "log_loss": sk.log_loss(y, theirs) - sk.log_loss(y, own),
        "worst_slice": sk.roc_auc_score(y[inside], own[inside])
        - sk.roc_auc_score(y[inside], theirs[inside]),
    }
    for name, difference in expected.items():
        assert data.loc[name, "difference"] == pytest.approx(difference), name
    assert data.loc["worst_slice", "title"] == "Worst slice: group = b"
    assert data.loc["worst_slice", "rows"] == inside.sum()
    assert data.loc["cost", "margin"] == pytest.approx(0.01 * cost(theirs, 0.4))
    assert data.loc["log_loss", "margin"] == pytest.approx(0.01 * sk.log_loss(y, theirs))
    assert set(data.loc[["roc_auc", "calibration_error", "worst_slice"], "margin"]) == {0.005}


def test_the_intervals_are_those_of_days_drawn_by_hand(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(**{**PRICED, "review": {"draws": 1000, "slices": ["group"]}})
    own, theirs = frame["score"].clip(0.001, 0.999).to_numpy(), noisy(frame, 0.1)
    data = (
        champion_comparison(frame, mine(frame, own), champion(theirs), NO_SLICES, made)
        .frame()
        .set_index("metric")
    )
    loss = [
        -(frame["late"] * np.log(s) + (1 - frame["late"]) * np.log(1 - s)) for s in (own, theirs)
    ]
    cost = [np.where(s >= 0.3, 10 * (1 - frame["late"]), 25 * frame["late"]) for s in (own, theirs)]
    rng, day = np.random.default_rng(9), np.arange(len(frame)) % 30
    for name, gain in {"log_loss": loss[1] - loss[0], "cost": cost[1] - cost[0]}.items():
        by_day = np.array([np.asarray(gain)[day == d].sum() for d in range(30)])
        drawn = [by_day[rng.integers(0, 30, 30)].sum() / len(frame) for _ in range(4000)]
        low, high = np.quantile(drawn, [0.025, 0.975])
        assert (data.loc[name, "low"], data.loc[name, "high"]) == pytest.approx(
            (low, high), abs=0.1 * (high - low)
        ), name


def test_each_verdict_is_reached(lined: Callable[..., pd.DataFrame]) -> None:
    assert lined(0.0, 0.3).loc["roc_auc", "verdict"] == "better"
    assert lined(0.3, 0.001).loc["roc_auc", "verdict"] == "worse"
    assert lined(0.01, 0.01).loc["roc_auc", "verdict"] == "no worse"
    assert lined(0.1, 0.1, 400).loc["roc_auc", "verdict"] == "cannot tell"


def test_a_difference_is_positive_where_this_model_is_better(
    lined: Callable[..., pd.DataFrame],
) -> None:
    better, worse = lined(0.0, 0.3), lined(0.3, 0.001)
    lines = ["cost", "roc_auc", "log_loss", "calibration_error"]
    assert (better.loc[lines, "difference"] > 0).all()
    assert (worse.loc[lines, "difference"] < 0).all()
    assert better.loc["cost", "text"].startswith("$ ")
    assert better.loc["cost", "text"].endswith(" less")
    assert worse.loc["cost", "text"].endswith(" more")
    assert worse.loc["roc_auc", "text"].startswith("− 0.")
    assert better.loc["roc_auc", "text"].startswith("+ 0.")
    assert better.loc["log_loss", "text"].endswith(" less")


@pytest.mark.parametrize(
    ("ends", "word"),
    [
        ((0.02, 0.01, 0.03), "better"),
        ((0.0, 0.0, 0.0), "no worse"),
        ((0.0, -0.01, 0.01), "no worse"),
        ((0.0, -0.011, 0.01), "cannot tell"),
        ((0.01, -0.02, 0.04), "cannot tell"),
        ((-0.03, -0.04, -0.02), "worse"),
        ((-0.015, -0.025, -0.005), "worse"),
        ((-0.009, -0.02, -0.001), "cannot tell"),
        ((0.01, None, None), "cannot tell"),
        ((None, None, None), "cannot tell"),
    ],
)
def test_a_verdict_is_read_off_the_interval(ends: tuple[Any, Any, Any], word: str) -> None:
    assert classify_difference(Interval(*ends), 0.01) == word


def test_rows_that_would_decide_by_hand() -> None:
    # half an interval of 0.02 has to shrink to 0.01, the room above minus the margin: four times the rows
    assert (
        describe_rows_needed(Interval(0.005, -0.015, 0.025), 0.005, 1000)
        == "about 4,000 rows would decide"
    )
    # it looks worse: the half above, 0.04, has to shrink to 0.02, the room below nothing
    assert (
        describe_rows_needed(Interval(-0.02, -0.05, 0.02), 0.005, 1000)
        == "about 4,000 rows would decide"
    )
    assert (
        describe_rows_needed(Interval(0.005, -0.015, 0.025), 0.005, 1234)
        == "about 4,900 rows would decide"
    )
    assert (
        describe_rows_needed(Interval(-0.005, -0.015, 0.005), 0.005, 1000)
        == "judge on a longer period"
    )
    assert describe_rows_needed(Interval(0.01), 0.005, 1000).startswith("there is no interval")


def test_what_cannot_be_told_says_how_many_rows_would_decide(config: Make, judged: Judged) -> None:
    frame, made = judged(rows=300), config(**PRICED)
    found = champion_comparison(
        frame, mine(frame, noisy(frame, 0.05)), champion(noisy(frame, 0.05, 2)), NO_SLICES, made
    )
    open_ = found.frame().query("verdict == 'cannot tell'")
    assert len(open_)
    assert len(found.notes) == 2 + len(open_)
    assert all(n.startswith(f"{t}: ") for n, t in zip(found.notes[2:], open_["title"], strict=True))
    assert any("rows would decide" in n for n in found.notes[2:])


@pytest.mark.parametrize(
    "other",
    [
        ScoredModel("", note="There is no champion yet."),
        ScoredModel(
            "version 2", note="Version 2 needs the column 'x', which these rows do not have."
        ),
    ],
)
def test_without_an_opponent_the_table_is_empty_and_says_why(
    config: Make, judged: Judged, other: ScoredModel
) -> None:
    frame, made = judged(rows=300), config(**PRICED)
    found = champion_comparison(frame, mine(frame), other, NO_SLICES, made)
    assert found.frame().empty
    assert list(found.frame().columns) == list(COMPARISON_COLUMNS)
    assert found.sentence == other.note
    assert found.title == f"Better than {other.name or 'the champion'}?"
    told = extract_champion_gain(found, other, made)
    assert told.gain is None
    assert told.note == other.note
    assert (told == NO_CHAMPION) == (not other.name)


def test_a_regression_has_no_cost_and_no_calibration(config: Make, judged: Judged) -> None:
    frame, made = (
        judged("regression"),
        config("regression", review={"draws": 100, "slices": ["group"]}),
    )
    data = champion_comparison(
        frame,
        mine(frame, threshold=None),
        champion(frame["score"].to_numpy() + 1, None),
        evaluate_slices(frame, made, draws=100),
        made,
    ).frame()
    assert list(data["metric"]) == ["r2", "rmse", "worst_slice"]
    assert set(data["verdict"]) == {"better"}


def test_a_headline_stands_once_and_keeps_its_margin(config: Make, judged: Judged) -> None:
    frame, made = (
        judged(rows=300),
        config(review={"draws": 100, "metric": "log_loss", "margin": 0.02}),
    )
    found = champion_comparison(frame, mine(frame), champion(noisy(frame, 0.1)), NO_SLICES, made)
    assert list(found.frame()["metric"]) == ["log_loss", "calibration_error"]
    assert set(found.frame()["margin"]) == {0.02}
    assert found.notes[1] == "How much worse still counts as no worse: 0.020."


def test_unlabelled_rows_and_small_slices_are_left_out(config: Make, judged: Judged) -> None:
    frame = judged(rows=1200)
    frame.loc[:99, "late"] = np.nan
    made = config(
        **{**PRICED, "review": {"draws": 100, "slices": ["group"], "min_slice_rows": 500}}
    )
    data = champion_comparison(
        frame,
        mine(frame),
        champion(noisy(frame, 0.1)),
        evaluate_slices(frame, made, draws=100),
        made,
    ).frame()
    assert data["rows"].tolist()[:4] == [1100] * 4
    assert data["title"].iloc[-1] == "Worst slice: group = a"  # b is weaker, on fewer rows


def test_rows_of_one_class_measure_nothing(config: Make, judged: Judged) -> None:
    frame = judged(rows=100).assign(late=0.0)
    found = champion_comparison(
        frame, mine(frame), champion(noisy(frame, 0.1)), NO_SLICES, config(review={"draws": 100})
    )
    assert found.sentence.endswith("nothing could be measured.")
    assert set(found.frame()["text"]) == {"unknown"}


def test_the_check_says_what_the_table_says(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(**PRICED)
    outcomes = {
        "better": "passed",
        "no worse": "passed",
        "worse": "failed",
        "cannot tell": "cannot tell",
    }
    for own, theirs in ((0.0, 0.3), (0.3, 0.001), (0.01, 0.01)):
        other = champion(noisy(frame, theirs, 2))
        table = champion_comparison(frame, mine(frame, noisy(frame, own)), other, NO_SLICES, made)
        told = evidence(
            frame,
            evaluate_performance(frame, made, 100),
            made,
            None,
            extract_champion_gain(table, other, made),
        )
        verdict = next(iter(run_checks(told, CHAMPION_CHECKS)))
        assert (
            verdict.outcome == outcomes[table.frame().set_index("metric").loc["roc_auc", "verdict"]]
        )
        assert "Version 7 has seen none" in verdict.sentence


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.19, "$0.19 less"),
        (-0.05, "$0.05 more"),
        (0.0, "the same"),
        (None, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_a_cost_is_less_or_more(value: float | None, text: str) -> None:
    assert describe_reduction(value, lambda v: f"$ {v:.2f}") == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("roc_auc", 0.015, "+ 0.015"),
        ("roc_auc", -0.006, "− 0.006"),
        ("log_loss", 0.013, "0.013 less"),
        ("r2", 0.0, "the same"),
        ("r2", None, "unknown"),
    ],
)
def test_a_metric_goes_up_or_there_is_less_of_it(name: str, value: float | None, text: str) -> None:
    assert describe_metric_change(name, Interval(value)) == text


class Halver:
    """A model that says half of its column."""

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.column_stack([1 - frame["x"] / 2, frame["x"] / 2])


def test_contenders_answer_from_their_own_columns(config: Make, judged: Judged) -> None:
    frame = judged(rows=60)
    other = score_champion(
        CHAMPION,
        (Halver(), ["x"], "Version 7 has seen none of these rows."),
        frame,
        config(),
    )
    assert (other.name, other.threshold, other.feature_names, str(other)) == (
        "version 7",
        0.25,
        ("x",),
        "Version 7 has seen none of these rows.",
    )
    assert other.scores == pytest.approx(frame["x"] / 2)
    assert score_champion(None, (None, [], "There is no champion yet."), frame, config()).name == ""
    assert (
        score_champion(
            CHAMPION,
            (None, ["y"], "Version 7 needs the column 'y'."),
            frame,
            config(),
        ).scores
        is None
    )
    own = make_challenger(frame, {"threshold": 0.3, "features": ["x"]}, Halver())
    assert (own.name, own.threshold, own.feature_names) == (
        "this version",
        0.3,
        ("x",),
    )
    assert own.scores is not None
