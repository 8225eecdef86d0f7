"""Projects of 3, 7 and 26 classes: review, endpoint, batch and watch, without notebooks."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from sklearn import metrics as sklearn_metrics
from sklearn.linear_model import LogisticRegression

from mlops_kit.dashboards import review_tabs
from mlops_kit.dashboards.review_context import ReviewContext
from mlops_kit.dashboards.stored_reviews import StoredReview
from mlops_kit.data import contract, contract_inference, source, target
from mlops_kit.db import predictions
from mlops_kit.db.tables import IncidentRecord, LabelRecord, PredictionRecord, WindowRecord
from mlops_kit.project import loader
from mlops_kit.registry import scoring, versions
from mlops_kit.serving import app
from mlops_kit.stages.review import (
    evaluate_classes,
    evaluate_decisions,
    evaluate_performance,
)
from mlops_kit.stages.stage import Stage
from mlops_kit.stages.train.fitting import score_held_out_rows
from mlops_kit.stats.metrics import list_task_metrics
from mlops_kit.watch import loop
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from tests.support.mlflow_stores import write_empty_store
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
FEATURES = ["a", "b", "c", "d"]
ROWS_PER_DAY = 60
TEST_DAYS = 10
DRIFT_DAY = 37  # from this day on a quarter of the classes is absent, until then all are frequent
DROP_DAY = 44  # from this day on each class has the name of the next one


class FittedProject(NamedTuple):
    """A project with version 1 as the champion, its model and the held-out rows."""

    project: loader.Project
    model: LogisticRegression
    held_out: pd.DataFrame


def make_rows(class_names: list[str]) -> pd.DataFrame:
    """Make rows of some classes for 58 days."""
    rng = np.random.default_rng(0)
    count = len(class_names)
    day = np.repeat(np.arange(58), ROWS_PER_DAY)
    codes = rng.integers(0, count, len(day))
    has_drifted = day >= DRIFT_DAY
    codes = np.where(has_drifted & (codes >= count - max(1, count // 4)), 0, codes)
    centers = rng.normal(0, 2.5, (count, len(FEATURES)))
    values = centers[codes] + rng.normal(0, 1, (len(day), len(FEATURES)))
    minutes = np.arange(len(day)) * (1440 / ROWS_PER_DAY)
    named = np.where(day >= DROP_DAY, (codes + 1) % count, codes)
    frame = pd.DataFrame(values, columns=FEATURES)
    frame.insert(0, "at", pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, unit="min"))
    frame.insert(0, "k", np.arange(len(day)))
    return frame.assign(kind=np.array(class_names)[named])


@pytest.fixture(scope="module", params=[3, 7, 26])
def class_names(request: pytest.FixtureRequest) -> list[str]:
    """The names of the classes."""
    return [f"type {letter}" for letter in string.ascii_uppercase[: request.param]]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, class_names: list[str]) -> FittedProject:
    """A project with version 1 as the champion."""
    home = tmp_path_factory.mktemp("multiclass")
    write_empty_store(home)
    (home / "mlops.yaml").write_text(YAML)
    make_rows(class_names).to_csv(home / "t.csv", index=False)
    opened = loader.load_project(home)
    known = source.read_source(opened, opened.config.to_utc(opened.config.as_of))
    contract.save_contract(
        home / "contract.yaml", contract_inference.infer_contract(known, opened.config)
    )
    encoded, _ = target.encode_target(known, opened.config, target.list_classes(opened))
    is_newest = encoded["at"] >= encoded["at"].max() - pd.Timedelta(days=TEST_DAYS)
    labeled = encoded.assign(part=np.where(is_newest, "test", "train"))
    labeled = labeled[labeled["kind"].notna()].reset_index(drop=True)
    train = labeled[labeled["part"] == "train"]
    model = LogisticRegression(max_iter=1000).fit(train[FEATURES], train["kind"].astype(int))
    scores = score_held_out_rows({"score": model}, labeled, FEATURES, opened.config)
    stage = Stage("review", opened, opened.reports_folder / RUN_ID, draft=False)
    stage.write("features", labeled)
    stage.write("held_out_scores", scores)
    stage.write("metrics", evaluate_performance(scores, opened.config, 100))
    for name, table in evaluate_classes(scores, opened.config, class_names).items():
        stage.write(name, table)
    stage.write("costs", evaluate_decisions(scores, opened.config, None, class_names))
    register_champion(opened, model, train[FEATURES], None, classes=json.dumps(class_names))
    return FittedProject(opened, model, labeled[labeled["part"] == "test"])


@pytest.fixture(scope="module")
def project(fitted: FittedProject) -> loader.Project:
    """The project with version 1 as the champion."""
    return fitted.project


@pytest.fixture(scope="module")
def client(project: loader.Project) -> Iterator[TestClient]:
    """A client of the project's endpoint."""
    application = app.build_app(project)
    with TestClient(application, base_url="http://localhost:8000") as opened:
        assert application.state.service.follower.champion_checked.wait(120)
        yield opened


