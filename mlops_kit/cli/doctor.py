"""Checks of ``mlops doctor``: the machine first, then the project.

A check returns what it found, or raises an error that says what to do. The machine is checked even
where ``mlops.yaml`` cannot be read. No check changes anything.

To add a check: a function here, registered in ``MACHINE_CHECKS`` (needs no project) or
``PROJECT_CHECKS``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mlops_kit.core.environment import get_user_name
from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.extras import EXTRAS, format_install_command
from mlops_kit.project import identity, loader, plugins, writable
from mlops_kit.project.config import base
from mlops_kit.project.loader import Project
from mlops_kit.project.plugins import PluginError

MACHINE_CHECKS: ExtensionRegistry[Callable[[], str]] = ExtensionRegistry("machine check")
PROJECT_CHECKS: ExtensionRegistry[Callable[[Project], str]] = ExtensionRegistry("project check")
_DISTRIBUTION_NAME = "mlops-kit"
_PLUGINS_CHECK = "plugins"
# A run on a year of flights writes 20 MB; temporary files and the tracking store need the rest.
MIN_FREE_DISK_GIB = 2
_BYTES_PER_GIB = 2**30


class DoctorFinding(NamedTuple):
    """The result of a check: what it found, or what is wrong and what to do."""

    check_name: str
    passed: bool
    sentence: str


def run_doctor_checks(start: str | None = None) -> Iterator[DoctorFinding]:
    """Run all checks; those of the project only if its ``mlops.yaml`` can be read.

    Parameters
    ----------
    start : str, optional
        The project's folder; default: the current folder or the nearest parent with ``mlops.yaml``.
    """
    for name, check in MACHINE_CHECKS.items():
        yield _run_check(name, check)
    try:
        project = loader.load_project(start)
    except PluginError as error:
        yield DoctorFinding(_PLUGINS_CHECK, False, str(error))
        yield from _run_checks_without_plugins(start)
        return
    except KitError as error:
        yield DoctorFinding(base.CONFIG_FILE_NAME, False, str(error))
        return
    for name, project_check in PROJECT_CHECKS.items():
        yield _run_check(name, partial(project_check, project))


def _run_checks_without_plugins(start: str | None) -> Iterator[DoctorFinding]:
    """Run what can be checked of a project that has a broken plugin."""
    try:
        project = loader.load_project(start, with_plugins=False)
    except KitError as error:
        message = f"read without the plugins, whose names are unknown until they load: {error}"
        yield DoctorFinding(base.CONFIG_FILE_NAME, False, message)
        return
    for name, project_check in PROJECT_CHECKS.items():
        if name != _PLUGINS_CHECK:
            yield _run_check(name, partial(project_check, project))


def _run_check(name: str, check: Callable[[], str]) -> DoctorFinding:
    """Run one check; whatever it raises is what it found, so that the others are run too."""
    try:
        return DoctorFinding(name, True, check())
    except (KitError, ImportError, OSError) as error:
        return DoctorFinding(name, False, str(error))
    except Exception as error:
        return DoctorFinding(name, False, f"{type(error).__name__}: {error}")


@MACHINE_CHECKS.register("Python")
def check_python() -> str:
    """Check that the package supports the running Python."""
    version = sys.version.split()[0]
    supported = metadata.metadata(_DISTRIBUTION_NAME)["Requires-Python"] or ""
    if not SpecifierSet(supported).contains(version, prereleases=True):
        raise KitError(
            f"Python {version} is not supported", supported, "create an environment with it"
        )
    return version


@MACHINE_CHECKS.register("packages")
def check_packages() -> str:
    """Check that the installed packages meet the requirements of mlops-kit."""
    requirements = _list_requirements()
    mismatches = [_describe_mismatch(requirement) for requirement in requirements]
    problems = list(filter(None, mismatches))
    if problems:
        raise KitError(
            "; ".join(problems),
            "the versions that mlops-kit requires",
            "install requirements.lock again, or pip install --upgrade mlops-kit",
        )
    return f"{len(requirements)} required packages, all at supported versions"


def _list_requirements(extra: str = "") -> list[Requirement]:
    """Return the requirements of the base, or those that an extra adds to them."""
    requirements = [Requirement(line) for line in metadata.requires(_DISTRIBUTION_NAME) or []]
    base_requirements = []
    extra_requirements = []
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            base_requirements.append(requirement)
        elif requirement.marker.evaluate({"extra": extra}):
            extra_requirements.append(requirement)
    return extra_requirements if extra else base_requirements


def _describe_mismatch(requirement: Requirement) -> str:
    """Return how an installed package differs from a requirement; empty if it does not."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        required = requirement.specifier or "any version"
        return f"{requirement.name} is missing (requires {required})"
    if requirement.specifier.contains(version, prereleases=True):
        return ""
    return f"{requirement.name} is {version} (requires {requirement.specifier})"


