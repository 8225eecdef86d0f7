"""Papermill's engine of ours: whatever happens to a kernel, the saved notebook tells it.

``papermill --engine mlops NOTEBOOK OUT`` uses it by itself (an entry point); the chain gives it the run's
limits. How a notebook ended stands in its metadata under ``mlops`` (an ``End``), each cell's status says
what was run and what was not, and a failure is raised as papermill's own error with the same words.

To add a limit: a field of ``Limits``, and what goes beyond it in ``Watch.breach``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nbformat
from papermill.engines import NBClientEngine
from papermill.execute import ERROR_MARKER_TAG

from mlops_kit.core.environment import DEFAULT_ENVIRONMENT_VARIABLES
from mlops_kit.pipeline import kernel_pool, papermill_engine, signals
from mlops_kit.pipeline.kernel_watchdog import INTERRUPT_GRACE_SECONDS, KernelLimits, KernelWatchdog
from mlops_kit.pipeline.notebook_client import MlopsNotebookClient
from mlops_kit.pipeline.notebook_outcome import (
    NotebookExecutionError,
    NotebookOutcome,
    determine_outcome,
)
from mlops_kit.pipeline.notebook_recorder import NotebookRecorder
from mlops_kit.project.secrets import scrub_text_values

_OUTPUT_TIMEOUT_SECONDS = 60  # seconds that outputs may lag behind the end of their cell


class NotebookEngine(papermill_engine.PapermillEngine, NBClientEngine):  # type: ignore[misc]
    """Runs a notebook in a kernel of ours; what begins with ``kernel_`` comes from the chain."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: Any = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        kernel_target: str | None = None,
        kernel_check: Callable[[], str] | None = None,
        **given: Any,
    ) -> Any:
        """Run the notebook, and save it as what became of it.

        ``kernel_check`` says what is missing when all cells went well; ``kernel_target`` is saved to by
        nobody else (papermill writes over its own output path once more, and not atomically).

        Raises
        ------
        Stopped
            If it did not end well.
        """
        book = NotebookRecorder(
            nb,
            output_path=kernel_target or output_path,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        book.scrub, book.reserve_file = (
            given.pop("kernel_scrub", None) or str,
            given.pop("kernel_reserve", None),
        )
        book.notebook_start()
        nb.metadata["mlops"] = {"status": "running", "pid": os.getpid()}
        book.save(now=True)
        watch = KernelWatchdog(
            given.pop("kernel_limits", None)
            or KernelLimits(
                cell_seconds=given.get("execution_timeout"),
                start_seconds=given.get("start_timeout") or 60,
            ),
            given.pop("kernel_stop", None),
        )
        made, failure = None, None
        with signals.interrupt_on_termination():
            try:
                made = cls.run_in_kernel(book, watch, {**given, "log_output": log_output})
            except (Exception, KeyboardInterrupt) as error:
                failure = error
            finally:
                watch.finished.set()
        end, index = determine_outcome(book.nb, made, watch, failure)
        if failure is None and kernel_check is not None and (missing := kernel_check()):
            end = replace(end, status="failed", type="RunFailed", message=missing)
        end = NotebookOutcome(**scrub_text_values(asdict(end), book.scrub))
        book.record_outcome(end)
        if end.status != "succeeded":
            _insert_error_marker(book.nb, end, index)
        book.save(now=True)
        if end.status != "succeeded":
            raise NotebookExecutionError(
                index,
                next(
                    (
                        c.get("execution_count")
                        for c in book.nb.cells[index : index + 2]
                        if c.cell_type == "code"
                    ),
                    None,
                ),
                end,
            ) from failure
        _hide_allowed_errors(book.nb)
        return book.nb

    @classmethod
    def run_in_kernel(
        cls, book: NotebookRecorder, watch: KernelWatchdog, given: dict[str, Any]
    ) -> MlopsNotebookClient:
        """Start the kernel, run the cells, take everything down again."""
        log = given.get("kernel_log")
        folder = Path(tempfile.mkdtemp(prefix="mk-"))
        kept = {k: v for k, v in given.items() if k in {"stdout_file", "stderr_file", "log_output"}}
        client = MlopsNotebookClient(
            book,
            km=kernel_pool.create_kernel_manager(
                folder, log or "/dev/stderr", given.get("kernel_plain", False)
            ),
            startup_timeout=watch.limits.start_seconds,
            kernel_name="python3",
            shutdown_kernel="immediate",
            iopub_timeout=_OUTPUT_TIMEOUT_SECONDS,
            **kept,
        )
        client.watchdog, client.report_cell = watch, given.get("kernel_progress")
        client.log_path = Path(log) if log else None
        client.owns_km = True
        begin = client.start_new_kernel

        def start(**_: Any) -> None:
            begin(
                env=given.get("kernel_env") or {**DEFAULT_ENVIRONMENT_VARIABLES, **os.environ},
                cwd=given.get("kernel_cwd") or os.getcwd(),
            )
            watch.child = client.km.provisioner.process
            watch.thread.start()

        client.start_new_kernel = start  # nbclient hands these on to the kernel's process; papermill's own engine has no way to
        book.client = client
        try:
            client.execute()
            if "kernel_used" in given:
                given["kernel_used"](client.used_dependencies)
            return client
        finally:
            if watch.child is not None:
                watch.child.kill()  # with all that its cells have left behind
                watch.child.wait(INTERRUPT_GRACE_SECONDS)
            shutil.rmtree(folder, ignore_errors=True)


def _insert_error_marker(nb: Any, end: NotebookOutcome, index: int) -> None:
    """Say before the cell at which a notebook ended how it ended; a later run takes that out again."""
    where = " in the cell below" if end.cell else ""
    cell = nbformat.v4.new_markdown_cell(
        f"**▲ {end.status_text[0].upper()}{end.status_text[1:]}**{where}. {': '.join(filter(None, (end.type, end.message)))}"
    )
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
    nb.cells.insert(index, cell)


def _hide_allowed_errors(nb: Any) -> None:
    """Let papermill see no failure in a cell that was allowed to raise: it goes by outputs, not by tags."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                text = "\n".join(output.traceback)
                output.clear()
                output.update(output_type="stream", name="stderr", text=text)
