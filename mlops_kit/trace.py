"""What a stage really used, recorded while it runs: modules, packages, files, settings.

A notebook's dependencies are not guessed from its text. Every ``import`` that is carried out leaves an
edge from the importing module to the imported one; what can be reached from the notebook is what it
depends on, however the modules came into memory (in a warm kernel most were there before). Files
and settings are noted where the package reads them.

>>> "json" in Imports({"__main__": {"json"}}).reached()
True
"""

from __future__ import annotations

import builtins
import copy
import glob
import hashlib
import importlib
import os
import re
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

MAIN = "__main__"
KERNEL = {
    "IPython",
    "ipykernel",
    "traitlets",
    "tornado",
    "zmq",
    "jupyter_client",
    "debugpy",
}  # what these import, they import in every kernel
BIRTH = time.time_ns()  # nothing that was imported before a fork can be older
files: dict[str, tuple[int, int]] = {}  # file that was read: its size and time then
settings: set[tuple[str, str]] = set()  # class and field of each setting that was read
named: set[str] = set()  # packages whose data, not code, was read
listings: dict[str, list[str]] = {}  # folder or pattern that was looked through: the files it held
written: set[str] = (
    set()
)  # files that were opened for writing: what a stage makes itself is no input of it
overheard: set[str] = set()  # files that Python was seen to open, and nobody noted
watched: list[str] = []  # project whose files are watched, and the folder of its runs
unknowable: set[str] = (
    set()
)  # sources whose content cannot be told without reading them, such as a query


@dataclass
class Imports:
    """Who imported whom, or could not, what was there before the notebook began, and when it began (ns)."""

    edges: dict[str, set[str]] = field(default_factory=dict)
    before: frozenset[str] = frozenset()
    start: int = BIRTH
    failed: dict[str, set[str]] = field(default_factory=dict)

    def note(self, importer: str, module: str, names: tuple[str, ...] | None) -> None:
        """An import that was carried out."""
        if importer == "numpy._core.function_base":  # its add_newdoc imports whatever it documents
            return
        found = self.edges.setdefault(importer, set())
        found.add(module)
        for name in names or ():
            if (whole := f"{module}.{name}") in sys.modules:
                found.add(whole)

    def adopt(self, parent: str, known: set[str]) -> None:
        """Lay what came in without an ``import`` statement to the module that was being loaded."""
        held = set().union(*self.edges.values()) if self.edges else set()
        self.edges.setdefault(parent, set()).update(set(sys.modules) - known - held)

    def reached(self) -> dict[str, str]:
        """Each module that the notebook reached, with the one that imported it."""
        held = set().union(*self.edges.values()) if self.edges else set()
        roots = [
            MAIN,
            *(
                n
                for n in self.edges
                if n not in self.before and n not in held and n not in sys.modules and n != MAIN
            ),
        ]
        found: dict[str, str] = dict.fromkeys(roots, "")
        line = deque(roots)
        while line:
            here = line.popleft()
            if (
                here.partition(".")[0] in KERNEL or here == "numpy.f2py"
            ):  # which numpy imports when anybody takes all of it, as scipy does
                continue
            for there in sorted(self.edges.get(here, ())):
                for name in (
                    there,
                    *(there.rsplit(".", n)[0] for n in range(1, there.count(".") + 1)),
                ):
                    if name not in found:
                        found[name] = here
                        line.append(name)
        return found


imports = Imports()


