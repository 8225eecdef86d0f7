"""Commands for model versions: approve, reject, roll back, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlops_kit.cli import output
from mlops_kit.cli.model_project import load_model_project
from mlops_kit.cli.options import ProjectOption, ReasonOption, RunArgument
from mlops_kit.cli.run_commands import resume_and_report
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import require_extra
from mlops_kit.core.formatting import format_number

_TABLE_SUFFIXES = (".csv", ".parquet")

promotion_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Enable automatic promotion again."
)
reference_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Accept another reference performance."
)


@promotion_app.callback()
def _describe_promotion_group() -> None:
    """Enable automatic promotion again."""


@reference_app.callback()
def _describe_reference_group() -> None:
    """Accept another reference performance."""


def approve_command(
    reason: ReasonOption, run: RunArgument = "", project: ProjectOption = ""
) -> None:
    """Approve the version of a run, and continue the run."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.db.tables import ApprovalOutcome

    load_model_project(project)
    client = ProjectClient(project or None)
    require_extra("train")  # before the decision is recorded, since the run then continues
    folder = client.record_decision(ApprovalOutcome.APPROVED, reason, run)
    resume_and_report(client, folder.name)


def reject_command(
    reason: ReasonOption, run: RunArgument = "", project: ProjectOption = ""
) -> None:
    """Reject the version of a run: it is not promoted."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.db import approvals

    load_model_project(project)
    client = ProjectClient(project or None)
    folder = client.reject(reason, run)
    champion = approvals.describe_champion(client.project)
    output.print_text(f"The version of run {folder.name} is rejected; {champion}.")


def rollback_command(reason: ReasonOption, project: ProjectOption = "") -> None:
    """Make the previous version the champion again."""
    from mlops_kit.project import identity
    from mlops_kit.registry import versions

    loaded = load_model_project(project)
    person = identity.identify_person(loaded.config.people)
    promotion = versions.roll_back(loaded, person, reason)
    output.print_text(f"Version {promotion.version} is the champion again.")


@promotion_app.command("enable")
def enable_promotion_command(reason: ReasonOption, project: ProjectOption = "") -> None:
    """Enable automatic promotion again, which two rollbacks in a row have stopped."""
    from mlops_kit.client import ProjectClient

    ProjectClient(project or None).enable_automatic_promotion(reason)
    output.print_text("Versions that pass their review are promoted automatically again.")


@reference_app.command("accept")
def accept_reference_command(
    value: Annotated[float, typer.Argument(help="Value of the headline metric")],
    reason: ReasonOption,
    project: ProjectOption = "",
) -> None:
    """Accept a value as the reference performance of the champion."""
    from mlops_kit.client import ProjectClient

    accepted = ProjectClient(project or None).accept_reference(value, reason)
    output.print_text(
        f"Windows of version {accepted.version} are compared with {accepted.metric} "
        f"{format_number(accepted.value)}."
    )


def predict_command(
    file: Annotated[
        str, typer.Argument(help="Text, JSON Lines, Excel or Parquet file with the rows")
    ],
    project: ProjectOption = "",
    out: Annotated[str, typer.Option(help="CSV or Parquet file to write; default: print CSV")] = "",
) -> None:
    """Score the rows of a file with the champion; what the data contract rejects has no score."""
    from mlops_kit.core import files
    from mlops_kit.data import source
    from mlops_kit.data.reading.summary import describe_rejected_rows
    from mlops_kit.registry import scoring

    if out and not out.endswith(_TABLE_SUFFIXES):
        raise KitError(
            f"--out {out!r} has an unknown file type",
            f"a file ending in {' or '.join(_TABLE_SUFFIXES)}",
            "--out scores.parquet",
        )
    loaded = load_model_project(project)
    table = source.read_rows_to_score(loaded, file)
    prediction = scoring.predict_table(loaded, table.frame)
    scores = prediction.scores
    check = prediction.check
    if out:
        write_table = scores.to_parquet if out.endswith(".parquet") else scores.to_csv
        files.write_atomically(Path(out), lambda path: write_table(path, index=False))
        scored_count = len(scores) - check.rejected_count
        output.print_text(f"{scored_count:,} rows scored; written to {out}")
    else:
        typer.echo(scores.to_csv(index=False), nl=False)
    sentences = [check.table.sentence] if check.violations else []
    if table.report.rejected_count:
        sentences.insert(0, describe_rejected_rows(table.report))
    if check.rejected_count or table.report.rejected_count:
        raise RunFailedError(
            " ".join(sentences),
            f"rows that can be read and satisfy {loaded.config.contract.file}",
            "correct them; the column 'problems' says why a row that was read has no score",
        )
    for sentence in sentences:
        output.print_error(sentence)
