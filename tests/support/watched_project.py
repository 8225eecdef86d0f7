"""A small project with a time column, a champion and the run that made it, built without notebooks.

The target follows ``a`` for forty days and its opposite afterwards, so that a model made on day 30
loses its performance.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from mlops_kit.core.results import Table
from mlops_kit.data import contract, contract_inference, source
from mlops_kit.db import approvals
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import (
    IncidentRecord,
    LabelRecord,
    PredictionRecord,
    RetrainingRecord,
    WatchRecord,
    WindowRecord,
)
from mlops_kit.project import loader
from mlops_kit.registry import models, registration, store, versions
from mlops_kit.registry.recipe import Recipe
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stages.stage import Stage
from tests.support.mlflow_stores import write_empty_store

YAML = """
name: watched
source: t.csv
target: y
task: binary
id: k
time: at
label_delay: 1d
approval: automatic
as_of: 2024-01-31
until: 2024-01-31
validation: {test: 10d, folds: 2}
train: {trials: 2, families: [linear]}
stages: {explore: {params: {profile_rows: 0}}}
cost: {false_alarm: 1, miss: 2, unit: $}
review: {draws: 100}
retrain: {min_labels: 100}
"""
YAML_WITHOUT_RETRAINING = YAML.replace(
    "retrain: {min_labels: 100}",
    "retrain: {min_labels: 100, on_performance_drop: false, on_concept_drift: false}",
)
FEATURES = ["a", "b", "c"]
# What `mlops replay` refits.
RECIPE = Recipe(
    family="linear",
    params={"alpha": 1.0},
    threshold=0.4,
    features=FEATURES,
    metric="log_loss",
    less_is_better=True,
    score=0.4,
    rows=800,
    folds=2,
    trials=2,
    seconds=1.0,
    stopped_by_clock=False,
    baselines={},
)
RUN_ID = "20240131-000000-aaaa"
DAYS = 60
CONCEPT_DRIFT_DAY = 40  # from this day on the target follows the opposite of `a`
ROWS_PER_DAY = 40


def make_rows() -> pd.DataFrame:
    """Make forty rows per day from 1 January 2024."""
    rng = np.random.default_rng(0)
    count = DAYS * ROWS_PER_DAY
    day = np.arange(count) // ROWS_PER_DAY
    a = rng.normal(size=count)
    b = rng.normal(size=count)
    signal = np.where(day < CONCEPT_DRIFT_DAY, a, -a)
    probability = 1 / (1 + np.exp(-2 * signal))
    minutes = np.arange(count) * (1440 / ROWS_PER_DAY)
    return pd.DataFrame(
        {
            "k": np.arange(count),
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, unit="min"),
            "a": a,
            "b": b,
            "c": rng.choice(["x", "y", "z"], count),
            "y": (rng.random(count) < probability).astype(int),
        }
    )


def build_project(home: Path, yaml: str = YAML) -> loader.Project:
    """Build the project's folder, with version 1 as the champion.

    The settings that tests vary say what happens later, so that all projects are copies of one.
    """
    shutil.copytree(_build_template(), home)
    (home / "mlops.yaml").write_text(yaml)
    return loader.load_project(home)


@functools.cache
def _build_template() -> Path:
    """Build the project that others are copied from, once per process."""
    folder = Path(tempfile.mkdtemp(prefix="watched-"))
    atexit.register(shutil.rmtree, folder)
    home = folder / "home"
    _train_first_version(home)
    return home


def _train_first_version(home: Path) -> None:
    """Train and promote version 1 of a new project."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from sklearn.utils import check_array
    from skrub import TableVectorizer

    home.mkdir()
    (home / "mlops.yaml").write_text(YAML)
    write_empty_store(home)
    make_rows().to_csv(home / "t.csv", index=False)
    project = loader.load_project(home)
    known = source.read_source(project, project.config.to_utc(project.config.as_of))
    contract.save_contract(
        home / "contract.yaml", contract_inference.infer_contract(known, project.config)
    )
    part = np.where(known["at"] >= known["at"].max() - pd.Timedelta(days=10), "test", "train")
    labeled = known.assign(part=part)[known["y"].notna()].reset_index(drop=True)
    train = labeled[labeled["part"] == "train"]
    test = labeled[labeled["part"] == "test"]
    # skrub yields float32, whose scores would be rounded to seven digits.
    to_float64 = FunctionTransformer(check_array, kw_args={"dtype": "float64"})
    model = make_pipeline(TableVectorizer(), to_float64, StandardScaler(), LogisticRegression())
    model.fit(train[FEATURES], train["y"])
    scores = predict_scores(model, test[FEATURES], project.config)
    stage = Stage("review", project, project.reports_folder / RUN_ID, draft=False)
    stage.write("features", labeled)
    stage.write("held_out_scores", test[["k", "at", "y"]].assign(score=scores))
    stage.write(
        "metrics",
        Table(
            "Performance on held-out rows",
            "ROC-AUC 0.870.",
            pd.DataFrame([{"metric": "roc_auc", "value": 0.87, "low": 0.84, "high": 0.90}]),
        ),
    )
    stage.write("recipe", RECIPE.to_dict())
    evaluation = {"from": str(test["at"].min()), "rows": ""}
    register_champion(project, model, test[FEATURES], 0.4, evaluation=evaluation)


