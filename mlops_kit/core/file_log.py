"""The log of what a process used of the file system, and of what cannot be followed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FileState = tuple[int, int]  # size in bytes and modification time in ns


@dataclass(frozen=True, order=True)
class UntracedUse:
    """Something that a stage used and that cannot be compared later.

    Attributes
    ----------
    name : str
        A program, the address of a server, a database.
    cell : int
        The execution count of the cell that used it; 0 if that is not known.
    """

    name: str
    cell: int = 0


@dataclass
class FileLog:
    """What a process used of the file system.

    Attributes
    ----------
    read : dict
        Each file as it was when it was first read.
    audited : set of str
        Files in ``read`` that nobody declared: if the stage writes them too, they do not count.
    shared : set of str
        Files in ``read`` that a library or another program may have written as well, such as
        databases: they count if they are unchanged at the end.
    written, removed : set of str
        Files and folders that the stage created, wrote, removed or renamed.
    listings : dict
        Folders and patterns that this package searched, with the files found.
    searches : dict
        Folders (with a slash at the end) and patterns that were listed, with what was there.
    missing, existing : set of str
        What was looked for, and was not there, or was.
    untraced : set of UntracedUse
        What cannot be followed.
    packages : set of str
        Top-level modules of packages that child processes imported.
    sink : callable or None
        Called with each record as a line, in child processes.
    """

    read: dict[str, FileState] = field(default_factory=dict)
    audited: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    listings: dict[str, list[str]] = field(default_factory=dict)
    searches: dict[str, list[str]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    existing: set[str] = field(default_factory=set)
    untraced: set[UntracedUse] = field(default_factory=set)
    packages: set[str] = field(default_factory=set)
    sink: Callable[[str], None] | None = None

    def add(self, kind: str, name: str, value: Any = None) -> None:
        """Record something, and report it if this is a child process."""
        if self.apply(kind, name, value) and self.sink is not None:
            self.sink(json.dumps([kind, name, value]))

    def apply(self, kind: str, name: str, value: Any) -> bool:
        """Record something of a kind (the name of an attribute); return whether it is new."""
        if kind == "read":
            return self._apply_read(name, value)
        if kind == "searches":
            is_new = name not in self.searches
            self.searches.setdefault(name, list(value))
            return is_new
        if kind == "untraced":
            use = UntracedUse(name, value or 0)
            is_new = use not in self.untraced
            self.untraced.add(use)
            return is_new
        names: set[str] = getattr(self, kind)
        is_new = name not in names
        names.add(name)
        return is_new

    def _apply_read(self, path: str, value: Any) -> bool:
        if path in self.read:
            return False
        size, modified_ns, is_shared = value
        self.read[path] = (size, modified_ns)
        self.audited.add(path)
        if is_shared:
            self.shared.add(path)
        return True

    def copy(self) -> FileLog:
        """Return a copy without the sink."""
        log = FileLog()
        log.merge(self)
        return log

    def merge(self, other: FileLog) -> None:
        """Add what another log has, to which threads may be adding."""
        for path, state in list(other.read.items()):
            self.read.setdefault(path, state)
        for name, names in list(other.listings.items()):
            self.listings[name] = list(names)
        for name, names in list(other.searches.items()):
            self.searches.setdefault(name, list(names))
        for kind in (
            "audited",
            "shared",
            "written",
            "removed",
            "missing",
            "existing",
            "untraced",
            "packages",
        ):
            getattr(self, kind).update(getattr(other, kind))

    def clear(self) -> None:
        """Forget what was used; what was written stays known."""
        for kind in (
            "read",
            "audited",
            "shared",
            "listings",
            "searches",
            "missing",
            "existing",
            "untraced",
            "packages",
        ):
            getattr(self, kind).clear()


file_log = FileLog()
