"""Replay a year in which the concept changes, and check that retraining recovers.

    python evidence/recovery.py                              # resumes where it was interrupted
    python evidence/recovery.py --only flip --seeds 0        # one scenario, one seed
    python evidence/recovery.py --again                      # forgets stored outcomes

A table has 20,000 rows per year; labels arrive after 7 days. In September one coefficient changes
its sign at once (``flip``), within 60 days (``gradual``), back and forth every month
(``recurring``), or not at all (``none``). The chain is run as of 1 August, ``mlops watch`` is
replayed until eight weeks after the change (``gradual``: after its end), and the champion of each
day is scored on 20,000 fresh rows of that day's concept. Settings are the defaults, except that
approval is automatic and the search has 4 trials of the families ``linear`` and ``lightgbm``,
which makes a run cheap.

The best window is that of 7, 14, 28, 56 or 365 days whose labels are known on the same day and on
which the default linear model is best on the fresh rows. Outcomes are stored in
``build/recovery.json`` until a tracked file changes.

Exit codes: 0 if all scenarios passed, 1 if one did not.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from stored_outcomes import ROOT, OutcomeStore
from watched_cases import (
    ProgressLog,
    draw_concept_rows,
    draw_times,
    insert_keys_and_times,
    list_attempts,
    parse_case_options,
    run_cases,
    watch_project,
)

os.environ.setdefault("OMP_NUM_THREADS", "1")

DECIDING_PATHS = ("mlops_kit", "notebooks", "evidence/recovery.py", "evidence/watched_cases.py")
WORK_FOLDER = ROOT / "build" / "recovery"
SCENARIOS = ("flip", "gradual", "recurring", "none")
SEEDS = (0, 1, 2)
ROWS_PER_YEAR = 20_000
FRESH_ROWS = 20_000
LABEL_DELAY = timedelta(days=7)
FIRST_ROW = datetime(2023, 1, 1, tzinfo=UTC)
FIRST_MODEL = datetime(2023, 8, 1, tzinfo=UTC)
CHANGE = datetime(2023, 9, 1, tzinfo=UTC)
GRADUAL_PERIOD = timedelta(days=60)
FOLLOWED_PERIOD = timedelta(weeks=8)
RECOVERY_PERIOD = timedelta(weeks=4)
WINDOWS_IN_DAYS = (7, 14, 28, 56, 365)
MAX_AUC_BELOW_BEST_WINDOW = 0.03
CHANGING_COEFFICIENT = 1.6
FEATURES = ["a", "b", "c", "d", "e"]
YAML = """
name: recovery
source: rows.csv
target: y
task: binary
id: k
time: at_time
label_delay: 7d
approval: automatic
as_of: 2023-08-01
until: 2023-08-01
train: {trials: 4, families: [linear, lightgbm]}
stages: {explore: {params: {profile_rows: 0}}}
"""


def get_last_day(scenario: str) -> datetime:
    """Return the day until which a scenario is replayed."""
    end = CHANGE + FOLLOWED_PERIOD
    return end + GRADUAL_PERIOD if scenario == "gradual" else end


def compute_coefficient(scenario: str, times: Any) -> Any:
    """Compute the changing coefficient at each time."""
    import numpy as np
    import pandas as pd

    times = pd.DatetimeIndex(times)
    is_after = times >= CHANGE
    share = np.zeros(len(times))
    if scenario == "flip":
        share = is_after.astype(float)
    if scenario == "gradual":
        elapsed = (times - CHANGE) / GRADUAL_PERIOD
        share = np.clip(np.asarray(elapsed, dtype=float), 0, 1)
    if scenario == "recurring":
        share = np.where(is_after & (times.month % 2 == 1), 1.0, 0.0)
    return CHANGING_COEFFICIENT * (1 - 2 * share)


def make_rows(scenario: str, times: Any, seed: int) -> Any:
    """Make rows whose target follows the concept of their time."""
    import numpy as np

    return draw_concept_rows(np.random.default_rng(seed), compute_coefficient(scenario, times))


def make_table(scenario: str, seed: int) -> Any:
    """Make the table of a scenario, in time order."""
    import numpy as np

    days = (get_last_day(scenario) - FIRST_ROW).days
    count = round(ROWS_PER_YEAR * days / 365)
    times = draw_times(np.random.default_rng(seed), FIRST_ROW, days, count)
    rows = make_rows(scenario, times, seed)
    insert_keys_and_times(rows, times)
    return rows


def make_fresh_rows(scenario: str, day: datetime, seed: int) -> Any:
    """Make rows of the concept of one day."""
    import pandas as pd

    times = pd.DatetimeIndex([pd.Timestamp(day)]).repeat(FRESH_ROWS)
    return make_rows(scenario, times, 10_000 + seed)


def run_scenario(scenario: str, seed: int) -> dict[str, Any]:
    """Run the chain, replay the watch, and measure the champions."""
    folder = WORK_FOLDER / f"{scenario}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "mlops.yaml").write_text(YAML)
    table = make_table(scenario, seed)
    table.to_csv(folder / "rows.csv", index=False)

    def inspect(project: Any, log: ProgressLog) -> dict[str, Any]:
        outcome = measure_champions(project, scenario, seed, table)
        outcome["log"] = log.list_unusual_lines()
        outcome["problems"] = list_problems(scenario, outcome)
        return outcome

    return watch_project(folder, FIRST_MODEL, get_last_day(scenario), inspect)


def measure_champions(project: Any, scenario: str, seed: int, table: Any) -> dict[str, Any]:
    """Measure on fresh rows: daily the champion and the first model, weekly the best window."""
    from mlops_kit.registry import models, versions
    from mlops_kit.registry.scoring import predict_scores

    served_by_day = load_serving_versions(project)
    loaded = {}
    for name in dict.fromkeys(served_by_day.values()):
        version = versions.load_version(project, name)
        loaded[name] = (version, models.load_model(project, version))
    first = next(iter(loaded))
    days = []
    weeks = []
    day = FIRST_MODEL
    while day < get_last_day(scenario):
        fresh = make_fresh_rows(scenario, day, seed)
        served = served_by_day[f"{day:%Y-%m-%d}"]
        aucs = {}
        for role, name in (("champion", served), ("first", first)):
            version, model = loaded[name]
            scores = predict_scores(model, fresh[list(version.features)], project.config)
            aucs[role] = compute_auc(fresh["y"], scores)
        measured = {"day": f"{day:%Y-%m-%d}", "version": served} | aucs
        days.append(measured)
        if (day - FIRST_MODEL).days % 7 == 0:
            window, best_auc = fit_best_window(table, fresh, day)
            weeks.append(measured | {"window": window, "best_window": best_auc})
        day += timedelta(days=1)
    changes = [
        f"{later['day']} version {later['version']}"
        for earlier, later in pairwise(days)
        if later["version"] != earlier["version"]
    ]
    return {"days": days, "weeks": weeks, "changes": changes, "attempts": list_attempts(project)}


def load_serving_versions(project: Any) -> dict[str, str]:
    """Load which version scored the newest rows of each day, from the prediction log."""
    from mlops_kit.db import predictions

    rows = predictions.load_labeled_predictions(
        project, FIRST_MODEL, FIRST_MODEL.replace(year=2099)
    )
    days = rows["moment"].dt.strftime("%Y-%m-%d")
    return dict(zip(days, rows["version"], strict=True))


def compute_auc(labels: Any, scores: Any) -> float:
    """Compute ROC-AUC."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def fit_best_window(table: Any, fresh: Any, day: datetime) -> tuple[int, float]:
    """Fit a linear model on each window of labels that are known on a day; return the best."""
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    newest = pd.Timestamp(day - LABEL_DELAY).tz_localize(None)
    known = table[table["at_time"] <= newest]
    best = (0, 0.0)
    for days in WINDOWS_IN_DAYS:
        rows = known[known["at_time"] > newest - timedelta(days=days)]
        model = LogisticRegression().fit(pd.get_dummies(rows[FEATURES]), rows["y"])
        scores = model.predict_proba(pd.get_dummies(fresh[FEATURES]))[:, 1]
        auc = compute_auc(fresh["y"], scores)
        if auc > best[1]:
            best = (days, auc)
    return best


