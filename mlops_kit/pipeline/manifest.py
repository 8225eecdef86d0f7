"""``manifest.json``: what a run was made from, what became of each stage, where everything is."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_kit import store
from mlops_kit.config import Project
from mlops_kit.pipeline import params
from mlops_kit.trace import versions

FILE = "manifest.json"
RESERVE = ".reserve"  # room kept in a run's folder, so that a full disk can still be told
NAMED = (
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


def now() -> str:
    """This moment, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def git(root: Path) -> dict[str, Any]:
    """The commit that the project stands on, and whether anything was changed since; empty without git."""

    def ask(*args: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *args],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(ask("status", "--porcelain"))} if commit else {}


def new(project: Project, stages: list[str], note: str) -> dict[str, Any]:
    """The manifest of a run about to start."""
    config = project.config
    moment = datetime.now(UTC)
    run = f"{moment:%Y%m%d-%H%M%S}-{moment.microsecond * 16**4 // 10**6:04x}" + (
        "-sample" if config.sample else ""
    )  # names sort as the runs began
    known = versions()
    return {
        "run": run,
        "project": config.name,
        "status": "running",
        "started": now(),
        "ended": None,
        "pid": os.getpid(),
        "note": note,
        "as_of": config.as_of.isoformat() if config.as_of else None,
        "until": config.until.isoformat() if config.until else None,
        "sample": config.sample,
        "seed": config.seed,
        "approval": config.approval,
        "git": git(project.root),
        "packages": {n: known[n] for n in NAMED if n in known},
        "stages": {
            s: {
                "status": "not run",
                "notebook": project.notebook(s).stem,
                "question": params.question(project.notebook(s)),
            }
            for s in stages
        },
        "mlflow": {},
    }


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """File the manifest; on a full disk the room kept for it is given up first."""
    try:
        store.write_json(folder / FILE, manifest)
    except OSError:
        (folder / RESERVE).unlink(missing_ok=True)
        store.write_json(folder / FILE, manifest)


def begin(folder: Path, manifest: dict[str, Any]) -> None:
    """Mark a run as this process's from now on."""
    import psutil

    manifest.update(status="running", pid=os.getpid(), born=psutil.Process().create_time())
    try:
        (folder / RESERVE).write_bytes(bytes(2**18))
        write(folder, manifest)
    except OSError:
        (folder / RESERVE).unlink(missing_ok=True)
        raise


def read(folder: Path) -> dict[str, Any]:
    """A run's manifest; a ``running`` whose process is gone is told as ``killed``."""
    manifest: dict[str, Any] = store.read_json(folder / FILE)
    if manifest["status"] == "running" and not alive(manifest["pid"], manifest.get("born")):
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


def bury(folder: Path) -> bool:
    """File of a run whose process is gone that it was killed, in its manifest and its notebooks; whether MLflow has yet to hear of it."""
    filed = store.read_json(folder / FILE)
    if filed["status"] == "killed":
        return not filed["mlflow"]
    if filed["status"] != "running" or (found := read(folder))["status"] != "killed":
        return False
    for book in (folder / "notebooks").glob("*.ipynb"):
        held = store.read_json(book)
        if held["metadata"].get("mlops", {}).get("status") == "running":
            held["metadata"]["mlops"] = {"status": "killed", "detail": "with the run"}
            for cell in held["cells"]:
                about = cell["metadata"].get("papermill", {})
                about["status"] = (
                    "failed" if about.get("status") == "running" else about.get("status", "pending")
                )
            store.write_json(book, held)
    (folder / RESERVE).unlink(missing_ok=True)
    write(folder, {**found, "ended": now()})
    return True


def words(entry: dict[str, Any]) -> str:
    """A stage's status as it is shown: ``killed (signal 9, peak 3.1 GiB)``."""
    return f"{entry['status']} ({entry['detail']})" if entry.get("detail") else str(entry["status"])


def alive(pid: int, born: float | None = None) -> bool:
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
