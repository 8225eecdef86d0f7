"""Folds partition time and keep the future out; fits and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.validation import validate_config
from mlops_kit.stages.train import fitting, folds


def config(**more: Any) -> ProjectConfig:
    return validate_config(
        {"name": "p", "source": "x.csv", "target": "y", "task": "binary", **more}, "test"
    )


def hourly(rows: int = 100) -> pd.DataFrame:
    start = pd.Timestamp("2013-01-01", tz="UTC")
    return pd.DataFrame(
        {
            "row_id": range(rows),
            "m": start + pd.to_timedelta(range(rows), "h"),
            "y": np.arange(rows) % 2 * 1.0,
            "part": "train",
            "x": np.arange(rows) * 1.0,
        }
    )


def test_folds_in_time_expand_and_leave_the_delay_out() -> None:
    made = folds.build_folds(hourly(), config(time="m", label_delay="5h", split={"folds": 4}))
    # Five blocks of 20 hours; a label five hours late is known at the cut for hours up to cut - 5.
    assert [(len(a), a.max(), b.min(), b.max()) for a, b in made] == [
        (16, 15, 20, 39),
        (36, 35, 40, 59),
        (56, 55, 60, 79),
        (76, 75, 80, 99),
    ]


def test_without_a_delay_the_moment_of_the_cut_is_validation_only() -> None:
    frame = hourly().assign(m=lambda f: f["m"].dt.floor("3h"))
    for before, after in folds.build_folds(frame, config(time="m", split={"folds": 3})):
        assert frame["m"].iloc[before].max() < frame["m"].iloc[after].min()


def test_folds_do_not_hang_on_the_order_of_the_rows() -> None:
    given = config(time="m", label_delay="5h")
    mixed = hourly().sample(frac=1, random_state=1)
    for (a, b), (c, d) in zip(
        folds.build_folds(hourly(), given), folds.build_folds(mixed, given), strict=True
    ):
        assert set(mixed["row_id"].iloc[c]) == set(a)
        assert set(mixed["row_id"].iloc[d]) == set(b)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_random_folds_partition_the_rows(task: str) -> None:
    frame = hourly().assign(y=lambda f: f["y"] if task == "binary" else f["x"])
    made = folds.build_folds(frame, config(task=task, split={"folds": 5}))
    assert sorted(np.concatenate([b for _, b in made])) == list(range(100))
    assert all(set(a).isdisjoint(b) for a, b in made)
    means = [frame["y"].iloc[b].mean() for _, b in made]
    assert np.ptp(means) < 0.15 * frame["y"].std() + 1e-9  # stratified


def test_a_fold_of_one_class_is_left_out() -> None:
    frame = hourly().assign(y=lambda f: (f["x"] >= 30) * (f["x"] % 2))
    assert len(folds.build_folds(frame, config(time="m", split={"folds": 4}))) == 3


def test_too_few_rows_are_a_worded_error() -> None:
    with pytest.raises(
        RunFailedError, match="100 training rows in 4 folds with a label delay of 30d"
    ):
        folds.build_folds(hourly(), config(time="m", label_delay="30d"))
    with pytest.raises(RunFailedError, match="3 training rows"):
        folds.build_folds(hourly(3), config())
    with pytest.raises(RunFailedError, match="0 training rows"):
        folds.build_folds(hourly(0), config(time="m"))


def test_training_rows_are_labelled_of_their_part_and_in_time() -> None:
    frame = (
        hourly(6)
        .assign(
            part=["train", "gap", "train", "test", "unlabelled", "train"],
            y=[1, 0, np.nan, 1, np.nan, 0],
        )
        .iloc[::-1]
    )
    assert folds.select_training_rows(frame, config(time="m"))["row_id"].tolist() == [0, 5]
    assert folds.select_labeled_rows(frame, config(time="m"))["row_id"].tolist() == [5, 3, 1, 0]


def test_nothing_to_fit_on_is_a_worded_error() -> None:
    with pytest.raises(RunFailedError, match="0 features"):
        fitting.fit_model("linear", {"alpha": 1.0}, hourly(), [], config(), 0)


def test_the_linear_regression_is_ridge_by_hand() -> None:
    frame = hourly(50).assign(y=lambda f: 3 * f["x"] + 2)
    model = fitting.fit_model("linear", {"alpha": 5.0}, frame, ["x"], config(task="regression"), 0)
    z = ((frame["x"] - frame["x"].mean()) / frame["x"].std(ddof=0)).to_numpy()
    weight = (z @ (frame["y"] - frame["y"].mean())) / (z @ z + 5.0)
    assert fitting.compute_scores(model, frame, ["x"], config(task="regression")) == pytest.approx(
        frame["y"].mean() + weight * z
    )


def test_a_fold_is_scored_by_a_model_that_did_not_see_it() -> None:
    frame = hourly().assign(y=lambda f: f["x"])
    got = fitting.fit_and_score_fold(
        "constant",
        {},
        frame,
        ["x"],
        config(task="regression"),
        0,
        (np.arange(10), np.arange(50, 53)),
    )
    assert got.tolist() == [4.5, 4.5, 4.5]


def test_judged_scores_are_the_test_rows_with_a_column_a_model() -> None:
    frame = hourly(40).assign(part=["train"] * 30 + ["test"] * 10)
    given = config(time="m")
    model = fitting.fit_model(
        "constant", {}, folds.select_training_rows(frame, given), ["x"], given, 0
    )
    got = fitting.score_held_out_rows(
        {"score": model, "baseline_constant": model}, frame, ["x"], given
    )
    assert list(got.columns) == ["row_id", "m", "y", "score", "baseline_constant"]
    assert got["row_id"].tolist() == list(range(30, 40))
    assert (got["score"] == 0.5).all()


def test_forests_answer_with_one_thread() -> None:
    params = {"n_estimators": 5, "min_samples_leaf": 2, "max_features": 0.5, "max_samples": 0.5}
    assert (
        fitting.fit_model("forest", params, hourly(), ["x"], config(), 0)
        .named_steps["model"]
        .n_jobs
        == 1
    )
