"""The routes: predictions equal to the batch's, mistakes in words, labels filed once, what serves and how it is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from mlops_kit.data import labels, source
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.project import loader
from mlops_kit.registry import scoring, store
from mlops_kit.serving import app

LIMIT = 50  # rows in one request of these tests


def asking(project: loader.Project) -> Iterator[TestClient]:
    """A client of the project's application, once a version serves or cannot."""
    built = app.build_app(project)
    with TestClient(built, base_url="http://localhost:8000") as client:
        assert built.state.service.follower.looked.wait(120)
        yield client


@pytest.fixture(scope="module")
def client(original: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of the small project with version 1, with a log of these tests' own."""
    home = shutil.copytree(original, tmp_path_factory.mktemp("app") / "home")
    yield from asking(loader.load_project(home).with_values("the test", serve={"max_rows": LIMIT}))


@pytest.fixture(scope="module")
def project(client: TestClient) -> loader.Project:
    """The project that answers."""
    found: loader.Project = client.app.state.service.project  # type: ignore[attr-defined]
    return found


def brought(project: loader.Project, count: int) -> list[dict[str, Any]]:
    """Rows of the source as an asker has them."""
    frame = source.read_raw_source(project, count)[["k", "at", "a", "b"]]
    found: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return found


ROW = {"k": 7, "at": "2024-01-06T00:00", "a": 0.25, "b": 0.5}


def test_predictions_are_those_of_the_batch(client: TestClient, project: loader.Project) -> None:
    asked = brought(project, 40)
    answer = client.post("/predict", json={"rows": asked})
    found = answer.json()
    whole = scoring.predict_with_champion(project, pd.DataFrame(asked))
    assert answer.status_code == 200
    assert (found["model"], found["version"]) == ("small", "1")
    assert [p["score"] for p in found["predictions"]] == whole["score"].tolist()
    assert [float(p["decision"]) for p in found["predictions"]] == whole["decision"].tolist()
    held = {
        p.id
        for p in query_records(
            project,
            sa.select(PredictionRecord).where(PredictionRecord.request_id == found["request_id"]),
        )
    }
    assert held == {p["prediction_id"] for p in found["predictions"]}


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 400, "the body is no JSON"),
        (b'{"rows": [', 400, "the body is no JSON"),
        (b'{"rows": [{"at": "2024-01-06", "a": NaN}]}', 400, "the body is no JSON"),
        (b'{"rows": [{"at": "2024-01-06", "a": 1e999}]}', 400, "the body is no JSON"),
        (b"[]", 422, "1 thing is wrong with the body"),
        (b"{}", 422, "1 thing is wrong with the body"),
        (b'{"rows": []}', 422, "1 thing is wrong with the body"),
        (b'{"rows": {}}', 422, "1 thing is wrong with the body"),
        (
            b'{"rows": [{"at": "2024-01-06"}], "threshold": 1}',
            422,
            "1 thing is wrong with the body",
        ),
        (
            b'{"rows": [{"at": "2024-01-06"}], "request_id": 7}',
            422,
            "1 thing is wrong with the body",
        ),
        (
            b'{"rows": [{"at": "2024-01-06"}], "request_id": "a b"}',
            422,
            "1 thing is wrong with the body",
        ),
        (
            b'{"rows": [{"at": "2024-01-06", "k": 99999999999999999999}]}',
            422,
            "1 thing is wrong in 1 row",
        ),
    ],
)
def test_a_body_that_is_none_is_refused_in_words(
    client: TestClient, body: bytes, status: int, told: str
) -> None:
    answer = client.post("/predict", content=body)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(told)
    assert status != 422 or set(answer.json()["problems"][0]) == {
        "row",
        "field",
        "code",
        "got",
        "expected",
    }


def test_wrong_rows_are_told_all_at_once_and_nothing_is_scored(
    client: TestClient, project: loader.Project
) -> None:
    before = len(query_records(project, sa.select(PredictionRecord)))
    answer = client.post(
        "/predict", json={"rows": [ROW, {**ROW, "a": "0.25"}, {**ROW, "at": None, "c": 1}]}
    )
    assert answer.status_code == 422
    assert answer.json()["error"] == "3 things are wrong in 2 rows"
    assert [(p["row"], p["field"], p["code"], p["got"]) for p in answer.json()["problems"]] == [
        (1, "a", "type", "0.25"),
        (2, "c", "unknown_field", 1),
        (2, "at", "missing", None),
    ]
    assert len(query_records(project, sa.select(PredictionRecord))) == before


