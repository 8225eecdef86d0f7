"""Executes a notebook in a kernel from the kernel pool, with limits on time and memory.

Whatever happens to the kernel, the saved notebook shows it: its metadata hold the outcome under
``mlops`` (``NotebookOutcome``), the status of each cell says whether it was run, and a failure is
raised as papermill's own error with the same message.

Papermill calls ``execute_notebook`` through ``papermill_engine``. Options that begin with
``kernel_`` come from the pipeline (``KernelOptions``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES
from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.pipeline import kernel_pool, signals
from mlops_kit.pipeline.kernel_watchdog import INTERRUPT_GRACE_SECONDS, KernelLimits, KernelWatchdog
from mlops_kit.pipeline.notebook_client import MlopsNotebookClient
from mlops_kit.pipeline.notebook_outcome import (
    NotebookExecutionError,
    NotebookOutcome,
    determine_outcome,
)
from mlops_kit.pipeline.notebook_recorder import NotebookRecorder
from mlops_kit.project.run_manifest import StageStatus
from mlops_kit.project.secrets import scrub_text_values

with import_from_extra("train"):
    import nbformat
    from papermill.execute import ERROR_MARKER_TAG

_OUTPUT_TIMEOUT_SECONDS = 60  # how long outputs may arrive after the end of their cell
_OPTION_PREFIX = "kernel_"
_RECORDER_OPTIONS = ("progress_bar", "log_output", "autosave_cell_every")
_CLIENT_OPTIONS = ("stdout_file", "stderr_file", "log_output")


@dataclass(frozen=True)
class KernelOptions:
    """What the pipeline asks of an execution; each field is the option ``kernel_FIELD``.

    Attributes
    ----------
    target : str, optional
        Where the notebook is saved. Papermill writes its own output path once more at the end,
        not atomically, and so cannot be used for this.
    check : callable, optional
        Returns what is missing after all cells succeeded; empty if nothing is.
    progress : callable, optional
        Called before each code cell with its number and the number of code cells.
    used : callable, optional
        Called at the end with the dependencies that the kernel reported.
    scrub : callable, optional
        Replaces the values of secrets in a text.
    reserve : Path, optional
        A file to delete if the disk is full when the outcome has to be saved.
    limits : KernelLimits, optional
        Limits on time and memory.
    stop : threading.Event, optional
        Set when the run has to stop.
    env : dict, optional
        Environment of the kernel.
    cwd : str, optional
        Working directory of the kernel.
    log : str, optional
        File for the kernel's own standard error.
    plain : bool
        Start a new interpreter instead of forking from the fork server.
    """

    target: str | None = None
    check: Callable[[], str] | None = None
    progress: Callable[[int, int], None] | None = None
    used: Callable[[dict[str, Any] | None], object] | None = None
    scrub: Callable[[str], str] | None = None
    reserve: Path | None = None
    limits: KernelLimits | None = None
    stop: threading.Event | None = None
    env: dict[str, str] | None = None
    cwd: str | None = None
    log: str | None = None
    plain: bool = False

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> KernelOptions:
        """Select the options that begin with ``kernel_``."""
        names = [field.name for field in fields(cls)]
        return cls(
            **{
                name: options[_OPTION_PREFIX + name]
                for name in names
                if _OPTION_PREFIX + name in options
            }
        )


def execute_notebook(notebook: Any, options: Mapping[str, Any]) -> Any:
    """Execute a notebook and save it with its outcome.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        The notebook, with its parameters injected.
    options : mapping
        Papermill's options and those of ``KernelOptions``.

    Returns
    -------
    nbformat.NotebookNode
        The executed notebook.

    Raises
    ------
    NotebookExecutionError
        If it did not succeed.
    """
    kernel_options = KernelOptions.from_options(options)
    recorder = _create_recorder(notebook, options, kernel_options)
    # Before the first save: a run may be killed at any time, and its notebook has to say so then.
    notebook.metadata["mlops"] = {"status": StageStatus.RUNNING.value, "pid": os.getpid()}
    recorder.notebook_start()
    recorder.save(now=True)
    limits = kernel_options.limits or KernelLimits(
        cell_seconds=options.get("execution_timeout"),
        start_seconds=options.get("start_timeout") or 60,
    )
    watchdog = KernelWatchdog(limits, kernel_options.stop)
    error: BaseException | None = None
    with signals.interrupt_on_termination():
        try:
            _run_in_kernel(recorder, watchdog, options, kernel_options)
        except (Exception, KeyboardInterrupt) as raised:
            error = raised
        finally:
            watchdog.finished.set()
    outcome, index = determine_outcome(recorder.nb, watchdog, error)
    if error is None:
        outcome = _check_outputs(outcome, kernel_options)
    outcome = _scrub_outcome(outcome, recorder.scrub)
    recorder.record_outcome(outcome)
    if not outcome.has_succeeded:
        _insert_error_marker(recorder.nb, outcome, index)
    recorder.save(now=True)
    if not outcome.has_succeeded:
        execution_count = _find_execution_count(recorder.nb, index)
        raise NotebookExecutionError(index, execution_count, outcome) from error
    _hide_allowed_errors(recorder.nb)
    return recorder.nb


def _create_recorder(
    notebook: Any, options: Mapping[str, Any], kernel_options: KernelOptions
) -> NotebookRecorder:
    """Create the record in which the execution of a notebook is saved."""
    recorder = NotebookRecorder(
        notebook,
        output_path=kernel_options.target or options.get("output_path"),
        **{name: options[name] for name in _RECORDER_OPTIONS if name in options},
    )
    recorder.scrub = kernel_options.scrub or str
    recorder.reserve_file = kernel_options.reserve
    return recorder


def _check_outputs(outcome: NotebookOutcome, kernel_options: KernelOptions) -> NotebookOutcome:
    """Turn a success into a failure if the notebook did not write what it has to."""
    missing = kernel_options.check() if kernel_options.check is not None else ""
    if not missing:
        return outcome
    return replace(
        outcome, status=StageStatus.FAILED, type=RunFailedError.__name__, message=missing
    )


def _scrub_outcome(outcome: NotebookOutcome, scrub: Callable[[str], str]) -> NotebookOutcome:
    """Replace the values of secrets in the texts of an outcome."""
    values = scrub_text_values(asdict(outcome), scrub)
    values["status"] = outcome.status
    return NotebookOutcome(**values)


def _run_in_kernel(
    recorder: NotebookRecorder,
    watchdog: KernelWatchdog,
    options: Mapping[str, Any],
    kernel_options: KernelOptions,
) -> None:
    """Start a kernel, execute the cells, and end the kernel with all its processes."""
    folder = Path(tempfile.mkdtemp(prefix="mk-"))
    client = _create_client(recorder, watchdog, options, kernel_options, folder)
    recorder.client = client
    try:
        client.execute()
        if kernel_options.used is not None:
            kernel_options.used(client.used_dependencies)
    finally:
        if watchdog.child is not None:
            watchdog.child.kill()  # with all processes that its cells left running
            watchdog.child.wait(INTERRUPT_GRACE_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)


def _create_client(
    recorder: NotebookRecorder,
    watchdog: KernelWatchdog,
    options: Mapping[str, Any],
    kernel_options: KernelOptions,
    folder: Path,
) -> MlopsNotebookClient:
    """Create the client that executes the cells; ``folder`` holds the kernel's sockets."""
    log = kernel_options.log
    client = MlopsNotebookClient(
        recorder,
        km=kernel_pool.create_kernel_manager(folder, log or "/dev/stderr", kernel_options.plain),
        startup_timeout=watchdog.limits.start_seconds,
        kernel_name="python3",
        shutdown_kernel="immediate",
        iopub_timeout=_OUTPUT_TIMEOUT_SECONDS,
        **{name: options[name] for name in _CLIENT_OPTIONS if name in options},
    )
    client.watchdog = watchdog
    client.report_cell = kernel_options.progress
    client.log_path = Path(log) if log else None
    client.owns_km = True
    start_new_kernel = client.start_new_kernel

    def start_watched_kernel(**_: Any) -> None:
        start_new_kernel(
            env=kernel_options.env or {**DEFAULT_ENVIRONMENT_VARIABLES, **os.environ},
            cwd=kernel_options.cwd or str(Path.cwd()),
        )
        watchdog.child = client.km.provisioner.process
        watchdog.thread.start()

    # nbclient passes env and cwd on to the kernel's process, papermill's own engine does not.
    client.start_new_kernel = start_watched_kernel
    return client


