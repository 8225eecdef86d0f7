"""The batcher: requests are scored together, stored before the response, answered once per id."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from mlops_kit.data import source
from mlops_kit.db import approvals, predictions
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import PredictionRecord, PromotionRecord
from mlops_kit.project import loader
from mlops_kit.registry import scoring, versions
from mlops_kit.serving import champion_follower, request_schema
from mlops_kit.serving.batcher import Batcher
from mlops_kit.serving.requests import PredictionRequest, RequestRefusedError
from mlops_kit.serving.storage_check import StorageCheck

TIMEOUT_SECONDS = 120
Served = tuple[champion_follower.ServedVersion, pd.DataFrame]


@pytest.fixture(scope="session")
def served_with_history(original: Any) -> Served:
    """The served version and the history, as the follower provides them."""
    project = loader.load_project(original)
    champion, model = versions.load_champion(project)
    history = source.read_source(project)
    promotion = approvals.get_current_promotion(project)
    assert promotion is not None
    served = champion_follower.ServedVersion(
        promotion=promotion,
        facts=champion,
        model=model,
        schema=request_schema.compile_request_schema(project, history),
        reference_performance=[],
        serving_since="",
    )
    return served, history


class PausableBatcher(Batcher):
    """A batcher that scores only while ``may_score`` is set.

    ``is_scoring`` is set once a batch was taken; ``batch_rows`` are the sizes of the batches.
    """

    def __init__(self, project: loader.Project, served_with_history: Served | None) -> None:
        self.may_score = threading.Event()
        self.is_scoring = threading.Event()
        self.served_with_history = served_with_history
        self.batch_rows: list[int] = []
        storage = StorageCheck(project)
        super().__init__(project, storage, self.wait_and_get_served, self.batch_rows.append)

    def wait_and_get_served(self) -> Served | None:
        self.is_scoring.set()
        assert self.may_score.wait(TIMEOUT_SECONDS)
        return self.served_with_history

    def submit_hours(
        self, request_id: str = "", count: int = 1, first: int = 0
    ) -> Future[dict[str, Any]]:
        """Request predictions for some hours; without an id as a client that gives none."""
        rows = [
            {"k": hour, "at": f"2024-01-06T{hour % 24:02}:00", "a": hour / 10, "b": 0.5}
            for hour in range(first, first + count)
        ]
        generated_id = f"r{len(self.queue)}-{first}-{count}"
        request = PredictionRequest(
            self.project, rows, request_id or generated_id, may_be_repeat=bool(request_id)
        )
        return self.submit_request(request)


@pytest.fixture
def batcher(copied: loader.Project, served_with_history: Served) -> Iterator[PausableBatcher]:
    """A running batcher on a project of the test's own."""
    running = PausableBatcher(copied, served_with_history)
    running.thread.start()
    running.may_score.set()
    yield running
    running.may_score.set()
    running.close()


def pause_while_scoring(batcher: PausableBatcher) -> Future[dict[str, Any]]:
    """Stop the batcher while it scores a first request; return that request's response."""
    batcher.may_score.clear()
    response = batcher.submit_hours()
    assert batcher.is_scoring.wait(TIMEOUT_SECONDS)
    return response


def read_log(project: loader.Project) -> list[PredictionRecord]:
    order = (PredictionRecord.scored_at, PredictionRecord.row_key)
    return query_records(project, sa.select(PredictionRecord).order_by(*order))


def list_logged_requests(project: loader.Project) -> list[str]:
    return [record.request_id for record in read_log(project)]


def count_predictions(responses: list[Future[dict[str, Any]]]) -> list[int]:
    return [len(response.result(TIMEOUT_SECONDS)["predictions"]) for response in responses]


def test_predictions_equal_batch_scores_and_are_logged(
    batcher: PausableBatcher, served_with_history: Served
) -> None:
    served, history = served_with_history
    response = batcher.submit_hours("mine", count=3).result(TIMEOUT_SECONDS)
    rows = pd.DataFrame(
        {
            "k": range(3),
            "at": pd.to_datetime([f"2024-01-06T0{h}:00-05:00" for h in range(3)], utc=True),
            "a": [0.0, 0.1, 0.2],
            "b": 0.5,
        }
    )
    scored, _ = scoring.score_with_inputs(
        batcher.project, served.model, served.facts, rows, history
    )
    expected_scores = scored["score"].tolist()
    answers = response["predictions"]
    assert [answer["score"] for answer in answers] == expected_scores
    assert response["request_id"] == "mine"
    assert response["model"] == "small"
    assert response["version"] == "1"
    for answer in answers:
        assert answer["decision"] == (answer["score"] >= 0.5)
        assert answer["class"] == int(answer["decision"])
    records = {record.id: record for record in read_log(batcher.project)}
    logged_scores = [records[answer["prediction_id"]].score for answer in answers]
    assert logged_scores == expected_scores
    first = records[answers[0]["prediction_id"]]
    assert first.row_key == '["0"]'
    assert first.event_time == "2024-01-06T05:00:00.000000+00:00"
    assert first.request_id == "mine"
    assert first.origin == "endpoint"
    assert json.loads(first.features) == [0.0, 0.5]


