"""Which resident server serves this process, and where it listens.

A process that the server forks for a caller should be as if the caller had started it. What a
process inherits is therefore part of the server's name: the interpreter and its flags, environment
variables (modules read some while they are imported), limits, user, groups, namespaces and control
group. Callers that differ in one of them get a server of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

# These describe a terminal session. No library reads them while it is imported; what a command
# reads later is in the environment that it hands over.
_SESSION_VARIABLES = frozenset(
    {
        "_",
        "COLUMNS",
        "CONDA_PROMPT_MODIFIER",
        "DBUS_SESSION_BUS_ADDRESS",
        "DISPLAY",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "LINES",
        "LS_COLORS",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MAKE_TERMERR",
        "MAKE_TERMOUT",
        "MFLAGS",
        "OLDPWD",
        "PS1",
        "PWD",
        "PYTEST_CURRENT_TEST",
        "SHLVL",
        "STY",
        "VIRTUAL_ENV_PROMPT",
        "WINDOWID",
        "XAUTHORITY",
    }
)
_SESSION_PREFIXES = ("MLOPS_", "SSH_", "TERM_SESSION", "TMUX", "VSCODE_", "XDG_SESSION")
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
_STATUS_FIELDS = (
    "CapAmb",
    "CapBnd",
    "CapEff",
    "CapInh",
    "CapPrm",
    "Gid",
    "Groups",
    "Mems_allowed_list",
    "NoNewPrivs",
    "Seccomp",
    "Uid",
)
_KEY_LENGTH = 20
_FOLDER_NAME = "mlops-kit"
_PRIVATE_MODE = 0o700
_MAX_SOCKET_PATH_BYTES = 100  # the limit is 107 on Linux


def find_socket_path() -> Path | None:
    """Return where the resident server of this process's circumstances listens.

    Returns
    -------
    Path or None
        None if this process cannot have one: the system is not Linux, or there is no folder that
        only this user can use.
    """
    folder = find_private_folder()
    if folder is None:
        return None
    path = folder / f"{compute_circumstances_key()}.sock"
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH_BYTES:
        return None
    return path


def find_private_folder(creates_it: bool = True) -> Path | None:
    """Return the folder of the sockets, which only this user can read.

    Parameters
    ----------
    creates_it : bool
        Whether to create it if necessary.

    Returns
    -------
    Path or None
        None if there is no such folder: another user has made one of this name, it cannot be
        created, or the system is not Linux.
    """
    if sys.platform != "linux":
        return None
    runtime_folder = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime_folder and os.access(runtime_folder, os.W_OK):
        folder = Path(runtime_folder) / _FOLDER_NAME
    else:
        folder = Path(tempfile.gettempdir()) / f"{_FOLDER_NAME}-run-{os.getuid()}"
    try:
        if creates_it:
            folder.mkdir(mode=_PRIVATE_MODE, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    is_private = status.st_uid == os.getuid() and not status.st_mode & 0o077
    return folder if stat.S_ISDIR(status.st_mode) and is_private else None


def compute_circumstances_key() -> str:
    """Compute the name of the circumstances in which this process runs."""
    circumstances = {
        "interpreter": _describe_interpreter(),
        "package": __file__,
        "environment": select_inherited_variables(),
        "limits": _list_limits(),
        "process": _describe_process(),
    }
    text = json.dumps(circumstances, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:_KEY_LENGTH]


def select_inherited_variables() -> dict[str, str]:
    """Select the environment variables that a library may read while it is imported."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _SESSION_VARIABLES and not name.startswith(_SESSION_PREFIXES)
    }


def list_interpreter_flags() -> list[str]:
    """List the command line options of the interpreter, such as ``-W`` and ``-X``."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return flags


def _describe_interpreter() -> list[str]:
    """Describe the interpreter: an upgrade in its place makes another one of it."""
    status = os.stat(sys.executable)
    return [
        sys.executable,
        os.path.realpath(sys.executable),
        sys.version,
        f"{status.st_mtime_ns} {status.st_size}",
        *list_interpreter_flags(),
    ]


def _list_limits() -> dict[str, tuple[int, int]]:
    """List the resource limits of this process."""
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in sorted(names)}


def _describe_process() -> dict[str, object]:
    """Describe what else a child inherits from this process."""
    namespaces = {name: _read_link(f"/proc/self/ns/{name}") for name in _NAMESPACES}
    status = {}
    for line in _read_text("/proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name in _STATUS_FIELDS:
            status[name] = value.strip()
    return {
        "namespaces": namespaces,
        "status": status,
        "root": _read_link("/proc/self/root"),
        "cgroup": _read_text("/proc/self/cgroup"),
        "oom_score": _read_text("/proc/self/oom_score_adj"),
        "cores": sorted(os.sched_getaffinity(0)),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    }


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
