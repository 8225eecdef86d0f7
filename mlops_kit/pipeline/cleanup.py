"""House-keeping: runs at a glance, what of them goes, and values that are never shown.

A run is removed whole: one rename takes it into a hidden folder where no reader looks, then it is
deleted there; what a kill leaves of it the next ``clean`` deletes. Runs share files by hard links, so
a file frees something only with its last link.

To add a reason why a run stays: a line in ``stays``. To add a form in which a secret may be written:
one in ``forms``.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlops_kit.core.formatting import align_columns
from mlops_kit.pipeline.fingerprint import get_file_hashes
from mlops_kit.pipeline.run_summary import read_run_version
from mlops_kit.project import run_folder, run_manifest
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import BRANCHES_FOLDER

KEPT_FILE_KIND = "kept file"  # of the code and data of then: many, and counted only
REMOVED_RUNS_FOLDER = ".gone"  # folder of the runs that are being deleted
_TEMPORARY_NAME = re.compile(
    r"\..+\.[a-z0-9_]{8}|\.reserve"
)  # as store names what it writes; the room that a manifest keeps
_RUN_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}(-sample)?")  # of a run's folder
_ABANDONED_AFTER_SECONDS = 3600  # seconds after which what is half written is nobody's any more


@dataclass(frozen=True)
class CleanupItem:
    """What becomes of a run, a leftover, a cached or a kept file, and why; ``freed`` counts bytes."""

    kind: str
    path: Path
    reason: str
    is_removed: bool = True
    freed_bytes: int = 0


def clean_project(project: Project, dry: bool = False) -> list[CleanupItem]:
    """Remove what ``keep`` of ``mlops.yaml`` says; ``dry`` only tells. One process at a time.

    Returns
    -------
    list of Fate
        What went, or would go, first; then the runs that stay.
    """
    if dry:
        return _plan_cleanup(project)
    from filelock import FileLock

    lock = project.resolve_path(".mlops") / "clean.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(lock)):
        fates = _plan_cleanup(project)
        for fate in fates:
            if fate.is_removed:
                _remove_item(fate)
    return fates


def _plan_cleanup(project: Project) -> list[CleanupItem]:
    """The fate of each run, of leftovers, of what is cached and of files kept for runs."""
    found = [
        (run, run_manifest.read_manifest(run))
        for run in run_folder.list_run_folders(project.reports_folder)
    ]
    runs = [
        CleanupItem(
            "run",
            run,
            why or f"older than {format_duration(project.config.retention.max_age)}",
            is_removed=not why,
        )
        for (run, _), why in zip(found, _explain_retention(project, found), strict=True)
    ]
    idle = [
        f.path
        for f, (_, made) in zip(runs, found, strict=True)
        if not f.is_removed and made["status"] != "running"
    ]
    # the newest first, so that the table reads so; what an earlier kill left first of all, for it may have the name of a run
    goes = [
        *_find_leftovers(project, idle),
        *(f for f in runs if f.is_removed),
        *_find_expired_cache(project),
        *_find_unused_objects(project, [f.path for f in runs if not f.is_removed]),
    ]
    return [
        CleanupItem(f.kind, f.path, f.reason, True, size)
        for f, size in zip(goes, _measure_freed_bytes(f.path for f in goes), strict=True)
    ] + [f for f in runs if not f.is_removed]


def _explain_retention(project: Project, found: list[tuple[Path, dict[str, Any]]]) -> Iterator[str]:
    """Why each run stays, in words; empty for one that nothing needs."""
    from mlops_kit.db import approvals

    keep = project.config.retention
    cutoff = (datetime.now(UTC) - keep.max_age).isoformat()
    needed, said = (
        _find_needed_versions(project, cutoff),
        {o.version: o.outcome for o in reversed(approvals.list_approvals(project))},
    )
    full = next((run for run, made in found if not made["sample"]), None)
    for rank, (run, made) in enumerate(found):
        number = read_run_version(run, made) or ""
        reasons = {
            needed.get(number, ""): number in needed,
            "it is running": made["status"] == "running",
            "it waits for an approval": made["status"] == run_folder.STATUS_WAITING_FOR_APPROVAL
            and said.get(number) != "rejected",
            "the newest run" if rank == 0 else "the newest of all rows": rank == 0 or run == full,
            f"one of the newest {keep.min_runs}": rank < keep.min_runs,
            f"younger than {format_duration(keep.max_age)}": (made["ended"] or made["started"])
            > cutoff,
        }
        yield next((words for words, holds in reasons.items() if holds), "")


def _find_needed_versions(project: Project, cutoff: str) -> dict[str, str]:
    """Versions whose runs are needed, and why: the one that serves, the one to go back to, those whose answers may still be judged."""
    from mlops_kit.db import approvals

    promoted = approvals.list_promotions(project)
    if not promoted:
        return {}
    lately = {
        old.version: f"version {old.version} served until {new.promoted_at[:10]}"
        for new, old in pairwise(promoted)
        if new.promoted_at > cutoff
    }
    before = {p: f"rollback goes to version {p}" for p in [promoted[0].previous_version] if p}
    return {**lately, **before, promoted[0].version: f"version {promoted[0].version} serves"}


def _find_leftovers(project: Project, runs: list[Path]) -> list[CleanupItem]:
    """What killed processes left: half-deleted runs, half-made ones, files half written. ``runs`` are those that are not running."""
    reports = project.reports_folder
    cut = [
        p
        for p in reports.glob("*")
        if _RUN_NAME.fullmatch(p.name)
        and not (p / run_manifest.MANIFEST_FILE).exists()
        and _is_untouched_for(p, _ABANDONED_AFTER_SECONDS)
    ]
    places = [
        (reports, "*"),
        (project.resolve_path(".mlops"), "*"),
        *((p, "**/*") for p in [*runs, reports / "draft"]),
    ]
    parts = {
        p: None
        for place, pattern in places
        for p in place.glob(pattern)
        if _TEMPORARY_NAME.fullmatch(p.name) and _is_untouched_for(p, _ABANDONED_AFTER_SECONDS)
    }
    return [
        CleanupItem("leftover", p, why)
        for why, paths in (
            ("half deleted", (reports / REMOVED_RUNS_FOLDER).glob("*")),
            ("half made", cut),
            ("half written", parts),
        )
        for p in paths
    ]


def _find_expired_cache(project: Project) -> list[CleanupItem]:
    """What is cached and was not written for long."""
    age = project.config.retention.max_cache_age
    return [
        CleanupItem("cache", p, f"not written for {format_duration(age)}")
        for p in sorted(project.resolve_path(".mlops").glob("cache/*"))
        if _is_untouched_for(p, age.total_seconds())
    ]


def _find_unused_objects(project: Project, runs: list[Path]) -> list[CleanupItem]:
    """Code and data, kept to make a run again, that none of the runs that stay has used; none while one is running, which has yet to say."""
    made = [
        run_manifest.read_manifest(f)
        for run in runs
        for f in (
            run,
            *(p.parent for p in run.glob(f"{BRANCHES_FOLDER}/*/{run_manifest.MANIFEST_FILE}")),
        )
    ]
    if any(m["status"] == "running" for m in made):
        return []
    needed = {
        h
        for m in made
        for e in m["stages"].values()
        for h in get_file_hashes(e.get("trace", {})).values()
    }
    return [
        CleanupItem(KEPT_FILE_KIND, p, "used by no run that stays")
        for p in sorted(project.resolve_path(".mlops").glob("objects/*/*"))
        if p.name not in needed and _is_untouched_for(p, _ABANDONED_AFTER_SECONDS)
    ]


def _is_untouched_for(path: Path, seconds: float) -> bool:
    """Whether nothing of a file or folder was written for this long; what is gone meanwhile was its writer's."""
    try:
        return time.time() - max(p.lstat().st_mtime for p in (path, *path.rglob("*"))) > seconds
    except FileNotFoundError:
        return False


