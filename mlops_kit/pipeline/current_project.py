"""Current project."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mlops_kit.core import dependencies, import_tracer
from mlops_kit.pipeline.file_hashes import FileHashes
from mlops_kit.project import notebook_cells
from mlops_kit.project.loader import Project
from mlops_kit.project.settings import list_setting_values, map_fields_to_settings

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGE_FOLDER = Path(__file__).parent.parent


class CurrentProject:
    """The present state of a project, against which traces are held; each thing is looked up once."""

    def __init__(self, project: Project, hashes: FileHashes | None = None) -> None:
        self.project, self.hashes = project, hashes or FileHashes(project)
        self._cell_hashes: dict[Path, list[str]] = {}
        self._file_hashes: dict[str, str] = {}

    @cached_property
    def package_versions(self) -> dict[str, str]:
        """Versions of everything installed, by name."""
        return import_tracer.list_installed_versions()

    def hash_cells(self, stage: str) -> list[str]:
        """The hashes of a notebook's code cells."""
        book = self.project.get_notebook_path(stage)
        if book not in self._cell_hashes:
            self._cell_hashes[book] = hash_code_cells(book)
        return self._cell_hashes[book]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The present value of every setting, by dotted name."""
        return list_setting_values(self.project.config)

    @cached_property
    def setting_names(self) -> dict[tuple[str, str], str]:
        """The dotted name of each setting, by class and field."""
        return map_fields_to_settings(self.project.config)

    def hash_file(self, name: str) -> str:
        """The hash of a file that a trace calls by this name."""
        if name not in self._file_hashes:
            self._file_hashes[name] = self.hashes.hash_path(self.resolve_path(name))
        return self._file_hashes[name]

    def assume_restored(self, artifacts: Mapping[str, Any]) -> None:
        """Take files of the project to be what a skipped stage puts back there."""
        self._file_hashes |= {n: a["sha256"] for n, a in artifacts.items() if a["kind"] == "file"}

    def resolve_path(self, name: str) -> Path:
        """The file that a trace calls by this name."""
        return (
            PACKAGE_FOLDER.parent / name
            if name.startswith(f"{PACKAGE_FOLDER.name}/")
            else self.project.resolve_path(name)
        )

    def format_path_name(self, path: str) -> str:
        """How a trace calls a file: from the project's folder, so that it may move."""
        for root in (PACKAGE_FOLDER.parent, self.project.root):
            relative = os.path.relpath(path, root)
            if not relative.startswith("..") and (
                root == self.project.root or relative.startswith(PACKAGE_FOLDER.name + os.sep)
            ):
                return Path(relative).as_posix()
        return path


def hash_code_cells(book: Path) -> list[str]:
    """The hashes of a notebook's code cells, without what papermill put in: an executed one has those of its source."""
    return [
        dependencies.hash_code(c["source"])
        for c in notebook_cells.load_code_cells(book)
        if "injected-parameters" not in c["metadata"].get("tags", [])
    ]


def hash_environment_variable(name: str) -> str | None:
    """What is kept of an environment variable: not its value."""
    value = os.environ.get(name)
    return None if value is None else dependencies.hash_code(value)
