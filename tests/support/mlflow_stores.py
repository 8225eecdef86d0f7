"""Empty MLflow stores, which MLflow takes seconds to create."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from pathlib import Path
from unittest import mock

from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES


@functools.cache
def _create_empty_store() -> bytes:
    """Let MLflow create a store; return the content of its file."""
    with mock.patch.dict(os.environ, DEFAULT_ENVIRONMENT_VARIABLES):
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mlflow.db"
        store = SqlAlchemyStore(f"sqlite:///{file}", f"{folder}/artifacts")
        store.engine.dispose()
        return file.read_bytes()


def write_empty_store(home: Path) -> None:
    """Write an MLflow store without runs into a project's folder."""
    file = home / ".mlops" / "mlflow.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(_create_empty_store())
