"""``mlops replay``: compare retraining policies on the project's own history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlops_kit.cli import output
from mlops_kit.cli.model_project import load_model_project
from mlops_kit.cli.options import JsonOption, ProjectOption
from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_number

if TYPE_CHECKING:
    from mlops_kit.watch.policy_replay.result import PolicyComparison

_RESULT_NAME = "replay"


def replay_command(
    start: Annotated[str, typer.Option("--from", help="Start of the period to replay")] = "",
    end: Annotated[str, typer.Option("--to", help="End of the period to replay")] = "",
    policy: Annotated[
        str,
        typer.Option(
            help="Policies to compare, separated by commas: built-in ones (static, scheduled, "
            "scheduled:14d, drift, performance, default) or YAML files with the keys of retrain; "
            "default: all built-in ones. static, default and the oracle are always compared"
        ),
    ] = "",
    jobs: Annotated[
        int | None,
        typer.Option(
            help="Number of processes; default: one per core, one for a small table", min=1
        ),
    ] = None,
    out: Annotated[
        str, typer.Option(help="HTML file to write; default: replay.html in the reports folder")
    ] = "",
    as_json: JsonOption = False,
    project: ProjectOption = "",
) -> None:
    """Compare retraining policies on the project's own history.

    Each policy sees on each day what was known then. An interrupted replay resumes.
    """
    from mlops_kit.core import files
    from mlops_kit.project import loader
    from mlops_kit.watch.policy_replay.comparison import replay_policies

    loaded = load_model_project(project)
    start_time = loaded.parse_utc_timestamp(start, "--from")
    end_time = loaded.parse_utc_timestamp(end, "--to")
    if start_time is None or end_time is None:
        raise KitError(
            "the period to replay is not stated",
            "--from and --to",
            "mlops replay --from 2013-07-01 --to 2014-01-01",
        )
    names = [name.strip() for name in policy.split(",") if name.strip()]
    with output.open_progress(as_json) as progress:
        comparison = replay_policies(loaded, start_time, end_time, names, progress, jobs)
    page = Path(out) if out else loaded.reports_folder / f"{_RESULT_NAME}.html"
    files.write_text(page, comparison.render_page())
    record = page.with_suffix(".json")
    files.write_json(record, comparison)
    if as_json:
        output.print_json(comparison.to_records() | {"file": str(record)})
        return
    _print_comparison(comparison)
    output.print_text(f"Report: {loader.shorten_path(page)}")


def _print_comparison(comparison: PolicyComparison) -> None:
    """Print the costs as a table per ratio, then the recommendation and the policy to paste."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    output.print_text(f"{comparison.title}\n")
    costs = comparison.costs
    columns = [name for name in costs.data.columns if name != "retraining cost"]
    for ratio, rows in costs.data.groupby("retraining cost", sort=False):
        rich_table = Table(
            title=Text(f"If {ratio}"),
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 0, 0, 1),
        )
        for name in columns:
            # In a narrow terminal only a heading of two words is wrapped.
            justify: Literal["left", "right"] = "left" if name == "policy" else "right"
            rich_table.add_column(name, justify=justify, no_wrap=" " not in name)
        for row in rows[columns].to_dict("records"):
            rich_table.add_row(*(Text(format_number(row[name])) for name in columns))
        console.print(rich_table)
    output.print_text(f"Cost and regret: {costs.units['cost']}. {' '.join(costs.notes)}")
    for note in comparison.notes:
        output.print_text(note)
    output.print_text(f"\n{comparison.sentence}\n\n# mlops.yaml\n{comparison.policy_yaml}")
