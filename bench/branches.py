"""Branches at once hand on what branches one after the other do, time after time.

    python bench/branches.py [TIMES]

A chain of own notebooks (a table, a forest fitted on it, what it comes to) is run for four seeds with
``--jobs 1``, then TIMES (25) times with ``--jobs 4``, each as a whole process with ``--force``. Prints how
many runs failed, how many branches handed on something else, and the seconds of both ways.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlops_kit.project import run_manifest
from tests.pipeline import chains

TABLE = "import numpy as np\nimport pandas as pd\ndraws = np.random.default_rng(0).normal(size=(2000, 5))\nstage.write('rows', pd.DataFrame(draws, columns=list('abcde')))"
FIT = "from sklearn.ensemble import RandomForestRegressor\nrows = stage.read('rows')\nmodel = RandomForestRegressor(10, random_state=seed, n_jobs=2).fit(rows[['a', 'b']], rows['c'])"
SCORE = "model.set_params(n_jobs=1)  # threads that predict add up in any order\nstage.write('scores', rows[['a']].assign(score=model.predict(rows[['a', 'b']])))"
SUM = "total = float(stage.read('scores')['score'].sum())\nstage.log(total=total)\nstage.write('total', {'total': total})"
CLOSE = "stage.hand_over('Done.')"
CHAIN: dict[str, tuple[str, list[Any]]] = {
    "table": ("writes: [rows]", [TABLE, CLOSE]),
    "fit": ("needs: [table], writes: [scores]", [FIT, SCORE, CLOSE]),
    "sum": ("needs: [fit], writes: [total]", [SUM, CLOSE]),
}


def spread(home: Path, jobs: int) -> tuple[float, int, dict[str, dict[str, str]]]:
    """Run the branches; seconds, exit code, and what each branch handed on."""
    begin = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mlops_kit.cli",
            "run",
            "--project",
            str(home),
            "--each",
            "fit.seed=1,2,3,4",
            "--jobs",
            str(jobs),
            "--force",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    took = time.perf_counter() - begin
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-2000:])
    folder = max((home / "reports").glob("2*"))
    made = {
        b.name: folder / "branches" / b.run
        for b in run_manifest.read_manifest(folder).branches
        if b.status == "succeeded"
    }
    return took, done.returncode, {name: chains.read_outputs(f) for name, f in made.items()}


def main(times: int) -> None:
    """Serial once, then at once again and again."""
    with tempfile.TemporaryDirectory() as folder:
        home = chains.write_project(Path(folder), CHAIN)
        serial, code, wanted = spread(home, 1)
        assert code == 0
        assert len(wanted) == 4
        assert len({w["total: content"] for w in wanted.values()}) == 4, (
            "the seeds make no difference"
        )
        seconds, failed, other = [], 0, 0
        for number in range(1, times + 1):
            took, code, found = spread(home, 4)
            failed, other = (
                failed + bool(code),
                other + sum(found.get(name) != content for name, content in wanted.items()),
            )
            seconds.append(took)
            print(f"{number} of {times}: {took:.1f} s", flush=True)
    print(
        f"4 branches, {times} times at once: {failed} runs failed, {other} branches handed on something else; median {median(seconds):.1f} s, one after the other {serial:.1f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 25)
