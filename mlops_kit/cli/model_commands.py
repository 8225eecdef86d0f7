"""Commands for model versions: approve, reject, roll back, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlops_kit.cli import output
from mlops_kit.cli.options import ProjectOption, ReasonOption, RunArgument
from mlops_kit.cli.run_commands import resume_and_report
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import require_extra

_TABLE_SUFFIXES = (".csv", ".parquet")


def approve_command(
    reason: ReasonOption, run: RunArgument = "", project: ProjectOption = ""
) -> None:
    """Approve the version of a run, and continue the run."""
    from mlops_kit.client import ProjectClient
    from mlops_kit.db.tables import ApprovalOutcome

    client = ProjectClient(project or None)
    require_extra("train")  # before the decision is recorded, since the run then continues
    folder = client.record_decision(ApprovalOutcome.APPROVED, reason, run)
    resume_and_report(client, folder.name)


def reject_command(
    reason: ReasonOption, run: RunArgument = "", project: ProjectOption = ""
) -> None:
    """Reject the version of a run: it is not promoted."""
    from mlops_kit.client import ProjectClient

    folder = ProjectClient(project or None).reject(reason, run)
    output.print_text(
        f"The version of run {folder.name} is rejected; the champion stays in service."
    )


def rollback_command(reason: ReasonOption, project: ProjectOption = "") -> None:
    """Make the previous version the champion again."""
    from mlops_kit.core.environment import get_user_name
    from mlops_kit.project import loader
    from mlops_kit.registry import versions

    promotion = versions.roll_back(loader.load_project(project or None), get_user_name(), reason)
    output.print_text(f"Version {promotion.version} is the champion again.")


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
    from mlops_kit.project import loader
    from mlops_kit.registry import scoring

    if out and not out.endswith(_TABLE_SUFFIXES):
        raise KitError(
            f"--out {out!r} has an unknown file type",
            f"a file ending in {' or '.join(_TABLE_SUFFIXES)}",
            "--out scores.parquet",
        )
    loaded = loader.load_project(project or None)
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
