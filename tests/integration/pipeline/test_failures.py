"""Failures of a stage: notebook, manifest and terminal report them, and the next run completes.

One pipeline has a stage for each way to fail, which fails as long as a file ``broken`` is in the
project.
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
from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.files import hash_json
from mlops_kit.pipeline import kernel_pool, kernel_watchdog
from mlops_kit.project import artifacts, run_folder, run_manifest
from tests.support import chains
from tests.support.chains import make_cell

CHECK_BROKEN = """\
import os, signal, subprocess, sys, time
from pathlib import Path
broken = Path('broken').exists()"""
MARK_REACHED = "    Path(f'reached-{os.getpid()}').touch()\n"
START_DAEMONS = """\
    subprocess.Popen(['sleep', '600'])
    subprocess.Popen(['sleep', '601'], start_new_session=True)
"""
RAISE_IN_FUNCTION = """\
    def inner():
        raise ValueError('no such thing')
    inner()"""
IGNORE_INTERRUPTS = "    signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
RAISE_AFTER_ALLOWED = """\
if broken:
    raise LookupError('the first')
    raise KeyError('the second')"""


class FailureCase(NamedTuple):
    """A way to fail: cells and options of the stage, and what is reported.

    ``cell`` counts code cells from one, ``line`` the lines of that cell.
    """

    cells: list[Any]
    status: str
    type: str
    message: str
    options: str = ""
    detail: str = ""
    cell: int | None = 5
    line: int | None = None


def if_broken(code: str) -> list[Any]:
    """A cell that executes this in a broken project."""
    return [f"if broken:\n{code}"]


def match_line(sentence: str) -> str:
    """A pattern that matches a sentence."""
    return re.escape(sentence) + "$"


CASES = {
    "exception": FailureCase(
        if_broken(RAISE_IN_FUNCTION),
        "failed",
        "ValueError",
        "ValueError: no such thing$",
        line=4,
    ),
    "killed": FailureCase(
        if_broken(START_DAEMONS + "    os.kill(os.getpid(), signal.SIGKILL)"),
        "killed",
        "DeadKernelError",
        "the kernel died$",
        detail="signal 9, peak",
    ),
    "memory": FailureCase(
        if_broken("    held = b'x' * 900_000_000\n    time.sleep(600)"),
        "killed",
        "killed",
        "the kernel was killed$",
        "memory: 700MB",
        "over its memory limit of 668 MiB, peak",
    ),
    "slow_cell": FailureCase(
        if_broken(START_DAEMONS + MARK_REACHED + "    time.sleep(600)"),
        "timed out",
        "KeyboardInterrupt",
        "it took too long and was interrupted$",
        "cell_timeout: 10m",
        "cell over 600 s",
        line=5,
    ),
    "slow_stage": FailureCase(
        if_broken(MARK_REACHED + "    while True:\n        time.sleep(600)"),
        "timed out",
        "KeyboardInterrupt",
        "it took too long and was interrupted$",
        "timeout: 10m",
        "stage over 600 s",
        line=4,
    ),
    "stubborn": FailureCase(
        if_broken(IGNORE_INTERRUPTS + MARK_REACHED + "    time.sleep(600)"),
        "timed out",
        "timed out",
        "it took too long and was interrupted$",
        "timeout: 10m",
        "stage over 600 s",
    ),
    "exit_0": FailureCase(
        if_broken("    sys.exit(0)"),
        "stopped early",
        "SystemExit",
        match_line("sys.exit(0) in cell 5: the cells after it were not run"),
    ),
    "exit_3": FailureCase(if_broken("    sys.exit(3)"), "failed", "SystemExit", "SystemExit: 3$"),
    "at_once": FailureCase(
        if_broken(START_DAEMONS + "    os._exit(3)"),
        "failed",
        "DeadKernelError",
        "the kernel ended by itself with exit code 3$",
    ),
    "bash": FailureCase(
        ["%%bash\nif [ -e broken ]; then exit 3; fi"],
        "failed",
        "CalledProcessError",
        "CalledProcessError: .* returned non-zero exit status 3",
        line=1,
    ),
    "script": FailureCase(
        ["if broken:\n    %run bad.py"], "failed", "KeyError", "KeyError: 'bad'$"
    ),
    "allowed": FailureCase(
        [
            make_cell("if broken:\n    1 / 0", "raises-exception"),
            RAISE_AFTER_ALLOWED,
        ],
        "failed",
        "LookupError",
        "LookupError: the first$",
        cell=6,
        line=2,
    ),
    "missing": FailureCase(
        ["if not broken:\n    Path('missing.csv').write_text('1')"],
        "failed",
        RunFailedError.__name__,
        match_line("the declared output 'missing.csv' does not exist"),
        cell=None,
    ),
    "empty": FailureCase(
        ["Path('empty.csv').write_text('' if broken else '1')"],
        "failed",
        RunFailedError.__name__,
        match_line("the declared output 'empty.csv' is empty"),
        cell=None,
    ),
    "stale": FailureCase(
        ["if not broken:\n    Path('stale.csv').write_text('1')"],
        "failed",
        RunFailedError.__name__,
        match_line("the declared output 'stale.csv' is older than the run of the stage"),
        cell=None,
    ),
    "silent": FailureCase(
        if_broken("    stage.write = lambda *given: None"),
        "failed",
        RunFailedError.__name__,
        "silent did not write 'silent'",
        cell=6,
        line=2,
    ),
}
CASES_WITH_FILES = {"missing", "empty", "stale"}  # they declare a file of the project
FAIL_ONCE = """\
tried = Path('tried')
if broken and not tried.exists():
    tried.touch()
    raise OSError('not yet')"""


def hand_over(name: str) -> str:
    """The last cell of a stage: what it writes."""
    return f"stage.write({name!r}, {{'made by': {name!r}}})\nstage.hand_over('All is well.')"


def create_project(home: Path, copy_mlflow_store: Callable[[Path], Path]) -> Path:
    """Create an empty project with an MLflow store."""
    home.mkdir()
    return copy_mlflow_store(home)


def create_broken_project(home: Path, copy_mlflow_store: Callable[[Path], Path]) -> Path:
    """Create the project with a stage for each case."""
    create_project(home, copy_mlflow_store)
    chain: dict[str, tuple[str, list[Any]]] = {"start": ("writes: [start]", [hand_over("start")])}
    for name, case in CASES.items():
        outputs = [name, f"{name}.csv"] if name in CASES_WITH_FILES else [name]
        options = f"needs: [start], writes: [{', '.join(outputs)}]"
        if case.options:
            options += f", {case.options}"
        chain[name] = (options, [CHECK_BROKEN, *case.cells, hand_over(name)])
    chain["shaky"] = (
        "needs: [start], writes: [shaky], retries: 2, backoff: 0.2s",
        [CHECK_BROKEN, FAIL_ONCE, hand_over("shaky")],
    )
    chain["after"] = ("needs: [exception], writes: [after]", [hand_over("after")])
    chains.write_project(home, chain, "run: {jobs: 4}")
    (home / "bad.py").write_text("x = 1\nraise KeyError('bad')\n")
    (home / "stale.csv").write_text("1")
    os.utime(home / "stale.csv", (1e9, 1e9))
    (home / "broken").touch()
    return home


def run_command(*words: str) -> int:
    """Run the command line in this process, which has the fork server; its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mlops", *words])
        with pytest.raises(SystemExit) as exit_info:
            application.main()
    return int(exit_info.value.code or 0)


