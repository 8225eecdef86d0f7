"""The scorer: what waits is scored together, nothing is answered that is not in the log, an id is answered once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from mlops_kit.data import source
from mlops_kit.db import approvals, predictions
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import PredictionRecord
from mlops_kit.project import loader
from mlops_kit.registry import models, scoring, versions
from mlops_kit.serving import champion_follower, request_schema
from mlops_kit.serving.batcher import Batcher
from mlops_kit.serving.requests import PredictionRequest, RequestRefusedError

Wait = Callable[[], None]
SECONDS = 120


@pytest.fixture(scope="session")
def present(original: Any) -> tuple[champion_follower.ServedVersion, pd.DataFrame]:
    """The version that serves and the history, as the follower has them."""
    project = loader.load_project(original)
    facts, history, promotion = (
        versions.find_champion(project) or {},
        source.read_source(project),
        approvals.get_current_promotion(project),
    )
    assert promotion is not None
    known = {**facts, "features": json.loads(facts["features"]), "threshold": 0.5}
    return champion_follower.ServedVersion(
        promotion,
        known,
        models.load_model(project, facts),
        request_schema.compile_request_schema(
            project, history, scoring.list_required_columns(project, history.columns)
        ),
        [],
        "",
    ), history


class Held(Batcher):
    """A scorer that goes on only when it is let; ``batches`` are the rows it scored together."""

    def __init__(self, project: loader.Project, present: Any) -> None:
        self.go, self.taken, self.present, self.batches = (
            threading.Event(),
            threading.Event(),
            present,
            list[int](),
        )
        super().__init__(project, self.give, lambda requests, rows: self.batches.append(rows))

    def give(self) -> Any:
        self.taken.set()
        assert self.go.wait(SECONDS)
        return self.present

    def job(self, request: str = "", hours: int = 1, first: int = 0) -> Future[dict[str, Any]]:
        """Ask about some hours."""
        given = [
            {"k": h, "at": f"2024-01-06T{h % 24:02}:00", "a": h / 10, "b": 0.5}
            for h in range(first, first + hours)
        ]
        return self.submit_request(
            PredictionRequest(
                self.project,
                given,
                request or f"r{len(self.waiting)}-{first}-{hours}",
                bool(request),
            )
        )


@pytest.fixture
def scorer(copied: loader.Project, present: Any) -> Iterator[Held]:
    """A scorer at work on a project of the test's own."""
    made = Held(copied, present)
    made.thread.start()
    made.go.set()
    yield made
    made.go.set()
    made.close()


def logged(project: loader.Project) -> list[PredictionRecord]:
    return query_records(
        project,
        sa.select(PredictionRecord).order_by(PredictionRecord.scored_at, PredictionRecord.row_key),
    )


def test_an_answer_is_that_of_the_batch_and_stands_in_the_log(scorer: Held, present: Any) -> None:
    found = scorer.job("mine", hours=3).result(SECONDS)
    asked = pd.DataFrame(
        {
            "k": range(3),
            "at": pd.to_datetime([f"2024-01-06T0{h}:00-05:00" for h in range(3)], utc=True),
            "a": [0.0, 0.1, 0.2],
            "b": 0.5,
        }
    )
    whole, _ = scoring.score_with_inputs(
        scorer.project, present[0].model, present[0].facts, asked, present[1]
    )
    assert [p["score"] for p in found["predictions"]] == whole["score"].tolist()
    assert (found["request_id"], found["model"], found["version"]) == ("mine", "small", "1")
    assert all(
        p["decision"] == (p["score"] >= 0.5) and p["class"] == int(p["decision"])
        for p in found["predictions"]
    )
    held = {p.id: p for p in logged(scorer.project)}
    assert [held[p["prediction_id"]].score for p in found["predictions"]] == whole["score"].tolist()
    first = held[found["predictions"][0]["prediction_id"]]
    assert (
        first.row_key,
        first.event_time,
        first.request_id,
        first.origin,
        json.loads(first.features),
    ) == (
        '["0"]',
        "2024-01-06T05:00:00.000000+00:00",
        "mine",
        "endpoint",
        [0.0, 0.5],
    )


