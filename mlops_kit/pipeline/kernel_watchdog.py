"""Kernel watchdog."""

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

INTERRUPT_GRACE_SECONDS = (
    5.0  # seconds that a cell has to end after it was interrupted, before its group is killed
)


@dataclass
class KernelLimits:
    """What a stage may take; None is no limit. Seconds, and bytes of resident memory of its process group."""

    cell_seconds: float | None = None
    stage_seconds: float | None = None
    memory_bytes: int | None = None
    start_seconds: float = 60


class KernelWatchdog:
    """Looks after a kernel from a thread: memory, time, and whether the run was told to stop."""

    def __init__(self, limits: KernelLimits, stop: threading.Event | None = None) -> None:
        self.limits, self.stop = limits, stop or threading.Event()
        self.child: kernel_pool.ForkedProcess | None = None
        self.started_at, self.cell_started_at = time.monotonic(), 0.0
        self.peak, self.status, self.detail, self.oom_kills_before = 0, "", "", count_oom_kills()
        self.finished = threading.Event()
        self.thread = threading.Thread(target=self.monitor_kernel, daemon=True)

    def find_exceeded_limit(self) -> tuple[str, str]:
        """What the kernel has gone beyond: a status and what more there is to say; empty if all is well."""
        now, limits = time.monotonic(), self.limits
        if self.stop.is_set():
            return "interrupted", ""
        if limits.memory_bytes and self.peak > limits.memory_bytes:
            return (
                "killed",
                f"over its memory limit of {format_memory(limits.memory_bytes)}, peak {format_memory(self.peak)}",
            )
        if limits.stage_seconds and now - self.started_at > limits.stage_seconds:
            return "timed out", f"stage over {limits.stage_seconds:g} s"
        if (
            limits.cell_seconds
            and self.cell_started_at
            and now - self.cell_started_at > limits.cell_seconds
        ):
            return "timed out", f"cell over {limits.cell_seconds:g} s"
        return "", ""

    def monitor_kernel(self) -> None:
        """Interrupt what goes beyond its limits, and kill it if that does not help."""
        asked = 0.0
        while not self.finished.wait(0.05 if self.stop.is_set() else 0.2):
            if self.child is None:
                continue
            self.peak = max(self.peak, measure_resident_memory(self.child.pid))
            if not self.status:
                self.status, self.detail = self.find_exceeded_limit()
                if self.status:
                    asked = time.monotonic()
                    self.child.send_signal(
                        signal.SIGKILL if self.status == "killed" else signal.SIGINT
                    )
            elif time.monotonic() - asked > INTERRUPT_GRACE_SECONDS:
                self.child.kill()
