"""Connection to MLflow: the project's store and experiment.

MLflow records absolute paths. If the project's folder was moved, connecting updates them.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from mlops_kit.core.lazy import LazyModule
from mlops_kit.project.loader import SQLITE_PREFIX, Project

if TYPE_CHECKING:
    import mlflow as mlflow  # the other modules of this package import it from here
else:
    mlflow = LazyModule("mlflow")

# MLflow reads these variables when it is imported.
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_LOCATION_FILE = "root"  # beside the store: the folder for which its paths were written
_PATH_COLUMNS = (  # (table, column) pairs in which MLflow's SQLite store holds absolute paths
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_RELOCATE_SQL = "UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} LIKE ?"


def find_store_file(project: Project) -> Path | None:
    """Return the SQLite file of a local MLflow store; None for a server."""
    return project.find_sqlite_file(project.config.tracking)


@contextmanager
def connect_mlflow(project: Project) -> Iterator[mlflow.MlflowClient]:
    """Connect MLflow to the project's store, which is created if it does not exist.

    A lock lets one process at a time create or migrate the store, because MLflow's migrations
    fail when two run at once.
    """
    for name, value in _MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    file = find_store_file(project)
    uri = f"{SQLITE_PREFIX}{file}" if file else project.config.tracking
    mlflow.set_tracking_uri(uri)
    # Importing MLflow sets these levels, and a new store would log each of its migrations.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if file is None:
        yield mlflow.MlflowClient(uri)
        return
    with FileLock(f"{file}.lock"):  # also creates the folder
        _relocate_artifacts(file)
        mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient(uri)
        ensure_experiment(project, client)
        location_file = file.parent / _LOCATION_FILE
        location_file.write_text(str(file.parent), encoding="utf-8")
    yield client


def ensure_experiment(project: Project, client: mlflow.MlflowClient) -> str:
    """Return the id of the project's experiment, which is created if it does not exist."""
    name = project.config.name
    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    file = find_store_file(project)
    artifact_location = (file.parent / "artifacts").as_uri() if file else None
    return str(client.create_experiment(name, artifact_location=artifact_location))


def _relocate_artifacts(file: Path) -> None:
    """Rewrite the store's absolute paths if the project's folder was moved.

    The folder for which the paths were written is kept beside the store. All paths change in one
    transaction.
    """
    location_file = file.parent / _LOCATION_FILE
    new_location = str(file.parent)
    old_location = new_location
    if location_file.exists():
        old_location = location_file.read_text(encoding="utf-8")
    if old_location == new_location or not file.exists():
        return
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, column in _PATH_COLUMNS:
            statement = _RELOCATE_SQL.format(
                table=table,
                column=column,
            )
            connection.execute(statement, (old_location, new_location, f"%{old_location}%"))
