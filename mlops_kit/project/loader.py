"""Find and load a project: a folder with ``mlops.yaml``."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mlops_kit.core.errors import KitError
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.config.legacy import find_renamed_settings, translate_legacy_config
from mlops_kit.project.config.pipeline import DEFAULT_STAGES
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import parse_timestamp
from mlops_kit.project.plugins import activate_plugins
from mlops_kit.project.validation import validate_config

_logger = logging.getLogger(__name__)

PROJECT_VARIABLE = "MLOPS_PROJECT"
SQLITE_PREFIX = "sqlite:///"
_NOTEBOOKS_FOLDER = "notebooks"
_PROJECT_FOLDER = "project"  # values of stages.NAME.cwd
_NOTEBOOK_FOLDER = "notebook"
_YAML_SYNTAX = "keys and values, 'name: value'"
# A chain of own stages need not read a source or train a model.
_OWN_CHAIN_SETTINGS = {"source": "", "target": "", "task": "regression"}
_NO_ORIGINS: Mapping[str, str] = {}


class Project(NamedTuple):
    """A folder with a valid ``mlops.yaml``.

    Attributes
    ----------
    root : Path
        The folder.
    config : ProjectConfig
        Its settings.
    value_origins : dict of str to str
        Where settings come from that are not in ``mlops.yaml``, by dotted name.
    """

    root: Path
    config: ProjectConfig
    value_origins: Mapping[str, str] = _NO_ORIGINS

    def resolve_path(self, relative: str | Path) -> Path:
        """Resolve a path that is relative to the project."""
        return self.root / relative

    def find_sqlite_file(self, url: str) -> Path | None:
        """Return the file of a SQLite database, given its URL; None for a server."""
        if not url.startswith(SQLITE_PREFIX):
            return None
        return self.resolve_path(url.removeprefix(SQLITE_PREFIX))

    def parse_utc_timestamp(self, text: str, option: str) -> datetime | None:
        """Parse a timestamp and convert it to UTC; empty text gives None.

        Parameters
        ----------
        text : str
            The timestamp; without a zone it is in the project's time zone.
        option : str
            Where it was given, for the error message.

        Raises
        ------
        KitError
            If it is not a timestamp.
        """
        try:
            timestamp = parse_timestamp(text)
        except ValueError as error:
            expected = str(error).removeprefix("expected ")
            raise KitError(
                f"{option} {text!r} is not a timestamp", expected, f"correct {option}"
            ) from error
        return None if timestamp is None else self.config.to_utc(timestamp)

    @property
    def reports_folder(self) -> Path:
        """The folder of the runs."""
        return self.resolve_path(self.config.reports)

    @property
    def own_notebooks_folder(self) -> Path:
        """The folder of the project's own notebooks; it need not exist."""
        return self.resolve_path(self.config.notebooks or _NOTEBOOKS_FOLDER)

    @property
    def package_notebooks_folder(self) -> Path:
        """The folder of the package's notebooks."""
        return find_resource_folder(_NOTEBOOKS_FOLDER)

    def find_notebook(self, file: str) -> Path:
        """Return the path of a notebook: the project's own if it exists, else the package's.

        A notebook that neither has is one that the project lacks.
        """
        own_notebook = self.own_notebooks_folder / file
        if own_notebook.exists():
            return own_notebook
        packaged_notebook = self.package_notebooks_folder / file
        return packaged_notebook if packaged_notebook.exists() else own_notebook

    def get_notebook_path(self, stage: str) -> Path:
        """Return the path of a stage's notebook."""
        return self.find_notebook(self.config.stages[stage].notebook)

    def get_working_folder(self, stage: str) -> Path:
        """Return the folder in which the kernel of a stage starts.

        Raises
        ------
        KitError
            If ``stages.NAME.cwd`` does not name a folder, or names that of a notebook which is not
            the project's own.
        """
        setting = self.config.stages[stage].cwd
        folder = self.resolve_path("" if setting == _PROJECT_FOLDER else setting)
        if setting == _NOTEBOOK_FOLDER:
            notebook = self.get_notebook_path(stage)
            folder = notebook.parent
            if folder.is_relative_to(self.package_notebooks_folder) and not self._owns(notebook):
                raise KitError(
                    f"stages.{stage}.cwd: {setting!r}, but {notebook.name} comes from mlops-kit",
                    f"{_PROJECT_FOLDER!r}, or a notebook of the project",
                    f"mlops notebook edit {stage} copies it into the project",
                )
        if not folder.is_dir():
            raise KitError(
                f"stages.{stage}.cwd: {setting!r} is not a folder",
                f"{_PROJECT_FOLDER!r}, {_NOTEBOOK_FOLDER!r}, or a folder relative to {self.root}",
                f"edit {CONFIG_FILE_NAME}, or create the folder",
            )
        return folder

    def _owns(self, path: Path) -> bool:
        """Return whether a notebook is in the project's folder of notebooks."""
        return path.is_relative_to(self.own_notebooks_folder)

    def get_executed_notebook_name(self, stage: str) -> str:
        """Return the name of a stage's executed notebook, without its suffix.

        It is that of the notebook, with the name of the stage if other stages have a notebook of
        the same name: all are in one folder of the run.
        """
        name = Path(self.config.stages[stage].notebook).stem
        names = [Path(other.notebook).stem for other in self.config.stages.values()]
        return name if names.count(name) == 1 else f"{name}-{stage}"

    def with_values(self, origin: str, **values: Any) -> Project:
        """Return the project with some settings replaced; None leaves a setting as it is.

        Raises
        ------
        KitError
            If a value is not valid.
        """
        changes = {name: value for name, value in values.items() if value is not None}
        if not changes:
            return self
        settings = {**self.config.model_dump(exclude_unset=True), **changes}
        origins = {**self.value_origins, **dict.fromkeys(changes, origin)}
        return Project(self.root, validate_config(settings, origin), origins)


