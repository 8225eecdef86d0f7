"""Changes since the champion: each aspect, and what is read from a real run folder."""

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
from mlops_kit.stages.review.changes import (
    UNCHANGED,
    VersionDescription,
    describe_changes,
    list_changes,
    read_code_cells,
)
from mlops_kit.stages.stage import Stage

MakeConfig = Callable[..., ProjectConfig]
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


def get_changes(new: VersionDescription, old: VersionDescription = OLD) -> dict[str, str]:
    return dict(list_changes(new, old))


def test_equal_versions_are_unchanged() -> None:
    assert get_changes(OLD) == dict.fromkeys(
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


def test_every_aspect_describes_its_change() -> None:
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
    assert get_changes(new) == {
        "rows": "+28,243, 28,343 in total; newest from 2013-06-30, was 2013-05-31",
        "columns": "+2: c, d; −1: a",
        "model": UNCHANGED,
        "parameters": "rate 0.200, was 0.100; leaves 31; depth removed, was 3",
        "threshold": "0.270, was 0.250",
        "limits": "review.margin 0.010, was 0.005; the data contract",
        "settings": "split.folds 5, was 4",
        "code": "2 cells in 02_prepare; the project's features",
        "packages": "pandas 2.3.4, was 2.3.3",
    }


def test_parameters_of_another_family_are_not_compared() -> None:
    found = get_changes(
        VersionDescription(**{**vars(OLD), "family": "lightgbm", "params": {"leaves": 31}})
    )
    assert found["model"] == "lightgbm, was boosting"
    assert found["parameters"] == "leaves 31"


def test_removed_rows_and_cells_are_counted() -> None:
    found = get_changes(
        VersionDescription(
            **{**vars(OLD), "row_count": 90, "cells_by_notebook": {"02_prepare": ["x = 1", "z"]}}
        )
    )
    assert found["rows"] == "−10, 90 in total"
    assert found["code"] == "1 cell in 02_prepare"


def test_unknown_aspects_of_the_champion_are_left_out() -> None:
    assert set(get_changes(OLD, VersionDescription(feature_names=("a", "b"), threshold=0.25))) == {
        "columns",
        "threshold",
    }
    assert "threshold" not in get_changes(
        VersionDescription(row_count=1), VersionDescription(row_count=1)
    )


def test_injected_parameters_are_not_code_cells(tmp_path: Path) -> None:
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "metadata": {}, "source": "prose"},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": ["a = 1\n", "b = 2"]},
        {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": "a = 3"},
    ]
    (tmp_path / "book.ipynb").write_text(json.dumps({"cells": cells}))
    assert read_code_cells(tmp_path / "book.ipynb") == ["a = 1\nb = 2"]
    assert read_code_cells(tmp_path / "gone.ipynb") == []


@pytest.fixture
def make_stage(make_config: MakeConfig, tmp_path: Path) -> Callable[..., Stage]:
    """A run with what the comparison reads: config, manifest, recipe, feature table, notebooks."""

    def make(
        name: str, days: int = 3, features: tuple[str, ...] = ("x",), cell: str = "1", **values: Any
    ) -> Stage:
        settings = make_config(**values).model_dump(mode="json", exclude_unset=True)
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
        stage.write("features", make_table(days))
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


def make_table(days: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": range(days),
            "moment": pd.date_range("2013-06-01T16:00", periods=days, freq="D", tz="UTC"),
            "x": 1.0,
        }
    )


def make_champion(run: str) -> versions.ModelVersion:
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


def test_run_is_compared_with_the_champions_run_folder(make_stage: Callable[..., Stage]) -> None:
    make_stage("20130601-first", features=("x", "old"), cell="1")
    stage = make_stage("20130701-next", days=5, cell="2", review={"margin": 0.02})
    found = describe_changes(
        stage, make_champion("20130601-first"), stage.read("recipe"), stage.read("features")
    )
    said = dict(found.to_frame().to_numpy().tolist())
    assert found.title == "Changes since version 7"
    assert said["rows"] == "+2, 5 in total; newest from 2013-06-05, was 2013-06-03"
    assert said["columns"] == "−1: old"
    assert said["threshold"] == said["model"] == UNCHANGED
    assert said["limits"] == "review.margin 0.020, was 0.005"
    assert said["code"] == "1 cell in 02_prepare; the project's features"
    assert said["packages"] == "gone not installed, was 1.0"
    assert found.sentence == (
        "Since version 7 (run 20130601-first): changed: rows, columns, limits, code, packages; "
        "unchanged: model, parameters, threshold, settings."
    )


def test_only_a_missing_package_changed(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("20130601-first")
    found = describe_changes(
        stage, make_champion("20130601-first"), stage.read("recipe"), stage.read("features")
    )
    assert set(found.to_frame()["change"]) == {UNCHANGED, "gone not installed, was 1.0"}


def test_missing_run_folder_leaves_the_registry_record(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("20130701-next")
    found = describe_changes(
        stage, make_champion("20130601-first"), stage.read("recipe"), stage.read("features")
    )
    assert "Run 20130601-first, which made version 7, is no longer" in found.sentence
    assert dict(found.to_frame().to_numpy().tolist()) == {
        "columns": "−1: old",
        "threshold": "0.300, was 0.250",
    }


def test_damaged_table_is_left_out(make_stage: Callable[..., Stage]) -> None:
    old, stage = make_stage("20130601-first"), make_stage("20130701-next")
    (old.run_folder / "artifacts" / "features.parquet").write_bytes(b"not a table")
    found = describe_changes(
        stage, make_champion("20130601-first"), stage.read("recipe"), stage.read("features")
    )
    assert "rows" not in set(found.to_frame()["aspect"])
    assert "columns" in set(found.to_frame()["aspect"])


def test_first_version_has_no_changes(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage("20130701-next")
    found = describe_changes(stage, None, stage.read("recipe"), stage.read("features"))
    assert found.sentence == "There was no champion: this is the first version."
    assert list(found.to_frame().columns) == ["aspect", "change"]
    assert found.to_frame().empty
