"""The notebooks of a project: which are its own, copying one, and later changes of the package's.

A notebook comes from the package unless the project has one of the same name.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.files import write_text
from mlops_kit.pipeline.scaffold.merging import (
    has_conflict_markers,
    merge_notebooks,
    normalize_notebook,
)
from mlops_kit.pipeline.scaffold.origin import make_original_file, read_origin, write_origin
from mlops_kit.project.loader import Project

_DASHBOARDS_FOLDER = "dashboards"


class NotebookOwner(StrEnum):
    """Where a notebook comes from."""

    PACKAGE = "mlops-kit"
    PROJECT = "the project"


@dataclass(frozen=True)
class NotebookStatus:
    """A notebook of a project.

    Attributes
    ----------
    name : str
        The stage, or ``dashboards/`` and the page.
    path : Path
        The file that runs.
    owner : NotebookOwner
        Where it comes from.
    copied_version : str
        The version of the package from which it was copied; empty if it was not.
    is_edited : bool
        Whether it differs from what was copied.
    has_new_version : bool
        Whether the package's notebook has changed since.
    """

    name: str
    path: Path
    owner: NotebookOwner
    copied_version: str = ""
    is_edited: bool = False
    has_new_version: bool = False

    def describe(self) -> str:
        """Return where it comes from, and what changed, in words."""
        if self.owner == NotebookOwner.PACKAGE:
            return "from mlops-kit"
        if not self.copied_version:
            return "the project's own"
        edits = "edited" if self.is_edited else "not edited"
        text = f"the project's own, copied from mlops-kit {self.copied_version}, {edits}"
        if self.has_new_version:
            text = f"{text}; mlops-kit's has changed since: mlops notebook diff {self.name}"
        return text


def list_notebooks(project: Project) -> list[NotebookStatus]:
    """Return the notebooks of the stages and of the dashboards."""
    names = list(project.config.stages)
    pages = (project.package_notebooks_folder / _DASHBOARDS_FOLDER).glob("*.ipynb")
    names += sorted(f"{_DASHBOARDS_FOLDER}/{page.stem}" for page in pages)
    return [describe_notebook(project, name) for name in names]


def list_replaced_notebooks(project: Project) -> list[str]:
    """Return the stages and pages for which the project has a notebook instead of the package's."""
    replaced = []
    for status in list_notebooks(project):
        file = find_notebook_file(project, status.name)
        is_packaged = (project.package_notebooks_folder / file).exists()
        if status.owner == NotebookOwner.PROJECT and is_packaged:
            replaced.append(status.name)
    return replaced


def describe_notebook(project: Project, name: str) -> NotebookStatus:
    """Return where a notebook comes from, and what changed.

    Raises
    ------
    KitError
        If there is no such stage or page.
    """
    file = find_notebook_file(project, name)
    path = project.find_notebook(file)
    if path.is_relative_to(project.package_notebooks_folder):
        return NotebookStatus(name, path, NotebookOwner.PACKAGE)
    original = read_origin(project.root).notebooks.get(file)
    packaged = project.package_notebooks_folder / file
    if original is None or not packaged.exists() or not path.exists():
        return NotebookStatus(name, path, NotebookOwner.PROJECT)
    copied = normalize_notebook(original.text)
    return NotebookStatus(
        name,
        path,
        NotebookOwner.PROJECT,
        original.version,
        is_edited=normalize_notebook(path.read_text(encoding="utf-8")) != copied,
        has_new_version=normalize_notebook(packaged.read_text(encoding="utf-8")) != copied,
    )


def find_notebook_file(project: Project, name: str) -> str:
    """Return the file of a stage or page, below the folder of notebooks.

    Raises
    ------
    KitError
        If there is no such stage or page.
    """
    if name in project.config.stages:
        return project.config.stages[name].notebook
    page = name.removeprefix(f"{_DASHBOARDS_FOLDER}/")
    file = f"{_DASHBOARDS_FOLDER}/{page}.ipynb"
    if name != page and (project.package_notebooks_folder / file).exists():
        return file
    pages = (project.package_notebooks_folder / _DASHBOARDS_FOLDER).glob("*.ipynb")
    names = [*project.config.stages, *(f"{_DASHBOARDS_FOLDER}/{path.stem}" for path in pages)]
    raise KitError(
        f"there is no notebook {name!r}",
        suggest_names(name, names),
        "mlops notebook list",
    )