def find_project_folder(start: str | Path | None = None) -> Path:
    """Find the folder of a project.

    Parameters
    ----------
    start : path, optional
        The project's folder or its ``mlops.yaml``. By default the folder that ``MLOPS_PROJECT``
        names, else the nearest of the current folder and its parents that has a ``mlops.yaml``.

    Raises
    ------
    KitError
        If there is no ``mlops.yaml``.
    """
    named_folder = start or os.environ.get(PROJECT_VARIABLE)
    folder = Path(named_folder or ".").expanduser().resolve()
    if folder.is_file():
        folder = folder.parent
    candidates = [folder] if named_folder else [folder, *folder.parents]
    for candidate in candidates:
        if (candidate / CONFIG_FILE_NAME).is_file():
            return candidate
    place = "in this folder" if named_folder else "in this folder or one of its parents"
    raise KitError(
        f"no {CONFIG_FILE_NAME} for {str(folder)!r}",
        f"a file {CONFIG_FILE_NAME} {place}",
        "change to a project's folder, or name one with --project",
    )


def format_project_option(project: Project) -> str:
    """Return what a command typed in the current folder needs to find a project.

    Returns
    -------
    str
        `` --project FOLDER``; empty if the command finds the project without it.
    """
    try:
        found_folder = find_project_folder()
    except KitError:
        found_folder = None
    if found_folder == project.root:
        return ""
    return f" --project {shlex.quote(str(shorten_path(project.root)))}"


def shorten_path(path: Path) -> Path:
    """Return a path relative to the current folder if it lies in it."""
    current_folder = Path.cwd()
    return path.relative_to(current_folder) if path.is_relative_to(current_folder) else path


class DateAsTextLoader(yaml.SafeLoader):
    """A YAML loader that leaves dates as text.

    For a date that does not exist YAML itself raises a ValueError without the name of the setting.
    """


def _list_resolvers_without_dates() -> dict[str, list[tuple[str, Any]]]:
    resolvers = {}
    for first_character, candidates in yaml.SafeLoader.yaml_implicit_resolvers.items():
        resolvers[first_character] = [
            (tag, pattern) for tag, pattern in candidates if not tag.endswith(":timestamp")
        ]
    return resolvers


