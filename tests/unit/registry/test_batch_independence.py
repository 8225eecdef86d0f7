"""A row has the same score in every batch, whichever kernels and threads BLAS uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn import ensemble, linear_model, svm
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import all_estimators

from mlops_kit.registry import batch_independence, scoring
from mlops_kit.stages.train import families
from tests.support.environment import ROOT

ROWS = 203
# Kernels that every x86-64 CPU of the last decade can run; another kind of CPU ignores the name.
KERNELS = {"": 2, "Haswell": 1, "Nehalem": 2}  # and the threads to run each with
ROWS_BY_BATCH_SIZE = {1: 12, 3: 30, 64: ROWS, 129: ROWS}


def make_rows(width: int) -> pd.DataFrame:
    rng = np.random.default_rng(width)
    rows = pd.DataFrame(rng.normal(size=(ROWS, width))).add_prefix("x")
    rows.iloc[::7, 0] = np.nan
    return rows.assign(name=rng.choice(["a", "b", None], ROWS))


def fitted_models(task: str, width: int) -> dict[str, tuple[Any, pd.DataFrame]]:
    """Models by name, each with the rows it scores."""
    rows = make_rows(width)
    numbers = rows.drop(columns="name").fillna(0.0)
    value = numbers.sum(axis=1) + np.random.default_rng(0).normal(size=ROWS)
    target = value
    linear: Any = linear_model.Ridge()
    if task != "regression":
        class_count = 2 if task == "binary" else 3
        target = pd.qcut(value, class_count, labels=False)
        linear = CalibratedClassifierCV(linear_model.LogisticRegression(), cv=3)
    to_sparse = FunctionTransformer(sparse.csr_matrix, accept_sparse=True)
    to_float32 = FunctionTransformer(np.float32)
    by_name = {
        name: (family.build(dict(family.default_params), task, rows, list(rows), 0), rows)
        for name, family in families.MODEL_FAMILIES.items()
        if name in {"linear", "boosting", "lightgbm"}
    }
    by_name["dense"] = make_pipeline(StandardScaler(), linear), numbers
    by_name["sparse"] = make_pipeline(StandardScaler(), to_sparse, linear), numbers
    by_name["float32"] = make_pipeline(StandardScaler(), to_float32, linear), numbers
    for model, x in by_name.values():
        model.fit(x, target)
    return by_name


def batch_dependent_rows(model: Any, rows: pd.DataFrame, task: str) -> int:
    """Count the scores that differ from those of all rows at once: shuffled, single, in batches."""
    config: Any = SimpleNamespace(task=task)
    expected = scoring.predict_scores(model, rows, config)
    order = np.random.default_rng(0).permutation(len(rows))
    differs = int(
        (scoring.predict_scores(model, rows.iloc[order], config) != expected[order]).sum()
    )
    for size, count in ROWS_BY_BATCH_SIZE.items():
        starts = range(0, count, size)
        parts = [
            scoring.predict_scores(model, rows[i : min(i + size, count)], config) for i in starts
        ]
        differs += int((np.concatenate(parts) != expected[:count]).sum())
    return differs


def print_batch_dependence() -> None:
    """Print as JSON how many scores depend on the batch, by model; runs in a process of its own."""
    counts = {
        f"{task}, {width} columns, {name}": batch_dependent_rows(model, rows, task)
        for task in families.SUPPORTED_TASKS
        for width in (3, 60)
        for name, (model, rows) in fitted_models(task, width).items()
    }
    print(json.dumps(counts))


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "threads"), KERNELS.items())
def test_a_score_does_not_depend_on_the_batch(kernel: str, threads: int) -> None:
    code = (
        "from tests.unit.registry.test_batch_independence import print_batch_dependence as f; f()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={
            **os.environ,
            "OPENBLAS_CORETYPE": kernel,
            "OPENBLAS_NUM_THREADS": str(threads),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts
    assert {name: count for name, count in counts.items() if count} == {}


def linear_estimators() -> list[Any]:
    """Every linear estimator of scikit-learn that is fitted on one target."""
    classes = [
        kind
        for _, kind in all_estimators(["classifier", "regressor"])
        if kind.__module__.startswith("sklearn.linear_model.") and "MultiTask" not in kind.__name__
    ]
    return [*classes, svm.LinearSVC, svm.LinearSVR]


@pytest.mark.parametrize("kind", linear_estimators())
def test_every_linear_estimator_answers_as_scikit_learn_does(kind: Any) -> None:
    x = make_rows(5).drop(columns="name").fillna(0.0)
    value = x.sum(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = kind().fit(x, value > 0 if hasattr(kind, "decision_function") else value.abs())
    rowwise = batch_independence.make_batch_independent(model)
    assert rowwise is not model
    expected, found = model.predict(x), rowwise.predict(x)
    assert found == pytest.approx(expected, rel=batch_independence.SCORE_TOLERANCE, abs=1e-12)
    if hasattr(model, "predict_proba"):
        expected, found = model.predict_proba(x), rowwise.predict_proba(x)
        np.testing.assert_allclose(found, expected, rtol=batch_independence.SCORE_TOLERANCE)


def test_a_linear_model_is_found_in_what_wraps_it() -> None:
    x = make_rows(5).drop(columns="name").fillna(0.0)
    y = x.sum(axis=1)
    logistic = make_pipeline(StandardScaler(), linear_model.LogisticRegression()).fit(x, y > 0)
    wrapped = [
        logistic,
        CalibratedClassifierCV(logistic, cv=3).fit(x, y > 0),
        CalibratedClassifierCV(FrozenEstimator(logistic)).fit(x, y > 0),
        TransformedTargetRegressor(linear_model.Ridge(), func=np.sinh, inverse_func=np.arcsinh),
    ]
    wrapped[-1].fit(x, y)
    for model in wrapped:
        rowwise = batch_independence.make_batch_independent(model)
        assert rowwise is not model
        assert type(rowwise) is type(model)
        np.testing.assert_allclose(
            rowwise.predict(x), model.predict(x), batch_independence.SCORE_TOLERANCE
        )


def test_kernel_machines_and_trees_are_left_alone() -> None:
    x = make_rows(5).drop(columns="name").fillna(0.0)
    for model in (svm.SVC(kernel="linear"), ensemble.RandomForestClassifier(5)):
        model.fit(x, x.sum(axis=1) > 0)
        assert batch_independence.make_batch_independent(model) is model


def test_rows_beyond_one_block_are_all_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    x = make_rows(5).drop(columns="name").fillna(0.0)
    model = linear_model.Ridge().fit(x, x.sum(axis=1))
    expected = batch_independence.make_batch_independent(model).predict(x)
    monkeypatch.setattr(batch_independence, "MAX_BLOCK_VALUES", 37)
    assert batch_independence.make_batch_independent(model).predict(x).tolist() == expected.tolist()
