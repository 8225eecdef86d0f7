"""The watchdog of a kernel: a thread that enforces its limits and obeys a request to stop.

To add a limit: a field of ``KernelLimits``, and its check in
``KernelWatchdog.find_exceeded_limit``.
"""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass

from mlops_kit.pipeline import kernel_pool
from mlops_kit.pipeline.process_memory import (
    count_oom_kills,
    format_memory,
    measure_resident_memory,
)
from mlops_kit.project.run_manifest import StageStatus

INTERRUPT_GRACE_SECONDS = 5.0  # how long an interrupted cell may take to end before it is killed
_CHECK_INTERVAL_SECONDS = 0.2
_STOPPING_CHECK_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True)
class KernelLimits:
    """Limits of a notebook's kernel; None is no limit.

    ``memory_bytes`` is the resident memory of its process group; ``start_seconds`` is how long the
    kernel may take to start.
    """

    cell_seconds: float | None = None
    stage_seconds: float | None = None
    memory_bytes: int | None = None
    start_seconds: float = 60


@dataclass(frozen=True)
class ExceededLimit:
    """Why the watchdog ends a notebook: the status it gets, and details about the limit."""

    status: StageStatus
    detail: str = ""


class KernelWatchdog:
    """Watches a kernel from a thread: its memory, its time, and whether the run was asked to stop.

    Parameters
    ----------
    limits : KernelLimits
        What the kernel may use.
    stop_event : threading.Event, optional
        Set when the run has to stop.

    Attributes
    ----------
    exceeded : ExceededLimit or None
        Why the kernel was interrupted or killed; None if it was not.
    peak_bytes : int
        Largest resident memory seen.
    """

    def __init__(self, limits: KernelLimits, stop_event: threading.Event | None = None) -> None:
        self.limits = limits
        self.stop_event = stop_event or threading.Event()
        self.child: kernel_pool.ForkedProcess | None = None
        self.exceeded: ExceededLimit | None = None
        self.peak_bytes = 0
        self.started_at = time.monotonic()
        self.cell_started_at = 0.0  # 0 while no cell runs
        self.oom_kills_before = count_oom_kills()
        self.finished = threading.Event()
        self.thread = threading.Thread(target=self.monitor_kernel, daemon=True)

    def find_exceeded_limit(self) -> ExceededLimit | None:
        """Return the limit that the kernel has exceeded, None if there is none."""
        limits = self.limits
        now = time.monotonic()
        if self.stop_event.is_set():
            return ExceededLimit(StageStatus.INTERRUPTED)
        if limits.memory_bytes and self.peak_bytes > limits.memory_bytes:
            limit = format_memory(limits.memory_bytes)
            peak = format_memory(self.peak_bytes)
            return ExceededLimit(
                StageStatus.KILLED, f"over its memory limit of {limit}, peak {peak}"
            )
        if limits.stage_seconds and now - self.started_at > limits.stage_seconds:
            return ExceededLimit(StageStatus.TIMED_OUT, f"stage over {limits.stage_seconds:g} s")
        is_cell_running = self.cell_started_at > 0
        if (
            limits.cell_seconds
            and is_cell_running
            and now - self.cell_started_at > limits.cell_seconds
        ):
            return ExceededLimit(StageStatus.TIMED_OUT, f"cell over {limits.cell_seconds:g} s")
        return None

    def monitor_kernel(self) -> None:
        """Interrupt the kernel when it exceeds a limit, and kill it if it does not end."""
        interrupted_at = 0.0
        while not self.finished.wait(self._get_check_interval()):
            if self.child is None:
                continue
            self.peak_bytes = max(self.peak_bytes, measure_resident_memory(self.child.pid))
            if self.exceeded is None:
                self.exceeded = self.find_exceeded_limit()
                if self.exceeded is not None:
                    interrupted_at = time.monotonic()
                    is_killed = self.exceeded.status == StageStatus.KILLED
                    self.child.send_signal(signal.SIGKILL if is_killed else signal.SIGINT)
            elif time.monotonic() - interrupted_at > INTERRUPT_GRACE_SECONDS:
                self.child.kill()

    def _get_check_interval(self) -> float:
        if self.stop_event.is_set():
            return _STOPPING_CHECK_INTERVAL_SECONDS
        return _CHECK_INTERVAL_SECONDS