DateAsTextLoader.yaml_implicit_resolvers = _list_resolvers_without_dates()


def read_yaml_file(path: Path, hint: str) -> Any:
    """Read a YAML file; dates stay text.

    Raises
    ------
    KitError
        If it is not YAML; with the hint given.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.load(text, DateAsTextLoader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise KitError(f"{path.name} is not YAML: {problem}", _YAML_SYNTAX, hint) from error


def _translate_renamed_settings(root: Path, data: dict[str, Any]) -> dict[str, Any]:
    """Return the settings under their present names, and log a warning for each old name.

    Raises
    ------
    KitError
        If a setting is given under both names.
    """
    renamed = find_renamed_settings(data)
    if not renamed:
        return data
    for old_name, new_name in renamed.items():
        section, _, key = new_name.rpartition(".")
        present = data.get(section) if section else data
        if isinstance(present, dict) and key in present:
            raise KitError(
                f"{CONFIG_FILE_NAME} sets {new_name!r} and also {old_name!r}, its earlier name",
                f"{new_name!r} only",
                f"remove {old_name!r}",
            )
    _warn_of_renamed_settings(root, tuple(renamed.items()))
    return translate_legacy_config(data)


@lru_cache(maxsize=64)  # once per process
def _warn_of_renamed_settings(root: Path, renamed: tuple[tuple[str, str], ...]) -> None:
    """Log a warning for each setting that a project gives under an earlier name."""
    for old_name, new_name in renamed:
        _logger.warning(
            "%s: %r is now called %r; the earlier name still works",
            root / CONFIG_FILE_NAME,
            old_name,
            new_name,
        )


def load_project(start: str | Path | None = None, with_plugins: bool = True) -> Project:
    """Load a project: its plugins first, then its ``mlops.yaml``, which is validated.

    Parameters
    ----------
    start : path, optional
        See ``find_project_folder``.
    with_plugins : bool
        False loads no plugin, so that a project with a broken one can be examined.

    Raises
    ------
    KitError
        With every mistake: the setting, its value, what was expected, the most similar name.
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
            f"{CONFIG_FILE_NAME} contains a {type(data).__name__} instead of keys",
            _YAML_SYNTAX,
            f"edit {CONFIG_FILE_NAME}",
        )
    data = _translate_renamed_settings(root, data)
    activate_plugins(root, data.get("plugins") if with_plugins else None)
    return Project(root, validate_config(_add_default_stages(data, root), CONFIG_FILE_NAME))


def _add_default_stages(data: dict[str, Any], root: Path) -> dict[str, Any]:
    """Add the default stages that a project does not list, unless it has its own chain."""
    listed_stages = data.get("stages")
    if not listed_stages or not isinstance(listed_stages, dict):
        return data
    if _has_own_chain(listed_stages, root / str(data.get("notebooks") or _NOTEBOOKS_FOLDER)):
        return {**_OWN_CHAIN_SETTINGS, **data}
    stages: dict[str, Any] = {**DEFAULT_STAGES, **listed_stages}
    for name, default in DEFAULT_STAGES.items():
        changes = stages[name] or {}
        if isinstance(changes, dict):
            stages[name] = {**default, **changes}
    return {**data, "stages": stages}


def _has_own_chain(listed_stages: dict[str, Any], own_folder: Path) -> bool:
    """Return whether a project has only the stages that it lists.

    Its notebooks folder has none of the default notebooks, every stage names its notebook, and none
    needs a stage that is not listed.
    """
    default_notebooks = [own_folder / stage["notebook"] for stage in DEFAULT_STAGES.values()]
    if not own_folder.is_dir() or any(notebook.exists() for notebook in default_notebooks):
        return False
    for stage in listed_stages.values():
        if not isinstance(stage, dict) or not stage.get("notebook"):
            return False
        needs = stage.get("needs") or []
        needed = [needs] if isinstance(needs, str) else needs
        if any(name in DEFAULT_STAGES and name not in listed_stages for name in needed):
            return False
    return True
