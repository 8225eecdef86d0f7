"""Output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_kit.project.run_manifest import RunManifest


def report_run_outcome(made: RunManifest, reports: str, as_json: bool = False) -> None:
    """Say how a run ended, and leave with its error if it has one."""
    from mlops_kit.pipeline import runner

    print(json.dumps(made.to_json_dict())) if as_json else print_run_summary(made, reports)
    error = runner.find_run_error(made)
    if error is not None:
        raise error


def print_run_summary(made: RunManifest, reports: str) -> None:
    """Print run, verdict, where to look."""
    marked = f" (sample of {made.sample:,} rows)" if made.sample else ""
    print(
        f"\n{'Nothing to do: ' if made.is_up_to_date else ''}run {made.run}{marked}: {made.status}"
    )
    for name in ("review", "deploy", "monitor", "retrain"):
        sentence = made.get_stage(name).sentence
        if sentence:
            print(f"  {name}: {sentence}")
    if made.branches:
        from mlops_kit.core import formatting
        from mlops_kit.pipeline import report

        columns, rows = report.build_branch_table(made)
        print(
            formatting.align_columns(
                [
                    columns,
                    *(
                        [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row]
                        for row in rows
                    ),
                ]
            )
        )
    print(f"Look at {reports}/{made.run}/index.html")
