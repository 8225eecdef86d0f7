"""Run folders, MLflow store and database written before the refactoring still open.

``tests/data/projects-of-version-0.1.tar.xz`` holds two projects of commit b5bac5d: ``diabetes``
with two runs, of which version 3 serves and version 1 served before, and ``watched`` with
predictions, labels, four monitored windows and two open incidents.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

import mlops_kit
from mlops_kit.db import approvals, engine, tables
from mlops_kit.project import loader, run_folder, run_manifest
from mlops_kit.registry import versions
from tests.support.commands import run_in_process
from tests.support.environment import ROOT

ARCHIVE = ROOT / "tests" / "data" / "projects-of-version-0.1.tar.xz"
OLD_RUNS = ["20261127-113258-8d4e", "20261127-112825-4f8a"]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the two projects once."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def diabetes(unpacked: Path, tmp_path: Path) -> loader.Project:
    """Return a copy of the project with two runs."""
    home = shutil.copytree(unpacked / "diabetes", tmp_path / "diabetes")
    settings = home / "mlops.yaml"
    settings.write_text(settings.read_text().replace("row: ", "row_name: "))
    return loader.load_project(home)


@pytest.fixture
def watched(unpacked: Path, tmp_path: Path) -> loader.Project:
    """Return a copy of the project with monitored windows."""
    home = shutil.copytree(unpacked / "watched", tmp_path / "watched")
    settings = home / "mlops.yaml"
    text = settings.read_text()
    text = text.replace("labels: 100", "min_labels: 100")
    text = text.replace("on_fall", "on_performance_drop").replace("on_gap", "on_concept_drift")
    settings.write_text(text)
    return loader.load_project(home)


def run_command(project: loader.Project, *arguments: str) -> str:
    """Run a command of the project and return what it printed."""
    completed = run_in_process(*arguments, "--project", project.root)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def test_manifests_are_read_with_their_stages(diabetes: loader.Project) -> None:
    folders = run_folder.list_run_folders(diabetes.reports_folder)
    assert [folder.name for folder in folders] == OLD_RUNS
    for folder in folders:
        manifest = run_manifest.read_manifest(folder)
        assert manifest.status == "succeeded"
        assert list(manifest.stages)[:2] == ["explore", "prepare"]
        assert run_folder.load_recorded_project(diabetes, folder).config.target == "progression"


def test_every_artifact_is_read(diabetes: loader.Project) -> None:
    client = mlops_kit.open(diabetes.root)
    newest_run = diabetes.reports_folder / OLD_RUNS[0]
    for name in run_folder.list_artifacts(newest_run):
        assert client.read_artifact(name) is not None


def test_runs_are_listed_and_compared(diabetes: loader.Project) -> None:
    listed = json.loads(run_command(diabetes, "runs", "--json"))
    assert [row["run"] for row in listed] == OLD_RUNS
    compared = run_command(diabetes, "diff", OLD_RUNS[1], OLD_RUNS[0])
    assert "R²" in compared or "r2" in compared
    assert "trials" in compared


def test_the_champion_scores_and_is_rolled_back(diabetes: loader.Project) -> None:
    champion = versions.find_champion(diabetes)
    assert champion is not None
    assert champion.version == "3"
    table = diabetes.root / "rows.csv"
    rows = pd.read_parquet(diabetes.reports_folder / OLD_RUNS[0] / "artifacts" / "features.parquet")
    rows.drop(columns=["part"]).head(3).to_csv(table, index=False)
    assert len(run_command(diabetes, "predict", str(table)).splitlines()) == 4
    run_command(diabetes, "rollback", "--reason", "test of an earlier store")
    current = approvals.get_current_promotion(diabetes)
    assert current is not None
    assert current.version == "1"


def test_old_pages_are_rendered(diabetes: loader.Project, watched: loader.Project) -> None:
    run_command(diabetes, "report", "--dashboard", "review", "--out", str(diabetes.root / "r.html"))
    assert "Version 3" in (diabetes.root / "r.html").read_text()
    run_command(
        watched, "report", "--dashboard", "monitoring", "--out", str(watched.root / "m.html")
    )
    assert "incident" in (watched.root / "m.html").read_text()


def test_the_watch_goes_on_with_an_old_database(watched: loader.Project) -> None:
    windows_before = engine.query_records(watched, sa.select(tables.WindowRecord))
    assert len(windows_before) == 4
    printed = run_command(watched, "watch", "--until", "2024-02-29", "--fast")
    assert "version 1 is in service" in printed
    assert len(engine.query_records(watched, sa.select(tables.WindowRecord))) == 4


def test_old_settings_work_and_their_present_names_are_logged(
    unpacked: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = shutil.copytree(unpacked / "watched", tmp_path / "old")
    config = loader.load_project(home).config
    assert config.retrain.min_labels == 100
    assert config.validation.folds == 2
    for name in ("retrain.min_labels", "validation.folds", "retrain.on_concept_drift"):
        assert repr(name) in caplog.text
