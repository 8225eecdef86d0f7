"""The manifest: what a run was made from, and a run whose process is gone is told as killed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.pipeline import manifest
from mlops_kit.project import loader, run_manifest

YAML = (
    "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\ntime: at\nas_of: 2024-01-01\nseed: 3\n"
)


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_is_named_by_its_moment_and_a_sample_says_so(project: loader.Project) -> None:
    names = {manifest.create_manifest(project, ["train"], "")["run"] for _ in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", n) for n in names)
    assert manifest.create_manifest(project.with_values("the test", sample=50), ["train"], "")[
        "run"
    ].endswith("-sample")


def test_a_new_manifest_says_what_the_run_is_made_from(project: loader.Project) -> None:
    made = manifest.create_manifest(project, ["prepare", "train"], "why")
    assert (
        made["project"],
        made["status"],
        made["note"],
        made["seed"],
        made["sample"],
        made["pid"],
    ) == ("tiny", "running", "why", 3, 0, os.getpid())
    assert (made["as_of"], made["until"], made["ended"], made["git"]) == (
        "2024-01-01T00:00:00",
        None,
        None,
        {},
    )
    assert [(s, e["status"], e["notebook"]) for s, e in made["stages"].items()] == [
        ("prepare", "not run", "02_prepare"),
        ("train", "not run", "03_train"),
    ]
    assert {"pandas", "scikit-learn", "mlflow", "mlops-kit"} <= made["packages"].keys()
    assert datetime.fromisoformat(made["started"]).tzinfo == UTC


def test_git_tells_the_commit_and_what_was_changed_since(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        return subprocess.run(
            [
                "git",
                "-C",
                str(tmp_path),
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.org",
                *words,
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    git("init", "-q")
    assert manifest.read_git_status(tmp_path) == {}  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "a")
    assert manifest.read_git_status(tmp_path) == {
        "commit": git("rev-parse", "HEAD"),
        "dirty": False,
    }
    (tmp_path / "a").write_text("2")
    assert manifest.read_git_status(tmp_path)["dirty"]


def test_without_git_there_is_nothing_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert manifest.read_git_status(tmp_path) == {}


@pytest.mark.parametrize(
    ("status", "alive", "told"),
    [
        ("running", False, "killed"),
        ("running", True, "running"),
        ("succeeded", False, "succeeded"),
        ("interrupted", False, "interrupted"),
    ],
)
def test_only_a_running_run_whose_process_is_gone_is_killed(
    project: loader.Project, tmp_path: Path, status: str, alive: bool, told: str
) -> None:
    made: dict[str, Any] = manifest.create_manifest(project, ["prepare", "train", "review"], "")
    made.update(status=status, pid=os.getpid() if alive else gone())
    made["stages"]["prepare"]["status"], made["stages"]["train"]["status"] = "succeeded", status
    run_manifest.write_manifest(tmp_path, made)
    found = run_manifest.read_manifest(tmp_path)
    assert (found["status"], [e["status"] for e in found["stages"].values()]) == (
        told,
        ["succeeded", told, "not run"],
    )
    assert (
        manifest.store.read_json(tmp_path / run_manifest.MANIFEST_FILE)["status"] == status
    )  # to look changes nothing


def test_a_killed_run_is_buried_until_mlflow_has_heard_of_it(
    project: loader.Project, tmp_path: Path
) -> None:
    made: dict[str, Any] = {
        **manifest.create_manifest(project, ["prepare", "train"], ""),
        "pid": gone(),
    }
    made["stages"]["train"]["status"] = "running"
    run_manifest.write_manifest(tmp_path, made)
    (tmp_path / run_manifest.DISK_RESERVE_FILE).touch()
    cells = [
        {"metadata": {"papermill": {"status": s}}} for s in ("completed", "running", "pending")
    ]
    manifest.store.write_json(
        tmp_path / "notebooks" / "03_train.ipynb",
        {"metadata": {"mlops": {"status": "running", "pid": 1}}, "cells": cells},
    )
    assert [manifest.mark_run_killed(tmp_path), manifest.mark_run_killed(tmp_path)] == [True, True]
    filed, book = (
        manifest.store.read_json(tmp_path / name)
        for name in (run_manifest.MANIFEST_FILE, "notebooks/03_train.ipynb")
    )
    assert (
        filed["status"],
        filed["stages"]["train"]["status"],
        filed["ended"] is not None,
        (tmp_path / run_manifest.DISK_RESERVE_FILE).exists(),
    ) == ("killed", "killed", True, False)
    assert book["metadata"]["mlops"]["status"] == "killed"
    assert [c["metadata"]["papermill"]["status"] for c in book["cells"]] == [
        "completed",
        "failed",
        "pending",
    ]
    run_manifest.write_manifest(tmp_path, {**filed, "mlflow": {"run": "1"}})
    assert not manifest.mark_run_killed(tmp_path)


def test_a_process_that_took_over_the_number_of_a_dead_one_is_another(
    project: loader.Project, tmp_path: Path
) -> None:
    made = manifest.create_manifest(project, ["train"], "")
    manifest.mark_run_started(tmp_path, made)
    assert run_manifest.read_manifest(tmp_path)["status"] == "running"
    assert (tmp_path / run_manifest.DISK_RESERVE_FILE).stat().st_size > 10**5
    run_manifest.write_manifest(tmp_path, {**made, "born": made["born"] - 100})
    assert run_manifest.read_manifest(tmp_path)["status"] == "killed"


def test_a_status_is_worded_with_its_detail() -> None:
    assert [
        run_manifest.describe_status(e)
        for e in (
            {"status": "killed", "detail": "signal 9"},
            {"status": "failed", "detail": ""},
            {"status": "not run"},
        )
    ] == ["killed (signal 9)", "failed", "not run"]
