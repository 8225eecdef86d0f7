"""The papermill engine: outputs that a notebook keeps, secrets, failures, papermill's command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import pytest
from nbformat.v4 import new_notebook

from mlops_kit.pipeline import (
    notebook_client,
    notebook_outcome,
    notebook_recorder,
    papermill_engine,
    process_memory,
)
from tests.support.chains import list_process_tree, make_cell

pytestmark = pytest.mark.usefixtures("shared_fork_server")


def execute_cells(
    folder: Path, *cells: Any, **options: Any
) -> tuple[nbformat.NotebookNode, notebook_outcome.NotebookOutcome | None]:
    """Execute cells as the pipeline does.

    Returns the saved notebook, and its outcome if it did not succeed.
    """
    papermill_engine.register_engine()
    notebook = new_notebook(cells=[make_cell(c) if isinstance(c, str) else c for c in cells])
    target = folder / "out.ipynb"
    outcome = None
    try:
        papermill.execute_notebook(
            notebook,
            None,
            engine_name=papermill_engine.ENGINE_NAME,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_target=str(target),
            kernel_log=str(folder / "log"),
            **options,
        )
    except notebook_outcome.NotebookExecutionError as error:
        outcome = error.outcome
    return nbformat.read(target, as_version=4), outcome


def list_outputs(notebook: nbformat.NotebookNode) -> list[list[tuple[str, str]]]:
    """Kind and text of each output, by code cell."""
    outputs_by_cell = []
    for code_cell in notebook.cells:
        if code_cell.cell_type != "code":
            continue
        outputs = []
        for output in code_cell.outputs:
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            outputs.append((output.get("name", output.output_type), text))
        outputs_by_cell.append(outputs)
    return outputs_by_cell


def list_code_cell_statuses(notebook: nbformat.NotebookNode) -> list[str]:
    """Papermill's status of each code cell."""
    return [c.metadata.papermill.status for c in notebook.cells if c.cell_type == "code"]


INTERLEAVED_OUTPUTS = """\
from IPython.display import display
import sys
print(1)
print(2, file=sys.stderr, flush=True)
print(3, flush=True)
display(4)
print(5)"""
CLEARED_OUTPUT = """\
from IPython.display import clear_output
print('gone', flush=True)
clear_output(wait=True)
print('here')"""


def test_every_saved_notebook_has_a_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_statuses = []
    write_notebook = notebook_recorder.NotebookRecorder._write_notebook

    def record_status(recorder: Any, is_required: bool) -> None:
        write_notebook(recorder, is_required)
        saved = nbformat.read(recorder.output_path, as_version=4)
        saved_statuses.append(saved.metadata.get("mlops", {}).get("status"))

    monkeypatch.setattr(notebook_recorder.NotebookRecorder, "_write_notebook", record_status)
    execute_cells(tmp_path, "1 + 1")
    assert saved_statuses[0] == "running"
    assert saved_statuses[-1] == "succeeded"
    assert set(saved_statuses) == {"running", "succeeded"}


def test_streams_are_joined_but_not_across_displayed_outputs(tmp_path: Path) -> None:
    notebook, outcome = execute_cells(
        tmp_path,
        "for i in range(3000): print(i, flush=True)",
        INTERLEAVED_OUTPUTS,
        CLEARED_OUTPUT,
    )
    many, mixed, cleared = list_outputs(notebook)
    assert outcome is None
    assert many == [("stdout", "".join(f"{i}\n" for i in range(3000)))]
    assert sorted(mixed[:2]) == [("stderr", "2\n"), ("stdout", "1\n3\n")]
    assert mixed[2:] == [("display_data", "4"), ("stdout", "5\n")]
    assert cleared == [("stdout", "here\n")]


def test_long_output_continues_in_a_file_and_long_lines_are_fast(tmp_path: Path) -> None:
    began = time.monotonic()
    notebook, outcome = execute_cells(
        tmp_path,
        "for i in range(4): print('x' * 400_000, end='', flush=True)",
        "print('short')",
    )
    [(name, text)], short = list_outputs(notebook)
    assert outcome is None
    kept_text = "x" * notebook_client.MAX_STREAM_CHARACTERS
    assert name == "stdout"
    assert text == f"{kept_text}\n… the output continues in log.cell0.txt\n"
    assert short == [("stdout", "short\n")]
    assert (tmp_path / "log.cell0.txt").read_text() == "x" * 600_000
    # Searching the whole text for carriage returns at each piece took minutes.
    assert time.monotonic() - began < 60


