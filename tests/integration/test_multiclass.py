"""A multiclass project in service: endpoint, feedback, batch and watch, without notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from sklearn import metrics as sklearn_metrics
from sklearn.linear_model import LogisticRegression

from mlops_kit.data import contract, contract_inference, source, target
from mlops_kit.db import predictions
from mlops_kit.db.tables import IncidentRecord, LabelRecord, PredictionRecord, WindowRecord
from mlops_kit.project import loader
from mlops_kit.registry import scoring, versions
from mlops_kit.serving import app
from mlops_kit.stages.review import evaluate_performance
from mlops_kit.stages.stage import Stage
from mlops_kit.stages.train.fitting import score_held_out_rows
from mlops_kit.stats.metrics import list_task_metrics
from mlops_kit.watch import loop
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from tests.support.watched_project import RUN_ID, list_records, register_champion

YAML = """
name: kinds
source: t.csv
target: kind
task: multiclass
id: k
time: at
label_delay: 1d
approval: automatic
as_of: 2024-01-31
until: 2024-01-31
validation: {test: 10d, folds: 2}
review: {draws: 100}
retrain: {on_performance_drop: false, on_concept_drift: false}
"""
FEATURES = ["a", "b", "c"]
CLASSES = [f"type {letter}" for letter in "ABCDEFG"]
ROWS_PER_DAY = 60
DRIFT_DAY = 37  # from this day on two classes are rare, until then all are equally frequent
DROP_DAY = 44  # from this day on each class has the name of the next one


def make_rows() -> pd.DataFrame:
    """Make rows of seven classes for 58 days."""
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(58), ROWS_PER_DAY)
    codes = rng.integers(0, 7, len(day))
    has_drifted = day >= DRIFT_DAY
    codes = np.where(has_drifted & (codes >= 5), 0, codes)
    centers = rng.normal(0, 2.5, (7, 3))
    values = centers[codes] + rng.normal(0, 1, (len(day), 3))
    minutes = np.arange(len(day)) * (1440 / ROWS_PER_DAY)
    named = np.where(day >= DROP_DAY, (codes + 1) % 7, codes)
    frame = pd.DataFrame(values, columns=FEATURES)
    frame.insert(0, "at", pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, unit="min"))
    frame.insert(0, "k", np.arange(len(day)))
    return frame.assign(kind=np.array(CLASSES)[named])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    """The project with version 1 as the champion."""
    home = tmp_path_factory.mktemp("multiclass")
    (home / "mlops.yaml").write_text(YAML)
    make_rows().to_csv(home / "t.csv", index=False)
    opened = loader.load_project(home)
    known = source.read_source(opened, opened.config.to_utc(opened.config.as_of))
    contract.save_contract(
        home / "contract.yaml", contract_inference.infer_contract(known, opened.config)
    )
    encoded, _ = target.encode_target(known, opened.config, target.list_classes(opened))
    is_newest = encoded["at"] >= encoded["at"].max() - pd.Timedelta(days=10)
    labeled = encoded.assign(part=np.where(is_newest, "test", "train"))
    labeled = labeled[labeled["kind"].notna()].reset_index(drop=True)
    train = labeled[labeled["part"] == "train"]
    model = LogisticRegression(max_iter=1000).fit(train[FEATURES], train["kind"].astype(int))
    scores = score_held_out_rows({"score": model}, labeled, FEATURES, opened.config)
    stage = Stage("review", opened, opened.reports_folder / RUN_ID, draft=False)
    stage.write("features", labeled)
    stage.write("held_out_scores", scores)
    stage.write("metrics", evaluate_performance(scores, opened.config, 100))
    register_champion(opened, model, train[FEATURES], None, classes=json.dumps(CLASSES))
    return opened


@pytest.fixture(scope="module")
def client(project: loader.Project) -> Iterator[TestClient]:
    """A client of the project's endpoint."""
    application = app.build_app(project)
    with TestClient(application, base_url="http://localhost:8000") as opened:
        assert application.state.service.follower.champion_checked.wait(120)
        yield opened


@pytest.fixture(scope="module")
def watched(project: loader.Project, client: TestClient) -> loader.Project:
    """The project after four weeks of the watch; the endpoint was asked before."""
    ask_endpoint(client)
    until = project.parse_utc_timestamp("2024-02-27", "the test's end")
    loop.replay_period(project, None, until, lambda text, transient=False: None)
    return project


def ask_endpoint(client: TestClient) -> dict[str, Any]:
    """Ask for the predictions of three rows, always under the same id."""
    frame = make_rows().iloc[-3:].assign(at=lambda rows: rows["at"].dt.strftime("%Y-%m-%dT%H:%M"))
    rows = frame.drop(columns="kind").to_dict("records")
    response = client.post("/predict", json={"rows": rows, "request_id": "same"})
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def test_response_has_the_class_and_the_probability_of_each_class(
    client: TestClient, project: loader.Project
) -> None:
    content = ask_endpoint(client)
    rows = make_rows().iloc[-3:].drop(columns="kind")
    scored = scoring.predict_with_champion(project, rows)
    for answer, expected in zip(content["predictions"], scored.to_dict("records"), strict=True):
        assert answer["class"] == expected["class"]
        assert answer["decision"] is None
        assert list(answer["probabilities"]) == CLASSES
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["score"] == max(answer["probabilities"].values())
        assert answer["probabilities"][answer["class"]] == answer["score"]
        for name in CLASSES:
            assert answer["probabilities"][name] == expected[f"probability {name}"]
    assert ask_endpoint(client) == content  # answered from the log