def _measure_freed_bytes(paths: Iterable[Path]) -> Iterator[int]:
    """The bytes that each of these frees if they are removed in this order."""
    left: dict[tuple[int, int], int] = {}
    for path in paths:
        freed = 0
        for known in (p.lstat() for p in (path, *path.rglob("*"))):
            file = (known.st_dev, known.st_ino)
            left[file] = left.get(file, known.st_nlink) - 1
            freed += known.st_size if stat.S_ISREG(known.st_mode) and not left[file] else 0
        yield freed


def _remove_item(fate: CleanupItem) -> None:
    """Delete; a run is first renamed out of sight in one step."""
    path = fate.path
    if fate.kind == "run":
        (path.parent / REMOVED_RUNS_FOLDER).mkdir(exist_ok=True)
        path = path.rename(path.parent / REMOVED_RUNS_FOLDER / path.name)
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def format_cleanup(project: Project, fates: list[CleanupItem], dry: bool) -> str:
    """The fates as a table in text, and what they come to."""
    goes, kept = [f for f in fates if f.is_removed], sum(not f.is_removed for f in fates)
    rows = [
        (
            "goes" if f.is_removed else "stays",
            f.kind,
            os.path.relpath(f.path, project.root),
            f"{f.freed_bytes / 1e6:.1f} MB" if f.is_removed else "",
            f.reason,
        )
        for f in fates
        if f.kind != KEPT_FILE_KIND
    ]
    counts = Counter(f.kind for f in goes)
    what = ", ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in counts.items()) or "nothing"
    return "\n".join(
        [
            *([align_columns(rows)] if rows else []),
            f"{what} {'would go' if dry else 'gone'}, {sum(f.freed_bytes for f in goes) / 1e6:.1f} MB {'would be freed' if dry else 'freed'}; {'1 run stays' if kept == 1 else f'{kept} runs stay'}",
        ]
    )
