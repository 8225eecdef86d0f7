"""Comparison of the modules and other source files that two runs used, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlops_kit.pipeline.compare.line_diff import diff_lines
from mlops_kit.pipeline.compare.records import RunSide
from mlops_kit.pipeline.compare.values import collect_recorded_values
from mlops_kit.pipeline.current_project import PACKAGE_FOLDER
from mlops_kit.pipeline.fingerprint import get_file_hashes
from mlops_kit.pipeline.object_store import get_object_path
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import StageDependencies

_SOURCE_SUFFIXES = (".py", ".sql", ".sh", ".r", ".jl", ".yaml", ".yml", ".toml", ".ini", ".cfg")
_MAX_DIFF_LINES = 200  # that are shown of one file


def diff_source_files(project: Project, old: RunSide, new: RunSide) -> dict[str, str]:
    """Return how the source files that both runs used differ, by the name of the file.

    Their contents are those that the runs stored. A file of this package is left out unless the
    project has its own copy of it: an upgrade changes many, and the settings of the comparison name
    the version.
    """
    old_hashes, new_hashes = (
        get_file_hashes(StageDependencies(files=files, modules=modules))
        for files, modules in zip(
            collect_recorded_values(old, new, "files"),
            collect_recorded_values(old, new, "modules"),
            strict=True,
        )
    )
    diffs = {}
    for name in dict.fromkeys([*old_hashes, *new_hashes]):
        old_hash = old_hashes.get(name)
        new_hash = new_hashes.get(name)
        if old_hash == new_hash or not _is_source_file(project, name):
            continue
        old_lines = _read_stored_lines(project, old_hash)
        new_lines = _read_stored_lines(project, new_hash)
        if old_lines is not None and new_lines is not None:
            diffs[name] = "\n".join(_limit_lines(list(diff_lines(old_lines, new_lines))))
    return diffs


def _is_source_file(project: Project, name: str) -> bool:
    """Return whether a file is code or configuration, and not of the installed package."""
    package = PACKAGE_FOLDER.name
    if name.startswith(f"{package}/") and not (project.root / package).is_dir():
        return False
    return Path(name).suffix.lower() in _SOURCE_SUFFIXES


def _read_stored_lines(project: Project, content_hash: str | None) -> list[str] | None:
    """Read the lines of a file as a run stored it.

    No lines if the run did not use the file; None if it has no copy of it, or if it is not text.
    """
    if content_hash is None:
        return []
    stored = get_object_path(project, content_hash)
    try:
        return stored.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None


def _limit_lines(lines: list[str]) -> Iterator[str]:
    """Yield the first lines of a diff, and how many more there are."""
    yield from lines[:_MAX_DIFF_LINES]
    omitted = len(lines) - _MAX_DIFF_LINES
    if omitted > 0:
        yield f"… {omitted:,} more lines"