def test_response_matches_the_openapi_document(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    response = document["paths"]["/predict"]["post"]["responses"]["200"]
    schema = response["content"]["application/json"]["schema"]
    Draft202012Validator(schema).validate(ask_endpoint(client))
    prediction = schema["properties"]["predictions"]["items"]["properties"]
    assert prediction["class"]["enum"] == [*CLASSES, None]
    assert prediction["score"]["description"] == "Probability of the predicted class"
    facts = client.get("/model").json()
    assert facts["classes"] == CLASSES
    assert facts["positive_class"] is None


def test_label_is_one_of_the_classes(client: TestClient, project: loader.Project) -> None:
    prediction_id = ask_endpoint(client)["predictions"][0]["prediction_id"]
    wrong = client.post(
        "/feedback", json={"labels": [{"prediction_id": prediction_id, "value": "type Z"}]}
    )
    assert wrong.status_code == 422
    right = client.post(
        "/feedback", json={"labels": [{"prediction_id": prediction_id, "value": "type C"}]}
    )
    assert right.json()["counts"] == {"joined": 1}
    labels = list_records(project, LabelRecord)
    assert (labels[0].value, labels[0].raw_value) == (2.0, "type C")


def load_window(project: loader.Project, number: int) -> tuple[WindowMonitoring, WindowPerformance]:
    """Load what the watch stored about a window."""
    window = list_records(project, WindowRecord)[number]
    return (
        WindowMonitoring.from_json(window.monitoring_json),
        WindowPerformance.from_json(window.realized_json or ""),
    )


def test_figures_of_a_window_equal_those_of_scikit_learn(watched: loader.Project) -> None:
    window = list_records(watched, WindowRecord)[0]
    start, end = (pd.Timestamp(text).to_pydatetime() for text in (window.start, window.end))
    rows = predictions.load_labeled_predictions(watched, start, end)
    monitoring, performance = load_window(watched, 0)
    realized = performance.realized.to_intervals()
    scores = np.array(rows["score"].tolist())
    labels = rows["raw_label"].map(CLASSES.index)
    assert monitoring.rows == len(rows) == 7 * ROWS_PER_DAY
    assert rows["label"].tolist() == labels.tolist()
    assert realized["accuracy"].value == pytest.approx(
        sklearn_metrics.accuracy_score(labels, scores.argmax(axis=1))
    )
    assert realized["multiclass_log_loss"].value == pytest.approx(
        sklearn_metrics.log_loss(labels, scores, labels=range(7))
    )
    assert monitoring.mean_score == pytest.approx(scores.max(axis=1).mean())
    assert monitoring.flagged_share is None
    assert (performance.cost, performance.saved) == (None, None)


def test_estimated_accuracy_includes_the_realized_one_before_the_drop(
    watched: loader.Project,
) -> None:
    monitoring, performance = load_window(watched, 0)
    realized = performance.realized.to_intervals()["accuracy"]
    estimated = monitoring.estimated
    assert estimated.low < realized.high
    assert realized.low < estimated.high
    assert estimated.value == pytest.approx(realized.value, abs=0.05)


def test_planted_drift_of_the_class_shares_is_an_alert(watched: loader.Project) -> None:
    before, _ = load_window(watched, 0)
    after, _ = load_window(watched, 1)
    statuses = []
    for monitoring in (before, after):
        data = monitoring.drift.data.set_index("column")
        assert data.loc["score", "kind"] == "category"
        statuses.append(data.loc["score", "status"])
    assert statuses == ["none", "alert"]
    verdict = {verdict.check: verdict for verdict in after.verdicts}["score_drift"]
    assert verdict.sentence.startswith("The predicted classes drifted: effect")
    assert set(after.sketches["score"]["bins"]) <= {*CLASSES, "others", "missing"}


def test_planted_performance_drop_opens_an_incident(watched: loader.Project) -> None:
    _, performance = load_window(watched, 2)
    assert performance.realized.to_intervals()["accuracy"].value < 0.2
    assert performance.is_below_estimate
    titles = {record.title for record in list_records(watched, IncidentRecord)}
    assert "Performance below its reference" in titles


def test_probabilities_are_logged_once_per_prediction(watched: loader.Project) -> None:
    for record in list_records(watched, PredictionRecord)[:50]:
        probabilities = json.loads(record.probabilities)
        assert len(probabilities) == len(CLASSES)
        assert record.score == max(probabilities)
        assert record.predicted_class == probabilities.index(record.score)


def test_reference_has_every_metric_of_the_task(project: loader.Project) -> None:
    stage = Stage("review", project, project.reports_folder / RUN_ID, draft=False)
    measured = stage.read("metrics").data["metric"].tolist()
    assert sorted(measured) == sorted(list_task_metrics("multiclass"))
    assert measured[0] == "accuracy"


def test_version_keeps_its_classes(project: loader.Project) -> None:
    assert versions.load_version(project, "1").classes == tuple(CLASSES)
