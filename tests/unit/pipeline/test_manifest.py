"""The manifest: what a run was made from; a run without a process is reported as killed."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.core.files import read_json, write_json
from mlops_kit.core.process_identity import MAX_HEARTBEAT_AGE
from mlops_kit.pipeline import manifest
from mlops_kit.project import loader
from mlops_kit.project.run_manifest import (
    DISK_RESERVE_FILE,
    MANIFEST_FILE,
    RUN_LOCK_FILE,
    SCHEMA_VERSION,
    GitStatus,
    RunStatus,
    StageEntry,
    StageStatus,
    describe_status,
    read_manifest,
    read_stored_manifest,
    write_manifest,
)

YAML = (
    "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\ntime: at\nas_of: 2024-01-01\nseed: 3\n"
)


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


def get_ended_process_id() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_run_name_is_its_start_time_and_marks_a_sample(project: loader.Project) -> None:
    names = {manifest.create_manifest(project, ["train"], "").run for _ in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", name) for name in names)
    sample = project.with_values("the test", sample=50)
    assert manifest.create_manifest(sample, ["train"], "").run.endswith("-sample")


def test_new_manifest_records_what_the_run_is_made_from(project: loader.Project) -> None:
    created = manifest.create_manifest(project, ["prepare", "train"], "why")
    assert (created.project, created.status, created.note) == ("tiny", "running", "why")
    assert (created.seed, created.sample, created.pid) == (3, 0, os.getpid())
    assert (created.as_of, created.until) == ("2024-01-01T00:00:00", None)
    assert created.ended is None
    assert created.git == GitStatus()
    assert [(name, e.status, e.notebook) for name, e in created.stages.items()] == [
        ("prepare", "not run", "02_prepare"),
        ("train", "not run", "03_train"),
    ]
    assert {"pandas", "scikit-learn", "mlflow", "mlops-kit"} <= created.packages.keys()
    assert datetime.fromisoformat(created.started).tzinfo == UTC


def test_git_status_is_the_commit_and_whether_files_changed_since(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    git("init", "-q")
    assert manifest.read_git_status(tmp_path) == GitStatus()  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    expected = GitStatus(commit=git("rev-parse", "HEAD"), dirty=False)
    assert manifest.read_git_status(tmp_path) == expected
    (tmp_path / "a").write_text("2")
    assert manifest.read_git_status(tmp_path).dirty


def test_git_status_is_empty_where_git_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert manifest.read_git_status(tmp_path) == GitStatus()


@pytest.mark.parametrize(
    ("status", "is_alive", "reported"),
    [
        ("running", False, "killed"),
        ("running", True, "running"),
        ("succeeded", False, "succeeded"),
        ("interrupted", False, "interrupted"),
    ],
)
def test_only_a_running_run_without_a_process_is_killed(
    project: loader.Project, tmp_path: Path, status: str, is_alive: bool, reported: str
) -> None:
    created = manifest.create_manifest(project, ["prepare", "train", "review"], "")
    created.status = RunStatus(status)
    created.pid = os.getpid() if is_alive else get_ended_process_id()
    created.stages["prepare"].status = StageStatus.SUCCEEDED
    created.stages["train"].status = StageStatus(status)
    write_manifest(tmp_path, created)
    found = read_manifest(tmp_path)
    assert found.status == reported
    stage_statuses = [entry.status for entry in found.stages.values()]
    assert stage_statuses == ["succeeded", reported, "not run"]
    assert read_json(tmp_path / MANIFEST_FILE)["status"] == status  # reading changes nothing


def test_killed_run_is_marked_until_mlflow_has_recorded_it(
    project: loader.Project, tmp_path: Path
) -> None:
    created = manifest.create_manifest(project, ["prepare", "train"], "")
    created.pid = get_ended_process_id()
    created.stages["train"].status = StageStatus.RUNNING
    write_manifest(tmp_path, created)
    (tmp_path / DISK_RESERVE_FILE).touch()
    cells = [
        {"metadata": {"papermill": {"status": status}}}
        for status in ("completed", "running", "pending")
    ]
    write_json(
        tmp_path / "notebooks" / "03_train.ipynb",
        {"metadata": {"mlops": {"status": "running", "pid": 1}}, "cells": cells},
    )
    assert manifest.mark_run_killed(tmp_path)
    assert manifest.mark_run_killed(tmp_path)
    stored = read_stored_manifest(tmp_path)
    assert (stored.status, stored.stages["train"].status) == ("killed", "killed")
    assert stored.ended is not None
    assert not (tmp_path / DISK_RESERVE_FILE).exists()
    notebook = read_json(tmp_path / "notebooks" / "03_train.ipynb")
    assert notebook["metadata"]["mlops"]["status"] == "killed"
    cell_statuses = [cell["metadata"]["papermill"]["status"] for cell in notebook["cells"]]
    assert cell_statuses == ["completed", "failed", "pending"]
    stored.mlflow = {"run": "1"}
    write_manifest(tmp_path, stored)
    assert not manifest.mark_run_killed(tmp_path)


def test_process_that_reuses_the_id_of_a_dead_one_is_another(
    project: loader.Project, tmp_path: Path
) -> None:
    created = manifest.create_manifest(project, ["train"], "")
    with manifest.lock_run(tmp_path) as process:
        manifest.mark_run_started(tmp_path, created, process)
        assert read_manifest(tmp_path).status == "running"
        assert (tmp_path / DISK_RESERVE_FILE).stat().st_size > 10**5
        earlier = process.process_started - 100
        created.process = dataclasses.replace(process, process_started=earlier)
        write_manifest(tmp_path, created)
        assert read_manifest(tmp_path).status == "killed"


def test_run_in_another_container_is_running_elsewhere_until_its_lock_is_free(
    project: loader.Project, tmp_path: Path
) -> None:
    created = manifest.create_manifest(project, ["train"], "")
    with manifest.lock_run(tmp_path) as process:
        foreign = dataclasses.replace(process, process_namespace="pid:[1]", process_id=1)
        manifest.mark_run_started(tmp_path, created, foreign)
        found = read_manifest(tmp_path)
        assert (found.status, found.is_running) == ("running (elsewhere)", True)
        assert not manifest.mark_run_killed(tmp_path)
        with pytest.raises(KitError, match="being executed by another process"):
            manifest.lock_run(tmp_path).__enter__()
        later = created.model_copy(update={"run": "later"})
        (sentence,) = manifest.describe_other_runs(later, [tmp_path])
        assert sentence.startswith(f"run {created.run} is running (elsewhere) at the same time: ")
        assert list(manifest.describe_other_runs(created, [tmp_path])) == []
        branch = later.model_copy(update={"branch": "seed=1"})
        assert list(manifest.describe_other_runs(branch, [tmp_path])) == []
    assert manifest.mark_run_killed(tmp_path)
    assert read_manifest(tmp_path).status == "killed"
    assert list(manifest.describe_other_runs(later, [tmp_path])) == []


def test_run_on_another_machine_is_killed_when_its_heartbeat_stops(
    project: loader.Project, tmp_path: Path
) -> None:
    created = manifest.create_manifest(project, ["train"], "")
    with manifest.lock_run(tmp_path) as process:
        foreign = dataclasses.replace(process, boot_id="another", lock_identity="another 1:1")
        manifest.mark_run_started(tmp_path, created, foreign)
    # A lock of another machine need not be visible here.
    assert read_manifest(tmp_path).status == "running (elsewhere)"
    lock = tmp_path / RUN_LOCK_FILE
    last_heartbeat = lock.stat().st_mtime - MAX_HEARTBEAT_AGE.total_seconds()
    os.utime(lock, (last_heartbeat, last_heartbeat))
    assert read_manifest(tmp_path).status == "killed"


def test_process_is_stored_and_read_back(project: loader.Project, tmp_path: Path) -> None:
    created = manifest.create_manifest(project, ["train"], "")
    with manifest.lock_run(tmp_path) as process:
        manifest.mark_run_started(tmp_path, created, process)
        assert read_stored_manifest(tmp_path).process == process


def test_status_is_described_with_its_detail() -> None:
    assert describe_status("killed", "signal 9") == "killed (signal 9)"
    assert describe_status("failed") == "failed"
    assert StageEntry().status_text == "not run"


VERSION_1: dict[str, Any] = {
    "run": "20240101-000000-abcd",
    "project": "tiny",
    "status": "succeeded",
    "started": "2024-01-01T00:00:00.000+00:00",
    "ended": "2024-01-01T00:01:00.000+00:00",
    "pid": 1,
    "born": 1700000000.5,
    "note": "",
    "as_of": None,
    "until": None,
    "sample": 0,
    "seed": 3,
    "approval": "manual",
    "git": {},
    "packages": {"pandas": "2.3.3"},
    "apart": ["train"],
    "unrecorded": "no connection",
    "branches": [
        {
            "name": "k=1",
            "values": {"train.k": 1},
            "status": "failed",
            "seconds": 1.5,
            "numbers": {},
            "said": "ValueError: five",
        }
    ],
    "stages": {
        "prepare": {
            "status": "succeeded",
            "notebook": "02_prepare",
            "question": "Prepare",
            "why": ["forced"],
            "parts": {"contract": "c1"},
            "peak": 5,
            "trace": {
                "cells": ["a"],
                "params": {},
                "settings": {},
                "inputs": {},
                "files": {"t.csv": "h"},
                "listings": {},
                "modules": {"own.py": {"hash": "m", "by": "other.py"}},
                "packages": {},
                "env": {"KEY": None},
                "python": "3.11",
                "unknowable": [],
            },
            "fingerprint": "f",
            "accepted": {"by": "ann", "at": "2024-01-02", "why": ["`t.csv` changed"]},
        }
    },
    "mlflow": {},
}


def test_manifest_of_schema_version_1_is_translated(tmp_path: Path) -> None:
    write_json(tmp_path / MANIFEST_FILE, VERSION_1)
    found = read_manifest(tmp_path)
    assert found.schema_version == SCHEMA_VERSION
    assert found.process_started == 1700000000.5
    assert (found.branching_stages, found.mlflow_error) == (["train"], "no connection")
    assert found.branches[0].error == "ValueError: five"
    entry = found.stages["prepare"]
    assert (entry.reasons, entry.code_origins, entry.peak_bytes) == (
        ["forced"],
        {"contract": "c1"},
        5,
    )
    assert entry.dependencies is not None
    assert entry.dependencies.files == {"t.csv": "h"}
    assert entry.dependencies.modules["own.py"].imported_by == "other.py"
    assert entry.dependencies.absent == []
    assert entry.fingerprint == "f"
    assert entry.accepted is not None
    assert (entry.accepted.actor, entry.accepted.accepted_at) == ("ann", "2024-01-02")
    assert entry.accepted.reasons == ["`t.csv` changed"]


def test_manifest_is_read_as_it_was_written(project: loader.Project, tmp_path: Path) -> None:
    created = manifest.create_manifest(project, ["prepare", "train"], "why")
    created.status = RunStatus.SUCCEEDED
    write_manifest(tmp_path, created)
    assert read_stored_manifest(tmp_path) == created


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": 1}'])
def test_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text)
    with pytest.raises(KitError, match=r"manifest\.json is damaged"):
        read_manifest(tmp_path)
