"""When the watch was last seen, where it runs, and how its last pass ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from mlops_kit.db.engine import database_exists, open_read_session
from mlops_kit.db.tables import WatchLeaseRecord, WatchRecord
from mlops_kit.project.loader import Project
from mlops_kit.watch.lease import (
    LEASE_DURATION,
    determine_holder_liveness,
    get_database_time,
    get_lock_path,
)


class WatchLiveness(NamedTuple):
    """The state of a project's watch.

    Attributes
    ----------
    is_running : bool
        Whether a watch runs now, also in another container or on another machine.
    is_responding : bool
        Whether it was seen as lately as a watch that runs is; one that is stopped is not.
    is_dead : bool
        Whether the last one ended without saying so: it was killed, or its machine is gone.
    age_seconds : float
        Time since it was last seen.
    host : str
        Where it runs or ran.
    process_id : int
        Its process there.
    pass_ended_at : str
        When its last pass ended; empty if none has.
    pass_error : str
        The error with which that pass failed; empty if it did not.
    watched_until : str
        Up to which event time it has come; empty if it has not begun.
    """

    is_running: bool
    is_responding: bool
    is_dead: bool
    seen_at: datetime
    age_seconds: float
    host: str
    process_id: int
    pass_ended_at: str
    pass_error: str
    watched_until: str

    def to_json_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {**self._asdict(), "seen_at": self.seen_at.isoformat()}

    def describe(self) -> str:
        """Describe the state in a line."""
        place = f"on {self.host} (process {self.process_id})"
        ago = f"{self.age_seconds:,.0f} seconds ago"
        if self.is_running and not self.is_responding:
            text = f"not responding {place}, last seen {ago}"
        elif self.is_running:
            text = f"running {place}, last seen {ago}"
        elif self.is_dead:
            text = f"died {place}, last seen {ago}"
        else:
            text = f"not running, last seen {ago}"
        if self.watched_until:
            text += f"; up to {self.watched_until[:16]} UTC"
        if self.pass_error:
            text += f"; the last pass failed: {self.pass_error}"
        return text


def read_watch_liveness(project: Project) -> WatchLiveness | None:
    """Read the state of a project's watch; None if it has never run."""
    if not database_exists(project):
        return None
    with open_read_session(project) as transaction:
        lease = transaction.get(WatchLeaseRecord, project.config.name)
        progress = transaction.get(WatchRecord, project.config.name)
        now = get_database_time(transaction)
    if lease is None:
        return None
    seen_at = datetime.fromisoformat(lease.seen_at)
    age = now - seen_at
    liveness = determine_holder_liveness(lease, now, get_lock_path(project))
    return WatchLiveness(
        is_running=liveness.is_alive,
        is_responding=liveness.is_alive and age < LEASE_DURATION,
        is_dead=lease.holder != "" and not liveness.is_alive,
        seen_at=seen_at,
        age_seconds=max(0.0, age.total_seconds()),
        host=lease.host,
        process_id=lease.process_id,
        pass_ended_at=lease.pass_ended_at or "",
        pass_error=lease.pass_error,
        watched_until=progress.watched_until if progress else "",
    )
