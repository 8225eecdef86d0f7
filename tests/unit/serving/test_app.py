"""The routes: predictions equal batch scores, errors list all problems, labels are stored once."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from starlette.requests import Request

from mlops_kit.data import labels, source
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.project import loader
from mlops_kit.registry import scoring, store
from mlops_kit.serving import app
from mlops_kit.serving.requests import RequestRefusedError

MAX_ROWS = 50  # in one request of these tests
HISTORY_END = "2024-01-11T04:00:00.000000+00:00"
ROW = {"k": 7, "at": "2024-01-06T00:00", "a": 0.25, "b": 0.5}


def open_client(project: loader.Project) -> Iterator[TestClient]:
    """Start the project's application and wait for the first check of the champion."""
    application = app.build_app(project)
    with TestClient(application, base_url="http://localhost:8000") as client:
        assert application.state.service.follower.champion_checked.wait(120)
        yield client


@pytest.fixture(scope="module")
def client(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of the small project with version 1, with a log of these tests' own."""
    home = shutil.copytree(original, tmp_path_factory.mktemp("app") / "home")
    project = loader.load_project(home)
    yield from open_client(project.with_values("the test", serve={"max_rows": MAX_ROWS}))


@pytest.fixture(scope="module")
def project(client: TestClient) -> loader.Project:
    """The project that the client's application serves."""
    served: loader.Project = client.app.state.service.project  # type: ignore[attr-defined]
    return served


def read_request_rows(project: loader.Project, count: int) -> list[dict[str, Any]]:
    """Rows of the source as a client sends them."""
    frame = source.read_raw_source(project, count)[["k", "at", "a", "b"]]
    rows: list[dict[str, Any]] = json.loads(
        frame.to_json(orient="records", double_precision=15, date_format="iso")
    )
    return rows


def read_log(project: loader.Project, request_id: str | None = None) -> list[PredictionRecord]:
    """The prediction log, of one request or of all."""
    query = sa.select(PredictionRecord)
    if request_id is not None:
        query = query.where(PredictionRecord.request_id == request_id)
    return query_records(project, query)


def read_labels(project: loader.Project) -> list[LabelRecord]:
    return query_records(project, sa.select(LabelRecord))


def test_predictions_equal_batch_scores(client: TestClient, project: loader.Project) -> None:
    rows = read_request_rows(project, 40)
    response = client.post("/predict", json={"rows": rows})
    content = response.json()
    scored = scoring.predict_with_champion(project, pd.DataFrame(rows))
    assert response.status_code == 200
    assert content["model"] == "small"
    assert content["version"] == "1"
    answers = content["predictions"]
    assert [answer["score"] for answer in answers] == scored["score"].tolist()
    assert [float(answer["decision"]) for answer in answers] == scored["decision"].tolist()
    logged_ids = {record.id for record in read_log(project, content["request_id"])}
    assert logged_ids == {answer["prediction_id"] for answer in answers}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is not valid JSON"),
        (b'{"rows": [', 400, "the body is not valid JSON"),
        (b'{"rows": [{"at": "2024-01-06", "a": NaN}]}', 400, "the body is not valid JSON"),
        (b'{"rows": [{"at": "2024-01-06", "a": 1e999}]}', 400, "the body is not valid JSON"),
        (b"[]", 422, "1 problem with the body"),
        (b"{}", 422, "1 problem with the body"),
        (b'{"rows": []}', 422, "1 problem with the body"),
        (b'{"rows": {}}', 422, "1 problem with the body"),
        (b'{"rows": [{"at": "2024-01-06"}], "threshold": 1}', 422, "1 problem with the body"),
        (b'{"rows": [{"at": "2024-01-06"}], "request_id": 7}', 422, "1 problem with the body"),
        (b'{"rows": [{"at": "2024-01-06"}], "request_id": "a b"}', 422, "1 problem with the body"),
        (b'{"rows": [{"k": 99999999999999999999}]}', 422, "4 problems in 1 row"),
        (b'{"rows": [{}]}', 422, "3 problems in 1 row"),
    ],
)
def test_invalid_body_is_refused_with_its_problem(
    client: TestClient, body: bytes, status: int, message: str
) -> None:
    response = client.post("/predict", content=body)
    content = response.json()
    assert response.status_code == status
    assert content["error"].startswith(message)
    if status == 422:
        assert set(content["problems"][0]) == {"row", "field", "code", "got", "expected"}


