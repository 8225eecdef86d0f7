"""The environment of a process: variables set before heavy libraries load, and the user."""

from __future__ import annotations

import getpass
import os
import pwd
from pathlib import Path

# MLflow and others send telemetry unless told not to. OpenMP threads that wait for one another
# spin by default: on cores that are shared with other processes, a fit with two threads took
# several times as long (bench/threads.py). OpenMP reads its variable when scikit-learn loads it.
DEFAULT_ENVIRONMENT_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GOMP_SPINCOUNT": "1000",
}
# Without this the debugger of kernels warns about frozen modules.
DEBUGGER_ENVIRONMENT_VARIABLES = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
# Where libraries write that otherwise fail, or warn, if the home folder cannot be written.
_WRITABLE_FOLDER_VARIABLES = {
    "IPYTHONDIR": "ipython",
    "JUPYTER_RUNTIME_DIR": "jupyter",
    "MPLCONFIGDIR": "matplotlib",
    "XDG_CACHE_HOME": "cache",
}
# What container engines leave in a container: files, environment variables, names in the cgroup.
_CONTAINER_FILES = (Path("/.dockerenv"), Path("/run/.containerenv"))
_CONTAINER_VARIABLES = ("KUBERNETES_SERVICE_HOST", "container")
_CONTAINER_CGROUPS = ("docker", "kubepods", "containerd", "lxc")
_FIRST_PROCESS_CGROUP = Path("/proc/1/cgroup")


def get_user_name() -> str:
    """Return the name of the process's user id; ``uid 54321`` if the system knows no name for it.

    The environment does not count: anybody can set ``LOGNAME``. Containers often run with a user
    id that has no entry in the password database.
    """
    uid = os.getuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    return name or f"uid {uid}"


def is_container() -> bool:
    """Return whether this process runs in a container, as far as container engines show it."""
    if any(os.environ.get(name) for name in _CONTAINER_VARIABLES):
        return True
    if any(file.exists() for file in _CONTAINER_FILES):
        return True
    try:
        cgroup = _FIRST_PROCESS_CGROUP.read_text(encoding="utf-8")
    except OSError:
        return False
    return any(name in cgroup for name in _CONTAINER_CGROUPS)


def complete_environment() -> None:
    """Set the user's name and home folder in the environment if the system knows none.

    IPython, Jupyter and MLflow look them up and fail without. The home folder is then one in the
    folder for temporary files that only this user can read. A home folder that cannot be written
    is kept, since settings may be read from it, but what libraries write goes elsewhere.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["LOGNAME"] = get_user_name()
    home = os.path.expanduser("~")
    if not os.path.isdir(home):
        os.environ["HOME"] = str(_create_home_folder())
    elif not os.access(home, os.W_OK):
        folder = _create_home_folder()
        for name, subfolder in _WRITABLE_FOLDER_VARIABLES.items():
            os.environ.setdefault(name, str(folder / subfolder))


def _create_home_folder() -> Path:
    """Create a home folder, or return the one of an earlier process of the same user."""
    import tempfile

    folder = Path(tempfile.gettempdir()) / f"mlops-kit-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    is_private = folder.is_dir() and not folder.is_symlink() and not status.st_mode & 0o077
    if status.st_uid == os.getuid() and is_private:
        return folder
    # Another user has made a folder of this name.
    return Path(tempfile.mkdtemp(prefix="mlops-kit-"))
