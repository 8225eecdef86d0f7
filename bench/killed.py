"""A watch that is killed at random moments ends where an unbroken one does.

    python bench/killed.py [KILLS]

Lives four weeks of a small made-up table once without a break; then again, killed (SIGKILL) KILLS times
(20) at moments drawn over what an unbroken one does. Prints each death, and whether predictions,
labels, windows, incidents and decisions are equal in the end.
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

UNTIL = "2024-02-28"


def command(project: loader.Project) -> list[str]:
    """The watch of four weeks."""
    return [
        sys.executable,
        "-m",
        "mlops_kit.cli",
        "watch",
        "--project",
        str(project.root),
        "--until",
        UNTIL,
        "--fast",
    ]


def main(kills: int) -> None:
    """Kill, compare, print."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        original = watched.build_project(Path(folder) / "original", watched.YAML_WITHOUT_RETRAINING)
        unbroken, broken = (
            loader.load_project(shutil.copytree(original.root, Path(folder) / name))
            for name in ("unbroken", "broken")
        )
        subprocess.run(
            command(unbroken), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        whole = len(watched.list_records(unbroken, PredictionRecord))
        for goal in sorted(draw.randrange(whole) for _ in range(kills)):
            process = subprocess.Popen(
                command(broken), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while (
                process.poll() is None
                and len(watched.list_records(broken, PredictionRecord)) < goal
            ):
                time.sleep(0.002)
            time.sleep(
                draw.uniform(0, 0.2)
            )  # anywhere in what follows: labels, a window, a decision, the next day
            process.send_signal(signal.SIGKILL)
            died = process.wait() == -signal.SIGKILL
            found = watched.take_snapshot(broken)
            print(
                f"{'killed' if died else 'it had ended'}: {len(found['predictions'])} predictions, {len(found['labels'])} labels, {len(found['windows'])} windows, {len(found['retrainings'])} decisions",
                flush=True,
            )
        subprocess.run(
            command(broken), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        print(
            f"after {kills} deaths {'the same as' if watched.take_snapshot(broken) == watched.take_snapshot(unbroken) else 'NOT the same as'} an unbroken watch"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