def run_project(home: Path) -> tuple[int, Path]:
    """Run a project; the exit code and the folder of the run."""
    code = run_command("run", "--project", str(home))
    manifests = (home / "reports").glob("*/manifest.json")
    return code, max(manifests, key=lambda path: path.stat().st_mtime).parent


class BrokenRun(NamedTuple):
    """A run of the broken project: its folder, exit code, remaining processes and output."""

    home: Path
    run: Path
    code: int
    strays: list[Any]
    printed: str


@pytest.fixture(scope="module")
def broken(
    tmp_path_factory: pytest.TempPathFactory, copy_mlflow_store: Callable[[Path], Path]
) -> BrokenRun:
    home = create_broken_project(tmp_path_factory.mktemp("failures") / "broken", copy_mlflow_store)
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_watchdog, "INTERRUPT_GRACE_SECONDS", 15.0)  # on a busy machine
        find_exceeded_limit = expire_limits_once_reached(home)
        patch.setattr(kernel_watchdog.KernelWatchdog, "find_exceeded_limit", find_exceeded_limit)
        patch.setattr(sys, "stdout", output)
        code, run = run_project(home)
        run_command("status", "--project", str(home))
    return BrokenRun(home, run, code, list_remaining_processes(home), output.getvalue())


FindExceededLimit = Callable[[kernel_watchdog.KernelWatchdog], kernel_watchdog.ExceededLimit | None]


