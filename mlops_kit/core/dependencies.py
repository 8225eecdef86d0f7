"""What a stage really used, recorded while it runs: modules, packages, files, settings.

A notebook's dependencies are not guessed from its text. Every ``import`` that is carried out leaves an
edge from the importing module to the imported one; what can be reached from the notebook is what it
depends on, however the modules came into memory (in a warm kernel most were there before). Files
and settings are noted where the package reads them.

>>> "json" in Imports({"__main__": {"json"}}).reached()
True
"""

from __future__ import annotations

import copy
import glob
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops_kit.core.import_tracer import (
    KERNEL_PACKAGES,
    MAIN_MODULE,
    PROCESS_START_NS,
    import_log,
    is_local_module_file,
    list_installed_versions,
    map_modules_to_distributions,
    normalize_distribution_name,
)

files_read: dict[str, tuple[int, int]] = {}  # file that was read: its size and time then
settings_read: set[tuple[str, str]] = set()  # class and field of each setting that was read
packages_read: set[str] = set()  # packages whose data, not code, was read
folder_listings: dict[
    str, list[str]
] = {}  # folder or pattern that was looked through: the files it held
files_written: set[str] = (
    set()
)  # files that were opened for writing: what a stage makes itself is no input of it
audited_files: set[str] = set()  # files that Python was seen to open, and nobody noted
watched_folders: list[str] = []  # project whose files are watched, and the folder of its runs
untracked_sources: set[str] = (
    set()
)  # sources whose content cannot be told without reading them, such as a query


def list_matching_files(path: str) -> list[str]:
    """The files of a folder, of a pattern, or the one file."""
    found = glob.glob(os.path.join(path, "**") if os.path.isdir(path) else path, recursive=True)
    return sorted(os.path.abspath(f) for f in found if not os.path.isdir(f))


def record_file_read(path: str | Path) -> None:
    """Note that a file was read; of a folder or a pattern, all files that it holds, and which they are."""
    names = list_matching_files(str(path))
    if names != [os.path.abspath(path)]:
        folder_listings[os.path.abspath(path)] = names
    for name in names:
        found = os.stat(name)
        files_read.setdefault(name, (found.st_size, found.st_mtime_ns))
        audited_files.discard(name)


def watch_project_files(root: str, reports: str) -> None:
    """Note from now on each file of a project that Python opens for reading, whoever opens it.

    Left out are runs, hidden folders, notebooks, ``mlops.yaml`` (settings count one by one) and Python's own
    files (modules count by their imports). What a library opens by itself, as pyarrow and DuckDB do, is not seen:
    such a file counts where code or a parameter names it (``fingerprint.mentioned``) or ``stages.NAME.files`` does.
    """
    if not watched_folders:
        sys.addaudithook(_audit_file_event)
    watched_folders[:] = [os.path.join(root, ""), os.path.join(reports, "")]


def _audit_file_event(event: str, about: tuple[Any, ...]) -> None:
    """Python's audit hook: a file was opened, or renamed."""
    if (
        event == "os.rename"
        and all(isinstance(p, str) for p in about[:2])
        and os.path.abspath(about[0]) in files_written
    ):
        files_written.add(os.path.abspath(about[1]))
    if event != "open" or not isinstance(about[0], str):
        return
    path, mode, flags = os.path.abspath(about[0]), about[1] or "", about[2]
    inner = path.removeprefix(watched_folders[0])
    if set(mode) & set("wax+") or not mode and flags & (os.O_WRONLY | os.O_RDWR):
        files_written.add(path)
    elif (
        inner == path
        or path.startswith(watched_folders[1])
        or inner.endswith((".py", ".pyc", ".ipynb"))
        or inner == "mlops.yaml"
        or any(p.startswith(".") or p == "site-packages" for p in inner.split(os.sep))
    ):
        return
    elif os.path.isfile(path) and path not in files_read:
        audited_files.add(path)
        found = os.stat(path)
        files_read[path] = (found.st_size, found.st_mtime_ns)


def hash_code(source: str) -> str:
    """The hash of a cell's code."""
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def record_dependencies(function: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """A function's result, and what was used while it ran, for one whose result will be taken from a cache."""
    held: tuple[Any, ...] = (
        settings_read,
        files_read,
        folder_listings,
        untracked_sources,
        packages_read,
        import_log.edges,
    )
    before = [type(h)(h) for h in held]
    for one in held:
        one.clear()
    try:
        result, used = (
            function(),
            list(copy.deepcopy(held)),
        )  # deep: what is put back below is no part of it
    finally:
        restore_dependencies(before)
    return result, used


def restore_dependencies(used: list[Any]) -> None:
    """Note what a cached result was made with."""
    mine: tuple[Any, ...] = (
        settings_read,
        files_read,
        folder_listings,
        untracked_sources,
        packages_read,
    )
    for here, there in zip(mine, used[:-1], strict=True):
        here.update(there)
    for importer, found in used[-1].items():
        import_log.edges.setdefault(importer, set()).update(found)


def report_dependencies(exact: bool = True) -> dict[str, Any]:
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
        import_log.attribute_new_modules(
            MAIN_MODULE,
            set(import_log.preloaded)
            | {n for n in sys.modules if n.partition(".")[0] in KERNEL_PACKAGES},
        )
    reached = import_log.find_reachable() if exact else dict.fromkeys(sys.modules, "")
    modules, tops, edited = {}, set(packages_read), set()
    absent = set(import_log.failed_imports.get(MAIN_MODULE, ()))
    for name, importer in reached.items():
        path = getattr(sys.modules.get(name), "__file__", None) or ""
        if path and is_local_module_file(path) and os.path.exists(path):
            if os.stat(path).st_ctime_ns > (
                PROCESS_START_NS
                if name in import_log.preloaded or not exact
                else import_log.start_ns
            ):
                edited.add(path)
            modules[path] = getattr(sys.modules.get(importer), "__file__", None) or ""
            absent |= import_log.failed_imports.get(name, set())
        elif path or name not in sys.modules:  # a step from the cache has imported it, another time
            tops.add(name.partition(".")[0])
    known, of = list_installed_versions(), map_modules_to_distributions()
    packages = {
        p: known[p]
        for p in sorted({of.get(t, normalize_distribution_name(t)) for t in tops})
        if p in known
    }
    return {
        "modules": modules,
        "files": {f: s for f, s in files_read.items() if f not in audited_files & files_written},
        "packages": packages,
        "listings": folder_listings,
        "settings": sorted(settings_read),
        "unknowable": sorted(untracked_sources),
        "edited": sorted(edited),
        "absent": sorted(absent - set(sys.modules)),
        "start": import_log.start_ns,
    }
