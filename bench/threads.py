"""How long a fit takes beside others who use the cores, by how long its threads spin while they wait.

    python bench/threads.py

Fits histogram boosting on made-up rows in a fresh process each (OpenMP reads its settings once), with
the cores free and with two busy loops a core, and prints seconds and the ratio to
OpenMP's default on free cores. The setting that ``mlops_kit.core.environment`` carries is the last row.
"""

from __future__ import annotations

import os
import subprocess
import sys

from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES

FIT = """
import time, numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier as Model
from threadpoolctl import threadpool_limits
rng = np.random.default_rng(0); x = rng.normal(size=(60000, 36)); y = x[:, 0] + rng.normal(size=60000) > 0
Model(max_iter=5).fit(x[:1000], y[:1000]); begin = time.perf_counter()
with threadpool_limits(2): Model(max_iter=100, max_leaf_nodes=15, early_stopping=False).fit(x, y)
print(time.perf_counter() - begin)
"""
SETTINGS = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "mlops-kit's": {
        k: v for k, v in DEFAULT_ENVIRONMENT_VARIABLES.items() if k.startswith(("OMP", "GOMP"))
    },
}


def seconds(setting: dict[str, str]) -> float:
    """The median of three fits, each in a process of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))} | setting
    return sorted(
        float(
            subprocess.run(
                [sys.executable, "-c", FIT], env=env, check=True, capture_output=True, text=True
            ).stdout
        )
        for _ in range(3)
    )[1]


def main() -> None:
    """Print the table."""
    free = {name: seconds(setting) for name, setting in SETTINGS.items()}
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        shared = {name: seconds(setting) for name, setting in SETTINGS.items()}
    finally:
        for process in busy:
            process.kill()
    print(f"{'setting':<14}{'cores free':>16}{'cores shared':>18}")
    for name in SETTINGS:
        print(
            f"{name:<14}{free[name]:>9.1f} s {free[name] / free['default']:>4.1f} ×{shared[name]:>10.1f} s {shared[name] / free['default']:>4.1f} ×"
        )


if __name__ == "__main__":
    main()
