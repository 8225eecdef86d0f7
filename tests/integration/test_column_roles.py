"""Projects with text and weights, and with dates and groups in time, from the source to the watch.

Two small projects run the whole chain by the command line; the tests read what the runs stored.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from sklearn.metrics import log_loss, roc_auc_score

from mlops_kit.data import source, splitters
from mlops_kit.data.columns import list_feature_columns
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import WindowRecord
from mlops_kit.project import loader, run_folder
from mlops_kit.registry import scoring, versions
from mlops_kit.stages.train.folds import build_folds, select_training_rows
from mlops_kit.watch import loop
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from tests.support.commands import RunMlops
from tests.support.role_projects import predict_at_endpoint, read_artifact, run_project

REVIEWS = """\
name: reviews
target: y
task: binary
weight: persons
validation: {repeats: 2, folds: 2}
"""
VISITS = """\
name: visits
target: y
task: binary
time: at
label_delay: 1d
as_of: 2024-02-10
until: 2024-02-25
weight: persons
validation: {test: 15d, folds: 2, group: patient}
"""


def make_reviews() -> pd.DataFrame:
    """Make reviews, a few of them without a label; a line stands for some persons."""
    rng = np.random.default_rng(1)
    rows = 360
    is_good = rng.random(rows) < 0.5
    filler = np.array([f"word{number}" for number in range(120)])
    texts = []
    for label in is_good:
        opinion = rng.choice(["lovely", "great"] if label else ["awful", "broken"])
        texts.append(" ".join([*rng.choice(filler, 5), opinion]))
    is_flipped = rng.random(rows) < 0.1
    frame = pd.DataFrame(
        {
            "k": range(rows),
            "text": texts,
            "shop": ["".join(rng.choice(list("abcdef"), 7)) for _ in range(rows)],
            "member": pd.Series(rng.choice([True, False, None], rows), dtype=object),
            "persons": rng.integers(1, 6, rows),
            "y": (is_good ^ is_flipped).astype(float),
        }
    )
    frame.loc[rows - 30 :, "y"] = np.nan
    return frame


def make_visits() -> pd.DataFrame:
    """Make visits of patients over two months; most come for a few weeks only."""
    rng = np.random.default_rng(2)
    rows = 1800
    at = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(rows) * 48, "min")
    week = np.arange(rows) // 210
    patient = week * 40 + rng.integers(0, 60, rows)
    registered = pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 300, rows), "D")
    signal = registered.month.to_numpy() / 6 - 1 + rng.normal(scale=0.7, size=rows)
    return pd.DataFrame(
        {
            "k": range(rows),
            "at": at,
            "patient": [f"p{number}" for number in patient],
            "registered": registered.strftime("%Y-%m-%d"),
            "dose": rng.normal(size=rows),
            "persons": rng.integers(1, 4, rows),
            "y": (signal > 0).astype(int),
        }
    )


@pytest.fixture(scope="module")
def reviews(run_mlops: RunMlops, tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    home = tmp_path_factory.mktemp("roles") / "reviews"
    return run_project(run_mlops, home, REVIEWS, make_reviews())


@pytest.fixture(scope="module")
def visits(run_mlops: RunMlops, tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    home = tmp_path_factory.mktemp("roles") / "visits"
    return run_project(run_mlops, home, VISITS, make_visits())


def report_nothing(line: str, transient: bool = False) -> None:
    """Take a line of progress."""


def get_held_out_sample(project: loader.Project) -> tuple[pd.Series, pd.Series, pd.Series]:
    scores = read_artifact(project, "held_out_scores")
    return scores["y"], scores["score"], scores["persons"]


@pytest.mark.parametrize("name", ["reviews", "visits"])
def test_review_reports_scikit_learns_weighted_metrics(
    name: str, request: pytest.FixtureRequest
) -> None:
    project = request.getfixturevalue(name)
    y, score, weights = get_held_out_sample(project)
    intervals = read_artifact(project, "metrics").to_intervals()
    expected = roc_auc_score(y, score, sample_weight=weights)
    assert intervals["roc_auc"].value == pytest.approx(expected)
    assert intervals["log_loss"].value == pytest.approx(log_loss(y, score, sample_weight=weights))
    assert expected > 0.6


@pytest.mark.parametrize(
    ("name", "unit"), [("reviews", "rows"), ("visits", "whole groups of 'patient'")]
)
def test_stored_results_state_the_scheme(
    name: str, unit: str, request: pytest.FixtureRequest
) -> None:
    project = request.getfixturevalue(name)
    scheme = splitters.get_validation_scheme(project.config)
    assert read_artifact(project, "split").scheme == scheme
    for artifact in ("overview", "split", "trials", "metrics"):
        assert scheme.describe() in read_artifact(project, artifact).notes
    assert f"100 draws of {unit}." in read_artifact(project, "metrics").notes[0]
    assert scheme.describe() in read_artifact(project, "card_text")


def test_no_group_is_in_two_parts_of_a_stored_split(visits: loader.Project) -> None:
    table = read_artifact(visits, "features")
    groups_by_part = table.groupby("part")["patient"].agg(set)
    assert groups_by_part["train"].isdisjoint(groups_by_part["test"])
    assert (table["part"] == "held_out_group").any()
    config = visits.config
    rows = select_training_rows(table, config)
    folds = build_folds(rows, config)
    assert len(folds) == 2
    for training, validation in folds:
        trained = set(rows["patient"].iloc[training])
        assert trained.isdisjoint(rows["patient"].iloc[validation])
        known_at = rows["at"].iloc[training].max() + config.label_delay
        assert known_at <= rows["at"].iloc[validation].min()
    (run,) = run_folder.list_run_folders(visits.reports_folder)
    recorded = run_folder.read_stage_records(run)["prepare"]["verdicts"]
    verdicts = {verdict.check: verdict.outcome for verdict in recorded}
    assert verdicts["groups_apart"] == "passed"


def test_group_and_weight_are_stored_and_are_no_features(
    reviews: loader.Project, visits: loader.Project
) -> None:
    champion, _ = versions.load_champion(reviews)
    assert list(champion.features) == ["text", "shop", "member"]
    champion, _ = versions.load_champion(visits)
    assert list(champion.features) == ["registered", "dose"]
    table = read_artifact(visits, "features")
    assert list_feature_columns(visits.config, table) == ["registered", "dose"]
    assert {"patient", "persons"} <= set(table.columns)
    assert {"patient", "persons"} <= set(read_artifact(visits, "scores").columns)


def test_text_model_understands_the_opinion(reviews: loader.Project) -> None:
    y, score, weights = get_held_out_sample(reviews)
    assert roc_auc_score(y, score, sample_weight=weights) > 0.75
    importance = read_artifact(reviews, "importance").to_frame()
    assert importance["feature"].iloc[0] == "text"


def test_date_model_finds_the_month(visits: loader.Project) -> None:
    importance = read_artifact(visits, "importance").to_frame()
    assert importance["feature"].iloc[0] == "registered"


@pytest.mark.parametrize(
    ("name", "hidden"), [("reviews", ["persons", "y"]), ("visits", ["persons", "patient", "y"])]
)
def test_rows_are_scored_without_group_and_weight(
    name: str, hidden: list[str], request: pytest.FixtureRequest
) -> None:
    project = request.getfixturevalue(name)
    frame = source.read_raw_source(project).tail(8)
    complete = scoring.predict_with_champion(project, frame)
    without = scoring.predict_with_champion(project, frame.drop(columns=hidden))
    assert without["score"].tolist() == complete["score"].tolist()
    stored = read_artifact(project, "scores").set_index("k")["score"]
    for key, score in zip(without["k"], without["score"], strict=True):
        if key in stored.index:
            assert score == stored[key]


def test_endpoint_scores_text_and_dates_without_weight(
    reviews: loader.Project, visits: loader.Project, tmp_path: Path
) -> None:
    for project, columns in (
        (reviews, ["k", "text", "shop", "member"]),
        (visits, ["k", "at", "registered", "dose"]),
    ):
        home = shutil.copytree(project.root, tmp_path / project.config.name)
        served = loader.load_project(home)
        frame = source.read_raw_source(served).tail(5)
        expected = scoring.predict_with_champion(served, frame)["score"].tolist()
        answers = [answer["score"] for answer in predict_at_endpoint(served, frame[columns])]
        assert answers == expected


def test_monitoring_weights_rows_and_does_not_compare_dates(visits: loader.Project) -> None:
    drift = read_artifact(visits, "drift")
    rows = drift.data.set_index("column")
    assert "effective number of rows" in drift.notes[-1]
    assert rows.loc["registered", "reason"] == "not_comparable"
    assert {"persons", "patient"}.isdisjoint(rows.index)
    realized = read_artifact(visits, "realized_performance").to_intervals()["roc_auc"]
    scores = read_artifact(visits, "scores").set_index("k")["score"]
    labeled = make_visits().set_index("k").loc[scores.index]
    known = labeled["at"] + visits.config.label_delay <= pd.Timestamp("2024-02-25", tz="UTC")
    labeled = labeled[known]
    expected = roc_auc_score(labeled["y"], scores[labeled.index], sample_weight=labeled["persons"])
    assert realized.value == pytest.approx(expected)


def test_watch_looks_weights_and_groups_up_in_the_source(
    visits: loader.Project, tmp_path: Path
) -> None:
    project = loader.load_project(shutil.copytree(visits.root, tmp_path / "watched"))
    as_of = pd.Timestamp("2024-02-25", tz="UTC").to_pydatetime()
    loop.replay_period(project, None, as_of, report_nothing)
    windows = query_records(project, sa.select(WindowRecord).order_by(WindowRecord.start))
    assert windows
    first = windows[0]
    monitoring = WindowMonitoring.from_json(first.monitoring_json)
    drift = monitoring.drift.data.set_index("column")
    assert drift.loc["registered", "reason"] == "not_comparable"
    assert "effective number of rows" in monitoring.drift.notes[-1]
    performance = WindowPerformance.from_json(first.realized_json)
    rows = make_visits()
    in_window = rows["at"].between(first.start, first.end, inclusive="left")
    scores = scoring.predict_with_champion(project, rows[in_window])["score"].to_numpy()
    expected = roc_auc_score(rows["y"][in_window], scores, sample_weight=rows["persons"][in_window])
    assert performance.realized.to_intervals()["roc_auc"].value == pytest.approx(expected)
