"""Poison the rows of a table that is watched, and check that no champion learns from them.

    python evidence/poisoned_windows.py                # resumes where it was interrupted
    python evidence/poisoned_windows.py --only weeks   # one case
    python evidence/poisoned_windows.py --again        # forgets stored outcomes

A table has 300 rows a day, half of them positive; labels arrive after 2 days. The chain is run once
as of the first of March, and ``mlops watch`` is replayed for 14 weeks. In the case ``weeks`` every
other week is poisoned, with another fault each time: flipped labels, labels of other rows, a column
times 100, a column that no longer changes, days that are delivered twice, 30% missing values. In
the case ``days`` one day of six weeks in a row is. After 88 days the age of the model
(``retrain.max_age``) leads to a retraining whose rows include all of it. A case passes if the
incident names each fault with its first day, no poisoned row trained or evaluated a model of that
retraining, none was promoted before, and the champion's ROC-AUC on fresh rows is at most 0.01 below
that of the first model. In the case ``inverted`` the labels are inverted for good, which must lead
to a retraining that comes within 0.03 of that.

Outcomes are stored in ``build/poisoned_windows.json`` until a tracked file changes.

Exit codes: 0 if all cases passed, 1 if one did not.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from stored_outcomes import ROOT, OutcomeStore
from watched_cases import (
    ProgressLog,
    draw_times,
    ignore_progress,
    insert_keys_and_times,
    list_attempts,
    parse_case_options,
    run_cases,
    run_chain,
)

os.environ.setdefault("OMP_NUM_THREADS", "1")

DECIDING_PATHS = (
    "mlops_kit",
    "notebooks",
    "evidence/poisoned_windows.py",
    "evidence/watched_cases.py",
)
WORK_FOLDER = ROOT / "build" / "poisoned_windows"
SEEDS = (0,)
ROWS_PER_DAY = 300
FIRST_ROW = datetime(2024, 1, 1, tzinfo=UTC)
FIRST_MODEL = datetime(2024, 3, 1, tzinfo=UTC)
FIRST_POISONED = datetime(2024, 3, 8, tzinfo=UTC)
LAST_PASS = FIRST_MODEL + timedelta(days=96)
LAST_ROW = LAST_PASS + timedelta(days=1)
WINDOW = timedelta(days=7)
DAY = timedelta(days=1)
FRESH_ROWS = 20_000
CASES = ("days", "weeks", "inverted")
MAX_AUC_BELOW_FIRST_MODEL = {"days": 0.01, "weeks": 0.01, "inverted": 0.03}
FEATURES = ["a", "b", "c", "d"]
YAML = """
name: poisoned
source: rows.csv
target: y
task: binary
id: k
time: at_time
label_delay: 2d
approval: automatic
as_of: 2024-03-01
until: 2024-03-01
train: {trials: 2, families: [linear]}
retrain: {max_age: 88d}
watch: {interval: 7d}
stages: {explore: {params: {profile_rows: 0}}}
"""


def make_rows(times: Any, seed: int) -> Any:
    """Make rows of one concept; half of the labels are positive."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(rng.normal(size=(len(times), 3)), columns=FEATURES[:3])
    rows["b"] = np.exp(rows["b"]) + 1
    rows["d"] = rng.choice(["x", "y", "z"], len(times))
    logit = 1.6 * rows["a"] + 0.5 * (rows["b"] - 2.6) - 0.4 * rows["c"]
    rows["y"] = (rng.random(len(times)) < 1 / (1 + np.exp(-logit))).astype(int)
    return rows


def make_table(seed: int) -> Any:
    """Make the table without a fault, in time order."""
    import numpy as np

    days = (LAST_ROW - FIRST_ROW).days
    count = ROWS_PER_DAY * days
    times = draw_times(np.random.default_rng(seed), FIRST_ROW, days, count)
    rows = make_rows(times, seed)
    insert_keys_and_times(rows, times)
    return rows


def flip_labels(poisoned: Any, _before: Any) -> Any:
    """Swap the two classes."""
    return poisoned.assign(y=1 - poisoned["y"])


