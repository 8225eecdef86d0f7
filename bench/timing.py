"""Time whole processes: seconds of the clock, and of the processors in all of their children."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".mlops", "reports", "__pycache__", "*_cache", "tests", "bench"
)
MAX_COMMAND_CHARACTERS = 200
MAX_STDOUT_CHARACTERS = 2000
MAX_STDERR_CHARACTERS = 4000


class ProcessTime(NamedTuple):
    """Seconds of the clock, and of the processors."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        digits = 1 if self.wall >= 10 else 2
        return f"{self.wall:.{digits}f} ({self.cpu:.{digits}f})"


def compute_median(times: list[ProcessTime]) -> ProcessTime:
    """Compute the medians of both times."""
    return ProcessTime(median(t.wall for t in times), median(t.cpu for t in times))


def format_ratio(time_: ProcessTime, other: ProcessTime) -> str:
    """Format the ratio of two times, by the clock and by the processors."""
    return f"{time_.wall / other.wall:.2f}× ({time_.cpu / other.cpu:.2f}×)"


def get_children_cpu_seconds() -> float:
    """Return the processor seconds of all processes that have been waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def make_clean_environment(**variables: str) -> dict[str, str]:
    """Return the environment without settings of mlops-kit and MLflow, and with the given ones."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MLOPS_", "MLFLOW_"))
    }
    return environment | variables


def time_commands(
    commands: list[list[str]], folder: Path, environment: dict[str, str]
) -> ProcessTime:
    """Time commands that run one after another.

    Raises
    ------
    SystemExit
        If a command fails.
    """
    start = time.perf_counter()
    cpu_before = get_children_cpu_seconds()
    for command in commands:
        process = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            raise SystemExit(
                f"{' '.join(command)[:MAX_COMMAND_CHARACTERS]} "
                f"ended with exit code {process.returncode}:\n"
                f"{process.stdout[-MAX_STDOUT_CHARACTERS:]}\n"
                f"{process.stderr[-MAX_STDERR_CHARACTERS:]}"
            )
    wall_seconds = time.perf_counter() - start
    return ProcessTime(wall_seconds, get_children_cpu_seconds() - cpu_before)


def copy_project(project: Path, target: Path) -> Path:
    """Copy a project without its runs."""
    return Path(shutil.copytree(project, target, ignore=NOT_COPIED))
