"""Import tracer."""

from __future__ import annotations

import builtins
import importlib
import os
import re
import sys
import sysconfig
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

MAIN_MODULE = "__main__"
KERNEL_PACKAGES = {
    "IPython",
    "ipykernel",
    "traitlets",
    "tornado",
    "zmq",
    "jupyter_client",
    "debugpy",
}  # what these import, they import in every kernel
PROCESS_START_NS = time.time_ns()  # nothing that was imported before a fork can be older


@dataclass
class ImportLog:
    """Who imported whom, or could not, what was there before the notebook began, and when it began (ns)."""

    edges: dict[str, set[str]] = field(default_factory=dict)
    preloaded: frozenset[str] = frozenset()
    start_ns: int = PROCESS_START_NS
    failed_imports: dict[str, set[str]] = field(default_factory=dict)

    def record_import(self, importer: str, module: str, names: tuple[str, ...] | None) -> None:
        """An import that was carried out."""
        if importer == "numpy._core.function_base":  # its add_newdoc imports whatever it documents
            return
        found = self.edges.setdefault(importer, set())
        found.add(module)
        for name in names or ():
            if (whole := f"{module}.{name}") in sys.modules:
                found.add(whole)

    def attribute_new_modules(self, parent: str, known: set[str]) -> None:
        """Lay what came in without an ``import`` statement to the module that was being loaded."""
        held = set().union(*self.edges.values()) if self.edges else set()
        self.edges.setdefault(parent, set()).update(set(sys.modules) - known - held)

    def find_reachable(self) -> dict[str, str]:
        """Each module that the notebook reached, with the one that imported it."""
        held = set().union(*self.edges.values()) if self.edges else set()
        roots = [
            MAIN_MODULE,
            *(
                n
                for n in self.edges
                if n not in self.preloaded
                and n not in held
                and n not in sys.modules
                and n != MAIN_MODULE
            ),
        ]
        found: dict[str, str] = dict.fromkeys(roots, "")
        line = deque(roots)
        while line:
            here = line.popleft()
            if (
                here.partition(".")[0] in KERNEL_PACKAGES or here == "numpy.f2py"
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


import_log = ImportLog()


def install_import_hooks() -> None:
    """Record every import of this process from now on."""
    plain, by_name = builtins.__import__, importlib.import_module
    inner = threading.local()

    def traced(
        name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        importer = (globals or sys._getframe(1).f_globals).get("__name__", MAIN_MODULE)
        outer = getattr(inner, "name", MAIN_MODULE)
        if importer.startswith(
            "importlib."
        ):  # an extension module that is being loaded has no frame of its own
            importer = outer
        inner.name = importer
        try:
            module = plain(name, globals, locals, fromlist, level)
        except ModuleNotFoundError as error:
            import_log.failed_imports.setdefault(importer, set()).add(error.name or name)
            raise
        finally:
            inner.name = outer
        import_log.record_import(importer, module.__name__ if fromlist else name, fromlist)
        return module

    def traced_by_name(name: str, package: str | None = None) -> ModuleType:
        importer = sys._getframe(1).f_globals.get("__name__", MAIN_MODULE)
        try:
            module = by_name(name, package)
        except ModuleNotFoundError as error:
            import_log.failed_imports.setdefault(importer, set()).add(error.name or name)
            raise
        import_log.record_import(importer, module.__name__, None)
        return module

    builtins.__import__, importlib.import_module = traced, traced_by_name


def mark_process_fork() -> None:
    """A process was forked: what is imported from now on is the notebook's."""
    import_log.edges.pop(MAIN_MODULE, None)
    import_log.failed_imports.pop(MAIN_MODULE, None)
    import_log.preloaded, import_log.start_ns = (
        frozenset({*sys.modules, *import_log.edges}),
        time.time_ns(),
    )


def normalize_distribution_name(name: str) -> str:
    """A distribution's name as it is compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def list_installed_versions() -> dict[str, str]:
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
                found.setdefault(normalize_distribution_name(title), version)
    return found


@lru_cache(maxsize=1)
def map_modules_to_distributions() -> dict[str, str]:
    """The distribution of each top-level module."""
    from importlib.metadata import packages_distributions

    return {
        top: normalize_distribution_name(names[0])
        for top, names in packages_distributions().items()
    }


def is_local_module_file(path: str) -> bool:
    """Whether a module's file is neither Python's nor an installed package's."""
    installed = f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path
    return not installed and not path.startswith(
        (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    )
