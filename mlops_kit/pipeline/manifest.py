"""``manifest.json``: what a run was made from, what became of each stage, where everything is."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.core.import_tracer import list_installed_versions
from mlops_kit.project import notebook_cells
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import (
    DISK_RESERVE_FILE,
    MANIFEST_FILE,
    format_current_time,
    read_manifest,
    write_manifest,
)

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


def read_git_status(root: Path) -> dict[str, Any]:
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


def create_manifest(project: Project, stages: list[str], note: str) -> dict[str, Any]:
    """The manifest of a run about to start."""
    config = project.config
    moment = datetime.now(UTC)
    run = f"{moment:%Y%m%d-%H%M%S}-{moment.microsecond * 16**4 // 10**6:04x}" + (
        "-sample" if config.sample else ""
    )  # names sort as the runs began
    known = list_installed_versions()
    return {
        "run": run,
        "project": config.name,
        "status": "running",
        "started": format_current_time(),
        "ended": None,
        "pid": os.getpid(),
        "note": note,
        "as_of": config.as_of.isoformat() if config.as_of else None,
        "until": config.until.isoformat() if config.until else None,
        "sample": config.sample,
        "seed": config.seed,
        "approval": config.approval,
        "git": read_git_status(project.root),
        "packages": {n: known[n] for n in _REPORTED_PACKAGES if n in known},
        "stages": {
            s: {
                "status": "not run",
                "notebook": project.get_notebook_path(s).stem,
                "question": notebook_cells.read_notebook_title(project.get_notebook_path(s)),
            }
            for s in stages
        },
        "mlflow": {},
    }


def mark_run_started(folder: Path, manifest: dict[str, Any]) -> None:
    """Mark a run as this process's from now on."""
    import psutil

    manifest.update(status="running", pid=os.getpid(), born=psutil.Process().create_time())
    try:
        (folder / DISK_RESERVE_FILE).write_bytes(bytes(2**18))
        write_manifest(folder, manifest)
    except OSError:
        (folder / DISK_RESERVE_FILE).unlink(missing_ok=True)
        raise


def mark_run_killed(folder: Path) -> bool:
    """File of a run whose process is gone that it was killed, in its manifest and its notebooks; whether MLflow has yet to hear of it."""
    filed = files.read_json(folder / MANIFEST_FILE)
    if filed["status"] == "killed":
        return not filed["mlflow"]
    if filed["status"] != "running" or (found := read_manifest(folder))["status"] != "killed":
        return False
    for book in (folder / "notebooks").glob("*.ipynb"):
        held = files.read_json(book)
        if held["metadata"].get("mlops", {}).get("status") == "running":
            held["metadata"]["mlops"] = {"status": "killed", "detail": "with the run"}
            for cell in held["cells"]:
                about = cell["metadata"].get("papermill", {})
                about["status"] = (
                    "failed" if about.get("status") == "running" else about.get("status", "pending")
                )
            files.write_json(book, held)
    (folder / DISK_RESERVE_FILE).unlink(missing_ok=True)
    write_manifest(folder, {**found, "ended": format_current_time()})
    return True
