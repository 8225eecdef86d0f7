"""Migrate the tables of a database to the newest schema revision."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.db import schema
from mlops_kit.db.migrations.backups import back_up_file
from mlops_kit.db.tables import Base

SCRIPT_LOCATION = "mlops_kit.db:migrations"
# Columns that the first migration adds to the tables of earlier commits.
_COLUMNS_ADDED_BY_FIRST_REVISION = {"labels": {"counts"}}
_UNVERSIONED = "unversioned"

TableColumns = dict[str, set[str]]


def create_config(connection: sa.Connection) -> Config:
    """Return Alembic's configuration for a connection."""
    config = Config()
    config.set_main_option("script_location", SCRIPT_LOCATION)
    config.attributes["connection"] = connection
    return config


def list_revisions() -> list[str]:
    """Return the schema revisions that this version of mlops-kit knows, the newest first."""
    config = Config()
    config.set_main_option("script_location", SCRIPT_LOCATION)
    scripts = ScriptDirectory.from_config(config)
    return [script.revision for script in scripts.walk_revisions()]


def require_known_revision(revision: str | None) -> None:
    """Check that a recorded schema revision is not newer than this version of mlops-kit.

    Raises
    ------
    KitError
        If it is.
    """
    if revision is not None and revision not in list_revisions():
        raise KitError(
            f"the database has schema revision {revision!r}, which this mlops-kit does not know",
            f"revision {schema.HEAD_REVISION!r} or an earlier one",
            "pip install --upgrade mlops-kit, or set another 'database' in mlops.yaml",
        )


def migrate_schema(
    connection: sa.Connection,
    revision: str | None,
    file: Path | None,
) -> str:
    """Migrate the tables and commit, after a backup of a SQLite file.

    Parameters
    ----------
    connection : sqlalchemy.Connection
        A connection in a transaction that excludes other migrations.
    revision : str or None
        The recorded schema revision; None for a database of version 0.1 or earlier.
    file : Path or None
        The SQLite file.

    Returns
    -------
    outcome : str
        A sentence that says what was done and where the backup is.

    Raises
    ------
    KitError
        If the revision is newer than this version of mlops-kit, or a table is not one of its own.
    RunFailedError
        If the backup or the migration fails; the database is unchanged.
    """
    require_known_revision(revision)
    recognized_revision = revision or _recognize_revision(connection)
    start = recognized_revision or _UNVERSIONED
    backup = None
    if file is not None:
        backup = back_up_file(file, start)
    config = create_config(connection)
    try:
        if revision is None and recognized_revision is not None:
            command.stamp(config, recognized_revision)
        command.upgrade(config, "head")
        _require_columns(connection, _list_expected_columns())
        connection.commit()
    except Exception as error:  # anything that a migration or the database raises
        connection.rollback()
        raise RunFailedError(
            f"the migration of the database from {start} to {schema.HEAD_REVISION} failed: "
            f"{str(error).splitlines()[0]}",
            "tables as mlops-kit created them, used by no other process for longer than a moment",
            _describe_way_out(backup),
        ) from error
    return _describe_outcome(start, file, backup)


def _describe_way_out(backup: Path | None) -> str:
    """Return what to do after a failed migration."""
    action = "remove the cause and repeat the command; the database is unchanged"
    if backup is None:
        return f"{action}, and an earlier mlops-kit still opens it"
    return f"{action} (backup: {backup}), and an earlier mlops-kit still opens it"


def _describe_outcome(
    start: str,
    file: Path | None,
    backup: Path | None,
) -> str:
    """Return what a migration did."""
    database = "the database"
    if file is not None:
        database = file.name
    action = f"{database}: tables migrated from schema revision {start} to {schema.HEAD_REVISION}"
    if start == schema.HEAD_REVISION:
        action = f"{database}: schema revision {start} recorded, tables unchanged"
    if backup is None:
        return action
    return f"{action}; backup: {backup}"


def _recognize_revision(connection: sa.Connection) -> str | None:
    """Return the newest revision that has exactly the columns of an unversioned database.

    Returns
    -------
    revision : str or None
        None if the tables are those of a commit before version 0.1, which the first migration
        completes.

    Raises
    ------
    KitError
        If there are other tables of the same names.
    """
    columns_of_revision: TableColumns = {}
    for revision in list_revisions():
        columns_of_revision = _list_columns_at(revision)
        if _list_columns(connection, columns_of_revision) == columns_of_revision:
            return revision
    # The loop ended at the first revision.
    present_tables = sa.inspect(connection).get_table_names()
    required_columns = {}
    for table, columns in columns_of_revision.items():
        if table in present_tables:
            required_columns[table] = columns - _COLUMNS_ADDED_BY_FIRST_REVISION.get(table, set())
    _require_columns(connection, required_columns)
    return None


def _list_columns_at(revision: str) -> TableColumns:
    """Return the columns of all tables as of a revision, by migrating an empty database."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        command.upgrade(create_config(connection), revision)
        tables = sa.inspect(connection).get_table_names()
        return _list_columns(connection, set(tables) - {schema.VERSION_TABLE_NAME})


def _list_expected_columns() -> TableColumns:
    """Return the columns of all tables of ``tables.py``."""
    columns: TableColumns = {}
    for name, table in Base.metadata.tables.items():
        columns[name] = set(table.columns.keys())
    return columns


def _list_columns(connection: sa.Connection, tables: Iterable[str]) -> TableColumns:
    """Return the columns of those of the tables that exist."""
    inspector = sa.inspect(connection)
    present_tables = inspector.get_table_names()
    columns: TableColumns = {}
    for table in tables:
        if table in present_tables:
            columns[table] = {column["name"] for column in inspector.get_columns(table)}
    return columns


def _require_columns(connection: sa.Connection, required_columns: TableColumns) -> None:
    """Check that tables have their columns.

    Raises
    ------
    KitError
        If one is missing.
    """
    present_columns = _list_columns(connection, required_columns)
    for table, columns in required_columns.items():
        missing_columns = sorted(columns - present_columns.get(table, set()))
        if missing_columns:
            raise KitError(
                f"the table {table!r} of the database has no column {missing_columns[0]!r}",
                "tables that mlops-kit created",
                "set another 'database' in mlops.yaml, or rename the table",
            )