def list_problems(scenario: str, outcome: dict[str, Any]) -> list[str]:
    """List what is not as it should be."""
    first_day = f"{CHANGE:%Y-%m-%d}"
    weeks = [week for week in outcome["weeks"] if week["day"] >= first_day]
    if scenario == "none":
        return [f"retrained {day} without a change" for day in outcome["attempts"]]
    if scenario == "recurring":
        days = [day for day in outcome["days"] if day["day"] >= first_day]
        mean = sum(day["champion"] for day in days) / len(days)
        staying = sum(day["first"] for day in days) / len(days)
        if mean < staying:
            return [f"mean AUC {mean:.3f}, below {staying:.3f} of the first model"]
        return []
    changed = CHANGE + GRADUAL_PERIOD if scenario == "gradual" else CHANGE
    recovered = f"{changed + RECOVERY_PERIOD:%Y-%m-%d}"
    week = [week for week in weeks if week["day"] <= recovered][-1]
    distance = week["best_window"] - week["champion"]
    if distance > MAX_AUC_BELOW_BEST_WINDOW:
        return [
            f"AUC {week['champion']:.3f} on {week['day']}, {distance:.3f} below the best window"
        ]
    return []


def print_outcome(name: str, outcome: dict[str, Any], verbose: bool) -> None:
    """Print what happened in a scenario."""
    mark = "passed" if outcome["passed"] else "FAILED"
    print(f"{name}: {mark}, {outcome.get('seconds', 0):.0f} s")
    print(f"  retrainings {outcome.get('attempts')}; in service {outcome.get('changes')}")
    for week in outcome.get("weeks", []):
        print(
            f"  {week['day']}: version {week['version']} AUC {week['champion']:.3f}, first model "
            f"{week['first']:.3f}, best window ({week['window']} days) {week['best_window']:.3f}"
        )
    for problem in outcome["problems"]:
        print(f"  {problem}")
    if verbose or not outcome["passed"]:
        for line in outcome.get("log", []):
            print(f"    {line}")


def main() -> int:
    """Run the scenarios, and print a summary."""
    options = parse_case_options(__doc__.splitlines()[0], SCENARIOS, SEEDS)
    store = OutcomeStore("recovery", DECIDING_PATHS, options.again)
    return run_cases(options, store, run_scenario, print_outcome)


if __name__ == "__main__":
    sys.exit(main())
