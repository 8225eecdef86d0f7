"""Databases of earlier versions are migrated when they are opened, completely or not at all."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from filelock import FileLock

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.db import approvals, engine, schema, tables
from mlops_kit.db.migrations import __main__ as migrations_command
from mlops_kit.db.migrations import backups, upgrade
from mlops_kit.project import loader
from tests.support.environment import ROOT
from tests.support.next_revision import (
    NEXT_REVISION,
    READY,
    install_next_revision,
    open_database,
)

DATA = ROOT / "tests" / "data"
FIRST_REVISION = "0001"
ORIGINS = ("created", "first revision", "watched", "diabetes")
YAML = "name: diabetes\nsource: t.csv\ntarget: y\ntask: regression\n"
PROMOTION = (
    "INSERT INTO promotions (model, number, version, model_hash, evidence_hash, by, why, at) "
    "VALUES ('t', {number}, '1', 'm', 'e', 'ann', 'it is fit', '2024-01-01')"
)


@pytest.fixture(scope="module")
def stored_projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the databases of version 0.1."""
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(DATA / "projects-of-version-0.1.tar.xz") as archive:
        members = [member for member in archive.getmembers() if "/mlops.db" in member.name]
        archive.extractall(folder, members=members, filter="data")
    return folder


def copy_stored_database(stored_projects: Path, name: str, folder: Path) -> Path:
    """Copy a database of version 0.1 with its WAL; return the file."""
    shutil.copytree(stored_projects / name / ".mlops", folder)
    return folder / "mlops.db"


def copy_to_postgresql(file: Path, url: str) -> None:
    """Create the tables of version 0.1 on a server, with the rows of a SQLite file."""
    server = sa.create_engine(url)
    rows_by_table = read_rows(f"sqlite:///{file}")
    with server.begin() as connection:
        statements = (DATA / "postgresql-tables-of-version-0.1.sql").read_text()
        connection.exec_driver_sql(statements)
        metadata = sa.MetaData()
        metadata.reflect(connection)
        for name, rows in rows_by_table.items():
            table = metadata.tables[name]
            for row in rows:
                connection.execute(sa.insert(table).values(row))
    server.dispose()