def _find_execution_count(notebook: Any, index: int) -> int | None:
    """Return the execution count of the cell that failed; a marker may stand before it."""
    for cell in notebook.cells[index : index + 2]:
        if cell.cell_type == "code":
            count: int | None = cell.get("execution_count")
            return count
    return None


def _insert_error_marker(notebook: Any, outcome: NotebookOutcome, index: int) -> None:
    """Insert a cell before the one that failed that says how; a later run removes it again."""
    location = " in the cell below" if outcome.cell else ""
    status = outcome.status_text[0].upper() + outcome.status_text[1:]
    cell = nbformat.v4.new_markdown_cell(f"**▲ {status}**{location}. {outcome.error_text}")
    cell.metadata.update(
        tags=[ERROR_MARKER_TAG],
        papermill={
            "status": "completed",
            "exception": None,
            "start_time": None,
            "end_time": None,
            "duration": None,
        },
    )
    notebook.cells.insert(index, cell)


def _hide_allowed_errors(notebook: Any) -> None:
    """Turn errors of cells that were allowed to raise into text.

    Papermill raises for every error output, whatever tags its cell has.
    """
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                text = "\n".join(output.traceback)
                output.clear()
                output.update(
                    output_type="stream",
                    name="stderr",
                    text=text,
                )