def test_too_many_rows_and_too_long_a_body_are_refused(client: TestClient) -> None:
    answer = client.post("/predict", json={"rows": [ROW] * (LIMIT + 1)})
    assert answer.status_code == 413
    assert answer.json()["error"] == "51 rows in one request; expected at most 50"
    assert client.post("/predict", content=b" " * (app.MAX_BODY_BYTES + 1)).status_code == 413


def test_a_request_asked_again_is_answered_as_before_by_body_or_header(
    client: TestClient, project: loader.Project
) -> None:
    first = client.post("/predict", json={"rows": [ROW], "request_id": "r-1"})
    again = client.post(
        "/predict", json={"rows": [dict(reversed(ROW.items()))]}, headers={"Idempotency-Key": "r-1"}
    )
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert (
        len(
            query_records(
                project, sa.select(PredictionRecord).where(PredictionRecord.request_id == "r-1")
            )
        )
        == 1
    )
    other = client.post("/predict", json={"rows": [{**ROW, "a": 0.5}], "request_id": "r-1"})
    assert other.status_code == 409
    assert other.json()["request_id"] == "r-1"
    assert (
        client.post("/predict", json={"rows": [ROW]}, headers={"Idempotency-Key": ""}).status_code
        == 422
    )


def test_a_body_too_long_to_be_read_at_once_is_answered_too(client: TestClient) -> None:
    padded = json.dumps({"rows": [ROW]}).encode() + b" " * app.MAX_INLINE_BODY_BYTES
    assert client.post("/predict", content=padded).status_code == 200


def labelled(client: TestClient, *said: Any) -> list[str]:
    """What was made of labels."""
    answer = client.post("/feedback", json={"labels": list(said)})
    assert answer.status_code == 200, answer.text
    words = [w["word"] for w in answer.json()["labels"]]
    assert answer.json()["counts"] == {w: words.count(w) for w in words}
    return words


def test_labels_are_joined_repeated_corrected_outdated_or_unknown(
    client: TestClient, project: loader.Project
) -> None:
    [made] = client.post("/predict", json={"rows": [ROW]}).json()["predictions"]
    name = made["prediction_id"]
    assert labelled(
        client, {"prediction_id": name, "value": 1, "known_at": "2024-01-08T00:00Z"}
    ) == ["joined"]
    assert labelled(
        client, {"prediction_id": name, "value": 1}, {"prediction_id": "nobody", "value": 0}
    ) == ["repeated", "unknown"]
    assert labelled(
        client, {"prediction_id": name, "value": 0, "known_at": "2024-01-07T00:00"}
    ) == ["outdated"]
    assert labelled(
        client,
        {"prediction_id": name, "value": 0, "known_at": "2024-01-09T00:00:00-05:00"},
        {"prediction_id": name, "value": 0},
    ) == ["corrected", "repeated"]
    [counted] = query_records(
        project,
        sa.select(LabelRecord).where(LabelRecord.prediction_id == name, LabelRecord.is_current),
    )
    assert (counted.value, counted.known, counted.word) == (
        0.0,
        "2024-01-09T05:00:00.000000+00:00",
        "corrected",
    )