def test_what_comes_while_it_is_busy_is_scored_together(scorer: Held) -> None:
    scorer.go.clear()
    first = scorer.job()
    assert scorer.taken.wait(SECONDS)
    others = [scorer.job(hours=2, first=i) for i in range(4)]
    scorer.go.set()
    assert [len(f.result(SECONDS)["predictions"]) for f in (first, *others)] == [1, 2, 2, 2, 2]
    assert scorer.batches == [1, 8]


def test_a_batch_has_a_largest_size_and_a_larger_request_is_one_by_itself(
    copied: loader.Project, present: Any
) -> None:
    scorer = Held(copied.with_values("the test", serve={"max_batch_rows": 5}), present)
    asked = [scorer.job(hours=n, first=n) for n in (2, 3, 1, 9, 4)]
    scorer.thread.start()
    scorer.go.set()
    assert [len(f.result(SECONDS)["predictions"]) for f in asked] == [2, 3, 1, 9, 4]
    assert scorer.batches == [5, 1, 9, 4]
    scorer.close()


def test_a_full_queue_refuses_at_once(copied: loader.Project, present: Any) -> None:
    scorer = Held(copied.with_values("the test", serve={"max_waiting_requests": 2}), present)
    first, second = scorer.job(), scorer.job()
    with pytest.raises(RequestRefusedError, match="2 requests wait already") as refused:
        scorer.job("third")
    assert (refused.value.status, refused.value.body["request_id"]) == (429, "third")
    scorer.thread.start()
    scorer.go.set()
    assert first.result(SECONDS)
    assert second.result(SECONDS)
    scorer.close()


def test_an_id_that_is_asked_again_is_answered_from_the_log_with_the_version_it_had(
    scorer: Held, present: Any
) -> None:
    first = scorer.job("again", hours=2).result(SECONDS)
    served, history = present
    later = approvals.Promotion("small", 2, "2", "h", "e", "1", "me", "why", "now")
    scorer.present = (
        champion_follower.ServedVersion(
            later,
            {**served.facts, "version": "2", "threshold": 2.0},
            served.model,
            served.schema,
            [],
            "",
        ),
        history,
    )
    assert scorer.job("again", hours=2).result(SECONDS) == first
    other = scorer.job("another", hours=2).result(SECONDS)
    assert other["version"] == "2"
    assert [p["decision"] for p in other["predictions"]] == [
        False,
        False,
    ]
    assert len(logged(scorer.project)) == 4


def test_an_id_used_for_other_rows_is_refused(scorer: Held) -> None:
    scorer.job("one").result(SECONDS)
    with pytest.raises(
        RequestRefusedError, match="the request_id 'one' was used for other rows"
    ) as refused:
        scorer.job("one", first=5).result(SECONDS)
    assert refused.value.status == 409
    assert len(logged(scorer.project)) == 1


def test_an_id_asked_twice_at_once_is_scored_once(scorer: Held) -> None:
    scorer.go.clear()
    busy = scorer.job()
    assert scorer.taken.wait(SECONDS)
    twice, other = [scorer.job("same") for _ in range(2)], scorer.job("same", first=7)
    scorer.go.set()
    assert twice[0].result(SECONDS) == twice[1].result(SECONDS)
    assert busy.result(SECONDS)
    with pytest.raises(RequestRefusedError, match="was used for other rows"):
        other.result(SECONDS)
    assert [p.request_id for p in logged(scorer.project)].count("same") == 1


