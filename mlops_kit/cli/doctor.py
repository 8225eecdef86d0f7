"""What ``mlops doctor`` looks at: the machine, then the project; each fault comes with its cure.

A check is one function that returns what it saw, or raises the worded error that says what to do.
The machine is looked at even where ``mlops.yaml`` cannot be read.

To add a check: a function here, registered in ``MACHINE`` (no project needed) or ``PROJECT``.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.project import loader
from mlops_kit.project.config import base
from mlops_kit.project.loader import Project

MACHINE_CHECKS: ExtensionRegistry[Callable[[], str]] = ExtensionRegistry("check of the machine")
PROJECT_CHECKS: ExtensionRegistry[Callable[[Project], str]] = ExtensionRegistry(
    "check of the project"
)
_DISTRIBUTION_NAME = "mlops-kit"
MIN_FREE_DISK_GIB = 2  # GiB; a run on a year of flights leaves 20 MB, its temporary files and the store take the rest


class DoctorFinding(NamedTuple):
    """What a check saw, or what is wrong and what to do."""

    check_name: str
    passed: bool
    sentence: str


def run_doctor_checks(start: str | None = None) -> Iterator[DoctorFinding]:
    """All checks, one after the other; those of the project only where ``mlops.yaml`` can be read."""
    for name, check in MACHINE_CHECKS.items():
        yield _run_check(name, check)
    try:
        project = loader.load_project(start)
    except KitError as error:
        yield DoctorFinding(base.CONFIG_FILE_NAME, False, str(error))
        return
    for name, of_project in PROJECT_CHECKS.items():
        yield _run_check(name, lambda check=of_project: check(project))  # type: ignore[misc]


def _run_check(name: str, check: Callable[[], str]) -> DoctorFinding:
    """The finding of one check."""
    try:
        return DoctorFinding(name, True, check())
    except (KitError, ImportError, OSError) as error:
        return DoctorFinding(name, False, str(error))


@MACHINE_CHECKS.register("Python")
def check_python() -> str:
    """The running Python is one that the package allows."""
    mine, wanted = (
        sys.version.split()[0],
        metadata.metadata(_DISTRIBUTION_NAME)["Requires-Python"] or "",
    )
    if not SpecifierSet(wanted).contains(mine, prereleases=True):
        raise KitError(f"Python is {mine}", wanted, "make a new environment with it")
    return mine


@MACHINE_CHECKS.register("packages")
def check_packages() -> str:
    """What is installed fits what the package says that it needs."""
    needed = [Requirement(line) for line in metadata.requires(_DISTRIBUTION_NAME) or []]
    needed = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    unfit = [problem for r in needed if (problem := _describe_mismatch(r))]
    if unfit:
        raise KitError(
            "; ".join(unfit),
            "what mlops-kit was made for",
            "install requirements.lock again, or pip install --upgrade mlops-kit",
        )
    return f"{len(needed)} that mlops-kit needs, at versions that fit"


def _describe_mismatch(requirement: Requirement) -> str:
    """What is wrong with an installed package; empty where it fits."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing (needs {requirement.specifier or 'any version'})"
    return (
        ""
        if requirement.specifier.contains(version, prereleases=True)
        else f"{requirement.name} is {version} (needs {requirement.specifier})"
    )


@MACHINE_CHECKS.register("kernel")
def check_kernel() -> str:
    """The notebooks' kernel is installed beside this Python."""
    try:
        return f"ipykernel {metadata.version('ipykernel')} of {sys.prefix}"
    except metadata.PackageNotFoundError:
        raise KitError(
            f"{sys.prefix} has no ipykernel",
            "the kernel that runs the notebooks",
            "pip install ipykernel",
        ) from None


@PROJECT_CHECKS.register(base.CONFIG_FILE_NAME)
def check_settings(project: Project) -> str:
    """The config could be read."""
    return f"{project.config.name}, {len(project.config.stages)} stages"


@PROJECT_CHECKS.register("notebooks")
def check_notebooks(project: Project) -> str:
    """Each stage has a notebook with a ``parameters`` cell that can be read; all faults at once."""
    from mlops_kit.pipeline import parameter_cell

    count, faults = 0, []
    for stage in project.config.stages:
        try:
            count += len(parameter_cell.read_parameters(project.get_notebook_path(stage)))
        except KitError as error:
            faults.append(str(error))
    if faults:
        raise KitError("\n  ".join(faults))
    return f"{count} parameters in {len(project.config.stages)} notebooks"


@PROJECT_CHECKS.register("source")
def check_source(project: Project) -> str:
    """The source can be read and has the columns that ``mlops.yaml`` names."""
    from mlops_kit.data import source

    source.check_configured_columns(project)
    return f"{len(source.list_source_columns(project))} columns"


@PROJECT_CHECKS.register("store")
def check_tracking_store(project: Project) -> str:
    """MLflow's store answers; one that is not there yet is not made for the asking."""
    from mlops_kit.registry import store

    where, file = project.config.tracking, store.find_store_file(project)
    if file is not None and not file.exists():
        _require_writable(file.parent, project)
        return f"none yet at {where}; the first run makes it"
    try:
        with store.connect_mlflow(project) as client:
            return f"{len(client.search_experiments())} experiments in {where}"
    except Exception as error:  # whatever MLflow, SQLAlchemy or a server raises
        raise KitError(
            f"{where} does not answer: {str(error).splitlines()[0]}",
            "an MLflow store or server",
            "start the server, mend 'tracking' in mlops.yaml, or move the file away",
        ) from error


@PROJECT_CHECKS.register("disk")
def check_disk_space(project: Project) -> str:
    """There is room for runs, and they may be written."""
    _require_writable(project.reports_folder, project)
    free = shutil.disk_usage(project.root).free / 2**30
    if free < MIN_FREE_DISK_GIB:
        raise KitError(
            f"{free:.1f} GiB free",
            f"{MIN_FREE_DISK_GIB} GiB",
            f"remove old runs under {project.config.reports}/",
        )
    return f"{free:.0f} GiB free"


def _require_writable(folder: Path, project: Project) -> None:
    """Refuse a folder that could not be made or written, without making it."""
    place = next(
        p
        for p in (project.resolve_path(folder), *project.resolve_path(folder).parents)
        if p.exists()
    )
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise KitError(
            f"{str(place)!r} cannot be written",
            "a folder of yours",
            f"chmod u+w {place}, or another place in {base.CONFIG_FILE_NAME}",
        )
