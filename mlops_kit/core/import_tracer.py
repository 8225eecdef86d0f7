"""Record which module imports which, so that a stage's imports are known instead of guessed.

Every import that is executed adds an edge from the importing module to the imported one. What can
be reached from the notebook is what it depends on, no matter how the modules came into memory: in
a warm kernel most of them were loaded before the notebook began.

>>> "json" in ImportLog({"__main__": {"json"}}).find_reachable()
True
"""

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
# Every kernel imports these and what they import, whatever the notebook does.
KERNEL_PACKAGES = {
    "IPython",
    "ipykernel",
    "traitlets",
    "tornado",
    "zmq",
    "jupyter_client",
    "debugpy",
}
# numpy imports f2py when all of its attributes are listed, as scipy does. A plugin counts where an
# extension of it is used, not because it was imported to learn what it registers.
_MODULES_NOT_FOLLOWED = {"numpy.f2py", "mlops_kit.project.plugins"}
# Its add_newdoc imports whatever it documents.
_IMPORTERS_NOT_RECORDED = {"numpy._core.function_base"}
# No module of this process was imported earlier, not even before a fork.
PROCESS_START_NS = time.time_ns()
_DISTRIBUTION_SEPARATORS = re.compile(r"[-_.]+")
_METADATA_SUFFIXES = (".dist-info", ".egg-info")


@dataclass
class ImportLog:
    """The imports of a process.

    Attributes
    ----------
    edges : dict of str to set of str
        The modules that each module imported.
    preloaded : frozenset of str
        The modules that were there before the notebook began.
    start_ns : int
        When the notebook began.
    failed_imports : dict of str to set of str
        The modules that each module could not import.
    """

    edges: dict[str, set[str]] = field(default_factory=dict)
    preloaded: frozenset[str] = frozenset()
    start_ns: int = PROCESS_START_NS
    failed_imports: dict[str, set[str]] = field(default_factory=dict)

    def record_import(
        self,
        importer: str,
        module: str,
        names: tuple[str, ...] | None,
    ) -> None:
        """Record an import, and the names it took from the module that are modules themselves."""
        if importer in _IMPORTERS_NOT_RECORDED:
            return
        imported = self.edges.setdefault(importer, set())
        imported.add(module)
        for name in names or ():
            submodule = f"{module}.{name}"
            if submodule in sys.modules:
                imported.add(submodule)

    def record_failed_import(self, importer: str, module: str) -> None:
        """Record a module that could not be found."""
        self.failed_imports.setdefault(importer, set()).add(module)

    def attribute_new_modules(self, importer: str, known_modules: set[str]) -> None:
        """Attribute modules that were loaded without an import statement to a module.

        Parameters
        ----------
        importer : str
            The module that was being loaded.
        known_modules : set of str
            Modules that were there before.
        """
        new_modules = set(sys.modules) - known_modules - self._list_imported()
        self.edges.setdefault(importer, set()).update(new_modules)

    def find_reachable(self) -> dict[str, str]:
        """Find the modules that the notebook imported, directly or not.

        Returns
        -------
        dict of str to str
            Each module with the one that imported it first.
        """
        roots = self._list_roots()
        importers: dict[str, str] = dict.fromkeys(roots, "")
        queue = deque(roots)
        while queue:
            importer = queue.popleft()
            package = importer.partition(".")[0]
            if package in KERNEL_PACKAGES or importer in _MODULES_NOT_FOLLOWED:
                continue
            for imported in sorted(self.edges.get(importer, ())):
                for module in _list_with_parents(imported):
                    if module not in importers:
                        importers[module] = importer
                        queue.append(module)
        return importers

    def _list_imported(self) -> set[str]:
        return set().union(*self.edges.values())

    def _list_roots(self) -> list[str]:
        """List the notebook and code that is in no module, such as a project's feature files."""
        imported = self._list_imported()
        roots = [MAIN_MODULE]
        for importer in self.edges:
            is_module = importer in self.preloaded or importer in imported
            if not is_module and importer not in sys.modules and importer != MAIN_MODULE:
                roots.append(importer)
        return roots


def _list_with_parents(module: str) -> list[str]:
    """Return a module and the packages it is in.

    >>> _list_with_parents("a.b.c")
    ['a.b.c', 'a.b', 'a']
    """
    modules = [module]
    while "." in module:
        module = module.rpartition(".")[0]
        modules.append(module)
    return modules


import_log = ImportLog()


def install_import_hooks() -> None:
    """Record every import of this process from now on."""
    original_import = builtins.__import__
    original_import_module = importlib.import_module
    thread_state = threading.local()

    # Its parameters have the names that Python's own __import__ has.
    def import_and_record(
        name: str,
        globals: Any = None,
        locals: Any = None,
        fromlist: Any = (),
        level: int = 0,
    ) -> ModuleType:
        namespace = globals or sys._getframe(1).f_globals
        importer = namespace.get("__name__", MAIN_MODULE)
        outer_importer = getattr(thread_state, "importer", MAIN_MODULE)
        if importer.startswith("importlib."):
            # An extension module that is being loaded has no frame of its own.
            importer = outer_importer
        thread_state.importer = importer
        try:
            module = original_import(
                name,
                globals,
                locals,
                fromlist,
                level,
            )
        except ModuleNotFoundError as error:
            import_log.record_failed_import(importer, error.name or name)
            raise
        finally:
            thread_state.importer = outer_importer
        imported = module.__name__ if fromlist else name
        import_log.record_import(importer, imported, fromlist)
        return module

    def import_module_and_record(name: str, package: str | None = None) -> ModuleType:
        importer = sys._getframe(1).f_globals.get("__name__", MAIN_MODULE)
        try:
            module = original_import_module(name, package)
        except ModuleNotFoundError as error:
            import_log.record_failed_import(importer, error.name or name)
            raise
        import_log.record_import(importer, module.__name__, None)
        return module

    builtins.__import__ = import_and_record
    importlib.import_module = import_module_and_record


def mark_process_fork() -> None:
    """Note that this process was forked: the imports from now on are the notebook's."""
    import_log.edges.pop(MAIN_MODULE, None)
    import_log.failed_imports.pop(MAIN_MODULE, None)
    import_log.preloaded = frozenset({*sys.modules, *import_log.edges})
    import_log.start_ns = time.time_ns()


def normalize_distribution_name(name: str) -> str:
    """Normalize the name of a distribution for comparison.

    >>> normalize_distribution_name("Scikit_Learn")
    'scikit-learn'
    """
    return _DISTRIBUTION_SEPARATORS.sub("-", name).lower()


def list_installed_versions() -> dict[str, str]:
    """List the versions of all installed distributions, by normalized name.

    They are taken from the names of the metadata folders: a hundred times as fast as reading the
    metadata.
    """
    versions: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            if entry.endswith(_METADATA_SUFFIXES):
                name, _, version = entry.rpartition(".")[0].partition("-")
                versions.setdefault(normalize_distribution_name(name), version)
    return versions


@lru_cache(maxsize=1)
def map_modules_to_distributions() -> dict[str, str]:
    """Map each top-level module to the normalized name of its distribution."""
    from importlib.metadata import packages_distributions

    distributions = {}
    for module, names in packages_distributions().items():
        distributions[module] = normalize_distribution_name(names[0])
    return distributions


def is_local_module_file(path: str) -> bool:
    """Return whether a module's file belongs neither to Python nor to an installed package."""
    is_installed = (
        f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path
    )
    library_folders = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
    return not is_installed and not path.startswith(library_folders)
