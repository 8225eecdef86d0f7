"""Copies of the project files that runs used, by content (``.mlops/objects``).

With them a run can be reproduced after its files have changed, also one made from uncommitted
changes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mlops_kit.core import files
from mlops_kit.pipeline.current_project import CurrentProject
from mlops_kit.pipeline.fingerprint import get_file_hashes
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import StageDependencies

_HASH_CHARACTERS = 64


def store_used_files(project: Project, dependencies: StageDependencies) -> None:
    """Store copies of the project files that a stage used.

    Files larger than ``retention.max_data_size`` are not stored.
    """
    current = CurrentProject(project)
    max_bytes = project.config.retention.max_data_size
    for name, content_hash in get_file_hashes(dependencies).items():
        source = current.resolve_path(name)
        target = get_object_path(project, content_hash)
        has_content_hash = len(content_hash) == _HASH_CHARACTERS  # missing files have a mark
        if not has_content_hash or target.exists() or not source.is_file():
            continue
        if source.stat().st_size <= max_bytes:
            copy_file(source, target)


def get_object_path(project: Project, content_hash: str) -> Path:
    """Return where the copy of a file with this content is stored."""
    return project.resolve_path(".mlops") / "objects" / content_hash[:2] / content_hash


def copy_file(source: Path, target: Path) -> None:
    """Copy a file atomically."""
    files.write_atomically(target, lambda temporary: shutil.copyfile(source, temporary))