def test_labels_of_a_wrong_type_are_told_all_at_once_and_none_is_stored(
    client: TestClient, project: loader.Project
) -> None:
    before = len(query_records(project, sa.select(LabelRecord)))
    said = [
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
    answer = client.post("/feedback", json={"labels": said})
    assert answer.status_code == 422
    assert answer.json()["error"] == "9 things are wrong in 9 labels"
    assert [(p["row"], p["field"], p["code"]) for p in answer.json()["problems"]] == [
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
    assert answer.json()["problems"][2]["expected"] == "one of 0, 1"
    ahead = client.post(
        "/feedback", json={"labels": [{"prediction_id": "p", "value": 1, "known_at": "2199-01-01"}]}
    )
    assert ahead.status_code == 422
    assert ahead.json()["problems"][0]["expected"] == "a moment that has come"
    assert len(query_records(project, sa.select(LabelRecord))) == before


def test_labels_that_the_database_does_not_take_are_not_acknowledged(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> list[str]:
        raise sa.exc.OperationalError("INSERT", {}, Exception("disk is full"))

    monkeypatch.setattr(labels, "record_feedback", full)
    answer = client.post("/feedback", json={"labels": [{"prediction_id": "p", "value": 1}]})
    assert answer.status_code == 503
    assert (
        answer.json()["error"] == "the labels were not stored (OperationalError); send them again"
    )


def test_the_model_is_told_with_who_approved_it_and_what_a_row_holds(client: TestClient) -> None:
    found = client.get("/model").json()
    assert (
        found["version"],
        found["approved_by"],
        found["why"],
        found["features"],
        found["threshold"],
    ) == ("1", "the fixture", "to begin with", ["a", "b"], 0.5)
    assert len(found["hash"]) == 64
    assert found["history_until"] == "2024-01-11T04:00:00.000000+00:00"
    assert list(found["schema"]["properties"]) == ["k", "at", "a", "b"]
    assert found["schema"]["required"] == ["at"]


def test_it_is_alive_and_ready_and_counts(client: TestClient) -> None:
    assert client.get("/health/live").json() == {"live": True}
    assert client.get("/health/ready").json() == {
        "ready": True,
        "model": "small",
        "version": "1",
        "history_until": "2024-01-11T04:00:00.000000+00:00",
    }
    client.post("/predict", json={"rows": [ROW, ROW]})
    client.post("/predict", content=b"{")
    text = client.get("/metrics").text
    for line in (
        'mlops_requests_total{route="/predict",status="200"}',
        'mlops_refused_total{why="no JSON"}',
        "mlops_rows_scored_total",
        "mlops_batch_rows_count",
        "mlops_queue_requests 0.0",
        "mlops_loads_failed 0.0",
        "mlops_last_answer_age_seconds 0.",
        'mlops_request_seconds_count{route="/predict"}',
    ):
        assert line in text
    assert re.search(
        r'mlops_model_version\{hash="[0-9a-f]{64}",model="small",version="1"\} 1.0', text
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("GET", "/nowhere", 404), ("POST", "/model", 405)],
)
def test_what_there_is_not_is_said_in_the_same_form(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(f"{method} {path}: ")


def test_the_documentation_asks_no_other_host(client: TestClient) -> None:
    page = client.get("/docs").text
    asked = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert asked
    assert not [a for a in asked if not a.startswith("/")]
    assert "'validatorUrl': null" in page.replace('"', "'")
    assert all(client.get(a).status_code == 200 for a in asked)


def test_the_published_row_is_the_one_that_is_checked(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    asked = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    assert asked["properties"]["rows"]["items"] == client.get("/model").json()["schema"]
    assert set(described["paths"]) == {
        "/predict",
        "/feedback",
        "/model",
        "/health/live",
        "/health/ready",
        "/metrics",
    }
    value = described["paths"]["/feedback"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]["properties"]["labels"]["items"]["properties"]["value"]
    assert value["enum"] == [0, 1]
    assert "security" not in described
    for path in ("/predict", "/feedback"):  # what one is offered to try out is answered
        example = described["paths"][path]["post"]["requestBody"]["content"]["application/json"][
            "example"
        ]
        assert client.post(path, json=example).status_code == 200


def test_without_a_version_it_lives_and_is_not_ready(copied: loader.Project) -> None:
    for client in asking(copied.with_values("the test", name="newcomer")):
        assert client.get("/health/live").status_code == 200
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert (
            ready.json()["why"]
            == "newcomer has no champion; expected a run whose review passed and was approved"
        )
        for answer in (client.post("/predict", json={"rows": [ROW]}), client.get("/model")):
            assert answer.status_code == 503
            assert answer.json()["error"].startswith(
                "no version serves yet: newcomer has no champion"
            )
        assert client.get("/openapi.json").status_code == 200


def test_an_alias_moved_by_hand_is_said_and_not_followed(copied: loader.Project) -> None:
    with store.connect_mlflow(copied) as client:
        client.set_registered_model_alias("small", "champion", "3")
    for asked in asking(copied):
        ready = asked.get("/health/ready")
        assert ready.status_code == 200
        assert (
            ready.json()["alias"] == "points to version 3, which nobody approved; version 1 serves"
        )
        assert asked.post("/predict", json={"rows": [ROW]}).json()["version"] == "1"


def test_with_a_token_it_is_asked_for(
    copied: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASK", "a-token-of-some-length")
    built = app.build_app(
        copied.with_values("the test", serve={"host": "0.0.0.0", "token_env": "ASK"})
    )
    client = TestClient(
        built, base_url="http://models.example"
    )  # not started: the doors are shut before
    assert client.get("/health/live").status_code == 200
    assert client.get("/model").status_code == client.get("/docs").status_code == 401
    assert client.get(
        "/openapi.json", headers={"Authorization": "Bearer a-token-of-some-length"}
    ).json()["security"] == [{"token": []}]
