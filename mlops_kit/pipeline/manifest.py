"""Create the manifest of a run; mark a run as started, or as killed.

The record itself and its reader are in ``mlops_kit.project.run_manifest``.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.core.errors import KitError
from mlops_kit.core.import_tracer import list_installed_versions
from mlops_kit.core.process_identity import ProcessIdentity, ProcessLock, ProcessLockHeldError
from mlops_kit.project.loader import Project
from mlops_kit.project.notebook_cells import read_notebook_title
from mlops_kit.project.run_manifest import (
    DISK_RESERVE_FILE,
    RUN_LOCK_FILE,
    GitStatus,
    RunManifest,
    RunStatus,
    StageEntry,
    format_current_time,
    read_manifest,
    read_stored_manifest,
    write_manifest,
)

_DISK_RESERVE_BYTES = 2**18
_GIT_TIMEOUT_SECONDS = 20
_REPORTED_PACKAGES = (
    "pandas",
    "numpy",
    "scikit-learn",
    "skrub",
    "lightgbm",
    "duckdb",
    "mlflow",
    "optuna",
    "papermill",
    "pandera",
    "altair",
    "mlops-kit",
)


def read_git_status(root: Path) -> GitStatus:
    """Return the project's commit and whether files have changed since; no commit without git."""
    commit = run_git(root, "rev-parse", "HEAD")
    if not commit:
        return GitStatus()
    return GitStatus(
        commit=commit,
        dirty=bool(run_git(root, "status", "--porcelain")),
    )


def run_git(root: Path, *arguments: str) -> str | None:
    """Run git in a folder and return its output; None if it fails or is not installed."""
    try:
        completed = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout.strip() if completed.returncode == 0 else None


def create_manifest(
    project: Project,
    stages: list[str],
    note: str,
) -> RunManifest:
    """Create the manifest of a run that is about to start."""
    config = project.config
    installed = list_installed_versions()
    return RunManifest(
        run=_create_run_name(is_sample=bool(config.sample)),
        project=config.name,
        status=RunStatus.RUNNING,
        started=format_current_time(),
        pid=os.getpid(),
        note=note,
        as_of=config.as_of.isoformat() if config.as_of else None,
        until=config.until.isoformat() if config.until else None,
        timezone=config.timezone,
        sample=config.sample,
        seed=config.seed,
        approval=config.approval,
        git=read_git_status(project.root),
        packages={name: installed[name] for name in _REPORTED_PACKAGES if name in installed},
        stages={stage: create_stage_entry(project, stage) for stage in stages},
    )


def create_stage_entry(project: Project, stage: str) -> StageEntry:
    """Create the entry of a stage that has not been run."""
    notebook = project.get_notebook_path(stage)
    return StageEntry(
        notebook=project.get_executed_notebook_name(stage),
        question=read_notebook_title(notebook),
    )


def _create_run_name(is_sample: bool) -> str:
    """Create the name of a run: its start time, so that names sort in order of time."""
    started = datetime.now(UTC)
    fraction = started.microsecond * 16**4 // 10**6  # of the second, as four hexadecimal digits
    suffix = "-sample" if is_sample else ""
    return f"{started:%Y%m%d-%H%M%S}-{fraction:04x}{suffix}"


class RunLockedError(KitError):
    """Another process executes the run."""


@contextmanager
def lock_run(folder: Path) -> Iterator[ProcessIdentity]:
    """Hold the lock of a run while this process executes it, and return this process.

    Raises
    ------
    RunLockedError
        If another process executes the run.
    """
    lock = ProcessLock(folder / RUN_LOCK_FILE)
    try:
        process = lock.acquire()
    except ProcessLockHeldError as error:
        raise RunLockedError(
            f"run {folder.name} is being executed by another process",
            "one process at a time",
            "wait until it has ended; mlops status shows how far it is",
        ) from error
    try:
        yield process
    finally:
        lock.release()


def mark_run_started(folder: Path, manifest: RunManifest, process: ProcessIdentity) -> None:
    """Record that this process executes the run, and reserve disk space for its last words.

    Parameters
    ----------
    process : ProcessIdentity
        As ``lock_run`` returns it.

    Raises
    ------
    OSError
        If the disk is full.
    """
    manifest.status = RunStatus.RUNNING
    manifest.pid = os.getpid()
    manifest.process = process
    manifest.process_started = None
    reserve = folder / DISK_RESERVE_FILE
    try:
        reserve.write_bytes(bytes(_DISK_RESERVE_BYTES))
        write_manifest(folder, manifest)
    except OSError:
        reserve.unlink(missing_ok=True)
        raise


def mark_run_killed(folder: Path) -> bool:
    """Record that a run was killed, in its manifest and notebooks, if its process is gone.

    Returns
    -------
    bool
        Whether the run was killed and has yet to be recorded in MLflow.
    """
    stored = read_stored_manifest(folder)
    if stored.status == RunStatus.KILLED:
        return not stored.mlflow
    if stored.status != RunStatus.RUNNING:
        return False
    manifest = read_manifest(folder)
    if manifest.status != RunStatus.KILLED:
        return False
    for path in (folder / "notebooks").glob("*.ipynb"):
        _mark_notebook_killed(path)
    (folder / DISK_RESERVE_FILE).unlink(missing_ok=True)
    manifest.ended = format_current_time()
    write_manifest(folder, manifest)
    return True


def describe_other_runs(manifest: RunManifest, folders: Iterable[Path]) -> Iterator[str]:
    """Yield a sentence for each other run of the project that is being executed at this time.

    Parameters
    ----------
    manifest : RunManifest
        The run that asks; the run of a branch does not name the run that it belongs to.
    folders : iterable of Path
        The runs of the project.
    """
    if manifest.branch:
        return
    for folder in folders:
        other = read_manifest(folder)
        if other.is_running and other.run != manifest.run:
            yield (
                f"run {other.run} is {other.status} at the same time: a stage that neither has "
                "completed yet is executed by both"
            )


def _mark_notebook_killed(path: Path) -> None:
    """Record in a notebook that was running that its kernel was killed with the run."""
    notebook: dict[str, Any] = files.read_json(path)
    if notebook["metadata"].get("mlops", {}).get("status") != "running":
        return
    notebook["metadata"]["mlops"] = {"status": "killed", "detail": "with the run"}
    for cell in notebook["cells"]:
        papermill = cell["metadata"].get("papermill", {})
        status = papermill.get("status", "pending")
        papermill["status"] = "failed" if status == "running" else status
    files.write_json(path, notebook)