def test_requests_that_arrive_while_scoring_are_one_batch(batcher: PausableBatcher) -> None:
    first = pause_while_scoring(batcher)
    others = [batcher.submit_hours(count=2, first=hour) for hour in range(4)]
    batcher.may_score.set()
    assert count_predictions([first, *others]) == [1, 2, 2, 2, 2]
    assert batcher.batch_rows == [1, 8]


def test_batch_size_is_limited_and_a_larger_request_is_its_own_batch(
    copied: loader.Project, served_with_history: Served
) -> None:
    project = copied.with_values("the test", serve={"max_batch_rows": 5})
    batcher = PausableBatcher(project, served_with_history)
    responses = [batcher.submit_hours(count=n, first=n) for n in (2, 3, 1, 9, 4)]
    batcher.thread.start()
    batcher.may_score.set()
    assert count_predictions(responses) == [2, 3, 1, 9, 4]
    assert batcher.batch_rows == [5, 1, 9, 4]
    batcher.close()


def test_full_queue_refuses_at_once(copied: loader.Project, served_with_history: Served) -> None:
    project = copied.with_values("the test", serve={"max_waiting_requests": 2})
    batcher = PausableBatcher(project, served_with_history)
    first = batcher.submit_hours()
    second = batcher.submit_hours()
    with pytest.raises(RequestRefusedError, match="the queue is full \\(2 requests\\)") as refused:
        batcher.submit_hours("third")
    assert refused.value.status == 429
    assert refused.value.body["request_id"] == "third"
    batcher.thread.start()
    batcher.may_score.set()
    assert first.result(TIMEOUT_SECONDS)
    assert second.result(TIMEOUT_SECONDS)
    batcher.close()


def test_repeated_request_is_answered_from_the_log_with_its_first_version(
    batcher: PausableBatcher, served_with_history: Served
) -> None:
    first = batcher.submit_hours("again", count=2).result(TIMEOUT_SECONDS)
    served, history = served_with_history
    promotion = PromotionRecord("small", 2, "2", "h", "e", "1", "me", "why", "now")
    newer = champion_follower.ServedVersion(
        promotion=promotion,
        facts=replace(served.facts, version="2", threshold=2.0),
        model=served.model,
        schema=served.schema,
        reference_performance=[],
        serving_since="",
    )
    batcher.served_with_history = (newer, history)
    assert batcher.submit_hours("again", count=2).result(TIMEOUT_SECONDS) == first
    other = batcher.submit_hours("another", count=2).result(TIMEOUT_SECONDS)
    assert other["version"] == "2"
    assert [answer["decision"] for answer in other["predictions"]] == [False, False]
    assert len(read_log(batcher.project)) == 4


def test_id_reused_for_other_rows_is_refused(batcher: PausableBatcher) -> None:
    batcher.submit_hours("one").result(TIMEOUT_SECONDS)
    message = "the request_id 'one' was used for other rows"
    with pytest.raises(RequestRefusedError, match=message) as refused:
        batcher.submit_hours("one", first=5).result(TIMEOUT_SECONDS)
    assert refused.value.status == 409
    assert len(read_log(batcher.project)) == 1


def test_id_sent_twice_in_one_batch_is_scored_once(batcher: PausableBatcher) -> None:
    first = pause_while_scoring(batcher)
    same = [batcher.submit_hours("same") for _ in range(2)]
    other_rows = batcher.submit_hours("same", first=7)
    batcher.may_score.set()
    assert same[0].result(TIMEOUT_SECONDS) == same[1].result(TIMEOUT_SECONDS)
    assert first.result(TIMEOUT_SECONDS)
    with pytest.raises(RequestRefusedError, match="was used for other rows"):
        other_rows.result(TIMEOUT_SECONDS)
    assert list_logged_requests(batcher.project).count("same") == 1


def test_response_logged_by_another_server_is_returned(batcher: PausableBatcher) -> None:
    first = batcher.submit_hours("shared").result(TIMEOUT_SECONDS)
    with open_transaction(batcher.project) as session:
        session.execute(sa.update(PredictionRecord).values(version="7", score=0.25))
    rows = [{"k": 0, "at": "2024-01-06T00:00", "a": 0.0, "b": 0.5}]
    # ``may_be_repeat=False``: as if the log had not held the row when it was first searched.
    request = PredictionRequest(batcher.project, rows, "shared", may_be_repeat=False)
    response = batcher.submit_request(request).result(TIMEOUT_SECONDS)
    assert (response["version"], response["predictions"][0]["score"]) == ("7", 0.25)
    assert response["predictions"][0]["class"] is None  # version 7 is not in the registry
    assert (first["version"], first["predictions"][0]["score"]) != ("7", 0.25)


