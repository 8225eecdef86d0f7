"""Whether predictions can be stored: locked, removed and replaced databases, a full disk."""

from __future__ import annotations

import shutil
import sqlite3
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import PredictionRecord
from mlops_kit.project.loader import Project
from mlops_kit.serving import storage_check
from mlops_kit.serving.storage_check import StorageCheck, StorageError, describe_error

DiskUsage = namedtuple("DiskUsage", "total used free")


@pytest.fixture
def database(copied: Project) -> Path:
    return copied.resolve_path(".mlops/mlops.db")


@pytest.fixture
def storage(copied: Project) -> StorageCheck:
    """A check that has found the database in order; it runs only when it is called."""
    check = StorageCheck(copied)
    check.check()
    assert check.problem == ""
    return check


def test_lock_of_another_process_is_a_problem_while_it_lasts(
    storage: StorageCheck, database: Path
) -> None:
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN IMMEDIATE")
        storage.check()
        assert storage.problem == "database is locked"
        other.rollback()
    storage.check()
    assert storage.problem == ""


def test_failed_write_is_a_problem_until_a_row_can_be_written(
    storage: StorageCheck, copied: Project
) -> None:
    storage.report_failure(sa.exc.OperationalError("INSERT", {}, Exception("disk I/O error")))
    assert storage.problem == "disk I/O error"
    storage.check()
    assert storage.problem == ""
    assert query_records(copied, sa.select(PredictionRecord)) == []


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (sa.exc.OperationalError("INSERT", {"a": 1}, Exception("gone\nDETAIL: a")), "gone"),
        (sa.exc.OperationalError("INSERT", {"a": 1}, ConnectionError()), "ConnectionError"),
        (ValueError("\n"), "ValueError"),
    ],
)
def test_each_error_has_a_description(error: Exception, description: str) -> None:
    assert describe_error(error) == description


def test_error_of_something_else_is_no_problem_of_the_storage(storage: StorageCheck) -> None:
    storage.report_failure(ZeroDivisionError("division by zero"))
    assert storage.problem == ""


def test_removed_database_is_not_created_anew(storage: StorageCheck, database: Path) -> None:
    backup = shutil.copy(database, database.with_suffix(".backup"))
    database.unlink()
    with pytest.raises(StorageError, match="was removed or replaced"):
        storage.require_database()
    storage.check()
    assert "was removed" in storage.problem
    assert not database.exists()
    shutil.copy(backup, database)
    storage.check()
    assert storage.problem == ""
    storage.require_database()


def test_database_that_cannot_be_written_is_a_problem(
    storage: StorageCheck, copied: Project
) -> None:
    with closing(sqlite3.connect(copied.resolve_path(".mlops/mlops.db"))) as other:
        other.execute(f"DROP TABLE {PredictionRecord.__tablename__}")
        other.commit()
    storage.report_failure(sa.exc.OperationalError("INSERT", {}, Exception("no such table")))
    storage.check()
    assert storage.problem.startswith("no such table")


def test_full_disk_is_a_problem(storage: StorageCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        storage_check.shutil, "disk_usage", lambda _: DiskUsage(10**9, 10**9 - 4096, 4096)
    )
    storage.check()
    assert "is full (4,096 bytes are free)" in storage.problem
