"""Failures are reported everywhere, leave nothing behind, and the next run completes.

One chain holds a stage for each way to fail, as long as a file ``broken`` is in the project.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import psutil
import pytest

from mlops_kit.cli import application
from mlops_kit.core.files import hash_json
from mlops_kit.pipeline import kernel_pool, kernel_watchdog
from mlops_kit.project import artifacts, run_folder, run_manifest

from . import chains
from .chains import make_cell

LOOK = (
    "import os, signal, subprocess, sys, time\n"
    "from pathlib import Path\n"
    "broken = Path('broken').exists()"
)
REACHED = "    Path(f'reached-{os.getpid()}').touch()\n"
DAEMON = (
    "    subprocess.Popen(['sleep', '600'])\n"
    "    subprocess.Popen(['sleep', '601'], start_new_session=True)\n"
)


class Case(NamedTuple):
    """A way to fail: cells and options of a stage, how it is reported, and where."""

    cells: list[Any]
    status: str
    type: str
    message: str
    options: str = ""
    detail: str = ""
    cell: int | None = 5
    line: int | None = None


def fault(code: str) -> list[Any]:
    """A cell that does this in a broken project."""
    return [f"if broken:\n{code}"]


def one_line(sentence: str) -> str:
    """A pattern that matches a sentence."""
    return re.escape(sentence) + "$"


CASES = {
    "exception": Case(
        fault("    def inner():\n        raise ValueError('no such thing')\n    inner()"),
        "failed",
        "ValueError",
        "ValueError: no such thing$",
        line=4,
    ),
    "killed": Case(
        fault(DAEMON + "    os.kill(os.getpid(), signal.SIGKILL)"),
        "killed",
        "DeadKernelError",
        "the kernel died$",
        detail="signal 9, peak",
    ),
    "memory": Case(
        fault("    held = b'x' * 900_000_000\n    time.sleep(600)"),
        "killed",
        "killed",
        "the kernel was killed$",
        "memory: 700MB",
        "over its memory limit of 668 MiB, peak",
    ),
    "slow_cell": Case(
        fault(DAEMON + REACHED + "    time.sleep(600)"),
        "timed out",
        "KeyboardInterrupt",
        "it took too long and was interrupted$",
        "cell_timeout: 10m",
        "cell over 600 s",
        line=5,
    ),
    "slow_stage": Case(
        fault(REACHED + "    while True:\n        time.sleep(600)"),
        "timed out",
        "KeyboardInterrupt",
        "it took too long and was interrupted$",
        "timeout: 10m",
        "stage over 600 s",
        line=4,
    ),
    "stubborn": Case(
        fault(
            "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + REACHED + "    time.sleep(600)"
        ),
        "timed out",
        "timed out",
        "it took too long and was interrupted$",
        "timeout: 10m",
        "stage over 600 s",
    ),
    "exit_0": Case(
        fault("    sys.exit(0)"),
        "stopped early",
        "SystemExit",
        one_line("sys.exit(0) in cell 5: the cells after it were not run"),
    ),
    "exit_3": Case(fault("    sys.exit(3)"), "failed", "SystemExit", "SystemExit: 3$"),
    "at_once": Case(
        fault(DAEMON + "    os._exit(3)"),
        "failed",
        "DeadKernelError",
        "the kernel ended by itself with exit code 3$",
    ),
    "bash": Case(
        ["%%bash\nif [ -e broken ]; then exit 3; fi"],
        "failed",
        "CalledProcessError",
        "CalledProcessError: .* returned non-zero exit status 3",
        line=1,
    ),
    "script": Case(["if broken:\n    %run bad.py"], "failed", "KeyError", "KeyError: 'bad'$"),
    "allowed": Case(
        [
            make_cell("if broken:\n    1 / 0", "raises-exception"),
            "if broken:\n    raise LookupError('the first')\n    raise KeyError('the second')",
        ],
        "failed",
        "LookupError",
        "LookupError: the first$",
        cell=6,
        line=2,
    ),
    "missing": Case(
        ["if not broken:\n    Path('missing.csv').write_text('1')"],
        "failed",
        "RunFailed",
        one_line("the declared output 'missing.csv' does not exist"),
        cell=None,
    ),
    "empty": Case(
        ["Path('empty.csv').write_text('' if broken else '1')"],
        "failed",
        "RunFailed",
        one_line("the declared output 'empty.csv' is empty"),
        cell=None,
    ),
    "stale": Case(
        ["if not broken:\n    Path('stale.csv').write_text('1')"],
        "failed",
        "RunFailed",
        one_line("the declared output 'stale.csv' is older than the run of the stage"),
        cell=None,
    ),
    "silent": Case(
        fault("    stage.write = lambda *given: None"),
        "failed",
        "RunFailed",
        "silent did not write 'silent'",
        cell=6,
        line=2,
    ),
}
FILES = {"missing", "empty", "stale"}  # cases that declare a file of the project


def end(name: str) -> str:
    """The last cell of a stage: what it hands on."""
    return f"stage.write({name!r}, {{'made by': {name!r}}})\nstage.hand_over('All is well.')"


def furnished(home: Path, copy_mlflow_store: Callable[[Path], Path]) -> Path:
    """The project of all cases."""
    furnish_in(home, copy_mlflow_store)
    chain: dict[str, tuple[str, list[Any]]] = {"start": ("writes: [start]", [end("start")])}
    for name, case in CASES.items():
        writes = ", ".join([name, *([f"{name}.csv"] if name in FILES else [])])
        chain[name] = (
            f"needs: [start], writes: [{writes}]{', ' * bool(case.options)}{case.options}",
            [LOOK, *case.cells, end(name)],
        )
    shaky = (
        "tried = Path('tried')\n"
        "if broken and not tried.exists():\n"
        "    tried.touch()\n"
        "    raise OSError('not yet')"
    )
    chain["shaky"] = (
        "needs: [start], writes: [shaky], retries: 2, backoff: 0.2s",
        [LOOK, shaky, end("shaky")],
    )
    chain["after"] = ("needs: [exception], writes: [after]", [end("after")])
    chains.write_project(home, chain, "run: {jobs: 4}")
    (home / "bad.py").write_text("x = 1\nraise KeyError('bad')\n")
    (home / "stale.csv").write_text("1")
    os.utime(home / "stale.csv", (1e9, 1e9))
    (home / "broken").touch()
    return home


def mlops(*words: str) -> int:
    """The command line in this process, where the nursery is; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mlops", *words])
        with pytest.raises(SystemExit) as left:
            application.main()
    return int(left.value.code or 0)