def expire_limits_once_reached(home: Path) -> FindExceededLimit:
    """Return a ``find_exceeded_limit`` whose time limits expire a second after a cell is reached.

    The limits are generous, so that a slow machine reaches that cell, and no test waits for them.
    """
    find_exceeded_limit = kernel_watchdog.KernelWatchdog.find_exceeded_limit

    def find_once_reached(
        watchdog: kernel_watchdog.KernelWatchdog,
    ) -> kernel_watchdog.ExceededLimit | None:
        assert watchdog.child is not None
        reached = home / f"reached-{watchdog.child.pid}"
        if reached.exists() and time.time() - reached.stat().st_mtime > 1:
            an_hour_ago = time.monotonic() - 3600
            watchdog.started_at = an_hour_ago
            watchdog.cell_started_at = an_hour_ago
        return find_exceeded_limit(watchdog)

    return find_once_reached


def list_kernel_processes() -> list[psutil.Process]:
    """The processes below the fork server."""
    return chains.list_process_tree(kernel_pool.get_fork_server().pid)[1:]


def list_remaining_processes(home: Path) -> list[Any]:
    """The processes that a project's runs have left."""
    return [*chains.list_stray_processes(home), *list_kernel_processes()]


def read_notebook(run: Path, stage: str) -> Any:
    return nbformat.read(run / "notebooks" / f"{stage}.ipynb", as_version=4)


def list_code_cells(notebook: Any) -> list[Any]:
    return [c for c in notebook.cells if c.cell_type == "code"]


def list_cell_statuses(notebook: Any) -> list[str]:
    """Papermill's status of each code cell."""
    return [c.metadata.papermill.status for c in list_code_cells(notebook)]


def list_stage_statuses(run: Path) -> list[str]:
    manifest = run_manifest.read_manifest(run)
    return [str(entry.status) for entry in manifest.stages.values()]


@pytest.mark.parametrize("name", CASES)
def test_failure_is_in_the_manifest(broken: BrokenRun, name: str) -> None:
    case = CASES[name]
    entry = run_manifest.read_manifest(broken.run).stages[name]
    error = entry.error
    assert error is not None
    assert (entry.status, error.type, error.cell, error.line) == (
        case.status,
        case.type,
        case.cell,
        case.line,
    )
    assert re.match(case.message, error.message)
    assert entry.detail.startswith(case.detail)
    is_raised_in_a_cell = case.cell is not None and case.type not in {
        "DeadKernelError",
        "killed",
        "timed out",
    }
    assert bool(error.traceback) == is_raised_in_a_cell
    assert len(error.traceback) <= 6
    code_cells = list_code_cells(read_notebook(broken.run, name))
    assert error.source == ("" if case.cell is None else code_cells[case.cell - 1].source)