def test_what_another_server_has_filed_is_the_answer(
    scorer: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scorer.job("shared").result(SECONDS)
    with open_transaction(scorer.project) as opened:
        opened.execute(sa.update(PredictionRecord).values(version="7", score=0.25))
    asked = PredictionRequest(
        scorer.project, [{"k": 0, "at": "2024-01-06T00:00", "a": 0.0, "b": 0.5}], "shared", False
    )  # as if it had not been there when it was looked for
    found = scorer.submit_request(asked).result(SECONDS)
    assert (
        (found["version"], found["predictions"][0]["score"])
        == ("7", 0.25)
        != (first["version"], first["predictions"][0]["score"])
    )


def test_what_the_log_does_not_take_is_not_answered(
    scorer: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise sa.exc.OperationalError("INSERT", {}, Exception("disk is full"))

    with monkeypatch.context() as patched:
        patched.setattr(predictions, "insert_predictions", full)
        with pytest.raises(RequestRefusedError, match="ask again with this request_id") as refused:
            scorer.job("lost").result(SECONDS)
    assert (refused.value.status, refused.value.body["request_id"]) == (503, "lost")
    assert not logged(scorer.project)
    assert scorer.job("lost").result(SECONDS)["version"] == "1"  # the thread lives


def test_a_request_that_cannot_be_scored_holds_up_no_other(
    scorer: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = scoring.score_with_inputs

    def picky(project: Any, model: Any, facts: Any, asked: pd.DataFrame, history: Any) -> Any:
        if (asked["k"] == 13).any():
            raise ZeroDivisionError("thirteen")
        return real(project, model, facts, asked, history)

    monkeypatch.setattr(scoring, "score_with_inputs", picky)
    scorer.go.clear()
    busy = scorer.job()
    assert scorer.taken.wait(SECONDS)
    good, bad, better = scorer.job(first=1), scorer.job("bad", first=13), scorer.job(first=2)
    scorer.go.set()
    assert [len(f.result(SECONDS)["predictions"]) for f in (busy, good, better)] == [1, 1, 1]
    with pytest.raises(
        RequestRefusedError, match="row 0 cannot be scored: ZeroDivisionError: thirteen"
    ) as refused:
        bad.result(SECONDS)
    assert refused.value.status == 422
    assert "bad" not in {p.request_id for p in logged(scorer.project)}
    with pytest.raises(RequestRefusedError) as refused:
        scorer.job("worse", hours=20).result(SECONDS)
    assert [(p["row"], p["code"]) for p in refused.value.body["problems"]] == [(13, "not_scored")]


def test_a_version_that_scores_nothing_any_more_is_the_servers_fault(
    scorer: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(*_: Any) -> Any:
        raise ZeroDivisionError("torn")

    monkeypatch.setattr(scoring, "score_with_inputs", torn)
    with pytest.raises(
        RequestRefusedError, match="version 1 cannot score: ZeroDivisionError: torn"
    ) as refused:
        scorer.job("any").result(SECONDS)
    assert refused.value.status == 500


def test_whoever_has_gone_is_not_scored(scorer: Held) -> None:
    scorer.go.clear()
    busy = scorer.job()
    assert scorer.taken.wait(SECONDS)
    gone, stays = scorer.job("gone"), scorer.job("stays")
    assert gone.cancel()
    scorer.go.set()
    assert busy.result(SECONDS)
    assert stays.result(SECONDS)
    assert "gone" not in {p.request_id for p in logged(scorer.project)}


def test_before_a_version_serves_there_is_no_answer(scorer: Held) -> None:
    scorer.present = None
    with pytest.raises(RequestRefusedError, match="no version serves yet") as refused:
        scorer.job().result(SECONDS)
    assert refused.value.status == 503


def test_it_ends_when_what_waits_is_answered(copied: loader.Project, present: Any) -> None:
    scorer = Held(copied, present)
    asked = [scorer.job(first=i) for i in range(3)]
    scorer.thread.start()
    scorer.go.set()
    scorer.close()
    assert all(f.done() and f.result()["version"] == "1" for f in asked)
    assert len(logged(copied)) == 3
    with pytest.raises(RequestRefusedError, match="is being stopped"):
        scorer.job()


def test_a_row_without_a_name_has_none_in_the_log(scorer: Held) -> None:
    asked = PredictionRequest(
        scorer.project,
        [{"at": "2024-01-06T00:00", "a": 1}, {"k": 4, "at": "2024-01-06T00:00"}],
        "nameless",
        True,
    )
    assert len(scorer.submit_request(asked).result(SECONDS)["predictions"]) == 2
    assert {p.row_key for p in logged(scorer.project)} == {"", '["4"]'}
