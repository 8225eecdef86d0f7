"""Schedules of the project's commands for other systems: GitHub Actions, cron, Kubernetes.

Their values come from the project. A secret is named, its value is never written.

To add a target: a template, and its entry in ``EXPORT_TARGETS``.
"""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.import_tracer import normalize_distribution_name
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.pipeline.scaffold.package_origin import is_local_url
from mlops_kit.project.loader import Project
from mlops_kit.project.secrets import list_secret_variables

_NIGHTLY_SCHEDULE = "15 2 * * *"
_DEFAULT_PORT = 8000
_MAX_HOST_NAME_CHARACTERS = 40
_PROJECT_FOLDER_IN_IMAGE = PurePosixPath("/project")
# By the file that lists a project's packages, the preferred first.
_INSTALL_COMMANDS = {
    "requirements.lock": ["pip install -r requirements.lock"],
    "requirements.txt": ["pip install -r requirements.txt"],
    "pyproject.toml": ["pip install ."],
    "environment.yml": [
        '"$CONDA/bin/conda" env update --quiet --name base --file environment.yml',
        'export PATH="$CONDA/bin:$PATH"',
        'echo "$CONDA/bin" >> "$GITHUB_PATH"',
    ],
}
_PACKAGE_NAME = "mlops-kit"
_REQUIREMENT_NAME = re.compile(r"\s*(?:[\w./-]+::)?([\w.-]+)")  # conda may name a channel
_CRON_FIELD_PATTERN = re.compile(r"(?:\*|(?P<first>\d+)-(?P<last>\d+))(?:/[1-9]\d*)?|(?P<one>\d+)")


class _ExportTarget(NamedTuple):
    """A template, and the file of the project that is written from it."""

    template: str
    file: str


class _CronField(NamedTuple):
    """A field of a cron expression with the values that it may have."""

    name: str
    min: int
    max: int


EXPORT_TARGETS = {
    "github": _ExportTarget("ci/github.yml", ".github/workflows/mlops.yml"),
    "cron": _ExportTarget("deploy/mlops.cron", "deploy/mlops.cron"),
    "kubernetes": _ExportTarget("deploy/kubernetes.yaml", "deploy/kubernetes.yaml"),
}
# What all three targets understand: Sunday is 0, not 7.
_CRON_FIELDS = (
    _CronField("minute", 0, 59),
    _CronField("hour", 0, 23),
    _CronField("day of the month", 1, 31),
    _CronField("month", 1, 12),
    _CronField("weekday", 0, 6),
)


def validate_cron_expression(text: str) -> str:
    """Check a cron expression and return it with single spaces.

    >>> validate_cron_expression("*/20  6-22 * * 1-5")
    '*/20 6-22 * * 1-5'

    Raises
    ------
    KitError
        If it is not valid; the message names the field.
    """
    values = text.split()
    if len(values) != len(_CRON_FIELDS):
        names = ", ".join(field.name for field in _CRON_FIELDS)
        raise KitError(
            f"--every {text!r} has {len(values)} fields",
            f"five: {names}",
            f"--every '{_NIGHTLY_SCHEDULE}'",
        )
    for value, field in zip(values, _CRON_FIELDS, strict=True):
        for part in value.split(","):
            if not _is_valid_cron_part(part, field):
                raise KitError(
                    f"--every {text!r}: {part!r} is not a valid {field.name}",
                    f"numbers from {field.min} to {field.max}: one, several (1,2), "
                    "a range (1-5), all (*), every n-th (*/2)",
                    f"--every '{_NIGHTLY_SCHEDULE}'",
                )
    return " ".join(values)


def _is_valid_cron_part(part: str, field: _CronField) -> bool:
    """Return whether a part of a cron field is a number or an ascending range within its limits."""
    match = _CRON_FIELD_PATTERN.fullmatch(part)
    if match is None:
        return False
    numbers = [int(number) for number in match.groups() if number]
    are_within_limits = all(field.min <= number <= field.max for number in numbers)
    return are_within_limits and numbers == sorted(numbers)