def register_champion(
    project: loader.Project,
    model: Any,
    inputs: pd.DataFrame,
    threshold: float | None,
    *,
    evaluation: dict[str, str] | None = None,
    **facts: str,
) -> None:
    """Save, register, approve and promote version 1.

    Parameters
    ----------
    model : estimator
        The fitted model.
    inputs : DataFrame
        Rows as it scores them.
    threshold : float or None
        The decision threshold.
    evaluation : dict of str to str, optional
        What is recorded about the evaluated model.
    **facts
        Further facts about the version.
    """
    import mlflow

    with store.connect_mlflow(project) as client:
        with mlflow.start_run(experiment_id=store.ensure_experiment(project, client)):
            record = models.save_model(
                client, project, "model", model, inputs.head(3), {"threshold": threshold}
            )
        all_facts = {
            **record.to_record(),
            "features": json.dumps(list(inputs.columns)),
            "threshold": json.dumps(threshold),
            "sample": "0",
            "run": RUN_ID,
            "as_of": "2024-01-31 00:00:00+00:00",
            "judged": json.dumps({**record.to_record(), **(evaluation or {})}),
            "evidence_hash": "e",
            "author": "the fixture",
            "review": "passed",
            **facts,
        }
        registration.create_version(client, project, record.uri, all_facts)
    approvals.record_approval(
        project, versions.load_version(project, "1"), "approved", "the fixture", "to begin with"
    )
    versions.promote_version(project, "1", "the fixture", "to begin with")


def register_next_version(
    project: loader.Project,
    model: Any = None,
    as_of: str = "2024-02-23 00:00:00+00:00",
) -> str:
    """Register, approve and promote a version with a model, by default that of the champion.

    Returns
    -------
    str
        The number of the version.
    """
    import mlflow

    champion, champion_model = versions.load_champion(project)
    inputs = make_rows()[list(champion.features)].head(3)
    with store.connect_mlflow(project) as client:
        with mlflow.start_run(experiment_id=store.ensure_experiment(project, client)):
            record = models.save_model(
                client,
                project,
                "model",
                champion_model if model is None else model,
                inputs,
                {"threshold": champion.threshold},
            )
        facts = {
            **record.to_record(),
            "features": json.dumps(list(inputs.columns)),
            "threshold": json.dumps(champion.threshold),
            "sample": "0",
            "run": champion.run,
            "as_of": as_of,
            "judged": json.dumps(record.to_record()),
            "evidence_hash": as_of,
            "author": "the fixture",
            "review": "passed",
        }
        number = registration.create_version(client, project, record.uri, facts)
    approvals.record_approval(
        project, versions.load_version(project, number), "approved", "the fixture", "the next one"
    )
    versions.promote_version(project, number, "the fixture", "the next one")
    return number


def list_records(project: loader.Project, table: Any) -> list[Any]:
    """List all rows of a database table in their order."""
    return query_records(project, sa.select(table).order_by(*sa.inspect(table).primary_key))


def take_snapshot(project: loader.Project) -> dict[str, Any]:
    """Take everything that a watch stores, without the times of the wall clock."""
    left_out = {"id", "imported_at", "decided_at"}
    snapshot: dict[str, Any] = {}
    for table in (LabelRecord, WindowRecord, IncidentRecord, RetrainingRecord):
        names = [a.key for a in sa.inspect(table).column_attrs if a.key not in left_out]
        snapshot[table.__tablename__] = [
            {name: getattr(record, name) for name in names}
            for record in list_records(project, table)
        ]
    predictions = list_records(project, PredictionRecord)
    snapshot["predictions"] = [(p.id, p.score, p.scored_at) for p in predictions]
    progress = list_records(project, WatchRecord)
    snapshot["watch"] = [(p.watched_from, p.watched_until) for p in progress]
    return snapshot
