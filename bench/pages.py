"""Measure how long a visitor waits for the dashboards: the first sentence, and the whole page.

    python bench/pages.py PROJECT [VISITS]

Serves the project's dashboards and opens each page in Chromium, each time once the kernels stand
ready and the server is idle. Prints the medians in seconds, the largest, and the memory of a kernel
that waits. Another checkout is measured with its own Python: compare them on the same machine.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import psutil
from playwright.sync_api import Browser, sync_playwright

PAGES = ("monitoring", "review")
DEFAULT_VISITS = 12
CHROMIUM = "/usr/bin/chromium"
IDLE_CPU_SECONDS = 0.02  # of all kernels in a second
MAX_WAIT_SECONDS = 240


class Visit(NamedTuple):
    """Seconds from the request until something is there."""

    first_sentence: float
    whole_page: float


@contextmanager
def serve_dashboards(project: str) -> Iterator[tuple[psutil.Process, str]]:
    """Serve a project's dashboards; yield the process and the address."""
    command = [sys.executable, "-m", "mlops_kit.cli", "dashboard", "--no-browser", "--port", "0"]
    command += ["--project", project]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = ""
        for line in process.stdout:
            if line.strip().endswith("/review"):
                address = line.strip().removesuffix("/review")
                break
        yield psutil.Process(process.pid), address
        process.terminate()


def measure_cpu_seconds(server: psutil.Process) -> float:
    """Measure the seconds of processor time that the living kernels have used."""
    total = 0.0
    for kernel in server.children():
        times = kernel.cpu_times()
        total += times.user + times.system
    return total


def wait_until_idle(server: psutil.Process) -> None:
    """Wait until the kernels that replace used ones have started and built their page."""
    end = time.monotonic() + MAX_WAIT_SECONDS
    before = -1.0
    while time.monotonic() < end:
        time.sleep(1)
        try:
            used = measure_cpu_seconds(server)
        except psutil.NoSuchProcess:  # a used kernel has just ended
            used = -1.0
        if before > 0 and 0 <= used - before < IDLE_CPU_SECONDS:
            return
        before = used


def visit_page(browser: Browser, url: str) -> Visit:
    """Open a page in a window of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page: Any = context.new_page()
    start = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector("h1")
    first_sentence = time.perf_counter() - start
    page.wait_for_load_state("load")
    whole_page = time.perf_counter() - start
    context.close()
    return Visit(first_sentence, whole_page)


def format_times(times: list[float]) -> str:
    """Format the median and the largest."""
    return f"{median(times):.2f} (at most {max(times):.2f})"


def main(project: str, visit_count: int) -> None:
    """Measure and print."""
    visits: dict[str, list[Visit]] = {page: [] for page in PAGES}
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
        serve_dashboards(project) as (server, address),
    ):
        for _ in range(visit_count):
            for page, times in visits.items():
                wait_until_idle(server)
                times.append(visit_page(browser, f"{address}/{page}"))
        wait_until_idle(server)
        memory = [kernel.memory_full_info().pss / 2**20 for kernel in server.children()]
    for page, times in visits.items():
        first_sentence = format_times([visit.first_sentence for visit in times])
        whole_page = format_times([visit.whole_page for visit in times])
        print(f"{page}: first sentence {first_sentence} s, whole page {whole_page} s")
    print(f"a waiting kernel: {median(memory):.0f} MB (of {len(memory)})")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_VISITS)
