"""``manifest.json``: what a run was made from, what became of each stage, where everything is."""

from __future__ import annotations

import os
import secrets
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_kit import store
from mlops_kit.config import Project
from mlops_kit.pipeline import params
from mlops_kit.pipeline.fingerprint import versions

FILE = "manifest.json"
NAMED = ("pandas", "numpy", "scikit-learn", "skrub", "lightgbm", "duckdb", "mlflow", "optuna", "papermill", "pandera", "altair", "mlops-kit")


def now() -> str:
    """This moment, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def git(root: Path) -> dict[str, Any]:
    """The commit that the project stands on, and whether anything was changed since; empty without git."""

    def ask(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(ask("status", "--porcelain"))} if commit else {}


def new(project: Project, stages: list[str], note: str) -> dict[str, Any]:
    """The manifest of a run about to start."""
    config = project.config
    run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}" + ("-sample" if config.sample else "")
    known = versions()
    return {
        "run": run, "project": config.name, "status": "running", "started": now(), "ended": None, "pid": os.getpid(), "note": note,
        "as_of": config.as_of.isoformat() if config.as_of else None, "until": config.until.isoformat() if config.until else None,
        "sample": config.sample, "seed": config.seed, "approval": config.approval, "git": git(project.root),
        "packages": {n: known[n] for n in NAMED if n in known},
        "stages": {s: {"status": "not run", "notebook": project.notebook(s).stem, "question": params.question(project.notebook(s))} for s in stages}, "mlflow": {},
    }  # fmt: skip


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """File the manifest."""
    store.write_json(folder / FILE, manifest)


def read(folder: Path) -> dict[str, Any]:
    """A run's manifest; a ``running`` whose process is gone is told as ``killed``."""
    manifest: dict[str, Any] = store.read_json(folder / FILE)
    if manifest["status"] == "running" and not alive(manifest["pid"]):
        manifest["status"] = "killed"
        for entry in manifest["stages"].values():
            entry["status"] = "killed" if entry["status"] == "running" else entry["status"]
    return manifest


def alive(pid: int) -> bool:
    """Whether a process of this machine still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
