"""Content hashes of files, cached between commands."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from mlops_kit.core.dependencies import list_matching_files
from mlops_kit.core.files import hash_file, read_json, write_json
from mlops_kit.project.loader import Project

MISSING_FILE = "gone"  # recorded instead of a hash
InputHashes = Mapping[str, str | None]  # of artifacts; None: one that has yet to be produced
# A file younger than this when it was hashed may change again and keep its modification time.
MIN_CACHED_FILE_AGE_NS = 2 * 10**9
_MAX_CACHE_ENTRIES = 100_000


class _CacheEntry(NamedTuple):
    """A hash, valid as long as the file's size and modification time are the same."""

    size: int
    modified_ns: int
    content_hash: str


class FileHashes:
    """Content hashes of files, cached by inode, size and modification time.

    Parameters
    ----------
    project : Project
        Its ``.mlops`` folder holds the cache.
    verify : bool
        Whether to hash every file anew.
    """

    def __init__(self, project: Project, verify: bool = False) -> None:
        self.cache_file = project.resolve_path(".mlops") / "cache" / "hashes.json"
        self.verify = verify
        self._is_modified = False
        try:
            stored = read_json(self.cache_file)
        except (OSError, ValueError):
            stored = {}
        self._entries = {key: _CacheEntry(*values) for key, values in stored.items()}

    def hash_path(self, path: str | Path) -> str:
        """Return the hash of a file, or of all files of a folder or a pattern.

        The hash of a folder or a pattern covers the names and hashes of its files; a path that does
        not exist has the hash ``MISSING_FILE``.
        """
        path = Path(path)
        names: list[str] = []
        if path.is_dir():
            names = sorted(map(str, path.rglob("*")))
        elif not path.exists():
            names = list_matching_files(str(path))
        if names:
            return self._hash_files(path, names)
        try:
            stat = path.stat()
        except OSError:
            return MISSING_FILE
        key = _get_cache_key(stat)
        entry = self._entries.get(key)
        stamp = (stat.st_size, stat.st_mtime_ns)
        if entry is not None and not self.verify and entry[:2] == stamp:
            return entry.content_hash
        began_ns = time.time_ns()
        content_hash = hash_file(path)
        self._entries.pop(key, None)
        if began_ns - stat.st_mtime_ns > MIN_CACHED_FILE_AGE_NS:
            self._entries[key] = _CacheEntry(*stamp, content_hash)
        self._is_modified = True
        return content_hash

    def _hash_files(self, path: Path, names: list[str]) -> str:
        """Return one hash of the names (relative to a path) and contents of files."""
        lines = [
            f"{os.path.relpath(name, path)} {self.hash_path(name)}"
            for name in names
            if Path(name).is_file()
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def add_known_hash(self, path: Path, content_hash: str) -> None:
        """Cache the hash of a file that was computed when it was written."""
        if not path.is_file():
            return
        stat = path.stat()
        entry = _CacheEntry(stat.st_size, stat.st_mtime_ns, content_hash)
        self._entries[_get_cache_key(stat)] = entry
        self._is_modified = True

    def save_cache(self) -> None:
        """Write the cache, if it has changed."""
        if not self._is_modified:
            return
        newest = list(self._entries.items())[-_MAX_CACHE_ENTRIES:]
        write_json(self.cache_file, dict(newest))
        self._is_modified = False


def _get_cache_key(stat: os.stat_result) -> str:
    """Return what identifies a file, whatever its name."""
    return f"{stat.st_dev}:{stat.st_ino}"
