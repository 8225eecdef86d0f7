"""The environment of a process: variables set before heavy libraries load, and the user."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

# MLflow and others send telemetry unless told not to. OpenMP threads that wait for one another
# spin by default: on cores that are shared with other processes, a fit with two threads took
# several times as long (bench/threads.py). OpenMP reads its variable when scikit-learn loads it.
DEFAULT_ENVIRONMENT_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GOMP_SPINCOUNT": "1000",
}


def get_user_name() -> str:
    """Return the name of the system's user; ``uid 54321`` if the system knows no name for it.

    Containers often run with a user id that has no entry in the list of users.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"uid {os.getuid()}"


def complete_environment() -> None:
    """Set the user's name and home folder in the environment if the system knows none.

    IPython, Jupyter and MLflow look them up and fail without. The home folder is then one in the
    folder for temporary files that only this user can read.
    """
    name = get_user_name()
    if name == f"uid {os.getuid()}":
        os.environ["LOGNAME"] = name
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = str(_create_home_folder())


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
