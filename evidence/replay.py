"""Compare the default retraining policy with others, and with the oracle, on simulated histories.

    python evidence/replay.py                               # resumes where it was interrupted
    python evidence/replay.py --only flip --seeds 0         # one scenario, one seed
    python evidence/replay.py --again                       # forgets stored outcomes

Each history is a table with 12,000 rows per year whose labels arrive after 7 days, replayed from
1 September to 31 December 2023 by `mlops_kit.watch.policy_replay`, with a linear model and default
settings, except for 100 instead of 500 bootstrap draws. On 20 September one coefficient changes its
sign at once (``flip``), or within 60 days (``gradual``); it follows a season with a period of a
year (``seasonal``); or nothing changes (``none``). Five seeds of each make 20 histories.

Two bars are checked at each of three ratios of the cost of a retraining to that of errors: the mean
cost of the default policy is at most 10% above the oracle's, and it is below that of the better of
never and monthly retraining, with the paired bootstrap interval over histories below zero.

Outcomes are stored in ``build/replay.json`` until a tracked file changes.

Exit codes: 0 if both bars hold at all ratios, 1 if one does not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from stored_outcomes import ROOT, OutcomeStore
from watched_cases import (
    draw_concept_rows,
    draw_times,
    ignore_progress,
    insert_keys_and_times,
    make_recipe,
)

os.environ.setdefault("OMP_NUM_THREADS", "1")

DECIDING_PATHS = ("mlops_kit", "evidence/replay.py", "evidence/watched_cases.py")
WORK_FOLDER = ROOT / "build" / "replay"
SCENARIOS = ("flip", "gradual", "seasonal", "none")
SEEDS = (0, 1, 2, 3, 4)
POLICIES = ("static", "scheduled", "drift", "performance", "default")
ROWS_PER_YEAR = 12_000
FIRST_ROW = datetime(2023, 1, 1, tzinfo=UTC)
START = datetime(2023, 9, 1, tzinfo=UTC)
END = datetime(2023, 12, 31, tzinfo=UTC)
CHANGE = datetime(2023, 9, 20, tzinfo=UTC)
GRADUAL_PERIOD = timedelta(days=60)
SEASON = timedelta(days=365)
COEFFICIENT = 1.6
MAX_COST_ABOVE_ORACLE = 1.10
DRAWS = 2000
FEATURES = ["a", "b", "c", "d", "e"]
YAML = """
name: replayed
source: rows.csv
target: y
task: binary
id: k
time: at_time
label_delay: 7d
approval: automatic
review: {draws: 100}
"""


def compute_coefficient(scenario: str, times: Any) -> Any:
    """Compute the changing coefficient at each time."""
    import numpy as np

    share = np.zeros(len(times))
    if scenario == "flip":
        share = (times >= CHANGE).astype(float)
    if scenario == "gradual":
        elapsed = np.asarray((times - CHANGE) / GRADUAL_PERIOD, dtype=float)
        share = np.clip(elapsed, 0, 1)
    if scenario == "seasonal":
        elapsed = np.asarray((times - FIRST_ROW) / SEASON, dtype=float)
        share = (1 - np.cos(2 * np.pi * elapsed)) / 2
    return COEFFICIENT * (1 - 2 * share)


def make_table(scenario: str, seed: int) -> Any:
    """Make the table of a scenario, in time order."""
    import numpy as np

    rng = np.random.default_rng(seed)
    days = (END - FIRST_ROW).days
    count = round(ROWS_PER_YEAR * days / 365)
    times = draw_times(rng, FIRST_ROW, days, count)
    rows = draw_concept_rows(rng, compute_coefficient(scenario, times))
    insert_keys_and_times(rows, times)
    return rows


def replay_history(scenario: str, seed: int) -> dict[str, Any]:
    """Replay a history under all policies; return their costs by ratio."""
    from mlops_kit.project import loader
    from mlops_kit.watch.policy_replay.comparison import simulate
    from mlops_kit.watch.policy_replay.policies import load_policies

    folder = WORK_FOLDER / f"{scenario}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlops.yaml").write_text(YAML)
    if not (folder / "rows.csv").exists():
        make_table(scenario, seed).to_csv(folder / "rows.csv", index=False)
    project = loader.load_project(folder)
    recipe = make_recipe("linear", {"alpha": 1.0}, FEATURES, threshold=0.5, metric="log_loss")
    began = time.monotonic()
    policies = load_policies(project, POLICIES)
    outcome = simulate(project, recipe, (0, 1), (START, END), policies, ignore_progress, 1)
    costs: dict[str, dict[str, float]] = {}
    rows = float(outcome.losses.row_counts.sum())
    for ratio, oracle in zip(outcome.ratios, outcome.oracles, strict=True):
        by_policy = {}
        for policy in (*outcome.policies, oracle):
            by_policy[policy.loss.name] = policy.loss.compute_cost(ratio) / rows
        costs[str(ratio.factor)] = by_policy
    shutil.rmtree(folder / ".mlops")
    return {
        "costs": costs,
        "retrainings": {policy.loss.name: policy.loss.retrainings for policy in outcome.policies},
        "promotions": {policy.loss.name: policy.promotions for policy in outcome.policies},
        "alerts": {policy.loss.name: list(policy.alarms) for policy in outcome.policies},
        "oracle_retrainings": [oracle.loss.retrainings for oracle in outcome.oracles],
        "recommended": [choice.recommended for choice in outcome.choices],
        "windows": len(outcome.losses.history.windows),
        "seconds": time.monotonic() - began,
    }


def check_ratio(outcomes: list[dict[str, Any]], ratio: str) -> bool:
    """Print the mean costs at a ratio, and whether both bars hold."""
    import numpy as np

    costs = {}
    for name in (*POLICIES, "oracle"):
        costs[name] = np.array([outcome["costs"][ratio][name] for outcome in outcomes])
    means = {name: float(values.mean()) for name, values in costs.items()}
    above_oracle = means["default"] / means["oracle"]
    better = min(("static", "scheduled"), key=lambda name: means[name])
    differences = costs["default"] - costs[better]
    rng = np.random.default_rng(0)
    drawn = rng.choice(differences, (DRAWS, len(differences))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    passed = above_oracle <= MAX_COST_ABOVE_ORACLE and high < 0
    listed = ", ".join(f"{name} {value:.4f}" for name, value in means.items())
    print(f"ratio x{ratio}: {'passed' if passed else 'FAILED'}; mean cost: {listed}")
    print(
        f"  default / oracle {above_oracle:.3f}; default - {better} {differences.mean():.4f} "
        f"[{low:.4f}, {high:.4f}] over {len(outcomes)} histories"
    )
    return bool(passed)


def main() -> int:
    """Replay the histories, and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=SCENARIOS)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    store = OutcomeStore("replay", DECIDING_PATHS, options.again)
    selected = []
    for seed in options.seeds:
        for scenario in options.only:
            name = f"{scenario}, seed {seed}"
            if name not in store.outcomes:
                store.outcomes[name] = replay_history(scenario, seed)
                store.save()
            outcome = store.outcomes[name]
            selected.append(outcome)
            print(f"{name}: {outcome['seconds']:.0f} s, retrainings {outcome['retrainings']}")
            print(f"  oracle {outcome['oracle_retrainings']}, alerts {outcome['alerts']}")
            for ratio, by_policy in outcome["costs"].items():
                listed = ", ".join(f"{key} {value:.4f}" for key, value in by_policy.items())
                print(f"  x{ratio}: {listed}", flush=True)
    passed = [check_ratio(selected, ratio) for ratio in selected[0]["costs"]]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
