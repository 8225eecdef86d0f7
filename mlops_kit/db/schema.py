"""The schema revision of the database: read on opening, recorded when the tables are created.

Each database stores the revision of its tables in one row. Opening compares it with
``HEAD_REVISION``; only if they differ are the tables created here or migrated by
``mlops_kit.db.migrations``, which imports Alembic.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from mlops_kit.db.tables import Base

# The newest revision in migrations/versions: the one whose tables are those of tables.py.
HEAD_REVISION = "0009"
# Not Alembic's default name: MLflow's store has a table of that name and may share the database.
VERSION_TABLE_NAME = "mlops_alembic_version"
LOCK_TIMEOUT_SECONDS = 30  # how long a database waits for the transaction of another process
_POSTGRESQL_LOCK_KEY = int.from_bytes(b"mlops", "big")
_MAX_REVISION_CHARACTERS = 32  # as in Alembic

version_table = sa.Table(
    VERSION_TABLE_NAME,
    sa.MetaData(),
    sa.Column("version_num", sa.String(_MAX_REVISION_CHARACTERS), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE_NAME}_pkc"),
)


def read_revision(connection: sa.Connection) -> str | None:
    """Return the recorded schema revision; None if none was recorded."""
    if not sa.inspect(connection).has_table(VERSION_TABLE_NAME):
        return None
    return connection.scalar(sa.select(version_table.c.version_num))


def has_tables(connection: sa.Connection) -> bool:
    """Return whether the database has any of the project's tables."""
    present_tables = sa.inspect(connection).get_table_names()
    return not Base.metadata.tables.keys().isdisjoint(present_tables)


def create_tables(connection: sa.Connection) -> None:
    """Create all tables in a database that has none, and record the revision."""
    Base.metadata.create_all(connection)
    version_table.create(connection, checkfirst=True)
    connection.execute(sa.insert(version_table).values(version_num=HEAD_REVISION))


@contextmanager
def open_exclusive_connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a connection whose first transaction excludes other migrations and includes DDL.

    What the caller does not commit is rolled back.
    """
    if engine.dialect.name == "sqlite":
        engine = _create_exclusive_engine(engine.url)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            _lock_postgresql(connection)
        yield connection


def _lock_postgresql(connection: sa.Connection) -> None:
    """Wait for other migrations; then for no table longer than ``LOCK_TIMEOUT_SECONDS``."""
    # Whoever waited has to see what was committed meanwhile.
    connection.execution_options(isolation_level="READ COMMITTED")
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRESQL_LOCK_KEY)))
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS}s'")


def _create_exclusive_engine(url: sa.URL) -> sa.Engine:
    """Create a SQLite engine without pysqlite's own transactions, which do not include DDL."""
    engine = sa.create_engine(
        url,
        poolclass=sa.NullPool,
        connect_args={"timeout": LOCK_TIMEOUT_SECONDS},
    )
    sa.event.listen(engine, "connect", _disable_driver_transactions)
    sa.event.listen(engine, "begin", _begin_immediately)
    return engine


def _disable_driver_transactions(connection: Any, _record: Any) -> None:
    """Keep pysqlite from beginning and committing transactions."""
    set_durable_mode(connection)
    connection.isolation_level = None


def _begin_immediately(connection: sa.Connection) -> None:
    """Begin a transaction that excludes other writers from its start."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def set_durable_mode(connection: Any, _record: Any = None) -> None:
    """Set WAL mode and full synchronization on a new SQLite connection."""
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")
