"""The files that a long-lived process has imported, and whether they are still the same."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass

from mlops_kit.core.import_tracer import list_installed_versions


@dataclass(frozen=True)
class FileState:
    """What distinguishes a file from a later version of it."""

    inode: int
    size: int
    mtime_ns: int


class ImportedFiles:
    """Files of the modules of this process, with their state when they were imported.

    A file that was changed while it was being imported counts as changed: nobody knows which
    version was read.
    """

    def __init__(self) -> None:
        self._states: dict[str, FileState | None] = {}
        self._versions = list_installed_versions()
        self._last_recorded_ns = time.time_ns()

    def record_new_modules(self) -> None:
        """Record the files of the modules that were imported since the last call."""
        imported_since_ns = self._last_recorded_ns
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if not isinstance(path, str) or path in self._states:
                continue
            state = _read_file_state(path)
            if state is None:  # a module that is made while it is imported has no file
                continue
            is_known = state.mtime_ns <= imported_since_ns
            self._states[path] = state if is_known else None
        self._last_recorded_ns = time.time_ns()

    def have_changed(self) -> bool:
        """Return whether a file was changed, or a distribution was installed or removed."""
        for path, state in self._states.items():
            if state is None or _read_file_state(path) != state:
                return True
        return list_installed_versions() != self._versions


def _read_file_state(path: str) -> FileState | None:
    """Read the state of a file; None if there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return FileState(status.st_ino, status.st_size, status.st_mtime_ns)
