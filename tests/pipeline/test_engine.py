"""The engine by itself: what a notebook keeps of outputs, what it never shows, and the real ``papermill --engine mlops``."""

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

from mlops_kit.pipeline import notebook_client, notebook_outcome, papermill_engine, process_memory

from .chains import below, cell

pytestmark = pytest.mark.usefixtures("nursery")


def ran(
    folder: Path, *cells: Any, **given: Any
) -> tuple[nbformat.NotebookNode, notebook_outcome.NotebookOutcome | None]:
    """Run cells as the chain does; the notebook as it was saved, and how it ended if not well."""
    papermill_engine.register_engine()
    book, target, ended = (
        new_notebook(cells=[cell(c) if isinstance(c, str) else c for c in cells]),
        folder / "out.ipynb",
        None,
    )
    try:
        papermill.execute_notebook(
            book,
            None,
            engine_name=papermill_engine.ENGINE_NAME,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_target=str(target),
            kernel_log=str(folder / "log"),
            **given,
        )
    except notebook_outcome.NotebookExecutionError as stopped:
        ended = stopped.outcome
    return nbformat.read(target, as_version=4), ended


def outputs(book: nbformat.NotebookNode) -> list[list[tuple[str, str]]]:
    """Kind and text of each output, by code cell."""
    return [
        [
            (o.get("name", o.output_type), o.get("text") or o.get("data", {}).get("text/plain", ""))
            for o in c.outputs
        ]
        for c in book.cells
        if c.cell_type == "code"
    ]


def test_streams_are_joined_but_not_past_what_is_shown(tmp_path: Path) -> None:
    order = "from IPython.display import display\nimport sys\nprint(1)\nprint(2, file=sys.stderr, flush=True)\nprint(3, flush=True)\ndisplay(4)\nprint(5)"
    book, ended = ran(
        tmp_path,
        "for i in range(3000): print(i, flush=True)",
        order,
        "from IPython.display import clear_output\nprint('gone', flush=True)\nclear_output(wait=True)\nprint('here')",
    )
    many, mixed, cleared = outputs(book)
    assert ended is None
    assert many == [("stdout", "".join(f"{i}\n" for i in range(3000)))]
    assert sorted(mixed[:2]) == [("stderr", "2\n"), ("stdout", "1\n3\n")]
    assert mixed[2:] == [
        ("display_data", "4"),
        ("stdout", "5\n"),
    ]
    assert cleared == [("stdout", "here\n")]


def test_what_is_too_much_goes_on_in_a_file_and_a_long_line_costs_no_time(tmp_path: Path) -> None:
    begin = time.monotonic()
    book, ended = ran(
        tmp_path, "for i in range(4): print('x' * 400_000, end='', flush=True)", "print('short')"
    )
    [(name, text)], short = outputs(book)
    assert ended is None
    assert (name, text) == (
        "stdout",
        "x" * notebook_client.MAX_STREAM_CHARACTERS + "\n… the output goes on in log.cell0.txt\n",
    )
    assert short == [("stdout", "short\n")]
    assert (tmp_path / "log.cell0.txt").read_text() == "x" * 600_000
    assert time.monotonic() - begin < 60  # a pattern that looks for carriage returns took minutes


def test_of_a_progress_bar_the_last_frame_is_kept(tmp_path: Path) -> None:
    book, _ = ran(
        tmp_path,
        "for i in range(300): print(f'\\r{i} of 299', end='', flush=True)\nprint()\nfor i in range(3): print(f'step {i}', end='\\r', flush=True)",
        "print('a\\r\\nb')",
    )
    assert outputs(book) == [[("stdout", "299 of 299\nstep 2\r")], [("stdout", "a\nb\n")]]


def test_a_secret_is_nowhere_in_the_notebook(tmp_path: Path) -> None:
    secret = "hunter22"
    shown = "from IPython.display import display\nhandle = display({'a': p}, display_id=True)\nhandle.update({'b': p})"
    cells = [
        cell("p: str = ''  # P.", "parameters"),
        "print(p[:4], end='', flush=True)\nprint(p[4:], flush=True)",
        shown,
        "p",
        "raise ValueError(p)",
    ]
    book, ended = ran(
        tmp_path,
        *cells,
        parameters={"p": secret},
        kernel_scrub=lambda text: text.replace(secret, "•••P•••"),
    )
    text = (tmp_path / "out.ipynb").read_text()
    assert secret not in text
    assert text.count("•••P•••") >= 6
    assert ended is not None
    assert ended.message == "•••P•••"
    assert outputs(book)[2:5] == [
        [("stdout", "•••P•••\n")],
        [("display_data", "{'b': '•••P•••'}")],
        [("execute_result", "'•••P•••'")],
    ]


def test_a_word_of_the_format_may_be_a_secret(tmp_path: Path) -> None:
    book, _ = ran(
        tmp_path,
        "print('stream of text')",
        kernel_scrub=lambda text: text.replace("stream", "•").replace("text", "•"),
    )
    assert outputs(book) == [[("stdout", "• of •\n")]]


