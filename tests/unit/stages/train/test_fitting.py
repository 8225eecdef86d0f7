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


def make_config(**values: Any) -> ProjectConfig:
    return validate_config(
        {"name": "p", "source": "x.csv", "target": "y", "task": "binary", **values}, "test"
    )


def make_hourly_rows(rows: int = 100) -> pd.DataFrame:
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


def test_time_folds_expand_and_leave_out_the_delay() -> None:
    built = folds.build_folds(
        make_hourly_rows(), make_config(time="m", label_delay="5h", split={"folds": 4})
    )
    # Five blocks of 20 hours; a label five hours late is known at the cut for hours up to cut - 5.
    assert [(len(a), a.max(), b.min(), b.max()) for a, b in built] == [
        (16, 15, 20, 39),
        (36, 35, 40, 59),
        (56, 55, 60, 79),
        (76, 75, 80, 99),
    ]


def test_time_of_the_cut_is_validation_only_without_delay() -> None:
    frame = make_hourly_rows().assign(m=lambda f: f["m"].dt.floor("3h"))
    for before, after in folds.build_folds(frame, make_config(time="m", split={"folds": 3})):
        assert frame["m"].iloc[before].max() < frame["m"].iloc[after].min()


def test_folds_do_not_depend_on_row_order() -> None:
    given = make_config(time="m", label_delay="5h")
    mixed = make_hourly_rows().sample(frac=1, random_state=1)
    for (a, b), (c, d) in zip(
        folds.build_folds(make_hourly_rows(), given), folds.build_folds(mixed, given), strict=True
    ):
        assert set(mixed["row_id"].iloc[c]) == set(a)
        assert set(mixed["row_id"].iloc[d]) == set(b)


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_random_folds_partition_the_rows(task: str) -> None:
    frame = make_hourly_rows().assign(y=lambda f: f["y"] if task == "binary" else f["x"])
    built = folds.build_folds(frame, make_config(task=task, split={"folds": 5}))
    assert sorted(np.concatenate([b for _, b in built])) == list(range(100))
    assert all(set(a).isdisjoint(b) for a, b in built)
    means = [frame["y"].iloc[b].mean() for _, b in built]
    assert np.ptp(means) < 0.15 * frame["y"].std() + 1e-9  # stratified


def test_fold_of_one_class_is_left_out() -> None:
    frame = make_hourly_rows().assign(y=lambda f: (f["x"] >= 30) * (f["x"] % 2))
    assert len(folds.build_folds(frame, make_config(time="m", split={"folds": 4}))) == 3


def test_too_few_rows_are_rejected() -> None:
    with pytest.raises(
        RunFailedError, match="100 training rows in 4 folds with a label delay of 30d"
    ):
        folds.build_folds(make_hourly_rows(), make_config(time="m", label_delay="30d"))
    with pytest.raises(RunFailedError, match="3 training rows"):
        folds.build_folds(make_hourly_rows(3), make_config())
    with pytest.raises(RunFailedError, match="0 training rows"):
        folds.build_folds(make_hourly_rows(0), make_config(time="m"))


def test_training_rows_are_labeled_of_their_part_and_in_time_order() -> None:
    frame = (
        make_hourly_rows(6)
        .assign(
            part=["train", "gap", "train", "test", "unlabelled", "train"],
            y=[1, 0, np.nan, 1, np.nan, 0],
        )
        .iloc[::-1]
    )
    assert folds.select_training_rows(frame, make_config(time="m"))["row_id"].tolist() == [0, 5]
    assert folds.select_labeled_rows(frame, make_config(time="m"))["row_id"].tolist() == [
        5,
        3,
        1,
        0,
    ]


def test_fit_without_features_is_rejected() -> None:
    with pytest.raises(RunFailedError, match="0 features"):
        fitting.fit_model("linear", {"alpha": 1.0}, make_hourly_rows(), [], make_config(), 0)


def test_linear_regression_matches_ridge_by_hand() -> None:
    frame = make_hourly_rows(50).assign(y=lambda f: 3 * f["x"] + 2)
    model = fitting.fit_model(
        "linear", {"alpha": 5.0}, frame, ["x"], make_config(task="regression"), 0
    )
    z = ((frame["x"] - frame["x"].mean()) / frame["x"].std(ddof=0)).to_numpy()
    weight = (z @ (frame["y"] - frame["y"].mean())) / (z @ z + 5.0)
    assert fitting.compute_scores(
        model, frame, ["x"], make_config(task="regression")
    ) == pytest.approx(frame["y"].mean() + weight * z)


def test_fold_is_scored_by_model_fitted_without_it() -> None:
    frame = make_hourly_rows().assign(y=lambda f: f["x"])
    got = fitting.fit_and_score_fold(
        "constant",
        {},
        frame,
        ["x"],
        make_config(task="regression"),
        (np.arange(10), np.arange(50, 53)),
    )
    assert got.tolist() == [4.5, 4.5, 4.5]


def test_held_out_scores_are_test_rows_with_a_column_per_model() -> None:
    frame = make_hourly_rows(40).assign(part=["train"] * 30 + ["test"] * 10)
    given = make_config(time="m")
    model = fitting.fit_model(
        "constant", {}, folds.select_training_rows(frame, given), ["x"], given, 0
    )
    got = fitting.score_held_out_rows(
        {"score": model, "baseline_constant": model}, frame, ["x"], given
    )
    assert list(got.columns) == ["row_id", "m", "y", "score", "baseline_constant"]
    assert got["row_id"].tolist() == list(range(30, 40))
    assert (got["score"] == 0.5).all()


def test_forest_predicts_with_one_thread() -> None:
    params = {"n_estimators": 5, "min_samples_leaf": 2, "max_features": 0.5, "max_samples": 0.5}
    assert (
        fitting.fit_model("forest", params, make_hourly_rows(), ["x"], make_config(), 0)
        .named_steps["model"]
        .n_jobs
        == 1
    )