@pytest.mark.parametrize("name", CASES)
def test_failure_is_in_the_notebook_and_on_its_page(broken: BrokenRun, name: str) -> None:
    case = CASES[name]
    entry = run_manifest.read_manifest(broken.run).stages[name]
    notebook = read_notebook(broken.run, name)
    statuses = list_cell_statuses(notebook)
    if case.cell is None:
        assert statuses == ["completed"] * len(statuses)
    else:
        completed = ["completed"] * (case.cell - 1)
        pending = ["pending"] * (len(statuses) - case.cell)
        assert statuses == [*completed, "failed", *pending]
    stored = notebook.metadata.mlops
    assert stored.status == case.status
    assert entry.status_text in f"{stored.status} ({stored.get('detail', '')})"
    (marker,) = [
        c.source for c in notebook.cells if "papermill-error-cell-tag" in c.metadata.get("tags", [])
    ]
    title = f"▲ {case.status.capitalize()}"
    assert marker.startswith(f"**{title}")
    assert ("in the cell below" in marker) == (case.cell is not None)
    assert title in (broken.run / "notebooks" / f"{name}.html").read_text()


def test_terminal_and_index_show_every_failure(broken: BrokenRun) -> None:
    assert broken.code == 1
    status = broken.printed.partition("of tiny: ")[2]
    assert status.startswith("failed")
    for name, case in CASES.items():
        pattern = rf"^  {name} +{re.escape(case.status)}.*{case.message.rstrip('$')}"
        assert re.search(pattern, status, re.M), name
    assert re.search("^  after +not run +needs exception$", status, re.M)
    assert re.search("^  shaky +succeeded", status, re.M)
    assert "Failed" in (broken.run / "index.html").read_text()


def test_stage_is_retried_after_a_pause(broken: BrokenRun) -> None:
    entry = run_manifest.read_manifest(broken.run).stages["shaky"]
    assert (entry.status, entry.attempts) == ("succeeded", 2)
    assert entry.seconds is not None
    assert entry.seconds > 0.2
    assert "shaky: failed, OSError: not yet; again in 0.2 s (1 of 2)" in broken.printed


def test_nothing_that_a_failed_stage_started_remains(broken: BrokenRun) -> None:
    assert broken.strays == []
    assert not (broken.run / run_manifest.DISK_RESERVE_FILE).exists()
    assert not list(broken.run.rglob(".*"))


def read_mlflow_statuses(home: Path) -> dict[str, str]:
    """Status of each run in a project's MLflow store, by name."""
    with closing(sqlite3.connect(home / ".mlops" / "mlflow.db")) as store:
        return dict(store.execute("SELECT name, status FROM runs").fetchall())


def test_failures_are_in_mlflow(broken: BrokenRun) -> None:
    statuses = read_mlflow_statuses(broken.home)
    expected = {
        broken.run.name: "FAILED",
        "start": "FINISHED",
        "shaky": "FINISHED",
        "exception": "FAILED",
        "slow_cell": "FAILED",
        "exit_0": "FAILED",
        "killed": "KILLED",
        "memory": "KILLED",
    }
    assert {name: statuses[name] for name in expected} == expected
    assert "after" not in statuses


def test_next_run_completes_with_all_outputs(broken: BrokenRun) -> None:
    (broken.home / "broken").unlink()
    code, run = run_project(broken.home)
    entries = run_manifest.read_manifest(run).stages
    assert code == 0
    # Every other stage looked for the file that is gone.
    assert {n for n, e in entries.items() if e.status == "skipped"} == {"start"}
    assert {e.status for e in entries.values()} == {"skipped", "succeeded"}
    contents = {name: hash_json({"made by": name}) for name in entries}
    for name in CASES_WITH_FILES:
        contents[f"{name}.csv"] = hashlib.sha256(b"1").hexdigest()
    assert {n: a.content for n, a in run_folder.list_artifacts(run).items()} == contents
    assert list_remaining_processes(broken.home) == []


