"""Leakage: copies of what comes later, and columns that tell the target alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mlops_kit.project.loader import Project
from mlops_kit.project.validation import validate_config
from mlops_kit.stages.prepare import check_leakage, leakage


def project(**more: Any) -> Project:
    return Project(
        Path("."),
        validate_config(
            {"name": "p", "source": "x.csv", "target": "y", "task": "binary", "id": "key", **more},
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


def test_an_honest_table_passes(table: pd.DataFrame) -> None:
    later = table.assign(arrival=table["y"] * 30 + table["noise"])
    found = {
        v.check: v
        for v in check_leakage(project(time="m", known_later={"arrival": "1d"}), table, later)
    }
    assert [found[k].outcome for k in ("known_later", "leakage_threshold", "point_in_time")] == [
        "passed",
        "passed",
        "not applicable",
    ]


@pytest.mark.parametrize(
    "feature", [lambda a: a, lambda a: -2.5 * a + 7, lambda a: a.round(3), lambda a: a.astype(str)]
)
def test_a_copy_of_a_later_column_blocks(table: pd.DataFrame, feature: Any) -> None:
    arrival = table["noise"] * 3 + 1
    later = table[["key"]].assign(
        arrival=arrival if feature(arrival).dtype != object else arrival.astype(str)
    )
    verdict = leakage.check_known_later(
        project(time="m", known_later={"arrival": "1d"}),
        table.drop(columns="noise").assign(eta=feature(arrival)),
        later.sample(frac=1, random_state=1),
    )
    assert verdict.is_blocking
    assert verdict.diagnostics["columns"] == {"eta": "arrival"}


def test_a_later_column_by_its_own_name_blocks(table: pd.DataFrame) -> None:
    later = table[["key"]].assign(arrival=np.nan)
    verdict = leakage.check_known_later(
        project(time="m", known_later={"arrival": "1d"}), table.assign(arrival=1.0), later
    )
    assert verdict.diagnostics["columns"] == {"arrival": "arrival"}


def test_two_constants_are_no_copies() -> None:
    assert not leakage.are_copies(pd.Series([1.0] * 50), pd.Series([1.0] * 50))
    assert not leakage.are_copies(pd.Series([np.nan] * 50), pd.Series(range(50)))


@pytest.mark.parametrize(
    "tell",
    [
        lambda y: y,
        lambda y: -y,
        lambda y: y.where(y == 0),
        lambda y: y.map({0.0: "on time", 1.0: "late"}),
        lambda y: y.astype(bool),
    ],
)
def test_a_column_that_tells_the_target_blocks(table: pd.DataFrame, tell: Any) -> None:
    verdict = leakage.check_single_feature(project().config, table.assign(tell=tell(table["y"])))
    assert verdict.is_blocking
    assert verdict.sentence.startswith("tell alone")
    assert "excluded_columns: [tell]" in verdict.hint


def test_a_name_of_each_row_is_no_leak(table: pd.DataFrame) -> None:
    assert leakage.measure_association(table["name"], table["y"].to_numpy(), binary=True) == 0.5


def test_strengths_agree_with_scikit_learn_and_scipy(table: pd.DataFrame) -> None:
    good, y = table["good"], table["y"].to_numpy()
    assert leakage.compute_rank_auc(good.to_numpy(), y) == pytest.approx(roc_auc_score(y, good))
    assert leakage.compute_rank_auc(-good.to_numpy(), y) == pytest.approx(roc_auc_score(y, good))
    assert leakage.compute_rank_correlation(
        good.to_numpy(), -table["noise"].to_numpy()
    ) == pytest.approx(abs(spearmanr(good, table["noise"])[0]))
    assert leakage.compute_rank_correlation(np.ones(9), np.arange(9.0)) == 0.0
    assert leakage.compute_rank_auc(np.arange(9.0), np.ones(9)) == 0.5


def test_a_regression_is_told_by_ranks(table: pd.DataFrame) -> None:
    config = project(task="regression").config
    frame = table.assign(y=table["noise"], noise=np.exp(table["noise"]))
    assert leakage.check_single_feature(config, frame).is_blocking
    assert leakage.check_single_feature(config, frame.drop(columns="noise")).outcome == "passed"


def test_too_few_rows_cannot_tell(table: pd.DataFrame) -> None:
    assert leakage.check_single_feature(project().config, table.head(5)).outcome == "cannot tell"