def edit_notebook(project: Project, name: str) -> Path:
    """Copy a notebook of the package into the project; the others stay with the package.

    Returns
    -------
    Path
        The copy.

    Raises
    ------
    KitError
        If the project has it already, or the package does not.
    """
    file = find_notebook_file(project, name)
    source = project.package_notebooks_folder / file
    target = project.own_notebooks_folder / file
    if target.exists():
        raise KitError(
            f"the notebook of {name!r} is the project's own already: {_shorten(project, target)}",
            "a notebook that comes from mlops-kit",
            "mlops lab, and edit it",
        )
    if not source.exists():
        raise KitError(
            f"mlops-kit has no notebook {file!r}",
            "a default stage or page",
            "mlops notebook list",
        )
    text = source.read_text(encoding="utf-8")
    # The record comes first: a copy without its original could not be merged later.
    origin = read_origin(project.root)
    notebooks = {**origin.notebooks, file: make_original_file(text)}
    write_origin(project.root, origin.model_copy(update={"notebooks": notebooks}))
    write_text(target, text)
    return target


def diff_notebook(project: Project, name: str) -> str:
    """Return how the package's notebook has changed since it was copied; empty if it has not.

    Raises
    ------
    KitError
        If the notebook is not a copy.
    """
    original, packaged, _ = _read_versions(project, name)
    lines = difflib.unified_diff(
        _list_lines(original),
        _list_lines(packaged),
        "as it was copied",
        "mlops-kit now",
        lineterm="",
    )
    return "\n".join(lines)


def merge_notebook(project: Project, name: str) -> int:
    """Merge the changes of the package's notebook since it was copied into the project's.

    Returns
    -------
    int
        Number of conflicts, or 1 if there are some; they are marked in their cells.

    Raises
    ------
    KitError
        If the notebook is not a copy, or has conflicts of an earlier merge.
    """
    original, packaged, path = _read_versions(project, name)
    edited = path.read_text(encoding="utf-8")
    if has_conflict_markers("\n".join(_list_lines(edited))):
        raise KitError(
            f"conflicts of an earlier merge are not resolved in {_shorten(project, path)}",
            "cells without conflict markers",
            "mlops lab, and edit it",
        )
    merged = merge_notebooks(edited, original, packaged)
    if merged.text != edited:
        write_text(path, merged.text)
    origin = read_origin(project.root)
    file = find_notebook_file(project, name)
    notebooks = {**origin.notebooks, file: make_original_file(packaged)}
    write_origin(project.root, origin.model_copy(update={"notebooks": notebooks}))
    return merged.conflicts


def _read_versions(project: Project, name: str) -> tuple[str, str, Path]:
    """Return a notebook as it was copied and as the package has it now, and the project's file.

    Raises
    ------
    KitError
        If the notebook is not a copy.
    """
    status = describe_notebook(project, name)
    if not status.copied_version:
        raise KitError(
            f"the notebook of {name!r} is not a copy of mlops-kit's: {status.describe()}",
            "a notebook that was copied by mlops notebook edit",
            f"mlops notebook edit {name}",
        )
    file = find_notebook_file(project, name)
    original = read_origin(project.root).notebooks[file].text
    packaged = (project.package_notebooks_folder / file).read_text(encoding="utf-8")
    return original, packaged, status.path


def _list_lines(notebook: str) -> list[str]:
    """Return the lines of a notebook's cells, each cell introduced by a line of its own."""
    lines = []
    for cell in json.loads(notebook)["cells"]:
        lines.append(f"# %% [{cell['cell_type']}]")
        lines += "".join(cell["source"]).splitlines()
    return lines


def _shorten(project: Project, path: Path) -> str:
    """Return a path relative to the project where it lies in it."""
    if path.is_relative_to(project.root):
        return path.relative_to(project.root).as_posix()
    return str(path)
