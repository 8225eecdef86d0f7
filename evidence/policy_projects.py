"""Watch twelve projects with a planted change, and check what the retraining policy decides.

    python evidence/policy_projects.py                            # resumes where it was interrupted
    python evidence/policy_projects.py --only regression-1000     # one project
    python evidence/policy_projects.py --again                    # forgets stored outcomes

Each project has a time index, 70 to 50,000 rows per day, and is binary, multiclass or a regression.
The chain is run as of day 40, and ``mlops watch`` is replayed for six weeks; the change is on day
50. A case passes if

- a project whose concept changes has a promoted retraining, and one without change or with drift
  that costs nothing has none,
- no guard blocks a proven reason in three windows in a row without an incident that says which
  setting to look at, or that there is none,
- each decision agrees with the table: the performance that it states is the one that scikit-learn
  computes from the table's labels and the logged scores, on as many rows, the rows that it counts
  as labeled since the cut-off are in the table, and the action follows from the rules that apply.

Settings are the defaults, except that approval is automatic and the search has 2 trials of linear
models. Outcomes are stored in ``build/policy_projects.json`` until a tracked file changes.

Exit codes: 0 if all projects passed, 1 if one did not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from stored_outcomes import ROOT, OutcomeStore
from watched_cases import (
    ProgressLog,
    draw_times,
    insert_keys_and_times,
    list_attempts,
    parse_case_options,
    run_cases,
    watch_project,
)

os.environ.setdefault("OMP_NUM_THREADS", "1")

DECIDING_PATHS = (
    "mlops_kit",
    "notebooks",
    "evidence/policy_projects.py",
    "evidence/watched_cases.py",
)
WORK_FOLDER = ROOT / "build" / "policy_projects"
SEEDS = (0,)
FIRST_ROW = datetime(2024, 1, 1, tzinfo=UTC)
FIRST_MODEL = FIRST_ROW + timedelta(days=40)
CHANGE = FIRST_ROW + timedelta(days=50)
LAST_PASS = FIRST_MODEL + timedelta(weeks=6)
LABEL_DELAY = timedelta(days=3)
GRADUAL_PERIOD = timedelta(days=21)
FEATURES = ["a", "b", "c", "d"]
CLASSES = ("low", "middle", "high")
MAX_BLOCKED_WINDOWS = 3


class PlannedProject(NamedTuple):
    """A project: its task, its volume, and what changes (flip, gradual, covariate or none)."""

    task: str
    rows_per_day: int
    change: str


PROJECTS = {
    "binary-70": PlannedProject("binary", 70, "flip"),
    "binary-300": PlannedProject("binary", 300, "gradual"),
    "binary-1000": PlannedProject("binary", 1_000, "covariate"),
    "binary-5000": PlannedProject("binary", 5_000, "flip"),
    "binary-50000": PlannedProject("binary", 50_000, "flip"),
    "binary-200": PlannedProject("binary", 200, "none"),
    "multiclass-70": PlannedProject("multiclass", 70, "none"),
    "multiclass-300": PlannedProject("multiclass", 300, "flip"),
    "multiclass-2000": PlannedProject("multiclass", 2_000, "gradual"),
    "regression-70": PlannedProject("regression", 70, "flip"),
    "regression-1000": PlannedProject("regression", 1_000, "gradual"),
    "regression-5000": PlannedProject("regression", 5_000, "covariate"),
}


def make_table(planned: PlannedProject, seed: int) -> Any:
    """Make the table of a project, in time order."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    days = (LAST_PASS - FIRST_ROW).days + 1
    count = days * planned.rows_per_day
    times = draw_times(rng, FIRST_ROW, days, count)
    elapsed = np.asarray((times - CHANGE) / timedelta(days=1), dtype=float)
    share = np.zeros(count)
    if planned.change == "flip":
        share = (elapsed >= 0).astype(float)
    if planned.change == "gradual":
        share = np.clip(elapsed / (GRADUAL_PERIOD / timedelta(days=1)), 0, 1)
    rows = pd.DataFrame(rng.normal(size=(count, 3)), columns=FEATURES[:3])
    rows["d"] = rng.choice(["x", "y", "z"], count)
    if planned.change == "covariate":
        rows["c"] += np.where(elapsed >= 0, 0.5, 0.0)  # the target does not depend on it
    signal = 1.6 * (1 - 2 * share) * rows["a"] + 0.5 * rows["b"]
    signal += np.where(rows["d"] == "x", 0.4, -0.2)
    if planned.task == "binary":
        rows["y"] = (rng.random(count) < 1 / (1 + np.exp(-signal))).astype(int)
    elif planned.task == "regression":
        rows["y"] = 10 + signal + rng.normal(size=count)
    else:
        noisy = signal + 0.7 * rng.normal(size=count)
        rows["y"] = np.array(CLASSES)[np.digitize(noisy, [-0.8, 0.8])]
    insert_keys_and_times(rows, times)
    return rows


