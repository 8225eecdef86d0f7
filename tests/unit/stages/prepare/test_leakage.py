"""Leakage checks: copies of later columns, and single features that predict the target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.project.loader import Project
from mlops_kit.project.validation import validate_config
from mlops_kit.stages.prepare import check_leakage, leakage


def make_project(**values: Any) -> Project:
    return Project(
        Path("."),
        validate_config(
            {
                "name": "p",
                "source": "x.csv",
                "target": "y",
                "task": "binary",
                "id": "key",
                **values,
            },
            "test",
        ),
    )


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.3).astype(float)
    return pd.DataFrame(
        {
            "key": [f"k{i}" for i in range(600)],
            "y": y,
            "part": "train",
            "good": y + rng.normal(size=600),
            "noise": rng.normal(size=600),
            "name": [f"n{i}" for i in range(600)],
        }
    )


def test_table_without_leak_passes(table: pd.DataFrame) -> None:
    later = table.assign(arrival=table["y"] * 30 + table["noise"])
    found = {
        v.check: v
        for v in check_leakage(make_project(time="m", known_later={"arrival": "1d"}), table, later)
    }
    assert [found[k].outcome for k in ("known_later", "one_column", "point_in_time")] == [
        "passed",
        "passed",
        "not applicable",
    ]


@pytest.mark.parametrize(
    "feature", [lambda a: a, lambda a: -2.5 * a + 7, lambda a: a.round(3), lambda a: a.astype(str)]
)
def test_copy_of_later_column_blocks(table: pd.DataFrame, feature: Any) -> None:
    arrival = table["noise"] * 3 + 1
    later = table[["key"]].assign(
        arrival=arrival if feature(arrival).dtype != object else arrival.astype(str)
    )
    verdict = leakage.check_known_later(
        make_project(time="m", known_later={"arrival": "1d"}),
        table.drop(columns="noise").assign(eta=feature(arrival)),
        later.sample(frac=1, random_state=1),
    )
    assert verdict.is_blocking
    assert verdict.diagnostics["columns"] == {"eta": "arrival"}


def test_later_column_under_its_own_name_blocks(table: pd.DataFrame) -> None:
    later = table[["key"]].assign(arrival=np.nan)
    verdict = leakage.check_known_later(
        make_project(time="m", known_later={"arrival": "1d"}), table.assign(arrival=1.0), later
    )
    assert verdict.diagnostics["columns"] == {"arrival": "arrival"}


@pytest.mark.parametrize(
    "reveal",
    [
        lambda y: y,
        lambda y: -y,
        lambda y: y.where(y == 0),
        lambda y: y.map({0.0: "on time", 1.0: "late"}),
        lambda y: y.astype(bool),
    ],
)
def test_feature_that_reveals_the_target_blocks(table: pd.DataFrame, reveal: Any) -> None:
    verdict = leakage.check_single_feature(
        make_project().config, table.assign(leak=reveal(table["y"]))
    )
    assert verdict.is_blocking
    assert verdict.sentence.startswith("leak alone")
    assert "excluded_columns: [leak]" in verdict.hint


def test_regression_leak_is_found_by_ranks(table: pd.DataFrame) -> None:
    config = make_project(task="regression").config
    frame = table.assign(y=table["noise"], noise=np.exp(table["noise"]))
    assert leakage.check_single_feature(config, frame).is_blocking
    assert leakage.check_single_feature(config, frame.drop(columns="noise")).outcome == "passed"


def test_too_few_rows_cannot_tell(table: pd.DataFrame) -> None:
    assert (
        leakage.check_single_feature(make_project().config, table.head(5)).outcome == "cannot tell"
    )


def test_group_in_both_parts_blocks(table: pd.DataFrame) -> None:
    project = make_project(validation={"group": "patient"})
    rows = table.assign(patient=np.arange(600) // 3, part=["train"] * 450 + ["test"] * 150)
    verdicts = {verdict.check: verdict for verdict in check_leakage(project, rows, rows)}
    assert verdicts["groups_apart"].outcome == "passed"
    rows.loc[rows.index[-1], "patient"] = 0
    verdict = leakage.check_groups_apart(project.config, rows)
    assert verdict.is_blocking
    assert verdict.sentence.startswith("1 of the 51 held-out groups of 'patient'")


def test_column_that_names_a_group_is_no_leak_where_groups_stay_together() -> None:
    rng = np.random.default_rng(2)
    patient = np.repeat(np.arange(150), 4)
    y = (rng.random(150) < 0.5).astype(float)[patient]
    rows = pd.DataFrame(
        {"key": range(600), "patient": patient, "y": y, "part": "train", "ward": patient * 7}
    ).astype({"ward": str})
    alone = leakage.check_single_feature(make_project().config, rows.drop(columns="patient"))
    assert alone.is_blocking
    grouped = make_project(validation={"group": "patient"})
    assert not leakage.check_single_feature(grouped.config, rows).is_blocking


def make_class_rows(class_count: int) -> pd.DataFrame:
    """Make rows of several classes, with a feature that says something about each."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, class_count, 100 * class_count)
    values = {"key": range(len(codes)), "y": codes.astype(float), "part": "train"}
    return pd.DataFrame(values).assign(weak=codes + rng.normal(0, class_count, len(codes)))