@MACHINE_CHECKS.register("extras")
def check_extras() -> str:
    """List the extras and whether they are installed; a part at another version is a problem."""
    lines = []
    problems: list[str] = []
    installed_count = 0
    for name, extra in EXTRAS.items():
        requirements = _list_requirements(name)
        if not all(_is_installed(requirement) for requirement in requirements):
            lines.append(f"{name}: {format_install_command(name)} ({extra.purpose})")
            continue
        installed_count += 1
        lines.append(f"{name}: installed ({extra.purpose})")
        problems += filter(None, map(_describe_mismatch, requirements))
    if problems:
        raise KitError(
            "; ".join(problems),
            "the versions that the extras require",
            "install requirements.lock again, or pip install --upgrade mlops-kit",
        )
    return "\n  ".join([f"{installed_count} of {len(EXTRAS)} installed", *lines])


def _is_installed(requirement: Requirement) -> bool:
    """Return whether a required distribution is installed, at any version."""
    try:
        metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False
    return True


@MACHINE_CHECKS.register("kernel")
def check_kernel() -> str:
    """Check which kernel runs the notebooks; an installation that only serves needs none."""
    try:
        version = metadata.version("ipykernel")
    except metadata.PackageNotFoundError:
        return f"none; running notebooks needs it: {format_install_command('train')}"
    return f"ipykernel {version} in {sys.prefix}"


@MACHINE_CHECKS.register("fork server")
def check_fork_server() -> str:
    """Describe the resident servers, which keep imported libraries in memory between runs."""
    from mlops_kit.pipeline import process_memory
    from mlops_kit.pipeline.resident import client

    descriptions = []
    for server in client.list_servers():
        memory = process_memory.format_memory(process_memory.measure_own_memory(server.pid))
        minutes = server.idle_seconds / 60
        descriptions.append(
            f"process {server.pid} keeps {memory} of libraries in memory; it ends after "
            f"{minutes:g} minutes without work (run.idle)"
        )
    return "; ".join(descriptions) or "none is running; the first run starts one"


@PROJECT_CHECKS.register(base.CONFIG_FILE_NAME)
def check_settings(project: Project) -> str:
    """Summarize the settings, which were read before."""
    return f"{project.config.name}, {len(project.config.stages)} stages"


@PROJECT_CHECKS.register(_PLUGINS_CHECK)
def check_plugins(_project: Project) -> str:
    """Import every plugin, and list what each registers."""
    for plugin in plugins.list_plugins():
        plugins.import_plugin(plugin.module)  # which corrects what was known of it
    descriptions = []
    for plugin in plugins.list_plugins():
        registered = [f"{extension.kind} {extension.name!r}" for extension in plugin.extensions]
        descriptions.append(f"{plugin.module} ({', '.join(registered) or 'registers nothing'})")
    return "; ".join(descriptions) or "none"