def test_memory_that_ran_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = "import resource\nheld = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\nresource.setrlimit(resource.RLIMIT_AS, (held + 10**8,) * 2)\nbytearray(10**9)"
    _, ended = ran(tmp_path, limited)
    assert ended is not None
    assert (ended.status, ended.type, ended.line) == (
        "failed",
        "MemoryError",
        4,
    )
    monkeypatch.setattr(
        process_memory, "get_memory_limit", lambda: 10**8
    )  # as if the machine had no more
    _, ended = ran(
        tmp_path, "import os, signal, time\ntime.sleep(0.5)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    assert ended is not None
    assert ended.status_text.startswith("killed (signal 9, likely out of memory, peak ")


@pytest.mark.parametrize(
    ("said", "share"), [("", 1), ("max", 1), ("9223372036854771712", 1), ("1000000", 0)]
)
def test_the_memory_there_is_goes_by_the_control_group_where_that_has_a_limit(
    said: str, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_memory, "_read_cgroup_file", lambda new, old: said)
    assert process_memory.get_memory_limit() == (
        psutil.virtual_memory().total if share else 1_000_000
    )
    assert process_memory.count_oom_kills() == 0
    monkeypatch.setattr(
        process_memory,
        "_read_cgroup_file",
        lambda new, old: "low 0\noom 3\noom_kill 2\noom_group_kill 0",
    )
    assert process_memory.count_oom_kills() == 2


@pytest.fixture
def narrow() -> Iterator[Path]:
    """A control group of 700 MB, where one may be made; a process joins it by its file of members."""
    old = Path("/sys/fs/cgroup/memory")
    group = (old if old.is_dir() else old.parent) / f"mlops-kit-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(
            "700000000"
        )
    except OSError:
        pytest.skip("only root may make a control group")
    yield group / "cgroup.procs"
    while (group / "cgroup.procs").read_text().strip():  # what was killed is not gone at once
        time.sleep(0.02)
    group.rmdir()


def test_a_kernel_that_the_system_kills_for_memory_is_told(tmp_path: Path, narrow: Path) -> None:
    nbformat.write(
        new_notebook(
            cells=[
                cell("print('here', flush=True)"),
                cell("held = b'x' * 2_000_000_000"),
                cell("pass"),
            ]
        ),
        tmp_path / "in.ipynb",
    )
    code = (
        f"open({str(narrow)!r}, 'w').write('0'); from papermill.cli import papermill; papermill()"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "--engine",
            "mlops",
            "--no-progress-bar",
            "in.ipynb",
            "out.ipynb",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    book = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert done.returncode == 1
    assert "killed (signal 9, likely out of memory, peak " in done.stderr
    assert book.metadata.mlops.detail.startswith("signal 9, likely out of memory")
    assert outputs(book)[0] == [("stdout", "here\n")]
    assert [c.metadata.papermill.status for c in book.cells if c.cell_type == "code"] == [
        "completed",
        "failed",
        "pending",
    ]


def test_what_is_printed_before_a_kernel_dies_is_kept(tmp_path: Path) -> None:
    book, ended = ran(
        tmp_path,
        "import os\nfor i in range(50): print(i, flush=True)\nimport time; time.sleep(0.2)\nos._exit(1)",
    )
    assert ended is not None
    assert outputs(book) == [[("stdout", "".join(f"{i}\n" for i in range(50)))]]


COMMAND = {
    "exception": ("1 / 0", "failed in cell 4: ZeroDivisionError: division by zero"),
    "killed": ("import os\nos.kill(os.getpid(), 9)", "killed (signal 9, peak "),
    "terminated": (
        "import subprocess, time\nfrom pathlib import Path\nsubprocess.Popen(['sleep', '602'], start_new_session=True)\nPath('up').touch()\ntime.sleep(60)",
        "interrupted in cell 4: ",
    ),
}


def test_papermills_own_command_tells_the_truth_too(tmp_path: Path) -> None:
    going = {}
    for name, (code, _) in COMMAND.items():
        saved = {
            "kernelspec": {
                "name": "that-of-another-machine",
                "language": "python",
                "display_name": "Theirs",
            }
        }
        nbformat.write(
            new_notebook(
                cells=[
                    cell("seed: int = 0  # Seed.", "parameters"),
                    cell("pass"),
                    cell(code),
                    cell("pass"),
                ],
                metadata=saved,
            ),
            tmp_path / f"{name}.ipynb",
        )
        command = [
            sys.executable,
            "-m",
            "papermill",
            "--engine",
            "mlops",
            "--no-progress-bar",
            f"{name}.ipynb",
            f"{name}-out.ipynb",
            "-p",
            "seed",
            "7",
        ]
        going[name] = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    while not (tmp_path / "up").exists():
        assert going["terminated"].poll() is None, going["terminated"].communicate()
        time.sleep(0.05)
    held = below(going["terminated"].pid)
    going["terminated"].send_signal(signal.SIGTERM)
    for name, (_, told) in COMMAND.items():
        said = going[name].communicate(timeout=120)[0]
        book = nbformat.read(tmp_path / f"{name}-out.ipynb", as_version=4)
        statuses = [c.metadata.papermill.status for c in book.cells if c.cell_type == "code"]
        assert going[name].returncode == 1 and told in said, said
        assert statuses == [*["completed"] * 3, "failed", "pending"]
        assert book.metadata.mlops.status == {
            "exception": "failed",
            "terminated": "interrupted",
        }.get(name, name)
    assert [p for p in held if p.is_running() and p.status() != "zombie"] == []
