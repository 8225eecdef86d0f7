"""One watch per project at a time, on one machine or several.

A watch holds a lock on a file of the project, and a lease in the database that it renews every few
seconds. The lock excludes a second process of the same machine, its containers included, and the
kernel releases it when the process dies: a watch that was killed is replaced at once. The lease
excludes a process that does not see the lock, such as one on another machine with the same
database; one that died there is replaced when its lease has expired.

Times of the lease are those of the database, so that clocks of machines need not agree.
"""

from __future__ import annotations

import os
import platform
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.orm import Session

from mlops_kit.core.errors import RunFailedError
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import WatchLeaseRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project

LEASE_DURATION = timedelta(seconds=60)
RENEWAL_INTERVAL = timedelta(seconds=15)
_LOCK_FILE = "watch.lock"
_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")  # of the kernel, which containers share
_MAX_ERROR_CHARACTERS = 500


def get_database_time(transaction: Session) -> datetime:
    """Return the time of the database's clock."""
    time: datetime = transaction.scalars(sa.select(sa.func.current_timestamp())).one()
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def read_lease(project: Project) -> tuple[WatchLeaseRecord | None, datetime]:
    """Read the lease, None if there never was one, and the time of the database's clock."""
    with open_transaction(project) as transaction:
        current = transaction.get(WatchLeaseRecord, project.config.name)
        return current, get_database_time(transaction)


def is_alive(lease: WatchLeaseRecord, database_time: datetime) -> bool:
    """Whether a watch holds a lease, and has renewed it in time."""
    seen_at = datetime.fromisoformat(lease.seen_at)
    return lease.holder != "" and database_time - seen_at < LEASE_DURATION


class WatchLease:
    """The lease of a running watch.

    Parameters
    ----------
    lock_identity : str
        The kernel and the file of the lock that this process holds; empty if it holds none.
    """

    def __init__(self, project: Project, lock_identity: str) -> None:
        self.project = project
        self.lock_identity = lock_identity
        self.holder = uuid.uuid4().hex
        self._expires_at = datetime.now(UTC)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewed, daemon=True)

    def acquire(self) -> None:
        """Take the lease, and renew it from now on.

        Raises
        ------
        RunFailedError
            If another watch holds it.
        """
        expires_at = datetime.now(UTC) + LEASE_DURATION
        current, now = read_lease(self.project)
        if current is not None and is_alive(current, now) and not self._has_died(current):
            raise make_running_error(current, now)
        if not self._store(current, now):
            raise make_running_error(*read_lease(self.project))
        self._expires_at = expires_at
        self._thread.start()

    def _has_died(self, current: WatchLeaseRecord) -> bool:
        """Whether the holder is known to be dead: the kernel gave its lock to this process."""
        return self.lock_identity != "" and current.lock_identity == self.lock_identity

    def _store(self, current: WatchLeaseRecord | None, now: datetime) -> bool:
        """Store this process as the holder, unless another process does so at the same time."""
        record = WatchLeaseRecord(
            model=self.project.config.name,
            holder=self.holder,
            host=platform.node(),
            process_id=os.getpid(),
            lock_identity=self.lock_identity,
            acquired_at=format_timestamp(now),
            seen_at=format_timestamp(now),
        )
        if current is None:
            try:
                with open_transaction(self.project) as transaction:
                    transaction.add(record)
            except sa.exc.IntegrityError:
                return False
            return True
        return self._update(
            current.holder,
            holder=record.holder,
            host=record.host,
            process_id=record.process_id,
            lock_identity=record.lock_identity,
            acquired_at=record.acquired_at,
            seen_at=record.seen_at,
        )

    def _update(self, expected_holder: str, **values: object) -> bool:
        """Update the lease if it has the holder that is expected; return whether it had."""
        statement = (
            sa.update(WatchLeaseRecord)
            .where(
                WatchLeaseRecord.model == self.project.config.name,
                WatchLeaseRecord.holder == expected_holder,
            )
            .values(values)
        )
        with open_transaction(self.project) as transaction:
            updated = transaction.execute(statement)
            return bool(updated.rowcount)  # type: ignore[attr-defined]

    def renew(self) -> bool:
        """Renew the lease; return whether this process still holds it."""
        expires_at = datetime.now(UTC) + LEASE_DURATION
        with open_transaction(self.project) as transaction:
            now = get_database_time(transaction)
        if not self._update(self.holder, seen_at=format_timestamp(now)):
            return False
        self._expires_at = expires_at
        return True

    def _keep_renewed(self) -> None:
        while not self._stop.wait(RENEWAL_INTERVAL.total_seconds()):
            # A database that does not answer now may do so before the lease expires.
            with suppress(sa.exc.SQLAlchemyError, RunFailedError):
                if not self.renew():
                    return

    def require_held(self) -> None:
        """Check that no other watch has taken over while this process was stopped.

        Raises
        ------
        RunFailedError
            If one has.
        """
        if datetime.now(UTC) < self._expires_at or self.renew():
            return
        raise RunFailedError(
            "another watch of this project has taken over: this process did not run for more than "
            f"{LEASE_DURATION.total_seconds():g} seconds",
            "one watch at a time",
            "leave it to the other one; mlops status names it",
        )

    def note_pass(self, error: str) -> None:
        """Record that a pass has ended, and the error with which it failed."""
        with open_transaction(self.project) as transaction:
            now = get_database_time(transaction)
        time = format_timestamp(now)
        self._update(
            self.holder,
            seen_at=time,
            pass_ended_at=time,
            pass_error=error[:_MAX_ERROR_CHARACTERS],
        )

    def release(self) -> None:
        """Give the lease back; ``seen_at`` tells when this process was last seen."""
        self._stop.set()
        self._thread.join()
        with suppress(sa.exc.SQLAlchemyError, RunFailedError):
            with open_transaction(self.project) as transaction:
                now = get_database_time(transaction)
            self._update(self.holder, holder="", seen_at=format_timestamp(now))


