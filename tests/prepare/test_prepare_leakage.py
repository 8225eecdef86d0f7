"""Leakage: copies of what comes later, and columns that tell the target alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mlops_kit.config import Project, validated
from mlops_kit.prepare import checks, leakage


def project(**more: Any) -> Project:
    return Project(
        Path("."),
        validated(
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
        v.check: v for v in checks(project(time="m", known_later={"arrival": "1d"}), table, later)
    }
    assert [found[k].outcome for k in ("known_later", "one_column", "point_in_time")] == [
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
    verdict = leakage.known_later(
        project(time="m", known_later={"arrival": "1d"}),
        table.drop(columns="noise").assign(eta=feature(arrival)),
        later.sample(frac=1, random_state=1),
    )
    assert verdict.blocks
    assert verdict.diagnostics["columns"] == {"eta": "arrival"}


def test_a_later_column_by_its_own_name_blocks(table: pd.DataFrame) -> None:
    later = table[["key"]].assign(arrival=np.nan)
    verdict = leakage.known_later(
        project(time="m", known_later={"arrival": "1d"}), table.assign(arrival=1.0), later
    )
    assert verdict.diagnostics["columns"] == {"arrival": "arrival"}


def test_two_constants_are_no_copies() -> None:
    assert not leakage.copies(pd.Series([1.0] * 50), pd.Series([1.0] * 50))
    assert not leakage.copies(pd.Series([np.nan] * 50), pd.Series(range(50)))


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
    verdict = leakage.one_column(project().config, table.assign(tell=tell(table["y"])))
    assert verdict.blocks
    assert verdict.sentence.startswith("tell alone")
    assert "leave_out: [tell]" in verdict.cure


def test_a_name_of_each_row_is_no_leak(table: pd.DataFrame) -> None:
    assert leakage.strength(table["name"], table["y"].to_numpy(), binary=True) == 0.5


def test_strengths_agree_with_scikit_learn_and_scipy(table: pd.DataFrame) -> None:
    good, y = table["good"], table["y"].to_numpy()
    assert leakage.auc(good.to_numpy(), y) == pytest.approx(roc_auc_score(y, good))
    assert leakage.auc(-good.to_numpy(), y) == pytest.approx(roc_auc_score(y, good))
    assert leakage.rho(good.to_numpy(), -table["noise"].to_numpy()) == pytest.approx(
        abs(spearmanr(good, table["noise"])[0])
    )
    assert leakage.rho(np.ones(9), np.arange(9.0)) == 0.0
    assert leakage.auc(np.arange(9.0), np.ones(9)) == 0.5


def test_a_regression_is_told_by_ranks(table: pd.DataFrame) -> None:
    config = project(task="regression").config
    frame = table.assign(y=table["noise"], noise=np.exp(table["noise"]))
    assert leakage.one_column(config, frame).blocks
    assert leakage.one_column(config, frame.drop(columns="noise")).outcome == "passed"


def test_too_few_rows_cannot_tell(table: pd.DataFrame) -> None:
    assert leakage.one_column(project().config, table.head(5)).outcome == "cannot tell"
