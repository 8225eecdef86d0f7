"""File hashes."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from mlops_kit.core import dependencies
from mlops_kit.core.files import hash_file, read_json, write_json
from mlops_kit.project.loader import Project

MISSING_FILE = "gone"
MIN_CACHED_FILE_AGE_NS = (
    2 * 10**9
)  # ns: a file as young as this when it was hashed may change again and keep its time


class FileHashes:
    """Content hashes of files, kept by inode, size and time, so that nothing is hashed twice."""

    def __init__(self, project: Project, verify: bool = False) -> None:
        self.cache_file, self.verify, self.is_modified = (
            project.resolve_path(".mlops") / "cache" / "hashes.json",
            verify,
            False,
        )
        try:
            self.entries: dict[str, list[Any]] = read_json(self.cache_file)
        except (OSError, ValueError):
            self.entries = {}

    def hash_path(self, path: str | Path) -> str:
        """The hash of a file's bytes; of a folder or a pattern, of its files' names and hashes; ``gone`` if it is not there."""
        folder = os.path.isdir(path)
        if (
            names := sorted(map(str, Path(path).rglob("*")))
            if folder
            else []
            if os.path.exists(path)
            else dependencies.list_matching_files(str(path))
        ):
            return hashlib.sha256(
                "\n".join(
                    f"{os.path.relpath(n, path)} {self.hash_path(n)}"
                    for n in names
                    if os.path.isfile(n)
                ).encode()
            ).hexdigest()
        try:
            found = os.stat(path)
        except OSError:
            return MISSING_FILE
        key, state = f"{found.st_dev}:{found.st_ino}", [found.st_size, found.st_mtime_ns]
        known = self.entries.get(key)
        if not self.verify and known is not None and known[:2] == state:
            return str(known[2])
        begin = time.time_ns()
        made = hash_file(Path(path))
        self.entries.pop(key, None)
        if begin - found.st_mtime_ns > MIN_CACHED_FILE_AGE_NS:
            self.entries[key] = [*state, made]
        self.is_modified = True
        return made

    def add_known_hash(self, path: Path, hashed: str) -> None:
        """Take over the hash of a file that its writer has told."""
        if path.is_file():
            found = path.stat()
            self.entries[f"{found.st_dev}:{found.st_ino}"], self.is_modified = (
                [found.st_size, found.st_mtime_ns, hashed],
                True,
            )

    def save_cache(self) -> None:
        """Keep what is new for the next time."""
        if self.is_modified:
            write_json(self.cache_file, dict(list(self.entries.items())[-100_000:]))
            self.is_modified = False