def test_invalid_rows_are_all_reported_and_none_is_scored(
    client: TestClient, project: loader.Project
) -> None:
    count_before = len(read_log(project))
    rows = [ROW, {**ROW, "a": "0.25"}, {**ROW, "at": None, "c": 1}]
    response = client.post("/predict", json={"rows": rows})
    content = response.json()
    assert response.status_code == 422
    assert content["error"] == "2 problems in 2 rows"
    problems = [(p["row"], p["field"], p["code"], p["got"]) for p in content["problems"]]
    assert problems == [
        (1, "a", "type", "0.25"),
        (2, "at", "missing", None),
    ]
    assert len(read_log(project)) == count_before


def test_unknown_field_is_ignored_noted_and_counted(client: TestClient) -> None:
    expected = client.post("/predict", json={"rows": [ROW]}).json()
    assert expected["notes"] == []
    # The target is a column of the source, and not used.
    response = client.post("/predict", json={"rows": [{**ROW, "colour": "red", "y": 1}]})
    content = response.json()
    assert response.status_code == 200
    assert content["predictions"][0]["score"] == expected["predictions"][0]["score"]
    assert content["notes"] == [
        {
            "row": 0,
            "field": "colour",
            "code": "unknown_field",
            "got": "red",
            "expected": "one of k, at, a, b",
        }
    ]
    client.post("/predict", json={"rows": [{**ROW, "a": "high"}]})
    text = client.get("/metrics").text
    line = 'mlops_contract_violations_total{column="%s",outcome="%s",violation="%s"} '
    assert line % ("", "accepted", "unknown_field") in text
    assert line % ("a", "rejected", "type") in text


def test_too_many_rows_and_too_long_a_body_are_refused(client: TestClient) -> None:
    response = client.post("/predict", json={"rows": [ROW] * (MAX_ROWS + 1)})
    assert response.status_code == 413
    assert response.json()["error"] == "51 rows in one request; expected at most 50"
    too_long = b" " * (app.MAX_BODY_BYTES + 1)
    assert client.post("/predict", content=too_long).status_code == 413


def test_repeated_request_gets_the_same_response_by_body_or_header(
    client: TestClient, project: loader.Project
) -> None:
    first = client.post("/predict", json={"rows": [ROW], "request_id": "r-1"})
    reordered_row = dict(reversed(ROW.items()))
    again = client.post(
        "/predict", json={"rows": [reordered_row]}, headers={"Idempotency-Key": "r-1"}
    )
    assert first.status_code == 200
    assert again.status_code == 200
    assert first.json() == again.json()
    assert len(read_log(project, "r-1")) == 1
    other = client.post("/predict", json={"rows": [{**ROW, "a": 0.5}], "request_id": "r-1"})
    assert other.status_code == 409
    assert other.json()["request_id"] == "r-1"
    empty_key = client.post("/predict", json={"rows": [ROW]}, headers={"Idempotency-Key": ""})
    assert empty_key.status_code == 422


def test_body_that_is_parsed_in_a_thread_is_answered(client: TestClient) -> None:
    padded = json.dumps({"rows": [ROW]}).encode() + b" " * app.MAX_INLINE_BODY_BYTES
    assert client.post("/predict", content=padded).status_code == 200


def send_labels(client: TestClient, *items: Any) -> list[str]:
    """Send labels and return the outcome of each."""
    response = client.post("/feedback", json={"labels": list(items)})
    assert response.status_code == 200, response.text
    content = response.json()
    outcomes = [label["outcome"] for label in content["labels"]]
    assert content["counts"] == {outcome: outcomes.count(outcome) for outcome in outcomes}
    return outcomes


def test_labels_are_joined_repeated_corrected_outdated_or_unknown(
    client: TestClient, project: loader.Project
) -> None:
    [prediction] = client.post("/predict", json={"rows": [ROW]}).json()["predictions"]
    prediction_id = prediction["prediction_id"]
    label = {"prediction_id": prediction_id}
    first = {**label, "value": 1, "known_at": "2024-01-08T00:00Z"}
    assert send_labels(client, first) == ["joined"]
    unknown = {"prediction_id": "nobody", "value": 0}
    assert send_labels(client, {**label, "value": 1}, unknown) == ["repeated", "unknown"]
    earlier = {**label, "value": 0, "known_at": "2024-01-07T00:00"}
    assert send_labels(client, earlier) == ["outdated"]
    later = {**label, "value": 0, "known_at": "2024-01-09T00:00:00-05:00"}
    assert send_labels(client, later, {**label, "value": 0}) == ["corrected", "repeated"]
    [current] = query_records(
        project,
        sa.select(LabelRecord).where(
            LabelRecord.prediction_id == prediction_id, LabelRecord.is_current
        ),
    )
    assert current.value == 0.0
    assert current.known_at == "2024-01-09T05:00:00.000000+00:00"
    assert current.outcome == "corrected"


