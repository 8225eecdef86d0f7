"""Commands for runs that exist: status, logs, comparison, resuming, cleanup."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_kit.cli import output
from mlops_kit.cli.options import JsonOption, ProjectOption, RunArgument
from mlops_kit.core.errors import KitError, RunFailedError

if TYPE_CHECKING:
    from mlops_kit.client import ProjectClient

_MIN_COMPARED_RUNS = 2


def status_command(project: ProjectOption = "", as_json: JsonOption = False) -> None:
    """Show the latest run, stage by stage, and when the watch was last seen."""
    from mlops_kit.pipeline import failed_checks, run_decision
    from mlops_kit.project import loader, run_folder, run_manifest
    from mlops_kit.watch.liveness import read_watch_liveness

    loaded = loader.load_project(project or None)
    folders = run_folder.list_run_folders(loaded.reports_folder)
    liveness = read_watch_liveness(loaded)
    if not folders and liveness is None:
        raise KitError("there is no run yet", f"one in {loaded.config.reports}/", "mlops run")
    manifest = run_manifest.read_manifest(folders[0]) if folders else None
    if as_json:
        values = manifest.to_json_dict() if manifest else {}
        output.print_json({**values, "watch": liveness.to_json_dict() if liveness else None})
        return
    if manifest is None:  # a run of another machine, or one that was removed
        output.print_text("There is no run in this folder.")
    else:
        verdicts_by_stage = failed_checks.read_verdicts_by_stage(folders[0], manifest)
        counts = failed_checks.describe_check_counts(verdicts_by_stage)
        decision = run_decision.find_run_decision(loaded, folders[0], manifest)
        output.print_run_status(manifest, counts, decision)
    if liveness is not None:
        output.print_text(f"watch: {liveness.describe()}")


def runs_command(
    project: ProjectOption = "",
    last: Annotated[int, typer.Option(help="Number of runs", min=1)] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the latest runs.

    Shown are verdict, headline metric, duration, stages, version and note.
    """
    from mlops_kit.pipeline import run_summary
    from mlops_kit.project import loader

    loaded = loader.load_project(project or None)
    summaries = run_summary.summarize_runs(loaded, last)
    if as_json:
        output.print_json([summary.to_json_dict() for summary in summaries])
    elif summaries:
        output.print_text(run_summary.format_run_summaries(summaries))
    else:
        output.print_text(f"{loaded.config.name}: no run yet")


def logs_command(
    stage: Annotated[
        str,
        typer.Argument(metavar="STAGE", help="The stage; default: the first that did not succeed"),
    ] = "",
    run: RunArgument = "",
    project: ProjectOption = "",
) -> None:
    """Show what the notebook of a stage printed."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.pipeline import stage_log

    folder = ProjectClient(project or None).get_run_folder(run)
    logged_stage = stage or stage_log.find_unsuccessful_stage(folder)
    output.print_text(stage_log.format_stage_log(folder, logged_stage))


def debug_command(
    stage: Annotated[str, typer.Argument(help="The stage that failed")],
    run: RunArgument = "",
    project: ProjectOption = "",
) -> None:
    """Open a console at the point where a stage failed.

    The cells up to there are executed again, in a copy of the run.
    """
    from mlops_kit.client import ProjectClient
    from mlops_kit.pipeline import debug_console

    client = ProjectClient(project or None)
    debug_console.open_debug_console(client.project, client.get_run_folder(run), stage)


def diff_command(
    old: Annotated[
        str, typer.Argument(help="The earlier run: its name, latest or previous")
    ] = "previous",
    new: Annotated[str, typer.Argument(help="The run to compare with it")] = "latest",
    project: ProjectOption = "",
    html: Annotated[
        str, typer.Option("--html", help="HTML file to write, with the charts side by side")
    ] = "",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a pull request")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs.

    Differences that are more than noise are marked.
    """
    from mlops_kit.client import ProjectClient
    from mlops_kit.core import files
    from mlops_kit.pipeline.compare import rendering
    from mlops_kit.pipeline.compare.runs import compare_runs

    client = ProjectClient(project or None)
    old_folder, new_folder = _find_compared_runs(client, old, new)
    comparison = compare_runs(client.project, old_folder, new_folder)
    if html:
        files.write_text(Path(html), rendering.render_comparison_page(comparison))
    if as_json:
        output.print_json(comparison.to_json_dict())
    elif markdown:
        output.print_text(rendering.format_comparison_markdown(comparison))
    elif html:
        output.print_text(f"{comparison.sentence}\nReport: {html}")
    else:
        rendering.print_comparison(comparison)


def _find_compared_runs(client: ProjectClient, old: str, new: str) -> list[Path]:
    """Return the folders of two runs; ``latest`` and ``previous`` stand for the newest ones.

    Raises
    ------
    KitError
        If there are fewer than two runs, or a run does not exist.
    """
    from mlops_kit.project import run_folder

    folders = run_folder.list_run_folders(client.project.reports_folder)
    if len(folders) < _MIN_COMPARED_RUNS:
        count = "is only one run" if folders else "is no run"
        raise KitError(
            f"there {count} to compare",
            f"two runs in {client.project.config.reports}/",
            "mlops run",
        )
    aliases = {"latest": folders[0].name, "previous": folders[1].name}
    return [client.get_run_folder(aliases.get(name, name)) for name in (old, new)]


def reproduce_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run to reproduce")],
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Repeat a run and compare the results.

    The run is repeated with its own commit, parameters and data.
    """
    from mlops_kit.client import ProjectClient
    from mlops_kit.pipeline import reproduce

    client = ProjectClient(project or None)
    with output.open_progress(as_json) as progress:
        reproduction = reproduce.reproduce_run(client.project, client.get_run_folder(run), progress)
    if as_json:
        output.print_json(reproduction.to_json_dict())
    else:
        output.print_text(reproduction.text)
    if not reproduction.is_identical:
        raise RunFailedError(
            reproduction.sentence, hint="the lines marked ▲ show what is different"
        )


def resume_command(run: RunArgument = "", project: ProjectOption = "") -> None:
    """Continue a run that stopped.

    It may have failed, been interrupted or killed, or waited for approval.
    """
    from mlops_kit.client import ProjectClient

    resume_and_report(ProjectClient(project or None), run)


def resume_and_report(client: ProjectClient, run: str) -> None:
    """Continue a run and print how it ended."""
    with output.open_progress() as progress:
        manifest = client.resume(run, progress)
    output.report_run_outcome(client.project, manifest)


def clean_command(
    project: ProjectOption = "",
    runs: Annotated[
        int | None,
        typer.Option(
            help="Number of newest runs to keep; default: retention.min_runs in mlops.yaml", min=1
        ),
    ] = None,
    age: Annotated[
        str,
        typer.Option(
            help="Age of removed runs, such as 30d; default: retention.max_age in mlops.yaml"
        ),
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show what would be removed, and the space it takes"),
    ] = False,
) -> None:
    """Remove old runs, leftovers of killed runs and old caches.

    Runs in service, waiting for approval or still running are kept.
    """
    from mlops_kit.pipeline import cleanup
    from mlops_kit.project import loader

    loaded = loader.load_project(project or None)
    retention = loaded.config.retention.model_dump(exclude_unset=True)
    if runs is not None:
        retention["min_runs"] = runs
    if age:
        retention["max_age"] = age
    loaded = loaded.with_values("the command line", retention=retention)
    items = cleanup.clean_project(loaded, dry_run)
    output.print_text(cleanup.format_cleanup(loaded, items, dry_run))
