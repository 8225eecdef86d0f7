"""A small project with time, a champion and the run that made it, built without notebooks: what a watch needs.

The target follows ``a`` for forty days and its opposite from then on, so that a model made on day 30 falls.
"""

from __future__ import annotations

import json
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
from mlops_kit.registry import models, store, versions
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stages.stage import Stage

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
split: {test: 10d, folds: 2}
train: {trials: 2}
cost: {false_alarm: 1, miss: 2, unit: $}
review: {draws: 100}
retrain: {min_labels: 100}
"""
STILL = YAML.replace(
    "retrain: {min_labels: 100}",
    "retrain: {labels: 100, on_performance_drop: false, on_concept_drift: false}",
)  # it watches, and makes no new model
FEATURES = ["a", "b", "c"]
RUN = "20240131-000000-aaaa"
DAYS, TURN, EACH = 60, 40, 40  # days in all, the day on which the world turns, rows a day


def rows() -> pd.DataFrame:
    """Forty rows a day from 1 January 2024."""
    rng = np.random.default_rng(0)
    count = DAYS * EACH
    day = np.arange(count) // EACH
    a, b = rng.normal(size=count), rng.normal(size=count)
    chance = 1 / (1 + np.exp(-2 * np.where(day < TURN, a, -a)))
    at = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(count) * (1440 / EACH), unit="min")
    return pd.DataFrame(
        {
            "k": np.arange(count),
            "at": at,
            "a": a,
            "b": b,
            "c": rng.choice(["x", "y", "z"], count),
            "y": (rng.random(count) < chance).astype(int),
        }
    )


def build(home: Path, yaml: str = YAML) -> loader.Project:
    """The project's folder, with version 1 as the champion."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from sklearn.utils import check_array
    from skrub import TableVectorizer

    home.mkdir(parents=True)
    (home / "mlops.yaml").write_text(yaml)
    rows().to_csv(home / "t.csv", index=False)
    project = loader.load_project(home)
    known = source.read_source(project, project.config.to_utc(project.config.as_of))
    contract.save_contract(
        home / "contract.yaml", contract_inference.infer_contract(known, project.config)
    )
    part = np.where(known["at"] >= known["at"].max() - pd.Timedelta(days=10), "test", "train")
    labelled = known.assign(part=part)[known["y"].notna()].reset_index(drop=True)
    train, test = labelled[labelled["part"] == "train"], labelled[labelled["part"] == "test"]
    # skrub yields float32, whose scores would be rounded to seven digits.
    to_float64 = FunctionTransformer(check_array, kw_args={"dtype": "float64"})
    model = make_pipeline(TableVectorizer(), to_float64, StandardScaler(), LogisticRegression())
    model.fit(train[FEATURES], train["y"])
    scores = predict_scores(model, test[FEATURES], project.config)
    stage = Stage("review", project, project.reports_folder / RUN, draft=False)
    stage.write("features", labelled)
    stage.write("held_out_scores", test[["k", "at", "y"]].assign(score=scores))
    stage.write(
        "metrics",
        Table(
            "Quality",
            "It is.",
            pd.DataFrame([{"metric": "roc_auc", "value": 0.87, "low": 0.84, "high": 0.90}]),
        ),
    )
    register(project, model, test)
    return project


def register(project: loader.Project, model: Any, test: pd.DataFrame) -> None:
    """Version 1: saved, recorded, approved, serving."""
    import mlflow

    with store.connect_mlflow(project) as client:
        with mlflow.start_run(experiment_id=store.ensure_experiment(project, client)):
            record = models.save_model(
                client, project, "model", model, test[FEATURES].head(3), {"threshold": 0.4}
            )
        judged = {**record.to_record(), "from": str(test["at"].min()), "rows": ""}
        facts = {
            **record.to_record(),
            "features": json.dumps(FEATURES),
            "threshold": "0.4",
            "sample": "0",
            "run": RUN,
            "as_of": "2024-01-31 00:00:00+00:00",
            "judged": json.dumps(judged),
            "evidence_hash": "e",
            "author": "the fixture",
            "review": "passed",
        }
        versions.create_version(client, project, record.uri, facts)
    approvals.record_approval(
        project, versions.load_version(project, "1"), "approved", "the fixture", "to begin with"
    )
    versions.promote_version(project, "1", "the fixture", "to begin with")


def every(project: loader.Project, table: Any) -> list[Any]:
    """All rows of a table of the database, in order."""
    return query_records(project, sa.select(table).order_by(*sa.inspect(table).primary_key))


def picture(project: loader.Project) -> dict[str, Any]:
    """All that a watch leaves, without clocks of the wall."""
    clocks = {"at", "id"}
    plain = {
        t.__tablename__: [
            {c.key: getattr(r, c.key) for c in sa.inspect(t).feature_names if c.key not in clocks}
            for r in every(project, t)
        ]
        for t in (LabelRecord, WindowRecord, IncidentRecord, RetrainingRecord)
    }
    return {
        **plain,
        "predictions": [(p.id, p.score, p.at) for p in every(project, PredictionRecord)],
        "watch": [(w.since, w.upto) for w in every(project, WatchRecord)],
    }
