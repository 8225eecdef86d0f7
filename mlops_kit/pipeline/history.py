"""History."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_kit.pipeline import current_project, fingerprint
from mlops_kit.project import run_folder, run_manifest
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import BRANCHES_FOLDER, COMPLETED_STATUSES


class RunHistory:
    """The recorded runs, the newest first, each manifest read once and only when it is asked for."""

    def __init__(self, project: Project, but: Path | None = None) -> None:
        found = [
            *run_folder.list_run_folders(project.reports_folder),
            *(
                p.parent
                for p in project.reports_folder.glob(f"*/{BRANCHES_FOLDER}/*/manifest.json")
            ),
        ]
        self.folders = sorted((f for f in found if f != but), key=lambda f: f.name, reverse=True)
        self.manifests: dict[Path, dict[str, Any]] = {}

    def __iter__(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for folder in self.folders:
            if folder not in self.manifests:
                self.manifests[folder] = run_manifest.read_manifest(folder)
            yield folder, self.manifests[folder]

    def iterate_completed(self, stage: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The runs in which a stage ended well, with what they say of it."""
        for folder, made in self:
            entry = made["stages"].get(stage, {})
            if entry.get("status") in COMPLETED_STATUSES and entry.get("trace"):
                yield folder, entry


def get_content_hashes(entry: Mapping[str, Any]) -> dict[str, str]:
    """Content hashes of what a stage hands on; records, which differ by nature, are left out."""
    return {n: a["content"] for n, a in entry.get("artifacts", {}).items() if a.get("content")}


def find_carried_stage(
    now: current_project.CurrentProject, history: RunHistory, stage: str
) -> tuple[Path, Mapping[str, Any]] | None:
    """A stage that was not chosen, as the newest run of the same sample and moment, in a branch the same one or none, has it, if all it wrote is as it was."""
    config = now.project.config
    wanted = [config.sample, config.as_of.isoformat() if config.as_of else None]
    for folder, made in history:
        entry = made["stages"].get(stage, {})
        if (
            [made["sample"], made["as_of"]] == wanted
            and made.get("branch", "") in {"", config.branch}
            and entry.get("status") in COMPLETED_STATUSES
            and not [
                *fingerprint.find_damaged_outputs(folder, entry.get("artifacts", {}), now.hashes)
            ]
        ):
            return folder, entry
    return None


def find_matching_run(project: Project, history: RunHistory) -> tuple[Path, dict[str, Any]] | None:
    """The latest run of the project's two moments; branches are not runs of their own."""
    wanted = [m.isoformat() if m else None for m in (project.config.as_of, project.config.until)]
    return next(
        ((f, m) for f, m in history if [m["as_of"], m["until"]] == wanted and not m.get("branch")),
        None,
    )
