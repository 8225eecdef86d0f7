"""Collect what a stage used, from the report of its kernel and from what its code mentions.

To add a format that libraries read without Python seeing it: its suffix in ``_TABLE_FILE_NAME``.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlops_kit.core.dependencies import list_matching_files
from mlops_kit.core.traced_paths import TracedPaths
from mlops_kit.pipeline.current_project import (
    PACKAGE_FOLDER,
    PYTHON_VERSION,
    CurrentProject,
    hash_environment_variable,
    list_working_folder,
)
from mlops_kit.pipeline.param_types import StageValues, encode_value
from mlops_kit.project.notebook_cells import load_code_cells
from mlops_kit.project.run_manifest import ModuleDependency, StageDependencies, UntracedDependency

EDITED_DURING_RUN = "edited while the stage ran"
_MAX_LITERAL_CHARACTERS = 10_000  # a longer text is data, not the name of a file
_TABLE_FILE_NAME = re.compile(
    r".+\.(csv|tsv|jsonl?|ndjson|parquet|pq|feather|arrow|orc|avro|db|duckdb|sqlite3?|xlsx?)"
    r"(\.(gz|zst|bz2))?",
    re.DOTALL,
)
_WORD_PATTERN = re.compile(r"""[^\s'"`(),;=]+""")


def collect_dependencies(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    used: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> StageDependencies:
    """Collect what a stage that has just run used.

    Parameters
    ----------
    values : mapping
        The parameter values that it was given.
    used : mapping
        What ``core.dependencies.report_dependencies`` returned in its kernel. ``cells`` are the
        hashes of the executed cells, if the notebook may have been edited since.
    inputs : mapping
        Content hash of each artifact that it read from earlier stages.
    """
    edited = {*used["edited"]}
    for path, stamp in used["files"].items():
        if tuple(stamp) != read_file_stamp(path):
            edited.add(path)
    files, listings = _collect_unseen_files(current, stage, values, used)
    outputs = list_output_names(current)
    for path in used["files"]:
        name = current.format_path_name(path)
        if name not in outputs:
            files[name] = EDITED_DURING_RUN if path in edited else current.hashes.hash_path(path)
    config = current.project.config.stages[stage]
    return StageDependencies(
        cells=used.get("cells") or current.hash_cells(stage),
        params=encode_value(dict(values)),
        settings=_collect_settings(current, used["settings"]) | list_working_folder(current, stage),
        inputs=dict(inputs),
        files=files,
        listings=_name_listings(current, {**used["listings"], **listings}),
        modules=_collect_modules(current, used["modules"], edited),
        packages=used["packages"],
        env={name: hash_environment_variable(name) for name in config.env},
        python=PYTHON_VERSION,
        unknowable=used["unknowable"],
        absent=used.get("absent", []),
        searches=_name_searches(current, used.get("searches", {}), outputs),
        missing=_name_paths(current, used.get("missing", []), outputs),
        existing=_name_paths(current, used.get("existing", []), outputs),
        untraced=[
            UntracedDependency(name=name, cell=cell or None)
            for name, cell in used.get("untraced", [])
        ],
    )


def _name_paths(
    current: CurrentProject,
    paths: Iterable[str],
    outputs: set[str],
) -> list[str]:
    """Return the names of paths, without the declared outputs of stages."""
    names = map(current.format_path_name, paths)
    return sorted(set(names) - outputs)


def _name_searches(
    current: CurrentProject,
    searches: Mapping[str, list[str]],
    outputs: set[str],
) -> dict[str, list[str]]:
    """Return searches by name, with the names that they had, without declared outputs."""
    named = {}
    for search, paths in searches.items():
        ending = "/" if search.endswith(os.sep) else ""
        named[current.format_path_name(search) + ending] = _name_paths(current, paths, outputs)
    return named


def list_current_names(current: CurrentProject, search: str) -> list[str]:
    """Return the names that a recorded folder or pattern has now."""
    project = current.project
    paths = TracedPaths(str(project.root), str(project.reports_folder))
    path = str(current.resolve_path(search))
    if search.endswith("/"):
        path += os.sep
    return _name_paths(current, paths.list_names(path), list_output_names(current))


def list_output_names(current: CurrentProject) -> set[str]:
    """Return the declared outputs of all stages: files among them count as artifacts."""
    outputs: set[str] = set()
    for config in current.project.config.stages.values():
        outputs.update(config.writes)
    return outputs


def _collect_unseen_files(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    used: Mapping[str, Any],
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return hashes and listings of files that a stage mentions or declares.

    A mentioned table that was written after the stage began is its own work and does not count.
    """
    start_ns = used["start"]
    outputs = list_output_names(current)
    patterns = []
    for path in find_mentioned_tables(current, stage, values, used["modules"]):
        is_output = current.format_path_name(path) in outputs
        if get_write_time_ns(path) <= start_ns and not is_output:
            patterns.append(path)
    for name in current.project.config.stages[stage].files:
        patterns.append(_get_absolute_path(current, name))
    hashes: dict[str, str] = {}
    listings: dict[str, list[str]] = {}
    for pattern in patterns:
        paths = list_matching_files(pattern)
        for path in paths or [pattern]:
            was_edited = get_write_time_ns(path) > start_ns
            file_hash = EDITED_DURING_RUN if was_edited else current.hashes.hash_path(path)
            hashes[current.format_path_name(path)] = file_hash
        if paths not in ([], [pattern]):
            listings[pattern] = paths
    return hashes, listings


def _collect_settings(current: CurrentProject, used_fields: Iterable[Any]) -> dict[str, Any]:
    """Return the values of the settings that were read, sorted by dotted name."""
    names = set()
    for class_and_field in map(tuple, used_fields):
        if class_and_field in current.setting_names:
            names.add(current.setting_names[class_and_field])
    return {name: current.settings[name] for name in sorted(names)}


def _name_listings(
    current: CurrentProject, listings: Mapping[str, list[str]]
) -> dict[str, list[str]]:
    """Return listings with the names under which the files are recorded."""
    return {
        current.format_path_name(pattern): list(map(current.format_path_name, paths))
        for pattern, paths in listings.items()
    }


def _collect_modules(
    current: CurrentProject,
    used_modules: Mapping[str, str],
    edited: set[str],
) -> dict[str, ModuleDependency]:
    """Return the project's own modules that were imported."""
    modules = {}
    for path, importer in used_modules.items():
        file_hash = EDITED_DURING_RUN if path in edited else current.hashes.hash_path(path)
        modules[current.format_path_name(path)] = ModuleDependency(
            hash=file_hash,
            imported_by=current.format_path_name(importer) if importer else "",
        )
    return modules


def find_mentioned_tables(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    modules: Iterable[str],
) -> set[str]:
    """Return the tables that the notebook, the project's own modules or a parameter mention.

    DuckDB, pyarrow and others open them without Python seeing it. Only what exists counts: a file
    with the suffix of a table, a pattern of such files, a folder in the project with nothing else
    in it. Runs and hidden folders are left out.
    """
    texts: set[str] = set()
    for value in values.values():
        items = value if isinstance(value, list) else [value]
        texts.update(str(item) for item in items if isinstance(item, str | Path))
    for source in _read_sources(current, stage, modules):
        texts.update(_find_string_literals(source))
    words: set[str] = set()
    for text in texts:
        if len(text) < _MAX_LITERAL_CHARACTERS:
            words.update([text, *_WORD_PATTERN.findall(text)])
    working_folder = current.project.get_working_folder(stage)
    if working_folder != current.project.root:
        words.update([os.path.join(working_folder, word) for word in words])
    return {
        _get_absolute_path(current, word)
        for word in words
        if "\0" not in word and _is_table(current, word)
    }


def _read_sources(
    current: CurrentProject,
    stage: str,
    modules: Iterable[str],
) -> list[str]:
    """Return the code cells of a notebook and the text of the project's own modules."""
    cells = load_code_cells(current.project.get_notebook_path(stage))
    sources = [cell["source"] for cell in cells]
    package_prefix = f"{PACKAGE_FOLDER.name}/"
    for module in modules:
        is_own = not current.format_path_name(module).startswith(package_prefix)
        path = Path(module)
        if is_own and path.exists():
            sources.append(
                path.read_text(
                    encoding="utf-8",
                    errors="replace",
                )
            )
    return sources


def _is_table(current: CurrentProject, word: str) -> bool:
    """Return whether a word is the name of a table, of a pattern or of a folder of tables."""
    root = str(current.project.root)
    path = _get_absolute_path(current, word)
    relative = path.removeprefix(f"{root}{os.sep}")
    is_hidden = f"{os.sep}." in f"{os.sep}{relative}"
    is_in_reports = path.startswith(f"{current.project.reports_folder}{os.sep}")
    if path == root or is_hidden or is_in_reports:
        return False
    if _TABLE_FILE_NAME.fullmatch(path):
        is_pattern = 0 < word.find(os.sep) < word.find("*")
        if is_pattern or _is_existing_file(path):
            return True
    is_in_project = relative != path
    if not is_in_project or os.sep not in word or not _is_existing_folder(path):
        return False
    return all(map(_TABLE_FILE_NAME.fullmatch, list_matching_files(path)))


def _is_existing_file(path: str) -> bool:
    """Return whether a file exists; text that cannot be the name of a file is none."""
    try:
        return Path(path).is_file()
    except OSError:  # longer than a name may be
        return False


def _is_existing_folder(path: str) -> bool:
    """Return whether a folder exists; text that cannot be the name of a folder is none."""
    try:
        return Path(path).is_dir()
    except OSError:  # longer than a name may be
        return False


def _find_string_literals(source: str) -> set[str]:
    """Return the string literals of code; code that Python cannot parse (magics) is one literal."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return {source}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def get_write_time_ns(path: str) -> int:
    """Return when a file was last written, whatever its modification time says; 0 if it is gone.

    Of a folder or a pattern, the time of the file that was written last.
    """
    times_ns = [Path(file).stat().st_ctime_ns for file in list_matching_files(path)]
    return max(times_ns, default=0)


def read_file_stamp(path: str) -> tuple[int, int]:
    """Return the size and modification time (ns) of a file; (-1, -1) if it is gone."""
    try:
        stat = Path(path).stat()
    except OSError:
        return (-1, -1)
    return stat.st_size, stat.st_mtime_ns


def is_module_available(current: CurrentProject, module: str) -> bool:
    """Return whether a module that could not be imported is available now.

    A submodule of an installed package appears with another version of the package, which is
    compared.
    """
    relative_path = module.replace(".", os.sep)
    for ending in ("/__init__.py", ".py"):
        if current.project.resolve_path(relative_path + ending).exists():
            return True
    return "." not in module and importlib.util.find_spec(module) is not None


def path_exists(current: CurrentProject, name: str) -> bool:
    """Return whether there is a file or folder of a recorded name."""
    return os.path.lexists(current.resolve_path(name))


def refresh_dependencies(
    current: CurrentProject,
    stage: str,
    recorded: StageDependencies,
) -> StageDependencies:
    """Return what a stage would record now if it used the same again.

    For an edit that a person says does not matter, and for what cannot be traced. Parameters and
    inputs stay as they were.
    """
    listings: dict[str, list[str]] = {}
    for name in recorded.listings:
        paths = list_matching_files(str(current.resolve_path(name)))
        listings[name] = [current.format_path_name(path) for path in paths]
    file_names = [*recorded.files, *list_declared_files(current, stage, recorded)]
    for names in listings.values():
        file_names += names
    modules = {}
    for name, module in recorded.modules.items():
        modules[name] = ModuleDependency(
            hash=current.hash_file(name),
            imported_by=module.imported_by,
        )
    versions, settings = current.package_versions, current.settings
    declared_variables = current.project.config.stages[stage].env
    changes = {
        "cells": current.hash_cells(stage),
        "settings": {name: settings[name] for name in recorded.settings if name in settings},
        "files": {name: current.hash_file(name) for name in dict.fromkeys(file_names)},
        "listings": listings,
        "modules": modules,
        "packages": {name: versions[name] for name in recorded.packages if name in versions},
        "env": {name: hash_environment_variable(name) for name in declared_variables},
        "python": PYTHON_VERSION,
        "absent": [name for name in recorded.absent if not is_module_available(current, name)],
        "searches": {name: list_current_names(current, name) for name in recorded.searches},
        "missing": [name for name in recorded.missing if not path_exists(current, name)],
        "existing": [name for name in recorded.existing if path_exists(current, name)],
        "untraced": [],
    }
    return recorded.model_copy(update=changes)


def list_declared_files(
    current: CurrentProject,
    stage: str,
    recorded: StageDependencies,
) -> list[str]:
    """Return the files that a stage declares, without folders and patterns that were listed."""
    declared = current.project.config.stages[stage].files
    names = [current.format_path_name(_get_absolute_path(current, name)) for name in declared]
    return [name for name in names if name not in recorded.listings]


def _get_absolute_path(current: CurrentProject, name: str) -> str:
    """Return the absolute path of a name in the project, without following links."""
    return os.path.normpath(current.project.root / name)
