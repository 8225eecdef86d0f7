"""How the outcome of a notebook follows from the error that its execution raised."""

from __future__ import annotations

from typing import Any

import pytest
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mlops_kit.pipeline import notebook_outcome
from mlops_kit.pipeline.kernel_pool import ForkedProcess
from mlops_kit.pipeline.kernel_watchdog import ExceededLimit, KernelLimits, KernelWatchdog
from mlops_kit.pipeline.notebook_outcome import NotebookOutcome, determine_outcome
from mlops_kit.project.run_manifest import StageStatus


def build_notebook(statuses: list[str]) -> Any:
    """A notebook with a title and a code cell per status."""
    cells = [new_markdown_cell("# Title")]
    cells += [new_code_cell(f"x = {number}") for number in range(1, len(statuses) + 1)]
    for cell, status in zip(cells, ["completed", *statuses], strict=True):
        cell.metadata["papermill"] = {"status": status}
    return new_notebook(cells=cells)


def build_cell_error(name: str, value: str) -> CellExecutionError:
    return CellExecutionError("Cell In[2], line 7", name, value)


@pytest.fixture
def watchdog() -> KernelWatchdog:
    return KernelWatchdog(KernelLimits())


def test_notebook_without_an_error_has_succeeded(watchdog: KernelWatchdog) -> None:
    outcome, _ = determine_outcome(build_notebook(["completed"] * 2), watchdog, None)
    assert outcome.has_succeeded
    assert outcome.cell is None


def test_error_of_a_cell_has_cell_line_and_source(watchdog: KernelWatchdog) -> None:
    notebook = build_notebook(["completed", "failed", "pending"])
    outcome, index = determine_outcome(notebook, watchdog, build_cell_error("KeyError", "'a'"))
    assert (outcome.status, outcome.type, outcome.message) == ("failed", "KeyError", "'a'")
    assert (outcome.cell, outcome.line, outcome.source, index) == (2, 7, "x = 2", 2)
    assert outcome.error_text == "KeyError: 'a'"


def test_line_of_an_error_is_read_from_the_colored_traceback(watchdog: KernelWatchdog) -> None:
    notebook = build_notebook(["failed"])
    colored = "\x1b[36mCell\x1b[39m \x1b[32mIn[1]\x1b[39m, line 4"
    traceback = [*map(str, range(8)), colored]
    output = new_output("error", ename="KeyError", evalue="'a'", traceback=traceback)
    notebook.cells[1].outputs = [output]
    outcome, _ = determine_outcome(notebook, watchdog, build_cell_error("KeyError", "'a'"))
    assert outcome.line == 4
    assert outcome.traceback == traceback[-6:]


@pytest.mark.parametrize(
    ("value", "status"), [("0", "stopped early"), ("", "stopped early"), ("3", "failed")]
)
def test_exit_of_a_cell_is_an_early_stop_only_without_a_code(
    value: str, status: str, watchdog: KernelWatchdog
) -> None:
    notebook = build_notebook(["failed", "pending"])
    outcome, _ = determine_outcome(notebook, watchdog, build_cell_error("SystemExit", value))
    assert outcome.status == status


def test_exceeded_limit_explains_the_interrupted_cell(watchdog: KernelWatchdog) -> None:
    watchdog.exceeded = ExceededLimit(StageStatus.TIMED_OUT, "cell over 5 s")
    notebook = build_notebook(["failed"])
    error = build_cell_error("KeyboardInterrupt", "")
    outcome, _ = determine_outcome(notebook, watchdog, error)
    assert outcome.status_text == "timed out (cell over 5 s)"
    assert (outcome.type, outcome.line) == ("KeyboardInterrupt", 7)


def test_interrupted_run_is_reported(watchdog: KernelWatchdog) -> None:
    outcome, _ = determine_outcome(build_notebook(["running"]), watchdog, KeyboardInterrupt())
    assert (outcome.status, outcome.cell) == ("interrupted", 1)


@pytest.mark.parametrize(
    ("exit_code", "memory_limit", "status_text", "message"),
    [
        (3, 10**9, "failed", "the kernel ended by itself with exit code 3"),
        (-15, 10**9, "killed (signal 15, peak 600 MiB)", "the kernel died"),
        (-9, 10**12, "killed (signal 9, peak 600 MiB)", "the kernel died"),
        (
            -9,
            10**9,
            "killed (signal 9, likely out of memory, peak 600 MiB)",
            "the kernel died",
        ),
    ],
)
def test_dead_kernel_is_explained_by_exit_code_and_memory(
    exit_code: int,
    memory_limit: int,
    status_text: str,
    message: str,
    watchdog: KernelWatchdog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notebook_outcome, "get_memory_limit", lambda: memory_limit)
    watchdog.child = ForkedProcess(1)
    watchdog.child.record_exit(exit_code)
    watchdog.peak_bytes = 600 * 2**20
    error = DeadKernelError("Kernel died")
    outcome, _ = determine_outcome(build_notebook(["running"]), watchdog, error)
    assert (outcome.status_text, outcome.message) == (status_text, message)


def test_kernel_that_did_not_start_is_explained_in_one_line(watchdog: KernelWatchdog) -> None:
    notebook = build_notebook(["pending"])
    notebook.cells[0].metadata["papermill"]["status"] = "pending"
    outcome, index = determine_outcome(notebook, watchdog, RuntimeError("no reply\nand more"))
    assert outcome.message == "the kernel did not start: no reply"
    assert (outcome.cell, index) == (None, 0)


def test_outcome_is_restored_from_metadata() -> None:
    outcome = NotebookOutcome(StageStatus.TIMED_OUT, detail="cell over 5 s", cell=2)
    metadata = outcome.to_metadata()
    assert metadata == {"status": "timed out", "detail": "cell over 5 s", "cell": 2, "peak": 0}
    assert NotebookOutcome.from_metadata({"mlops": metadata}) == outcome
