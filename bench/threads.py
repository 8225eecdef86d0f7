"""Measure how long a fit takes on busy cores, by how long its threads spin while they wait.

    python bench/threads.py

Fits histogram boosting on synthetic rows in a fresh process each time (OpenMP reads its settings
once), with the cores free and with two busy loops per core. Prints seconds, and the ratio to
OpenMP's default on free cores. The setting of ``mlops_kit.core.environment`` is the last row.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES

FIT_CODE = """
import time
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier as Model
from threadpoolctl import threadpool_limits
rng = np.random.default_rng(0)
x = rng.normal(size=(60000, 36))
y = x[:, 0] + rng.normal(size=60000) > 0
Model(max_iter=5).fit(x[:1000], y[:1000])
started_at = time.perf_counter()
with threadpool_limits(2):
    Model(max_iter=100, max_leaf_nodes=15, early_stopping=False).fit(x, y)
print(time.perf_counter() - started_at)
"""
REPEATS = 3
OPENMP_PREFIXES = ("OMP", "GOMP")


def select_openmp_variables(environment: dict[str, str]) -> dict[str, str]:
    """Select the variables that OpenMP reads."""
    return {name: v for name, v in environment.items() if name.startswith(OPENMP_PREFIXES)}


SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "mlops-kit": select_openmp_variables(DEFAULT_ENVIRONMENT_VARIABLES),
}


def measure_fit_seconds(setting: dict[str, str]) -> float:
    """Measure the median duration of three fits, each in its own process."""
    environment = dict(os.environ)
    for name in select_openmp_variables(environment):
        del environment[name]
    durations = []
    for _ in range(REPEATS):
        process = subprocess.run(
            [sys.executable, "-c", FIT_CODE],
            env={**environment, **setting},
            check=True,
            capture_output=True,
            text=True,
        )
        durations.append(float(process.stdout))
    return median(durations)


def main() -> None:
    """Print the table."""
    free = {name: measure_fit_seconds(setting) for name, setting in SETTINGS.items()}
    busy_loops = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        shared = {name: measure_fit_seconds(setting) for name, setting in SETTINGS.items()}
    finally:
        for process in busy_loops:
            process.kill()
    default = free["default"]
    print(f"{'setting':<14}{'cores free':>16}{'cores shared':>18}")
    for name in SETTINGS:
        free_ratio = free[name] / default
        shared_ratio = shared[name] / default
        print(
            f"{name:<14}{free[name]:>9.1f} s {free_ratio:>4.1f} ×"
            f"{shared[name]:>10.1f} s {shared_ratio:>4.1f} ×"
        )


if __name__ == "__main__":
    main()
