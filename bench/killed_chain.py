"""A chain that is killed at random moments is run again to what an unbroken one makes.

    python bench/killed_chain.py [KILLS]

Runs four small notebooks, two of them at once, without a break; then, KILLS times (40), kills a fresh
``mlops run`` with its whole process group (SIGKILL) at a moment drawn over what an unbroken one takes, and
runs it again. Prints how far each had got and what is wrong: a process or a lock that is left, a
record that is not true, a damaged store, other artifacts.
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
    """Kill, run again, print."""
    draw = random.Random(0)
    kernel_pool.keep_fork_server = True
    with tempfile.TemporaryDirectory() as folder:
        home = chains.write_parallel_project(Path(folder))
        whole = chains.read_outputs(chains.run_to_end(home))
        begin = time.monotonic()
        chains.start_run(home, "--force").communicate()
        length = time.monotonic() - begin
        print(f"unbroken: {length:.1f} s", flush=True)
        wrong = 0
        for _ in range(kills):
            moment = draw.uniform(0, length)
            far, faults = chains.kill_and_resume(home, whole, moment)
            wrong += bool(faults)
            print(
                f"killed after {moment:.1f} s: {far}"
                + "".join(f"\n  NOT RIGHT: {fault}" for fault in faults),
                flush=True,
            )
    print(f"{kills} kills, {wrong} with something wrong")
    kernel_pool.keep_fork_server = False
    kernel_pool.release_fork_server()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
