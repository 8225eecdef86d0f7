"""Check that a watch killed at random times ends in the same state as an uninterrupted one.

    python bench/killed.py [KILLS]

Watches four weeks of a small synthetic table once without interruption; then again, killed
(SIGKILL) KILLS times (20) at random times. Prints each kill, and whether predictions, labels,
windows, incidents and decisions are equal in the end.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlops_kit.db.tables import PredictionRecord
from mlops_kit.project import loader
from tests import watched

DEFAULT_KILLS = 20
UNTIL = "2024-02-28"
POLL_SECONDS = 0.002
MAX_DELAY_SECONDS = 0.2


def start_watch(project: loader.Project) -> subprocess.Popen[bytes]:
    """Start to watch the four weeks."""
    command = [sys.executable, "-m", "mlops_kit.cli", "watch", "--fast", "--until", UNTIL]
    command += ["--project", str(project.root)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def watch_to_the_end(project: loader.Project) -> None:
    """Watch the four weeks without interruption."""
    process = start_watch(project)
    if process.wait() != 0:
        raise SystemExit(f"mlops watch ended with exit code {process.returncode}")


def count_predictions(project: loader.Project) -> int:
    """Count the predictions in the database."""
    return len(watched.list_records(project, PredictionRecord))


def kill_watch(project: loader.Project, predictions: int, delay: float) -> None:
    """Kill a watch some time after it has made a number of predictions, and print its state."""
    process = start_watch(project)
    while process.poll() is None and count_predictions(project) < predictions:
        time.sleep(POLL_SECONDS)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    was_killed = process.wait() == -signal.SIGKILL
    snapshot = watched.take_snapshot(project)
    print(
        f"{'killed' if was_killed else 'had ended'}: {len(snapshot['predictions'])} predictions, "
        f"{len(snapshot['labels'])} labels, {len(snapshot['windows'])} windows, "
        f"{len(snapshot['retrainings'])} decisions",
        flush=True,
    )


def main(kills: int) -> None:
    """Kill, compare, print."""
    rng = random.Random(0)  # noqa: S311 - not for cryptography
    with tempfile.TemporaryDirectory() as folder:
        original = watched.build_project(Path(folder) / "original", watched.YAML_WITHOUT_RETRAINING)
        copies = {}
        for name in ("uninterrupted", "killed"):
            copies[name] = loader.load_project(shutil.copytree(original.root, Path(folder) / name))
        watch_to_the_end(copies["uninterrupted"])
        all_predictions = count_predictions(copies["uninterrupted"])
        for predictions in sorted(rng.randrange(all_predictions) for _ in range(kills)):
            # Anywhere in what follows: labels, a window, a decision, the next day.
            kill_watch(copies["killed"], predictions, rng.uniform(0, MAX_DELAY_SECONDS))
        watch_to_the_end(copies["killed"])
        killed = watched.take_snapshot(copies["killed"])
        is_equal = killed == watched.take_snapshot(copies["uninterrupted"])
    comparison = "the same as" if is_equal else "NOT the same as"
    print(f"after {kills} kills {comparison} an uninterrupted watch")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_KILLS)