def export_schedule(
    project: Project, target: str, every: str = "", image: str = "", force: bool = False
) -> Path:
    """Write a schedule of the project's commands for another system.

    Parameters
    ----------
    project : Project
        The project.
    target : str
        One of ``EXPORT_TARGETS``.
    every : str
        When to run, as a cron expression; every night by default.
    image : str
        The container image with the project; Kubernetes needs one.
    force : bool
        Overwrite a file that differs.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    KitError
        If the target is unknown, the expression is not valid, something that the target needs is
        missing, or the file exists and differs.
    """
    if target not in EXPORT_TARGETS:
        raise KitError(
            f"unknown target {target!r}",
            suggest_names(target, EXPORT_TARGETS),
            "mlops export github",
        )
    if target == "kubernetes":
        _check_deployable(project, image)
    root = _find_repository_root(project.root) if target == "github" else project.root
    folder = "" if root == project.root else project.root.relative_to(root).as_posix()
    template, name = EXPORT_TARGETS[target]
    install_commands = list_install_commands(project) if target == "github" else []
    if folder:  # several projects of a repository each have their workflow
        name = name.replace("mlops.yml", f"mlops-{project.config.name}.yml")
    schedule = validate_cron_expression(every or _NIGHTLY_SCHEDULE)
    values = _collect_template_values(project, schedule, image)
    text = _render_export_template(template, folder=folder, install=install_commands, **values)
    file = root / name
    if not force and file.exists() and file.read_text(encoding="utf-8") != text:
        raise KitError(
            f"{file.relative_to(root)} exists and differs",
            "no such file, or one that was exported and not changed",
            "move it away, or overwrite it with --force",
        )
    files.write_text(file, text)
    return file


def _check_deployable(project: Project, image: str) -> None:
    """Refuse a deployment that could not start.

    Raises
    ------
    KitError
        If the image or the token of the service is missing.
    """
    if not image:
        raise KitError(
            "--image is missing",
            "the name of an image that has the project in /project",
            f"mlops export kubernetes --image {project.config.name}:1",
        )
    if "deploy" in project.config.stages and not project.config.serve.token_env:
        raise KitError(
            "serve.token_env is empty, but a service that others can reach needs a token",
            "the name of an environment variable with the token",
            "serve: {token_env: SERVE_TOKEN} in mlops.yaml",
        )


def _find_repository_root(project_root: Path) -> Path:
    """Return the root of the git repository, where GitHub looks for workflows."""
    for folder in (project_root, *project_root.parents):
        if (folder / ".git").exists():
            return folder
    return project_root


def _collect_template_values(project: Project, schedule: str, image: str) -> dict[str, Any]:
    """Collect the values with which the templates are filled."""
    config = project.config
    host = re.sub(r"[^a-z0-9]+", "-", config.name.lower())
    quoted_root = shlex.quote(str(project.root))
    stored_folders = (config.reports, ".mlops")
    return {
        "name": config.name,
        "every": schedule,
        "image": image,
        "port": config.serve.port or _DEFAULT_PORT,
        "zone": config.timezone,
        "reports": config.reports,
        "secrets": list_secret_variables(project),
        "is_watched": config.time is not None and "monitor" in config.stages,
        "has_service": "deploy" in config.stages,
        "needs_approval": config.approval == "manual",
        "host": host[:_MAX_HOST_NAME_CHARACTERS].strip("-"),
        "mounts": [(folder, _PROJECT_FOLDER_IN_IMAGE / folder) for folder in stored_folders],
        "root": quoted_root.replace("%", r"\%"),  # cron replaces a bare % by a line break
        "bin": Path(sys.executable).parent,
    }