def test_only_the_last_frame_of_a_progress_bar_is_kept(tmp_path: Path) -> None:
    progress_bars = (
        "for i in range(300): print(f'\\r{i} of 299', end='', flush=True)\n"
        "print()\n"
        "for i in range(3): print(f'step {i}', end='\\r', flush=True)"
    )
    notebook, _ = execute_cells(tmp_path, progress_bars, "print('a\\r\\nb')")
    assert list_outputs(notebook) == [
        [("stdout", "299 of 299\nstep 2\r")],
        [("stdout", "a\nb\n")],
    ]


UPDATED_DISPLAY = """\
from IPython.display import display
handle = display({'a': p}, display_id=True)
handle.update({'b': p})"""


def test_secret_is_nowhere_in_the_notebook(tmp_path: Path) -> None:
    secret = "hunter22"
    notebook, outcome = execute_cells(
        tmp_path,
        make_cell("p: str = ''  # P.", "parameters"),
        "print(p[:4], end='', flush=True)\nprint(p[4:], flush=True)",
        UPDATED_DISPLAY,
        "p",
        "raise ValueError(p)",
        parameters={"p": secret},
        kernel_scrub=lambda text: text.replace(secret, "•••P•••"),
    )
    text = (tmp_path / "out.ipynb").read_text()
    assert secret not in text
    assert text.count("•••P•••") >= 6
    assert outcome is not None
    assert outcome.message == "•••P•••"
    assert list_outputs(notebook)[2:5] == [
        [("stdout", "•••P•••\n")],
        [("display_data", "{'b': '•••P•••'}")],
        [("execute_result", "'•••P•••'")],
    ]


def test_secret_may_be_a_word_of_the_notebook_format(tmp_path: Path) -> None:
    notebook, _ = execute_cells(
        tmp_path,
        "print('stream of text')",
        kernel_scrub=lambda text: text.replace("stream", "•").replace("text", "•"),
    )
    assert list_outputs(notebook) == [[("stdout", "• of •\n")]]


EXCEEDED_ADDRESS_SPACE = """\
import resource
held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 10**8,) * 2)
bytearray(10**9)"""
KILLED_BY_ITSELF = """\
import os, signal, time
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)"""


def test_exhausted_memory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, outcome = execute_cells(tmp_path, EXCEEDED_ADDRESS_SPACE)
    assert outcome is not None
    assert (outcome.status, outcome.type, outcome.line) == ("failed", "MemoryError", 4)
    # As if the machine had no more memory than that.
    monkeypatch.setattr(notebook_outcome, "get_memory_limit", lambda: 10**8)
    _, outcome = execute_cells(tmp_path, KILLED_BY_ITSELF)
    assert outcome is not None
    expected = "killed (signal 9, likely out of memory, peak "
    assert outcome.status_text.startswith(expected)


@pytest.mark.parametrize(
    ("group_limit", "is_machine_memory"),
    [("", True), ("max", True), ("9223372036854771712", True), ("1000000", False)],
)
def test_memory_limit_is_that_of_the_control_group_if_it_has_one(
    group_limit: str, is_machine_memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_memory, "_read_cgroup_file", lambda *_: group_limit)
    machine_memory = psutil.virtual_memory().total
    expected = machine_memory if is_machine_memory else 1_000_000
    assert process_memory.get_memory_limit() == expected
    assert process_memory.count_oom_kills() == 0


def test_oom_kills_are_read_from_the_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    events = "low 0\noom 3\noom_kill 2\noom_group_kill 0"
    monkeypatch.setattr(process_memory, "_read_cgroup_file", lambda *_: events)
    assert process_memory.count_oom_kills() == 2


@pytest.fixture
def small_control_group() -> Iterator[Path]:
    """The members file of a control group limited to 700 MB, where one may be created."""
    version_1_root = Path("/sys/fs/cgroup/memory")
    is_version_1 = version_1_root.is_dir()
    root = version_1_root if is_version_1 else version_1_root.parent
    group = root / f"mlops-kit-{os.getpid()}"
    limit_file = "memory.limit_in_bytes" if is_version_1 else "memory.max"
    try:
        group.mkdir()
        (group / limit_file).write_text("700000000")
    except OSError:
        pytest.skip("only root may create a control group")
    members = group / "cgroup.procs"
    yield members
    while members.read_text().strip():  # killed processes do not disappear at once
        time.sleep(0.02)
    group.rmdir()