def install() -> None:
    """Record every import of this process from now on."""
    plain, by_name = builtins.__import__, importlib.import_module
    inner = threading.local()

    def traced(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:  # noqa: A002 - Python's own names
        importer = (globals or sys._getframe(1).f_globals).get("__name__", MAIN)
        outer = getattr(inner, "name", MAIN)
        if importer.startswith(
            "importlib."
        ):  # an extension module that is being loaded has no frame of its own
            importer = outer
        inner.name = importer
        try:
            module = plain(name, globals, locals, fromlist, level)
        except ModuleNotFoundError as error:
            imports.failed.setdefault(importer, set()).add(error.name or name)
            raise
        finally:
            inner.name = outer
        imports.note(importer, module.__name__ if fromlist else name, fromlist)
        return module

    def traced_by_name(name: str, package: str | None = None) -> ModuleType:
        importer = sys._getframe(1).f_globals.get("__name__", MAIN)
        try:
            module = by_name(name, package)
        except ModuleNotFoundError as error:
            imports.failed.setdefault(importer, set()).add(error.name or name)
            raise
        imports.note(importer, module.__name__, None)
        return module

    builtins.__import__, importlib.import_module = traced, traced_by_name


def born() -> None:
    """A process was forked: what is imported from now on is the notebook's."""
    imports.edges.pop(MAIN, None)
    imports.failed.pop(MAIN, None)
    imports.before, imports.start = frozenset({*sys.modules, *imports.edges}), time.time_ns()


def listed(path: str) -> list[str]:
    """The files of a folder, of a pattern, or the one file."""
    found = glob.glob(os.path.join(path, "**") if os.path.isdir(path) else path, recursive=True)
    return sorted(os.path.abspath(f) for f in found if not os.path.isdir(f))


def file(path: str | Path) -> None:
    """Note that a file was read; of a folder or a pattern, all files that it holds, and which they are."""
    names = listed(str(path))
    if names != [os.path.abspath(path)]:
        listings[os.path.abspath(path)] = names
    for name in names:
        found = os.stat(name)
        files.setdefault(name, (found.st_size, found.st_mtime_ns))
        overheard.discard(name)


def watch_files(root: str, reports: str) -> None:
    """Note from now on each file of a project that Python opens for reading, whoever opens it.

    Left out are runs, hidden folders, notebooks, ``mlops.yaml`` (settings count one by one) and Python's own
    files (modules count by their imports). What a library opens by itself, as pyarrow and DuckDB do, is not seen:
    such a file counts where code or a parameter names it (``fingerprint.mentioned``) or ``stages.NAME.files`` does.
    """
    if not watched:
        sys.addaudithook(opened)
    watched[:] = [os.path.join(root, ""), os.path.join(reports, "")]


def opened(event: str, about: tuple[Any, ...]) -> None:
    """Python's audit hook: a file was opened, or renamed."""
    if (
        event == "os.rename"
        and all(isinstance(p, str) for p in about[:2])
        and os.path.abspath(about[0]) in written
    ):
        written.add(os.path.abspath(about[1]))
    if event != "open" or not isinstance(about[0], str):
        return
    path, mode, flags = os.path.abspath(about[0]), about[1] or "", about[2]
    inner = path.removeprefix(watched[0])
    if set(mode) & set("wax+") or not mode and flags & (os.O_WRONLY | os.O_RDWR):
        written.add(path)
    elif (
        inner == path
        or path.startswith(watched[1])
        or inner.endswith((".py", ".pyc", ".ipynb"))
        or inner == "mlops.yaml"
        or any(p.startswith(".") or p == "site-packages" for p in inner.split(os.sep))
    ):
        return
    elif os.path.isfile(path) and path not in files:
        overheard.add(path)
        found = os.stat(path)
        files[path] = (found.st_size, found.st_mtime_ns)


def cell_hash(source: str) -> str:
    """The hash of a cell's code."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def noted(function: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """A function's result, and what was used while it ran, for one whose result will be taken from a cache."""
    held: tuple[Any, ...] = (settings, files, listings, unknowable, named, imports.edges)
    before = [type(h)(h) for h in held]
    for one in held:
        one.clear()
    try:
        result, used = (
            function(),
            list(copy.deepcopy(held)),
        )  # deep: what is put back below is no part of it
    finally:
        used_again(before)
    return result, used


def used_again(used: list[Any]) -> None:
    """Note what a cached result was made with."""
    mine: tuple[Any, ...] = (settings, files, listings, unknowable, named)
    for here, there in zip(mine, used[:-1], strict=True):
        here.update(there)
    for importer, found in used[-1].items():
        imports.edges.setdefault(importer, set()).update(found)


def canonical(name: str) -> str:
    """A distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions() -> dict[str, str]:
    """Versions of everything installed, by name, from the names of folders: a hundred times as quick as reading each."""
    found: dict[str, str] = {}
    for place in sys.path:
        try:
            names = os.listdir(place or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                title, _, version = name.rpartition(".")[0].partition("-")
                found.setdefault(canonical(title), version)
    return found


@lru_cache(maxsize=1)
def distributions() -> dict[str, str]:
    """The distribution of each top-level module."""
    from importlib.metadata import packages_distributions

    return {top: canonical(names[0]) for top, names in packages_distributions().items()}


def own(path: str) -> bool:
    """Whether a module's file is neither Python's nor an installed package's."""
    installed = f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path
    return not installed and not path.startswith(
        (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    )


def report(exact: bool = True) -> dict[str, Any]:
    """What was used until now, as plain values.

    Parameters
    ----------
    exact : bool
        False where imports were not recorded (a notebook run by hand): then all that is in memory counts.

    Returns
    -------
    dict
        ``modules`` (file → the one that imported it), ``files`` (file → size, time), ``packages``
        (name → version), ``listings`` (folder → its files), ``settings`` (class, field), ``unknowable``, ``edited``: modules whose file
        was written (whatever time it bears) when they may have been imported already, ``absent``: modules that the
        notebook and the project's own modules looked for in vain, and ``start`` (ns).
    """
    if exact:
        imports.adopt(
            MAIN, set(imports.before) | {n for n in sys.modules if n.partition(".")[0] in KERNEL}
        )
    reached = imports.reached() if exact else dict.fromkeys(sys.modules, "")
    modules, tops, edited = {}, set(named), set()
    absent = set(imports.failed.get(MAIN, ()))
    for name, importer in reached.items():
        path = getattr(sys.modules.get(name), "__file__", None) or ""
        if path and own(path) and os.path.exists(path):
            if os.stat(path).st_ctime_ns > (
                BIRTH if name in imports.before or not exact else imports.start
            ):
                edited.add(path)
            modules[path] = getattr(sys.modules.get(importer), "__file__", None) or ""
            absent |= imports.failed.get(name, set())
        elif path or name not in sys.modules:  # a step from the cache has imported it, another time
            tops.add(name.partition(".")[0])
    known, of = versions(), distributions()
    packages = {p: known[p] for p in sorted({of.get(t, canonical(t)) for t in tops}) if p in known}
    return {
        "modules": modules,
        "files": {f: s for f, s in files.items() if f not in overheard & written},
        "packages": packages,
        "listings": listings,
        "settings": sorted(settings),
        "unknowable": sorted(unknowable),
        "edited": sorted(edited),
        "absent": sorted(absent - set(sys.modules)),
        "start": imports.start,
    }
