"""The families: any frame in, the same model each time, and a file that opens without mlops-kit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io

from mlops_kit.core.errors import KitError
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.validation import validate_config
from mlops_kit.registry.models import check_model_types
from mlops_kit.stages.train import families, fitting

FEATURES = ["x", "count", "flag", "seen", "colour", "empty", "when"]
PAIRS = [(name, task) for name, family in families.MODEL_FAMILIES.items() for task in family.tasks]


def config(task: str, **more: Any) -> ProjectConfig:
    return validate_config(
        {"name": "p", "source": "x.csv", "target": "y", "task": task, **more}, "test"
    )


def mixed(task: str = "binary", rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    x = rng.normal(size=rows)
    frame = pd.DataFrame(
        {"x": x, "count": rng.integers(0, 9, rows), "flag": rng.random(rows) < 0.5, "empty": np.nan}
    )
    frame["seen"] = pd.Series(rng.choice([True, False, None], rows), dtype=object)
    frame["colour"] = pd.Series(rng.choice(["red", "blue", None], rows), dtype=object)
    frame["when"] = pd.Timestamp("2020-01-01", tz="UTC")
    y = x + (frame["colour"] == "red") + rng.normal(scale=0.3, size=rows)
    frame["y"] = (y > 0.5).astype(float) if task == "binary" else y
    frame.loc[::7, "x"] = np.nan
    return frame


def fitted(name: str, task: str, frame: pd.DataFrame) -> Any:
    return fitting.fit_model(
        name, families.MODEL_FAMILIES[name].default_params, frame, FEATURES, config(task), 3
    )


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_a_family_takes_strings_booleans_and_missing_values_without_a_warning(
    name: str, task: str
) -> None:
    frame = mixed(task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted(name, task, frame)
        scores = fitting.compute_scores(model, frame, FEATURES, config(task))
    assert scores.shape == (300,)
    assert np.isfinite(scores).all()
    if task == "binary":
        assert list(model.classes_) == [0, 1]
        assert (scores >= 0).all()
        assert (scores <= 1).all()


@pytest.mark.parametrize(("name", "task"), [p for p in PAIRS if p[0] != "constant"])
def test_a_family_learns_what_there_is_to_learn(name: str, task: str) -> None:
    frame = mixed(task)
    scores = fitting.compute_scores(fitted(name, task, frame), frame, FEATURES, config(task))
    assert np.corrcoef(scores, frame["y"])[0, 1] > 0.5


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_the_same_seed_gives_the_same_scores_bit_for_bit(name: str, task: str) -> None:
    frame = mixed(task)
    first, second = (
        fitting.compute_scores(fitted(name, task, frame), frame, FEATURES, config(task))
        for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_a_skops_file_holds_nothing_of_ours_and_scores_alike(
    name: str, task: str, tmp_path: Path
) -> None:
    frame, file = mixed(task), tmp_path / "m.skops"
    model = fitted(name, task, frame)
    skops.io.dump(model, file)
    asked = check_model_types(file)
    assert len(asked) <= 8
    assert not any(t.startswith("mlops_kit") for t in skops.io.get_untrusted_types(file=file))
    again = skops.io.load(file, trusted=asked)
    assert (
        fitting.compute_scores(again, frame, FEATURES, config(task)).tobytes()
        == fitting.compute_scores(model, frame, FEATURES, config(task)).tobytes()
    )


@pytest.mark.parametrize("name", [n for n, f in families.MODEL_FAMILIES.items() if f.is_searched])
def test_missing_is_missing_however_it_is_written(name: str) -> None:
    frame = mixed()
    model = fitted(name, "binary", frame)
    scores = []
    for gone in (None, np.nan, pd.NA):
        row = (
            frame.head(1).astype({"colour": object}).assign(colour=pd.Series([gone], dtype=object))
        )
        scores.append(fitting.compute_scores(model, row, FEATURES, config("binary"))[0])
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize("name", [n for n, f in families.MODEL_FAMILIES.items() if f.is_searched])
def test_an_unseen_category_and_a_row_of_missing_values_are_scored(name: str) -> None:
    frame = mixed()
    model = fitted(name, "binary", frame)
    unseen = frame.head(2).assign(colour="green")
    gone = pd.DataFrame({c: [np.nan] for c in FEATURES})
    assert np.isfinite(fitting.compute_scores(model, unseen, FEATURES, config("binary"))).all()
    assert np.isfinite(fitting.compute_scores(model, gone, FEATURES, config("binary"))).all()


def test_a_boolean_is_the_same_with_and_without_missing_values_beside_it() -> None:
    frame = mixed()
    model = fitted("linear", "binary", frame)
    whole = fitting.compute_scores(model, frame, FEATURES, config("binary"))
    assert (
        fitting.compute_scores(
            model, frame.astype({"flag": object}), FEATURES, config("binary")
        ).tobytes()
        == whole.tobytes()
    )
    assert (
        fitting.compute_scores(
            model, frame.astype({"flag": "boolean"}), FEATURES, config("binary")
        ).tobytes()
        == whole.tobytes()
    )


@pytest.mark.parametrize("name", [n for n, f in families.MODEL_FAMILIES.items() if f.is_searched])
def test_a_suggestion_has_the_keys_of_the_defaults_and_the_defaults_lie_in_the_space(
    name: str,
) -> None:
    import optuna

    family = families.MODEL_FAMILIES[name]
    fixed = {f"{name}.{k}": v for k, v in family.default_params.items()}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "error"
        )  # optuna warns of a value outside its range or between two steps
        assert family.suggest_params(optuna.trial.FixedTrial(fixed)) == family.default_params


def test_moments_and_empty_columns_are_neither_numbers_nor_names() -> None:
    assert families.split_numeric_categorical(mixed(), FEATURES) == (
        ["x", "count", "flag", "seen"],
        ["colour"],
    )


def test_the_families_of_the_config_or_all_that_fit() -> None:
    assert families.select_families("binary", []) == ["linear", "boosting", "lightgbm", "forest"]
    assert families.select_families("binary", ["forest", "linear", "forest"]) == [
        "forest",
        "linear",
    ]
    with pytest.raises(KitError, match="'forest'"):
        families.select_families("binary", ["forrest"])
    with pytest.raises(KitError, match="constant"):
        families.select_families("binary", ["constant"])


def test_the_constant_is_the_share_and_the_mean() -> None:
    for task in families.SUPPORTED_TASKS:
        frame = mixed(task)
        assert fitting.compute_scores(
            fitted("constant", task, frame), frame, FEATURES, config(task)
        ) == pytest.approx(frame["y"].mean())
    assert list(families.list_baselines("binary")) == ["constant", "linear"]
