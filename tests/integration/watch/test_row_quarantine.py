"""Days with faults are named in an incident and left out of a retraining, also one by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_kit.data import source
from mlops_kit.data.splits import split_rows
from mlops_kit.db.day_quarantine import leave_out_quarantined_days
from mlops_kit.db.tables import IncidentRecord
from mlops_kit.project import loader
from mlops_kit.stages.monitor.incidents import FEED_FAULT_SIGNAL
from mlops_kit.watch import loop
from mlops_kit.watch.row_quarantine import quarantine_faulty_days
from tests.support import watched_project as watched

FAULTY_DAY = "2024-02-09"


def report_nothing(text: str, transient: bool = False) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return watched.build_project(tmp_path_factory.mktemp("quarantine") / "home").root


def check_rows(project: loader.Project) -> dict[str, dict[str, list[str]]]:
    """Look for faults as a retraining as of 20 February does."""
    as_of = project.parse_utc_timestamp("2024-02-20", "the test's time")
    assert as_of is not None
    with loop.open_watcher(project, report_nothing) as watcher:
        watcher.load_progress()
        return quarantine_faulty_days(watcher.context, as_of)


def remove_values(day: pd.DataFrame) -> pd.DataFrame:
    return day.assign(b=day["b"].where(np.arange(len(day)) % 3 > 0))


def stop_feed(day: pd.DataFrame) -> pd.DataFrame:
    return day.assign(a=0.5)


def change_unit(day: pd.DataFrame) -> pd.DataFrame:
    return day.assign(b=day["b"] * 100)


def copy_day(day: pd.DataFrame) -> pd.DataFrame:
    rows = watched.make_rows()
    copied = rows[rows["at"].dt.strftime("%Y-%m-%d") == "2024-02-07"]
    return day.assign(**{name: copied[name].to_numpy() for name in ("a", "b", "c", "y")})


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (remove_values, "missing values: 35% of b is missing"),
        (stop_feed, "stale column: a is 0.5 in 100% of the rows"),
        (change_unit, "changed unit: all quartiles of b are about"),
        (copy_day, "duplicated day: 100% of the rows are copies"),
    ],
)
def test_day_with_a_fault_is_named_and_left_out_until_it_is_corrected(
    folder: Path,
    tmp_path: Path,
    fault: Callable[[pd.DataFrame], pd.DataFrame],
    words: str,
) -> None:
    project = loader.load_project(shutil.copytree(folder, tmp_path / "home"))
    rows = watched.make_rows()
    is_faulty = rows["at"].dt.strftime("%Y-%m-%d") == FAULTY_DAY
    faulty = pd.concat([rows[~is_faulty], fault(rows[is_faulty])]).sort_values("k")
    faulty.to_csv(project.root / "t.csv", index=False)
    settings = check_rows(project)
    assert settings["validation"]["excluded_days"] == [FAULTY_DAY]
    (incident,) = watched.list_records(project, IncidentRecord)
    assert incident.signal == FEED_FAULT_SIGNAL
    assert f"{FAULTY_DAY}, {words}" in incident.message

    later = project.with_values("the test", as_of="2024-02-20", until="2024-02-20")
    run_project, note = leave_out_quarantined_days(later)  # as `mlops run` by a person does
    assert run_project.config == later.with_values("the watch", **settings).config
    assert f"{words.partition(':')[0]} on {FAULTY_DAY}" in note
    table, parts = split_rows(
        source.read_source(run_project, run_project.config.to_utc(run_project.config.as_of)),
        run_project.config,
        0,
    )
    is_excluded = table["at"].dt.strftime("%Y-%m-%d") == FAULTY_DAY
    assert (table.loc[is_excluded, "part"] == "unlabelled").all()
    assert f"40 rows of excluded days ({FAULTY_DAY})" in " ".join(parts.notes)

    rows.to_csv(project.root / "t.csv", index=False)
    assert check_rows(project) == {}
    (incident,) = watched.list_records(project, IncidentRecord)
    assert incident.close_reason == "no day has a fault as of 2024-02-20"
    assert leave_out_quarantined_days(later) == (later, "")
