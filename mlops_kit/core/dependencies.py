"""Record what a stage depends on while it runs: files, settings, packages, and its imports.

Dependencies are not guessed from a notebook's text: files and settings are recorded where the
package reads them, files that the notebook opens by an audit hook, imports by ``import_tracer``.
"""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from mlops_kit.core import import_tracer
from mlops_kit.core.import_tracer import (
    KERNEL_PACKAGES,
    MAIN_MODULE,
    PROCESS_START_NS,
    is_local_module_file,
    list_installed_versions,
    map_modules_to_distributions,
    normalize_distribution_name,
)

FileState = tuple[int, int]  # size in bytes and modification time in ns
EXTENSIONS_SECTION = "plugins"  # in settings_read: that a registry of this kind was listed
_WRITE_MODES = set("wax+")
_UNTRACED_SUFFIXES = (".py", ".pyc", ".ipynb")
_CODE_HASH_CHARACTERS = 16

# What this process has used so far.
files_read: dict[str, FileState] = {}  # each file as it was when it was first read
settings_read: set[tuple[str, str]] = set()  # class and field of settings
packages_read: set[str] = set()  # distributions of which data, not code, was read
folder_listings: dict[str, list[str]] = {}  # files of folders and patterns that were searched
untracked_sources: set[str] = set()  # sources whose content only reading tells, such as queries
# What the audit hook saw. A file that the stage itself writes is not its input.
files_written: set[str] = set()
audited_files: set[str] = set()  # files in files_read that only the audit hook has seen
watched_folders: list[str] = []  # the project whose files are watched, and its folder of runs


class DependencyReport(TypedDict):
    """What was used, as plain values.

    Keys
    ----
    modules
        File of each local module, with the file of the module that imported it.
    files
        Files that were read, with size and modification time.
    packages
        Distributions with their versions.
    listings
        Folders and patterns that were searched, with the files found.
    settings
        Class and field of each setting.
    unknowable
        Sources whose content only reading tells.
    edited
        Modules whose file was written after they may have been imported.
    absent
        Modules that the notebook and local modules could not find.
    start
        When the notebook began (ns).
    """

    modules: dict[str, str]
    files: dict[str, FileState]
    packages: dict[str, str]
    listings: dict[str, list[str]]
    settings: list[tuple[str, str]]
    unknowable: list[str]
    edited: list[str]
    absent: list[str]
    start: int


@dataclass
class RecordedDependencies:
    """What was used while a function ran, for one whose result is taken from a cache later."""

    settings: set[tuple[str, str]]
    files: dict[str, FileState]
    listings: dict[str, list[str]]
    untracked_sources: set[str]
    packages: set[str]
    imports: dict[str, set[str]]


@dataclass
class _ModuleDependencies:
    """The modules that a notebook reached."""

    importers: dict[str, str]  # file of a local module: file of the one that imported it
    top_level_modules: set[str]  # of installed packages
    edited: set[str]
    absent: set[str]


def list_matching_files(path: str) -> list[str]:
    """List the files of a folder or a pattern, or the one file."""
    pattern = path
    if os.path.isdir(path):
        pattern = os.path.join(path, "**")
    files = []
    for match in glob.glob(pattern, recursive=True):
        if not os.path.isdir(match):
            files.append(os.path.abspath(match))
    return sorted(files)


def record_file_read(path: str | Path) -> None:
    """Record that a file was read, or all files of a folder or a pattern and which these are."""
    absolute_path = os.path.abspath(path)
    names = list_matching_files(str(path))
    if names != [absolute_path]:
        folder_listings[absolute_path] = names
    for name in names:
        files_read.setdefault(name, _get_file_state(name))
        audited_files.discard(name)


def _get_file_state(path: str) -> FileState:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def record_module_use(module: str) -> None:
    """Record that the notebook uses a module which it does not import itself, such as a plugin."""
    import_tracer.import_log.edges.setdefault(MAIN_MODULE, set()).add(module)


def record_extensions_listed(kind: str) -> None:
    """Record that the result depends on which extensions of a kind there are."""
    settings_read.add((EXTENSIONS_SECTION, str(kind)))  # plain text: it is reported as a literal


@contextmanager
def settings_not_recorded() -> Iterator[None]:
    """Do not record the settings that are read in this context."""
    settings_before = set(settings_read)
    try:
        yield
    finally:
        settings_read.intersection_update(settings_before)


def watch_project_files(root: str, reports: str) -> None:
    """Record from now on each file of a project that Python opens for reading.

    Not recorded are runs, hidden folders, notebooks, ``mlops.yaml`` (its settings count one by
    one) and Python files (modules count by their imports). Files that a library opens by itself,
    as pyarrow and DuckDB do, are not seen: they count if code or a parameter names them, or if
    ``stages.NAME.files`` declares them.
    """
    if not watched_folders:
        sys.addaudithook(_audit_file_event)
    watched_folders[:] = [os.path.join(root, ""), os.path.join(reports, "")]


def _audit_file_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Handle Python's audit events for files that are opened or renamed."""
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, str):
            _record_opened_file(os.path.abspath(path), mode or "", flags)
    elif event == "os.rename":
        source, target = arguments[:2]
        is_text = isinstance(source, str) and isinstance(target, str)
        if is_text and os.path.abspath(source) in files_written:
            files_written.add(os.path.abspath(target))


