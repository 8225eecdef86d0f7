"""A run whose record was interrupted is completed once, by whichever process comes first."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core.process_identity import hold_process_lock
from mlops_kit.pipeline import runner
from mlops_kit.project import loader
from mlops_kit.project.run_manifest import (
    RUN_LOCK_FILE,
    RunManifest,
    RunStatus,
    StageEntry,
    StageStatus,
    read_stored_manifest,
    write_manifest,
)

YAML = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\nseed: 3\n"


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


@pytest.fixture
def unrecorded_run(project: loader.Project) -> RunManifest:
    """A run with all stages that was killed before its end was recorded, as planning finds it."""
    manifest = RunManifest(
        run="20240101-000000-0001",
        status=RunStatus.KILLED,
        stages={"train": StageEntry(status=StageStatus.SUCCEEDED)},
    )
    folder = project.reports_folder / manifest.run
    folder.mkdir(parents=True)
    write_manifest(folder, manifest)
    return manifest.model_copy(update={"is_up_to_date": True})


def test_process_that_finds_another_completing_the_record_has_nothing_to_do(
    project: loader.Project, unrecorded_run: RunManifest
) -> None:
    notes: list[str] = []
    folder = project.reports_folder / unrecorded_run.run
    with hold_process_lock(folder / RUN_LOCK_FILE):
        result = runner._complete_up_to_date_run(project, unrecorded_run, notes.append)
    assert runner.find_run_error(result) is None
    assert notes == [f"note: another process completes the record of run {unrecorded_run.run}"]


def test_record_that_was_completed_in_between_is_not_completed_again(
    project: loader.Project, unrecorded_run: RunManifest
) -> None:
    folder = project.reports_folder / unrecorded_run.run
    completed = unrecorded_run.model_copy(
        update={"status": RunStatus.SUCCEEDED, "mlflow": {"run_id": "1"}}
    )
    write_manifest(folder, completed)
    result = runner._complete_up_to_date_run(project, unrecorded_run, print)
    assert (result.status, result.is_up_to_date) == ("succeeded", True)
    assert read_stored_manifest(folder) == completed.model_copy(update={"is_up_to_date": False})