def went(home: Path) -> tuple[int, Path]:
    """Run a project; the exit code and the run's folder."""
    code = mlops("run", "--project", str(home))
    return code, max(
        (home / "reports").glob("*/manifest.json"), key=lambda p: p.stat().st_mtime
    ).parent


class Broken(NamedTuple):
    """The broken project: folder, run, exit code, processes that were left, terminal output."""

    home: Path
    run: Path
    code: int
    strays: list[Any]
    said: str


@pytest.fixture(scope="module")
def broken(
    tmp_path_factory: pytest.TempPathFactory, copy_mlflow_store: Callable[[Path], Path]
) -> Broken:
    home = furnished(tmp_path_factory.mktemp("failures") / "broken", copy_mlflow_store)
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as out:
        patch.setattr(kernel_watchdog, "INTERRUPT_GRACE_SECONDS", 1.0)
        patch.setattr(
            kernel_watchdog.KernelWatchdog, "find_exceeded_limit", expire_limits_once_reached(home)
        )
        said = io.StringIO()
        out.setattr(sys, "stdout", said)
        code, run = went(home)
        mlops("status", "--project", str(home))
    return Broken(
        home, run, code, [*chains.list_stray_processes(home), *kernels_left()], said.getvalue()
    )


def expire_limits_once_reached(
    home: Path,
) -> Callable[[kernel_watchdog.KernelWatchdog], tuple[str, str]]:
    """Return a ``find_exceeded_limit`` whose limits expire a second after a cell is reached.

    The limits are generous, so that a slow machine comes to that cell, and none is waited for.
    """
    find_exceeded_limit = kernel_watchdog.KernelWatchdog.find_exceeded_limit

    def find_once_reached(watch: kernel_watchdog.KernelWatchdog) -> tuple[str, str]:
        assert watch.child is not None
        reached = home / f"reached-{watch.child.pid}"
        if reached.exists() and time.time() - reached.stat().st_mtime > 1:
            watch.started_at = watch.cell_started_at = time.monotonic() - 3600
        return find_exceeded_limit(watch)

    return find_once_reached


