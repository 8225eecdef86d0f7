"""Whether the folders can be written that a run writes, before its first stage."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from mlops_kit.core.errors import RunFailedError
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.loader import Project

_STATE_FOLDER = ".mlops"


def check_writable_folders(project: Project) -> None:
    """Check that the folders that a run writes exist or could be created, and can be written.

    Raises
    ------
    RunFailedError
        Naming the first that cannot.
    """
    folders = [project.reports_folder, project.resolve_path(_STATE_FOLDER)]
    # As the store and the database read them: only the latter expands environment variables.
    for url in (project.config.tracking, os.path.expandvars(project.config.database)):
        file = project.find_sqlite_file(url)
        if file is None:
            continue
        folders.append(file.parent)
        # Path.exists raises PermissionError below a folder that cannot be searched.
        if os.path.exists(file) and not os.access(file, os.W_OK):
            raise _not_writable_error(file)
    for folder in folders:
        require_writable(folder, project)
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise RunFailedError(
            f"there is no folder for temporary files: {error.strerror or error}",
            "a folder that you may write to",
            "set the environment variable TMPDIR to one",
        ) from error


def require_writable(folder: Path, project: Project) -> None:
    """Raise an error if a folder could not be created or written; it is not created.

    Raises
    ------
    RunFailedError
        If the nearest existing parent is not a folder in which one can be created.
    """
    path = project.resolve_path(folder)
    existing = next(parent for parent in (path, *path.parents) if os.path.exists(parent))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise _not_writable_error(existing)


def _not_writable_error(path: Path) -> RunFailedError:
    """Build the error for a folder or file that cannot be written."""
    mode = "u+wx" if path.is_dir() else "u+w"
    hint = f"chmod {mode} {shlex.quote(str(path))}, or another folder in {CONFIG_FILE_NAME}"
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        hint = "mount its file system for writing, or use a copy of the project elsewhere"
    return RunFailedError(
        f"{str(path)!r} is not writable",
        "a folder that you may write to",
        hint,
    )