@pytest.mark.parametrize("class_count", [3, 7, 26])
@pytest.mark.parametrize(
    "reveal",
    [
        lambda is_last, number: is_last.astype(float),
        lambda is_last, number: number.where(is_last),
        lambda is_last, number: number + 1000 * is_last,
        lambda is_last, number: number.round(3).astype(str).where(~is_last, "closed"),
    ],
)
def test_feature_that_reveals_one_of_several_classes_is_named(
    class_count: int, reveal: Any
) -> None:
    rows = make_class_rows(class_count)
    numbers = pd.Series(np.random.default_rng(4).normal(size=len(rows)))
    leaky = rows.assign(leak=reveal(rows["y"] == class_count - 1, numbers))
    config = make_project(task="multiclass").config
    names = [f"kind {code}" for code in range(class_count)]
    verdict = leakage.check_single_classes(config, leaky, names)
    assert (verdict.outcome, verdict.severity) == ("failed", "warns")
    assert f"leak (kind {class_count - 1})" in verdict.sentence
    assert verdict.hint.startswith("excluded_columns: [leak] in mlops.yaml")
    assert not leakage.check_single_feature(config, leaky).is_blocking
    assert leakage.check_single_classes(config, rows, names).outcome == "passed"


def test_feature_that_reveals_every_class_blocks() -> None:
    rows = make_class_rows(7)
    config = make_project(task="multiclass").config
    leaky = rows.assign(leak=rows["y"].map(lambda code: f"group {code * 5 % 7}"))
    assert leakage.check_single_feature(config, leaky).is_blocking


def test_classes_with_too_few_rows_cannot_be_checked() -> None:
    config = make_project(task="multiclass").config
    assert leakage.check_single_classes(config, make_class_rows(3).head(9)).outcome == "cannot tell"


def test_feature_that_stands_out_warns_until_somebody_confirms_it(table: pd.DataFrame) -> None:
    follow_up = np.where(table["y"] == 1, 1.0, 3.5) + table["noise"]
    frame = table.assign(follow_up=follow_up, other=np.arange(600) % 7)
    verdict = leakage.check_outstanding_feature(make_project().config, frame)
    assert (verdict.outcome, verdict.severity) == ("failed", "warns")
    assert verdict.sentence.startswith("Features that alone rank the target far better")
    assert "follow_up: AUC 0.9" in verdict.observed
    assert "review.confirmed_features: [follow_up]" in verdict.hint
    confirmed = make_project(review={"confirmed_features": ["follow_up"]}).config
    assert leakage.check_outstanding_feature(confirmed, frame).outcome == "passed"
    copied = frame.assign(follow_up=frame["y"])
    assert leakage.check_outstanding_feature(make_project().config, copied).outcome == "passed"
    assert leakage.check_single_feature(make_project().config, copied).is_blocking
    assert leakage.check_single_feature(confirmed, copied).outcome == "passed"


def test_class_that_most_rows_of_a_feature_tell_stands_out() -> None:
    rng = np.random.default_rng(3)
    codes = rng.choice([0.0, 1.0, 2.0], 900, p=[0.6, 0.38, 0.02])
    is_first = np.where(rng.random(900) < 0.05, codes != 0, codes == 0)
    result = np.where(is_first, "a", "b")  # the rare class is not told from the second
    rows = pd.DataFrame(
        {
            "key": range(900),
            "y": codes,
            "part": "train",
            "result": result,
            "x": rng.normal(size=900),
        }
    )
    config = make_project(task="multiclass").config
    assert leakage.check_outstanding_feature(config, rows).outcome == "failed"
    assert leakage.check_single_feature(config, rows).outcome == "passed"
