"""Days that the watch quarantined are left out of the runs that a person starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlops_kit.core.errors import RunFailedError
from mlops_kit.db import location
from mlops_kit.db.day_quarantine import (
    QuarantinedDay,
    decode_quarantined_days,
    encode_quarantined_days,
    leave_out_quarantined_days,
    load_quarantined_days,
)
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import WatchRecord
from mlops_kit.project import loader

YAML = """
name: t
source: t.csv
target: y
task: binary
time: at
timezone: Europe/Berlin
validation: {folds: 3, excluded_days: [2024-01-05]}
"""
DAYS = (
    QuarantinedDay("2024-01-05", ("stale column",)),
    QuarantinedDay("2024-03-08", ("flipped labels",)),
    QuarantinedDay("2024-03-09", ("flipped labels", "missing values")),
)


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


def store_days(
    project: loader.Project, model: str = "t", days: Sequence[QuarantinedDay] = DAYS
) -> None:
    start = "2024-01-01T00:00:00.000000+00:00"
    record = WatchRecord(model, start, start, start, encode_quarantined_days(days))
    with open_transaction(project) as transaction:
        transaction.add(record)


def test_days_are_stored_with_their_faults(project: loader.Project) -> None:
    assert load_quarantined_days(project) == ()  # there is no database
    store_days(project)
    assert load_quarantined_days(project) == DAYS


def test_days_of_another_model_do_not_count(project: loader.Project) -> None:
    store_days(project, model="other")
    assert load_quarantined_days(project) == ()


def test_no_days_are_no_text() -> None:
    assert encode_quarantined_days([]) == ""
    assert decode_quarantined_days("") == ()


def test_database_of_an_earlier_version_has_no_days(project: loader.Project) -> None:
    store_days(project)
    url, _ = location.resolve_database_url(project)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE watch DROP COLUMN quarantine_json")
    assert load_quarantined_days(project) == ()


def test_damaged_database_is_an_error(project: loader.Project) -> None:
    _, file = location.resolve_database_url(project)
    assert file is not None
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"this is not a database, but long enough to have a header" * 10)
    with pytest.raises(RunFailedError, match="cannot be opened"):
        load_quarantined_days(project)


def test_days_are_excluded_and_named(project: loader.Project) -> None:
    store_days(project)
    changed, note = leave_out_quarantined_days(project)
    assert changed.config.validation.excluded_days == ["2024-01-05", "2024-03-08", "2024-03-09"]
    assert changed.config.validation.folds == 3
    assert "flipped labels on 2024-03-08; flipped labels, missing values on 2024-03-09" in note
    assert "2024-01-05" not in note  # excluded by the project itself


def test_days_that_follow_one_another_are_named_as_a_period(project: loader.Project) -> None:
    names = ("2024-02-28", "2024-02-29", "2024-03-01", "2024-03-03")
    store_days(project, days=[QuarantinedDay(day, ("stale column",)) for day in names])
    _, note = leave_out_quarantined_days(project)
    assert "stale column on 2024-02-28 to 2024-03-01, 2024-03-03 (" in note


@pytest.mark.parametrize(
    ("as_of", "excluded"),
    [
        ("2024-03-08", []),  # its rows are later than those of the run
        ("2024-03-08T00:00:01", ["2024-03-08"]),
        ("2024-03-08T22:59:00Z", ["2024-03-08"]),
        ("2024-03-08T23:00:01Z", ["2024-03-08", "2024-03-09"]),  # the day begins in Berlin
    ],
)
def test_days_after_the_run_are_not_named(
    project: loader.Project, as_of: str, excluded: list[str]
) -> None:
    store_days(project)
    changed, note = leave_out_quarantined_days(project.with_values("the test", as_of=as_of))
    assert changed.config.validation.excluded_days == ["2024-01-05", *excluded]
    assert bool(note) == bool(excluded)


def test_days_are_kept_without_quarantine(project: loader.Project) -> None:
    store_days(project)
    changed, note = leave_out_quarantined_days(
        project.with_values("the test", retrain={"quarantine": False})
    )
    assert changed.config.validation.excluded_days == ["2024-01-05"]
    assert note == ""


def test_reading_a_file_does_not_import_sqlalchemy(project: loader.Project) -> None:
    store_days(project)
    code = (
        "import sys; from mlops_kit.db.day_quarantine import load_quarantined_days; "
        "from mlops_kit.project import loader; "
        f"print(len(load_quarantined_days(loader.load_project({str(project.root)!r}))), "
        "'sqlalchemy' in sys.modules)"
    )
    completed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.split() == ["3", "False"]