@pytest.fixture(scope="module")
def watched(project: loader.Project, client: TestClient, class_names: list[str]) -> loader.Project:
    """The project after four weeks of the watch; the endpoint was asked before."""
    ask_endpoint(client, class_names)
    until = project.parse_utc_timestamp("2024-02-27", "the test's end")
    loop.replay_period(project, None, until, lambda text, transient=False: None)
    return project


def ask_endpoint(client: TestClient, class_names: list[str]) -> dict[str, Any]:
    """Ask for the predictions of three rows, always under the same id."""
    frame = (
        make_rows(class_names)
        .iloc[-3:]
        .assign(at=lambda rows: rows["at"].dt.strftime("%Y-%m-%dT%H:%M"))
    )
    rows = frame.drop(columns="kind").to_dict("records")
    response = client.post("/predict", json={"rows": rows, "request_id": "same"})
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def test_response_has_the_class_and_the_probability_of_each_class(
    client: TestClient, fitted: FittedProject, class_names: list[str]
) -> None:
    content = ask_endpoint(client, class_names)
    rows = make_rows(class_names).iloc[-3:].drop(columns="kind")
    scored = scoring.predict_with_champion(fitted.project, rows)
    probabilities = fitted.model.predict_proba(rows[FEATURES])
    for answer, expected in zip(content["predictions"], scored.to_dict("records"), strict=True):
        assert answer["class"] == expected["class"]
        assert answer["decision"] is None
        assert list(answer["probabilities"]) == class_names
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["score"] == max(answer["probabilities"].values())
        assert answer["probabilities"][answer["class"]] == answer["score"]
        for name in class_names:
            assert answer["probabilities"][name] == expected[f"probability {name}"]
    answered = [list(answer["probabilities"].values()) for answer in content["predictions"]]
    np.testing.assert_allclose(answered, probabilities, rtol=1e-9)
    assert ask_endpoint(client, class_names) == content  # answered from the log


def test_response_matches_the_openapi_document(client: TestClient, class_names: list[str]) -> None:
    document = client.get("/openapi.json").json()
    response = document["paths"]["/predict"]["post"]["responses"]["200"]
    schema = response["content"]["application/json"]["schema"]
    Draft202012Validator(schema).validate(ask_endpoint(client, class_names))
    prediction = schema["properties"]["predictions"]["items"]["properties"]
    assert prediction["class"]["enum"] == [*class_names, None]
    assert prediction["score"]["description"] == "Probability of the predicted class"
    facts = client.get("/model").json()
    assert facts["classes"] == class_names
    assert facts["positive_class"] is None


