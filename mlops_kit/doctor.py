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

from mlops_kit import config as configs
from mlops_kit.config import Project
from mlops_kit.errors import KitError
from mlops_kit.registry import Registry

MACHINE: Registry[Callable[[], str]] = Registry("check of the machine")
PROJECT: Registry[Callable[[Project], str]] = Registry("check of the project")
DISTRIBUTION = "mlops-kit"
LEAST_FREE = 2  # GiB; a run on a year of flights leaves 20 MB, its temporary files and the store take the rest


class Finding(NamedTuple):
    """What a check saw, or what is wrong and what to do."""

    check: str
    well: bool
    sentence: str


def examine(start: str | None = None) -> Iterator[Finding]:
    """All checks, one after the other; those of the project only where ``mlops.yaml`` can be read."""
    for name, check in MACHINE.items():
        yield found(name, check)
    try:
        project = configs.load(start)
    except KitError as error:
        yield Finding(configs.FILE, False, str(error))
        return
    for name, of_project in PROJECT.items():
        yield found(name, lambda check=of_project: check(project))  # type: ignore[misc]


def found(name: str, check: Callable[[], str]) -> Finding:
    """The finding of one check."""
    try:
        return Finding(name, True, check())
    except (KitError, ImportError, OSError) as error:
        return Finding(name, False, str(error))


@MACHINE.register("Python")
def python() -> str:
    """The running Python is one that the package allows."""
    mine, wanted = sys.version.split()[0], metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    if not SpecifierSet(wanted).contains(mine, prereleases=True):
        raise KitError(f"Python is {mine}", wanted, "make a new environment with it")
    return mine


@MACHINE.register("packages")
def packages() -> str:
    """What is installed fits what the package says that it needs."""
    needed = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or []]
    needed = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    unfit = [problem for r in needed if (problem := misfit(r))]
    if unfit:
        raise KitError(
            "; ".join(unfit),
            "what mlops-kit was made for",
            "install requirements.lock again, or pip install --upgrade mlops-kit",
        )
    return f"{len(needed)} that mlops-kit needs, at versions that fit"


def misfit(requirement: Requirement) -> str:
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


@MACHINE.register("kernel")
def kernel() -> str:
    """The notebooks' kernel is installed beside this Python."""
    try:
        return f"ipykernel {metadata.version('ipykernel')} of {sys.prefix}"
    except metadata.PackageNotFoundError:
        raise KitError(
            f"{sys.prefix} has no ipykernel",
            "the kernel that runs the notebooks",
            "pip install ipykernel",
        ) from None


@PROJECT.register(configs.FILE)
def settings(project: Project) -> str:
    """The config could be read."""
    return f"{project.config.name}, {len(project.config.stages)} stages"


@PROJECT.register("notebooks")
def notebooks(project: Project) -> str:
    """Each stage has a notebook with a ``parameters`` cell that can be read; all faults at once."""
    from mlops_kit.pipeline import params

    count, faults = 0, []
    for stage in project.config.stages:
        try:
            count += len(params.read(project.notebook(stage)))
        except KitError as error:
            faults.append(str(error))
    if faults:
        raise KitError("\n  ".join(faults))
    return f"{count} parameters in {len(project.config.stages)} notebooks"


@PROJECT.register("source")
def source(project: Project) -> str:
    """The source can be read and has the columns that ``mlops.yaml`` names."""
    from mlops_kit import sources

    sources.check_columns(project)
    return f"{len(sources.columns(project))} columns"


@PROJECT.register("store")
def store(project: Project) -> str:
    """MLflow's store answers; one that is not there yet is not made for the asking."""
    from mlops_kit import tracking

    where, file = project.config.tracking, tracking.store_file(project)
    if file is not None and not file.exists():
        writable(file.parent, project)
        return f"none yet at {where}; the first run makes it"
    try:
        with tracking.connected(project) as client:
            return f"{len(client.search_experiments())} experiments in {where}"
    except Exception as error:  # whatever MLflow, SQLAlchemy or a server raises
        raise KitError(
            f"{where} does not answer: {str(error).splitlines()[0]}",
            "an MLflow store or server",
            "start the server, mend 'tracking' in mlops.yaml, or move the file away",
        ) from error


@PROJECT.register("disk")
def disk(project: Project) -> str:
    """There is room for runs, and they may be written."""
    writable(project.reports, project)
    free = shutil.disk_usage(project.root).free / 2**30
    if free < LEAST_FREE:
        raise KitError(
            f"{free:.1f} GiB free",
            f"{LEAST_FREE} GiB",
            f"remove old runs under {project.config.reports}/",
        )
    return f"{free:.0f} GiB free"


def writable(folder: Path, project: Project) -> None:
    """Refuse a folder that could not be made or written, without making it."""
    place = next(p for p in (project.path(folder), *project.path(folder).parents) if p.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise KitError(
            f"{str(place)!r} cannot be written",
            "a folder of yours",
            f"chmod u+w {place}, or another place in {configs.FILE}",
        )
