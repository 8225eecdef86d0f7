"""The resident fork server: shared by runs, never outdated, and dispensable at any moment."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from mlops_kit.pipeline.resident import address, client
from mlops_kit.project import run_folder, run_manifest
from mlops_kit.project.loader import load_project
from tests.support import chains

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the resident server needs Linux")
IDLE = timedelta(minutes=2)
MAX_WAIT_SECONDS = 60
KILL_COUNT = 3
OTHER_USER = 54321
REFUSALS = {b"closed", b"ConnectionResetError", b"BrokenPipeError"}
PROBE_MODULE = """\
import json, os, sys, time

def show_process():
    state = {
        "cwd": os.getcwd(), "arguments": sys.argv[1:], "umask": os.umask(0),
        "input": sys.stdin.read(), "modules": sorted(sys.modules), "parent": os.getppid(),
        "variable": os.environ["MLOPS_MINE"],
    }
    print(json.dumps(state))
    print("a complaint", file=sys.stderr)
    raise SystemExit(7)

def sleep():
    try:
        print(os.getpid(), flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print("interrupted")
        raise SystemExit(5) from None

def wait_for_input():
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    print("done")
"""
HAND_OVER = """\
import sys
from mlops_kit.pipeline.resident import client
sys.exit(client.hand_over_command("probe:" + sys.argv.pop(1), ["probe"]))
"""
SHOW_KEY = "from mlops_kit.pipeline.resident import address; print(address.find_socket_path())"


@pytest.fixture(autouse=True)
def socket_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the test's own for the sockets of servers, which end with the test."""
    folder = Path(tempfile.mkdtemp(prefix="mk-"))  # paths of sockets have to be short
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "probe.py").write_text(PROBE_MODULE)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(modules), prepend=os.pathsep)
    monkeypatch.setenv("MLOPS_MINE", "x")
    monkeypatch.delenv("CI")
    yield folder / "mlops-kit"
    stop_servers()
    shutil.rmtree(folder)


def start_server(*modules: str, idle: timedelta = IDLE) -> psutil.Process:
    """Start a server that has imported modules."""
    session = client.open_fork_server(list(modules), idle)
    assert session is not None
    session.close()
    assert session.replies.read() == b""
    return find_server()


def find_server() -> psutil.Process:
    """Return the one server that runs."""
    [record] = client.list_servers()
    return psutil.Process(record.pid)


def stop_servers() -> None:
    """Kill all servers."""
    processes = [psutil.Process(record.pid) for record in client.list_servers()]
    for process in processes:
        process.kill()
    for process in processes:
        process.wait(MAX_WAIT_SECONDS)


def start_probe(function: str, **options: object) -> subprocess.Popen[str]:
    """Hand over a function of the probe module, as a process that waits for it."""
    return subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, function, "word"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def read_process(probe: subprocess.Popen[str]) -> psutil.Process:
    """Return the process of a probe, whose first line is its process id."""
    assert probe.stdout is not None
    return psutil.Process(int(probe.stdout.readline()))


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_command_has_the_streams_arguments_folder_and_environment_of_its_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server("html.parser")
    monkeypatch.setenv("MLOPS_MINE", "changed since")
    with start_probe("show_process", cwd=tmp_path, umask=0o027) as probe:
        output, errors = probe.communicate("typed", timeout=MAX_WAIT_SECONDS)
    assert (probe.returncode, errors) == (7, "a complaint\n")
    state = json.loads(output)
    assert "html.parser" in state.pop("modules")
    assert state == {
        "cwd": str(tmp_path),
        "arguments": ["word"],
        "umask": 0o027,
        "input": "typed",
        "parent": server.pid,
        "variable": "changed since",
    }


def test_modules_of_projects_are_not_imported_in_the_server(tmp_path: Path) -> None:
    (tmp_path / "modules" / "own.py").write_text("VALUE = 1\n")
    start_server("own", "html.parser")
    for _ in range(2):  # the first command asks for its module, the server learns from it
        with start_probe("show_process") as probe:
            output, _ = probe.communicate("", timeout=MAX_WAIT_SECONDS)
        modules = json.loads(output)["modules"]
        assert "html.parser" in modules
        assert "own" not in modules
    (tmp_path / "modules" / "probe.py").write_text(PROBE_MODULE.replace("a complaint", "changed"))
    with start_probe("show_process") as probe:
        _, errors = probe.communicate("", timeout=MAX_WAIT_SECONDS)
    assert errors == "changed\n"


