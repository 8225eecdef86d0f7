"""Which process does some work, and whether it is still alive.

A process id alone does not tell: another container or another machine that shares the folder has
processes of its own with the same numbers, and numbers are reused. A process that does work which
must not be done twice at once therefore

1. holds a :class:`ProcessLock` on a file beside that work: the kernel releases it when the process
   dies, and all containers of a machine see it. While it is held, a thread touches the file every
   few seconds (the heartbeat), which other machines see;
2. stores its :class:`ProcessIdentity`, which :meth:`ProcessLock.acquire` returns.

Whoever wants to know whether the work goes on calls :func:`determine_liveness` with the stored
identity and the path of the lock. It answers by the strongest evidence there is:

1. the process itself, if this process can see it (same kernel, same process namespace);
2. the lock, which is held, or is known to have been released by the kernel of this machine;
3. the heartbeat: without one for :data:`MAX_HEARTBEAT_AGE`, the process counts as dead.

The watch (``watch.lease``) uses it, and whatever else executes something once at a time can.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

HEARTBEAT_INTERVAL = timedelta(seconds=15)
MAX_HEARTBEAT_AGE = timedelta(seconds=60)
SCHEMA_VERSION = 1
_PROC = Path("/proc")
_BOOT_ID_FILE = _PROC / "sys/kernel/random/boot_id"  # of the kernel, which containers share
_START_TIME_TOLERANCE = 1.0
_ACQUIRE_SECONDS = 0.3  # another process may be asking whether the lock is held
_ACQUIRE_POLL_SECONDS = 0.02
_CONTENTION_ERRORS = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
_UNSUPPORTED_ERRORS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


class ProcessLiveness(StrEnum):
    """Whether a process is alive, as far as this process can know."""

    RUNNING = "running"
    RUNNING_ELSEWHERE = "running (elsewhere)"
    DEAD = "dead"

    @property
    def is_alive(self) -> bool:
        """Whether the process may still be working."""
        return self is not ProcessLiveness.DEAD


@dataclass(frozen=True)
class ProcessIdentity:
    """A process among all processes of all machines.

    Attributes
    ----------
    host : str
        Name of its machine or container, for people; it decides nothing.
    boot_id : str
        The running kernel: it differs between machines and after a restart.
    process_namespace : str
        The process namespace in which ``process_id`` counts; empty where the system has none.
    process_id : int
        The process id.
    process_started : float
        When the process started, in the units of the operating system (on Linux, clock ticks
        since the kernel started): process ids are reused.
    lock_identity : str
        Kernel and file of the lock that it holds; empty if it holds none.
    """

    host: str
    boot_id: str
    process_namespace: str
    process_id: int
    process_started: float
    lock_identity: str = ""
    schema_version: int = SCHEMA_VERSION

    def describe(self) -> str:
        """Describe where the process runs: ``on worker-3 (process 4711)``."""
        return f"on {self.host} (process {self.process_id})"


class ProcessLockHeldError(Exception):
    """Another process holds the lock."""


class ProcessLock:
    """A lock on a file, held by one process at a time, with a heartbeat.

    Parameters
    ----------
    path : Path
        The file; it is created with its folder and stays when the lock is released.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     lock = ProcessLock(Path(folder) / "work.lock")
    ...     identity = lock.acquire()
    ...     determine_liveness(identity, lock.path)
    ...     lock.release()
    <ProcessLiveness.RUNNING: 'running'>
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_touched, daemon=True)

    def acquire(self) -> ProcessIdentity:
        """Acquire the lock, and touch its file from now on.

        Returns
        -------
        ProcessIdentity
            This process, to be stored beside the work. Its ``lock_identity`` is empty if the file
            system has no locks; then only the heartbeat tells other machines and containers.

        Raises
        ------
        ProcessLockHeldError
            If another process holds the lock.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            is_locked = _lock_exclusively(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held_locks.add(self)
        self._touch()
        self._thread.start()
        return identify_current_process(identify_lock(self.path) if is_locked else "")

    def release(self) -> None:
        """Release the lock, unless this is a forked process, which does not hold it."""
        if self not in _held_locks:
            return
        self._stop.set()
        self._thread.join()
        _held_locks.remove(self)
        self.close()

    def close(self) -> None:
        """Close the file of the lock."""
        os.close(self._descriptor)
        self._descriptor = -1

    def _touch(self) -> None:
        with suppress(OSError):  # a file system that fails now may work at the next heartbeat
            os.utime(self.path)

    def _keep_touched(self) -> None:
        while not self._stop.wait(HEARTBEAT_INTERVAL.total_seconds()):
            self._touch()


_held_locks: set[ProcessLock] = set()


def _close_inherited_locks() -> None:
    """Close the locks of the parent in a forked process, which would hold them as long as it lives.

    The parent keeps them.
    """
    for lock in _held_locks:
        lock.close()
    _held_locks.clear()


os.register_at_fork(after_in_child=_close_inherited_locks)


@contextmanager
def hold_process_lock(path: Path) -> Iterator[ProcessIdentity]:
    """Hold a :class:`ProcessLock`.

    Raises
    ------
    ProcessLockHeldError
        If another process holds the lock.
    """
    lock = ProcessLock(path)
    identity = lock.acquire()
    try:
        yield identity
    finally:
        lock.release()


def _lock_exclusively(descriptor: int) -> bool:
    """Lock an open file; return False if its file system has no locks."""
    deadline = time.monotonic() + _ACQUIRE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _UNSUPPORTED_ERRORS:
                return False
            if error.errno not in _CONTENTION_ERRORS:
                raise
        else:
            return True
        if time.monotonic() > deadline:
            raise ProcessLockHeldError
        time.sleep(_ACQUIRE_POLL_SECONDS)


def is_lock_held(path: Path) -> bool | None:
    """Whether a process of this machine, or of one with shared locks, holds the lock on a file.

    Returns
    -------
    bool or None
        None if it cannot be known: the file system has no locks, or the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        # A shared lock: processes that ask at the same time do not see one another.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in _CONTENTION_ERRORS else None
    else:
        return False
    finally:
        os.close(descriptor)


