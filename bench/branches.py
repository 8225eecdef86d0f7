"""Compare branches that run in parallel with branches that run one after another.

    python bench/branches.py [TIMES]

A chain of own notebooks (write a table, fit a forest on it, sum its predictions) is run for four
seeds with ``--jobs 1``, then TIMES (25) times with ``--jobs 4``, each as a whole process with
``--force``. Prints how many runs failed, how many branches had other artifacts, and the seconds
of both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlops_kit.project import run_manifest
from tests.pipeline import chains

DEFAULT_TIMES = 25
MAX_PRINTED_CHARACTERS = 2000
TABLE_CELL = """\
import numpy as np
import pandas as pd
draws = np.random.default_rng(0).normal(size=(2000, 5))
stage.write('rows', pd.DataFrame(draws, columns=list('abcde')))"""
FIT_CELL = """\
from sklearn.ensemble import RandomForestRegressor
rows = stage.read('rows')
model = RandomForestRegressor(10, random_state=seed, n_jobs=2).fit(rows[['a', 'b']], rows['c'])"""
SCORE_CELL = """\
model.set_params(n_jobs=1)  # threads add up the trees' predictions in any order
stage.write('scores', rows[['a']].assign(score=model.predict(rows[['a', 'b']])))"""
SUM_CELL = """\
total = float(stage.read('scores')['score'].sum())
stage.log(total=total)
stage.write('total', {'total': total})"""
CLOSE_CELL = "stage.hand_over('Done.')"
CHAIN: dict[str, tuple[str, list[Any]]] = {
    "table": ("writes: [rows]", [TABLE_CELL, CLOSE_CELL]),
    "fit": ("needs: [table], writes: [scores]", [FIT_CELL, SCORE_CELL, CLOSE_CELL]),
    "sum": ("needs: [fit], writes: [total]", [SUM_CELL, CLOSE_CELL]),
}


class BranchedRun(NamedTuple):
    """A run with branches: its seconds, its exit code, and the outputs of each branch."""

    seconds: float
    exit_code: int
    outputs: dict[str, dict[str, str]]


def run_branches(project_folder: Path, jobs: int) -> BranchedRun:
    """Run the chain once per seed."""
    command = [sys.executable, "-m", "mlops_kit.cli", "run", "--force"]
    command += ["--project", str(project_folder), "--jobs", str(jobs), "--each", "fit.seed=1,2,3,4"]
    start = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if process.returncode:
        print(process.stdout[-MAX_PRINTED_CHARACTERS:], process.stderr[-MAX_PRINTED_CHARACTERS:])
    run = max((project_folder / "reports").glob("2*"))
    outputs = {}
    for branch in run_manifest.read_manifest(run).branches:
        if branch.status == "succeeded":
            outputs[branch.name] = chains.read_outputs(run / "branches" / branch.run)
    return BranchedRun(seconds, process.returncode, outputs)


def main(times: int) -> None:
    """Run the branches one after another, then in parallel again and again."""
    with tempfile.TemporaryDirectory() as folder:
        project_folder = chains.write_project(Path(folder), CHAIN)
        serial = run_branches(project_folder, jobs=1)
        assert serial.exit_code == 0
        totals = {outputs["total: content"] for outputs in serial.outputs.values()}
        assert len(serial.outputs) == 4
        assert len(totals) == 4, "the seeds make no difference"
        all_seconds = []
        failed_runs = 0
        different_branches = 0
        for number in range(1, times + 1):
            parallel = run_branches(project_folder, jobs=4)
            failed_runs += bool(parallel.exit_code)
            for name, outputs in serial.outputs.items():
                different_branches += parallel.outputs.get(name) != outputs
            all_seconds.append(parallel.seconds)
            print(f"{number} of {times}: {parallel.seconds:.1f} s", flush=True)
    print(
        f"4 branches in parallel, {times} times: {failed_runs} runs failed, "
        f"{different_branches} branches had other artifacts; "
        f"median {median(all_seconds):.1f} s, one after another {serial.seconds:.1f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_TIMES)