WAIT_IF_BROKEN = f"if broken:\n{START_DAEMONS}    Path('up').touch()\n    time.sleep(600)"
SIGNALS = {"interrupted": signal.SIGINT, "terminated": signal.SIGTERM, "killed": signal.SIGKILL}


class SignalledRun(NamedTuple):
    """A run in a process of its own that got a signal.

    Its project, exit code and output, and the processes that outlived it.
    """

    home: Path
    code: int
    printed: str
    alive: list[psutil.Process]


@pytest.fixture(scope="module")
def signalled(
    tmp_path_factory: pytest.TempPathFactory, copy_mlflow_store: Callable[[Path], Path]
) -> dict[str, SignalledRun]:
    """The same pipeline three times at once, each stopped in another way while a cell runs."""
    folder = tmp_path_factory.mktemp("signalled")
    homes = {name: create_two_stages(folder / name, copy_mlflow_store) for name in SIGNALS}
    processes = {name: chains.start_run(home) for name, home in homes.items()}
    runs = {}
    for name, process in processes.items():
        wait_for_waiting_cell(homes[name])
        descendants = chains.list_process_tree(process.pid)
        os.killpg(process.pid, SIGNALS[name])
        printed = process.communicate(timeout=180)[0]
        _, alive = psutil.wait_procs(descendants, timeout=60)
        runs[name] = SignalledRun(homes[name], process.returncode, printed, alive)
    return runs


def create_two_stages(home: Path, copy_mlflow_store: Callable[[Path], Path]) -> Path:
    """Create a project whose second stage does not end while it is broken."""
    create_project(home, copy_mlflow_store)
    (home / "broken").touch()
    chain: dict[str, tuple[str, list[Any]]] = {
        "one": ("writes: [one]", [hand_over("one")]),
        "two": (
            "needs: [one], writes: [two]",
            [CHECK_BROKEN, WAIT_IF_BROKEN, hand_over("two")],
        ),
    }
    return chains.write_project(home, chain)


def wait_for_waiting_cell(home: Path) -> None:
    """Wait, at most three minutes, until the notebook of the second stage shows that it waits."""
    began = time.monotonic()
    while not ((home / "up").exists() and is_fifth_cell_running(home)):
        assert time.monotonic() - began < 180
        time.sleep(0.02)


def is_fifth_cell_running(home: Path) -> bool:
    (path,) = (home / "reports").glob("*/notebooks/two.ipynb")
    return list_cell_statuses(nbformat.read(path, as_version=4))[4] == "running"


@pytest.mark.parametrize("name", SIGNALS)
def test_stopped_run_leaves_nothing_and_the_next_one_completes(
    signalled: dict[str, SignalledRun], name: str
) -> None:
    home, code, printed, alive = signalled[name]
    is_killed = name == "killed"
    (stopped_run,) = (home / "reports").glob("2*")
    assert code == (-signal.SIGKILL if is_killed else 1)
    assert alive == []
    assert chains.list_stray_processes(home) == []
    expected_status = "killed" if is_killed else "interrupted"
    manifest = run_manifest.read_manifest(stopped_run)
    assert manifest.status == expected_status
    assert list_stage_statuses(stopped_run) == ["succeeded", expected_status]
    if not is_killed:
        assert "two: interrupted in cell 5" in printed
        error = manifest.stages["two"].error
        assert error is not None
        assert error.line == 5
    (home / "broken").unlink()
    code, next_run = run_project(home)
    assert code == 0
    assert list_stage_statuses(next_run) == ["skipped", "succeeded"]
    written = run_folder.list_artifacts(next_run).values()
    assert [artifacts.read_artifact(next_run, artifact) for artifact in written] == [
        {"made by": "one"},
        {"made by": "two"},
    ]
    # The next run has corrected the records of a run that was killed.
    assert run_manifest.read_stored_manifest(stopped_run).status == expected_status
    notebook = read_notebook(stopped_run, "two")
    assert notebook.metadata.mlops.status == expected_status
    assert list_cell_statuses(notebook) == [*["completed"] * 4, "failed", "pending"]
    assert read_mlflow_statuses(home)[stopped_run.name] == "KILLED"


