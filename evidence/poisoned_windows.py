"""Poison a window or a day of a table that is watched, and check that no champion learns from it.

    python evidence/poisoned_windows.py                          # resumes where it was interrupted
    python evidence/poisoned_windows.py --only "flipped labels"  # one fault
    python evidence/poisoned_windows.py --again                  # forgets stored outcomes

A table has 300 rows a day, half of them positive; labels arrive after 2 days. The chain is run once
as of the first of March. Then one week, or one day of it, is poisoned, ``mlops watch`` is replayed
for four weeks, and the age of the model (``retrain.max_age``) leads to a retraining whose rows
include the poisoned ones. A case passes if an incident names the fault and its days, no row of
these days trained or evaluated a model of the retraining, and the champion's ROC-AUC on fresh rows
is at most 0.01 below that of the same replay without a fault. In the case ``inverted concept`` the
labels are inverted for good, which must lead to a retraining that recovers.

Outcomes are stored in ``build/poisoned_windows.json`` until a tracked file changes.

Exit codes: 0 if all cases passed, 1 if one did not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from stored_outcomes import ROOT, OutcomeStore

os.environ.setdefault("OMP_NUM_THREADS", "1")

DECIDING_PATHS = ("mlops_kit", "notebooks", "evidence/poisoned_windows.py")
WORK_FOLDER = ROOT / "build" / "poisoned_windows"
SEEDS = (0,)
ROWS_PER_DAY = 300
FIRST_ROW = datetime(2024, 1, 1, tzinfo=UTC)
FIRST_MODEL = datetime(2024, 3, 1, tzinfo=UTC)
FIRST_POISONED = datetime(2024, 3, 8, tzinfo=UTC)
LAST_PASS = datetime(2024, 3, 28, tzinfo=UTC)
LAST_ROW = LAST_PASS + timedelta(days=1)
WINDOW = timedelta(days=7)
DAY = timedelta(days=1)
FRESH_ROWS = 20_000
MAX_AUC_BELOW_CLEAN = 0.01
MAX_AUC_BELOW_CLEAN_AFTER_INVERSION = 0.03
FEATURES = ["a", "b", "c", "d"]
CLEAN = "clean"
INVERTED = "inverted concept"
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
retrain: {max_age: 20d}
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
    import pandas as pd

    days = (LAST_ROW - FIRST_ROW).days
    count = ROWS_PER_DAY * days
    seconds = np.sort(np.random.default_rng(seed).uniform(0, days * 86_400, count)).astype(int)
    times = pd.Timestamp(FIRST_ROW) + pd.to_timedelta(seconds, unit="s")
    rows = make_rows(times, seed)
    rows.insert(0, "k", range(count))
    rows.insert(1, "at_time", times.tz_localize(None))
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


def list_cases() -> dict[str, tuple[str, timedelta]]:
    """List the cases: from their name to the fault and how long it lasts."""
    cases = {CLEAN: (CLEAN, WINDOW)}
    for fault in FAULTS:
        cases[f"{fault}, one week"] = (fault, WINDOW)
        cases[f"{fault}, one day"] = (fault, DAY)
    cases[INVERTED] = (INVERTED, LAST_ROW - FIRST_POISONED)
    return cases


def poison_table(table: Any, fault: str, duration: timedelta) -> Any:
    """Poison the rows from ``FIRST_POISONED`` on."""
    import pandas as pd

    if fault == CLEAN:
        return table
    poison = flip_labels if fault == INVERTED else FAULTS[fault]
    start = pd.Timestamp(FIRST_POISONED).tz_localize(None)
    is_before = table["at_time"] < start
    is_poisoned = ~is_before & (table["at_time"] < start + duration)
    poisoned = poison(table[is_poisoned], table[is_before])
    return pd.concat([table[is_before], poisoned, table[~is_before & ~is_poisoned]])


def build_first_model(seed: int) -> Any:
    """Run the chain once, as of the first model; return the folder of the project."""
    from mlops_kit.pipeline import runner
    from mlops_kit.project import loader

    folder = WORK_FOLDER / f"first-{seed}"
    if (folder / "done").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "mlops.yaml").write_text(YAML)
    make_table(seed).to_csv(folder / "rows.csv", index=False)
    project = loader.load_project(folder)
    stages = runner.select_stages(project, last="deploy")
    manifest = runner.run_pipeline(project, stages, {}, ignore_line, runner.RunOptions())
    if str(manifest.status) != "succeeded":
        raise RuntimeError(f"the first run ended as {manifest.status}: {folder}")
    (folder / "done").touch()
    return folder


def ignore_line(_text: str, transient: bool = False) -> None:
    """Ignore a line of progress."""


def run_case(fault: str, duration: timedelta, seed: int, clean_auc: float | None) -> dict[str, Any]:
    """Replay the watch over the poisoned table, and check the champion."""
    from mlops_kit.project import loader
    from mlops_kit.watch import loop

    began = time.monotonic()
    name = f"{fault}-{duration.days}-{seed}".replace(" ", "-")
    folder = WORK_FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(build_first_model(seed), folder)
    poison_table(make_table(seed), fault, duration).to_csv(folder / "rows.csv", index=False)
    project = loader.load_project(folder)
    lines: list[str] = []

    def report(text: str, transient: bool = False) -> None:
        if not transient:
            lines.append(text)

    loop.replay_period(project, FIRST_MODEL, LAST_PASS, report)
    outcome = inspect_project(project, fault, duration, seed)
    outcome["seconds"] = time.monotonic() - began
    outcome["log"] = lines
    outcome["problems"] = list_problems(fault, outcome, clean_auc)
    return outcome | {"passed": not outcome["problems"]}


def inspect_project(project: Any, fault: str, duration: timedelta, seed: int) -> dict[str, Any]:
    """Collect the incident, the rows of the champion, and its ROC-AUC on fresh rows."""
    import pandas as pd
    import sqlalchemy as sa
    from sklearn.metrics import roc_auc_score

    from mlops_kit.db.engine import query_records
    from mlops_kit.db.tables import IncidentRecord, RetrainingRecord
    from mlops_kit.project.run_folder import read_run_artifact
    from mlops_kit.registry import versions
    from mlops_kit.registry.scoring import predict_scores

    incidents = query_records(project, sa.select(IncidentRecord))
    messages = [entry.message for entry in incidents if entry.signal == "feed_fault"]
    retrainings = query_records(project, sa.select(RetrainingRecord))
    champion, model = versions.load_champion(project)
    rows = read_run_artifact(project.reports_folder / champion.run, "features")
    start = pd.Timestamp(FIRST_POISONED)
    is_poisoned = (rows["at_time"] >= start) & (rows["at_time"] < start + duration)
    is_used = rows["part"].isin(["train", "test"])
    fresh_times = pd.DatetimeIndex([LAST_ROW]).repeat(FRESH_ROWS)
    fresh = make_rows(fresh_times, 10_000 + seed)
    if fault == INVERTED:
        fresh["y"] = 1 - fresh["y"]
    scores = predict_scores(model, fresh[list(champion.features)], project.config)
    return {
        "incident": " | ".join(messages),
        "attempts": [f"{entry.as_of[:10]} {entry.status}" for entry in retrainings if entry.status],
        "champion": champion.version,
        "poisoned_rows": int((is_poisoned & is_used).sum()),
        "auc": float(roc_auc_score(fresh["y"], scores)),
    }


def list_problems(fault: str, outcome: dict[str, Any], clean_auc: float | None) -> list[str]:
    """List what is not as it should be."""
    problems = []
    if outcome["champion"] == "1":
        problems.append("no retraining was promoted")
    if clean_auc is not None:
        is_inverted = fault == INVERTED
        limit = MAX_AUC_BELOW_CLEAN_AFTER_INVERSION if is_inverted else MAX_AUC_BELOW_CLEAN
        if outcome["auc"] < clean_auc - limit:
            problems.append(f"AUC {outcome['auc']:.3f}, without a fault {clean_auc:.3f}")
    if fault in FAULTS:
        if (
            fault not in outcome["incident"]
            or f"{FIRST_POISONED:%Y-%m-%d}" not in outcome["incident"]
        ):
            problems.append(f"no incident names it: {outcome['incident'] or 'none was opened'}")
        if outcome["poisoned_rows"]:
            problems.append(f"{outcome['poisoned_rows']} poisoned rows were used")
    if fault == CLEAN and outcome["incident"]:
        problems.append(f"a fault was named: {outcome['incident']}")
    return problems


def print_outcome(name: str, outcome: dict[str, Any], verbose: bool) -> None:
    """Print what happened in a case."""
    mark = "passed" if outcome["passed"] else "FAILED"
    print(f"{name}: {mark}, {outcome['seconds']:.0f} s, AUC {outcome['auc']:.3f}", flush=True)
    print(f"  retrainings {outcome['attempts']}; champion: version {outcome['champion']}")
    print(f"  {outcome['incident'] or 'no fault was named'}")
    for problem in outcome["problems"]:
        print(f"  {problem}")
    if verbose or not outcome["passed"]:
        for line in outcome["log"]:
            print(f"    {line}")


def main() -> int:
    """Run the cases, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[CLEAN, INVERTED, *FAULTS])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    store = OutcomeStore("poisoned_windows", DECIDING_PATHS, options.again)
    outcomes = store.outcomes
    checked = []
    for seed in options.seeds:
        for case, (fault, duration) in list_cases().items():
            if options.only and fault not in (CLEAN, *options.only):
                continue
            name = f"{case}, seed {seed}"
            if name not in outcomes:
                clean = outcomes.get(f"{CLEAN}, seed {seed}", {})
                outcomes[name] = run_case(fault, duration, seed, clean.get("auc"))
                store.save()
            print_outcome(name, outcomes[name], options.verbose)
            checked.append(outcomes[name])
    passed_count = sum(outcome["passed"] for outcome in checked)
    print(f"{passed_count} of {len(checked)} passed")
    return 0 if passed_count == len(checked) else 1


if __name__ == "__main__":
    sys.exit(main())
