"""Store."""

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
from mlops_kit.project.loader import Project

if TYPE_CHECKING:
    import mlflow
    import skops.io as skops
else:
    mlflow, skops = (LazyModule("mlflow"), LazyModule("skops.io"))
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}  # what MLflow reads when it is imported


def find_store_file(project: Project) -> Path | None:
    """The SQLite file of a local MLflow store; None for a server."""
    uri = project.config.tracking
    return (
        project.resolve_path(uri.removeprefix("sqlite:///"))
        if uri.startswith("sqlite:///")
        else None
    )


@contextmanager
def connect_mlflow(project: Project) -> Iterator[mlflow.MlflowClient]:
    """MLflow on the project's store, made if it is new, mended if the project's folder has moved.

    One process at a time makes the store (its migration does not bear two); the others wait.
    """
    for name, value in _MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    file = find_store_file(project)
    uri = f"sqlite:///{file}" if file else project.config.tracking
    mlflow.set_tracking_uri(uri)
    for name in (
        "mlflow",
        "alembic",
    ):  # a fresh store tells of each of its migrations; MLflow's import sets what it tells
        logging.getLogger(name).setLevel(logging.WARNING)
    if file is None:
        yield mlflow.MlflowClient(uri)
        return
    with FileLock(f"{file}.lock"):  # makes the folder too
        _relocate_artifacts(file)
        mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient(uri)
        ensure_experiment(project, client)
        (file.parent / "root").write_text(str(file.parent), encoding="utf-8")
    yield client


def ensure_experiment(project: Project, client: mlflow.MlflowClient) -> str:
    """The id of the project's experiment, made if it is new."""
    found = client.get_experiment_by_name(project.config.name)
    if found is not None:
        return str(found.experiment_id)
    file = find_store_file(project)
    return str(
        client.create_experiment(
            project.config.name,
            artifact_location=(file.parent / "artifacts").as_uri() if file else None,
        )
    )


def _relocate_artifacts(file: Path) -> None:
    """Point the store's absolute artifact paths at where the project now stands.

    MLflow records absolute paths; the folder they were written for is kept in ``root`` beside the
    store, and one transaction replaces it.
    """
    marker = file.parent / "root"
    old = marker.read_text(encoding="utf-8") if marker.exists() else str(file.parent)
    if old == str(file.parent) or not file.exists():
        return
    columns = [
        ("experiments", "artifact_location"),
        ("runs", "artifact_uri"),
        ("logged_models", "artifact_location"),
        ("model_versions", "source"),
        ("model_versions", "storage_location"),
    ]
    with closing(sqlite3.connect(file)) as connection, connection:
        for table, name in columns:
            connection.execute(
                f"UPDATE {table} SET {name} = replace({name}, ?, ?) WHERE {name} LIKE ?",
                (old, str(file.parent), f"%{old}%"),
            )
