"""What came from the package, as it was then: the base of a three-way merge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from mlops_kit import __version__
from mlops_kit.core.errors import KitError
from mlops_kit.core.files import write_text

ORIGIN_FILE = ".mlops-origin.json"


class OriginalFile(BaseModel, frozen=True, extra="forbid"):
    """A file as the package wrote it, with the version of the package."""

    version: str
    text: str


class ProjectOrigin(BaseModel, frozen=True, extra="forbid"):
    """What a project has from the package.

    Attributes
    ----------
    answers : dict
        The values with which the template was rendered; empty for a project that was not made from
        it.
    files : dict of str to OriginalFile
        The files of the template, by path.
    notebooks : dict of str to OriginalFile
        The copied notebooks, by path below the package's notebooks.
    """

    schema_version: Literal[1] = 1
    answers: dict[str, Any] = {}
    files: dict[str, OriginalFile] = {}
    notebooks: dict[str, OriginalFile] = {}


def read_origin(root: Path) -> ProjectOrigin:
    """Read what a project has from the package; nothing if it has no such record.

    Raises
    ------
    KitError
        If the record cannot be read.
    """
    file = root / ORIGIN_FILE
    if not file.exists():
        return ProjectOrigin()
    try:
        return ProjectOrigin.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise KitError(
            f"{ORIGIN_FILE} cannot be read: {problem}",
            "the file as mlops-kit wrote it",
            f"git checkout {ORIGIN_FILE}, or upgrade mlops-kit if a later version wrote it",
        ) from error


def write_origin(root: Path, origin: ProjectOrigin) -> None:
    """Write the record, atomically."""
    write_text(root / ORIGIN_FILE, origin.model_dump_json(indent=1) + "\n")


def make_original_file(text: str) -> OriginalFile:
    """Return a file as this version of the package writes it."""
    return OriginalFile(version=__version__, text=text)
