"""Kill a pipeline at random times and check that the next run completes it as an unbroken one does.

    python bench/killed_chain.py [KILLS]

Runs four small notebooks, two of them at once, without a break. Then, KILLS times (40), kills a
fresh ``mlops run`` with its process group (SIGKILL) at a random time within the duration of an
unbroken run, and runs it again. Prints how far each run got and what is wrong: a process or a lock
that remains, a false record, a damaged store, other artifacts.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from mlops_kit.pipeline import kernel_pool
from tests.pipeline import chains


def main(kills: int) -> None:
    """Kill runs, run them again, and print what is wrong."""
    generator = random.Random(0)  # noqa: S311 - a fixed sequence of times, not a secret
    kernel_pool.keep_fork_server = True
    with tempfile.TemporaryDirectory() as folder:
        home = chains.write_parallel_project(Path(folder))
        outputs = chains.read_outputs(chains.run_to_end(home))
        began = time.monotonic()
        chains.start_run(home, "--force").communicate()
        duration = time.monotonic() - began
        print(f"unbroken: {duration:.1f} s", flush=True)
        faulty_kills = 0
        for _ in range(kills):
            seconds = generator.uniform(0, duration)
            progress, faults = chains.kill_and_resume(home, outputs, seconds)
            faulty_kills += bool(faults)
            print(f"killed after {seconds:.1f} s: {progress}", flush=True)
            for fault in faults:
                print(f"  FAULT: {fault}", flush=True)
    print(f"{kills} kills, {faulty_kills} with faults")
    kernel_pool.keep_fork_server = False
    kernel_pool.release_fork_server()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
