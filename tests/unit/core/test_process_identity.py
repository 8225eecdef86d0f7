"""Processes are told apart across restarts, containers and machines, alive and killed."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from mlops_kit.core import files, process_identity
from mlops_kit.core.process_identity import (
    HEARTBEAT_INTERVAL,
    MAX_HEARTBEAT_AGE,
    ProcessIdentity,
    ProcessLiveness,
    ProcessLock,
    ProcessLockHeldError,
    determine_liveness,
    hold_process_lock,
    identify_current_process,
    is_lock_held,
    measure_heartbeat_age,
)
from tests.support.environment import ROOT, make_clean_environment
from tests.support.namespaces import HOST_NAME, NEW_CONTAINER, needs_containers

HOLDING_PROGRAM = """\
import dataclasses, json, sys
from pathlib import Path
from mlops_kit.core.process_identity import hold_process_lock
with hold_process_lock(Path(sys.argv[1])) as identity:
    print(json.dumps(dataclasses.asdict(identity)), flush=True)
    sys.stdin.read()
"""
FORKING_PROGRAM = """\
import os, sys
from pathlib import Path
from mlops_kit.core.process_identity import ProcessLock, is_lock_held
path = Path(sys.argv[1])
lock = ProcessLock(path)
lock.acquire()
child_ready, report_ready = os.pipe()
parent_done, report_done = os.pipe()
child = os.fork()
if child == 0:
    os.close(report_done)
    lock.release()  # as when a with statement is left
    os.write(report_ready, b".")
    os.read(parent_done, 1)
    os._exit(0)
