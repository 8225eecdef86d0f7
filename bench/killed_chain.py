"""Check that a chain killed at random times is completed to what an uninterrupted one makes.

    python bench/killed_chain.py [KILLS]

Runs four small notebooks, two of them in parallel, without interruption; then, KILLS times (40),
kills a new ``mlops run`` with its whole process group (SIGKILL) at a random time and runs it
again. Prints how far each run got and what is wrong: a process or a lock that remains, a wrong
record, a damaged store, other artifacts.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlops_kit.pipeline import kernel_pool
from tests.support import chains

DEFAULT_KILLS = 40


def main(kills: int) -> None:
    """Kill, run again, print."""
    rng = random.Random(0)  # noqa: S311 - not for cryptography
    kernel_pool.keep_fork_server = True
    with tempfile.TemporaryDirectory() as folder:
        project_folder = chains.write_parallel_project(Path(folder))
        expected = chains.read_outputs(chains.run_to_end(project_folder))
        start = time.monotonic()
        chains.start_run(project_folder, "--force").communicate()
        run_seconds = time.monotonic() - start
        print(f"uninterrupted: {run_seconds:.1f} s", flush=True)
        faulty_runs = 0
        for _ in range(kills):
            seconds = rng.uniform(0, run_seconds)
            progress, faults = chains.kill_and_resume(project_folder, expected, seconds)
            faulty_runs += bool(faults)
            print(f"killed after {seconds:.1f} s: {progress}", flush=True)
            for fault in faults:
                print(f"  WRONG: {fault}", flush=True)
    print(f"{kills} kills, {faulty_runs} with something wrong")
    kernel_pool.keep_fork_server = False
    kernel_pool.release_fork_server()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_KILLS)