def test_label_is_one_of_the_classes(
    client: TestClient, project: loader.Project, class_names: list[str]
) -> None:
    prediction_id = ask_endpoint(client, class_names)["predictions"][0]["prediction_id"]
    wrong = client.post(
        "/feedback", json={"labels": [{"prediction_id": prediction_id, "value": "type 1"}]}
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


def test_figures_of_a_window_equal_those_of_scikit_learn(
    watched: loader.Project, class_names: list[str]
) -> None:
    window = list_records(watched, WindowRecord)[0]
    start, end = (pd.Timestamp(text).to_pydatetime() for text in (window.start, window.end))
    rows = predictions.load_labeled_predictions(watched, start, end)
    monitoring, performance = load_window(watched, 0)
    realized = performance.realized.to_intervals()
    scores = np.array(rows["score"].tolist())
    labels = rows["raw_label"].map(class_names.index)
    assert monitoring.rows == len(rows) == 7 * ROWS_PER_DAY
    assert rows["label"].tolist() == labels.tolist()
    assert realized["accuracy"].value == pytest.approx(
        sklearn_metrics.accuracy_score(labels, scores.argmax(axis=1))
    )
    assert realized["multiclass_log_loss"].value == pytest.approx(
        sklearn_metrics.log_loss(labels, scores, labels=range(len(class_names)))
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


def test_planted_drift_of_the_class_shares_is_an_alert(
    watched: loader.Project, class_names: list[str]
) -> None:
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
    assert set(after.sketches["score"]["bins"]) <= {*class_names, "others", "missing"}


def test_planted_performance_drop_opens_an_incident(watched: loader.Project) -> None:
    _, performance = load_window(watched, 2)
    assert performance.realized.to_intervals()["accuracy"].value < 0.2
    assert performance.is_below_estimate
    titles = {record.title for record in list_records(watched, IncidentRecord)}
    assert "Performance below its reference" in titles


def test_probabilities_are_logged_once_per_prediction(
    watched: loader.Project, class_names: list[str]
) -> None:
    for record in list_records(watched, PredictionRecord)[:50]:
        probabilities = json.loads(record.probabilities)
        assert len(probabilities) == len(class_names)
        assert record.score == max(probabilities)
        assert record.predicted_class == probabilities.index(record.score)


def test_reference_has_every_metric_of_the_task(project: loader.Project) -> None:
    stage = Stage("review", project, project.reports_folder / RUN_ID, draft=False)
    measured = stage.read("metrics").data["metric"].tolist()
    assert sorted(measured) == sorted(list_task_metrics("multiclass"))
    assert measured[0] == "accuracy"


def test_version_keeps_its_classes(project: loader.Project, class_names: list[str]) -> None:
    assert versions.load_version(project, "1").classes == tuple(class_names)


def test_figures_of_the_review_equal_those_of_scikit_learn(
    fitted: FittedProject, class_names: list[str]
) -> None:
    review = Stage("review", fitted.project, fitted.project.reports_folder / RUN_ID, draft=False)
    labels = fitted.held_out["kind"].astype(int)
    probabilities = fitted.model.predict_proba(fitted.held_out[FEATURES])
    codes = probabilities.argmax(axis=1)
    measured = review.read("metrics").data.set_index("metric")["value"]
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, codes),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, codes),
        "f1_macro": sklearn_metrics.f1_score(labels, codes, average="macro"),
        "multiclass_log_loss": sklearn_metrics.log_loss(labels, probabilities),
    }
    for metric, value in expected.items():
        assert measured[metric] == pytest.approx(value), metric
    confusion = review.read("confusion").data.pivot(
        index="true class", columns="predicted class", values="rows"
    )
    counts = sklearn_metrics.confusion_matrix(labels, codes)
    assert confusion.loc[class_names, class_names].to_numpy().tolist() == counts.tolist()
    by_class = review.read("costs").data.set_index("class").loc[class_names]
    report = sklearn_metrics.precision_recall_fscore_support(labels, codes, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), report[:3], strict=True):
        np.testing.assert_allclose(by_class[name], values, rtol=1e-9)


def test_review_page_draws_the_confusion_matrix(project: loader.Project) -> None:
    review = StoredReview(project, "1", project.reports_folder / RUN_ID)
    card = review_tabs.build_quality_tab(
        ReviewContext(project, None, (review,), review, None, (), ())
    )
    cells = review.read_table("confusion").data
    drawn = cells[(cells["rows"] > 0) | (cells["true class"] == cells["predicted class"])]
    assert len(re.findall(r"<title>type \w predicted as type \w: ", card)) == len(drawn)
    assert ('role="img" aria-label="Confusion matrix. ') in card
