"""Decide which files count as what a stage used.

Files of the project count, hidden ones included, and files outside of it, except those of Python,
of packages, of the system's virtual file systems, and temporary files and caches.
"""

from __future__ import annotations

import glob
import os
import site
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

# Folders of tools and caches, wherever they are.
_LEFT_OUT_NAMES = {
    ".mlops",
    ".git",
    ".hg",
    ".svn",
    ".venv",
    ".cache",
    ".ipynb_checkpoints",
    ".ipython",
    ".jupyter",
    "__pycache__",
    "node_modules",
    "site-packages",
    "dist-packages",
}
_CACHE_NAME_ENDING = "_cache"  # hidden folders with such a name: .ruff_cache, .pytest_cache
_LEFT_OUT_SUFFIXES = (".pyc", ".pyo")
_VIRTUAL_FILE_SYSTEMS = ("/proc", "/sys", "/dev", "/run")
_TEMPORARY_FOLDERS = ("/tmp", "/var/tmp")  # noqa: S108 - they are left out, nothing is written
_SHARED_PREFIXES = {"/", "/usr", "/usr/local"}  # Python's own folder there has other files too
_PATTERN_CHARACTERS = set("*?[")


class TooManyNamesError(Exception):
    """A search would take too long: its folders have too many files."""


@dataclass(frozen=True)
class TracedPaths:
    """The files that count for stages of a project.

    Attributes
    ----------
    root : str
        Folder of the project.
    reports : str
        Folder of its runs, whose files count as artifacts.
    """

    root: str
    reports: str

    def contains(self, path: str) -> bool:
        """Return whether an absolute path counts; a folder, whether what it has counts."""
        folder_prefix = f"{path}{os.sep}"
        if self.is_in_project(path):
            is_report = path == self.reports or path.startswith(f"{self.reports}{os.sep}")
            inner_path = path.removeprefix(self.root)
            in_environment = folder_prefix.startswith(_list_python_folders(self.root))
            return not (is_report or in_environment or _is_left_out(inner_path))
        if folder_prefix.startswith(_list_outside_folders(self.root)):
            return False
        for folder, entry in _list_shared_temporary_folders(self.root):
            if path.startswith(folder) and not path.startswith(entry):
                return False
        return not _is_left_out(path)

    def is_in_project(self, path: str) -> bool:
        """Return whether an absolute path is the project's folder or in it."""
        return path == self.root or path.startswith(f"{self.root}{os.sep}")

    def list_names(self, search: str, max_names: int | None = None) -> list[str]:
        """List what a folder (its path ends in a slash) or a pattern has, as absolute paths.

        Only what counts is listed, files and folders, hidden ones included.

        Raises
        ------
        TooManyNamesError
            If a pattern matches more than ``max_names``, of which not all need to count.
        """
        if search.endswith(os.sep):
            try:
                paths = [search + name for name in os.listdir(search)]
            except OSError:
                paths = []
        else:
            # The project's own folder is no pattern, whatever its name.
            root = os.path.join(self.root, "")
            if not search.startswith(root):
                root = ""
            pattern = search.removeprefix(root)
            matches = glob.iglob(
                pattern,
                root_dir=root or None,
                recursive=True,
                include_hidden=True,
            )
            names = list(islice(matches, max_names))
            if next(matches, None) is not None:
                raise TooManyNamesError
            paths = [root + name for name in names]
        return sorted(path.rstrip(os.sep) for path in paths if self.contains(path.rstrip(os.sep)))


def has_pattern(path: str) -> bool:
    """Return whether a path is a pattern.

    >>> has_pattern("data/*.csv"), has_pattern("data/a.csv")
    (True, False)
    """
    return bool(_PATTERN_CHARACTERS & set(path))


def _is_left_out(path: str) -> bool:
    """Return whether a path is in a folder of a tool or a cache."""
    if path.endswith(_LEFT_OUT_SUFFIXES):
        return True
    for part in path.split(os.sep):
        is_cache = part.startswith(".") and part.endswith(_CACHE_NAME_ENDING)
        if is_cache or part in _LEFT_OUT_NAMES:
            return True
    return False


@lru_cache(maxsize=8)
def _list_python_folders(root: str) -> tuple[str, ...]:
    """List the folders of Python and of packages that do not contain the project."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    folders.add(site.getusersitepackages())
    folders.update({sys.prefix, sys.base_prefix} - _SHARED_PREFIXES)
    return _select_outer_folders(folders, root)


@lru_cache(maxsize=8)
def _list_outside_folders(root: str) -> tuple[str, ...]:
    """List the folders outside of the project whose files do not count."""
    folders = {*_VIRTUAL_FILE_SYSTEMS, *_list_temporary_folders()}
    cache_folder = os.environ.get("XDG_CACHE_HOME")
    if cache_folder:
        folders.add(cache_folder)
    return _list_python_folders(root) + _select_outer_folders(folders, root)


def _list_temporary_folders() -> set[str]:
    return {*_TEMPORARY_FOLDERS, tempfile.gettempdir()}


@lru_cache(maxsize=8)
def _list_shared_temporary_folders(root: str) -> tuple[tuple[str, str], ...]:
    """List the temporary folders that contain the project, with the entry that it is in."""
    folders = []
    for folder in _list_temporary_folders():
        prefix = os.path.join(folder, "")
        if root.startswith(prefix):
            entry = root.removeprefix(prefix).partition(os.sep)[0]
            folders.append((prefix, f"{prefix}{entry}{os.sep}"))
    return tuple(folders)


def _select_outer_folders(folders: set[str], root: str) -> tuple[str, ...]:
    """Return prefixes of the paths in folders that do not contain the project."""
    prefixes = {os.path.join(folder, "") for folder in folders}
    return tuple(sorted(prefix for prefix in prefixes if not f"{root}{os.sep}".startswith(prefix)))