def read_rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of all tables but that of the revision."""
    reader = sa.create_engine(url, poolclass=sa.NullPool)
    metadata = sa.MetaData()
    metadata.reflect(reader)
    rows = {}
    with reader.connect() as connection:
        for name, table in metadata.tables.items():
            if name != schema.VERSION_TABLE_NAME:
                query = sa.select(table).order_by(*table.primary_key)
                rows[name] = [dict(row) for row in connection.execute(query).mappings()]
    return rows


def read_database(url: str) -> tuple[Any, ...]:
    """Return all rows, columns and indexes, and the recorded revision."""
    reader = sa.create_engine(url, poolclass=sa.NullPool)
    inspector = sa.inspect(reader)
    columns = {}
    indexes = {}
    for table in inspector.get_table_names():
        columns[table] = [column["name"] for column in inspector.get_columns(table)]
        indexes[table] = sorted(str(index["name"]) for index in inspector.get_indexes(table))
    return read_rows(url), columns, indexes, read_revision(url)


def read_revision(url: str) -> str | None:
    """Return the revision that a database records."""
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        return schema.read_revision(connection)


def insert_promotion(url: str, number: int = 1) -> None:
    """Insert a promotion by SQL, as any version of the package could have done."""
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql(PROMOTION.format(number=number))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that does not exist yet, or is empty."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_database"))
    (tmp_path / "db").mkdir()
    return f"sqlite:///{tmp_path}/db/mlops.db"


@pytest.fixture
def current_url(url: str) -> str:
    """A database of the current revision with a promotion, which no engine holds open."""
    open_database(url).dispose()
    insert_promotion(url)
    return url


def is_postgresql(url: str) -> bool:
    return url.startswith("postgresql")


def get_file(url: str) -> Path:
    """Return the file of a SQLite database."""
    return Path(str(sa.make_url(url).database))


def list_backups(url: str) -> list[Path]:
    return [] if is_postgresql(url) else backups.find_backups(get_file(url))


def migrate_to(url: str, revision: str) -> None:
    """Create the tables of a revision by the migrations."""
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        command.upgrade(upgrade.create_config(connection), revision)
        connection.commit()


def find_differences(opened: sa.Engine) -> list[Any]:
    """Return how a database differs from tables.py, as Alembic sees it."""
    with opened.connect() as connection:
        options = {"version_table": schema.VERSION_TABLE_NAME, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, tables.Base.metadata)


# The revisions


def test_the_newest_migration_is_the_head_revision() -> None:
    revisions = upgrade.list_revisions()
    message = "set HEAD_REVISION in mlops_kit/db/schema.py to the newest file of versions/"
    assert revisions[0] == schema.HEAD_REVISION, message
    assert revisions[-1] == FIRST_REVISION


@pytest.mark.slow
@pytest.mark.parametrize("origin", ORIGINS)
def test_migrated_tables_are_those_of_the_code(
    origin: str, url: str, stored_projects: Path, tmp_path: Path
) -> None:
    rows: dict[str, Any] = {}
    if origin == "first revision":
        migrate_to(url, FIRST_REVISION)
    elif origin != "created":
        stored = copy_stored_database(stored_projects, origin, tmp_path / "stored")
        rows = read_rows(f"sqlite:///{stored}")
        assert rows["promotions"]
        if is_postgresql(url):
            copy_to_postgresql(stored, url)
        else:
            url = f"sqlite:///{stored}"
    message = "write the difference as a migration: python -m mlops_kit.db.migrations new …"
    assert find_differences(open_database(url)) == [], message
    assert read_revision(url) == schema.HEAD_REVISION
    for table, stored_rows in rows.items():
        migrated_rows = []
        for row in read_rows(url)[table]:
            migrated_rows.append(
                {name: row[name] for name in stored_rows[0]} if stored_rows else row
            )
        assert migrated_rows == stored_rows


@pytest.mark.parametrize("table_count", [2, 8])
def test_tables_of_commits_before_version_0_1_are_completed(
    table_count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first commits had approvals and promotions only, then labels without ``counts``."""
    file = tmp_path / "mlops.db"
    script = (DATA / "tables-of-commit-0cc9fa2.sql").read_text()
    with closing(sqlite3.connect(file)) as old:
        if table_count == 8:
            old.executescript(script)
            old.executescript(
                "INSERT INTO labels VALUES "
                "(1, 't', 'p1', 1, '1', '2024-01-01', 'feedback', 'joined', '2024-01-02'), "
                "(2, 't', 'p1', 0, '0', '2024-01-03', 'feedback', 'corrected', '2024-01-03'), "
                "(3, 't', 'p2', 0, '0', '2024-01-03', 'feedback', 'unknown', '2024-01-03')"
            )
        else:
            old.executescript(";".join(script.split(";")[:table_count]))
        old.execute(PROMOTION.format(number=1))
        old.commit()
    opened = open_database(f"sqlite:///{file}")
    assert find_differences(opened) == []
    with opened.connect() as connection:
        current = connection.execute(sa.text("SELECT id, counts FROM labels ORDER BY id")).all()
    expected = [(1, 0), (2, 1), (3, 0)] if table_count == 8 else []
    assert [tuple(row) for row in current] == expected
    assert len(read_rows(f"sqlite:///{file}")["promotions"]) == 1
    (backup,) = backups.find_backups(file)
    assert backup.name.startswith("mlops.db.backup-unversioned-")
    expected = (
        f"mlops.db: tables migrated from schema revision unversioned to {schema.HEAD_REVISION}"
    )
    assert expected in caplog.text