@PROJECT_CHECKS.register("notebooks")
def check_notebooks(project: Project) -> str:
    """Check that each stage has a notebook, whose ``parameters`` cell is valid if it has one."""
    from mlops_kit.pipeline import notebook_kernels, parameter_cell
    from mlops_kit.pipeline.scaffold import notebooks

    parameter_count = 0
    problems = []
    notes = []
    for stage in project.config.stages:
        try:
            parameters = parameter_cell.read_parameters(project.get_notebook_path(stage))
            notes += notebook_kernels.check_notebook_kernels(project, [stage])
        except KitError as error:
            problems.append(str(error))
        else:
            parameter_count += len(parameters)
    if problems:
        raise KitError("\n  ".join(problems))
    sentence = f"{parameter_count} parameters in {len(project.config.stages)} notebooks"
    replaced = notebooks.list_replaced_notebooks(project)
    if replaced:
        sentence = f"{sentence}; the project's own: {', '.join(replaced)}"
    return "\n  ".join([sentence, *notes])


@PROJECT_CHECKS.register("source")
def check_source(project: Project) -> str:
    """Check that the source can be read and has the configured columns."""
    from mlops_kit.data import source

    if not project.config.source:
        return "none: the notebooks of this chain read what they need"
    source.check_configured_columns(project)
    return f"{len(source.list_source_columns(project))} columns"


@PROJECT_CHECKS.register("retraining")
def check_retraining_policy(project: Project) -> str:
    """Check that each reason to retrain that the settings name can apply."""
    policy = project.config.retrain
    inactive_reasons = policy.describe_inactive_reasons()
    if inactive_reasons:
        raise KitError(
            inactive_reasons, "a limit for each reason", "state it, or remove the reason"
        )
    if policy.when.reason_names:
        return f"if {policy.when.min_reasons} of: {', '.join(policy.when.reason_names)}"
    reasons = policy.list_active_reasons()
    if not reasons:
        return "no reason of mlops-kit is switched on: only those of plugins, or a person's request"
    return f"if any of: {', '.join(reasons)}"


@PROJECT_CHECKS.register("store")
def check_tracking_store(project: Project) -> str:
    """Check that MLflow's store answers; one that does not exist yet is not created."""
    from mlops_kit.registry import store

    location = project.config.tracking
    file = store.find_store_file(project)
    if file is not None and not file.exists():
        writable.require_writable(file.parent, project)
        return f"none yet at {location}; the first run creates it"
    try:
        with store.connect_mlflow(project) as client:
            experiment_count = len(client.search_experiments())
    except Exception as error:  # anything that MLflow, SQLAlchemy or a server raises
        reason = str(error).splitlines()[0]
        raise KitError(
            f"{location} does not answer: {reason}",
            "an MLflow store or server",
            "start the server, correct 'tracking' in mlops.yaml, or move the file away",
        ) from error
    return f"{experiment_count} experiments in {location}"


@PROJECT_CHECKS.register("database")
def check_database(project: Project) -> str:
    """Check that the database can be read; it is neither created nor migrated."""
    from mlops_kit.db import engine

    if not engine.database_exists(project):
        return f"none yet at {project.config.database}; the first command that writes creates it"
    status = engine.read_schema_status(project)
    sentences = [f"schema revision {status.revision}"]
    if not status.is_current:
        sentences = [
            f"schema revision {status.revision or 'not recorded'}",
            f"the next command that opens it brings it to {status.head}",
        ]
    if status.backups:
        sentences.append(f"newest backup: {status.backups[-1]}")
    return "; ".join(sentences)


@PROJECT_CHECKS.register("people")
def check_people(project: Project) -> str:
    """Check that those who decide can be told apart."""
    people = project.config.people
    weakness = identity.describe_identity_weakness(people)
    if weakness and not project.config.dashboard.identity_provider:
        raise KitError(weakness)
    if people.tokens:
        return f"identified by tokens: {', '.join(people.tokens)}"
    return f"identified by the user id; this one is {get_user_name()!r}"


@PROJECT_CHECKS.register("disk")
def check_disk_space(project: Project) -> str:
    """Check that runs can be written and that there is enough disk space."""
    writable.check_writable_folders(project)
    free_gib = shutil.disk_usage(project.root).free / _BYTES_PER_GIB
    if free_gib < MIN_FREE_DISK_GIB:
        raise KitError(
            f"{free_gib:.1f} GiB free",
            f"at least {MIN_FREE_DISK_GIB} GiB",
            f"remove old runs in {project.config.reports}/ with mlops clean",
        )
    return f"{free_gib:.0f} GiB free"
