"""The watch: what each pass stores, that it does nothing twice and loses nothing when killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.db import approvals, predictions
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import (
    IncidentRecord,
    LabelRecord,
    PredictionRecord,
    RetrainingRecord,
    WindowRecord,
)
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.pipeline.kernel_pool import ForkServer
from mlops_kit.project import loader
from mlops_kit.project.run_manifest import RunStatus
from mlops_kit.registry import scoring, versions
from mlops_kit.stats.monitoring_tables import CONCEPT_DRIFT_CHECK, REALIZED_PERFORMANCE_CHECK
from mlops_kit.watch import loop, retraining
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from tests.support import watched_project as watched
from tests.support.commands import RunMlops, run_in_process, use_fork_server
from tests.support.environment import make_clean_environment


def report_nothing(text: str, transient: bool = False) -> None:
    """Report nothing."""


@pytest.fixture(scope="session")
def initial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project before its watch begins, with retraining off."""
    return watched.build_project(
        tmp_path_factory.mktemp("watch") / "home", watched.YAML_WITHOUT_RETRAINING
    ).root


@pytest.fixture(scope="session")
def watched_project(
    initial_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> loader.Project:
    """The same after four weeks; only to be read."""
    project = loader.load_project(
        shutil.copytree(initial_folder, tmp_path_factory.mktemp("lived") / "home")
    )
    loop.replay_period(project, None, to_time(project, "2024-02-28"), report_nothing)
    return project


@pytest.fixture
def fresh_project(initial_folder: Path, tmp_path: Path) -> loader.Project:
    return loader.load_project(shutil.copytree(initial_folder, tmp_path / "fresh"))


def to_time(project: loader.Project, text: str) -> datetime:
    found = project.parse_utc_timestamp(text, "the test's moment")
    assert found is not None
    return found


def test_every_row_is_scored_once_with_the_batch_score(watched_project: loader.Project) -> None:
    found = watched.list_records(watched_project, PredictionRecord)
    source = watched.make_rows()
    due = source[(source["at"] >= "2024-01-31") & (source["at"] < "2024-02-28")]
    assert sorted(int(json.loads(p.row_key)[0]) for p in found) == due["k"].tolist()
    alone = scoring.predict_with_champion(
        watched_project, due.drop(columns="y").sample(50, random_state=1)
    )
    logged = {p.id: p.score for p in found}
    assert [logged[i] for i in alone["prediction_id"]] == alone["score"].tolist()


def test_every_label_is_joined_when_it_is_known(watched_project: loader.Project) -> None:
    found = watched.list_records(watched_project, LabelRecord)
    assert {x.outcome for x in found} == {"joined"}
    assert all(x.is_current for x in found)
    day = {p.id: p for p in watched.list_records(watched_project, PredictionRecord)}
    delays = [
        datetime.fromisoformat(x.known_at) - datetime.fromisoformat(day[x.prediction_id].event_time)
        for x in found
    ]
    assert set(delays) == {timedelta(days=1)}
    assert all(x.known_at <= x.imported_at for x in found)
    assert len(found) == sum(
        datetime.fromisoformat(p.event_time) + timedelta(days=1)
        <= to_time(watched_project, "2024-02-28")
        for p in day.values()
    )


def test_windows_leave_no_gap_and_are_evaluated_when_labels_are_due(
    watched_project: loader.Project,
) -> None:
    found = watched.list_records(watched_project, WindowRecord)
    assert [w.start for w in found] == [
        format_timestamp(to_time(watched_project, d))
        for d in ("2024-01-31", "2024-02-07", "2024-02-14", "2024-02-21")
    ]
    assert all(w.monitored_at == w.end for w in found)
    assert [w.realized_json is None for w in found] == [
        False,
        False,
        False,
        True,
    ]
    assert all(
        datetime.fromisoformat(w.realized_at) == datetime.fromisoformat(w.end) + timedelta(days=1)
        for w in found
        if w.realized_at
    )


def test_concept_drift_shows_in_realized_and_not_in_estimated_performance(
    watched_project: loader.Project,
) -> None:
    windows = watched.list_records(watched_project, WindowRecord)
    monitoring = [WindowMonitoring.from_json(w.monitoring_json) for w in windows]
    performance = [WindowPerformance.from_json(w.realized_json) for w in windows if w.realized_json]
    realized = [p.realized.to_frame()["value"].iloc[0] for p in performance]
    assert realized[0] > 0.75
    assert realized[2] < 0.25
    assert all(m.estimated.value > 0.8 for m in monitoring)  # the inputs did not change
    assert [p.is_below_estimate for p in performance] == [False, True, True]
    assert performance[2].saved < 0 < performance[0].saved


def test_concept_drift_opens_incidents(watched_project: loader.Project) -> None:
    found = {i.signal: i for i in watched.list_records(watched_project, IncidentRecord)}
    assert set(found) == {REALIZED_PERFORMANCE_CHECK, CONCEPT_DRIFT_CHECK}
    assert all(i.closed_at is None and i.severity == "act" for i in found.values())
    assert found[REALIZED_PERFORMANCE_CHECK].opened_at == format_timestamp(
        to_time(watched_project, "2024-02-15")
    )
    assert found[REALIZED_PERFORMANCE_CHECK].window_count == 2
    assert found[CONCEPT_DRIFT_CHECK].opened_at == format_timestamp(
        to_time(watched_project, "2024-02-22")
    )


def test_returned_performance_closes_incidents_and_a_promotion_does_not(
    fresh_project: loader.Project,
) -> None:
    file = fresh_project.root / "t.csv"
    rows = pd.read_csv(file)
    is_recovered = (rows["at"] >= "2024-02-21").to_numpy()
    rows.loc[is_recovered, "y"] = 1 - rows.loc[is_recovered, "y"]  # the old concept is back
    rows.to_csv(file, index=False)
    loop.replay_period(fresh_project, None, to_time(fresh_project, "2024-02-23"), report_nothing)
    incidents = watched.list_records(fresh_project, IncidentRecord)
    assert {incident.signal for incident in incidents} == {
        REALIZED_PERFORMANCE_CHECK,
        CONCEPT_DRIFT_CHECK,
    }
    watched.register_next_version(fresh_project)
    loop.replay_period(fresh_project, None, to_time(fresh_project, "2024-02-27"), report_nothing)
    incidents = watched.list_records(fresh_project, IncidentRecord)
    assert [incident.closed_at for incident in incidents] == [None, None]
    loop.replay_period(fresh_project, None, to_time(fresh_project, "2024-03-01"), report_nothing)
    for incident in watched.list_records(fresh_project, IncidentRecord):
        assert incident.closed_at == format_timestamp(to_time(fresh_project, "2024-02-29"))
        assert incident.close_reason.startswith(
            "performance is back at its reference from 2024-02-21 to 2024-02-28, version 2: "
            "Realized ROC-AUC 0.9"
        )


def test_every_evaluated_window_has_a_retraining_decision(watched_project: loader.Project) -> None:
    found = watched.list_records(watched_project, RetrainingRecord)
    assert [r.action for r in found] == ["keep", "keep", "keep"]
    assert all("retrain.on_performance_drop is off" in r.reason for r in found[1:])


def test_repeated_pass_changes_nothing(watched_project: loader.Project, tmp_path: Path) -> None:
    project = loader.load_project(shutil.copytree(watched_project.root, tmp_path / "again"))
    before = watched.take_snapshot(project)
    assert loop.replay_period(
        project, None, to_time(project, "2024-02-28"), report_nothing
    ) == loop.run_single_pass(project, to_time(project, "2024-02-28"), report_nothing)
    assert watched.take_snapshot(project) == before


def test_of_two_watches_that_are_killed_one_ends_like_an_uninterrupted_one(
    watched_project: loader.Project, fresh_project: loader.Project
) -> None:
    command = [
        sys.executable,
        "-m",
        "mlops_kit.cli",
        "watch",
        "--project",
        str(fresh_project.root),
        "--until",
        "2024-02-28",
        "--fast",
    ]
    environment = make_clean_environment()

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    for reached in (300, 800):  # they die once so many rows are in the log, wherever they are then
        processes = [start(), start()]
        while count_predictions(fresh_project) < reached:
            assert any(process.poll() is None for process in processes)
            time.sleep(0.005)
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        codes = [process.wait() for process in processes]
        assert -signal.SIGKILL in codes
        assert set(codes) <= {-signal.SIGKILL, 1}
        for process in processes:
            error = process.communicate()[1].decode()
            assert process.returncode != 1 or "another watch of this project is running" in error
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert watched.take_snapshot(fresh_project) == watched.take_snapshot(watched_project)


def count_predictions(project: loader.Project) -> int:
    with open_transaction(project) as opened:
        return int(opened.scalar(sa.select(sa.func.count()).select_from(PredictionRecord)) or 0)


def test_second_watch_is_refused_while_one_is_running(fresh_project: loader.Project) -> None:
    with (
        loop.open_watcher(fresh_project, report_nothing),
        pytest.raises(RunFailedError, match="another watch of this project is running"),
    ):
        loop.run_single_pass(fresh_project, to_time(fresh_project, "2024-02-01"), report_nothing)


def test_late_row_is_scored_and_corrected_label_counts(
    fresh_project: loader.Project,
) -> None:
    source = watched.make_rows()
    early = source[source["k"] != 1210]
    early.to_csv(fresh_project.root / "t.csv", index=False)
    loop.run_single_pass(fresh_project, to_time(fresh_project, "2024-02-03"), report_nothing)
    assert (
        len(
            query_records(
                fresh_project,
                sa.select(PredictionRecord.id).where(PredictionRecord.row_key == '["1210"]'),
            )
        )
        == 0
    )
    wrong = source["k"] == 1201
    source.loc[wrong, "y"] = 1 - source.loc[wrong, "y"]
    source.to_csv(fresh_project.root / "t.csv", index=False)
    loop.run_single_pass(fresh_project, to_time(fresh_project, "2024-02-04"), report_nothing)
    (late_id,), (corrected_id,) = (
        query_records(
            fresh_project,
            sa.select(PredictionRecord.id).where(PredictionRecord.row_key == f'["{k}"]'),
        )
        for k in (1210, 1201)
    )
    outcomes = {
        i: [
            x.outcome
            for x in watched.list_records(fresh_project, LabelRecord)
            if x.prediction_id == i
        ]
        for i in (late_id, corrected_id)
    }
    assert outcomes == {late_id: ["joined"], corrected_id: ["joined", "corrected"]}
    found = predictions.load_labeled_predictions(
        fresh_project, to_time(fresh_project, "2024-01-31"), to_time(fresh_project, "2024-02-02")
    ).set_index("prediction_id")["label"]
    assert found[corrected_id] == float(source.loc[wrong, "y"].iloc[0])


def test_low_volume_opens_one_incident(fresh_project: loader.Project) -> None:
    source = watched.make_rows()
    source[(source["at"] < "2024-02-08") | (source["k"] % 10 == 0)].to_csv(
        fresh_project.root / "t.csv", index=False
    )
    loop.replay_period(fresh_project, None, to_time(fresh_project, "2024-02-16"), report_nothing)
    found = {i.signal: i for i in watched.list_records(fresh_project, IncidentRecord)}
    assert found["volume"].title == "Fewer rows than usual"
    assert "usual are 280" in found["volume"].message


def test_requested_retraining_runs_and_waits_for_approval(
    tmp_path: Path, notebook_fork_server: ForkServer, run_mlops: RunMlops
) -> None:
    project = watched.build_project(
        tmp_path / "home", watched.YAML.replace("approval: automatic", "approval: manual")
    )
    loop.run_single_pass(project, to_time(project, "2024-02-08"), report_nothing)
    asked = retraining.request_retraining(project, "Ada", "a better one is wanted")
    with pytest.raises(RunFailedError, match="decided by Ada is already pending"):
        retraining.request_retraining(project, "Ada", "a better one is wanted")
    lines: list[str] = []
    with use_fork_server(notebook_fork_server):
        loop.run_single_pass(
            project,
            to_time(project, "2024-02-08"),
            lambda text, transient=False: lines.append(text),
        )
    (made,) = query_records(
        project, sa.select(RetrainingRecord).where(RetrainingRecord.actor == "Ada")
    )
    assert made.status == RunStatus.WAITING_FOR_APPROVAL, lines
    assert approvals.get_current_promotion(project).version == "1"  # type: ignore[union-attr]
    words = ("approve", made.run_id, "--project", project.root, "--reason", "it is no worse")
    done = run_mlops(*words)
    assert done.returncode == 0, done.stderr
    loop.run_single_pass(project, to_time(project, "2024-02-08"), report_nothing)
    assert approvals.get_current_promotion(project).version == "2"
    assert asked.as_of == format_timestamp(to_time(project, "2024-02-08"))
    assert versions.load_version(project, "2").as_of.startswith("2024-02-08")
    assert query_records(
        project, sa.select(RetrainingRecord.status).where(RetrainingRecord.actor == "Ada")
    ) == ["succeeded"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fast",), "--fast has no end"),
        (("--since", "2024-02-01"), "--since requires --fast"),
        (("--as-of", "2024-02-01"), "--as-of requires --once"),
        (("--once", "--as-of", "yesterday"), "--as-of 'yesterday' is not a timestamp"),
    ],
)
def test_incompatible_options_are_an_error(
    initial_folder: Path, options: tuple[str, ...], said: str
) -> None:
    done = run_in_process("watch", "--project", initial_folder, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_table_without_time_and_project_without_champion_are_errors(
    tmp_path: Path, fresh_project: loader.Project
) -> None:
    timeless = fresh_project.with_values(
        "the test", time=None, as_of=None, until=None, validation={"test": 0.2}, label_delay="0d"
    )
    with pytest.raises(KitError):
        loop.WatchContext(
            loader.Project(fresh_project.root, timeless.config.model_copy(update={"time": None})),
            report_nothing,
        )
    with open_transaction(fresh_project) as opened:
        opened.execute(sa.text("DELETE FROM promotions"))
    with pytest.raises(KitError, match="has no champion yet"):
        loop.run_single_pass(fresh_project, to_time(fresh_project, "2024-02-01"), report_nothing)


def test_no_window_begins_after_the_newest_row(
    watched_project: loader.Project, tmp_path: Path
) -> None:
    project = loader.load_project(shutil.copytree(watched_project.root, tmp_path / "later"))
    loop.run_single_pass(project, to_time(project, "2026-01-01"), report_nothing)
    last = watched.list_records(project, WindowRecord)[-1]
    assert pd.Timestamp(last.start) <= pd.Timestamp("2024-02-29", tz="UTC")
    assert len(watched.list_records(project, WindowRecord)) == 5
