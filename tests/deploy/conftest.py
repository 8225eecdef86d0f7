"""A small project with a champion: one MLflow store for all tests here, since a fresh one costs seconds."""

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

from mlops_kit import config, contract, decisions, sources, tracking
from mlops_kit.stage import Stage

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
    (home / "mlops.yaml").write_text(YAML)
    rows().to_csv(home / "t.csv", index=False)
    project = config.load(home)
    frame = sources.read(project)
    contract.save(home / "contract.yaml", contract.infer(frame, project.config))
    model = make_pipeline(SimpleImputer(), LogisticRegression()).fit(frame[FEATURES], frame["y"])
    with tracking.connected(project) as client:
        with mlflow.start_run(experiment_id=tracking.experiment(project, client)):
            record = tracking.save_model(
                client, project, "model", model, frame[FEATURES].head(3), {"threshold": 0.5}
            )
        facts = {
            "features": json.dumps(FEATURES),
            "threshold": "0.5",
            "sample": "0",
            "run": "the fixture's",
            "as_of": "2024-01-05",
            "judged": json.dumps(record),
            "evidence_hash": "e",
            "author": "the fixture",
        }
        for review in ("passed", "passed", "failed"):
            tracking.new_version(client, project, record, {**record, **facts, "review": review})
    decisions.say(
        project, tracking.facts_of(project, "1"), "approved", "the fixture", "to begin with"
    )
    tracking.promote(project, "1", "the fixture", "to begin with")
    return home


@pytest.fixture
def served(original: Path) -> config.Project:
    """The project with version 1 as champion; only to be read."""
    return config.load(original)


@pytest.fixture
def copied(original: Path, tmp_path: Path) -> config.Project:
    """The same in a folder of the test's own; versions 2 (passed) and 3 (failed) do not serve."""
    return config.load(shutil.copytree(original, tmp_path / "copy"))


@pytest.fixture
def staged() -> Callable[..., Stage]:
    """The deploy stage of a run of the project, with some values laid over."""

    def make(project: config.Project, draft: bool = False, **values: Any) -> Stage:
        laid = project.with_values("the test", **values)
        return Stage(
            "deploy", laid, laid.reports / ("draft" if draft else "20240108-000000-abcd"), draft
        )

    return make
