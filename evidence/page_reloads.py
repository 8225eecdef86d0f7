"""Load both dashboards again and again while a watch writes, and look for contradictions.

    python evidence/page_reloads.py               # 200 loads during passes of a watch
    python evidence/page_reloads.py --loads 20    # fewer

A small synthetic project is watched for four weeks by ``mlops watch --fast`` in a process of its
own, while a real server of the dashboards serves both pages over HTTP. Every page that was asked
for and answered while the watch ran is compared with itself: state, sentence, counts, tables and
times (``find_contradictions`` in ``tests/support/page_numbers.py``). When the watch is done, it
starts again on a new copy of the project, until there are enough loads.

Exit codes: 0 if no page contradicts itself, 1 if one does.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from stored_outcomes import ROOT

sys.path.insert(0, str(ROOT))

from tests.support import watched_project as watched
from tests.support.page_numbers import find_contradictions

WORK_FOLDER = ROOT / "build" / "page_reloads"
UNTIL = "2024-02-28"
DEFAULT_LOADS = 200
SETTINGS = f"""{watched.YAML_WITHOUT_RETRAINING}
dashboard: {{port: 0, ready_kernels: 1}}
"""
COMMAND = (sys.executable, "-m", "mlops_kit.cli")


@contextmanager
def serve_dashboards(home: Path) -> Iterator[str]:
    """Start the server of the dashboards; yield its address."""
    command = [*COMMAND, "dashboard", "--no-browser", "--project", str(home)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                if line.strip().endswith("/review"):
                    yield line.strip().removesuffix("/review")
                    break
        finally:
            process.terminate()


def load_page(address: str) -> str:
    """Load a page; empty if the server had none ready."""
    answer = httpx.get(address, timeout=120)
    if answer.status_code != httpx.codes.OK:
        print(f"  {address}: {answer.status_code}", flush=True)
        return ""
    return answer.text


def run_round(number: int, max_loads: int) -> tuple[int, set[str], list[str]]:
    """Load pages during one watch; return their number, the states seen, and contradictions."""
    home = WORK_FOLDER / f"round-{number}"
    shutil.rmtree(home, ignore_errors=True)
    WORK_FOLDER.mkdir(parents=True, exist_ok=True)
    watched.build_project(home, SETTINGS)
    command = [*COMMAND, "watch", "--fast", "--until", UNTIL, "--project", str(home)]
    loads = 0
    ends: set[str] = set()
    problems: list[str] = []
    with serve_dashboards(home) as address:
        watch = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while loads < max_loads and watch.poll() is None:
                page = load_page(f"{address}/{('monitoring', 'review')[loads % 2]}")
                if not page:
                    continue
                loads += 1
                found = find_contradictions(page) if "<b>Monitoring</b>" in page else []
                if "could not be built" in page or "cannot be shown" in page:
                    found = [*found, "a part of the page could not be built"]
                problems += found
                end = re.search(r"data until (.+?) ·", page)
                if end:
                    ends.add(end[1])
                for problem in found:
                    print(f"  load {loads}: {problem}", flush=True)
        finally:
            watch.kill()
            watch.wait()
    return loads, ends, problems


def main() -> int:
    """Load pages until there are enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", type=int, default=DEFAULT_LOADS)
    max_loads = parser.parse_args().loads
    loads = 0
    number = 0
    problem_count = 0
    while loads < max_loads:
        round_loads, ends, problems = run_round(number, max_loads - loads)
        loads += round_loads
        problem_count += len(problems)
        print(
            f"round {number}: {round_loads} loads, data until {len(ends)} different days, "
            f"{len(problems)} contradictions",
            flush=True,
        )
        number += 1
    print(f"{loads} loads, {problem_count} contradictions")
    return 1 if problem_count else 0


if __name__ == "__main__":
    sys.exit(main())
