"""Model families: any frame in, the same model each time, a file that loads without mlops-kit."""

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


def make_config(task: str) -> ProjectConfig:
    return validate_config({"name": "p", "source": "x.csv", "target": "y", "task": task}, "test")


def make_mixed_frame(task: str = "binary", rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    x = rng.normal(size=rows)
    frame = pd.DataFrame(
        {"x": x, "count": rng.integers(0, 9, rows), "flag": rng.random(rows) < 0.5, "empty": np.nan}
    )
    frame["seen"] = pd.Series(rng.choice([True, False, None], rows), dtype=object)
    frame["colour"] = pd.Series(rng.choice(["red", "blue", None], rows), dtype=object)
    frame["when"] = pd.Timestamp("2020-01-01", tz="UTC")
    y = x + (frame["colour"] == "red") + rng.normal(scale=0.3, size=rows)
    frame["y"] = {
        "binary": (y > 0.5).astype(float),
        "multiclass": pd.qcut(y, 3, labels=False).astype(float),
        "regression": y,
    }[task]
    frame.loc[::7, "x"] = np.nan
    return frame


def fit_family(name: str, task: str, frame: pd.DataFrame) -> Any:
    return fitting.fit_model(
        name, families.MODEL_FAMILIES[name].default_params, frame, FEATURES, make_config(task), 3
    )


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_family_accepts_mixed_columns_without_warning(name: str, task: str) -> None:
    frame = make_mixed_frame(task)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit_family(name, task, frame)
        scores = fitting.compute_scores(model, frame, FEATURES, make_config(task))
    assert scores.shape == ((300, 3) if task == "multiclass" else (300,))
    assert np.isfinite(scores).all()
    if task == "multiclass":
        assert list(model.classes_) == [0, 1, 2]
        assert scores.sum(axis=1) == pytest.approx(np.ones(300))
    if task == "binary":
        assert list(model.classes_) == [0, 1]
        assert (scores >= 0).all()
        assert (scores <= 1).all()


@pytest.mark.parametrize(("name", "task"), [p for p in PAIRS if p[0] != "constant"])
def test_family_learns_the_signal(name: str, task: str) -> None:
    frame = make_mixed_frame(task)
    scores = fitting.compute_scores(
        fit_family(name, task, frame), frame, FEATURES, make_config(task)
    )
    if task == "multiclass":
        scores = scores @ np.arange(3)
    assert np.corrcoef(scores, frame["y"])[0, 1] > 0.5


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_same_seed_gives_identical_scores(name: str, task: str) -> None:
    frame = make_mixed_frame(task)
    first, second = (
        fitting.compute_scores(fit_family(name, task, frame), frame, FEATURES, make_config(task))
        for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_skops_file_has_no_class_of_ours_and_identical_scores(
    name: str, task: str, tmp_path: Path
) -> None:
    frame = make_mixed_frame(task)
    file = tmp_path / "m.skops"
    model = fit_family(name, task, frame)
    skops.io.dump(model, file)
    trusted = check_model_types(file)
    assert len(trusted) <= 12
    assert not any(t.startswith("mlops_kit") for t in skops.io.get_untrusted_types(file=file))
    loaded = skops.io.load(file, trusted=trusted)
    assert (
        fitting.compute_scores(loaded, frame, FEATURES, make_config(task)).tobytes()
        == fitting.compute_scores(model, frame, FEATURES, make_config(task)).tobytes()
    )


@pytest.mark.parametrize("name", [n for n, f in families.MODEL_FAMILIES.items() if f.is_searched])
def test_missing_value_representations_score_alike(name: str) -> None:
    frame = make_mixed_frame()
    model = fit_family(name, "binary", frame)
    scores = []
    for missing in (None, np.nan, pd.NA):
        row = (
            frame.head(1)
            .astype({"colour": object})
            .assign(colour=pd.Series([missing], dtype=object))
        )
        scores.append(fitting.compute_scores(model, row, FEATURES, make_config("binary"))[0])
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize("name", [n for n, f in families.MODEL_FAMILIES.items() if f.is_searched])
def test_unseen_category_and_all_missing_row_are_scored(name: str) -> None:
    frame = make_mixed_frame()
    model = fit_family(name, "binary", frame)
    unseen = frame.head(2).assign(colour="green")
    all_missing = pd.DataFrame({c: [np.nan] for c in FEATURES})
    assert np.isfinite(fitting.compute_scores(model, unseen, FEATURES, make_config("binary"))).all()
    assert np.isfinite(
        fitting.compute_scores(model, all_missing, FEATURES, make_config("binary"))
    ).all()


def test_boolean_scores_do_not_depend_on_dtype() -> None:
    frame = make_mixed_frame()
    model = fit_family("linear", "binary", frame)
    expected = fitting.compute_scores(model, frame, FEATURES, make_config("binary"))
    assert (
        fitting.compute_scores(
            model, frame.astype({"flag": object}), FEATURES, make_config("binary")
        ).tobytes()
        == expected.tobytes()
    )
    assert (
        fitting.compute_scores(
            model, frame.astype({"flag": "boolean"}), FEATURES, make_config("binary")
        ).tobytes()
        == expected.tobytes()
    )


@pytest.mark.parametrize("name", [n for n, f in families.MODEL_FAMILIES.items() if f.is_searched])
def test_suggestions_have_default_keys_and_defaults_are_in_space(
    name: str,
) -> None:
    import optuna

    family = families.MODEL_FAMILIES[name]
    fixed = {f"{name}.{k}": v for k, v in family.default_params.items()}
    with warnings.catch_warnings():
        # Optuna warns of a value outside its range or between two steps.
        warnings.simplefilter("error")
        assert family.suggest_params(optuna.trial.FixedTrial(fixed)) == family.default_params


def test_families_of_config_or_all_that_fit_are_selected() -> None:
    assert families.select_families("binary", []) == ["linear", "boosting", "lightgbm", "forest"]
    assert families.select_families("binary", ["forest", "linear", "forest"]) == [
        "forest",
        "linear",
    ]
    with pytest.raises(KitError, match="'forest'"):
        families.select_families("binary", ["forrest"])
    with pytest.raises(KitError, match="constant"):
        families.select_families("binary", ["constant"])


def test_constant_predicts_share_or_mean() -> None:
    for task in families.SUPPORTED_TASKS:
        frame = make_mixed_frame(task)
        scores = fitting.compute_scores(
            fit_family("constant", task, frame), frame, FEATURES, make_config(task)
        )
        expected = frame["y"].mean()
        if task == "multiclass":
            expected = np.tile(frame["y"].value_counts(normalize=True).sort_index(), (300, 1))
        assert scores == pytest.approx(expected)
    assert list(families.list_baselines("binary")) == ["constant", "linear"]
