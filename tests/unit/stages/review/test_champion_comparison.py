"""Champion vs challenger: differences by hand and by another bootstrap, and every outcome."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
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
    compare_with_champion,
    evaluate_performance,
    evaluate_slices,
    extract_champion_gain,
    gather_evidence,
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

MakeConfig = Callable[..., ProjectConfig]
MakeRows = Callable[..., pd.DataFrame]
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
COST_SETTINGS = {
    "cost": {"false_alarm": 10, "miss": 25, "unit": "$"},
    "row_name": "flight",
    "review": {"draws": 100, "slices": ["group"]},
}
NO_SLICES = Table("", "", pd.DataFrame())


def add_noise(rows: pd.DataFrame, size: float, seed: int = 1) -> np.ndarray:
    """The scores with noise on top: a poorer model."""
    return np.clip(
        rows["score"] + np.random.default_rng(seed).normal(0, size, len(rows)), 0.001, 0.999
    ).to_numpy()


def make_own_model(
    rows: pd.DataFrame, scores: Any = None, threshold: float | None = 0.3
) -> ScoredModel:
    return ScoredModel(
        "this version", rows["score"].to_numpy() if scores is None else scores, threshold
    )


def make_champion(scores: Any, threshold: float | None = 0.3) -> ScoredModel:
    return ScoredModel(
        "version 7", scores, threshold, note="Version 7 has seen none of these rows."
    )


@pytest.fixture
def compare_noisy_models(
    make_config: MakeConfig, make_rows: MakeRows
) -> Callable[..., pd.DataFrame]:
    """The table of a model against a noisier one, by metric."""

    def make(
        own: float = 0.0, theirs: float = 0.3, rows: int = 3000, **values: Any
    ) -> pd.DataFrame:
        frame, made = make_rows(rows=rows), make_config(**{**COST_SETTINGS, **values})
        scores = frame["score"].to_numpy() if own == 0 else add_noise(frame, own)
        table = compare_with_champion(
            frame,
            make_own_model(frame, scores),
            make_champion(add_noise(frame, theirs, 2)),
            evaluate_slices(frame, made, draws=100),
            made,
        )
        return table.to_frame().set_index("metric")

    return make


def test_same_model_is_no_worse(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame, made = make_rows(), make_config(**COST_SETTINGS)
    found = compare_with_champion(
        frame,
        make_own_model(frame),
        make_champion(frame["score"].to_numpy()),
        evaluate_slices(frame, made, draws=100),
        made,
    )
    data = found.to_frame()
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
    assert found.title == "Champion vs challenger"
    assert found.sentence == (
        "On the same 3,000 rows from 2013-06-01 to 2013-06-30, 95% intervals. "
        "No worse: Cost per flight, ROC-AUC, Log loss, Calibration error, Worst slice."
    )
    assert found.notes == (
        "Version 7 has seen none of these rows.",
        "Differences that still count as no worse: up to 0.005; "
        "up to 1% of version 7's value for Cost per flight, Log loss.",
    )


def test_every_difference_by_hand(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame, made = make_rows(), make_config(**COST_SETTINGS)
    y, own, theirs = (
        frame["late"],
        frame["score"].clip(0.001, 0.999).to_numpy(),
        add_noise(frame, 0.3),
    )
    data = (
        compare_with_champion(
            frame,
            make_own_model(frame, own),
            make_champion(theirs, 0.4),
            evaluate_slices(frame, made, draws=100),
            made,
        )
        .to_frame()
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


@pytest.mark.slow
def test_intervals_agree_with_another_bootstrap_of_days(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = (
        make_rows(),
        make_config(**{**COST_SETTINGS, "review": {"draws": 1000, "slices": ["group"]}}),
    )
    own, theirs = frame["score"].clip(0.001, 0.999).to_numpy(), add_noise(frame, 0.1)
    data = (
        compare_with_champion(
            frame, make_own_model(frame, own), make_champion(theirs), NO_SLICES, made
        )
        .to_frame()
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


@pytest.mark.slow
def test_every_outcome_is_reached(compare_noisy_models: Callable[..., pd.DataFrame]) -> None:
    assert compare_noisy_models(0.0, 0.3).loc["roc_auc", "verdict"] == "better"
    assert compare_noisy_models(0.3, 0.001).loc["roc_auc", "verdict"] == "worse"
    assert compare_noisy_models(0.01, 0.01).loc["roc_auc", "verdict"] == "no worse"
    assert compare_noisy_models(0.1, 0.1, 400).loc["roc_auc", "verdict"] == "cannot tell"


def test_difference_is_positive_where_the_challenger_is_better(
    compare_noisy_models: Callable[..., pd.DataFrame],
) -> None:
    better, worse = compare_noisy_models(0.0, 0.3), compare_noisy_models(0.3, 0.001)
    lines = ["cost", "roc_auc", "log_loss", "calibration_error"]
    assert (better.loc[lines, "difference"] > 0).all()
    assert (worse.loc[lines, "difference"] < 0).all()
    assert better.loc["cost", "text"].startswith("$")
    assert better.loc["cost", "text"].endswith(" less")
    assert worse.loc["cost", "text"].endswith(" more")
    assert worse.loc["roc_auc", "text"].startswith("−0.")
    assert better.loc["roc_auc", "text"].startswith("+0.")
    assert better.loc["log_loss", "text"].endswith(" less")


@pytest.mark.parametrize(
    ("ends", "outcome"),
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
def test_interval_decides_the_outcome(ends: tuple[Any, Any, Any], outcome: str) -> None:
    assert classify_difference(Interval(*ends), 0.01) == outcome


def test_rows_needed_by_hand() -> None:
    # The half width of 0.02 has to shrink to 0.01, the distance to minus the margin: four times
    # the rows.
    assert (
        describe_rows_needed(Interval(0.005, -0.015, 0.025), 0.005, 1000)
        == "about 4,000 rows would decide"
    )
    # It looks worse: the upper half of 0.04 has to shrink to 0.02, the distance to zero.
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
        == "evaluate on a longer period"
    )
    assert describe_rows_needed(Interval(0.01), 0.005, 1000).startswith("there is no interval")


def test_undecided_metrics_say_how_many_rows_would_decide(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = make_rows(rows=300), make_config(**COST_SETTINGS)
    found = compare_with_champion(
        frame,
        make_own_model(frame, add_noise(frame, 0.05)),
        make_champion(add_noise(frame, 0.05, 2)),
        NO_SLICES,
        made,
    )
    open_ = found.to_frame().query("verdict == 'cannot tell'")
    assert len(open_)
    assert len(found.notes) == 2 + len(open_)
    assert all(n.startswith(f"{t}: ") for n, t in zip(found.notes[2:], open_["title"], strict=True))
    assert any("rows would decide" in n for n in found.notes[2:])


@pytest.mark.parametrize(
    "other",
    [
        ScoredModel("", note="There was no champion to compare with."),
        ScoredModel(
            "version 2",
            note="Version 2 needs the column 'x', which these rows do not have.",
            version="2",
        ),
    ],
)
def test_table_without_comparable_champion_is_empty(
    make_config: MakeConfig, make_rows: MakeRows, other: ScoredModel
) -> None:
    frame, made = make_rows(rows=300), make_config(**COST_SETTINGS)
    found = compare_with_champion(frame, make_own_model(frame), other, NO_SLICES, made)
    assert found.to_frame().empty
    assert list(found.to_frame().columns) == list(COMPARISON_COLUMNS)
    assert found.sentence == other.note
    assert found.title == "Champion vs challenger"
    comparison = extract_champion_gain(found, other, made)
    assert comparison.gain is None
    assert comparison.note == other.note
    assert comparison.version == other.version
    assert (comparison == NO_CHAMPION) == (not other.name)


def test_regression_compares_no_cost_and_no_calibration(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = (
        make_rows("regression"),
        make_config("regression", review={"draws": 100, "slices": ["group"]}),
    )
    data = compare_with_champion(
        frame,
        make_own_model(frame, threshold=None),
        make_champion(frame["score"].to_numpy() + 1, None),
        evaluate_slices(frame, made, draws=100),
        made,
    ).to_frame()
    assert list(data["metric"]) == ["r2", "rmse", "worst_slice"]
    assert set(data["verdict"]) == {"better"}


def test_headline_metric_appears_once_with_its_own_margin(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = (
        make_rows(rows=300),
        make_config(review={"draws": 100, "metric": "log_loss", "margin": 0.02}),
    )
    found = compare_with_champion(
        frame, make_own_model(frame), make_champion(add_noise(frame, 0.1)), NO_SLICES, made
    )
    assert list(found.to_frame()["metric"]) == ["log_loss", "calibration_error"]
    assert set(found.to_frame()["margin"]) == {0.02}
    assert found.notes[1] == "Differences that still count as no worse: up to 0.020."


def test_unlabeled_rows_and_small_slices_are_left_out(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame = make_rows(rows=1200)
    frame.loc[:99, "late"] = np.nan
    made = make_config(
        **{**COST_SETTINGS, "review": {"draws": 100, "slices": ["group"], "min_slice_rows": 500}}
    )
    data = compare_with_champion(
        frame,
        make_own_model(frame),
        make_champion(add_noise(frame, 0.1)),
        evaluate_slices(frame, made, draws=100),
        made,
    ).to_frame()
    assert data["rows"].tolist()[:4] == [1100] * 4
    assert data["title"].iloc[-1] == "Worst slice: group = a"  # b is weaker, on fewer rows


def test_rows_of_one_class_measure_nothing(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame = make_rows(rows=100).assign(late=0.0)
    found = compare_with_champion(
        frame,
        make_own_model(frame),
        make_champion(add_noise(frame, 0.1)),
        NO_SLICES,
        make_config(review={"draws": 100}),
    )
    assert found.sentence.endswith("nothing could be measured.")
    assert set(found.to_frame()["text"]) == {"unknown"}


@pytest.mark.slow
def test_check_agrees_with_the_table(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame, made = make_rows(), make_config(**COST_SETTINGS)
    outcomes = {
        "better": "passed",
        "no worse": "passed",
        "worse": "failed",
        "cannot tell": "cannot tell",
    }
    for own, theirs in ((0.0, 0.3), (0.3, 0.001), (0.01, 0.01)):
        other = make_champion(add_noise(frame, theirs, 2))
        table = compare_with_champion(
            frame, make_own_model(frame, add_noise(frame, own)), other, NO_SLICES, made
        )
        told = gather_evidence(
            frame,
            evaluate_performance(frame, made, 100),
            made,
            None,
            extract_champion_gain(table, other, made),
        )
        verdict = next(iter(run_checks(told, CHAMPION_CHECKS)))
        assert (
            verdict.outcome
            == outcomes[table.to_frame().set_index("metric").loc["roc_auc", "verdict"]]
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
def test_reduction_is_less_or_more(value: float | None, text: str) -> None:
    assert describe_reduction(value, lambda amount: f"${amount:.2f}") == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("roc_auc", 0.015, "+0.015"),
        ("roc_auc", -0.006, "−0.006"),
        ("log_loss", 0.013, "0.013 less"),
        ("r2", 0.0, "the same"),
        ("r2", None, "unknown"),
    ],
)
def test_metric_change_in_words(name: str, value: float | None, text: str) -> None:
    assert describe_metric_change(name, Interval(value)) == text


class HalfModel:
    """A model that says half of its column."""

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.column_stack([1 - frame["x"] / 2, frame["x"] / 2])


def test_models_score_from_their_own_columns(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame = make_rows(rows=60)
    other = score_champion(
        CHAMPION,
        (HalfModel(), ["x"], "Version 7 has seen none of these rows."),
        frame,
        make_config(),
    )
    assert (other.name, other.threshold, other.feature_names, str(other)) == (
        "version 7",
        0.25,
        ("x",),
        "Version 7 has seen none of these rows.",
    )
    assert other.scores == pytest.approx(frame["x"] / 2)
    assert (
        score_champion(
            None, (None, [], "There was no champion to compare with."), frame, make_config()
        ).name
        == ""
    )
    assert (
        score_champion(
            CHAMPION,
            (None, ["y"], "Version 7 needs the column 'y'."),
            frame,
            make_config(),
        ).scores
        is None
    )
    own = make_challenger(frame, {"threshold": 0.3, "features": ["x"]}, HalfModel())
    assert (own.name, own.threshold, own.feature_names) == (
        "this version",
        0.3,
        ("x",),
    )
    assert own.scores is not None


class FixedScores:
    """A model that gives known scores."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        return np.column_stack([1 - self.scores, self.scores])


