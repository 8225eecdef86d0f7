"""Project commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mlops_kit.cli.application import app
from mlops_kit.cli.options import ProjectOption
from mlops_kit.core.errors import RunFailedError


@app.command("export")
def export_command(
    target: Annotated[str, typer.Argument(metavar="github|cron|kubernetes", help="Whose clock")],
    project: ProjectOption = "",
    every: Annotated[
        str, typer.Option(help="When, as a cron expression; default: 15 2 * * *, each night")
    ] = "",
    image: Annotated[str, typer.Option(help="The image that Kubernetes runs")] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that differs")] = False,
) -> None:
    """Write a schedule of these commands for GitHub, cron or Kubernetes."""
    from mlops_kit.pipeline import export
    from mlops_kit.project import loader

    print(
        f"{export.export_schedule(loader.load_project(project or None), target, every, image, force)} is written; its first lines say what it needs"
    )


@app.command("config")
def config_command(project: ProjectOption = "") -> None:
    """Every setting: its value, where it came from, what it means."""
    from mlops_kit.project import explain, loader

    for name, value, origin, meaning in explain.explain_settings(
        loader.load_project(project or None)
    ):
        print(f"{name} = {value!r}  [{origin}]\n    {meaning}")


@app.command("lab")
def lab_command(
    project: ProjectOption = "",
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- OPTION ...]", help="Options of JupyterLab's own"),
    ] = None,
) -> None:
    """JupyterLab on the project; it asks no other host for news, updates or extensions."""
    from mlops_kit.project import loader

    opened = loader.load_project(project or None)
    os.environ["MLOPS_PROJECT"] = str(opened.root)
    os.chdir(opened.notebooks_folder)
    os.execv(
        sys.executable, [sys.executable, "-m", "jupyterlab", *_JUPYTERLAB_OPTIONS, *(given or [])]
    )


_JUPYTERLAB_OPTIONS = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)


@app.command("doctor")
def doctor_command(project: ProjectOption = "") -> None:
    """Python, packages, kernel, notebooks, source, store, disk: each with a cure."""
    from mlops_kit.cli import doctor

    findings = []
    for finding in doctor.run_doctor_checks(project or None):
        findings.append(finding)
        print(
            f"{'●' if finding.passed else '▲'} {finding.check_name}: {finding.sentence}", flush=True
        )
    bad = sum(not f.passed for f in findings)
    if bad:
        raise RunFailedError(
            f"{bad} of {len(findings)} things need mending", hint="see the lines marked ▲"
        )