def shift_labels(poisoned: Any, _before: Any) -> Any:
    """Give each row the label of the row before it, as a join that is off by one does."""
    import numpy as np

    return poisoned.assign(y=np.roll(poisoned["y"].to_numpy(), 1))


def change_unit(poisoned: Any, _before: Any) -> Any:
    """Multiply a column by 100."""
    return poisoned.assign(b=poisoned["b"] * 100)


def stop_feed(poisoned: Any, _before: Any) -> Any:
    """Repeat the first value of a column."""
    return poisoned.assign(a=poisoned["a"].iloc[0])


def repeat_days(poisoned: Any, before: Any) -> Any:
    """Deliver the rows of earlier days again, with new keys and times."""
    copied = before.tail(len(poisoned))
    columns = [*FEATURES, "y"]
    return poisoned.assign(**{name: copied[name].to_numpy() for name in columns})


def remove_values(poisoned: Any, _before: Any) -> Any:
    """Remove 30% of the values of a column."""
    import numpy as np

    is_missing = np.random.default_rng(0).random(len(poisoned)) < 0.3
    return poisoned.assign(a=poisoned["a"].mask(is_missing))


# The words by which the incident names each fault, and the function that makes it.
FAULTS: dict[str, Callable[[Any, Any], Any]] = {
    "flipped labels": flip_labels,
    "labels of other rows": shift_labels,
    "changed unit": change_unit,
    "stale column": stop_feed,
    "duplicated day": repeat_days,
    "missing values": remove_values,
}


class Poison(NamedTuple):
    """A fault of the rows from ``start`` up to, but not including, ``end``."""

    fault: str
    start: datetime
    end: datetime


def plan_poisons(case: str) -> list[Poison]:
    """Plan which rows have which fault."""
    if case == "inverted":
        return [Poison("flipped labels", FIRST_POISONED, LAST_ROW)]
    duration, distance = (DAY, WINDOW) if case == "days" else (WINDOW, 2 * WINDOW)
    poisons = []
    for position, fault in enumerate(FAULTS):
        start = FIRST_POISONED + position * distance
        poisons.append(Poison(fault, start, start + duration))
    return poisons


def poison_table(table: Any, case: str) -> Any:
    """Poison the rows of a case."""
    import pandas as pd

    for poison in plan_poisons(case):
        start = pd.Timestamp(poison.start).tz_localize(None)
        end = pd.Timestamp(poison.end).tz_localize(None)
        is_before = table["at_time"] < start
        is_poisoned = ~is_before & (table["at_time"] < end)
        poisoned = FAULTS[poison.fault](table[is_poisoned], table[is_before])
        table = pd.concat([table[is_before], poisoned, table[~is_before & ~is_poisoned]])
    return table


def build_first_model(seed: int) -> Any:
    """Run the chain once, as of the first model; return the folder of the project."""
    from mlops_kit.project import loader

    folder = WORK_FOLDER / f"first-{seed}"
    if (folder / "done").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "mlops.yaml").write_text(YAML)
    make_table(seed).to_csv(folder / "rows.csv", index=False)
    problem = run_chain(loader.load_project(folder), ignore_progress)
    if problem:
        raise RuntimeError(f"{problem}: {folder}")
    (folder / "done").touch()
    return folder


def run_case(case: str, seed: int) -> dict[str, Any]:
    """Replay the watch over the poisoned table, and check the champion."""
    from mlops_kit.project import loader
    from mlops_kit.watch import loop

    began = time.monotonic()
    folder = WORK_FOLDER / f"{case}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(build_first_model(seed), folder)
    poison_table(make_table(seed), case).to_csv(folder / "rows.csv", index=False)
    project = loader.load_project(folder)
    log = ProgressLog()
    loop.replay_period(project, FIRST_MODEL, LAST_PASS, log)
    outcome = inspect_project(project, case, seed)
    outcome["seconds"] = time.monotonic() - began
    outcome["log"] = log.list_unusual_lines()
    outcome["problems"] = list_problems(case, outcome)
    return outcome | {"passed": not outcome["problems"]}


