"""Object store."""

from __future__ import annotations

import shutil
from pathlib import Path

from mlops_kit.core import files
from mlops_kit.pipeline import current_project, fingerprint
from mlops_kit.project import run_manifest
from mlops_kit.project.loader import Project


def store_used_files(project: Project, made: run_manifest.StageDependencies) -> None:
    """Keep what a stage used of the project's own files, by content."""
    now = current_project.CurrentProject(project)
    for name, found in fingerprint.get_file_hashes(made).items():
        path, target = now.resolve_path(name), get_object_path(project, found)
        if (
            len(found) == 64
            and not target.exists()
            and path.is_file()
            and path.stat().st_size <= project.config.retention.max_data_size
        ):
            files.write_atomically(target, lambda p, source=path: shutil.copyfile(source, p))  # type: ignore[misc]


def get_object_path(project: Project, hashed: str) -> Path:
    """Where a file of this content is kept."""
    return project.resolve_path(".mlops") / "objects" / hashed[:2] / hashed
