"""One watch per project at a time, on one machine or several.

A watch holds a lock on a file of the project, and a lease in the database that it renews every few
seconds. The lock excludes a second process of the same machine, its containers included, and the
kernel releases it when the process dies: a watch that was killed is replaced at once. The lease
excludes a process that does not see the lock, such as one on another machine with the same
database; one that died there is replaced when its lease has expired
(``mlops_kit.core.process_identity`` decides who is dead).

A watch that was replaced while it was stopped, such as on a machine that was suspended, stores
nothing more: each of its transactions requires the lease before it is committed.

Times of the lease are those of the database, so that clocks of machines need not agree.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core import process_identity
from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.process_identity import (
    ProcessIdentity,
    ProcessLiveness,
    ProcessLock,
    ProcessLockHeldError,
)
from mlops_kit.db.engine import guard_writes, open_transaction
from mlops_kit.db.tables import WatchLeaseRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project

LEASE_DURATION = process_identity.MAX_HEARTBEAT_AGE
RENEWAL_INTERVAL = process_identity.HEARTBEAT_INTERVAL
_LOCK_FILE = "watch.lock"
_MAX_ERROR_CHARACTERS = 500
_CONCERNS_LEASE = "concerns_lease"


def get_database_time(transaction: Session) -> datetime:
    """Return the time of the database's clock."""
    time: datetime = transaction.scalars(sa.select(sa.func.current_timestamp())).one()
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def read_lease(project: Project) -> tuple[WatchLeaseRecord | None, datetime]:
    """Read the lease, None if there never was one, and the time of the database's clock."""
    with open_transaction(project) as transaction:
        current = transaction.get(WatchLeaseRecord, project.config.name)
        return current, get_database_time(transaction)


def get_lock_path(project: Project) -> Path:
    """Return the file whose lock the watch of a project holds."""
    return project.resolve_path(".mlops") / _LOCK_FILE


def read_holder(lease: WatchLeaseRecord) -> ProcessIdentity:
    """Read the process that holds a lease, or did so last."""
    if lease.process_json:
        return ProcessIdentity(**json.loads(lease.process_json))
    # Stored by an earlier version: no process of this machine is known by it.
    return ProcessIdentity(
        host=lease.host,
        boot_id="",
        process_namespace="",
        process_id=lease.process_id,
        process_started=0.0,
        lock_identity=lease.lock_identity,
    )


def determine_holder_liveness(
    lease: WatchLeaseRecord,
    database_time: datetime,
    lock_path: Path | None,
) -> ProcessLiveness:
    """Determine whether a watch holds a lease and is alive.

    Parameters
    ----------
    lock_path : Path or None
        The file of its lock; None if this process holds that lock itself.
    """
    if lease.holder == "":
        return ProcessLiveness.DEAD
    return process_identity.determine_liveness(
        read_holder(lease),
        lock_path,
        database_time - datetime.fromisoformat(lease.seen_at),
    )


class WatchLease:
    """The lease of a running watch.

    Parameters
    ----------
    identity : ProcessIdentity
        This process, with the lock that it holds.
    """

    def __init__(self, project: Project, identity: ProcessIdentity) -> None:
        self.project = project
        self.identity = identity
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
        if current is not None and self._is_held(current, now):
            raise make_running_error(current, now)
        if not self._store(current, now):
            raise make_running_error(*read_lease(self.project))
        self._expires_at = expires_at
        self._thread.start()

    def _is_held(self, current: WatchLeaseRecord, now: datetime) -> bool:
        """Whether another watch holds the lease and is alive."""
        own_lock = self.identity.lock_identity
        if own_lock and own_lock == current.lock_identity:
            return False  # the kernel gave its lock to this process
        return determine_holder_liveness(current, now, None).is_alive

    def _store(self, current: WatchLeaseRecord | None, now: datetime) -> bool:
        """Store this process as the holder, unless another process does so at the same time."""
        record = WatchLeaseRecord(
            model=self.project.config.name,
            holder=self.holder,
            host=self.identity.host,
            process_id=self.identity.process_id,
            lock_identity=self.identity.lock_identity,
            process_json=json.dumps(dataclasses.asdict(self.identity)),
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
            process_json=record.process_json,
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
            transaction.info[_CONCERNS_LEASE] = True
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
        raise make_replaced_error()

    def require_held_in(self, transaction: Session) -> None:
        """Check in a transaction that this process holds the lease until it is committed.

        Raises
        ------
        RunFailedError
            If another watch has taken over.
        """
        if transaction.info.get(_CONCERNS_LEASE):
            return  # it changes the lease only if this process holds it
        statement = (
            sa.select(WatchLeaseRecord.holder)
            .where(WatchLeaseRecord.model == self.project.config.name)
            .with_for_update(read=True)
        )
        if transaction.execute(statement).scalar() != self.holder:
            raise make_replaced_error()

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


def make_replaced_error() -> RunFailedError:
    """Make the error of a watch that was replaced while it was stopped."""
    return RunFailedError(
        "another watch of this project has taken over: this process did not run for more than "
        f"{LEASE_DURATION.total_seconds():g} seconds",
        "one watch at a time",
        "leave it to the other one; mlops status names it",
    )


def make_running_error(current: WatchLeaseRecord | None, now: datetime) -> RunFailedError:
    """Make the error of a second watch, which says where the first one runs."""
    place = ""
    if current is not None and current.holder:
        seconds = (now - datetime.fromisoformat(current.seen_at)).total_seconds()
        holder = read_holder(current)
        place = f" {holder.describe()}, last seen {max(0, seconds):.0f} seconds ago"
    return RunFailedError(
        f"another watch of this project is running{place}",
        "one watch at a time",
        "stop it first, or let it continue; if it was killed on another machine, try again in "
        f"{LEASE_DURATION.total_seconds():g} seconds",
    )


@contextmanager
def hold_lease(project: Project) -> Iterator[WatchLease]:
    """Hold the lock and the lease of a project's watch.

    Raises
    ------
    RunFailedError
        If another watch of the project is running.
    """
    lock = ProcessLock(get_lock_path(project))
    try:
        identity = lock.acquire()
    except ProcessLockHeldError as error:
        raise make_running_error(*read_lease(project)) from error
    try:
        lease = WatchLease(project, identity)
        lease.acquire()
        try:
            with guard_writes(project, lease.require_held_in):
                yield lease
        finally:
            lease.release()
    finally:
        lock.release()