def test_command_receives_the_signals_of_its_caller() -> None:
    start_server()
    with start_probe("sleep") as probe:
        process = read_process(probe)
        probe.send_signal(signal.SIGINT)
        output, _ = probe.communicate(timeout=MAX_WAIT_SECONDS)
    assert (probe.returncode, output) == (5, "interrupted\n")
    assert not process.is_running()
    with start_probe("sleep") as probe:
        read_process(probe)
        probe.terminate()
        probe.communicate(timeout=MAX_WAIT_SECONDS)
    assert probe.returncode == 128 + signal.SIGKILL  # it ended without an exit code


def test_command_and_its_caller_are_killed_together() -> None:
    start_server()
    with start_probe("sleep") as probe:
        process = read_process(probe)
        probe.kill()
        psutil.wait_procs([process], timeout=MAX_WAIT_SECONDS)
        assert not process.is_running()
    with start_probe("sleep") as probe:
        read_process(probe).kill()
        assert probe.wait(MAX_WAIT_SECONDS) == 128 + signal.SIGKILL


def test_command_outlives_the_server() -> None:
    server = start_server()
    with start_probe("wait_for_input") as probe:
        read_process(probe)
        server.kill()
        server.wait(MAX_WAIT_SECONDS)
        output, _ = probe.communicate("go on\n", timeout=MAX_WAIT_SECONDS)
    assert (probe.returncode, output) == (0, "done\n")


def test_server_ends_when_it_was_idle(socket_folder: Path) -> None:
    server = start_server(idle=timedelta(seconds=1))
    [path] = socket_folder.glob("*.sock")
    server.wait(MAX_WAIT_SECONDS)
    assert not path.exists()
    assert client.list_servers() == []


def test_server_is_replaced_when_a_distribution_was_installed(tmp_path: Path) -> None:
    first = start_server()
    assert start_server() == first
    (tmp_path / "modules" / "new-1.0.dist-info").mkdir()
    second = start_server()
    first.wait(MAX_WAIT_SECONDS)
    assert second != first


def test_server_that_was_killed_is_replaced() -> None:
    first = start_server()
    first.kill()
    first.wait(MAX_WAIT_SECONDS)
    assert start_server() != first


def test_module_that_starts_a_thread_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "threaded.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=os.pathsep)
    server = start_server("threaded", "html.parser")
    with start_probe("show_process") as probe:
        output, _ = probe.communicate("", timeout=MAX_WAIT_SECONDS)
    state = json.loads(output)
    assert state["parent"] == server.pid
    assert "html.parser" in state["modules"]
    assert "threaded" not in state["modules"]
    assert server.num_threads() == 1