def test_response_that_cannot_be_logged_is_not_sent(
    batcher: PausableBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_disk_full(*_: Any) -> int:
        raise sa.exc.OperationalError("INSERT", {}, Exception("disk is full"))

    with monkeypatch.context() as patched:
        patched.setattr(predictions, "insert_predictions", raise_disk_full)
        with pytest.raises(RequestRefusedError, match="retry with this request_id") as refused:
            batcher.submit_hours("lost").result(TIMEOUT_SECONDS)
    assert refused.value.status == 503
    assert refused.value.body["request_id"] == "lost"
    assert not read_log(batcher.project)
    with pytest.raises(RequestRefusedError, match="disk is full"):  # at once
        batcher.submit_hours("lost")
    batcher.storage.check()  # what its thread does twice a second
    retried = batcher.submit_hours("lost").result(TIMEOUT_SECONDS)
    assert retried["version"] == "1"  # the thread is still running


def test_request_that_cannot_be_scored_does_not_fail_the_others(
    batcher: PausableBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_with_inputs = scoring.score_with_inputs

    def fail_on_thirteen(project: Any, model: Any, facts: Any, rows: Any, history: Any) -> Any:
        if (rows["k"] == 13).any():
            raise ZeroDivisionError("thirteen")
        return score_with_inputs(project, model, facts, rows, history)

    monkeypatch.setattr(scoring, "score_with_inputs", fail_on_thirteen)
    first = pause_while_scoring(batcher)
    good = batcher.submit_hours(first=1)
    bad = batcher.submit_hours("bad", first=13)
    better = batcher.submit_hours(first=2)
    batcher.may_score.set()
    assert count_predictions([first, good, better]) == [1, 1, 1]
    message = "row 0 cannot be scored: ZeroDivisionError: thirteen"
    with pytest.raises(RequestRefusedError, match=message) as refused:
        bad.result(TIMEOUT_SECONDS)
    assert refused.value.status == 422
    assert "bad" not in list_logged_requests(batcher.project)
    with pytest.raises(RequestRefusedError) as refused:
        batcher.submit_hours("worse", count=20).result(TIMEOUT_SECONDS)
    problems = refused.value.body["problems"]
    assert [(problem.row, problem.code) for problem in problems] == [(13, "not_scored")]


def test_version_that_scores_no_row_is_a_server_error(
    batcher: PausableBatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(*_: Any) -> Any:
        raise ZeroDivisionError("torn")

    monkeypatch.setattr(scoring, "score_with_inputs", raise_error)
    message = "version 1 cannot score: ZeroDivisionError: torn"
    with pytest.raises(RequestRefusedError, match=message) as refused:
        batcher.submit_hours("any").result(TIMEOUT_SECONDS)
    assert refused.value.status == 500


def test_request_of_a_disconnected_client_is_not_scored(batcher: PausableBatcher) -> None:
    first = pause_while_scoring(batcher)
    disconnected = batcher.submit_hours("gone")
    connected = batcher.submit_hours("stays")
    assert disconnected.cancel()
    batcher.may_score.set()
    assert first.result(TIMEOUT_SECONDS)
    assert connected.result(TIMEOUT_SECONDS)
    assert "gone" not in list_logged_requests(batcher.project)


def test_request_before_a_version_is_in_service_is_refused(batcher: PausableBatcher) -> None:
    batcher.served_with_history = None
    with pytest.raises(RequestRefusedError, match="no version is in service yet") as refused:
        batcher.submit_hours().result(TIMEOUT_SECONDS)
    assert refused.value.status == 503


def test_close_answers_the_queue_and_refuses_further_requests(
    copied: loader.Project, served_with_history: Served
) -> None:
    batcher = PausableBatcher(copied, served_with_history)
    responses = [batcher.submit_hours(first=hour) for hour in range(3)]
    batcher.thread.start()
    batcher.may_score.set()
    batcher.close()
    assert all(response.done() for response in responses)
    assert {response.result()["version"] for response in responses} == {"1"}
    assert len(read_log(copied)) == 3
    with pytest.raises(RequestRefusedError, match="is shutting down"):
        batcher.submit_hours()


def test_row_without_an_id_has_no_key_in_the_log(batcher: PausableBatcher) -> None:
    rows = [{"at": "2024-01-06T00:00", "a": 1}, {"k": 4, "at": "2024-01-06T00:00"}]
    request = PredictionRequest(batcher.project, rows, "nameless", may_be_repeat=True)
    response = batcher.submit_request(request).result(TIMEOUT_SECONDS)
    assert len(response["predictions"]) == 2
    assert {record.row_key for record in read_log(batcher.project)} == {"", '["4"]'}
