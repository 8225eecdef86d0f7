"""What changed since the champion: line by line, and from what a run really leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core import files
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.project.validation import validate_config
from mlops_kit.registry import versions
from mlops_kit.stages.review import changes
from mlops_kit.stages.review.changes import (
    UNCHANGED,
    VersionDescription,
    list_changes,
    read_code_cells,
)
from mlops_kit.stages.stage import Stage

Make = Callable[..., ProjectConfig]
OLD = VersionDescription(
    100,
    "2013-05-31",
    ("a", "b"),
    "boosting",
    {"rate": 0.1, "depth": 3},
    0.25,
    {"review.margin": 0.005, "split.folds": 4},
    {"02_prepare": ["x = 1", "y = 2", "z"]},
    {"features": "f1", "contract": "c1"},
    {"pandas": "2.3.3"},
)


def told(new: VersionDescription, old: VersionDescription = OLD) -> dict[str, str]:
    return dict(list_changes(new, old))


def test_what_is_the_same_is_unchanged() -> None:
    assert told(OLD) == dict.fromkeys(
        (
            "rows",
            "columns",
            "model",
            "parameters",
            "threshold",
            "limits",
            "settings",
            "code",
            "packages",
        ),
        UNCHANGED,
    )


def test_each_change_is_said() -> None:
    cells = {"02_prepare": ["x = 1", "y = 3", "z", "new"], "08_own": ["not known before"]}
    new = VersionDescription(
        28343,
        "2013-06-30",
        ("b", "c", "d"),
        "boosting",
        {"rate": 0.2, "leaves": 31},
        0.27,
        {"review.margin": 0.01, "split.folds": 5},
        cells,
        {"features": "f2", "contract": "c2"},
        {"pandas": "2.3.4"},
    )
    assert told(new) == {
        "rows": "+ 28,243, 28,343 in all; the newest of 2013-06-30, was 2013-05-31",
        "columns": "+ 2: c, d; − 1: a",
        "model": UNCHANGED,
        "parameters": "rate 0.200, was 0.100; leaves 31; depth is gone, was 3",
        "threshold": "0.270, was 0.250",
        "limits": "review.margin 0.010, was 0.005; the data contract",
        "settings": "split.folds 5, was 4",
        "code": "2 cells in 02_prepare; the project's features",
        "packages": "pandas 2.3.4, was 2.3.3",
    }


def test_another_family_has_parameters_of_its_own() -> None:
    found = told(
        VersionDescription(**{**vars(OLD), "family": "lightgbm", "params": {"leaves": 31}})
    )
    assert found["model"] == "lightgbm, was boosting"
    assert found["parameters"] == "leaves 31"


def test_fewer_rows_and_a_cell_that_is_gone() -> None:
    found = told(
        VersionDescription(**{**vars(OLD), "rows": 90, "cells": {"02_prepare": ["x = 1", "z"]}})
    )
    assert found["rows"] == "− 10, 90 in all"
    assert found["code"] == "1 cell in 02_prepare"


def test_what_is_not_known_of_the_champion_has_no_line() -> None:
    assert set(told(OLD, VersionDescription(feature_names=("a", "b"), threshold=0.25))) == {
        "columns",
        "threshold",
    }
    assert "threshold" not in told(VersionDescription(row_count=1), VersionDescription(row_count=1))


def test_the_pipelines_own_parameters_are_no_code_of_the_notebook(tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "source": "prose"},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["a = 1\n", "b = 2"]},
        {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": "a = 3"},
    ]
    (tmp_path / "book.ipynb").write_text(json.dumps({"cells": cells}))
    assert read_code_cells(tmp_path / "book.ipynb") == ["a = 1\nb = 2"]
    assert read_code_cells(tmp_path / "gone.ipynb") == []


@pytest.fixture
def made(config: Make, tmp_path: Path) -> Callable[..., Stage]:
    """A run with what the comparison reads: config, manifest, recipe, feature table, notebooks."""

    def make(
        name: str, days: int = 3, features: tuple[str, ...] = ("x",), cell: str = "1", **values: Any
    ) -> Stage:
        settings = config(**values).model_dump(mode="json", exclude_unset=True)
        project = Project(tmp_path, validate_config(settings, "test"))
        stage = Stage("review", project, project.reports_folder / name, draft=False)
        stage.write(
            "recipe",
            {
                "family": "linear",
                "params": {"c": 1.0},
                "threshold": 0.3,
                "features": list(features),
            },
        )
        stage.write("features", table(days))
        files.write_json(stage.run_folder / "config.json", settings)
        files.write_json(
            stage.run_folder / "manifest.json",
            {
                "run": name,
                "status": "succeeded",
                "packages": {"pandas": pd.__version__, "gone": "1.0"},
                "stages": {"review": {"parts": {"features": cell, "packages": "p"}}},
            },
        )
        book = {"cells": [{"cell_type": "code", "metadata": {}, "source": cell}]}
        (stage.run_folder / "notebooks").mkdir()
        (stage.run_folder / "notebooks" / "02_prepare.ipynb").write_text(json.dumps(book))
        return stage

    return make


def table(days: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": range(days),
            "moment": pd.date_range("2013-06-01T16:00", periods=days, freq="D", tz="UTC"),
            "x": 1.0,
        }
    )


def facts(run: str) -> versions.ModelVersion:
    return versions.ModelVersion(
        version="7",
        model_hash="m7",
        evidence_hash="e7",
        review="passed",
        sample_rows=0,
        author="ann",
        uri="models:/m-7",
        sha256="s7",
        features=("x", "old"),
        threshold=0.25,
        evaluation=versions.EvaluationModel("models:/m-6", "m6", "s6", "", ""),
        as_of="None",
        run=run,
    )


def test_a_run_is_compared_with_what_another_left(made: Callable[..., Stage]) -> None:
    made("20130601-first", features=("x", "old"), cell="1")
    stage = made("20130701-next", days=5, cell="2", review={"margin": 0.02})
    found = changes(stage, facts("20130601-first"), stage.read("recipe"), stage.read("features"))
    said = dict(found.frame().to_numpy().tolist())
    assert found.title == "What changed since version 7"
    assert said["rows"] == "+ 2, 5 in all; the newest of 2013-06-05, was 2013-06-03"
    assert said["columns"] == "− 1: old"
    assert said["threshold"] == said["model"] == UNCHANGED
    assert said["limits"] == "review.margin 0.020, was 0.005"
    assert said["code"] == "1 cell in 02_prepare; the project's features"
    assert said["packages"] == "gone not installed, was 1.0"
    assert (
        found.sentence
        == "Since version 7 (run 20130601-first): changed: rows, columns, limits, code, packages; as before: model, parameters, threshold, settings."
    )


def test_nothing_changed_is_said(made: Callable[..., Stage]) -> None:
    stage = made("20130601-first")
    found = changes(stage, facts("20130601-first"), stage.read("recipe"), stage.read("features"))
    assert set(found.frame()["said"]) == {UNCHANGED, "gone not installed, was 1.0"}


def test_a_run_that_is_gone_leaves_what_the_registry_holds(made: Callable[..., Stage]) -> None:
    stage = made("20130701-next")
    found = changes(stage, facts("20130601-first"), stage.read("recipe"), stage.read("features"))
    assert "20130601-first that made version 7 is gone" in found.sentence
    assert dict(found.frame().to_numpy().tolist()) == {
        "columns": "− 1: old",
        "threshold": "0.300, was 0.250",
    }


def test_a_table_of_the_run_that_is_damaged_has_no_line(made: Callable[..., Stage]) -> None:
    old, stage = made("20130601-first"), made("20130701-next")
    (old.run_folder / "artifacts" / "features.parquet").write_bytes(b"not a table")
    found = changes(stage, facts("20130601-first"), stage.read("recipe"), stage.read("features"))
    assert "rows" not in set(found.frame()["what"])
    assert "columns" in set(found.frame()["what"])


def test_a_first_version_has_nothing_to_be_compared_with(made: Callable[..., Stage]) -> None:
    stage = made("20130701-next")
    found = changes(stage, None, stage.read("recipe"), stage.read("features"))
    assert found.sentence == "There is no champion yet: this is the first version."
    assert list(found.frame().columns) == ["what", "said"]
    assert found.frame().empty