def connect_as_another_user(path: Path) -> bytes:
    """Ask a server for its status as another user; return the answer, or the error's name."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(OTHER_USER)
        os.setuid(OTHER_USER)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                connection.sendall(b'{"kind": "fork_server"}\n')
                answer = connection.recv(100) or b"closed"
        except OSError as error:
            answer = type(error).__name__.encode()
        os.write(writer, answer)
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as file:
        return file.read()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_cannot_connect(socket_folder: Path) -> None:
    start_server()
    [path] = socket_folder.glob("*.sock")
    assert connect_as_another_user(path) == b"PermissionError"
    for opened in (path, socket_folder, socket_folder.parent):
        opened.chmod(0o777)  # as if somebody had opened the folder to everybody
    assert connect_as_another_user(path) in REFUSALS


def test_folder_that_others_can_use_is_not_used(socket_folder: Path) -> None:
    assert address.find_socket_path() is not None
    socket_folder.chmod(0o755)
    assert address.find_socket_path() is None
    assert client.open_fork_server([], IDLE) is None


@pytest.mark.parametrize(
    ("name", "value", "is_shared"),
    [("OLDPWD", "/elsewhere", True), ("MLOPS_RUN", "x", True), ("OMP_NUM_THREADS", "7", False)],
)
def test_callers_with_different_environments_share_a_server_if_no_library_can_tell(
    name: str, value: str, is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = address.find_socket_path()
    monkeypatch.setenv(name, value)
    assert (address.find_socket_path() == path) == is_shared


@pytest.mark.parametrize("prefix", [["nice", "-n", "5"], ["prlimit", "--nofile=500"]])
def test_callers_with_different_limits_have_servers_of_their_own(prefix: list[str]) -> None:
    paths = [
        subprocess.check_output([*words, sys.executable, "-c", SHOW_KEY], text=True)
        for words in ([], [], prefix)
    ]
    assert paths[0] == paths[1] != paths[2]


def start_run(home: Path, *words: str) -> subprocess.Popen[str]:
    """Start ``mlops run`` as a user does."""
    return subprocess.Popen(
        [sys.executable, "-m", "mlops_kit.cli", "run", "--project", str(home), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_chain(home: Path, *words: str) -> str:
    """Run a project; return what was printed."""
    with start_run(home, *words) as process:
        output, _ = process.communicate(timeout=2 * MAX_WAIT_SECONDS)
    assert process.returncode == 0, output
    return output


def write_chain(home: Path, value: int = 1) -> Path:
    """Write a project of one stage, which uses a module of the project."""
    cells = [
        "import os, psutil, numbers_of_project",
        "open('ancestors', 'w').write(repr([p.pid for p in psutil.Process().parents()]))",
        "stage.write('total', {'value': numbers_of_project.VALUE, 'draws': sorted(range(5))})",
        "stage.hand_over('Done.')",
    ]
    chains.write_project(home, {"one": ("writes: [total]", cells)})
    (home / "numbers_of_project.py").write_text(f"VALUE = {value}\n")
    return home


def list_runs(home: Path) -> list[Path]:
    return run_folder.list_run_folders(load_project(str(home)).reports_folder)


@pytest.mark.slow
def test_runs_of_two_projects_are_forked_from_one_server(
    tmp_path: Path, copy_mlflow_store: Callable[[Path], Path]
) -> None:
    first = write_chain(copy_mlflow_store(tmp_path / "first"))
    second = write_chain(copy_mlflow_store(tmp_path / "second"), value=2)
    run_chain(first)
    server = find_server()
    for home in (second, first):
        run_chain(home, "--force")
        assert str(server.pid) in (home / "ancestors").read_text()
    assert find_server() == server
    (first / "numbers_of_project.py").write_text("VALUE = 2\n")
    assert "one: succeeded" in run_chain(first)
    assert chains.read_outputs(list_runs(first)[1]) != chains.read_outputs(list_runs(second)[0])
    assert chains.read_outputs(list_runs(first)[0]) == chains.read_outputs(list_runs(second)[0])
    assert "Nothing to do" in run_chain(first)


@pytest.mark.slow
def test_results_are_the_same_resident_warm_and_cold(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    copy_mlflow_store: Callable[[Path], Path],
) -> None:
    home = write_chain(copy_mlflow_store(tmp_path / "home"))
    run_chain(home)
    run_chain(home, "--force")
    run_chain(home, "--force", "--cold")
    monkeypatch.setenv("CI", "true")
    run_chain(home, "--force")
    outputs = []
    dependencies = []
    for folder in list_runs(home):
        outputs.append(chains.read_outputs(folder))
        recorded = run_manifest.read_manifest(folder).stages["one"].dependencies
        hashes = {path: module.hash for path, module in recorded.modules.items()}
        dependencies.append((hashes, recorded.packages, recorded.files, recorded.env))
    assert len(outputs) == 4
    assert all(output == outputs[0] for output in outputs)
    assert all(recorded == dependencies[0] for recorded in dependencies)


@pytest.mark.slow
def test_server_may_be_killed_at_any_moment(
    tmp_path: Path, copy_mlflow_store: Callable[[Path], Path]
) -> None:
    home = write_chain(copy_mlflow_store(tmp_path / "home"))
    run_chain(home)
    generator = random.Random(0)
    for _ in range(KILL_COUNT):
        with start_run(home, "--force") as process:
            time.sleep(generator.uniform(0, 2))
            stop_servers()
            output, _ = process.communicate(timeout=2 * MAX_WAIT_SECONDS)
        assert process.returncode == 0, output
    stop_servers()
    assert len(list_runs(home)) == KILL_COUNT + 1
    outputs = [chains.read_outputs(folder) for folder in list_runs(home)]
    assert all(output == outputs[0] for output in outputs)
    assert chains.list_stray_processes(home) == []


@pytest.mark.slow
def test_killed_run_is_recorded_as_killed_and_leaves_no_process(tmp_path: Path) -> None:
    home = chains.write_project(
        tmp_path / "home",
        {"one": ("writes: []", ["open('began', 'w').close()\nimport time\ntime.sleep(600)"])},
    )
    start_server()
    with start_run(home) as process:
        wait_for((home / "began").exists)
        process.kill()
    wait_for(lambda: chains.list_stray_processes(home) == [])
    [folder] = list_runs(home)
    # The server still has to collect the process of the run.
    wait_for(lambda: run_manifest.read_manifest(folder).status == "killed")