def test_invalid_labels_are_all_reported_and_none_is_stored(
    client: TestClient, project: loader.Project
) -> None:
    count_before = len(read_labels(project))
    items = [
        {"prediction_id": "fine", "value": 1},
        {"prediction_id": "p", "value": "yes"},
        {"prediction_id": "p", "value": True},
        {"prediction_id": "p", "value": 2},
        {"prediction_id": "p", "value": None},
        {"prediction_id": 5, "value": 1},
        {"value": 1},
        "p",
        {"prediction_id": "p", "value": 1, "known_at": "soon"},
        {"prediction_id": "p", "value": 1, "weight": 2},
    ]
    response = client.post("/feedback", json={"labels": items})
    content = response.json()
    assert response.status_code == 422
    assert content["error"] == "9 problems in 9 labels"
    assert [(p["row"], p["field"], p["code"]) for p in content["problems"]] == [
        (1, "value", "type"),
        (2, "value", "type"),
        (3, "value", "not_allowed"),
        (4, "value", "missing"),
        (5, "prediction_id", "type"),
        (6, "prediction_id", "missing"),
        (7, "", "not_a_row"),
        (8, "known_at", "type"),
        (9, "weight", "unknown_field"),
    ]
    assert content["problems"][2]["expected"] == "one of 0, 1"
    future = {"prediction_id": "p", "value": 1, "known_at": "2199-01-01"}
    refused = client.post("/feedback", json={"labels": [future]})
    assert refused.status_code == 422
    assert refused.json()["problems"][0]["expected"] == "a timestamp that is not in the future"
    assert len(read_labels(project)) == count_before


def test_labels_that_the_database_does_not_store_are_not_acknowledged(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_disk_full(*_: Any) -> list[str]:
        raise sa.exc.OperationalError("INSERT", {}, Exception("disk is full"))

    monkeypatch.setattr(labels, "record_feedback", raise_disk_full)
    response = client.post("/feedback", json={"labels": [{"prediction_id": "p", "value": 1}]})
    assert response.status_code == 503
    assert response.json()["error"] == "the labels were not stored (OperationalError); retry"
    service = client.app.state.service  # type: ignore[attr-defined]
    service.storage.check()
    assert client.get("/health/ready").json()["ready"]


@pytest.mark.parametrize("path", ["/predict", "/feedback"])
def test_body_of_another_content_type_is_refused(client: TestClient, path: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = client.post(path, content=b'{"rows": []}', headers=headers)
    assert response.status_code == 415
    assert "expected application/json" in response.json()["error"]
    accepted = client.post(
        "/predict",
        json={"rows": [ROW]},
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    assert accepted.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"rows": [{"a": 1, "a": 2}]}',
        b'{"rows": [], "rows": []}',
        b'{"request_id": "a\\": 1", "rows": [{"b": 1, "b" : 1}]}',
    ],
)
def test_repeated_keys_are_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/predict", content=body)
    assert response.status_code == 400
    assert "repeats the key" in response.json()["error"]


@pytest.mark.parametrize("depth", [300, 1010, 2000])
def test_deeply_nested_body_is_refused(client: TestClient, depth: int) -> None:
    response = client.post("/predict", content=b'{"rows": ' + b"[" * depth + b"]" * depth + b"}")
    assert response.status_code == 400
    assert "levels" in response.json()["error"] or "depth limit" in response.json()["error"]


def test_text_that_looks_like_a_key_is_none(client: TestClient) -> None:
    response = client.post("/predict", json={"rows": [ROW], "request_id": 'a": 1'})
    assert response.status_code == 422
    assert "repeats" not in response.text


