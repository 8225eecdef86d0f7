"""The project's database, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.data import labels
from mlops_kit.db import approvals, engine, location, predictions, tables
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import IncidentRecord, LabelRecord, PredictionRecord
from mlops_kit.project import loader
from mlops_kit.stages.monitor import incidents

YAML = "name: t\nsource: t.csv\ntarget: y\ntask: binary\nid: k\n"
REVIEWED = approvals.ReviewedVersion(
    version="1",
    model_hash="m",
    evidence_hash="e",
    review="passed",
    sample_rows=0,
    author="Ada",
)


def make_prediction(score: float = 0.25) -> PredictionRecord:
    return PredictionRecord(
        id="p1",
        model="t",
        version="1",
        model_hash="m",
        request_id="",
        request_hash="",
        row_key='["1"]',
        event_time=None,
        score=score,
        predicted_class=None,
        features="[1.5,null]",
        origin="watch",
        scored_at="2024-01-01T00:00:00.000000+00:00",
    )


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[loader.Project]:
    url = "sqlite:///here.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    (tmp_path / "mlops.yaml").write_text(YAML + f"database: {url}\n")
    made = loader.load_project(tmp_path)
    yield made
    with open_transaction(made) as opened:
        for table in tables.Base.metadata.tables.values():
            opened.execute(table.delete())


def test_second_promotion_replacing_the_same_champion_is_refused(
    project: loader.Project,
) -> None:
    approvals.record_approval(project, REVIEWED, "approved", "Ada", "it is fit")
    approvals.record_promotion(project, REVIEWED, None, "Ada", "it is fit")
    with pytest.raises(RunFailedError, match="promoted in between by Ada"):
        approvals.record_promotion(project, REVIEWED, None, "Bob", "it is fit")
    assert [p.actor for p in approvals.list_promotions(project)] == ["Ada"]


def test_prediction_is_inserted_once_and_unchanged(project: loader.Project) -> None:
    for score, fresh in ((0.25, 1), (0.75, 0)):
        with open_transaction(project) as opened:
            assert predictions.insert_predictions(opened, [make_prediction(score)]) == fresh
    (found,) = engine.query_records(project, sa.select(PredictionRecord))
    assert (found.id, found.score, found.predicted_class, found.features) == (
        "p1",
        0.25,
        None,
        "[1.5,null]",
    )


def test_one_label_is_current_and_every_message_is_kept(project: loader.Project) -> None:
    with open_transaction(project) as opened:
        predictions.insert_predictions(opened, [make_prediction()])
    said = [
        labels.LabelMessage("p1", v, k)
        for v, k in ((1, "2024-01-02"), (1, "2024-01-02"), (0, "2024-01-03"), (1, "2024-01-01"))
    ]
    assert labels.record_feedback(
        project,
        [
            *said,
            labels.LabelMessage("p9", 1, "2024-01-02"),
            labels.LabelMessage("p1", "much", "2024-01-02"),
        ],
        "2024-01-04",
    ) == ["joined", "repeated", "corrected", "outdated", "unknown", "refused"]
    found = engine.query_records(project, sa.select(LabelRecord).order_by(LabelRecord.id))
    assert len(found) == 6
    assert [(x.outcome, x.value) for x in found if x.is_current] == [("corrected", 0.0)]
    with pytest.raises(sa.exc.IntegrityError), open_transaction(project) as opened:
        opened.add(
            LabelRecord("t", "p1", 1.0, "1", "2024-01-05", "feedback", "joined", "2024-01-05", True)
        )


def test_one_incident_per_signal_is_open(project: loader.Project) -> None:
    cause = incidents.IncidentSignal("drift", "watch", "A column moved", "By much.")
    for at, causes in (("1", [cause]), ("2", [cause]), ("3", []), ("4", [cause])):
        with open_transaction(project) as opened:
            incidents.update_incidents(opened, project.config, {"drift"}, causes, at, "over")
    found = engine.query_records(project, sa.select(IncidentRecord).order_by(IncidentRecord.id))
    assert [(i.opened_at, i.updated_at, i.closed_at, i.window_count) for i in found] == [
        ("1", "3", "3", 2),
        ("4", "4", None, 1),
    ]
    with pytest.raises(sa.exc.IntegrityError), open_transaction(project) as opened:
        opened.add(IncidentRecord("t", "drift", "watch", "A column moved", "By much.", "5", "5"))


def test_line_says_once_that_an_incident_became_critical(project: loader.Project) -> None:
    warning = incidents.IncidentSignal("drift", "watch", "A column moved", "By much.")
    critical = warning._replace(severity="act", sentence="By more.")
    lines = []
    for at, signals in (("1", [warning]), ("2", [critical]), ("3", [critical]), ("4", [])):
        with open_transaction(project) as opened:
            lines += incidents.update_incidents(
                opened, project.config, {"drift"}, signals, at, "over"
            )
    assert lines == [
        "incident opened (warning): A column moved: By much.",
        "incident worsened (critical): A column moved: By more.",
        "incident closed: A column moved",
    ]


def test_incident_is_acknowledged_once_with_a_reason(project: loader.Project) -> None:
    with open_transaction(project) as opened:
        incidents.update_incidents(
            opened,
            project.config,
            set(),
            [incidents.IncidentSignal("drift", "watch", "A column moved", "By much.")],
            "1",
            "",
        )
    (held,) = engine.query_records(project, sa.select(IncidentRecord))
    with pytest.raises(KitError, match="needs a reason"):
        incidents.acknowledge_incident(project, held.id, "Ada", " ")
    incidents.acknowledge_incident(project, held.id, "Ada", "<b>known</b>")
    with pytest.raises(RunFailedError, match="was acknowledged by Ada"):
        incidents.acknowledge_incident(project, held.id, "Bob", "me too")
    with pytest.raises(KitError, match="there is no incident 12345"):
        incidents.acknowledge_incident(project, 12345, "Ada", "which?")
    (seen,) = engine.query_records(project, sa.select(IncidentRecord))
    assert (seen.acknowledged_by, seen.acknowledge_reason) == ("Ada", "<b>known</b>")


def test_database_that_lacks_a_column_is_described(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as old:
        old.execute(
            "CREATE TABLE labels (id INTEGER PRIMARY KEY, model TEXT, prediction TEXT, word TEXT)"
        )
    old.close()
    (tmp_path / "mlops.yaml").write_text(YAML + "database: sqlite:///old.db\n")
    with pytest.raises(KitError, match="the table 'labels' of the database has no column 'at'"):
        engine.query_records(loader.load_project(tmp_path), sa.select(LabelRecord))


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("nothing at all", KitError, "database: Could not parse"),
        ("oracledb://x", KitError, "database: "),
        ("postgresql+psycopg://127.0.0.1:9/x", RunFailedError, "the database does not answer"),
    ],
)
def test_unreachable_database_is_described(
    tmp_path: Path, url: str, kind: type[Exception], said: str
) -> None:
    (tmp_path / "mlops.yaml").write_text(YAML + f"database: {url}\n")
    with pytest.raises(kind, match=said):
        engine.query_records(loader.load_project(tmp_path), sa.select(LabelRecord))


def test_reading_does_not_create_a_database(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(YAML)
    found: list[Any] = engine.query_records(loader.load_project(tmp_path), sa.select(LabelRecord))
    assert found == []
    assert not (tmp_path / ".mlops").exists()
    assert sys.version_info >= (3, 11)


def test_column_names_of_earlier_databases_are_kept() -> None:
    renamed_columns = {
        "opinions": {"word", "by", "why", "at"},
        "promotions": {"before", "by", "why", "at"},
        "predictions": {"request", "body", "key", "moment", "decision", "at"},
        "labels": {"prediction", "said", "known", "word", "at", "counts"},
        "windows": {"looked_at", "looked", "settled_at", "settled"},
        "incidents": {"cause", "sentence", "opened", "updated", "windows", "closed", "ended"},
        "retrainings": {"moment", "by", "at", "state", "run"},
        "watch": {"since", "upto", "at"},
    }
    for table_name, names in renamed_columns.items():
        assert names <= set(tables.Base.metadata.tables[table_name].columns.keys())


def test_approval_written_by_an_earlier_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(YAML + "database: sqlite:///old.db\n")
    project = loader.load_project(tmp_path)
    approvals.list_approvals(project)
    engine.get_engine(*location.resolve_database_url(project))
    with sqlite3.connect(tmp_path / "old.db") as old:
        old.execute(
            "INSERT INTO opinions (model, version, model_hash, evidence_hash, word, by, why, at) "
            "VALUES ('t', '1', 'm', 'e', 'changes', 'ann', 'name the owner', '2024-01-01')"
        )
    old.close()
    (approval,) = approvals.list_approvals(project)
    assert approval.outcome == tables.ApprovalOutcome.CHANGES_REQUESTED
    assert (approval.actor, approval.reason, approval.decided_at) == (
        "ann",
        "name the owner",
        "2024-01-01",
    )


def test_snapshot_sees_one_state_of_the_database(project: loader.Project) -> None:
    predictions_by_id = sa.select(PredictionRecord)
    with open_transaction(project):
        pass  # the database is created by the first one who opens it
    with engine.open_snapshot(project):
        with open_transaction(project) as writer:  # as another process commits
            writer.add(make_prediction())
        assert engine.query_records(project, predictions_by_id) == []
        with engine.open_read_session(project) as session:
            assert session.scalar(sa.select(sa.func.count()).select_from(PredictionRecord)) == 0
    assert len(engine.query_records(project, predictions_by_id)) == 1


def test_snapshot_without_a_database_reads_nothing(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(YAML + "database: sqlite:///here.db\n")
    made = loader.load_project(tmp_path)
    with engine.open_snapshot(made):
        assert engine.query_records(made, sa.select(PredictionRecord)) == []
    assert not (tmp_path / "here.db").exists()


@pytest.mark.slow
def test_server_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    began = time.monotonic()
    with closing(socket.create_server(("127.0.0.1", 0))) as silent_server:
        port = silent_server.getsockname()[1]
        url = f"postgresql+psycopg://me@127.0.0.1:{port}/here"
        (tmp_path / "mlops.yaml").write_text(YAML + f"database: {url}\n")
        project = loader.load_project(tmp_path)
        end = threading.Timer(30, silent_server.close)  # refuses whoever still waits
        end.start()
        with (
            pytest.raises(RunFailedError, match="does not answer"),
            open_transaction(project, max_wait_seconds=0.4),
        ):
            pass
        end.cancel()
    assert time.monotonic() - began < 30