def inspect_project(project: Any, case: str, seed: int) -> dict[str, Any]:
    """Collect the incident, the rows of the champion, and its ROC-AUC on fresh rows."""
    import pandas as pd
    import sqlalchemy as sa

    from mlops_kit.db.engine import query_records
    from mlops_kit.db.tables import IncidentRecord
    from mlops_kit.project.run_folder import read_run_artifact
    from mlops_kit.registry import models, versions

    incidents = query_records(project, sa.select(IncidentRecord).order_by(IncidentRecord.id))
    messages = [entry.message for entry in incidents if entry.signal == "feed_fault"]
    champion, model = versions.load_champion(project)
    rows = read_run_artifact(project.reports_folder / champion.run, "features")
    used_rows = rows[rows["part"].isin(["train", "test"])]
    poisoned_rows = {}
    for poison in plan_poisons(case):
        times = used_rows["at_time"]
        is_poisoned = (times >= pd.Timestamp(poison.start)) & (times < pd.Timestamp(poison.end))
        poisoned_rows[poison.fault] = int(is_poisoned.sum())
    first_version = versions.load_version(project, "1")
    first_model = models.load_model(project, first_version)
    return {
        "incident": messages[-1] if messages else "",
        "attempts": list_attempts(project),
        "champion": champion.version,
        "poisoned_rows": poisoned_rows,
        "auc": score_fresh_rows(project, model, champion, case == "inverted", seed),
        "first_auc": score_fresh_rows(project, first_model, first_version, False, seed),
    }


def score_fresh_rows(project: Any, model: Any, version: Any, is_inverted: bool, seed: int) -> float:
    """Compute the ROC-AUC of a version on fresh rows."""
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    from mlops_kit.registry.scoring import predict_scores

    fresh = make_rows(pd.DatetimeIndex([LAST_ROW]).repeat(FRESH_ROWS), 10_000 + seed)
    labels = 1 - fresh["y"] if is_inverted else fresh["y"]
    scores = predict_scores(model, fresh[list(version.features)], project.config)
    return float(roc_auc_score(labels, scores))


def list_problems(case: str, outcome: dict[str, Any]) -> list[str]:
    """List what is not as it should be."""
    problems = []
    if outcome["champion"] == "1":
        problems.append("no retraining was promoted")
    if outcome["auc"] < outcome["first_auc"] - MAX_AUC_BELOW_FIRST_MODEL[case]:
        problems.append(f"AUC {outcome['auc']:.3f}, first model {outcome['first_auc']:.3f}")
    if case == "inverted":
        return problems
    if len(outcome["attempts"]) != 1:
        problems.append(f"retrainings {outcome['attempts']}, expected one after 88 days")
    for poison in plan_poisons(case):
        if f"{poison.start:%Y-%m-%d}" not in outcome["incident"]:
            problems.append(f"no incident names {poison.fault} of {poison.start:%Y-%m-%d}")
        elif poison.fault not in outcome["incident"]:
            problems.append(f"{poison.fault} has another name")
        if outcome["poisoned_rows"][poison.fault]:
            problems.append(f"{outcome['poisoned_rows'][poison.fault]} rows of it were used")
    return problems


def print_outcome(name: str, outcome: dict[str, Any], verbose: bool) -> None:
    """Print what happened in a case."""
    mark = "passed" if outcome["passed"] else "FAILED"
    print(
        f"{name}: {mark}, {outcome['seconds']:.0f} s, AUC {outcome['auc']:.3f}, first model "
        f"{outcome['first_auc']:.3f}",
        flush=True,
    )
    print(f"  retrainings {outcome['attempts']}; champion: version {outcome['champion']}")
    print(f"  {outcome['incident'] or 'no fault was named'}")
    for problem in outcome["problems"]:
        print(f"  PROBLEM {problem}")
    if verbose or not outcome["passed"]:
        for line in outcome["log"]:
            print(f"    {line}")


def main() -> int:
    """Run the cases, and print a summary."""
    options = parse_case_options(__doc__.splitlines()[0], CASES, SEEDS)
    store = OutcomeStore("poisoned_windows", DECIDING_PATHS, options.again)
    return run_cases(options, store, run_case, print_outcome)


if __name__ == "__main__":
    sys.exit(main())
