"""Whether predictions and labels can be stored at this moment.

A response that is not in the prediction log is never sent, so a server that cannot write is not
ready. A thread checks it about twice a second: it takes the lock that an insert needs and gives it
back, and looks at the free disk space. Once a check or a write has failed, it writes and deletes a
row instead, until that works.
"""

from __future__ import annotations

import logging
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core.errors import KitError
from mlops_kit.db.engine import close_connections, open_transaction
from mlops_kit.db.location import resolve_database_url
from mlops_kit.db.tables import PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project

_logger = logging.getLogger(__name__)
MAX_LOCK_WAIT_SECONDS = 1.5  # of a request, for the transaction of another process
_CHECK_SECONDS = 0.4
_CHECK_LOCK_WAIT_SECONDS = 0.4
_MIN_FREE_BYTES = 2**20
_CHECK_MODEL = ":storage-check:"  # no project has this name


class StorageError(Exception):
    """Predictions cannot be stored."""


_STORAGE_ERRORS = (StorageError, KitError, sa.exc.SQLAlchemyError, OSError)


class _FileIdentity(NamedTuple):
    """Which file a SQLite database is; a file that replaces it has another identity."""

    device: int
    inode: int


class StorageCheck:
    """Knows whether the database of a project takes predictions.

    Parameters
    ----------
    project : Project
        The project that serves.

    Attributes
    ----------
    problem : str
        Why predictions cannot be stored; empty if they can.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.problem = ""
        _, self._file = resolve_database_url(project)
        self._identity: _FileIdentity | None = None
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)

    def start(self) -> None:
        """Check now, then twice a second."""
        self.check()
        self._thread.start()

    def close(self) -> None:
        """Stop checking."""
        self._is_closed.set()
        if self._thread.is_alive():
            self._thread.join()

    def report_failure(self, error: Exception) -> None:
        """Report that a write has failed; requests are refused until one works again.

        An error that is not the storage's is ignored.
        """
        if isinstance(error, _STORAGE_ERRORS):
            self._set_problem(describe_error(error))

    def require_database(self) -> None:
        """Make sure that the open database is still the one at its path.

        SQLite goes on writing into a file that was removed or replaced, where nobody reads it.

        Raises
        ------
        StorageError
            If it is not.
        """
        if self._file is None or self._identity is None:
            return
        if _identify_file(self._file) != self._identity:
            raise StorageError(f"the database {self._file} was removed or replaced")

    def check(self) -> None:
        """Find out whether predictions can be stored."""
        try:
            self._check_file()
            has_failed = self.problem != ""
            with open_transaction(self.project, _CHECK_LOCK_WAIT_SECONDS) as session:
                if has_failed:
                    _write_and_delete_row(session)
                else:
                    _take_write_lock(session)
            self.require_database()
        except Exception as error:  # the thread survives whatever the database raises
            self._set_problem(describe_error(error))
        else:
            self._set_problem("")

    def _check_file(self) -> None:
        """Check a SQLite file and its disk; a file that was restored is opened anew."""
        if self._file is None:
            return
        identity = _identify_file(self._file)
        if identity is None and self._identity is not None:
            raise StorageError(f"the database {self._file} was removed")
        if identity is not None and identity != self._identity:
            if self._identity is not None:
                close_connections()
            self._identity = identity
        free_bytes = shutil.disk_usage(self._file.parent).free
        if free_bytes < _MIN_FREE_BYTES:
            raise StorageError(f"the disk of {self._file} is full ({free_bytes:,} bytes are free)")

    def _set_problem(self, problem: str) -> None:
        """Note and log a problem that is new, or that there is none any more."""
        if problem and not self.problem:
            _logger.error("predictions cannot be stored: %s", problem)
        if self.problem and not problem:
            _logger.warning("predictions can be stored again")
        self.problem = problem

    def _run(self) -> None:
        while not self._is_closed.wait(_CHECK_SECONDS):
            self.check()


def _identify_file(file: Path) -> _FileIdentity | None:
    """Return which file is at a path; None if there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return _FileIdentity(status.st_dev, status.st_ino)


def _take_write_lock(session: Session) -> None:
    """Take the lock that an insert needs; the end of the transaction gives it back."""
    if session.get_bind().dialect.name == "sqlite":
        session.connection().exec_driver_sql("BEGIN IMMEDIATE")
        return
    session.execute(sa.text(f"LOCK TABLE {PredictionRecord.__tablename__} IN ROW EXCLUSIVE MODE"))


def _write_and_delete_row(session: Session) -> None:
    """Write as an insert does; nothing of it is left."""
    record = PredictionRecord(
        id=f"{_CHECK_MODEL}{datetime.now(UTC).timestamp()}",
        model=_CHECK_MODEL,
        version="",
        model_hash="",
        request_id="",
        request_hash="",
        row_key="",
        event_time=None,
        score=0.0,
        predicted_class=None,
        features="[]",
        origin="",
        scored_at=format_timestamp(datetime.now(UTC)),
    )
    session.add(record)
    session.flush()
    session.delete(record)


def describe_error(error: Exception) -> str:
    """Describe why something could not be stored, without the statement and its values."""
    if isinstance(error, KitError):
        return error.message
    source = error.orig if isinstance(error, sa.exc.DBAPIError) else error
    lines = str(source).strip().splitlines()
    return lines[0] if lines else type(source).__name__
