"""Remove runs, leftovers and caches according to the retention settings (``mlops clean``).

A run is removed as a whole: one rename moves it into a hidden folder that no reader looks at, then
it is deleted there; what a kill leaves of it the next cleanup deletes. Runs share files by hard
links, so a file frees space only with its last link.

To add a reason why a run is kept: a line in ``_RetentionRules.explain``.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from mlops_kit.core.formatting import align_columns
from mlops_kit.db import approvals
from mlops_kit.pipeline.fingerprint import get_file_hashes
from mlops_kit.pipeline.run_summary import read_run_version
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_run_folders
from mlops_kit.project.run_manifest import (
    BRANCHES_FOLDER,
    MANIFEST_FILE,
    RunManifest,
    RunStatus,
    read_manifest,
)

KEPT_FILE_KIND = "kept file"  # code and data of earlier runs: many, so they are only counted
REMOVED_RUNS_FOLDER = ".gone"  # inside the reports: runs that are being deleted
# Files that are being written (core.files), and the disk space that a run reserves.
_TEMPORARY_NAME = re.compile(r"\..+\.[a-z0-9_]{8}|\.reserve")
_RUN_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}(-sample)?")
_ABANDONED_AFTER_SECONDS = 3600  # a half-written file older than this has no writer any more
_BYTES_PER_MEGABYTE = 1e6

StoredRun = tuple[Path, RunManifest]


@dataclass(frozen=True)
class CleanupItem:
    """A run, a leftover or a stored file: whether it is removed, why, and the space it frees."""

    kind: str
    path: Path
    reason: str
    is_removed: bool = True
    freed_bytes: int = 0


def clean_project(project: Project, dry_run: bool = False) -> list[CleanupItem]:
    """Remove what the retention settings do not keep; one process at a time.

    Parameters
    ----------
    dry_run : bool
        Only return what would be removed.

    Returns
    -------
    list of CleanupItem
        What is removed, then the runs that are kept.
    """
    if dry_run:
        return _plan_cleanup(project)
    from filelock import FileLock  # here: a dry run does not need it

    lock = project.resolve_path(".mlops") / "clean.lock"
    lock.parent.mkdir(
        parents=True,
        exist_ok=True,
    )
    with FileLock(str(lock)):
        items = _plan_cleanup(project)
        for item in items:
            if item.is_removed:
                _remove_item(item)
    return items


def _plan_cleanup(project: Project) -> list[CleanupItem]:
    """Return what is removed, then the runs that are kept."""
    stored_runs = [
        (folder, read_manifest(folder)) for folder in list_run_folders(project.reports_folder)
    ]
    rules = _RetentionRules(project, stored_runs)
    expired_reason = f"older than {format_duration(project.config.retention.max_age)}"
    removed_runs: list[CleanupItem] = []
    kept_runs: list[CleanupItem] = []
    kept_idle_folders: list[Path] = []
    for rank, (folder, manifest) in enumerate(stored_runs):
        reason = rules.explain(rank, folder, manifest)
        if not reason:
            removed_runs.append(CleanupItem("run", folder, expired_reason))
            continue
        kept_runs.append(
            CleanupItem(
                "run",
                folder,
                reason,
                is_removed=False,
            )
        )
        if not manifest.is_running:
            kept_idle_folders.append(folder)
    removed = [
        *_find_leftovers(project, kept_idle_folders),  # first: one may have the name of a run
        *removed_runs,
        *_find_expired_cache(project),
        *_find_unused_objects(project, [item.path for item in kept_runs]),
    ]
    freed_bytes = _measure_freed_bytes(item.path for item in removed)
    measured = [
        replace(item, freed_bytes=size) for item, size in zip(removed, freed_bytes, strict=True)
    ]
    return measured + kept_runs


class _RetentionRules:
    """Explains why runs are kept."""

    def __init__(
        self,
        project: Project,
        stored_runs: Sequence[StoredRun],
    ) -> None:
        self.settings = project.config.retention
        self.cutoff = (datetime.now(UTC) - self.settings.max_age).isoformat()
        self.needed_versions = _find_needed_versions(project, self.cutoff)
        self.decisions: dict[str, str] = {}  # the newest decision of a person, by version
        for approval in reversed(approvals.list_approvals(project)):
            self.decisions[approval.version] = approval.outcome
        self.newest_full_run: Path | None = None  # not made from a sample
        for folder, manifest in stored_runs:
            if not manifest.sample:
                self.newest_full_run = folder
                break

    def explain(
        self,
        rank: int,
        folder: Path,
        manifest: RunManifest,
    ) -> str:
        """Return why a run is kept; empty if nothing needs it.

        Parameters
        ----------
        rank : int
            Position of the run, newest first.
        """
        version = read_run_version(folder, manifest) or ""
        if version in self.needed_versions:
            return self.needed_versions[version]
        if manifest.is_running:
            return f"it is {manifest.status}"
        is_waiting = manifest.status == RunStatus.WAITING_FOR_APPROVAL
        if is_waiting and self.decisions.get(version) != "rejected":
            return "it waits for an approval"
        if rank == 0:
            return "the newest run"
        if folder == self.newest_full_run:
            return "the newest run of all rows"
        if rank < self.settings.min_runs:
            return f"one of the newest {self.settings.min_runs}"
        ended = manifest.ended or manifest.started
        if ended > self.cutoff:
            return f"younger than {format_duration(self.settings.max_age)}"
        return ""


def _find_needed_versions(project: Project, cutoff: str) -> dict[str, str]:
    """Return the versions whose runs are needed, with the reason.

    These are the champion, the version that a rollback restores, and those that were in service
    recently: their predictions may still be evaluated.
    """
    promotions = approvals.list_promotions(project)
    if not promotions:
        return {}
    reasons: dict[str, str] = {}
    for newer, older in pairwise(promotions):
        if newer.promoted_at > cutoff:
            reasons[older.version] = (
                f"version {older.version} was in service until {newer.promoted_at[:10]}"
            )
    champion = promotions[0]
    if champion.previous_version:
        reasons[champion.previous_version] = (
            f"a rollback restores version {champion.previous_version}"
        )
    reasons[champion.version] = f"version {champion.version} is in service"
    return reasons


def _find_leftovers(project: Project, idle_runs: list[Path]) -> list[CleanupItem]:
    """Return what killed processes left: half-deleted and half-made runs, half-written files.

    Parameters
    ----------
    idle_runs : list of Path
        Runs that are kept and not running.
    """
    reports = project.reports_folder
    items = [
        CleanupItem("leftover", path, "half deleted")
        for path in (reports / REMOVED_RUNS_FOLDER).glob("*")
    ]
    for path in reports.glob("*"):
        is_half_made = _RUN_NAME.fullmatch(path.name) and not (path / MANIFEST_FILE).exists()
        if is_half_made and _is_untouched_for(path, _ABANDONED_AFTER_SECONDS):
            items.append(CleanupItem("leftover", path, "half made"))
    candidates = [*reports.glob("*"), *project.resolve_path(".mlops").glob("*")]
    for folder in [*idle_runs, reports / "draft"]:
        candidates += folder.glob("**/*")
    for path in dict.fromkeys(candidates):
        is_temporary = _TEMPORARY_NAME.fullmatch(path.name)
        if is_temporary and _is_untouched_for(path, _ABANDONED_AFTER_SECONDS):
            items.append(CleanupItem("leftover", path, "half written"))
    return items


def _find_expired_cache(project: Project) -> list[CleanupItem]:
    """Return cached files that have not been written for longer than the settings allow."""
    max_age = project.config.retention.max_cache_age
    reason = f"not written for {format_duration(max_age)}"
    return [
        CleanupItem("cache", path, reason)
        for path in sorted(project.resolve_path(".mlops").glob("cache/*"))
        if _is_untouched_for(path, max_age.total_seconds())
    ]


def _find_unused_objects(project: Project, kept_runs: list[Path]) -> list[CleanupItem]:
    """Return stored code and data that no kept run has used.

    None while a run is in progress, which has yet to record what it uses.
    """
    used_hashes: set[str] = set()
    for manifest in _read_manifests_with_branches(kept_runs):
        if manifest.is_running:
            return []
        for entry in manifest.stages.values():
            if entry.dependencies is not None:
                used_hashes.update(get_file_hashes(entry.dependencies).values())
    return [
        CleanupItem(KEPT_FILE_KIND, path, "not used by a run that is kept")
        for path in sorted(project.resolve_path(".mlops").glob("objects/*/*"))
        if path.name not in used_hashes and _is_untouched_for(path, _ABANDONED_AFTER_SECONDS)
    ]


def _read_manifests_with_branches(folders: list[Path]) -> Iterator[RunManifest]:
    """Yield the manifests of runs and of their branches."""
    for folder in folders:
        yield read_manifest(folder)
        for path in folder.glob(f"{BRANCHES_FOLDER}/*/{MANIFEST_FILE}"):
            yield read_manifest(path.parent)


def _is_untouched_for(path: Path, seconds: float) -> bool:
    """Return whether nothing in a file or folder was written for a time.

    False for one that disappears meanwhile: its writer still exists.
    """
    try:
        written = max(inner.lstat().st_mtime for inner in (path, *path.rglob("*")))
    except FileNotFoundError:
        return False
    return time.time() - written > seconds


def _measure_freed_bytes(paths: Iterable[Path]) -> Iterator[int]:
    """Yield the bytes that each path frees if they are removed in this order."""
    remaining_links: dict[tuple[int, int], int] = {}
    for path in paths:
        freed_bytes = 0
        for inner in (path, *path.rglob("*")):
            status = inner.lstat()
            file = (status.st_dev, status.st_ino)
            remaining_links[file] = remaining_links.get(file, status.st_nlink) - 1
            if stat.S_ISREG(status.st_mode) and not remaining_links[file]:
                freed_bytes += status.st_size
        yield freed_bytes


def _remove_item(item: CleanupItem) -> None:
    """Delete a file or folder; a run is first moved out of sight in one step."""
    path = item.path
    if item.kind == "run":
        hidden = path.parent / REMOVED_RUNS_FOLDER
        hidden.mkdir(exist_ok=True)
        path = path.rename(hidden / path.name)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def format_cleanup(
    project: Project,
    items: list[CleanupItem],
    dry_run: bool,
) -> str:
    """Return a cleanup as a table in text, with a last line that counts."""
    rows = []
    for item in items:
        if item.kind == KEPT_FILE_KIND:
            continue
        row = (
            "remove" if item.is_removed else "keep",
            item.kind,
            os.path.relpath(item.path, project.root),
            _format_megabytes(item.freed_bytes) if item.is_removed else "",
            item.reason,
        )
        rows.append(row)
    removed = [item for item in items if item.is_removed]
    counts = Counter(item.kind for item in removed)
    counted = [
        f"{count} {kind}" if count == 1 else f"{count} {kind}s" for kind, count in counts.items()
    ]
    freed = _format_megabytes(sum(item.freed_bytes for item in removed))
    kept_count = len(items) - len(removed)
    kept = "1 run is kept" if kept_count == 1 else f"{kept_count} runs are kept"
    verb = "would remove" if dry_run else "removed"
    total = f"{verb} {', '.join(counted) or 'nothing'} ({freed}); {kept}"
    return "\n".join([align_columns(rows), total] if rows else [total])


def _format_megabytes(size: float) -> str:
    """Return a number of bytes in megabytes."""
    return f"{size / _BYTES_PER_MEGABYTE:.1f} MB"
