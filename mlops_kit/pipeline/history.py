"""Earlier runs of a project, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlops_kit.pipeline.current_project import CurrentProject
from mlops_kit.pipeline.fingerprint import find_damaged_outputs
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_run_folders
from mlops_kit.project.run_manifest import (
    BRANCHES_FOLDER,
    MANIFEST_FILE,
    RunManifest,
    StageEntry,
    read_manifest,
)


class RunHistory:
    """The recorded runs and their branches, newest first; each manifest is read once, when needed.

    Parameters
    ----------
    project : Project
    excluded_folder : Path or None
        A run to leave out: the one in progress.
    """

    def __init__(self, project: Project, excluded_folder: Path | None = None) -> None:
        branch_manifests = project.reports_folder.glob(f"*/{BRANCHES_FOLDER}/*/{MANIFEST_FILE}")
        folders = [
            *list_run_folders(project.reports_folder),
            *(path.parent for path in branch_manifests),
        ]
        folders = [folder for folder in folders if folder != excluded_folder]
        self.folders = sorted(
            folders,
            key=lambda folder: folder.name,
            reverse=True,
        )
        self._manifests: dict[Path, RunManifest] = {}

    def __iter__(self) -> Iterator[tuple[Path, RunManifest]]:
        for folder in self.folders:
            if folder not in self._manifests:
                self._manifests[folder] = read_manifest(folder)
            yield folder, self._manifests[folder]

    def iterate_completed(self, stage: str) -> Iterator[tuple[Path, StageEntry]]:
        """Yield the runs in which a stage succeeded and what it used was recorded."""
        for folder, manifest in self:
            entry = manifest.get_stage(stage)
            if entry.is_completed and entry.dependencies is not None:
                yield folder, entry

    def get_last_completed(self, stage: str) -> StageEntry | None:
        """Return the entry of a stage in the newest run in which it succeeded."""
        for _, entry in self.iterate_completed(stage):
            return entry
        return None


def get_content_hashes(entry: StageEntry) -> dict[str, str]:
    """Return the content hashes of a stage's artifacts, by name.

    Artifacts without one (records of the world outside, which differ in every run) are left out.
    """
    return {
        name: artifact.content for name, artifact in entry.artifacts.items() if artifact.content
    }


def find_carried_stage(
    current: CurrentProject,
    history: RunHistory,
    stage: str,
) -> tuple[Path, StageEntry] | None:
    """Find the run from which a stage that was not selected is carried over.

    It is the newest run with the same sample size and ``as_of`` (of the same branch or of none) in
    which the stage succeeded and all its outputs are intact.
    """
    config = current.project.config
    as_of = config.as_of.isoformat() if config.as_of else None
    for folder, manifest in history:
        entry = manifest.get_stage(stage)
        is_comparable = manifest.sample == config.sample and manifest.as_of == as_of
        if not is_comparable or manifest.branch not in {"", config.branch}:
            continue
        if not entry.is_completed:
            continue
        if not any(find_damaged_outputs(folder, entry.artifacts, current.hashes)):
            return folder, entry
    return None


def find_matching_run(project: Project, history: RunHistory) -> tuple[Path, RunManifest] | None:
    """Find the newest run with the project's ``as_of`` and ``until``; branches do not count."""
    config = project.config
    as_of = config.as_of.isoformat() if config.as_of else None
    until = config.until.isoformat() if config.until else None
    for folder, manifest in history:
        if manifest.branch:
            continue
        if manifest.as_of == as_of and manifest.until == until:
            return folder, manifest
    return None
