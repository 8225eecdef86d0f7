"""How the execution of a notebook ended: succeeded, or in which cell, why, and with which error.

The outcome is stored in the metadata of the executed notebook (key ``mlops``) and raised as
papermill's own error, with the same words.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mlops_kit.core.extras import import_from_extra
from mlops_kit.pipeline.kernel_watchdog import (
    INTERRUPT_GRACE_SECONDS,
    ExceededLimit,
    KernelWatchdog,
)
from mlops_kit.pipeline.process_memory import count_oom_kills, format_memory, get_memory_limit
from mlops_kit.project.run_manifest import StageStatus, describe_status

with import_from_extra("train"):
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

_ANSI_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_TRACEBACK_LINE = re.compile(r"Cell In\[\d+\], line (\d+)")
_MAX_TRACEBACK_ENTRIES = 6
_OOM_MEMORY_SHARE = 0.5  # a kernel killed above this share of the memory limit ran out of memory
_STOP_MESSAGE = "the run was told to stop"
_LIMIT_MESSAGES = {
    StageStatus.KILLED: "the kernel was killed",
    StageStatus.TIMED_OUT: "it took too long and was interrupted",
    StageStatus.INTERRUPTED: _STOP_MESSAGE,
}


@dataclass(frozen=True)
class NotebookOutcome:
    """How a notebook ended.

    Attributes
    ----------
    status : StageStatus
        One of succeeded, failed, killed, timed out, interrupted, stopped early.
    type : str
        Name of the error's class.
    message : str
        Message of the error.
    detail : str
        More about the status: ``signal 9, likely out of memory, peak 3.1 GiB``.
    cell : int or None
        Number of the code cell in which it ended, counted from one.
    line : int or None
        Line of that cell, counted from one.
    source : str
        Source of that cell.
    traceback : list of str
        Last entries of the traceback.
    peak : int
        Largest resident memory of the kernel's process group, in bytes.
    """

    status: StageStatus
    type: str = ""
    message: str = ""
    detail: str = ""
    cell: int | None = None
    line: int | None = None
    source: str = ""
    traceback: list[str] = field(default_factory=list)
    peak: int = 0

    @property
    def has_succeeded(self) -> bool:
        """Whether all cells ran without an error."""
        return self.status == StageStatus.SUCCEEDED

    @property
    def status_text(self) -> str:
        """The status with its detail: ``killed (signal 9, …)``."""
        return describe_status(self.status, self.detail)

    @property
    def error_text(self) -> str:
        """The error's class and message."""
        return ": ".join(filter(None, (self.type, self.message)))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> NotebookOutcome:
        """Read the outcome from the metadata of an executed notebook."""
        stored = dict(metadata["mlops"])
        stored["status"] = StageStatus(stored["status"])
        return cls(**stored)

    def to_metadata(self) -> dict[str, Any]:
        """Return the outcome as it is stored in the notebook: empty fields are left out."""
        values = asdict(self)
        values["status"] = self.status.value
        return {name: value for name, value in values.items() if value not in (None, "", [])}


class NotebookExecutionError(PapermillExecutionError):  # type: ignore[misc]
    """A notebook did not succeed; ``outcome`` says how it ended."""

    def __init__(
        self, cell_index: int, execution_count: int | None, outcome: NotebookOutcome
    ) -> None:
        super().__init__(
            cell_index,
            execution_count,
            outcome.source,
            outcome.type,
            outcome.message,
            outcome.traceback,
        )
        self.outcome = outcome

    def __str__(self) -> str:
        outcome = self.outcome
        traceback = super().__str__() if outcome.traceback else ""
        location = f" in cell {outcome.cell}" if outcome.cell else ""
        return f"{traceback}{outcome.status_text}{location}: {outcome.error_text}"


def determine_outcome(
    notebook: Any,
    watchdog: KernelWatchdog,
    error: BaseException | None,
) -> tuple[NotebookOutcome, int]:
    """Determine how a notebook ended from the error that its execution raised.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        The executed notebook, with papermill's status of each cell.
    watchdog : KernelWatchdog
        The watchdog of its kernel.
    error : BaseException or None
        What the execution raised.

    Returns
    -------
    outcome : NotebookOutcome
        How it ended.
    index : int
        Index of the cell in which it ended.
    """
    index = _find_last_cell(notebook)
    if error is None:
        outcome = NotebookOutcome(StageStatus.SUCCEEDED, peak=watchdog.peak_bytes)
        return outcome, index or 0
    failure = NotebookOutcome(StageStatus.FAILED, peak=watchdog.peak_bytes)
    outputs: list[Any] = []
    if index is not None:
        failure = replace(
            failure,
            cell=_count_code_cells(notebook, index),
            source=notebook.cells[index].source,
        )
        outputs = notebook.cells[index].get("outputs", [])
    if isinstance(error, CellExecutionError):
        failure = _add_error_location(failure, error, outputs)
    return _add_reason(failure, notebook, watchdog, error), index or 0