class StartFailure(NamedTuple):
    """A way in which a kernel does not start: IPython's configuration, settings, message."""

    ipython_config: str
    settings: str
    message: str


START_FAILURES = {
    "dies": StartFailure(
        "import os\nos._exit(7)",
        "run: {kernel_start_timeout: 180s}",
        "Kernel died before replying to kernel_info",
    ),
    "hangs": StartFailure(
        "import time\ntime.sleep(600)",
        "run: {kernel_start_timeout: 1s}",
        "Kernel didn't respond in 1 seconds",
    ),
}


@pytest.mark.parametrize("name", START_FAILURES)
def test_kernel_that_does_not_start_is_reported(
    name: str,
    tmp_path: Path,
    copy_mlflow_store: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failure = START_FAILURES[name]
    home = create_project(tmp_path / "p", copy_mlflow_store)
    chains.write_project(home, {"one": ("writes: [one]", [hand_over("one")])}, failure.settings)
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(failure.ipython_config)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    code, run = run_project(home)
    entry = run_manifest.read_manifest(run).stages["one"]
    assert (code, entry.status) == (1, "failed")
    assert entry.error is not None
    assert entry.error.cell is None
    assert entry.error.message == f"the kernel did not start: {failure.message}"
    notebook = read_notebook(run, "one")
    assert notebook.cells[0].source.startswith("**▲ Failed**. RuntimeError")
    assert {c.metadata.papermill.status for c in notebook.cells[1:]} == {"pending"}
    assert list_kernel_processes() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of two megabytes, where one may be mounted."""
    folder = tmp_path / "p" / "reports"
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


FILL_DISK = """\
if broken:
    Path(os.environ['MLOPS_RUN'], 'big').write_bytes(bytes(3_000_000))"""


def test_full_disk_is_reported_and_a_run_with_space_completes(
    small_disk: Path, copy_mlflow_store: Callable[[Path], Path]
) -> None:
    home = copy_mlflow_store(small_disk.parent)
    chain: dict[str, tuple[str, list[Any]]] = {
        "one": ("writes: [one]", [hand_over("one")]),
        "two": ("needs: [one], writes: [two]", [CHECK_BROKEN, FILL_DISK, hand_over("two")]),
    }
    chains.write_project(home, chain)
    (home / "broken").touch()
    code, run = run_project(home)
    entry = run_manifest.read_manifest(run).stages["two"]
    assert (code, entry.status) == (1, "failed")
    assert entry.error is not None
    assert entry.error.cell == 5
    assert entry.error.message == "OSError: [Errno 28] No space left on device"
    assert read_notebook(run, "two").metadata.mlops.status == "failed"
    (home / "broken").unlink()
    assert run_command("run", "--project", str(home)) == 1
    assert len(list(small_disk.glob("*/manifest.json"))) == 1
    (run / "big").unlink()
    code, next_run = run_project(home)
    assert code == 0
    assert list_stage_statuses(next_run) == ["skipped", "succeeded"]


KILL_AFTER_SECONDS = (1.2, 2.5, 3.5, 4.5, 6)  # how far a run gets by then depends on the machine


def test_run_killed_at_any_time_is_completed_by_the_next_one(
    tmp_path: Path, copy_mlflow_store: Callable[[Path], Path]
) -> None:
    home = chains.write_parallel_project(create_project(tmp_path / "p", copy_mlflow_store))
    whole = chains.read_outputs(chains.run_to_end(home))
    for seconds in KILL_AFTER_SECONDS:
        progress, faults = chains.kill_and_resume(home, whole, seconds)
        assert not faults, progress