def test_kernel_killed_by_the_system_for_memory_is_reported(
    tmp_path: Path, small_control_group: Path
) -> None:
    cells = ["print('here', flush=True)", "held = b'x' * 2_000_000_000", "pass"]
    nbformat.write(new_notebook(cells=[make_cell(c) for c in cells]), tmp_path / "in.ipynb")
    join_group_and_run = (
        f"open({str(small_control_group)!r}, 'w').write('0'); "
        "from papermill.cli import papermill; papermill()"
    )
    options = ["--engine", "mlops", "--no-progress-bar", "in.ipynb", "out.ipynb"]
    done = subprocess.run(
        [sys.executable, "-c", join_group_and_run, *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    notebook = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert done.returncode == 1
    assert "killed (signal 9, likely out of memory, peak " in done.stderr
    assert notebook.metadata.mlops.detail.startswith("signal 9, likely out of memory")
    assert list_outputs(notebook)[0] == [("stdout", "here\n")]
    assert list_code_cell_statuses(notebook) == ["completed", "failed", "pending"]


def test_output_before_the_kernel_dies_is_kept(tmp_path: Path) -> None:
    notebook, outcome = execute_cells(
        tmp_path,
        "import os\n"
        "for i in range(50): print(i, flush=True)\n"
        "import time; time.sleep(0.2)\n"
        "os._exit(1)",
    )
    assert outcome is not None
    assert list_outputs(notebook) == [[("stdout", "".join(f"{i}\n" for i in range(50)))]]


WAITING_WITH_A_CHILD = """\
import subprocess, time
from pathlib import Path
subprocess.Popen(['sleep', '602'], start_new_session=True)
Path('up').touch()
time.sleep(60)"""
# How the notebook fails, and what papermill's command prints.
FAILURES = {
    "exception": ("1 / 0", "failed in cell 4: ZeroDivisionError: division by zero"),
    "killed": ("import os\nos.kill(os.getpid(), 9)", "killed (signal 9, peak "),
    "terminated": (WAITING_WITH_A_CHILD, "interrupted in cell 4: "),
}
NOTEBOOK_STATUSES = {"exception": "failed", "killed": "killed", "terminated": "interrupted"}


def start_papermill(folder: Path, name: str, code: str) -> subprocess.Popen[str]:
    """Start papermill's command on a notebook that was saved with another machine's kernel."""
    kernelspec = {
        "name": "kernel-of-another-machine",
        "language": "python",
        "display_name": "Theirs",
    }
    cells = [
        make_cell("seed: int = 0  # Seed.", "parameters"),
        make_cell("pass"),
        make_cell(code),
        make_cell("pass"),
    ]
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
    nbformat.write(notebook, folder / f"{name}.ipynb")
    options = ["--engine", "mlops", "--no-progress-bar", "-p", "seed", "7"]
    return subprocess.Popen(
        [sys.executable, "-m", "papermill", f"{name}.ipynb", f"{name}-out.ipynb", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_papermill_command_reports_failures_too(tmp_path: Path) -> None:
    processes = {
        name: start_papermill(tmp_path, name, code) for name, (code, _) in FAILURES.items()
    }
    terminated = processes["terminated"]
    while not (tmp_path / "up").exists():
        assert terminated.poll() is None, terminated.communicate()
        time.sleep(0.05)
    descendants = list_process_tree(terminated.pid)
    terminated.send_signal(signal.SIGTERM)
    for name, (_, expected) in FAILURES.items():
        printed = processes[name].communicate(timeout=120)[0]
        notebook = nbformat.read(tmp_path / f"{name}-out.ipynb", as_version=4)
        assert processes[name].returncode == 1
        assert expected in printed, printed
        assert list_code_cell_statuses(notebook) == [*["completed"] * 3, "failed", "pending"]
        assert notebook.metadata.mlops.status == NOTEBOOK_STATUSES[name]
    remaining = [p for p in descendants if p.is_running() and p.status() != "zombie"]
    assert remaining == []
