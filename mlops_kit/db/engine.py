"""Access to the project's database: SQLite by default, any SQLAlchemy URL by one setting.

SQLite runs in WAL mode, so readers do not wait for the writer, and with ``synchronous=FULL``, so
a committed row survives a power failure.

Opening a database creates its tables or migrates them (``mlops_kit.db.migrations``). If they are
up to date, which is one row to read, Alembic is not imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import MissingExtraError
from mlops_kit.db import schema
from mlops_kit.db.location import resolve_database_url
from mlops_kit.project.loader import Project

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_POSTGRES_DRIVER = "psycopg"
_MAX_ANSWER_SECONDS = 2  # of a server, for those who say how long they wait; libpq's minimum
_HAS_WRITTEN = "has_written"  # in the notes of a session


class _Snapshot(NamedTuple):
    """The session that sees one state of a database."""

    url: str
    session: Session


_snapshot: ContextVar[_Snapshot | None] = ContextVar("snapshot", default=None)


def database_exists(project: Project) -> bool:
    """Return whether there is a database to read.

    A database server always counts; a SQLite file does so once something was written to it.
    """
    _, file = resolve_database_url(project)
    return file is None or file.exists()


@lru_cache(maxsize=8)
def get_engine(url: str, file: Path | None, max_wait_seconds: float | None = None) -> sa.Engine:
    """Return the engine of a database, after creating or migrating its tables if necessary.

    Parameters
    ----------
    url : str
        SQLAlchemy URL.
    file : Path or None
        The SQLite file, locked while one process creates or migrates the tables.
    max_wait_seconds : float, optional
        As in ``open_transaction``.

    Raises
    ------
    KitError
        If the URL is invalid, its driver is not installed, or the tables are not those of
        mlops-kit or of a newer version.
    MissingExtraError
        If the driver for PostgreSQL is not installed.
    RunFailedError
        If the database cannot be opened, or its migration fails.
    """
    with _explain_errors(file):
        engine = _create_engine(url, file, max_wait_seconds)
        _prepare_schema(engine, file)
    return engine


@contextmanager
def _explain_errors(file: Path | None) -> Iterator[None]:
    """Raise the errors of SQLAlchemy and of drivers as errors for users."""
    try:
        yield
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
        if isinstance(error, ImportError) and error.name == _POSTGRES_DRIVER:
            raise MissingExtraError("postgres", _POSTGRES_DRIVER) from error
        raise KitError(
            f"database: {str(error).splitlines()[0]}",
            "a SQLAlchemy URL with an installed driver, such as postgresql+psycopg://…",
            "edit 'database' in mlops.yaml, or pip install the driver",
        ) from error
    except sa.exc.DBAPIError as error:
        reason = (str(error.orig).splitlines() or [type(error.orig).__name__])[0]
        if file is not None:
            raise RunFailedError(
                f"the database {file} cannot be opened: {reason}",
                "a SQLite database in a folder that you may write to",
                "restore a backup, move the file away, or edit 'database' in mlops.yaml",
            ) from error
        if not isinstance(error, sa.exc.OperationalError):
            raise RunFailedError(
                f"the tables of the database cannot be prepared: {reason}",
                "a user who may create tables",
                "grant the permission, or edit 'database' in mlops.yaml",
            ) from error
        raise RunFailedError(
            f"the database does not answer: {reason}",
            "a server at the address given under 'database'",
            "start the server, or edit 'database' in mlops.yaml",
        ) from error


def _create_engine(url: str, file: Path | None, max_wait_seconds: float | None) -> sa.Engine:
    """Create an engine that waits for SQLite's lock, or checks a server's connections."""
    if file is None:
        connect_args: dict[str, Any] = {}
        if max_wait_seconds is not None:
            milliseconds = round(1000 * max_wait_seconds)
            connect_args["options"] = f"-c lock_timeout={milliseconds}"
            # A server that cannot be reached refuses nothing: it does not answer.
            connect_args["connect_timeout"] = _MAX_ANSWER_SECONDS
            connect_args["tcp_user_timeout"] = 1000 * _MAX_ANSWER_SECONDS
        return sa.create_engine(url, pool_pre_ping=True, connect_args=connect_args)
    if max_wait_seconds is None:
        max_wait_seconds = schema.LOCK_TIMEOUT_SECONDS
    engine = sa.create_engine(
        url,
        connect_args={"timeout": max_wait_seconds},
        pool_pre_ping=False,
    )
    sa.event.listen(engine, "connect", schema.set_durable_mode)
    return engine


def _prepare_schema(engine: sa.Engine, file: Path | None) -> None:
    """Create the tables or migrate them, unless the database is up to date."""
    if _read_revision(engine, file) == schema.HEAD_REVISION:
        return
    lock: AbstractContextManager[Any] = nullcontext()
    if file is not None:
        lock = FileLock(f"{file}.lock")  # also creates the folder
    with lock, schema.open_exclusive_connection(engine) as connection:
        # Another process may have been here first.
        revision = schema.read_revision(connection)
        if revision == schema.HEAD_REVISION:
            return
        if revision is None and not schema.has_tables(connection):
            schema.create_tables(connection)
            connection.commit()
            return
        from mlops_kit.db.migrations import upgrade

        outcome = upgrade.migrate_schema(connection, revision, file)
    _logger.warning("%s", outcome)


def _read_revision(engine: sa.Engine, file: Path | None) -> str | None:
    """Return the recorded schema revision; None if there is none, or no file."""
    if file is not None and not file.exists():
        return None
    with engine.connect() as connection:
        return schema.read_revision(connection)


class SchemaStatus(NamedTuple):
    """The schema revision of a database, and the backups that were made before migrations."""

    revision: str | None  # None if none was recorded: an empty database, or one of version 0.1
    head: str
    is_current: bool
    backups: list[Path]  # of a SQLite file, the oldest first


def read_schema_status(project: Project) -> SchemaStatus:
    """Read the schema revision of a database without migrating it.

    Raises
    ------
    KitError
        If the revision is newer than this version of mlops-kit, or the URL is invalid.
    RunFailedError
        If the database cannot be opened.
    """
    from mlops_kit.db.migrations import backups

    url, file = resolve_database_url(project)
    with _explain_errors(file):
        engine = sa.create_engine(url)
        revision = _read_revision(engine, file)
        engine.dispose()
    is_current = revision == schema.HEAD_REVISION
    if not is_current:
        from mlops_kit.db.migrations import upgrade

        upgrade.require_known_revision(revision)
    return SchemaStatus(
        revision,
        head=schema.HEAD_REVISION,
        is_current=is_current,
        backups=backups.find_backups(file),
    )


def open_transaction(
    project: Project, max_wait_seconds: float | None = None
) -> AbstractContextManager[Session]:
    """Open a session that commits on success and rolls back on an exception.

    Parameters
    ----------
    max_wait_seconds : float, optional
        How long to wait for the transactions of other processes; by default
        ``schema.LOCK_TIMEOUT_SECONDS`` with SQLite and as long as it takes with a server.
    """
    url, file = resolve_database_url(project)
    # One engine for all who do not say how long they wait: arguments are part of the cache's key.
    options = () if max_wait_seconds is None else (max_wait_seconds,)
    engine = get_engine(url, file, *options)
    make_session = sessionmaker(engine, expire_on_commit=False)
    return make_session.begin()


def close_connections() -> None:
    """Open the database anew for the next transaction, such as after its file was replaced.

    Connections in use stay open until their transaction ends.
    """
    get_engine.cache_clear()


@contextmanager
def guard_writes(project: Project, check: Callable[[Session], None]) -> Iterator[None]:
    """Let a check decide whether what this process writes to a database is committed.

    Parameters
    ----------
    check : callable
        Called in each transaction that has written to the project's database, before it is
        committed; an error that it raises rolls the transaction back.
    """
    engine = get_engine(*resolve_database_url(project))

    def note_flush(session: Session, *_context: object) -> None:
        session.info[_HAS_WRITTEN] = True

    def note_statement(state: ORMExecuteState) -> None:
        if state.is_insert or state.is_update or state.is_delete:
            state.session.info[_HAS_WRITTEN] = True

    def check_commit(session: Session) -> None:
        session.flush()
        if session.info.pop(_HAS_WRITTEN, False) and session.get_bind().engine.url == engine.url:
            check(session)

    listeners = (
        ("after_flush", note_flush),
        ("do_orm_execute", note_statement),
        ("before_commit", check_commit),
    )
    for event, listener in listeners:
        sa.event.listen(Session, event, listener)
    try:
        yield
    finally:
        for event, listener in listeners:
            sa.event.remove(Session, event, listener)


@contextmanager
def open_snapshot(project: Project) -> Iterator[None]:
    """Let everything that reads within this block see the database as it is now.

    What other processes commit meanwhile is not seen, so that what is read by several queries
    agrees. It holds for ``open_read_session`` and ``query_records`` in the same thread or task;
    SQLite keeps what was overwritten as long as the block lasts.
    """
    if not database_exists(project):
        yield
        return
    url, file = resolve_database_url(project)
    with get_engine(url, file).connect() as connection:
        if file is None:
            connection.execution_options(isolation_level="REPEATABLE READ")
        else:
            connection.exec_driver_sql("BEGIN")
        schema.read_revision(connection)  # a snapshot begins with the first query
        with Session(connection, expire_on_commit=False) as session:
            token = _snapshot.set(_Snapshot(url, session))
            try:
                yield
            finally:
                _snapshot.reset(token)


@contextmanager
def open_read_session(project: Project) -> Iterator[Session]:
    """Open a session that only reads: that of the snapshot, if there is one."""
    snapshot = _snapshot.get()
    url, _ = resolve_database_url(project)
    if snapshot is not None and snapshot.url == url:
        yield snapshot.session
        return
    with open_transaction(project) as session:
        yield session


def query_records(project: Project, statement: sa.Select[_T]) -> list[_T]:
    """Return the objects a query selects; an empty list if there is no database yet."""
    if not database_exists(project):
        return []
    with open_read_session(project) as session:
        return list(session.scalars(statement))
