"""Output."""

from __future__ import annotations

import json
from typing import Any


def report_run_outcome(made: dict[str, Any], reports: str, as_json: bool = False) -> None:
    """Say how a run ended, and leave with its error if it has one."""
    from mlops_kit.pipeline import runner

    print(json.dumps(made)) if as_json else print_run_summary(made, reports)
    error = runner.find_run_error(made)
    if error is not None:
        raise error


def print_run_summary(made: dict[str, Any], reports: str) -> None:
    """Print run, verdict, where to look."""
    done = made["stages"]
    marked = f" (sample of {made['sample']:,} rows)" if made["sample"] else ""
    print(
        f"\n{'Nothing to do: ' if made.get('nothing_to_do') else ''}run {made['run']}{marked}: {made['status']}"
    )
    for name in ("review", "deploy", "monitor", "retrain"):
        if done.get(name, {}).get("sentence"):
            print(f"  {name}: {done[name]['sentence']}")
    if made.get("branches"):
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
    print(f"Look at {reports}/{made['run']}/index.html")