def make_running_error(current: WatchLeaseRecord | None, now: datetime) -> RunFailedError:
    """Make the error of a second watch, which says where the first one runs."""
    place = ""
    if current is not None and current.holder:
        seconds = (now - datetime.fromisoformat(current.seen_at)).total_seconds()
        place = (
            f" on {current.host} (process {current.process_id}), last seen {max(0, seconds):.0f} "
            "seconds ago"
        )
    return RunFailedError(
        f"another watch of this project is running{place}",
        "one watch at a time",
        "stop it first, or let it continue; if it was killed on another machine, try again in "
        f"{LEASE_DURATION.total_seconds():g} seconds",
    )


def _identify_lock(path: Path) -> str:
    """Identify the kernel that manages a lock, and its file."""
    try:
        boot_id = _BOOT_ID_FILE.read_text().strip()
    except OSError:
        import psutil

        boot_id = f"{platform.node()} {psutil.boot_time():.0f}"
    status = path.stat()
    return f"{boot_id} {status.st_dev}:{status.st_ino}"


@contextmanager
def hold_lease(project: Project) -> Iterator[WatchLease]:
    """Hold the lock and the lease of a project's watch.

    Raises
    ------
    RunFailedError
        If another watch of the project is running.
    """
    path = project.resolve_path(".mlops") / _LOCK_FILE
    lock = FileLock(path)
    lock_identity = ""
    try:
        lock.acquire(timeout=0)
        lock_identity = _identify_lock(path)
    except NotImplementedError:
        pass  # the file system has no locks: the lease alone decides
    except Timeout as error:
        raise make_running_error(*read_lease(project)) from error
    try:
        lease = WatchLease(project, lock_identity)
        lease.acquire()
        try:
            yield lease
        finally:
            lease.release()
    finally:
        lock.release()
