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

from mlops_kit.core import (
    background_errors,
    file_tracer,
    import_tracer,
    library_tracer,
    process_tracer,
)
from mlops_kit.core.file_log import FileLog, FileState, file_log
from mlops_kit.core.import_tracer import (
    KERNEL_PACKAGES,
    MAIN_MODULE,
    PROCESS_START_NS,
    is_local_module_file,
    list_installed_versions,
    map_modules_to_distributions,
    normalize_distribution_name,
)
from mlops_kit.core.traced_paths import TracedPaths

EXTENSIONS_SECTION = "plugins"  # in settings_read: that a registry of this kind was listed
_CODE_HASH_CHARACTERS = 16

# What this process has used so far, besides the files in ``file_log``.
settings_read: set[tuple[str, str]] = set()  # class and field of settings
packages_read: set[str] = set()  # distributions of which data, not code, was read
untracked_sources: set[str] = set()  # sources whose content only reading tells, such as queries


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
        Folders and patterns that this package searched, with the files found.
    searches
        Folders (with a slash at the end) and patterns that the notebook listed, with all names.
    missing, existing
        Paths that were looked for, and were not there, or were.
    untraced
        What cannot be followed, with the execution count of the cell that used it.
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
    errors
        Exceptions that no cell has shown, with the execution count of the running cell.
    """

    modules: dict[str, str]
    files: dict[str, FileState]
    packages: dict[str, str]
    listings: dict[str, list[str]]
    searches: dict[str, list[str]]
    missing: list[str]
    existing: list[str]
    untraced: list[tuple[str, int]]
    settings: list[tuple[str, str]]
    unknowable: list[str]
    edited: list[str]
    absent: list[str]
    start: int
    errors: list[tuple[str, int]]


@dataclass
class RecordedDependencies:
    """What was used while a function ran, for one whose result is taken from a cache later."""

    settings: set[tuple[str, str]]
    files: dict[str, FileState]
    listings: dict[str, list[str]]
    untracked_sources: set[str]
    packages: set[str]
    imports: dict[str, set[str]]
    log: FileLog | None = None  # stored by earlier versions without it


@dataclass
class _ModuleDependencies:
    """The modules that a notebook reached."""

    importers: dict[str, str]  # file of a local module: file of the one that imported it
    top_level_modules: set[str]  # of installed packages
    edited: set[str]
    absent: set[str]


def list_matching_files(path: str) -> list[str]:
    """List the files of a folder or a pattern, or the one file, whatever its name."""
    if os.path.isfile(path):
        return [os.path.abspath(path)]
    pattern = path
    if os.path.isdir(path):
        pattern = os.path.join(glob.escape(path), "**")
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
        file_log.listings[absolute_path] = names
    for name in names:
        file_log.read.setdefault(name, file_tracer.get_file_state(name))
        file_log.audited.discard(name)


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


def watch_project_files(
    root: str,
    reports: str,
    child_reports: Path | None = None,
) -> None:
    """Record from now on what Python code uses of the file system, and what it starts.

    Not recorded are runs, the package's own folder, ``mlops.yaml`` (its settings count one by one)
    and modules that are imported (the import tracer's). Files that a library opens by itself count
    if one of the functions in ``library_tracer`` was given their name, if code or a parameter
    names them, or if ``stages.NAME.files`` declares them.

    Parameters
    ----------
    root, reports : str
        Folders of the project and of its runs.
    child_reports : Path or None
        Where child processes report what they use; None if they are not followed.
    """
    paths = TracedPaths(os.path.abspath(root), os.path.abspath(reports))
    if file_tracer.tracer_state.paths == paths:
        return
    file_tracer.watch_paths(paths)
    process_tracer.follow_processes(child_reports)
    library_tracer.watch_libraries()


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
    file_log.read.update(used.files)
    file_log.listings.update(used.listings)
    if used.log is not None:
        file_log.merge(used.log)
    untracked_sources.update(used.untracked_sources)
    packages_read.update(used.packages)
    edges = import_tracer.import_log.edges
    for importer, modules in used.imports.items():
        edges.setdefault(importer, set()).update(modules)


def _copy_used_so_far() -> RecordedDependencies:
    edges = import_tracer.import_log.edges
    return RecordedDependencies(
        settings=set(settings_read),
        files=dict(file_log.read),
        listings=dict(file_log.listings),
        untracked_sources=set(untracked_sources),
        packages=set(packages_read),
        imports={importer: set(modules) for importer, modules in edges.items()},
        log=file_log.copy(),
    )


def _forget_used_so_far() -> None:
    settings_read.clear()
    file_log.clear()
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
    report: DependencyReport = file_tracer.run_untraced(lambda: _build_report(exact))
    return report


def _build_report(exact: bool) -> DependencyReport:
    log = file_log
    process_tracer.merge_child_reports(log)
    modules = _collect_modules(exact)
    module_names = modules.top_level_modules | packages_read | log.packages
    return {
        "modules": modules.importers,
        "files": _list_inputs(log),
        "packages": _list_package_versions(module_names),
        "listings": log.listings,
        "searches": _list_searches(log),
        "missing": sorted(path for path in log.missing if not os.path.lexists(path)),
        "existing": sorted(log.existing - log.written),
        "untraced": [(use.name, use.cell) for use in sorted(log.untraced)],
        "settings": sorted(settings_read),
        "unknowable": sorted(untracked_sources),
        "edited": sorted(modules.edited),
        "absent": sorted(modules.absent - set(sys.modules)),
        "start": import_tracer.import_log.start_ns,
        "errors": background_errors.list_background_errors(),
    }


def _list_inputs(log: FileLog) -> dict[str, FileState]:
    """Return the files that were read, without those that the stage wrote itself."""
    inputs = {}
    for path, state in list(log.read.items()):  # threads of the stage may still be reading
        is_own = path in log.audited and path in log.written
        if path in log.shared and not is_own:
            is_own = not os.path.exists(path) or file_tracer.get_file_state(path) != state
        if not is_own:
            inputs[path] = state
    return inputs


def _list_searches(log: FileLog) -> dict[str, list[str]]:
    """Return what folders and patterns had, with what the stage itself added and removed since."""
    paths = file_tracer.tracer_state.paths
    if paths is None:
        return {}
    searches = {}
    for search, names_before in list(log.searches.items()):
        names = set(names_before)
        for name in paths.list_names(search):
            if name in log.written:
                names.add(name)
        removed = {name for name in names & log.removed if not os.path.lexists(name)}
        searches[search] = sorted(names - removed)
    return searches


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
    path = getattr(sys.modules.get(name), "__file__", None)
    return os.path.abspath(path) if path else ""


def _list_package_versions(top_level_modules: set[str]) -> dict[str, str]:
    """Return the versions of the distributions that have these modules, or these names."""
    installed_versions = list_installed_versions()
    distributions = map_modules_to_distributions()
    names = set()
    for module in top_level_modules:
        names.add(distributions.get(module, normalize_distribution_name(module)))
    return {name: installed_versions[name] for name in sorted(names) if name in installed_versions}
