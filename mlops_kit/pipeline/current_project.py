"""The project as it is now: what a stage's recorded dependencies are compared with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mlops_kit.core.dependencies import hash_code
from mlops_kit.core.import_tracer import list_installed_versions
from mlops_kit.pipeline.file_hashes import FileHashes
from mlops_kit.project.artifacts import Artifact
from mlops_kit.project.loader import Project
from mlops_kit.project.notebook_cells import load_code_cells
from mlops_kit.project.settings import list_setting_values, map_fields_to_settings

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGE_FOLDER = Path(__file__).parent.parent


class CurrentProject:
    """The project as it is now; cells, files, settings and versions are looked up once.

    Parameters
    ----------
    project : Project
    hashes : FileHashes or None
        Cache of file hashes; None reads the project's.
    """

    def __init__(self, project: Project, hashes: FileHashes | None = None) -> None:
        self.project = project
        self.hashes = hashes or FileHashes(project)
        self._cell_hashes: dict[Path, list[str]] = {}
        self._file_hashes: dict[str, str] = {}

    @cached_property
    def package_versions(self) -> dict[str, str]:
        """Versions of all installed packages, by name."""
        return list_installed_versions()

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Values of all settings, by dotted name."""
        settings = list_setting_values(self.project.config)
        for stage in self.project.config.stages:
            settings |= list_working_folder(self, stage)
        return settings

    @cached_property
    def setting_names(self) -> dict[tuple[str, str], str]:
        """Dotted names of all settings, by class and field."""
        return map_fields_to_settings(self.project.config)

    def hash_cells(self, stage: str) -> list[str]:
        """Return the hashes of a notebook's code cells."""
        notebook = self.project.get_notebook_path(stage)
        if notebook not in self._cell_hashes:
            self._cell_hashes[notebook] = hash_code_cells(notebook)
        return self._cell_hashes[notebook]

    def hash_file(self, name: str) -> str:
        """Return the hash of the file that is recorded under a name."""
        if name not in self._file_hashes:
            self._file_hashes[name] = self.hashes.hash_path(self.resolve_path(name))
        return self._file_hashes[name]

    def assume_restored(self, artifacts: Mapping[str, Artifact]) -> None:
        """Take the project files of a skipped stage to be as the stage restores them."""
        for name, artifact in artifacts.items():
            if artifact.kind == "file":
                self._file_hashes[name] = artifact.sha256

    def resolve_path(self, name: str) -> Path:
        """Return the file that is recorded under a name."""
        if name.startswith(f"{PACKAGE_FOLDER.name}/"):
            return PACKAGE_FOLDER.parent / name
        return self.project.resolve_path(name)

    def format_path_name(self, path: str) -> str:
        """Return the name under which a file is recorded.

        It is relative to the project (or to this package), so that the project may move.
        """
        package_path = os.path.relpath(path, PACKAGE_FOLDER.parent)
        if package_path.startswith(PACKAGE_FOLDER.name + os.sep):
            return Path(package_path).as_posix()
        project_path = os.path.relpath(path, self.project.root)
        if not project_path.startswith(".."):
            return Path(project_path).as_posix()
        return path


def list_working_folder(current: CurrentProject, stage: str) -> dict[str, str]:
    """Return the setting that says where a kernel starts; empty for the project's folder."""
    project = current.project
    folder = os.path.relpath(project.get_working_folder(stage), project.root)
    return {} if folder == os.curdir else {f"stages.{stage}.cwd": folder}


def hash_code_cells(notebook: Path) -> list[str]:
    """Return the hashes of a notebook's code cells.

    The cell that papermill injects is left out: an executed notebook has the hashes of its source.
    """
    return [
        hash_code(cell["source"])
        for cell in load_code_cells(notebook)
        if "injected-parameters" not in cell["metadata"].get("tags", [])
    ]


def hash_environment_variable(name: str) -> str | None:
    """Return the hash of an environment variable (its value is not stored); None if unset."""
    value = os.environ.get(name)
    if value is None:
        return None
    return hash_code(value)
