"""The daily round: what each pass leaves, that no pass does it twice, and that one which was killed loses nothing."""

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
from typing import Any

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
from mlops_kit.project import loader
from mlops_kit.registry import scoring, versions
from mlops_kit.watch import loop, retraining
from tests import watched

QUIET: Any = lambda text, transient=False: None


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project before its watch begins, with retraining off."""
    return watched.build(tmp_path_factory.mktemp("watch") / "home", watched.STILL).root


@pytest.fixture(scope="session")
def lived(original: Path, tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    """The same after four weeks; only to be read."""
    project = loader.load_project(
        shutil.copytree(original, tmp_path_factory.mktemp("lived") / "home")
    )
    loop.replay_period(project, None, moment(project, "2024-02-28"), QUIET)
    return project


@pytest.fixture
def fresh(original: Path, tmp_path: Path) -> loader.Project:
    return loader.load_project(shutil.copytree(original, tmp_path / "fresh"))


def moment(project: loader.Project, text: str) -> datetime:
    found = project.parse_utc_timestamp(text, "the test's moment")
    assert found is not None
    return found


def test_each_row_is_scored_once_with_what_the_batch_says(lived: loader.Project) -> None:
    found = watched.every(lived, PredictionRecord)
    source = watched.rows()
    due = source[(source["at"] >= "2024-01-31") & (source["at"] < "2024-02-28")]
    assert sorted(int(json.loads(p.key)[0]) for p in found) == due["k"].tolist()
    alone = scoring.predict_with_champion(lived, due.drop(columns="y").sample(50, random_state=1))
    logged = {p.id: p.score for p in found}
    assert [logged[i] for i in alone["prediction_id"]] == alone["score"].tolist()


def test_each_label_is_joined_when_it_was_known(lived: loader.Project) -> None:
    found = watched.every(lived, LabelRecord)
    assert {x.word for x in found} == {"joined"}
    assert all(x.counts for x in found)
    day = {p.id: p for p in watched.every(lived, PredictionRecord)}
    late = [
        datetime.fromisoformat(x.known) - datetime.fromisoformat(day[x.prediction].moment)
        for x in found
    ]
    assert set(late) == {timedelta(days=1)}
    assert all(x.known <= x.at for x in found)
    assert len(found) == sum(
        datetime.fromisoformat(p.moment) + timedelta(days=1) <= moment(lived, "2024-02-28")
        for p in day.values()
    )


def test_windows_follow_one_another_and_are_settled_when_their_labels_are_due(
    lived: loader.Project,
) -> None:
    found = watched.every(lived, WindowRecord)
    assert [w.start for w in found] == [
        format_timestamp(moment(lived, d))
        for d in ("2024-01-31", "2024-02-07", "2024-02-14", "2024-02-21")
    ]
    assert all(w.looked_at == w.end for w in found)
    assert [w.settled is None for w in found] == [
        False,
        False,
        False,
        True,
    ]
    assert all(
        datetime.fromisoformat(w.settled_at) == datetime.fromisoformat(w.end) + timedelta(days=1)
        for w in found
        if w.settled_at
    )


def test_the_fall_is_seen_in_the_labels_and_not_in_the_estimate(lived: loader.Project) -> None:
    looks, settled = (
        [json.loads(w.looked) for w in watched.every(lived, WindowRecord)],
        [json.loads(w.settled) for w in watched.every(lived, WindowRecord) if w.settled],
    )
    realised = [s["realised"]["data"]["__frame__"]["rows"][0][1] for s in settled]
    assert realised[0] > 0.75
    assert realised[2] < 0.25
    assert all(look["estimated"]["value"] > 0.8 for look in looks)  # the inputs did not move
    assert [s["gap"] for s in settled] == [False, True, True]
    assert settled[2]["saved"] < 0 < settled[0]["saved"]


def test_the_fall_opens_incidents_and_no_drift_does(lived: loader.Project) -> None:
    found = {i.cause: i for i in watched.every(lived, IncidentRecord)}
    assert set(found) == {"realised", "gap"}
    assert all(i.closed is None and i.severity == "act" for i in found.values())
    assert found["realised"].opened == format_timestamp(moment(lived, "2024-02-15"))
    assert found["realised"].windows == 2
    assert found["gap"].opened == format_timestamp(moment(lived, "2024-02-22"))


def test_each_settled_window_has_its_decision(lived: loader.Project) -> None:
    found = watched.every(lived, RetrainingRecord)
    assert [r.action for r in found] == ["keep", "keep", "keep"]
    assert all("retrain.on_performance_drop is off" in r.reason for r in found[1:])


def test_a_pass_over_again_changes_nothing(lived: loader.Project, tmp_path: Path) -> None:
    project = loader.load_project(shutil.copytree(lived.root, tmp_path / "again"))
    before = watched.picture(project)
    assert loop.replay_period(
        project, None, moment(project, "2024-02-28"), QUIET
    ) == loop.run_single_pass(project, moment(project, "2024-02-28"), QUIET)
    assert watched.picture(project) == before


def test_a_watch_killed_again_and_again_ends_where_an_unbroken_one_does(
    lived: loader.Project, fresh: loader.Project
) -> None:
    command = [
        sys.executable,
        "-m",
        "mlops_kit.cli",
        "watch",
        "--project",
        str(fresh.root),
        "--until",
        "2024-02-28",
        "--fast",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "MLFLOW_"))}
    for reached in (300, 800):  # it dies once so many rows are in the log, wherever it is then
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        while process.poll() is None and scored(fresh) < reached:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, process.communicate()[1].decode()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert watched.picture(fresh) == watched.picture(lived)


def scored(project: loader.Project) -> int:
    with open_transaction(project) as opened:
        return int(opened.scalar(sa.select(sa.func.count()).select_from(PredictionRecord)) or 0)


def test_a_second_watch_is_refused_while_one_goes_on(fresh: loader.Project) -> None:
    with (
        loop.open_watcher(fresh, QUIET),
        pytest.raises(RunFailedError, match="another watch of this project goes on"),
    ):
        loop.run_single_pass(fresh, moment(fresh, "2024-02-01"), QUIET)


def test_a_row_that_turns_up_late_is_scored_and_a_corrected_label_counts(
    fresh: loader.Project,
) -> None:
    source = watched.rows()
    early = source[source["k"] != 1210]
    early.to_csv(fresh.root / "t.csv", index=False)
    loop.run_single_pass(fresh, moment(fresh, "2024-02-03"), QUIET)
    assert (
        len(
            query_records(
                fresh, sa.select(PredictionRecord.id).where(PredictionRecord.row_key == '["1210"]')
            )
        )
        == 0
    )
    wrong = source["k"] == 1201
    source.loc[wrong, "y"] = 1 - source.loc[wrong, "y"]
    source.to_csv(fresh.root / "t.csv", index=False)
    loop.run_single_pass(fresh, moment(fresh, "2024-02-04"), QUIET)
    (late,), (mended,) = (
        query_records(
            fresh, sa.select(PredictionRecord.id).where(PredictionRecord.row_key == f'["{k}"]')
        )
        for k in (1210, 1201)
    )
    words = {
        i: [x.word for x in watched.every(fresh, LabelRecord) if x.prediction == i]
        for i in (late, mended)
    }
    assert words == {late: ["joined"], mended: ["joined", "corrected"]}
    found = predictions.load_labeled_predictions(
        fresh, moment(fresh, "2024-01-31"), moment(fresh, "2024-02-02")
    ).set_index("prediction_id")["label"]
    assert found[mended] == float(source.loc[wrong, "y"].iloc[0])


def test_a_stop_in_the_flow_of_rows_is_told_once(fresh: loader.Project) -> None:
    source = watched.rows()
    source[(source["at"] < "2024-02-08") | (source["k"] % 10 == 0)].to_csv(
        fresh.root / "t.csv", index=False
    )
    loop.replay_period(fresh, None, moment(fresh, "2024-02-16"), QUIET)
    found = {i.cause: i for i in watched.every(fresh, IncidentRecord)}
    assert found["volume"].title == "Fewer rows than usual"
    assert "usual 280" in found["volume"].sentence


def test_a_retraining_runs_the_chain_and_waits_for_the_person_who_has_to_approve(
    tmp_path: Path,
) -> None:
    project = watched.build(
        tmp_path / "home", watched.YAML.replace("approval: automatic", "approval: manual")
    )
    loop.run_single_pass(project, moment(project, "2024-02-08"), QUIET)
    asked = retraining.request_retraining(project, "Ada", "a better one is wanted")
    with pytest.raises(RunFailedError, match="on its way already, decided by Ada"):
        retraining.request_retraining(project, "Ada", "a better one is wanted")
    lines: list[str] = []
    loop.run_single_pass(
        project, moment(project, "2024-02-08"), lambda text, transient=False: lines.append(text)
    )
    (made,) = query_records(
        project, sa.select(RetrainingRecord).where(RetrainingRecord.actor == "Ada")
    )
    assert made.state == loop.WAITING, lines
    assert approvals.get_current_promotion(project).version == "1"  # type: ignore[union-attr]
    approve = [
        sys.executable,
        "-m",
        "mlops_kit.cli",
        "approve",
        made.run,
        "--project",
        str(project.root),
        "--reason",
        "it is no worse",
    ]
    done = subprocess.run(approve, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    loop.run_single_pass(project, moment(project, "2024-02-08"), QUIET)
    assert approvals.get_current_promotion(project).version == "2"
    assert asked.as_of == format_timestamp(moment(project, "2024-02-08"))
    assert versions.load_version(project, "2").as_of.startswith("2024-02-08")
    assert query_records(
        project, sa.select(RetrainingRecord.status).where(RetrainingRecord.actor == "Ada")
    ) == ["succeeded"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fast",), "--fast has no end"),
        (("--since", "2024-02-01"), "--since goes with --fast"),
        (("--as-of", "2024-02-01"), "--as-of with --once"),
        (("--once", "--as-of", "yesterday"), "--as-of 'yesterday' is no moment"),
    ],
)
def test_options_that_do_not_go_together_are_refused_in_words(
    original: Path, options: tuple[str, ...], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", "watch", "--project", str(original), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_table_without_time_and_a_project_without_champion_are_refused(
    tmp_path: Path, fresh: loader.Project
) -> None:
    timeless = fresh.with_values(
        "the test", time=None, as_of=None, until=None, split={"test": 0.2}, label_delay="0d"
    )
    with pytest.raises(KitError):
        loop.Watcher(
            loader.Project(fresh.root, timeless.config.model_copy(update={"time": None})), QUIET
        )
    with open_transaction(fresh) as opened:
        opened.execute(sa.text("DELETE FROM promotions"))
    with pytest.raises(KitError, match="has no champion yet"):
        loop.run_single_pass(fresh, moment(fresh, "2024-02-01"), QUIET)


def test_the_windows_end_with_the_rows(lived: loader.Project, tmp_path: Path) -> None:
    project = loader.load_project(shutil.copytree(lived.root, tmp_path / "later"))
    loop.run_single_pass(project, moment(project, "2026-01-01"), QUIET)
    last = watched.every(project, WindowRecord)[-1]
    assert pd.Timestamp(last.start) <= pd.Timestamp("2024-02-29", tz="UTC")
    assert len(watched.every(project, WindowRecord)) == 5