def _record_opened_file(
    path: str,
    mode: str,
    flags: int,
) -> None:
    is_opened_for_writing = bool(_WRITE_MODES & set(mode))
    if not mode:
        is_opened_for_writing = bool(flags & (os.O_WRONLY | os.O_RDWR))
    if is_opened_for_writing:
        files_written.add(path)
        return
    is_input = _is_project_input(path) and os.path.isfile(path)
    if is_input and path not in files_read:
        audited_files.add(path)
        files_read[path] = _get_file_state(path)


def _is_project_input(path: str) -> bool:
    """Return whether a file is in the project and is not recorded in another way."""
    project_folder, reports_folder = watched_folders
    if not path.startswith(project_folder) or path.startswith(reports_folder):
        return False
    relative_path = path.removeprefix(project_folder)
    if relative_path.endswith(_UNTRACED_SUFFIXES) or relative_path == "mlops.yaml":
        return False
    parts = relative_path.split(os.sep)
    return not any(part.startswith(".") or part == "site-packages" for part in parts)


def hash_code(source: str) -> str:
    """Hash the code of a cell."""
    return hashlib.sha256(source.encode()).hexdigest()[:_CODE_HASH_CHARACTERS]


def record_dependencies(function: Callable[[], Any]) -> tuple[Any, RecordedDependencies]:
    """Call a function and record what it uses.

    Returns
    -------
    result : object
        What the function returned.
    used : RecordedDependencies
        What was used while it ran; it also counts as used by this process.
    """
    used_before = _copy_used_so_far()
    _forget_used_so_far()
    try:
        result = function()
        used = _copy_used_so_far()
    finally:
        restore_dependencies(used_before)
    return result, used


def restore_dependencies(used: RecordedDependencies) -> None:
    """Count what a cached result was computed from as used by this process."""
    settings_read.update(used.settings)
    files_read.update(used.files)
    folder_listings.update(used.listings)
    untracked_sources.update(used.untracked_sources)
    packages_read.update(used.packages)
    edges = import_tracer.import_log.edges
    for importer, modules in used.imports.items():
        edges.setdefault(importer, set()).update(modules)


def _copy_used_so_far() -> RecordedDependencies:
    edges = import_tracer.import_log.edges
    return RecordedDependencies(
        settings=set(settings_read),
        files=dict(files_read),
        listings={path: list(names) for path, names in folder_listings.items()},
        untracked_sources=set(untracked_sources),
        packages=set(packages_read),
        imports={importer: set(modules) for importer, modules in edges.items()},
    )


def _forget_used_so_far() -> None:
    settings_read.clear()
    files_read.clear()
    folder_listings.clear()
    untracked_sources.clear()
    packages_read.clear()
    import_tracer.import_log.edges.clear()


def report_dependencies(exact: bool = True) -> DependencyReport:
    """Report what was used until now.

    Parameters
    ----------
    exact : bool
        False if imports were not recorded, as in a notebook that is run by hand: then every module
        in memory counts.
    """
    modules = _collect_modules(exact)
    own_files = audited_files & files_written
    inputs = {path: state for path, state in files_read.items() if path not in own_files}
    return {
        "modules": modules.importers,
        "files": inputs,
        "packages": _list_package_versions(modules.top_level_modules | packages_read),
        "listings": folder_listings,
        "settings": sorted(settings_read),
        "unknowable": sorted(untracked_sources),
        "edited": sorted(modules.edited),
        "absent": sorted(modules.absent - set(sys.modules)),
        "start": import_tracer.import_log.start_ns,
    }


def _collect_modules(exact: bool) -> _ModuleDependencies:
    import_log = import_tracer.import_log
    reached = _find_reached_modules() if exact else dict.fromkeys(sys.modules, "")
    modules = _ModuleDependencies({}, set(), set(), set())
    modules.absent |= import_log.failed_imports.get(MAIN_MODULE, set())
    for name, importer in reached.items():
        path = _get_module_file(name)
        is_local = bool(path) and is_local_module_file(path) and os.path.exists(path)
        if is_local:
            modules.importers[path] = _get_module_file(importer)
            modules.absent |= import_log.failed_imports.get(name, set())
            is_preloaded = name in import_log.preloaded or not exact
            earliest_import_ns = PROCESS_START_NS if is_preloaded else import_log.start_ns
            # st_ctime cannot be set back, unlike the modification time.
            if os.stat(path).st_ctime_ns > earliest_import_ns:
                modules.edited.add(path)
        elif path or name not in sys.modules:
            # A module that is not in memory was imported by a cached step, at another time.
            modules.top_level_modules.add(name.partition(".")[0])
    return modules


def _find_reached_modules() -> dict[str, str]:
    import_log = import_tracer.import_log
    kernel_modules = {name for name in sys.modules if name.partition(".")[0] in KERNEL_PACKAGES}
    import_log.attribute_new_modules(MAIN_MODULE, set(import_log.preloaded) | kernel_modules)
    return import_log.find_reachable()


def _get_module_file(name: str) -> str:
    return getattr(sys.modules.get(name), "__file__", None) or ""


def _list_package_versions(top_level_modules: set[str]) -> dict[str, str]:
    """Return the versions of the distributions that have these modules, or these names."""
    installed_versions = list_installed_versions()
    distributions = map_modules_to_distributions()
    names = set()
    for module in top_level_modules:
        names.add(distributions.get(module, normalize_distribution_name(module)))
    return {name: installed_versions[name] for name in sorted(names) if name in installed_versions}
