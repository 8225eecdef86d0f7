"""Model commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_kit.cli.application import app
from mlops_kit.cli.options import ProjectOption, ReasonOption, RunArgument
from mlops_kit.cli.output import report_run_outcome
from mlops_kit.core.errors import KitError

if TYPE_CHECKING:
    from mlops_kit.client import ProjectClient


@app.command("predict")
def predict_command(
    file: str,
    project: ProjectOption = "",
    out: Annotated[str, typer.Option(help="CSV or Parquet to write; default: print CSV")] = "",
) -> None:
    """Score a file of rows by the champion, without a server."""
    from mlops_kit.core import files
    from mlops_kit.data import readers
    from mlops_kit.project import loader
    from mlops_kit.registry.scoring import predict_with_champion

    if out and not out.endswith((".csv", ".parquet")):
        raise KitError(
            f"--out {out!r} has an ending that is not known",
            "a file ending in .csv or .parquet",
            "name another file",
        )
    opened = loader.load_project(project or None)
    scored = predict_with_champion(opened, readers.read_table(file))
    if not out:
        print(scored.to_csv(index=False), end="")
        return
    write = scored.to_parquet if out.endswith(".parquet") else scored.to_csv
    files.write_atomically(Path(out), lambda p: write(p, index=False))
    print(f"{len(scored):,} rows scored into {out}")


@app.command("approve")
def approve_command(
    reason: ReasonOption, name: RunArgument = "", project: ProjectOption = ""
) -> None:
    """Approve the version of a run that waits, and go on with the run."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.db.tables import ApprovalOutcome

    opened = ProjectClient(project or None)
    _resume_run(opened, opened.record_decision(ApprovalOutcome.APPROVED, reason, name).name)


@app.command("resume")
def resume_command(name: RunArgument = "", project: ProjectOption = "") -> None:
    """Go on where a run stopped: one that failed, was interrupted or killed, or waited for a decision."""
    from mlops_kit.client import ProjectClient

    _resume_run(ProjectClient(project or None), name)


def _resume_run(opened: ProjectClient, name: str) -> None:
    """Go on with a run, and say how it ended."""
    from mlops_kit.core.progress import ProgressPrinter

    say = ProgressPrinter(sys.stdout)
    try:
        made = opened.resume(name, say)
    finally:
        say.close()
    report_run_outcome(made, opened.project.config.reports)


@app.command("reject")
def reject_command(
    reason: ReasonOption, name: RunArgument = "", project: ProjectOption = ""
) -> None:
    """Reject the version of a run: it will not serve."""
    from mlops_kit.client import ProjectClient

    print(
        f"the version of run {ProjectClient(project or None).reject(reason, name).name} is rejected; the champion goes on serving"
    )


@app.command("rollback")
def rollback_command(reason: ReasonOption, project: ProjectOption = "") -> None:
    """Let the version that served before serve again."""
    import getpass

    from mlops_kit.project import loader
    from mlops_kit.registry import versions

    done = versions.roll_back(loader.load_project(project or None), getpass.getuser(), reason)
    print(f"version {done.version} serves again")