def kernels_left() -> list[psutil.Process]:
    """What the nursery has below it."""
    return chains.list_process_tree(kernel_pool.get_fork_server().process.pid)[1:]


@pytest.mark.parametrize("name", CASES)
def test_a_failure_is_told_in_manifest_and_notebook(broken: Broken, name: str) -> None:
    case, entry = CASES[name], run_manifest.read_manifest(broken.run).stages[name]
    error = entry.error
    assert (entry.status, error.type, error.cell, error.line) == (
        case.status,
        case.type,
        case.cell,
        case.line,
    )
    assert re.match(case.message, error.message)
    assert entry.detail.startswith(case.detail)
    assert len(error.traceback) <= 6
    assert bool(error.traceback) == (
        case.type not in {"DeadKernelError", "killed", "timed out"} and case.cell is not None
    )
    book = nbformat.read(broken.run / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [c for c in book.cells if c.cell_type == "code"]
    at = len(code) + 1 if case.cell is None else case.cell
    assert [c.metadata.papermill.status for c in code] == [
        *["completed"] * (at - 1),
        "failed",
        *["pending"] * (len(code) - at),
    ][: len(code)]
    assert error.source == ("" if case.cell is None else code[at - 1].source)
    assert book.metadata.mlops.status == case.status
    assert (
        entry.status_text
        in book.metadata.mlops.status + f" ({book.metadata.mlops.get('detail', '')})"
    )
    told = next(
        c.source for c in book.cells if "papermill-error-cell-tag" in c.metadata.get("tags", [])
    )
    assert told.startswith(f"**▲ {case.status.capitalize()}")
    assert ("in the cell below" in told) == (case.cell is not None)
    assert (
        f"▲ {case.status.capitalize()}" in (broken.run / "notebooks" / f"{name}.html").read_text()
    )


def test_the_terminal_and_the_run_tell_every_failure(broken: Broken) -> None:
    assert broken.code == 1
    status = broken.said.partition("of tiny: ")[2]
    assert status.startswith("failed")
    for name, case in CASES.items():
        assert re.search(
            rf"^  {name} +{re.escape(case.status)}.*{case.message.rstrip('$')}", status, re.M
        ), name
    assert re.search("^  after +not run +needs exception$", status, re.M)
    assert re.search("^  shaky +succeeded", status, re.M)
    assert "Failed" in (broken.run / "index.html").read_text()


def test_a_stage_is_tried_again_after_a_pause(broken: Broken) -> None:
    entry = run_manifest.read_manifest(broken.run).stages["shaky"]
    assert (entry.status, entry.attempts, entry.seconds > 0.2) == ("succeeded", 2, True)
    assert "shaky: failed, OSError: not yet; again in 0.2 s (1 of 2)" in broken.said


def test_nothing_that_a_failed_stage_started_is_left(broken: Broken) -> None:
    assert broken.strays == []
    assert not (broken.run / run_manifest.DISK_RESERVE_FILE).exists()
    assert not [p for p in broken.run.rglob(".*")]


def test_mlflow_is_told_of_each_failure(broken: Broken) -> None:
    told = statuses(broken.home)
    run = broken.run.name
    assert (told[run], told["start"], told["shaky"]) == ("FAILED", "FINISHED", "FINISHED")
    assert (
        told["exception"],
        told["slow_cell"],
        told["exit_0"],
        told["killed"],
        told["memory"],
    ) == ("FAILED", "FAILED", "FAILED", "KILLED", "KILLED")
    assert "after" not in told


def statuses(home: Path) -> dict[str, str]:
    """Status of each run in a project's MLflow store, by name."""
    with closing(sqlite3.connect(home / ".mlops" / "mlflow.db")) as store:
        return dict(store.execute("SELECT name, status FROM runs").fetchall())


def test_the_next_run_completes_with_what_was_promised(broken: Broken) -> None:
    (broken.home / "broken").unlink()
    code, mended = went(broken.home)
    entries = run_manifest.read_manifest(mended).stages
    assert code == 0
    assert {n for n, e in entries.items() if e.status == "skipped"} == {"start", "shaky"}
    assert {e.status for e in entries.values()} == {"skipped", "succeeded"}
    files = {f"{n}.csv": hashlib.sha256(b"1").hexdigest() for n in FILES}
    assert {n: a.content for n, a in run_folder.list_artifacts(mended).items()} == {
        n: hash_json({"made by": n}) for n in entries
    } | files
    assert [*chains.list_stray_processes(broken.home), *kernels_left()] == []


WAITS = f"if broken:\n{DAEMON}    Path('up').touch()\n    time.sleep(600)"
SIGNALS = {"interrupted": signal.SIGINT, "terminated": signal.SIGTERM, "killed": signal.SIGKILL}


class Told(NamedTuple):
    """A run that was sent a signal: project, exit code, output, processes that outlived it."""

    home: Path
    code: int
    said: str
    alive: list[psutil.Process]


@pytest.fixture(scope="module")
def signalled(
    tmp_path_factory: pytest.TempPathFactory, copy_mlflow_store: Callable[[Path], Path]
) -> dict[str, Told]:
    """The same chain three times at once, each told to stop in another way while a cell runs."""
    folder, told = tmp_path_factory.mktemp("signalled"), {}
    homes = {name: two_stages(folder / name, copy_mlflow_store) for name in SIGNALS}
    going = {name: chains.start_run(home) for name, home in homes.items()}
    for name, process in going.items():
        until(lambda home=homes[name]: (home / "up").exists() and at_cells(home)[4] == "running")  # type: ignore[misc]
        held = chains.list_process_tree(process.pid)
        os.killpg(process.pid, SIGNALS[name])
        said = process.communicate(timeout=180)[0]
        _, alive = psutil.wait_procs(held, timeout=60)
        told[name] = Told(homes[name], process.returncode, said, alive)
    return told


def two_stages(home: Path, copy_mlflow_store: Callable[[Path], Path]) -> Path:
    """A project whose second stage does not end while it is broken."""
    furnish_in(home, copy_mlflow_store)
    (home / "broken").touch()
    return chains.write_project(
        home,
        {
            "one": ("writes: [one]", [LOOK, end("one")]),
            "two": ("needs: [one], writes: [two]", [LOOK, WAITS, end("two")]),
        },
    )


def at_cells(home: Path) -> list[str]:
    """How far the second stage's notebook says it is: the status of each code cell."""
    [book] = (home / "reports").glob("*/notebooks/two.ipynb")
    return [
        c.metadata.papermill.status
        for c in nbformat.read(book, as_version=4).cells
        if c.cell_type == "code"
    ]


def until(holds: Callable[[], bool]) -> None:
    """Wait for something; at most three minutes."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < 180
        time.sleep(0.02)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_run_that_is_told_to_stop_leaves_nothing_and_the_next_completes(
    signalled: dict[str, Told], name: str
) -> None:
    home, code, said, alive = signalled[name]
    [old] = (home / "reports").glob("2*")
    assert (code, alive, chains.list_stray_processes(home)) == (
        -signal.SIGKILL if name == "killed" else 1,
        [],
        [],
    )
    wanted = "killed" if name == "killed" else "interrupted"
    found = run_manifest.read_manifest(old)
    assert (found.status, [e.status for e in found.stages.values()]) == (
        wanted,
        ["succeeded", wanted],
    )
    if name != "killed":
        assert "two: interrupted in cell 5" in said
        assert found.stages["two"].error.line == 5
    (home / "broken").unlink()
    code, new = went(home)
    assert code == 0
    assert [e.status for e in run_manifest.read_manifest(new).stages.values()] == [
        "skipped",
        "succeeded",
    ]
    assert [artifacts.read_artifact(new, a) for a in run_folder.list_artifacts(new).values()] == [
        {"made by": "one"},
        {"made by": "two"},
    ]
    filed = run_manifest.read_stored_manifest(old)
    book = nbformat.read(old / "notebooks" / "two.ipynb", as_version=4)
    assert (filed.status, book.metadata.mlops.status) == (wanted, wanted)
    assert [c.metadata.papermill.status for c in book.cells if c.cell_type == "code"] == [
        *["completed"] * 4,
        "failed",
        "pending",
    ]
    assert statuses(home)[old.name] == "KILLED"


NEVER = {
    "dies": (
        "import os\nos._exit(7)",
        "run: {kernel_start_timeout: 180s}",
        "Kernel died before replying to kernel_info",
    ),
    "hangs": (
        "import time\ntime.sleep(600)",
        "run: {kernel_start_timeout: 1s}",
        "Kernel didn't respond in 1 seconds",
    ),
}


@pytest.mark.parametrize("way", NEVER)
def test_a_kernel_that_does_not_start_is_told(
    way: str,
    tmp_path: Path,
    copy_mlflow_store: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = furnish_in(tmp_path / "p", copy_mlflow_store)
    chains.write_project(home, {"one": ("writes: [one]", [end("one")])}, NEVER[way][1])
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(NEVER[way][0])
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    code, folder = went(home)
    entry = run_manifest.read_manifest(folder).stages["one"]
    assert (code, entry.status, entry.error.cell, entry.error.message) == (
        1,
        "failed",
        None,
        f"the kernel did not start: {NEVER[way][2]}",
    )
    book = nbformat.read(folder / "notebooks" / "one.ipynb", as_version=4)
    assert book.cells[0].source.startswith("**▲ Failed**. RuntimeError")
    assert {c.metadata.papermill.status for c in book.cells[1:]} == {"pending"}
    assert kernels_left() == []


def furnish_in(home: Path, copy_mlflow_store: Callable[[Path], Path]) -> Path:
    """An empty project with a store."""
    home.mkdir()
    return copy_mlflow_store(home)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of two megabytes, where one may be mounted."""
    place = tmp_path / "p" / "reports"
    place.mkdir(parents=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_told_and_the_next_run_with_room_completes(
    small_disk: Path, copy_mlflow_store: Callable[[Path], Path]
) -> None:
    home = copy_mlflow_store(small_disk.parent)
    fills = "if broken:\n    Path(os.environ['MLOPS_RUN'], 'big').write_bytes(bytes(3_000_000))"
    chains.write_project(
        home,
        {
            "one": ("writes: [one]", [end("one")]),
            "two": ("needs: [one], writes: [two]", [LOOK, fills, end("two")]),
        },
    )
    (home / "broken").touch()
    code, folder = went(home)
    entry = run_manifest.read_manifest(folder).stages["two"]
    assert (code, entry.status, entry.error.cell, entry.error.message) == (
        1,
        "failed",
        5,
        "OSError: [Errno 28] No space left on device",
    )
    assert (
        nbformat.read(folder / "notebooks" / "two.ipynb", as_version=4).metadata.mlops.status
        == "failed"
    )
    (home / "broken").unlink()
    assert mlops("run", "--project", str(home)) == 1
    assert len([*small_disk.glob("*/manifest.json")]) == 1
    (folder / "big").unlink()
    code, new = went(home)
    assert (code, [e.status for e in run_manifest.read_manifest(new).stages.values()]) == (
        0,
        ["skipped", "succeeded"],
    )


def test_a_run_killed_at_any_moment_is_run_again_to_the_same(
    tmp_path: Path, copy_mlflow_store: Callable[[Path], Path]
) -> None:
    home = chains.write_parallel_project(furnish_in(tmp_path / "p", copy_mlflow_store))
    whole = chains.read_outputs(chains.run_to_end(home))
    for seconds in (
        1.2,
        2.5,
        3.5,
        4.5,
        6,
    ):  # how far it gets by then depends on the machine: all is well at any moment
        far, faults = chains.kill_and_resume(home, whole, seconds)
        assert not faults, far
