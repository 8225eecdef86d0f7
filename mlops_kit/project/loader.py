"""``mlops.yaml`` as pydantic models: each default, unit and meaning stands here, once.

A project is a folder with ``mlops.yaml``. ``load`` reads it, refuses what is wrong in words, and
``explain`` lists every value with its meaning and where it came from. Nothing heavy is imported.

To add a setting: 1. a field with a ``description`` in one of the models, 2. the code that reads it;
``mlops config`` and the errors know it from then on.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mlops_kit.core.errors import KitError
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.config.pipeline import DEFAULT_STAGES
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import parse_timestamp
from mlops_kit.project.validation import validate_config


class Project(NamedTuple):
    """A folder with ``mlops.yaml``, read and checked.

    ``given`` maps dotted names that did not come from the file to where they came from.
    """

    root: Path
    config: ProjectConfig
    value_origins: dict[str, str] = {}

    def resolve_path(self, relative: str | Path) -> Path:
        """A path of the project, absolute."""
        return self.root / relative

    def parse_utc_timestamp(self, text: str, said: str) -> datetime | None:
        """A moment that a person wrote, in UTC; None for nothing.

        Raises
        ------
        KitError
            If it is none.
        """
        try:
            found = parse_timestamp(text)
        except ValueError as error:
            raise KitError(
                f"{said} {text!r} is no moment", str(error).removeprefix("expected "), "mend it"
            ) from error
        return None if found is None else self.config.to_utc(found)

    @property
    def reports_folder(self) -> Path:
        """The folder of the runs."""
        return self.resolve_path(self.config.reports)

    @property
    def notebooks_folder(self) -> Path:
        """The folder of the notebooks: the project's own, or those that ship with the package."""
        own = self.resolve_path(self.config.notebooks or "notebooks")
        return own if self.config.notebooks or own.is_dir() else find_resource_folder("notebooks")

    def get_notebook_path(self, stage: str) -> Path:
        """The notebook of a stage."""
        return self.notebooks_folder / self.config.stages[stage].notebook

    def with_values(self, origin: str, **values: Any) -> Project:
        """The project with some values laid over; ``None`` leaves a value as it is."""
        laid = {k: v for k, v in values.items() if v is not None}
        if not laid:
            return self
        config = validate_config({**self.config.model_dump(exclude_unset=True), **laid}, origin)
        return Project(self.root, config, {**self.value_origins, **dict.fromkeys(laid, origin)})


def find_project_folder(start: str | Path | None = None) -> Path:
    """The project's folder: ``start``, MLOPS_PROJECT, or the nearest one above here with ``mlops.yaml``."""
    named = start or os.environ.get("MLOPS_PROJECT")
    begin = Path(named or ".").expanduser().resolve()
    begin = begin.parent if begin.is_file() else begin
    for folder in [begin] if named else [begin, *begin.parents]:
        if (folder / CONFIG_FILE_NAME).is_file():
            return folder
    raise KitError(
        f"no {CONFIG_FILE_NAME} for {str(begin)!r}",
        f"a file {CONFIG_FILE_NAME} {'in it' if named else 'there or in any folder above'}",
        "change into a project, or name it with --project",
    )


class DateAsTextLoader(yaml.SafeLoader):
    """YAML whose dates stay text: YAML's own reading of a date that does not exist is a bare ValueError."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml_file(file: Path, cure: str) -> Any:
    """What a YAML file holds.

    Raises
    ------
    KitError
        If it is not YAML.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), DateAsTextLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KitError(
            f"{file.name} is not YAML: {' '.join(str(error).split())}",
            "keys and values, 'name: value'",
            cure,
        ) from error


def load_project(start: str | Path | None = None) -> Project:
    """Read and check a project's ``mlops.yaml``.

    Raises
    ------
    KitError
        With every mistake: the field, its value, what was expected, the nearest right name.
    """
    root = find_project_folder(start)
    data = read_yaml_file(root / CONFIG_FILE_NAME, f"edit {CONFIG_FILE_NAME}")
    if not data:
        raise KitError(
            f"{CONFIG_FILE_NAME} is empty",
            "at least name, source, target and task",
            "see the README, 'your own table'",
        )
    if not isinstance(data, dict):
        raise KitError(
            f"{CONFIG_FILE_NAME} holds a {type(data).__name__}, not keys",
            "keys and values, 'name: value'",
            f"edit {CONFIG_FILE_NAME}",
        )
    own = root / str(data.get("notebooks") or "notebooks")
    if (
        data.get("stages")
        and own.is_dir()
        and not any((own / s["notebook"]).exists() for s in DEFAULT_STAGES.values())
    ):
        data = {"seven": False, **data}
    return Project(root, validate_config(data, CONFIG_FILE_NAME))
