"""Access to the project's database: SQLite by default, any SQLAlchemy URL by one setting.

SQLite runs in WAL mode, so readers do not wait for the writer, and with ``synchronous=FULL``, so
a committed row survives a power failure.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.orm import Session, sessionmaker

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import MissingExtraError
from mlops_kit.db.tables import Base
from mlops_kit.project.loader import Project

_T = TypeVar("_T")
_SQLITE_PREFIX = "sqlite:///"
_POSTGRES_DRIVER = "psycopg"
_SQLITE_BUSY_TIMEOUT_SECONDS = 30


def resolve_database_url(project: Project) -> tuple[str, Path | None]:
    """Return the database's URL, and its file if it is SQLite.

    Environment variables in the URL are expanded; a relative SQLite path starts at the project
    folder.
    """
    url = os.path.expandvars(project.config.database)
    if not url.startswith(_SQLITE_PREFIX):
        return url, None
    file = project.resolve_path(url.removeprefix(_SQLITE_PREFIX))
    return f"{_SQLITE_PREFIX}{file}", file


def database_exists(project: Project) -> bool:
    """Return whether there is a database to read.

    A database server always counts; a SQLite file does so once something was written to it.
    """
    _, file = resolve_database_url(project)
    return file is None or file.exists()


@lru_cache(maxsize=8)
def get_engine(url: str, file: Path | None) -> sa.Engine:
    """Return the engine of a database, after creating the tables that are missing.

    Parameters
    ----------
    url : str
        SQLAlchemy URL.
    file : Path or None
        The SQLite file, locked while one process creates the tables.

    Raises
    ------
    KitError
        If the URL is invalid or its driver is not installed.
    MissingExtraError
        If the driver for PostgreSQL is not installed.
    RunFailedError
        If the database server does not answer.
    """
    try:
        engine = _create_engine(url, file)
        if file is None:
            _prepare_tables(engine)
            return engine
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
        if isinstance(error, ImportError) and error.name == _POSTGRES_DRIVER:
            raise MissingExtraError("postgres", _POSTGRES_DRIVER) from error
        raise KitError(
            f"database: {str(error).splitlines()[0]}",
            "a SQLAlchemy URL with an installed driver, such as postgresql+psycopg://…",
            "edit 'database' in mlops.yaml, or pip install the driver",
        ) from error
    except sa.exc.OperationalError as error:
        raise RunFailedError(
            f"the database does not answer: {str(error.orig).splitlines()[0]}",
            "a server at the address given under 'database'",
            "start the server, or edit 'database' in mlops.yaml",
        ) from error
    sa.event.listen(engine, "connect", _set_durable_mode)
    with FileLock(f"{file}.lock"):  # also creates the folder
        _prepare_tables(engine)
    return engine


def _create_engine(url: str, file: Path | None) -> sa.Engine:
    """Create an engine that waits for SQLite's lock, or checks a server's connections."""
    if file is None:
        return sa.create_engine(url, pool_pre_ping=True)
    return sa.create_engine(
        url,
        connect_args={"timeout": _SQLITE_BUSY_TIMEOUT_SECONDS},
        pool_pre_ping=False,
    )


def _prepare_tables(engine: sa.Engine) -> None:
    """Create missing tables and check that the existing ones have all their columns."""
    Base.metadata.create_all(engine)
    inspector = sa.inspect(engine)
    for table_name, table in Base.metadata.tables.items():
        expected = {column.name for column in table.columns}
        present = {column["name"] for column in inspector.get_columns(table_name)}
        missing = sorted(expected - present)
        if missing:
            raise KitError(
                f"the table {table_name!r} of the database has no column {missing[0]!r}",
                "a database created by this version of mlops-kit",
                f"ALTER TABLE {table_name} ADD COLUMN …, or set another 'database'",
            )


def _set_durable_mode(connection: Any, _record: Any) -> None:
    """Set WAL mode and full synchronization on a new SQLite connection."""
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")


def open_transaction(project: Project) -> AbstractContextManager[Session]:
    """Open a session that commits on success and rolls back on an exception."""
    url, file = resolve_database_url(project)
    make_session = sessionmaker(get_engine(url, file), expire_on_commit=False)
    return make_session.begin()


def query_records(project: Project, statement: sa.Select[_T]) -> list[_T]:
    """Return the objects a query selects; an empty list if there is no database yet."""
    if not database_exists(project):
        return []
    with open_transaction(project) as session:
        return list(session.scalars(statement))