def test_documentation_asks_a_browser_for_the_token(
    served: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a-token-of-24-characters"
    monkeypatch.setenv("SERVE_TOKEN", token)
    project = served.with_values("the test", serve={"token_env": "SERVE_TOKEN"})
    for client in open_client(project):
        refused = client.get("/docs")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        wrong = client.get("/docs", auth=("me", "another-token-of-24-chars"))
        assert wrong.status_code == 401
        page = client.get("/docs", auth=("me", token))
        assert page.status_code == 200
        links = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
        assert links
        assert all(client.get(link, auth=("me", token)).status_code == 200 for link in links)
        assert client.get("/openapi.json", auth=("me", token)).status_code == 200
        # A browser sends a password also with the requests of other sites.
        answer = client.post("/predict", json={"rows": [ROW]}, auth=("me", token))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_body_has_to_arrive_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_BODY_SECONDS", 0.01)

    async def receive_nothing() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("nothing is ever sent")

    request = Request({"type": "http", "method": "POST", "headers": []}, receive_nothing)
    with pytest.raises(RequestRefusedError, match="not received within") as refused:
        asyncio.run(app._read_body(request))
    assert refused.value.status == 408


def test_locked_database_is_told_in_time_and_recovers(copied: loader.Project) -> None:
    for client in open_client(copied):
        assert client.get("/health/ready").status_code == 200
        with closing(sqlite3.connect(copied.resolve_path(".mlops/mlops.db"))) as other:
            other.execute("BEGIN IMMEDIATE")
            start = time.monotonic()
            refused = client.post("/predict", json={"rows": [ROW], "request_id": "again"})
            seconds = time.monotonic() - start
            assert refused.status_code == 503
            assert "database is locked" in refused.json()["error"]
            assert seconds < 2
            readiness = client.get("/health/ready")
            assert readiness.status_code == 503
            assert "database is locked" in readiness.json()["reason"]
            other.rollback()
        client.app.state.service.storage.check()  # type: ignore[attr-defined]
        assert client.get("/health/ready").status_code == 200
        answered = client.post("/predict", json={"rows": [ROW], "request_id": "again"})
        assert answered.status_code == 200


def test_model_names_approval_features_and_schema(client: TestClient) -> None:
    model = client.get("/model").json()
    assert model["version"] == "1"
    assert model["approved_by"] == "the fixture"
    assert model["reason"] == "to begin with"
    assert model["features"] == ["a", "b"]
    assert model["threshold"] == 0.5
    assert len(model["hash"]) == 64
    assert model["history_until"] == HISTORY_END
    assert list(model["schema"]["properties"]) == ["k", "at", "a", "b"]
    assert model["schema"]["required"] == ["at", "a", "b"]


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"live": True}
    assert client.get("/health/ready").json() == {
        "ready": True,
        "model": "small",
        "version": "1",
        "history_until": HISTORY_END,
    }
    client.post("/predict", json={"rows": [ROW, ROW]})
    client.post("/predict", content=b"{")
    text = client.get("/metrics").text
    for line in (
        'mlops_requests_total{route="/predict",status="200"}',
        'mlops_refused_total{reason="invalid JSON"}',
        "mlops_rows_scored_total",
        "mlops_batch_rows_count",
        "mlops_queue_requests 0.0",
        "mlops_loads_failed 0.0",
        "mlops_last_answer_age_seconds 0.",
        'mlops_request_seconds_count{route="/predict"}',
    ):
        assert line in text
    version_line = r'mlops_model_version\{hash="[0-9a-f]{64}",model="small",version="1"\} 1.0'
    assert re.search(version_line, text)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("GET", "/nowhere", 404), ("POST", "/model", 405)],
)
def test_unknown_route_or_method_is_refused_in_the_same_form(
    client: TestClient, method: str, path: str, status: int
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"].startswith(f"{method} {path}: ")


def test_documentation_page_loads_nothing_from_other_hosts(client: TestClient) -> None:
    page = client.get("/docs").text
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert links
    assert all(link.startswith("/") for link in links)
    assert "'validatorUrl': null" in page.replace('"', "'")
    assert all(client.get(link).status_code == 200 for link in links)


def get_request_content(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The description of a route's body."""
    body = document["paths"][path]["post"]["requestBody"]
    content: dict[str, Any] = body["content"]["application/json"]
    return content


def test_published_schema_is_the_validated_one(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    rows = get_request_content(document, "/predict")["schema"]["properties"]["rows"]
    assert rows["items"] == client.get("/model").json()["schema"]
    assert set(document["paths"]) == {
        "/predict",
        "/feedback",
        "/model",
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    items = get_request_content(document, "/feedback")["schema"]["properties"]["labels"]["items"]
    assert items["properties"]["value"]["enum"] == [0, 1]
    assert "security" not in document
    for path in ("/predict", "/feedback"):
        example = get_request_content(document, path)["example"]
        assert client.post(path, json=example).status_code == 200


def test_server_without_a_champion_is_alive_and_not_ready(copied: loader.Project) -> None:
    problem = "newcomer has no champion; expected a run whose review passed and was approved"
    for client in open_client(copied.with_values("the test", name="newcomer")):
        assert client.get("/health/live").status_code == 200
        readiness = client.get("/health/ready")
        assert readiness.status_code == 503
        assert readiness.json()["reason"] == problem
        for response in (client.post("/predict", json={"rows": [ROW]}), client.get("/model")):
            assert response.status_code == 503
            assert response.json()["error"] == f"no version is in service yet: {problem}"
        assert client.get("/openapi.json").status_code == 200


def test_alias_set_in_mlflow_is_reported_and_not_followed(copied: loader.Project) -> None:
    with store.connect_mlflow(copied) as mlflow_client:
        mlflow_client.set_registered_model_alias("small", "champion", "3")
    for client in open_client(copied):
        readiness = client.get("/health/ready")
        assert readiness.status_code == 200
        assert "version 3" in readiness.json()["alias"]
        assert "version 1" in readiness.json()["alias"]
        assert client.post("/predict", json={"rows": [ROW]}).json()["version"] == "1"


def test_configured_token_is_required(
    copied: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a-token-of-some-length"
    monkeypatch.setenv("MODEL_TOKEN", token)
    serve = {"host": "0.0.0.0", "token_env": "MODEL_TOKEN"}
    application = app.build_app(copied.with_values("the test", serve=serve))
    # The client does not start the application: access is checked before that matters.
    client = TestClient(application, base_url="http://models.example")
    assert client.get("/health/live").status_code == 200
    assert client.get("/model").status_code == 401
    assert client.get("/docs").status_code == 401
    authorized = client.get("/openapi.json", headers={"Authorization": f"Bearer {token}"})
    assert authorized.json()["security"] == [{"token": []}]


@pytest.mark.parametrize("topic", ["storage", "load", "source"])
def test_errors_are_quoted_only_to_who_sends_the_token(
    topic: str, copied: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = "a-token-of-some-length"
    monkeypatch.setenv("MODEL_TOKEN", token)
    application = app.build_app(copied.with_values("the test", serve={"token_env": "MODEL_TOKEN"}))
    service = application.state.service
    service.follower.champion_checked.set()
    if topic == "storage":
        service.storage.problem = "no answer from db.example"
    else:
        service.follower.problems[topic] = "no answer from db.example"
    client = TestClient(application, base_url="http://models.example")
    without_token = client.get("/health/ready")
    with_wrong_token = client.get("/health/ready", headers={"Authorization": f"Bearer {token}x"})
    with_token = client.get("/health/ready", headers={"Authorization": f"Bearer {token}"})
    assert without_token.status_code == with_token.status_code == 503
    assert "db.example" not in without_token.text + with_wrong_token.text
    assert "see the log of the server" in without_token.text
    assert "no answer from db.example" in with_token.text


def test_endpoint_works_behind_a_path_prefix(copied: loader.Project) -> None:
    project = copied.with_values("the test", serve={"root_path": "churn-api/"})
    assert project.config.serve.root_path == "/churn-api"
    for client in open_client(project):
        # A proxy removes the prefix, or it does not.
        for prefix in ("", "/churn-api"):
            page = client.get(f"{prefix}/docs").text
            links = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
            assert links
            assert all(link.startswith("/churn-api/") for link in links)
            for link in links:
                assert client.get(link).status_code == 200
                # What the server is asked for by a proxy that removes the prefix.
                assert client.get(link.removeprefix("/churn-api")).status_code == 200
            assert "'/churn-api/openapi.json'" in page.replace('"', "'")
            document = client.get(f"{prefix}/openapi.json").json()
            assert document["servers"] == [{"url": "/churn-api"}]
            response = client.post(f"{prefix}/predict", json={"rows": [ROW]})
            assert response.status_code == 200
        metrics = client.get("/churn-api/metrics").text
        assert 'mlops_requests_total{route="/predict",status="200"} 2.0' in metrics