def write_project(folder: Any, planned: PlannedProject, table: Any) -> None:
    """Write the table and the settings of a project."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table.to_csv(folder / "rows.csv", index=False)
    settings = f"""
name: policy
source: rows.csv
target: y
task: {planned.task}
id: k
time: at_time
label_delay: {LABEL_DELAY.days}d
approval: automatic
as_of: {FIRST_MODEL:%Y-%m-%d}
until: {FIRST_MODEL:%Y-%m-%d}
train: {{trials: 2, families: [linear]}}
stages: {{explore: {{params: {{profile_rows: 0}}}}}}
"""
    (folder / "mlops.yaml").write_text(settings)


def run_project(name: str, seed: int) -> dict[str, Any]:
    """Run the chain, replay the watch, and check its decisions."""
    planned = PROJECTS[name]
    table = make_table(planned, seed)
    folder = WORK_FOLDER / f"{name}-{seed}"
    write_project(folder, planned, table)

    def inspect(project: Any, log: ProgressLog) -> dict[str, Any]:
        decisions, problems = check_windows(project, planned, table)
        attempts = list_attempts(project)
        promoted = count_promoted_retrainings(project)
        problems += check_retrainings(planned, attempts, promoted)
        return {
            "change": planned.change,
            "decisions": decisions,
            "attempts": attempts,
            "promoted": promoted,
            "log": log.list_unusual_lines(),
            "problems": problems,
        }

    return watch_project(folder, FIRST_MODEL, LAST_PASS, inspect)


def count_promoted_retrainings(project: Any) -> int:
    """Count the versions that were promoted after the first one."""
    from mlops_kit.db import approvals

    return len(approvals.list_promotions(project)) - 1


def check_retrainings(planned: PlannedProject, attempts: list[str], promoted: int) -> list[str]:
    """Check that a project was retrained where its concept changes, and only there."""
    if planned.change in ("flip", "gradual"):
        return [] if promoted else [f"no retraining was promoted: {attempts or 'none was made'}"]
    return [f"retrained {attempt} without a change of the concept" for attempt in attempts]


def check_windows(project: Any, planned: PlannedProject, table: Any) -> tuple[list[str], list[str]]:
    """Check the decision of each window against the table.

    Returns
    -------
    decisions : list of str
        The decisions.
    problems : list of str
        What is not as it should be.
    """
    import sqlalchemy as sa

    from mlops_kit.db import predictions
    from mlops_kit.db.engine import query_records
    from mlops_kit.db.tables import IncidentRecord, WindowRecord
    from mlops_kit.watch.records import WindowPerformance

    labels = table.set_index("k")["y"]
    windows = query_records(project, sa.select(WindowRecord).order_by(WindowRecord.start))
    incidents = query_records(project, sa.select(IncidentRecord))
    blocked_messages = [
        entry.message for entry in incidents if entry.signal == "retraining_blocked"
    ]
    described = []
    problems = []
    blocking: list[set[str]] = []
    for window in windows:
        if window.realized_json is None:
            continue
        performance = WindowPerformance.from_json(window.realized_json)
        decision = performance.decision
        start = datetime.fromisoformat(window.start)
        end = datetime.fromisoformat(window.end)
        described.append(f"{start:%Y-%m-%d} {decision.action}: {decision.reason}")
        rows = predictions.load_labeled_predictions(project, start, end)
        rows = rows[rows["version"] == window.version]
        keys = [int(json.loads(key)[0]) for key in rows["key"]]
        value = compute_metric(planned.task, labels.loc[keys], rows["score"])
        stated = performance.realized.sentence
        problems += [
            f"{start:%Y-%m-%d}: {problem}"
            for problem in (
                *check_sentence(stated, value, len(rows)),
                *check_rules(decision),
                *check_label_count(decision, table, end),
            )
        ]
        guards = {result.rule for result in decision.rule_results if result.role == "guard"}
        applying = {result.rule for result in decision.rule_results if result.applies}
        blocking.append(guards & applying if decision.action == "wait" else set())
    problems += check_blocked(blocking, blocked_messages)
    return described, problems


def compute_metric(task: str, labels: Any, scores: Any) -> float:
    """Compute the headline metric from the labels of the table and the logged scores."""
    import numpy as np
    from sklearn.metrics import accuracy_score, r2_score, roc_auc_score

    if task == "binary":
        return float(roc_auc_score(labels, scores))
    if task == "regression":
        return float(r2_score(labels, scores))
    names = np.array(sorted(CLASSES))
    predicted = names[np.array(scores.tolist()).argmax(axis=1)]
    return float(accuracy_score(labels, predicted))


def check_sentence(sentence: str, value: float, rows: int) -> list[str]:
    """Check that a sentence states a value and a number of rows."""
    stated = re.search(r"(-?[\d.,]+)(?: \[[^\]]*\])? on ([\d,]+) labeled rows", sentence)
    if stated is None:
        return [f"it states no value: {sentence}"]
    problems = []
    if abs(float(stated[1].replace(",", "")) - value) > 0.0006:
        problems.append(f"the table has {value:.4f}, the decision {stated[1]}")
    if int(stated[2].replace(",", "")) != rows:
        problems.append(f"the table has {rows} rows, the decision {stated[2]}")
    return problems


def check_rules(decision: Any) -> list[str]:
    """Check that the action follows from the rules that apply."""
    applying = {"stop": [], "reason": [], "guard": []}
    for result in decision.rule_results:
        if result.applies:
            applying[str(result.role)].append(result)
    expected = "retrain"
    if applying["stop"]:
        expected = "stop"
    elif not applying["reason"]:
        expected = "keep"
    elif applying["guard"]:
        expected = "wait"
    problems = []
    if decision.action != expected:
        problems.append(f"{decision.action}, but the rules say {expected}")
    if expected == "wait":
        guard = applying["guard"][0]
        advice = guard.setting or "No setting changes that"
        if guard.sentence not in decision.reason or advice not in decision.reason:
            problems.append(f"the decision does not name {guard.rule}: {decision.reason}")
    return problems


def check_label_count(decision: Any, table: Any, end: datetime) -> list[str]:
    """Check the number of rows that were labeled since the cut-off of the first model."""
    import pandas as pd

    stated = re.search(r"Only ([\d,]+) rows were labeled", decision.reason)
    if stated is None:
        return []
    cutoff = pd.Timestamp(FIRST_MODEL).tz_localize(None)
    newest = pd.Timestamp(end).tz_localize(None)
    known = int(table["at_time"].between(cutoff, newest, inclusive="left").sum())
    count = int(stated[1].replace(",", ""))
    if count > known:
        return [f"{count} rows are said to be labeled, the table has {known}"]
    return []


def check_blocked(blocking: list[set[str]], messages: list[str]) -> list[str]:
    """Check that a guard which blocks for long is in an incident."""
    problems = []
    for position in range(len(blocking) - MAX_BLOCKED_WINDOWS + 1):
        same = set.intersection(*blocking[position : position + MAX_BLOCKED_WINDOWS])
        for guard in same - {"superseded"}:
            named = [message for message in messages if f"'{guard}'" in message]
            is_advised = any("look at" in text or "no setting" in text for text in named)
            if not is_advised:
                problems.append(f"the guard {guard} blocks for long, and no incident says so")
    return problems


def print_outcome(name: str, outcome: dict[str, Any], verbose: bool) -> None:
    """Print what happened in a project."""
    mark = "passed" if outcome["passed"] else "FAILED"
    print(f"{name}: {mark}, {outcome.get('seconds', 0):.0f} s", flush=True)
    print(
        f"  change: {outcome.get('change')}; retrainings {outcome.get('attempts')}; promoted "
        f"{outcome.get('promoted')}"
    )
    for decision in outcome.get("decisions", []):
        print(f"  {decision}")
    for problem in outcome["problems"]:
        print(f"  PROBLEM {problem}")
    if verbose or not outcome["passed"]:
        for line in outcome.get("log", []):
            print(f"    {line}")


def main() -> int:
    """Watch the projects, and print a summary."""
    options = parse_case_options(__doc__.splitlines()[0], list(PROJECTS), SEEDS)
    store = OutcomeStore("policy_projects", DECIDING_PATHS, options.again)
    return run_cases(options, store, run_project, print_outcome)


if __name__ == "__main__":
    sys.exit(main())
