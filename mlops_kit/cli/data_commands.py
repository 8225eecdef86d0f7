"""Commands for data: what was read from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops_kit.cli import output
from mlops_kit.cli.options import JsonOption, ProjectOption
from mlops_kit.core.formatting import align_columns, format_percent

if TYPE_CHECKING:
    from mlops_kit.data.reading.records import ReadReport

_ALIGNED_COLUMNS = (
    "column",
    "type",
    "format",
    "missing",
    "missing words",
    "suspected sentinels",
    "examples",
)
data_app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Show how data is read.")


@data_app.callback()
def _group_commands() -> None:
    """Show how data is read."""


@data_app.command("show")
def show_command(
    source: Annotated[
        str, typer.Option("--source", help="File to read; default: the source of the project")
    ] = "",
    project: ProjectOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show each column of a source as it is read: type, format, missing words, conversions."""
    from mlops_kit.data import readers
    from mlops_kit.data.source import read_source_table
    from mlops_kit.project import loader

    if source:
        report = readers.read_table(source).report
    else:
        loaded = loader.load_project(project or None)
        report = read_source_table(loaded, must_be_usable=False).report
    if as_json:
        output.print_json(report.model_dump(mode="json"), indent=2)
        return
    _print_report(report)


def _print_report(report: ReadReport) -> None:
    """Print the columns of a report, then what is to be said about them and about lines."""
    from mlops_kit.data.reading.summary import summarize_reading

    table = summarize_reading(report)
    output.print_text(table.sentence)
    for note in table.notes:
        output.print_text(note)
    rows = [tuple(_ALIGNED_COLUMNS)]
    for row in table.data[list(_ALIGNED_COLUMNS)].to_dict("records"):
        row["missing"] = format_percent(row["missing"])
        rows.append(tuple(str(row[column]) for column in _ALIGNED_COLUMNS))
    output.print_text(align_columns(rows))
    for column, remarks in zip(table.data["column"], table.data["remarks"], strict=True):
        if remarks:
            output.print_text(f"{column}: {remarks}")
    for line in report.rejected:
        output.print_text(f"{line.file}, line {line.line}: {line.reason}: {line.text}")