def list_install_commands(project: Project) -> list[str]:
    """List the commands that install what the project needs, and this package.

    The project's packages are those of the first of ``requirements.lock``, ``requirements.txt``,
    ``pyproject.toml`` and ``environment.yml`` that exists. mlops-kit is one of them, or a checkout
    in the project, or comes from where the setting ``package`` says.

    Raises
    ------
    KitError
        If it is not known where mlops-kit is to be installed from, or only this machine has it.
    """
    root = project.root
    package = project.config.package
    # First, so that a requirement of this version is satisfied already.
    commands = [f"pip install {shlex.quote(package)}"] if package else []
    installed_file = next((file for file in _INSTALL_COMMANDS if (root / file).exists()), None)
    if installed_file is not None:
        _refuse_local_package(root / installed_file)
        commands += _INSTALL_COMMANDS[installed_file]
    if package:
        return commands
    if (root / "mlops_kit").is_dir():
        return [*commands, "pip install --no-deps -e ."]
    if installed_file is None or not _requires_this_package(root / installed_file):
        where = f"{installed_file} does not list it" if installed_file else "there is no such file"
        raise KitError(
            f"it is not known where mlops-kit is to be installed from: {where}",
            "mlops-kit in requirements.lock, requirements.txt, pyproject.toml or environment.yml, "
            "or the setting 'package'",
            "package: 'mlops-kit[all] @ git+https://…' in mlops.yaml, or the path of a wheel",
        )
    return commands


def _refuse_local_package(file: Path) -> None:
    """Refuse a file that installs mlops-kit from a file or folder of this machine.

    Raises
    ------
    KitError
        With the requirement.
    """
    for requirement in _list_package_requirements(file):
        _, _, url = requirement.partition("@")
        if is_local_url(url.strip()):
            raise KitError(
                f"{file.name} installs mlops-kit from this machine: {requirement.strip()}",
                "a git URL, a version of an index, or the path of a wheel in the project",
                "set package in mlops.yaml and run mlops update, or edit the file",
            )


def _requires_this_package(file: Path) -> bool:
    """Return whether mlops-kit is among the packages that a file lists."""
    return bool(_list_package_requirements(file))


def _list_package_requirements(file: Path) -> list[str]:
    """List the requirements of mlops-kit in a file that lists packages.

    Raises
    ------
    KitError
        If the file has another form than pip or conda expects.
    """
    try:
        requirements = _list_requirements(file)
        matches = {text: _REQUIREMENT_NAME.match(text) for text in requirements}
        return [
            text
            for text, match in matches.items()
            if match and normalize_distribution_name(match[1]) == _PACKAGE_NAME
        ]
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise KitError(
            f"{file.name} cannot be read: {error}",
            "a file that lists the packages of the project",
        ) from error


def _list_requirements(file: Path) -> list[str]:
    """List the packages that are installed from a file.

    Of ``pyproject.toml`` these are the dependencies of the project, also those of Poetry.
    """
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".toml":
        content = tomllib.loads(text)
        poetry_dependencies = content.get("tool", {}).get("poetry", {}).get("dependencies", {})
        return [*content.get("project", {}).get("dependencies", []), *poetry_dependencies]
    if file.suffix != ".yml":
        return text.splitlines()
    requirements: list[str] = []
    content = yaml.safe_load(text) or {}
    for entry in content.get("dependencies", []):
        requirements += entry["pip"] if isinstance(entry, dict) else [entry]
    return requirements


def _render_export_template(template: str, **values: Any) -> str:
    """Fill a template whose values are marked by brackets."""
    import jinja2

    # Brackets mark the values, because GitHub Actions uses braces.
    environment = jinja2.Environment(  # noqa: S701 - no HTML, nothing to escape
        variable_start_string="[[",
        variable_end_string="]]",
        block_start_string="[%",
        block_end_string="%]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    source = (find_resource_folder("templates") / template).read_text(encoding="utf-8")
    return environment.from_string(source).render(**values)
