"""Fits with row weights: scikit-learn's sample_weight, and repeated rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone
from sklearn.metrics import log_loss

from mlops_kit.core.errors import KitError
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.validation import validate_config
from mlops_kit.registry.models import check_model_types
from mlops_kit.stages.train import families, fitting, search

FEATURES = ["x", "z", "colour"]
PAIRS = [
    (name, task)
    for name, family in families.MODEL_FAMILIES.items()
    for task in family.tasks
    if task in {"binary", "regression"}
]


def make_config(task: str = "binary", **settings: Any) -> ProjectConfig:
    base = {"name": "p", "source": "x.csv", "target": "y", "task": task, "weight": "w"}
    return validate_config({**base, **settings}, "test")


def make_frame(task: str = "binary", rows: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    x = rng.normal(size=rows)
    signal = x + rng.normal(size=rows)
    return pd.DataFrame(
        {
            "row_id": range(rows),
            "x": x,
            "z": rng.normal(scale=50, size=rows),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "w": rng.integers(0, 4, rows).astype(float),
            "y": (signal > 0).astype(float) if task == "binary" else signal,
        }
    )


def fit_family(name: str, frame: pd.DataFrame, config: ProjectConfig) -> Any:
    params = families.MODEL_FAMILIES[name].default_params
    return fitting.fit_model(name, params, frame, FEATURES, config, 3)


@pytest.mark.filterwarnings("ignore:'n_jobs' has no effect")
@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_estimator_is_fitted_as_by_scikit_learn(name: str, task: str) -> None:
    frame = make_frame(task)
    config = make_config(task)
    model = fit_family(name, frame, config)
    prepared = frame[FEATURES]
    if name != "constant":
        prepared = model["table"].transform(frame[FEATURES])
    expected = clone(model["model"]).fit(prepared, frame["y"], sample_weight=frame["w"])
    predict = expected.predict if task == "regression" else expected.predict_proba
    scores = predict(prepared)
    if task == "binary":
        scores = scores[:, 1]
    assert fitting.compute_scores(model, frame, FEATURES, config) == pytest.approx(scores)


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("name", ["constant", "linear"])
def test_whole_weights_are_repeated_rows(name: str, task: str) -> None:
    frame = make_frame(task)
    repeated = frame.loc[frame.index.repeat(frame["w"].astype(int))].reset_index(drop=True)
    weighted = fit_family(name, frame, make_config(task))
    expected = fit_family(name, repeated, make_config(task, weight=None))
    assert fitting.compute_scores(weighted, frame, FEATURES, make_config(task)) == pytest.approx(
        fitting.compute_scores(expected, frame, FEATURES, make_config(task)), abs=1e-9
    )


@pytest.mark.parametrize("name", [name for name, task in PAIRS if task == "binary"])
def test_saved_model_has_the_same_types_as_without_weights(name: str, tmp_path: Path) -> None:
    types = []
    for weight in ("w", None):
        config = make_config(weight=weight)
        file = tmp_path / f"{weight}.skops"
        skops.io.dump(fit_family(name, make_frame(), config), file)
        types.append(check_model_types(file))
    assert types[0] == types[1]
    loaded = skops.io.load(tmp_path / "w.skops", trusted=types[0])
    assert len(fitting.compute_scores(loaded, make_frame(), FEATURES, make_config())) == 240


def test_family_without_sample_weight_is_refused_with_its_name() -> None:
    @families.register_model_family("neighbors", "nearest neighbors", tasks=["binary"])
    def build(_params: Any, _task: str, frame: Any, features: list[str], _seed: int) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        return families.build_model_pipeline(KNeighborsClassifier(), frame, features)

    try:
        with pytest.raises(KitError, match="'neighbors' cannot be fitted with row weights"):
            fit_family("neighbors", make_frame(), make_config())
    finally:
        del families.MODEL_FAMILIES["neighbors"]


@pytest.mark.slow
def test_search_objective_and_threshold_are_weighted(tmp_path: Path) -> None:
    frame = make_frame()
    config = make_config(
        train={"families": ["linear"], "trials": 1}, cost={"false_alarm": 1, "miss": 1}
    )
    _, recipe = search.search_recipes(frame, FEATURES, config, tmp_path / "s.log", progress=False)
    setup = search.prepare_search(frame, FEATURES, config)
    losses = []
    for training, validation in setup.folds:
        model = fit_family("linear", frame.iloc[training], config)
        held_out = frame.iloc[validation]
        scores = fitting.compute_scores(model, held_out, FEATURES, config)
        losses.append(log_loss(held_out["y"], scores, sample_weight=held_out["w"]))
    assert recipe.score == pytest.approx(np.mean(losses))
    heavy = frame.assign(w=np.where(frame["y"] == 1, 30.0, 1.0))
    _, other = search.search_recipes(heavy, FEATURES, config, tmp_path / "s.log", progress=False)
    assert other.score != recipe.score


def test_held_out_scores_keep_group_and_weight() -> None:
    frame = make_frame().assign(part=["train"] * 200 + ["test"] * 40)
    config = make_config(validation={"group": "colour"})
    model = fit_family("constant", frame, config)
    scores = fitting.score_held_out_rows({"score": model}, frame, ["x"], config)
    assert list(scores.columns) == ["row_id", "colour", "w", "y", "score"]
