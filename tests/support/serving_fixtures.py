"""A small project with a champion; its MLflow store is shared, as creating one takes seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from mlops_kit.data import contract, contract_inference, source
from mlops_kit.db import approvals
from mlops_kit.project import loader
from mlops_kit.registry import models, registration, store, versions
from mlops_kit.stages.stage import Stage
from tests.support.mlflow_stores import write_empty_store

YAML = """
name: small
source: t.csv
target: y
task: binary
id: k
time: at
timezone: America/New_York
label_delay: 1d
approval: automatic
as_of: 2024-01-05
until: 2024-01-08
"""
FEATURES = ["a", "b"]


def rows() -> pd.DataFrame:
    """A row an hour for ten days; what is later than ``a`` says is 1."""
    hours = np.arange(240)
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(hours, unit="h")
    return pd.DataFrame(
        {
            "k": hours,
            "at": at,
            "a": np.sin(hours),
            "b": np.cos(hours * 2),
            "y": (np.sin(hours) > 0).astype(int),
        }
    )


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's folder with a version 1 that serves; copied by those who change it."""
    import mlflow

    home = tmp_path_factory.mktemp("deploy") / "home"
    home.mkdir()
    write_empty_store(home)
    (home / "mlops.yaml").write_text(YAML)
    rows().to_csv(home / "t.csv", index=False)
    project = loader.load_project(home)
    frame = source.read_source(project)
    contract.save_contract(
        home / "contract.yaml", contract_inference.infer_contract(frame, project.config)
    )
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(frame[FEATURES], frame["y"])
    with store.connect_mlflow(project) as client:
        with mlflow.start_run(experiment_id=store.ensure_experiment(project, client)):
            record = models.save_model(
                client, project, "model", model, frame[FEATURES].head(3), {"threshold": 0.5}
            )
        facts = {
            **record.to_record(),
            "features": json.dumps(FEATURES),
            "threshold": "0.5",
            "sample": "0",
            "run": "the fixture's",
            "as_of": "2024-01-05",
            "judged": json.dumps(record.to_record()),
            "evidence_hash": "e",
            "author": "the fixture",
        }
        for review in ("passed", "passed", "failed"):
            registration.create_version(client, project, record.uri, {**facts, "review": review})
    approvals.record_approval(
        project, versions.load_version(project, "1"), "approved", "the fixture", "to begin with"
    )
    versions.promote_version(project, "1", "the fixture", "to begin with")
    return home


@pytest.fixture
def served(original: Path) -> loader.Project:
    """The project with version 1 as champion; only to be read."""
    return loader.load_project(original)


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> loader.Project:
    """The same in a folder of the test's own; versions 2 (passed) and 3 (failed) do not serve."""
    return loader.load_project(shutil.copytree(original, tmp_path / "copy"))


@pytest.fixture
def staged() -> Callable[..., Stage]:
    """The deploy stage of a run of the project, with some values laid over."""

    def make(project: loader.Project, draft: bool = False, **values: Any) -> Stage:
        laid = project.with_values("the test", **values)
        return Stage(
            "deploy",
            laid,
            laid.reports_folder / ("draft" if draft else "20240108-000000-abcd"),
            draft,
        )

    return make
