"""What the evidence scripts share that make tables, run the chain, and replay the watch."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from stored_outcomes import OutcomeStore

SECONDS_PER_DAY = 86_400


class ProgressLog:
    """The lines of progress, without those that the next one replaces on a terminal.

    Attributes
    ----------
    lines : list of str
        The lines so far.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, text: str, transient: bool = False) -> None:
        """Add a line."""
        if not transient:
            self.lines.append(text)

    def list_unusual_lines(self) -> list[str]:
        """List the lines that do not only say that a window was monitored."""
        return [line for line in self.lines if "monitored" not in line]


def ignore_progress(text: str, transient: bool = False) -> None:
    """Report nothing."""


def draw_times(rng: Any, first_row: datetime, days: int, count: int) -> Any:
    """Draw the times of rows within some days, in order, to the second."""
    import numpy as np
    import pandas as pd

    seconds = np.sort(rng.uniform(0, days * SECONDS_PER_DAY, count)).astype(int)
    return pd.Timestamp(first_row) + pd.to_timedelta(seconds, unit="s")


def draw_concept_rows(rng: Any, coefficients: Any) -> Any:
    """Draw rows with a binary target on which ``a`` has one coefficient per row."""
    import numpy as np
    import pandas as pd

    count = len(coefficients)
    rows = pd.DataFrame(rng.normal(size=(count, 4)), columns=["a", "b", "c", "d"])
    rows["e"] = rng.choice(["x", "y", "z"], count)
    logit = coefficients * rows["a"] + 0.5 * rows["b"] - 0.4 * rows["c"]
    logit += np.where(rows["e"] == "x", 0.4, -0.2)
    rows["y"] = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(int)
    return rows


def insert_keys_and_times(rows: Any, times: Any) -> None:
    """Insert the key ``k`` and the time ``at_time`` as the first columns."""
    rows.insert(0, "k", range(len(rows)))
    rows.insert(1, "at_time", times.tz_localize(None))


def make_recipe(family: str, params: dict[str, Any], features: list[str], **facts: Any) -> Any:
    """Make a recipe that no search has found.

    Parameters
    ----------
    **facts
        Fields of the recipe that are not those of an empty search.
    """
    from mlops_kit.registry.recipe import Recipe

    fields = {
        "threshold": None,
        "metric": "",
        "less_is_better": True,
        "score": 0.0,
        "rows": 0,
        "folds": 0,
        "trials": 0,
        "seconds": 0.0,
        "stopped_by_clock": False,
        "baselines": {},
        **facts,
    }
    return Recipe(family=family, params=params, features=features, **fields)


def run_chain(project: Any, report: Callable[..., None]) -> str:
    """Run all stages up to the deployment; return what went wrong, or an empty text."""
    from mlops_kit.pipeline import runner

    stages = runner.select_stages(project, last="deploy")
    manifest = runner.run_pipeline(project, stages, {}, report, runner.RunOptions())
    status = str(manifest.status)
    return "" if status == "succeeded" else f"the first run: {status}"


def watch_project(
    folder: Path,
    first_model: datetime,
    last_pass: datetime,
    inspect: Callable[[Any, ProgressLog], dict[str, Any]],
) -> dict[str, Any]:
    """Run the chain of a project, replay the watch, and inspect the project.

    Parameters
    ----------
    first_model, last_pass : datetime
        The period that is replayed.
    inspect : callable
        Returns the outcome with its ``problems``, given the project and the lines of the replay.
    """
    from mlops_kit.project import loader
    from mlops_kit.watch import loop

    project = loader.load_project(folder)
    log = ProgressLog()
    began = time.monotonic()
    problem = run_chain(project, log)
    if problem:
        return {"passed": False, "problems": [problem], "log": log.lines}
    log.lines.clear()
    loop.replay_period(project, first_model, last_pass, log)
    outcome = inspect(project, log)
    outcome["seconds"] = time.monotonic() - began
    return outcome | {"passed": not outcome["problems"]}


def load_retrainings(project: Any) -> list[Any]:
    """Load the records of the retrainings that were run, in the order of time."""
    import sqlalchemy as sa

    from mlops_kit.db.engine import query_records
    from mlops_kit.db.tables import RetrainingRecord

    records = query_records(project, sa.select(RetrainingRecord).order_by(RetrainingRecord.as_of))
    return [record for record in records if record.status]


def list_attempts(project: Any) -> list[str]:
    """List the retrainings that were run: day and status."""
    return [f"{record.as_of[:10]} {record.status}" for record in load_retrainings(project)]


def parse_case_options(
    description: str, cases: Sequence[str], default_seeds: Sequence[int]
) -> argparse.Namespace:
    """Parse the command line of a script that runs cases with seeds."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--only", nargs="+", choices=cases, default=cases)
    parser.add_argument("--seeds", nargs="+", type=int, default=default_seeds)
    parser.add_argument("--again", action="store_true", help="forget stored outcomes")
    parser.add_argument("--verbose", action="store_true", help="print all lines of the watch")
    return parser.parse_args()


def run_cases(
    options: argparse.Namespace,
    store: OutcomeStore,
    run_case: Callable[[str, int], dict[str, Any]],
    print_outcome: Callable[[str, dict[str, Any], bool], None],
) -> int:
    """Run the cases of the command line unless their outcomes are stored, and print a summary.

    Parameters
    ----------
    options : Namespace
        As of ``parse_case_options``.
    run_case : callable
        Returns the outcome of a case with a seed.
    print_outcome : callable
        Prints an outcome, given its name, and whether all lines are wanted.

    Returns
    -------
    int
        The exit code: 0 if all cases passed, else 1.
    """
    checked = []
    for case in options.only:
        for seed in options.seeds:
            name = f"{case}, seed {seed}"
            if name not in store.outcomes:
                store.outcomes[name] = run_case(case, seed)
                store.save()
            print_outcome(name, store.outcomes[name], options.verbose)
            checked.append(store.outcomes[name])
    passed_count = sum(outcome["passed"] for outcome in checked)
    print(f"{passed_count} of {len(checked)} passed")
    return 0 if passed_count == len(checked) else 1