os.read(child_ready, 1)
held_before = is_lock_held(path)
lock.release()
print(held_before, is_lock_held(path))
os.close(report_done)
os.waitpid(child, 0)
"""
VIEWING_PROGRAM = """\
import json, sys
from pathlib import Path
from mlops_kit.core.process_identity import ProcessIdentity, determine_liveness
print(determine_liveness(ProcessIdentity(**json.loads(sys.argv[2])), Path(sys.argv[1])))
"""
WITHOUT_HEARTBEAT = timedelta.max


@pytest.fixture
def lock_path(tmp_path: Path) -> Path:
    return tmp_path / "work.lock"


@contextmanager
def start_holder(
    lock_path: Path, prefix: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[str], ProcessIdentity]]:
    """Start a process that holds the lock, behind a command such as unshare."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", HOLDING_PROGRAM, str(lock_path)],
        cwd=ROOT,
        env=make_clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, ProcessIdentity(**json.loads(process.stdout.readline()))
    finally:
        kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def view_from_new_container(lock_path: Path, identity: ProcessIdentity) -> str:
    text = json.dumps(dataclasses.asdict(identity))
    completed = subprocess.run(
        [*NEW_CONTAINER, sys.executable, "-c", VIEWING_PROGRAM, str(lock_path), text],
        cwd=ROOT,
        env=make_clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return completed.stdout.strip()


def set_heartbeat_age(path: Path, age: timedelta) -> None:
    then = time.time() - age.total_seconds()
    os.utime(path, (then, then))


def test_own_process_is_running_and_another_start_time_is_another_process() -> None:
    identity = identify_current_process()
    assert determine_liveness(identity, None) is ProcessLiveness.RUNNING
    earlier = dataclasses.replace(identity, process_started=identity.process_started - 100)
    assert determine_liveness(earlier, None) is ProcessLiveness.DEAD


def test_identity_is_restored_from_json(tmp_path: Path) -> None:
    identity = identify_current_process("kernel 1:1")
    files.write_json(tmp_path / "identity.json", dataclasses.asdict(identity))
    assert ProcessIdentity(**files.read_json(tmp_path / "identity.json")) == identity


def test_lock_is_held_once_and_released(lock_path: Path) -> None:
    assert is_lock_held(lock_path) is False
    with hold_process_lock(lock_path) as identity:
        assert is_lock_held(lock_path) is True
        assert identity.lock_identity.endswith(f":{lock_path.stat().st_ino}")
        with pytest.raises(ProcessLockHeldError):
            ProcessLock(lock_path).acquire()
    assert is_lock_held(lock_path) is False
    with hold_process_lock(lock_path):
        assert is_lock_held(lock_path) is True


def test_forked_process_does_not_keep_the_lock(lock_path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", FORKING_PROGRAM, str(lock_path)],
        cwd=ROOT,
        env=make_clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout == "True False\n"


def test_asking_does_not_keep_the_lock_from_its_next_holder(lock_path: Path) -> None:
    lock_path.touch()
    descriptor = os.open(lock_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    with pytest.raises(ProcessLockHeldError):
        ProcessLock(lock_path).acquire()
    assert is_lock_held(lock_path) is False  # another one that asks
    os.close(descriptor)
    with hold_process_lock(lock_path):
        pass


def test_heartbeat_is_dated_by_the_file_system(lock_path: Path) -> None:
    assert measure_heartbeat_age(lock_path) == timedelta.max
    with hold_process_lock(lock_path):
        assert measure_heartbeat_age(lock_path) < HEARTBEAT_INTERVAL
        set_heartbeat_age(lock_path, timedelta(hours=1))
        assert measure_heartbeat_age(lock_path) > timedelta(minutes=59)


def test_on_another_machine_the_heartbeat_decides(lock_path: Path) -> None:
    with hold_process_lock(lock_path) as identity:
        pass
    remote = dataclasses.replace(identity, boot_id="another kernel", lock_identity="another 1:1")
    assert determine_liveness(remote, lock_path) is ProcessLiveness.RUNNING_ELSEWHERE
    assert determine_liveness(remote, None, timedelta(0)) is ProcessLiveness.RUNNING_ELSEWHERE
    set_heartbeat_age(lock_path, 2 * MAX_HEARTBEAT_AGE)
    assert determine_liveness(remote, lock_path) is ProcessLiveness.DEAD
    assert determine_liveness(remote, None) is ProcessLiveness.DEAD


def test_lock_that_is_shared_between_machines_outlasts_the_heartbeat(lock_path: Path) -> None:
    with hold_process_lock(lock_path) as identity:
        remote = dataclasses.replace(
            identity, boot_id="another kernel", lock_identity="another 1:1"
        )
        liveness = determine_liveness(remote, lock_path, WITHOUT_HEARTBEAT)
        assert liveness is ProcessLiveness.RUNNING_ELSEWHERE


def test_file_system_without_locks_leaves_it_to_the_heartbeat(
    lock_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(process_identity.fcntl, "flock", refuse)
    with hold_process_lock(lock_path) as identity:
        assert identity.lock_identity == ""
        assert is_lock_held(lock_path) is None
        elsewhere = dataclasses.replace(identity, process_namespace="pid:[1]")
        assert determine_liveness(elsewhere, lock_path) is ProcessLiveness.RUNNING_ELSEWHERE
        liveness = determine_liveness(elsewhere, lock_path, MAX_HEARTBEAT_AGE)
        assert liveness is ProcessLiveness.DEAD


@pytest.mark.slow
def test_killed_process_is_dead_at_once(lock_path: Path) -> None:
    with start_holder(lock_path, []) as (process, identity):
        assert identity.process_id == process.pid
        assert determine_liveness(identity, lock_path) is ProcessLiveness.RUNNING
        kill(process)
        assert determine_liveness(identity, lock_path) is ProcessLiveness.DEAD


@pytest.mark.slow
@needs_containers
def test_process_of_another_container_is_seen_through_its_lock(lock_path: Path) -> None:
    with start_holder(lock_path, NEW_CONTAINER) as (process, identity):
        assert (identity.process_id, identity.host) == (1, HOST_NAME)
        set_heartbeat_age(lock_path, timedelta(hours=1))  # the lock tells more
        liveness = determine_liveness(identity, lock_path)
        assert liveness is ProcessLiveness.RUNNING_ELSEWHERE
        assert view_from_new_container(lock_path, identity) == "running (elsewhere)"
        own_view = view_from_new_container(lock_path, identify_current_process())
        assert own_view == "running (elsewhere)"  # somebody holds the lock
        kill(process)
        wait_for_release(lock_path)
        assert determine_liveness(identity, lock_path) is ProcessLiveness.DEAD
        assert view_from_new_container(lock_path, identity) == "dead"


def wait_for_release(lock_path: Path) -> None:
    """Wait until the kernel has ended the processes of a namespace whose parent was killed."""
    deadline = time.monotonic() + 20
    while is_lock_held(lock_path):
        assert time.monotonic() < deadline
        os.sched_yield()
