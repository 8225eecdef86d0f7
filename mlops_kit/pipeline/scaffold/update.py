"""Updating a project from the template of the installed package: ``mlops update``."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from mlops_kit import __version__
from mlops_kit.core.errors import KitError
from mlops_kit.core.files import write_text
from mlops_kit.pipeline.scaffold.merging import has_conflict_markers, merge_texts
from mlops_kit.pipeline.scaffold.origin import (
    ORIGIN_FILE,
    ProjectOrigin,
    make_original_file,
    read_origin,
    write_origin,
)
from mlops_kit.pipeline.scaffold.template import render_template
from mlops_kit.project.loader import Project


class FileOutcome(StrEnum):
    """What an update did with a file."""

    ADDED = "added"
    UPDATED = "updated"
    MERGED = "merged with your edits"
    CONFLICT = "conflict"
    REMOVED_BY_USER = "changed in the template, but you removed it"
    NOT_IN_TEMPLATE = "no longer in the template; it is yours now"


class FileUpdate(NamedTuple):
    """A file that an update looked at, and what it did with it."""

    path: str
    outcome: FileOutcome


def update_project(project: Project) -> list[FileUpdate]:
    """Merge the changes of the template since the last update into a project.

    Edits are kept. Where an edit and a change of the template meet, both stand in the file between
    conflict markers.

    Returns
    -------
    list of FileUpdate
        The files that changed, or would have.

    Raises
    ------
    KitError
        If the project was not made from the template, or has conflicts of an earlier update.
    """
    origin = read_origin(project.root)
    if not origin.answers:
        raise KitError(
            f"{project.config.name} was not created by mlops new: there is nothing to update",
            f"the answers in {ORIGIN_FILE}",
            "copy what you need from a project that mlops new creates",
        )
    _check_conflicts(project, origin)
    texts = render_template(origin.answers, project.config.package)
    updates = []
    for path, text in texts.items():
        outcome = _update_file(project, origin, path, text)
        if outcome is not None:
            updates.append(FileUpdate(path, outcome))
    for path in origin.files:
        if path not in texts and (project.root / path).exists():
            updates.append(FileUpdate(path, FileOutcome.NOT_IN_TEMPLATE))
    originals = {path: make_original_file(text) for path, text in texts.items()}
    write_origin(project.root, origin.model_copy(update={"files": originals}))
    return updates


def get_template_version(project: Project) -> str:
    """Return the version of the package from which a project's files came; empty if none did."""
    versions = {original.version for original in read_origin(project.root).files.values()}
    return next(iter(versions), "")


def is_current(project: Project) -> bool:
    """Return whether a project has the template of the installed version."""
    return get_template_version(project) in {"", __version__}


def _check_conflicts(project: Project, origin: ProjectOrigin) -> None:
    """Refuse to update files that have unresolved conflicts.

    Raises
    ------
    KitError
        With the files.
    """
    unresolved = []
    for path in origin.files:
        file = project.root / path
        if file.exists() and has_conflict_markers(file.read_text(encoding="utf-8")):
            unresolved.append(path)
    if unresolved:
        raise KitError(
            f"conflicts of an earlier update are not resolved: {', '.join(unresolved)}",
            "files without conflict markers",
            "edit them, then run mlops update again",
        )


def _update_file(
    project: Project, origin: ProjectOrigin, path: str, text: str
) -> FileOutcome | None:
    """Update one file; None if there was nothing to do."""
    file = project.root / path
    original = origin.files.get(path)
    if original is None and not file.exists():
        write_text(file, text)
        return FileOutcome.ADDED
    original_text = original.text if original is not None else ""
    if original_text == text:
        return None
    if not file.exists():
        return FileOutcome.REMOVED_BY_USER
    edited = file.read_text(encoding="utf-8")
    if edited == text:
        return None
    merged = merge_texts(edited, original_text, text)
    write_text(file, merged.text)
    if merged.conflicts:
        return FileOutcome.CONFLICT
    return FileOutcome.UPDATED if edited == original_text else FileOutcome.MERGED