def _find_last_cell(notebook: Any) -> int | None:
    """Return the index of the cell that was running when the notebook ended, None without one."""
    last_index = None
    for index, cell in enumerate(notebook.cells):
        if cell.metadata.papermill["status"] in {"running", "failed"}:
            last_index = index
    return last_index


def _count_code_cells(notebook: Any, last_index: int) -> int:
    """Count the code cells up to an index."""
    return sum(cell.cell_type == "code" for cell in notebook.cells[: last_index + 1])


def _add_error_location(
    failure: NotebookOutcome,
    error: CellExecutionError,
    outputs: list[Any],
) -> NotebookOutcome:
    """Add class, traceback and line of an error that a cell raised."""
    traceback: list[str] = []
    for output in outputs:
        if output.output_type == "error":
            traceback += output.traceback
    if not traceback:
        traceback = error.traceback.splitlines()
    plain_text = _ANSI_ESCAPE.sub("", "\n".join(traceback))
    match = _TRACEBACK_LINE.search(plain_text)
    return replace(
        failure,
        type=error.ename,
        line=int(match[1]) if match else None,
        traceback=traceback[-_MAX_TRACEBACK_ENTRIES:],
    )


def _add_reason(
    failure: NotebookOutcome,
    notebook: Any,
    watchdog: KernelWatchdog,
    error: BaseException,
) -> NotebookOutcome:
    """Add status and message according to the kind of error."""
    if watchdog.exceeded is not None:
        return _add_exceeded_limit(failure, watchdog.exceeded)
    if isinstance(error, KeyboardInterrupt):
        return replace(
            failure,
            status=StageStatus.INTERRUPTED,
            type="KeyboardInterrupt",
            message=_STOP_MESSAGE,
        )
    if isinstance(error, CellExecutionError):
        return _add_cell_error(failure, error)
    if isinstance(error, DeadKernelError):
        return _add_kernel_death(failure, watchdog)
    return _add_other_error(failure, notebook, error)


def _add_exceeded_limit(failure: NotebookOutcome, exceeded: ExceededLimit) -> NotebookOutcome:
    """Add that the watchdog ended the notebook."""
    return replace(
        failure,
        status=exceeded.status,
        type=failure.type or str(exceeded.status),
        message=_LIMIT_MESSAGES[exceeded.status],
        detail=exceeded.detail,
    )


def _add_cell_error(failure: NotebookOutcome, error: CellExecutionError) -> NotebookOutcome:
    """Add the message of an error that a cell raised; ``sys.exit()`` is an early stop."""
    is_clean_exit = error.ename == "SystemExit" and error.evalue in {"", "0", "None"}
    if not is_clean_exit:
        return replace(failure, message=error.evalue)
    return replace(
        failure,
        status=StageStatus.STOPPED_EARLY,
        message=f"sys.exit({error.evalue}) in cell {failure.cell}: the cells after it were not run",
    )


def _add_kernel_death(failure: NotebookOutcome, watchdog: KernelWatchdog) -> NotebookOutcome:
    """Add that the kernel died, by a signal or with an exit code."""
    exit_code = None
    if watchdog.child is not None:
        exit_code = watchdog.child.wait(INTERRUPT_GRACE_SECONDS)
    if exit_code is None or exit_code >= 0:
        return replace(
            failure,
            type="DeadKernelError",
            message=f"the kernel ended by itself with exit code {exit_code}",
        )
    detail = f"signal {-exit_code}"
    if exit_code == -signal.SIGKILL and _is_out_of_memory(watchdog):
        detail += ", likely out of memory"
    return replace(
        failure,
        status=StageStatus.KILLED,
        type="DeadKernelError",
        message="the kernel died",
        detail=f"{detail}, peak {format_memory(watchdog.peak_bytes)}",
    )


def _is_out_of_memory(watchdog: KernelWatchdog) -> bool:
    """Return whether a kernel that was killed had likely run out of memory."""
    if count_oom_kills() > watchdog.oom_kills_before:
        return True
    return watchdog.peak_bytes > _OOM_MEMORY_SHARE * get_memory_limit()


def _add_other_error(
    failure: NotebookOutcome,
    notebook: Any,
    error: BaseException,
) -> NotebookOutcome:
    """Add an error that was raised outside the cells; most often a kernel did not start."""
    has_started = any(c.metadata.papermill["status"] != "pending" for c in notebook.cells)
    message = str(error)
    if not has_started:
        lines = message.splitlines()
        message = f"the kernel did not start: {lines[0] if lines else type(error).__name__}"
    return replace(
        failure,
        type=type(error).__name__,
        message=message,
    )
