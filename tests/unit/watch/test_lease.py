"""One watch at a time: lock and lease exclude a second one, and a dead one is replaced."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_kit.core import process_identity
from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.process_identity import (
    ProcessIdentity,
    identify_current_process,
    is_lock_held,
)
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import WatchLeaseRecord, WatchRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project, load_project
from mlops_kit.watch.lease import LEASE_DURATION, WatchLease, get_lock_path, hold_lease
from mlops_kit.watch.liveness import read_watch_liveness
from tests.support.environment import ROOT, make_clean_environment
from tests.support.namespaces import HOST_NAME, NEW_CONTAINER, needs_containers

SETTINGS = "name: t\nsource: t.csv\ntarget: y\ntask: binary\ntime: at\n"
_numbers = itertools.count(1)
HOLDING_PROGRAM = """\
import sys
from mlops_kit.project.loader import load_project
from mlops_kit.watch.lease import hold_lease
with hold_lease(load_project(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "mlops.yaml").write_text(SETTINGS)
    return load_project(tmp_path)


def read_lease(project: Project) -> WatchLeaseRecord:
    (record,) = query_records(project, sa.select(WatchLeaseRecord))
    return record


def set_age(project: Project, age: timedelta) -> None:
    """Set when the holder was last seen."""
    seen_at = format_timestamp(datetime.now(UTC) - age)
    with open_transaction(project) as transaction:
        transaction.execute(sa.update(WatchLeaseRecord).values(seen_at=seen_at))


def make_remote_identity() -> ProcessIdentity:
    """Make the identity of a process on another machine, whose lock is not seen here."""
    boot_id = f"kernel {next(_numbers)}"
    return dataclasses.replace(
        identify_current_process(),
        boot_id=boot_id,
        host="remote",
        lock_identity=f"{boot_id} 1:1",
    )


def acquire_elsewhere(project: Project) -> WatchLease:
    """Acquire the lease as a process on another machine does."""
    lease = WatchLease(project, make_remote_identity())
    lease.acquire()
    return lease


def test_lease_is_held_and_given_back(project: Project) -> None:
    assert read_watch_liveness(project) is None
    with hold_lease(project) as lease:
        lease.require_held()
        liveness = read_watch_liveness(project)
        assert liveness is not None
        assert liveness.is_running
        assert liveness.process_id == os.getpid()
        assert liveness.describe().startswith("running on ")
        lease.note_pass("ValueError: no")
    liveness = read_watch_liveness(project)
    assert liveness is not None
    assert (liveness.is_running, liveness.is_dead) == (False, False)
    assert liveness.describe().endswith("the last pass failed: ValueError: no")
    with hold_lease(project):
        assert read_lease(project).holder != ""


def test_watch_on_another_machine_is_refused_until_its_lease_has_expired(project: Project) -> None:
    first = acquire_elsewhere(project)
    with pytest.raises(RunFailedError, match=r"another watch .* is running on remote "):
        acquire_elsewhere(project)
    with pytest.raises(RunFailedError, match=r"is running on remote "), hold_lease(project):
        pass
    set_age(project, LEASE_DURATION + timedelta(seconds=1))
    with hold_lease(project) as second:
        first.require_held()  # it believes so until it has renewed, or its own time is over
        first._expires_at = datetime.now(UTC)
        with pytest.raises(RunFailedError, match="another watch of this project has taken over"):
            first.require_held()
        assert not first.renew()
        first.release()  # gives back nothing
        assert read_lease(project).holder == second.holder


def test_watch_that_was_replaced_commits_nothing(project: Project) -> None:
    with hold_lease(project) as lease:
        with open_transaction(project) as transaction:
            transaction.add(make_progress())
        with open_transaction(project) as transaction:
            transaction.info["concerns_lease"] = True
            transaction.execute(sa.update(WatchLeaseRecord).values(holder="another process"))
        lease.require_held()  # by its own clock it still holds the lease
        message = "another watch of this project has taken over"
        statement = sa.update(WatchRecord).values(watched_until="2030-01-01")
        with (
            pytest.raises(RunFailedError, match=message),
            open_transaction(project) as transaction,
        ):
            transaction.execute(statement)
        with (
            pytest.raises(RunFailedError, match=message),
            open_transaction(project) as transaction,
        ):
            transaction.get_one(WatchRecord, "t").watched_until = "2030-01-01"
        (progress,) = query_records(project, sa.select(WatchRecord))  # reading is allowed
        assert progress.watched_until == "2024-01-01"
    with open_transaction(project) as transaction:  # no longer a watch
        transaction.execute(statement)


def make_progress() -> WatchRecord:
    start = "2024-01-01"
    return WatchRecord(model="t", watched_from=start, watched_until=start, updated_at=start)


def test_process_that_was_stopped_for_long_goes_on_and_is_not_replaced(project: Project) -> None:
    with hold_lease(project) as lease:
        set_age(project, 2 * LEASE_DURATION)
        lease._expires_at = datetime.now(UTC)
        liveness = read_watch_liveness(project)
        assert liveness is not None
        assert (liveness.is_running, liveness.is_dead) == (True, False)
        assert liveness.describe().startswith("not responding on ")
        with pytest.raises(RunFailedError, match="another watch of this project is running"):
            WatchLease(project, identify_current_process()).acquire()  # in another folder
        lease.require_held()
        assert datetime.fromisoformat(read_lease(project).seen_at) > datetime.now(UTC) - timedelta(
            seconds=5
        )


def test_lease_of_an_earlier_version_expires(project: Project) -> None:
    with hold_lease(project) as lease:
        lease._update(lease.holder, process_json="", lock_identity="another kernel 1:1")
        with pytest.raises(RunFailedError, match="another watch of this project is running"):
            acquire_elsewhere(project)
        set_age(project, 2 * LEASE_DURATION)
        acquire_elsewhere(project).release()


def test_of_two_that_take_an_expired_lease_at_once_one_succeeds(project: Project) -> None:
    first = acquire_elsewhere(project)
    first._stop.set()
    set_age(project, 2 * LEASE_DURATION)
    seen_by_both = read_lease(project)
    now = datetime.now(UTC)
    contenders = [WatchLease(project, make_remote_identity()) for _ in range(2)]
    assert [contender._store(seen_by_both, now) for contender in contenders] == [True, False]


def test_error_names_the_watch_that_was_faster_and_not_the_dead_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = acquire_elsewhere(project)
    dead._stop.set()
    with open_transaction(project) as transaction:
        transaction.execute(sa.update(WatchLeaseRecord).values(host="dead-host"))
    set_age(project, 2 * LEASE_DURATION)
    store = WatchLease._store

    def store_too_late(lease: WatchLease, *seen: Any) -> bool:
        assert store(WatchLease(project, make_remote_identity()), *seen)
        return store(lease, *seen)

    monkeypatch.setattr(WatchLease, "_store", store_too_late)
    with pytest.raises(RunFailedError, match=r"is running on .*last seen 0 seconds") as raised:
        acquire_elsewhere(project)
    assert "dead-host" not in str(raised.value)


def test_file_system_without_locks_leaves_it_to_the_lease(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with open_transaction(project):
        pass  # creates the database, which has a lock of its own
    monkeypatch.setattr(process_identity.fcntl, "flock", refuse)
    with (
        hold_lease(project),
        pytest.raises(RunFailedError, match="is running on"),
        hold_lease(project),
    ):
        pass
    assert read_lease(project).lock_identity == ""


@contextmanager
def start_holder(project: Project, prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the lease, or is refused, behind a command such as unshare."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", HOLDING_PROGRAM, str(project.root)],
        cwd=ROOT,
        env=make_clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until_held(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"


def describe_watch(project: Project) -> str:
    liveness = read_watch_liveness(project)
    assert liveness is not None
    return liveness.describe()


@pytest.mark.slow
def test_killed_process_is_replaced_at_once_and_a_running_one_is_not(project: Project) -> None:
    with start_holder(project) as process:
        wait_until_held(process)
        message = rf"is running on .* \(process {process.pid}\)"
        with pytest.raises(RunFailedError, match=message), hold_lease(project):
            pass
        process.kill()
        process.communicate()
        assert describe_watch(project).startswith("died on ")
        with hold_lease(project):
            assert read_lease(project).process_id == os.getpid()


@pytest.mark.slow
@needs_containers
def test_two_containers_on_one_folder_do_not_collide(project: Project) -> None:
    with start_holder(project, NEW_CONTAINER) as process:
        wait_until_held(process)
        place = f"running on {HOST_NAME} (process 1)"
        assert describe_watch(project).startswith(place)
        set_age(project, 2 * LEASE_DURATION)  # the lock tells that it is alive
        assert describe_watch(project).startswith(f"not responding on {HOST_NAME}")
        with pytest.raises(RunFailedError, match="is running on other-container"):
            hold_lease(project).__enter__()
        process.kill()
        process.wait()  # closing its standard input earlier would let the holder end by itself
        deadline = time.monotonic() + 20
        while is_lock_held(get_lock_path(project)):  # the kernel ends the namespace
            assert time.monotonic() < deadline
        assert describe_watch(project).startswith(f"died on {HOST_NAME}")
    with hold_lease(project), start_holder(project, NEW_CONTAINER) as process:
        _, errors = process.communicate()
        assert f"is running on {platform.node()} (process {os.getpid()})" in errors


@pytest.mark.slow
def test_of_machines_that_share_a_postgresql_database_one_watches(
    tmp_path: Path, postgres_database: str
) -> None:
    projects = []
    for machine in ("first", "second", "third", "fourth"):
        folder = tmp_path / machine
        folder.mkdir()
        (folder / "mlops.yaml").write_text(f"{SETTINGS}database: {postgres_database}\n")
        projects.append(load_project(folder))
    for _round in range(3):  # the first one without a lease, the others with one that has expired
        leases = [WatchLease(project, make_remote_identity()) for project in projects]
        with ThreadPoolExecutor() as executor:
            futures = [executor.submit(lease.acquire) for lease in leases]
        errors = [future.exception() for future in futures]
        assert errors.count(None) == 1
        assert sum(isinstance(error, RunFailedError) for error in errors) == 3
        holder = leases[errors.index(None)]
        assert read_lease(projects[0]).holder == holder.holder
        set_age(projects[0], 2 * LEASE_DURATION)
        holder._stop.set()
    with hold_lease(projects[0]):
        with open_transaction(projects[1]) as transaction:
            transaction.info["concerns_lease"] = True
            transaction.execute(sa.update(WatchLeaseRecord).values(holder="another machine"))
        with (
            pytest.raises(RunFailedError, match="has taken over"),
            open_transaction(projects[0]) as transaction,
        ):
            transaction.add(make_progress())
    assert query_records(projects[0], sa.select(WatchRecord)) == []
