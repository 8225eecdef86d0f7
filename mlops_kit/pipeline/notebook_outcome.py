"""Notebook outcome."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from typing import Any

from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from mlops_kit.pipeline.kernel_watchdog import INTERRUPT_GRACE_SECONDS, KernelWatchdog
from mlops_kit.pipeline.notebook_client import MlopsNotebookClient
from mlops_kit.pipeline.process_memory import count_oom_kills, format_memory, get_memory_limit

_ANSI_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_TRACEBACK_LINE = re.compile(r"Cell In\[\d+\], line (\d+)")


@dataclass(frozen=True)
class NotebookOutcome:
    """How a notebook ended.

    ``status`` is one of succeeded, failed, killed, timed out, interrupted, stopped early; ``detail`` says
    more of it (``signal 9, likely out of memory, peak 3.1 GiB``). ``cell`` counts code cells from one,
    ``line`` the lines of that cell; ``peak`` is resident memory in bytes.
    """

    status: str
    type: str = ""
    message: str = ""
    detail: str = ""
    cell: int | None = None
    line: int | None = None
    source: str = ""
    traceback: list[str] = field(default_factory=list)
    peak: int = 0

    @property
    def status_text(self) -> str:
        """The status as it is shown: ``killed (signal 9, …)``."""
        return f"{self.status} ({self.detail})" if self.detail else self.status


class NotebookExecutionError(PapermillExecutionError):  # type: ignore[misc]
    """A notebook did not end well; ``end`` says how."""

    def __init__(self, index: int, count: int | None, end: NotebookOutcome) -> None:
        super().__init__(index, count, end.source, end.type, end.message, end.traceback)
        self.outcome = end

    def __str__(self) -> str:
        told = super().__str__() if self.outcome.traceback else ""
        return f"{told}{self.outcome.status_text}{f' in cell {self.outcome.cell}' if self.outcome.cell else ''}: {': '.join(filter(None, (self.outcome.type, self.outcome.message)))}"


def determine_outcome(
    nb: Any, made: MlopsNotebookClient | None, watch: KernelWatchdog, failure: BaseException | None
) -> tuple[NotebookOutcome, int]:
    """How a notebook ended, and the index of the cell at which it did."""
    running = [
        i for i, c in enumerate(nb.cells) if c.metadata.papermill["status"] in {"running", "failed"}
    ]
    index = running[-1] if running else 0
    cell = nb.cells[index]
    if failure is None:
        return NotebookOutcome("succeeded", peak=watch.peak), index
    number = sum(c.cell_type == "code" for c in nb.cells[: index + 1])
    place: dict[str, Any] = {
        "cell": number if running else None,
        "source": cell.source if running else "",
        "peak": watch.peak,
    }
    if isinstance(failure, CellExecutionError):
        traceback = [
            line
            for o in cell.get("outputs", [])
            if o.output_type == "error"
            for line in o.traceback
        ] or failure.traceback.splitlines()
        found = [
            int(n) for n in _TRACEBACK_LINE.findall(_ANSI_ESCAPE.sub("", "\n".join(traceback)))
        ]
        place |= {
            "line": found[0] if found else None,
            "traceback": traceback[-6:],
            "type": failure.ename,
        }
    if watch.status:
        said = {
            "killed": "the kernel was killed",
            "timed out": "it took too long and was interrupted",
            "interrupted": "the run was told to stop",
        }[watch.status]
        return NotebookOutcome(
            watch.status,
            message=said,
            detail=watch.detail,
            **{"type": watch.status, **place} if "type" not in place else place,
        ), index
    if isinstance(failure, KeyboardInterrupt):
        return NotebookOutcome(
            "interrupted", type="KeyboardInterrupt", message="the run was told to stop", **place
        ), index
    if isinstance(failure, CellExecutionError):
        if failure.ename == "SystemExit" and failure.evalue in {"", "0", "None"}:
            return NotebookOutcome(
                "stopped early",
                message=f"sys.exit({failure.evalue}) in cell {number}: what comes after it was not run",
                **place,
            ), index
        return NotebookOutcome("failed", message=failure.evalue, **place), index
    code = watch.child.wait(INTERRUPT_GRACE_SECONDS) if watch.child is not None else None
    if isinstance(failure, DeadKernelError) and code is not None and code < 0:
        likely = (
            ", likely out of memory"
            if code == -signal.SIGKILL
            and (
                count_oom_kills() > watch.oom_kills_before or watch.peak > 0.5 * get_memory_limit()
            )
            else ""
        )
        return NotebookOutcome(
            "killed",
            type="DeadKernelError",
            message="the kernel died",
            detail=f"signal {-code}{likely}, peak {format_memory(watch.peak)}",
            **place,
        ), index
    if isinstance(failure, DeadKernelError):
        return NotebookOutcome(
            "failed",
            type="DeadKernelError",
            message=f"the kernel ended by itself with exit code {code}",
            **place,
        ), index
    began = any(c.metadata.papermill["status"] != "pending" for c in nb.cells)
    return NotebookOutcome(
        "failed",
        type=type(failure).__name__,
        message=str(failure)
        if began
        else f"the kernel did not start: {str(failure).splitlines()[0] if str(failure) else type(failure).__name__}",
        **place,
    ), index
