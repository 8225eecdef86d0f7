"""A project of groups without time and of several classes, and a weighted regression in time.

Each runs the whole chain once by the command line; the tests read what the runs stored. Text and
dates are in ``test_column_roles``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sklearn import metrics as sklearn_metrics

from mlops_kit.data import source
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import WindowRecord
from mlops_kit.project import loader
from mlops_kit.registry import scoring, versions
from mlops_kit.stages.train.folds import build_folds, select_training_rows
from mlops_kit.watch import loop
from mlops_kit.watch.records import WindowPerformance
from tests.support.commands import RunMlops
from tests.support.role_projects import predict_at_endpoint, read_artifact, run_project

PLANTS = """\
name: plants
target: kind
task: multiclass
validation: {test: 0.25, folds: 3, group: field}
"""
SALES = """\
name: sales
target: y
task: regression
time: at
label_delay: 1d
as_of: 2024-02-10
until: 2024-02-25
weight: items
validation: {test: 15d, folds: 2}
retrain: {on_performance_drop: false, on_concept_drift: false}
"""


def make_plants() -> pd.DataFrame:
    """Make plants of three kinds in 60 fields; the plants of a field are alike."""
    rng = np.random.default_rng(3)
    field = rng.integers(0, 60, 480)
    kind = rng.integers(0, 3, 480)
    soil = rng.normal(size=60)[field]
    return pd.DataFrame(
        {
            "k": range(480),
            "field": [f"field {number}" for number in field],
            "height": kind + soil + rng.normal(scale=0.6, size=480),
            "soil": soil,
            "kind": np.array(["oat", "rye", "wheat"])[kind],
        }
    )


def make_sales() -> pd.DataFrame:
    """Make sales over two months; a row stands for some items, and many items cost less."""
    rng = np.random.default_rng(4)
    size = rng.normal(size=1200)
    items = rng.integers(1, 9, 1200)
    at = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(1200) * 70, "min")
    price = 10 + 3 * size - 0.4 * items + rng.normal(size=1200)
    return pd.DataFrame({"k": range(1200), "at": at, "size": size, "items": items, "y": price})


@pytest.fixture(scope="module")
def plants(run_mlops: RunMlops, tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    home = tmp_path_factory.mktemp("roles") / "plants"
    return run_project(run_mlops, home, PLANTS, make_plants())


@pytest.fixture(scope="module")
def sales(run_mlops: RunMlops, tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    home = tmp_path_factory.mktemp("roles") / "sales"
    return run_project(run_mlops, home, SALES, make_sales())


def test_no_group_is_in_two_parts_of_the_stored_splits(plants: loader.Project) -> None:
    table = read_artifact(plants, "features")
    fields_by_part = table.groupby("part")["field"].agg(set)
    assert fields_by_part["train"].isdisjoint(fields_by_part["test"])
    assert set(table["field"]) == fields_by_part["train"] | fields_by_part["test"]
    rows = select_training_rows(table, plants.config)
    folds = build_folds(rows, plants.config)
    assert len(folds) == 3
    for training, validation in folds:
        assert set(rows["field"].iloc[training]).isdisjoint(rows["field"].iloc[validation])
    held_out = read_artifact(plants, "held_out_scores")
    assert set(held_out["k"]) == set(table.loc[table["part"] == "test", "k"])


def test_grouped_review_equals_scikit_learn(plants: loader.Project) -> None:
    held_out = read_artifact(plants, "held_out_scores")
    scores = np.array(held_out["score"].tolist())
    intervals = read_artifact(plants, "metrics").to_intervals()
    accuracy = sklearn_metrics.accuracy_score(held_out["kind"], scores.argmax(axis=1))
    loss = sklearn_metrics.log_loss(held_out["kind"], scores, labels=range(3))
    assert intervals["accuracy"].value == pytest.approx(accuracy)
    assert intervals["multiclass_log_loss"].value == pytest.approx(loss)
    assert "draws of whole groups of 'field'." in read_artifact(plants, "metrics").notes[0]


def test_rows_of_a_new_group_are_scored_without_the_group(plants: loader.Project) -> None:
    champion, _ = versions.load_champion(plants)
    assert list(champion.features) == ["height", "soil"]
    rows = source.read_raw_source(plants).tail(4)
    expected = scoring.predict_with_champion(plants, rows.assign(field="a new one"))
    answers = predict_at_endpoint(plants, rows[["k", "height", "soil"]])
    assert [answer["class"] for answer in answers] == expected["class"].tolist()
    for answer, probabilities in zip(answers, expected.to_dict("records"), strict=True):
        for name, probability in answer["probabilities"].items():
            assert probability == pytest.approx(probabilities[f"probability {name}"])


def test_weighted_review_equals_scikit_learn(sales: loader.Project) -> None:
    held_out = read_artifact(sales, "held_out_scores")
    truth, prediction, weights = held_out["y"], held_out["score"], held_out["items"]
    intervals = read_artifact(sales, "metrics").to_intervals()
    for name, metric in (
        ("r2", sklearn_metrics.r2_score),
        ("rmse", sklearn_metrics.root_mean_squared_error),
        ("mae", sklearn_metrics.mean_absolute_error),
    ):
        expected = metric(truth, prediction, sample_weight=weights)
        assert intervals[name].value == pytest.approx(expected)
        assert expected != pytest.approx(metric(truth, prediction), rel=1e-6)


def test_rows_are_scored_without_their_weight(sales: loader.Project) -> None:
    champion, _ = versions.load_champion(sales)
    assert list(champion.features) == ["size"]
    rows = source.read_raw_source(sales).tail(4)
    expected = scoring.predict_with_champion(sales, rows)["score"].tolist()
    answers = predict_at_endpoint(sales, rows[["k", "at", "size"]])
    assert [answer["score"] for answer in answers] == pytest.approx(expected)


def test_watch_weights_the_realized_error(sales: loader.Project) -> None:
    as_of = pd.Timestamp("2024-02-25", tz="UTC").to_pydatetime()
    loop.replay_period(sales, None, as_of, lambda line, transient=False: None)
    first = query_records(sales, sa.select(WindowRecord).order_by(WindowRecord.start))[0]
    performance = WindowPerformance.from_json(first.realized_json)
    rows = make_sales()
    in_window = rows[rows["at"].between(first.start, first.end, inclusive="left")]
    predicted = scoring.predict_with_champion(sales, in_window)["score"].to_numpy()
    expected = sklearn_metrics.r2_score(in_window["y"], predicted, sample_weight=in_window["items"])
    assert performance.realized.to_intervals()["r2"].value == pytest.approx(expected)
