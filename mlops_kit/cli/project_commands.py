"""Commands for a project: JupyterLab, settings, environment checks, schedules."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_kit.cli import output
from mlops_kit.cli.options import ProjectOption
from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.extras import require_extra

if TYPE_CHECKING:
    from mlops_kit.project.loader import Project

# JupyterLab requests news, updates and extensions from other hosts by default.
_JUPYTERLAB_OPTIONS = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--ServerApp.kernel_manager_class=mlops_kit.cli.lab_kernels.LabKernelManager",
)


def lab_command(
    project: ProjectOption = "",
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION ...]", help="Options of JupyterLab"),
    ] = None,
) -> None:
    """Start JupyterLab in the project.

    It opens the project's folder notebooks/, or the project if there is none. It sends no requests
    to other hosts. The fork server is started as well, so that the first run finds the libraries
    in memory.
    """
    from mlops_kit.pipeline import kernel_pool
    from mlops_kit.project import loader

    require_extra("lab")
    loaded = loader.load_project(project or None)
    kernel_pool.start_resident_server(loaded)
    os.environ["MLOPS_PROJECT"] = str(loaded.root)
    own_folder = loaded.own_notebooks_folder
    os.chdir(own_folder if own_folder.is_dir() else loaded.root)
    _print_packaged_notebooks(loaded)
    command = [sys.executable, "-m", "jupyterlab", *_JUPYTERLAB_OPTIONS, *(options or [])]
    # This process becomes JupyterLab, so that signals reach it.
    os.execv(sys.executable, command)  # noqa: S606 - a fixed program without a shell


def _print_packaged_notebooks(project: Project) -> None:
    """Print which notebooks JupyterLab does not show since they come from mlops-kit."""
    from mlops_kit.pipeline.scaffold import notebooks

    packaged = [
        status.name
        for status in notebooks.list_notebooks(project)
        if status.owner == notebooks.NotebookOwner.PACKAGE
    ]
    if not packaged:
        return
    output.print_text(
        f"These notebooks come from mlops-kit: {', '.join(packaged)}.\n"
        f"To read them: {project.package_notebooks_folder}\n"
        "To edit one, copy it into the project: mlops notebook edit STAGE"
    )


def config_command(
    project: ProjectOption = "",
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema of mlops.yaml; needs no project"),
    ] = False,
) -> None:
    """Show every setting with its value and its origin.

    With --schema, print the JSON Schema with which an editor completes and checks mlops.yaml.
    """
    if schema:
        from mlops_kit.project import config_schema

        output.print_json(config_schema.build_config_schema(), indent=2)
        return
    from mlops_kit.project import explain, loader

    settings = explain.explain_settings(loader.load_project(project or None))
    for name, value, origin, description in settings:
        output.print_text(f"{name} = {value!r}  [{origin}]\n    {description}")


def doctor_command(project: ProjectOption = "") -> None:
    """Check the environment and the project.

    Checked are Python, packages, extras, kernel, settings, plugins, notebooks, source, tracking
    store, database, people and disk.
    """
    from mlops_kit.cli import doctor

    findings = []
    for finding in doctor.run_doctor_checks(project or None):
        output.print_finding(finding)
        findings.append(finding)
    problem_count = sum(not finding.passed for finding in findings)
    if problem_count:
        raise RunFailedError(
            f"{problem_count} of {len(findings)} checks found a problem",
            hint="see the lines marked ▲",
        )


def export_command(
    target: Annotated[str, typer.Argument(metavar="github|cron|kubernetes", help="The scheduler")],
    project: ProjectOption = "",
    every: Annotated[
        str,
        typer.Option(help="Schedule as a cron expression; default: 15 2 * * *, every night"),
    ] = "",
    image: Annotated[str, typer.Option(help="Container image for Kubernetes")] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that differs")] = False,
) -> None:
    """Write a schedule for GitHub, cron or Kubernetes."""
    from mlops_kit.pipeline import export
    from mlops_kit.project import loader

    loaded = loader.load_project(project or None)
    path = export.export_schedule(loaded, target, every, image, force)
    output.print_text(f"Schedule written to {path}; its first lines say what it requires.")
