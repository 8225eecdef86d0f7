"""Engine."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.orm import (
    Session,
    sessionmaker,
)

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.db.tables import Base
from mlops_kit.project.loader import Project


def resolve_database_url(project: Project) -> tuple[str, Path | None]:
    """The database's URL, and its file if it is SQLite's."""
    url = os.path.expandvars(project.config.database)
    if not url.startswith("sqlite:///"):
        return url, None
    file = project.resolve_path(url.removeprefix("sqlite:///"))
    return f"sqlite:///{file}", file


def database_exists(project: Project) -> bool:
    """Whether there is a database to read; a file that nobody has written yet is none."""
    file = resolve_database_url(project)[1]
    return file is None or file.exists()


@lru_cache(maxsize=8)
def get_engine(url: str, file: Path | None) -> sa.Engine:
    """The engine of a database whose tables are there; one process at a time makes them.

    Raises
    ------
    KitError
        If the URL names no database that can be spoken to.
    RunFailed
        If the database does not answer.
    """
    try:
        made = sa.create_engine(
            url, connect_args={"timeout": 30} if file else {}, pool_pre_ping=file is None
        )
        if file is None:
            _prepare_tables(made)
            return made
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
        raise KitError(
            f"database: {str(error).splitlines()[0]}",
            "a SQLAlchemy URL and the driver it names, such as postgresql+psycopg://…",
            "edit 'database' in mlops.yaml, or pip install the driver",
        ) from error
    except sa.exc.OperationalError as error:
        raise RunFailedError(
            f"the database does not answer: {str(error.orig).splitlines()[0]}",
            "a server at the address named under 'database'",
            "start it, or edit 'database' in mlops.yaml",
        ) from error
    sa.event.listen(made, "connect", _set_durable_mode)
    with FileLock(f"{file}.lock"):  # makes the folder too
        _prepare_tables(made)
    return made


def _prepare_tables(made: sa.Engine) -> None:
    """Make the tables that are missing, and see that the others have all their columns.

    Raises
    ------
    KitError
        If a table was made by another version of this package.
    """
    Base.metadata.create_all(made)
    known = sa.inspect(made)
    for name, table in Base.metadata.tables.items():
        absent = sorted(
            {c.name for c in table.columns} - {c["name"] for c in known.get_columns(name)}
        )
        if absent:
            raise KitError(
                f"the table {name!r} of the database has no column {absent[0]!r}",
                "a database made by this version of mlops-kit",
                f"ALTER TABLE {name} ADD COLUMN …, or name another under 'database'",
            )


def _set_durable_mode(connection: Any, record: Any) -> None:
    """A committed row survives a power cut, and readers do not wait for the writer."""
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")


def open_transaction(project: Project) -> AbstractContextManager[Session]:
    """One transaction."""
    return sessionmaker(get_engine(*resolve_database_url(project)), expire_on_commit=False).begin()


def query_records(project: Project, asked: sa.Select[Any]) -> list[Any]:
    """The answer to a query of whole objects; nothing where there is no database yet."""
    if not database_exists(project):
        return []
    with open_transaction(project) as opened:
        return list(opened.scalars(asked))
