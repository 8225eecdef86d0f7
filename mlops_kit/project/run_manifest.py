"""Run manifest."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.project.run_folder import STATUS_WAITING_FOR_APPROVAL

StageDependencies = dict[str, Any]

COMPLETED_STATUSES = ("succeeded", "skipped")
NOT_SELECTED_REASON = "not chosen"
BRANCHES_FOLDER = "branches"  # folder of a run in which the runs of its branches stand
UNSUCCESSFUL_STATUSES = (
    "interrupted",
    "failed",
    "killed",
    "timed out",
    "stopped early",
    STATUS_WAITING_FOR_APPROVAL,
)  # how a run ended: the first of these that a stage has

MANIFEST_FILE = "manifest.json"
DISK_RESERVE_FILE = ".reserve"  # room kept in a run's folder, so that a full disk can still be told


def format_current_time() -> str:
    """This moment, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """File the manifest; on a full disk the room kept for it is given up first."""
    try:
        files.write_json(folder / MANIFEST_FILE, manifest)
    except OSError:
        (folder / DISK_RESERVE_FILE).unlink(missing_ok=True)
        files.write_json(folder / MANIFEST_FILE, manifest)


def read_manifest(folder: Path) -> dict[str, Any]:
    """A run's manifest; a ``running`` whose process is gone is told as ``killed``."""
    manifest: dict[str, Any] = files.read_json(folder / MANIFEST_FILE)
    if manifest["status"] == "running" and not is_process_alive(
        manifest["pid"], manifest.get("born")
    ):
        manifest["status"] = "killed"
        for entry in manifest["stages"].values():
            if entry["status"] == "running":
                entry.update(
                    status="killed",
                    detail="with the run",
                    error={
                        "type": "Killed",
                        "message": "the process of the run was killed",
                        "cell": None,
                    },
                )
    return manifest


def describe_status(entry: dict[str, Any]) -> str:
    """A stage's status as it is shown: ``killed (signal 9, peak 3.1 GiB)``."""
    return f"{entry['status']} ({entry['detail']})" if entry.get("detail") else str(entry["status"])


def is_process_alive(pid: int, born: float | None = None) -> bool:
    """Whether a process of this machine still runs, and is the one that was meant."""
    import psutil

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and (
            born is None or abs(process.create_time() - born) < 1
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