def test_champion_with_the_other_positive_class_is_converted(
    make_rows: MakeRows, make_config: MakeConfig
) -> None:
    rows = make_rows()
    config = make_config(positive="bad")
    champion = replace(CHAMPION, classes=("bad", "good"))
    model = FixedScores(rows["score"].to_numpy())
    scored = score_champion(champion, (model, ["x"], "Version 7 is new here."), rows, config)
    assert scored.scores is not None
    assert scored.scores == pytest.approx(1 - rows["score"])
    is_flagged = scored.scores >= scored.threshold
    assert is_flagged.tolist() == (~(rows["score"] >= 0.25)).tolist()
    assert "converted to those of bad" in scored.note
    same = replace(CHAMPION, classes=("good", "bad"))
    kept = score_champion(same, (model, ["x"], ""), rows, config)
    assert kept.scores == pytest.approx(rows["score"])
    assert kept.threshold == 0.25


def test_required_gain_is_measured_on_rows_newer_than_the_training_rows_of_the_champion(
    make_rows: MakeRows, make_config: MakeConfig
) -> None:
    rows = make_rows()
    cutoff = rows["moment"].sort_values().iloc[len(rows) // 2]
    is_newer = (rows["moment"] >= cutoff).to_numpy()
    champion = replace(CHAMPION, as_of=str(cutoff))
    config = make_config(review={"require_gain": True, "draws": 100})
    model = FixedScores(add_noise(rows, 0.2))
    scored = score_champion(champion, (model, ["x"], "Newer rows only."), rows, config)
    assert scored.scores is not None
    assert np.isfinite(scored.scores).tolist() == is_newer.tolist()
    table = compare_with_champion(rows, make_own_model(rows), scored, NO_SLICES, config)
    assert set(table.data["rows"]) == {int(is_newer.sum())}
    plain = score_champion(champion, (model, ["x"], ""), rows, make_config())
    assert np.isfinite(plain.scores).all()
