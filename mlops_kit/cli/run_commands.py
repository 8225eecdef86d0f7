"""Run commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlops_kit.cli.application import app
from mlops_kit.cli.options import JsonOption, ProjectOption
from mlops_kit.core.errors import KitError, RunFailedError


@app.command("logs")
def logs_command(
    stage: str,
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run; default: the latest")] = "",
    project: ProjectOption = "",
) -> None:
    """What a stage's kernel said: printed lines, warnings, the error."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.pipeline import stage_log

    print(stage_log.format_stage_log(ProjectClient(project or None).get_run_folder(name), stage))


@app.command("debug")
def debug_command(
    stage: str,
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run; default: the latest")] = "",
    project: ProjectOption = "",
) -> None:
    """A console in the state in which a stage failed: its cells are run again up to there, in a copy of its run."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.pipeline import debug_console

    opened = ProjectClient(project or None)
    debug_console.open_debug_console(opened.project, opened.get_run_folder(name), stage)


@app.command("diff")
def diff_command(
    old: Annotated[str, typer.Argument(help="A run, latest or previous")] = "previous",
    new: Annotated[str, typer.Argument(help="The run to lay beside it")] = "latest",
    project: ProjectOption = "",
    html: Annotated[
        str, typer.Option("--html", help="Write it as a page, with the figures side by side")
    ] = "",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print it as Markdown, for a pull request")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What differs between two runs, and whether it is more than noise."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.core import files
    from mlops_kit.pipeline.compare import rendering
    from mlops_kit.pipeline.compare.runs import compare_runs
    from mlops_kit.project import run_folder

    opened = ProjectClient(project or None)
    there = run_folder.list_run_folders(opened.project.reports_folder)
    if len(there) < 2:
        raise KitError(
            f"there {'is one run' if there else 'is no run'} to compare",
            f"two in {opened.project.config.reports}/",
            "mlops run",
        )
    names = {"latest": there[0].name, "previous": there[1].name}
    found = compare_runs(
        opened.project, *(opened.get_run_folder(names.get(n, n)) for n in (old, new))
    )
    if html:
        files.write_text(Path(html), rendering.render_comparison_page(found))
    if as_json or markdown or html:
        print(
            json.dumps(found.to_json_dict())
            if as_json
            else rendering.format_comparison_markdown(found)
            if markdown
            else f"{found.sentence}\n{html} shows it"
        )
    else:
        rendering.print_comparison(found)


@app.command("reproduce")
def reproduce_command(
    name: Annotated[str, typer.Argument(metavar="RUN", help="The run to make again")],
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make an old run again from its commit, its parameters and its data, and say whether all comes out the same."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.core.progress import ProgressPrinter
    from mlops_kit.pipeline import reproduce

    opened = ProjectClient(project or None)
    say = ProgressPrinter(sys.stderr if as_json else sys.stdout)
    try:
        found = reproduce.reproduce_run(opened.project, opened.get_run_folder(name), say)
    finally:
        say.close()
    print(json.dumps(found.to_json_dict()) if as_json else found.text)
    if not found.is_identical:
        raise RunFailedError(found.sentence, hint="the lines marked ▲ say what differs")


@app.command("status")
def status_command(project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """The latest run, stage by stage."""
    from mlops_kit.project import loader, run_folder, run_manifest

    opened = loader.load_project(project or None)
    found = run_folder.list_run_folders(opened.reports_folder)
    if not found:
        raise KitError("there is no run yet", f"one in {opened.config.reports}/", "mlops run")
    made = run_manifest.read_manifest(found[0])
    if as_json:
        print(json.dumps(made.to_json_dict()))
        return
    marked = f" (sample of {made.sample:,} rows)" if made.sample else ""
    print(
        f"run {made.run} of {made.project}{marked}: {made.status}, started {made.started[:16]} UTC"
    )
    width = max(map(len, made.stages))
    for name, entry in made.stages.items():
        print(f"  {name:<{width}}  {entry.status_text:<13} {entry.summary}")


@app.command("runs")
def runs_command(
    project: ProjectOption = "",
    last: Annotated[int, typer.Option(help="How many", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """The last runs, a line each: verdict, headline metric, time, note, and which one serves."""
    from mlops_kit.pipeline import run_summary
    from mlops_kit.project import loader

    opened = loader.load_project(project or None)
    found = run_summary.summarize_runs(opened, last)
    print(
        json.dumps([summary.to_json_dict() for summary in found])
        if as_json
        else run_summary.format_run_summaries(found)
        if found
        else f"{opened.config.name}: no run yet"
    )


@app.command("clean")
def clean_command(
    project: ProjectOption = "",
    runs: Annotated[
        int | None,
        typer.Option(help="Fewest newest runs to keep; default: keep.runs of mlops.yaml", min=1),
    ] = None,
    age: Annotated[
        str, typer.Option(help="Older runs go, such as 30d; default: keep.age of mlops.yaml")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would go, and what that would free")
    ] = False,
) -> None:
    """Remove old runs, what killed ones left, old caches; never what serves, waits or runs."""
    from mlops_kit.pipeline import cleanup
    from mlops_kit.project import loader

    opened = loader.load_project(project or None)
    asked = {k: v for k, v in {"runs": runs, "age": age or None}.items() if v is not None}
    opened = opened.with_values(
        "the command line", keep={**opened.config.retention.model_dump(exclude_unset=True), **asked}
    )
    print(cleanup.format_cleanup(opened, cleanup.clean_project(opened, dry_run), dry_run))