def test_unversioned_database_of_a_later_revision_is_recognized(
    current_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    install_next_revision(tmp_path / "next", monkeypatch.setattr)
    open_database(current_url).dispose()
    with sa.create_engine(current_url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {schema.VERSION_TABLE_NAME}")
    caplog.clear()
    open_database(current_url)
    assert read_revision(current_url) == NEXT_REVISION
    assert f"schema revision {NEXT_REVISION} recorded, tables unchanged" in caplog.text


def test_database_shared_with_mlflow_keeps_its_revision(url: str) -> None:
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('mlflow')")
    open_database(url)
    with open_database(url).connect() as connection:
        other = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    assert other == "mlflow"
    assert read_revision(url) == schema.HEAD_REVISION


def test_table_of_another_application_is_refused_and_nothing_changes(url: str) -> None:
    with sa.create_engine(url, poolclass=sa.NullPool).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE watch (model VARCHAR PRIMARY KEY, price FLOAT)")
    before = read_database(url)
    with pytest.raises(KitError, match="the table 'watch' of the database has no column 'at'"):
        open_database(url)
    assert read_database(url) == before
    assert list_backups(url) == []


# Opening


@pytest.mark.slow
def test_current_database_is_opened_without_alembic_and_without_a_lock(tmp_path: Path) -> None:
    file = tmp_path / "mlops.db"
    code = (
        "import sys; from pathlib import Path; from mlops_kit.db import engine; "
        "file = Path(sys.argv[1]); engine.get_engine(f'sqlite:///{file}', file); "
        "print('alembic' in sys.modules)"
    )
    run = partial(
        subprocess.run,
        [sys.executable, "-c", code, str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run().stdout == "False\n"  # created
    with FileLock(f"{file}.lock"):
        assert run(timeout=60).stdout == "False\n"


@contextmanager
def hold_migration_lock(url: str) -> Iterator[None]:
    """Hold the lock under which a database is migrated."""
    if not is_postgresql(url):
        with FileLock(f"{get_file(url)}.lock"):
            yield
        return
    with schema.open_exclusive_connection(sa.create_engine(url, poolclass=sa.NullPool)):
        yield


def start_process(url: str, folder: Path | str, *statements: str) -> subprocess.Popen[str]:
    """Open a database in another process, which knows the next revision."""
    module = "tests.support.next_revision"
    return subprocess.Popen(
        [sys.executable, "-m", module, url, str(folder), *statements],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_processes_that_open_at_the_same_time_migrate_once(
    current_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_next_revision(tmp_path / "next", monkeypatch.setattr)
    with hold_migration_lock(current_url):
        processes = [start_process(current_url, tmp_path / "next") for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{READY}\n"
    outcomes = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    assert sum("tables migrated from" in outcome for outcome in outcomes) == 1, outcomes
    assert read_revision(current_url) == NEXT_REVISION
    assert len(list_backups(current_url)) == (0 if is_postgresql(current_url) else 1)


@pytest.mark.slow
def test_processes_that_create_a_database_at_the_same_time_create_it_once(url: str) -> None:
    with hold_migration_lock(url):
        processes = [start_process(url, "") for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{READY}\n"
    outcomes = [process.communicate(timeout=120)[1] for process in processes]
    assert outcomes == ["", ""]
    assert [process.returncode for process in processes] == [0, 0]
    assert find_differences(open_database(url)) == []


# Backups


def test_backup_is_restored_with_the_same_data(
    stored_projects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    home = tmp_path / "home"
    file = copy_stored_database(stored_projects, "diabetes", home / ".mlops")
    (home / "mlops.yaml").write_text(YAML)
    project = loader.load_project(home)
    stored_promotions = approvals.list_promotions(project)
    open_database(f"sqlite:///{file}").dispose()
    stored_rows = read_rows(f"sqlite:///{file}")
    file.chmod(0o600)
    revision_before = schema.HEAD_REVISION
    install_next_revision(tmp_path / "next", monkeypatch.setattr)
    # This row is committed, but it is in the WAL only as long as a connection is open.
    with closing(sqlite3.connect(file)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint=0")
        writer.execute(PROMOTION.format(number=99))
        writer.commit()
        open_database(f"sqlite:///{file}").dispose()
    backup = backups.find_backups(file)[-1]
    assert backup.name.startswith(f"mlops.db.backup-{revision_before}-")
    assert backup.stat().st_mode & 0o777 == 0o600
    assert f"backup: {backup}" in caplog.text
    assert "note" in read_rows(f"sqlite:///{file}")["promotions"][0]

    monkeypatch.undo()
    for leftover in file.parent.glob("mlops.db-*"):
        leftover.unlink()
    # A new file: this process still has connections to the old one.
    restored = Path(shutil.copy(backup, file.with_name("restored.db")))
    restored.replace(file)
    engine.get_engine.cache_clear()
    assert approvals.list_promotions(project) == stored_promotions
    restored_rows = read_rows(f"sqlite:///{file}")
    assert restored_rows["promotions"][:-1] == stored_rows.pop("promotions")
    assert restored_rows["promotions"][-1]["number"] == 99
    for table, rows in stored_rows.items():
        assert restored_rows[table] == rows


def test_backup_that_cannot_be_written_stops_the_migration(
    stored_projects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = copy_stored_database(stored_projects, "watched", tmp_path / "stored")
    before = read_database(f"sqlite:///{file}")

    def refuse(_file: Path, _target: Path) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(backups, "_copy_database", refuse)
    with pytest.raises(RunFailedError, match="database or disk is full") as error:
        open_database(f"sqlite:///{file}")
    assert "the database was not changed" in error.value.hint
    assert read_database(f"sqlite:///{file}") == before
    assert backups.find_backups(file) == []


# Migrations that do not reach their end


@pytest.mark.slow
def test_failed_migration_leaves_the_database_as_it_was(
    current_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_database(current_url)
    with monkeypatch.context() as patch:
        install_next_revision(tmp_path / "next", patch.setattr, fails=True)
        for _ in range(2):
            with pytest.raises(RunFailedError, match="no_such_column") as error:
                open_database(current_url)
            assert read_database(current_url) == before
    backup_names = [str(backup) for backup in list_backups(current_url)]
    # The second attempt found a backup of the same content.
    assert len(backup_names) == (0 if is_postgresql(current_url) else 1)
    assert all(name in error.value.hint for name in backup_names)
    assert "the database is unchanged" in error.value.hint
    assert find_differences(open_database(current_url)) == []


KILL_STATEMENTS = {
    "sqlite": (
        "CREATE TABLE _alembic_tmp_promotions",
        "INSERT INTO _alembic_tmp_promotions",
        "DROP TABLE promotions",
        "ALTER TABLE _alembic_tmp_promotions RENAME",
        "UPDATE promotions",
        f"UPDATE {schema.VERSION_TABLE_NAME}",
        "COMMIT",
    ),
    "postgresql": (
        "UPDATE promotions",
        f"UPDATE {schema.VERSION_TABLE_NAME}",
        "COMMIT",
    ),
}


@pytest.mark.slow
def test_killed_migration_is_repeated_by_the_next_opening(current_url: str, tmp_path: Path) -> None:
    before = read_database(current_url)
    dialect = sa.make_url(current_url).get_backend_name()
    for statement in KILL_STATEMENTS[dialect]:
        process = start_process(current_url, tmp_path / "next", statement)
        output = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, (statement, output)
        assert read_database(current_url) == before, statement
    process = start_process(current_url, tmp_path / "next")
    _, outcome = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "tables migrated from" in outcome
    (promotion,) = read_rows(current_url)["promotions"]
    assert promotion["note"] == "it is fit"
    assert read_revision(current_url) == NEXT_REVISION


@pytest.mark.slow
def test_killed_creation_is_repeated_by_the_next_opening(url: str) -> None:
    for statement in ("CREATE TABLE labels", "INSERT INTO", "COMMIT"):
        process = start_process(url, "", statement)
        output = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, (statement, output)
        assert read_rows(url) == {}
    assert find_differences(open_database(url)) == []
    assert list_backups(url) == []


def test_newer_database_is_refused_and_not_changed(
    current_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        install_next_revision(tmp_path / "next", patch.setattr)
        open_database(current_url).dispose()
    before = read_database(current_url)
    backups_before = list_backups(current_url)
    message = f"the database has schema revision '{NEXT_REVISION}'"
    with pytest.raises(KitError, match=message) as error:
        open_database(current_url)
    assert error.value.expected == f"revision {schema.HEAD_REVISION!r} or an earlier one"
    assert "pip install --upgrade mlops-kit" in error.value.hint
    assert "another 'database' in mlops.yaml" in error.value.hint
    assert read_database(current_url) == before
    assert list_backups(current_url) == backups_before


# Writing a migration


@pytest.fixture
def changed_tables(monkeypatch: pytest.MonkeyPatch) -> sa.MetaData:
    """tables.py as if ``promotions`` had a column more."""
    metadata = sa.MetaData()
    for table in tables.Base.metadata.tables.values():
        table.to_metadata(metadata)
    metadata.tables["promotions"].append_column(sa.Column("note", sa.String(), nullable=True))
    changed_base = SimpleNamespace(metadata=metadata)
    for module in (tables, migrations_command):
        monkeypatch.setattr(module, "Base", changed_base)
    return metadata


def test_migration_is_written_from_the_changed_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed_tables: sa.MetaData, capsys: Any
) -> None:
    folder = shutil.copytree(ROOT / "mlops_kit" / "db" / "migrations", tmp_path / "copy")
    monkeypatch.setattr(upgrade, "SCRIPT_LOCATION", str(folder))
    monkeypatch.setattr(sys, "argv", ["migrations", "new", "Note of a promotion"])
    migrations_command.main()
    printed = capsys.readouterr().out
    path = folder / "versions" / f"r{NEXT_REVISION}_note_of_a_promotion.py"
    assert str(path) in printed
    assert "HEAD_REVISION" in printed
    assert path.read_text().startswith('"""Note of a promotion."""')
    url = f"sqlite:///{tmp_path}/migrated.db"
    migrate_to(url, NEXT_REVISION)
    with sa.create_engine(url).connect() as connection:
        options = {"version_table": schema.VERSION_TABLE_NAME}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, changed_tables) == []


def test_no_migration_is_written_without_a_difference() -> None:
    with pytest.raises(KitError, match="already create all tables"):
        migrations_command.write_migration("nothing")
