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

from mlops_kit import config, decisions, tracking, watch
from mlops_kit.database import Incident, Label, Prediction, Retraining, Window, rows, session, stamp
from mlops_kit.deploy import batch, predictions
from mlops_kit.errors import KitError, RunFailed
from tests import watched

QUIET: Any = lambda text, passing=False: None  # noqa: E731 - a Say that says nothing


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project before its watch begins, with retraining off."""
    return watched.build(tmp_path_factory.mktemp("watch") / "home", watched.STILL).root


@pytest.fixture(scope="session")
def lived(original: Path, tmp_path_factory: pytest.TempPathFactory) -> config.Project:
    """The same after four weeks; only to be read."""
    project = config.load(shutil.copytree(original, tmp_path_factory.mktemp("lived") / "home"))
    watch.live(project, None, moment(project, "2024-02-28"), QUIET)
    return project


@pytest.fixture
def fresh(original: Path, tmp_path: Path) -> config.Project:
    return config.load(shutil.copytree(original, tmp_path / "fresh"))


def moment(project: config.Project, text: str) -> datetime:
    found = project.moment(text, "the test's moment")
    assert found is not None
    return found


def test_each_row_is_scored_once_with_what_the_batch_says(lived: config.Project) -> None:
    found = watched.every(lived, Prediction)
    source = watched.rows()
    due = source[(source["at"] >= "2024-01-31") & (source["at"] < "2024-02-28")]
    assert sorted(int(json.loads(p.key)[0]) for p in found) == due["k"].tolist()
    alone = batch.predict(lived, due.drop(columns="y").sample(50, random_state=1))
    logged = {p.id: p.score for p in found}
    assert [logged[i] for i in alone["prediction_id"]] == alone["score"].tolist()


def test_each_label_is_joined_when_it_was_known(lived: config.Project) -> None:
    found = watched.every(lived, Label)
    assert {x.word for x in found} == {"joined"} and all(x.counts for x in found)
    day = {p.id: p for p in watched.every(lived, Prediction)}
    late = [
        datetime.fromisoformat(x.known) - datetime.fromisoformat(day[x.prediction].moment)
        for x in found
    ]
    assert set(late) == {timedelta(days=1)} and all(x.known <= x.at for x in found)
    assert len(found) == sum(
        datetime.fromisoformat(p.moment) + timedelta(days=1) <= moment(lived, "2024-02-28")
        for p in day.values()
    )


def test_windows_follow_one_another_and_are_settled_when_their_labels_are_due(
    lived: config.Project,
) -> None:
    found = watched.every(lived, Window)
    assert [w.start for w in found] == [
        stamp(moment(lived, d)) for d in ("2024-01-31", "2024-02-07", "2024-02-14", "2024-02-21")
    ]
    assert all(w.looked_at == w.end for w in found) and [w.settled is None for w in found] == [
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


def test_the_fall_is_seen_in_the_labels_and_not_in_the_estimate(lived: config.Project) -> None:
    looks, settled = (
        [json.loads(w.looked) for w in watched.every(lived, Window)],
        [json.loads(w.settled) for w in watched.every(lived, Window) if w.settled],
    )
    realised = [s["realised"]["data"]["__frame__"]["rows"][0][1] for s in settled]
    assert realised[0] > 0.75 and realised[2] < 0.25  # the world turned on 10 February
    assert all(look["estimated"]["value"] > 0.8 for look in looks)  # the inputs did not move
    assert [s["gap"] for s in settled] == [False, True, True]
    assert settled[2]["saved"] < 0 < settled[0]["saved"]


def test_the_fall_opens_incidents_and_no_drift_does(lived: config.Project) -> None:
    found = {i.cause: i for i in watched.every(lived, Incident)}
    assert set(found) == {"realised", "gap"} and all(
        i.closed is None and i.severity == "act" for i in found.values()
    )
    assert (
        found["realised"].opened == stamp(moment(lived, "2024-02-15"))
        and found["realised"].windows == 2
    )
    assert found["gap"].opened == stamp(moment(lived, "2024-02-22"))


def test_each_settled_window_has_its_decision(lived: config.Project) -> None:
    found = watched.every(lived, Retraining)
    assert [r.action for r in found] == ["keep", "keep", "keep"] and all(
        "retrain.on_fall is off" in r.reason for r in found[1:]
    )


def test_a_pass_over_again_changes_nothing(lived: config.Project, tmp_path: Path) -> None:
    project = config.load(shutil.copytree(lived.root, tmp_path / "again"))
    before = watched.picture(project)
    assert watch.live(project, None, moment(project, "2024-02-28"), QUIET) == watch.once(
        project, moment(project, "2024-02-28"), QUIET
    )
    assert watched.picture(project) == before


def test_a_watch_killed_again_and_again_ends_where_an_unbroken_one_does(
    lived: config.Project, fresh: config.Project
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


def scored(project: config.Project) -> int:
    with session(project) as opened:
        return int(opened.scalar(sa.select(sa.func.count()).select_from(Prediction)) or 0)


def test_a_second_watch_is_refused_while_one_goes_on(fresh: config.Project) -> None:
    with (
        watch.alone(fresh, QUIET),
        pytest.raises(RunFailed, match="another watch of this project goes on"),
    ):
        watch.once(fresh, moment(fresh, "2024-02-01"), QUIET)


def test_a_row_that_turns_up_late_is_scored_and_a_corrected_label_counts(
    fresh: config.Project,
) -> None:
    source = watched.rows()
    early = source[source["k"] != 1210]
    early.to_csv(fresh.root / "t.csv", index=False)
    watch.once(fresh, moment(fresh, "2024-02-03"), QUIET)
    assert len(rows(fresh, sa.select(Prediction.id).where(Prediction.key == '["1210"]'))) == 0
    wrong = source["k"] == 1201
    source.loc[wrong, "y"] = 1 - source.loc[wrong, "y"]
    source.to_csv(fresh.root / "t.csv", index=False)
    watch.once(fresh, moment(fresh, "2024-02-04"), QUIET)
    (late,), (mended,) = (
        rows(fresh, sa.select(Prediction.id).where(Prediction.key == f'["{k}"]'))
        for k in (1210, 1201)
    )
    words = {
        i: [x.word for x in watched.every(fresh, Label) if x.prediction == i]
        for i in (late, mended)
    }
    assert words == {late: ["joined"], mended: ["joined", "corrected"]}
    found = predictions.between(
        fresh, moment(fresh, "2024-01-31"), moment(fresh, "2024-02-02")
    ).set_index("prediction_id")["label"]
    assert found[mended] == float(source.loc[wrong, "y"].iloc[0])


def test_a_stop_in_the_flow_of_rows_is_told_once(fresh: config.Project) -> None:
    source = watched.rows()
    source[(source["at"] < "2024-02-08") | (source["k"] % 10 == 0)].to_csv(
        fresh.root / "t.csv", index=False
    )
    watch.live(fresh, None, moment(fresh, "2024-02-16"), QUIET)
    found = {i.cause: i for i in watched.every(fresh, Incident)}
    assert (
        found["volume"].title == "Fewer rows than usual" and "usual 280" in found["volume"].sentence
    )


def test_a_retraining_runs_the_chain_and_waits_for_the_person_who_has_to_approve(
    tmp_path: Path,
) -> None:
    project = watched.build(
        tmp_path / "home", watched.YAML.replace("approval: automatic", "approval: manual")
    )
    watch.once(project, moment(project, "2024-02-08"), QUIET)
    asked = watch.ask(project, "Ada", "a better one is wanted")
    with pytest.raises(RunFailed, match="on its way already, decided by Ada"):
        watch.ask(project, "Ada", "a better one is wanted")
    lines: list[str] = []
    watch.once(
        project, moment(project, "2024-02-08"), lambda text, passing=False: lines.append(text)
    )
    (made,) = rows(project, sa.select(Retraining).where(Retraining.by == "Ada"))
    assert made.state == watch.WAITING, lines
    assert decisions.current(project).version == "1"  # type: ignore[union-attr]
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
    watch.once(project, moment(project, "2024-02-08"), QUIET)
    assert decisions.current(project).version == "2" and asked.moment == stamp(
        moment(project, "2024-02-08")
    )  # type: ignore[union-attr]
    assert tracking.facts_of(project, "2")["as_of"].startswith("2024-02-08")
    assert rows(project, sa.select(Retraining.state).where(Retraining.by == "Ada")) == ["succeeded"]


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
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_table_without_time_and_a_project_without_champion_are_refused(
    tmp_path: Path, fresh: config.Project
) -> None:
    timeless = fresh.with_values(
        "the test", time=None, as_of=None, until=None, split={"test": 0.2}, label_delay="0d"
    )
    with pytest.raises(KitError):
        watch.Watcher(
            config.Project(fresh.root, timeless.config.model_copy(update={"time": None})), QUIET
        )
    with session(fresh) as opened:
        opened.execute(sa.text("DELETE FROM promotions"))
    with pytest.raises(KitError, match="has no champion yet"):
        watch.once(fresh, moment(fresh, "2024-02-01"), QUIET)


def test_the_windows_end_with_the_rows(lived: config.Project, tmp_path: Path) -> None:
    project = config.load(shutil.copytree(lived.root, tmp_path / "later"))
    watch.once(project, moment(project, "2026-01-01"), QUIET)
    last = watched.every(project, Window)[-1]
    assert (
        pd.Timestamp(last.start) <= pd.Timestamp("2024-02-29", tz="UTC")
        and len(watched.every(project, Window)) == 5
    )