def identify_lock(path: Path) -> str:
    """Identify the kernel that manages a lock, and its file; empty if there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{read_boot_id()} {status.st_dev}:{status.st_ino}"


def measure_heartbeat_age(path: Path) -> timedelta:
    """Measure the time since a lock's file was touched, by the clock of its file system.

    A file that does not exist has never been touched.
    """
    try:
        touched_at = path.stat().st_mtime
    except OSError:
        return timedelta.max
    return timedelta(seconds=max(0.0, _read_file_clock(path.parent) - touched_at))


def _read_file_clock(folder: Path) -> float:
    """Read the clock by which files in a folder are dated; it may be that of a file server."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # such as a read-only mount
        return time.time()


@lru_cache(maxsize=1)
def read_boot_id() -> str:
    """Read what identifies the running kernel."""
    try:
        return _BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        import psutil  # here: Linux does not need it

        return f"{platform.node()} {psutil.boot_time():.0f}"


def identify_current_process(lock_identity: str = "") -> ProcessIdentity:
    """Identify this process."""
    return ProcessIdentity(
        host=platform.node(),
        boot_id=read_boot_id(),
        process_namespace=_read_process_namespace(),
        process_id=os.getpid(),
        process_started=_read_own_start_time(),
        lock_identity=lock_identity,
    )


def determine_liveness(
    identity: ProcessIdentity,
    lock_path: Path | None,
    heartbeat_age: timedelta | None = None,
    max_heartbeat_age: timedelta = MAX_HEARTBEAT_AGE,
) -> ProcessLiveness:
    """Determine whether a process is alive.

    Parameters
    ----------
    lock_path : Path or None
        The file of its lock, as this process sees it; None if it sees none.
    heartbeat_age : timedelta or None
        Time since its last heartbeat, such as one in a database; by default, that of the lock's
        file. It counts only if neither the process nor its lock tells.
    """
    if _shares_processes(identity):
        is_there = _process_exists(identity)
        return ProcessLiveness.RUNNING if is_there else ProcessLiveness.DEAD
    if lock_path is not None:
        is_held = is_lock_held(lock_path)
        if is_held:
            return ProcessLiveness.RUNNING_ELSEWHERE
        is_same_lock = identity.lock_identity != "" and identity.lock_identity == identify_lock(
            lock_path
        )
        if is_held is False and is_same_lock:
            return ProcessLiveness.DEAD
    if heartbeat_age is None:
        heartbeat_age = timedelta.max if lock_path is None else measure_heartbeat_age(lock_path)
    if heartbeat_age < max_heartbeat_age:
        return ProcessLiveness.RUNNING_ELSEWHERE
    return ProcessLiveness.DEAD


class _ProcessStatus(NamedTuple):
    """What the system tells about a process."""

    is_zombie: bool
    started: float


def _shares_processes(identity: ProcessIdentity) -> bool:
    """Whether this process sees the processes among which an identity counts."""
    if identity.boot_id != read_boot_id():
        return False
    if identity.process_namespace != _read_process_namespace():
        return False
    return not _PROC.is_dir() or _read_own_number() == str(os.getpid())


def _read_process_namespace() -> str:
    """Read the process namespace; empty where the system has none."""
    try:
        return str((_PROC / "self/ns/pid").readlink())
    except OSError:
        return ""


def _read_own_number() -> str:
    """Read this process's number in /proc, which may be mounted from another namespace."""
    try:
        return str((_PROC / "self").readlink())
    except OSError:
        return str(os.getpid())


def _process_exists(identity: ProcessIdentity) -> bool:
    """Whether a process of this namespace is alive."""
    is_hidden = False
    try:
        os.kill(identity.process_id, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:
        is_hidden = True  # a process of another user, whose status the system may not show
    status = _read_process_status(str(identity.process_id))
    if status is None:
        return is_hidden  # or it has ended since
    difference = abs(status.started - identity.process_started)
    return not status.is_zombie and difference < _START_TIME_TOLERANCE


def _read_own_start_time() -> float:
    status = _read_process_status("self" if _PROC.is_dir() else str(os.getpid()))
    return status.started if status is not None else 0.0


def _read_process_status(name: str) -> _ProcessStatus | None:
    """Read the status of a process from /proc, or with psutil where there is none."""
    if not _PROC.is_dir():
        return _ask_process_status(int(name))
    try:
        text = (_PROC / name / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field, the program's name in brackets, may contain spaces and brackets.
    fields = text.rpartition(")")[2].split()
    state, start_ticks = fields[0], fields[19]
    return _ProcessStatus(is_zombie=state in {"Z", "X"}, started=float(start_ticks))


def _ask_process_status(process_id: int) -> _ProcessStatus | None:
    import psutil  # here: Linux does not need it

    try:
        process = psutil.Process(process_id)
        return _ProcessStatus(process.status() == psutil.STATUS_ZOMBIE, process.create_time())
    except psutil.Error:
        return None
