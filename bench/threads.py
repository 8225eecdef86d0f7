"""Measure how long a fit takes on shared cores, by how long its waiting threads spin.

    python bench/threads.py

Fits histogram gradient boosting on synthetic rows in new processes (OpenMP reads its settings
once), with free cores and with two busy loops per core. Prints seconds and the ratio to OpenMP's
default on free cores. The last row is the setting of ``mlops_kit.core.environment``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median

from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES

REPEATS = 3
BUSY_LOOPS_PER_CORE = 2
OPENMP_PREFIXES = ("OMP_", "GOMP_")
FIT_CODE = """
import time
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits
rng = np.random.default_rng(0)
x = rng.normal(size=(60000, 36))
y = x[:, 0] + rng.normal(size=60000) > 0
HistGradientBoostingClassifier(max_iter=5).fit(x[:1000], y[:1000])
model = HistGradientBoostingClassifier(max_iter=100, max_leaf_nodes=15, early_stopping=False)
start = time.perf_counter()
with threadpool_limits(2):
    model.fit(x, y)
print(time.perf_counter() - start)
"""


def list_openmp_settings() -> dict[str, dict[str, str]]:
    """Return the settings to compare."""
    own_settings = {
        name: value
        for name, value in DEFAULT_ENVIRONMENT_VARIABLES.items()
        if name.startswith(OPENMP_PREFIXES)
    }
    return {
        "default": {},
        "passive": {"OMP_WAIT_POLICY": "passive"},
        "mlops-kit's": own_settings,
    }


def time_fit(settings: dict[str, str]) -> float:
    """Return the median seconds of several fits, each in its own process."""
    environment = dict(settings)
    for name, value in os.environ.items():
        if not name.startswith(OPENMP_PREFIXES):
            environment.setdefault(name, value)
    all_seconds = []
    for _ in range(REPEATS):
        process = subprocess.run(
            [sys.executable, "-c", FIT_CODE],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        all_seconds.append(float(process.stdout))
    return median(all_seconds)


def main() -> None:
    """Print the table."""
    settings_by_name = list_openmp_settings()
    seconds_free = {name: time_fit(settings) for name, settings in settings_by_name.items()}
    busy_loops = []
    for _ in range(BUSY_LOOPS_PER_CORE * (os.cpu_count() or 1)):
        busy_loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
    try:
        seconds_shared = {name: time_fit(settings) for name, settings in settings_by_name.items()}
    finally:
        for process in busy_loops:
            process.kill()
    baseline = seconds_free["default"]
    print(f"{'setting':<14}{'cores free':>16}{'cores shared':>18}")
    for name in settings_by_name:
        free = seconds_free[name]
        shared = seconds_shared[name]
        print(
            f"{name:<14}{free:>9.1f} s {free / baseline:>4.1f} ×"
            f"{shared:>10.1f} s {shared / baseline:>4.1f} ×"
        )


if __name__ == "__main__":
    main()
