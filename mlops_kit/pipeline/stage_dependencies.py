"""Stage dependencies."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlops_kit.core import dependencies
from mlops_kit.pipeline import param_types
from mlops_kit.pipeline.current_project import (
    PACKAGE_FOLDER,
    PYTHON_VERSION,
    CurrentProject,
    hash_environment_variable,
)
from mlops_kit.project import notebook_cells
from mlops_kit.project.run_manifest import StageDependencies

EDITED_DURING_RUN = "edited while the stage ran"
_TABLE_FILE_NAME = re.compile(
    r".+\.(csv|tsv|jsonl?|ndjson|parquet|pq|feather|arrow|orc|avro|db|duckdb|sqlite3?|xlsx?)(\.(gz|zst|bz2))?",
    re.S,
)
_WORD_PATTERN = re.compile(r"""[^\s'"`(),;=]+""")


def collect_dependencies(
    now: CurrentProject,
    stage: str,
    values: Mapping[str, Any],
    used: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> StageDependencies:
    """The parts of a stage that has just run.

    Parameters
    ----------
    values : dict
        The parameters that it was given.
    used : dict
        What ``trace.report`` said in its kernel; ``cells`` are those that it was given, if the notebook may be another by now.
    inputs : dict
        Content of each artifact that it read from the stages before.
    """
    hashes, edited = (
        now.hashes,
        {
            *used["edited"],
            *(f for f, seen in used["files"].items() if tuple(seen) != read_file_stamp(f)),
        },
    )
    held, start = now.project.config.stages[stage], used["start"]
    outputs = {
        w for s in now.project.config.stages.values() for w in s.writes
    }  # files that a stage hands on count as its artifacts
    files = {
        now.format_path_name(f): EDITED_DURING_RUN if f in edited else hashes.hash_path(f)
        for f in used["files"]
        if now.format_path_name(f) not in outputs
    }
    named = [
        p
        for p in find_mentioned_tables(now, stage, values, used["modules"])
        if get_write_time_ns(p) <= start and now.format_path_name(p) not in outputs
    ]  # what it has written itself is no input
    places = {
        p: dependencies.list_matching_files(p)
        for p in (*named, *(os.path.abspath(now.project.resolve_path(f)) for f in held.files))
    }
    unseen = {
        now.format_path_name(f): EDITED_DURING_RUN
        if get_write_time_ns(f) > start
        else hashes.hash_path(f)
        for p, names in places.items()
        for f in names or [p]
    }
    listings = used["listings"] | {
        p: names for p, names in places.items() if names not in ([], [p])
    }
    return {
        "cells": used.get("cells") or now.hash_cells(stage),
        "params": param_types.encode_value(values),
        "settings": {
            name: now.settings[name]
            for name in sorted(
                now.setting_names[tuple(pair)]
                for pair in used["settings"]
                if tuple(pair) in now.setting_names
            )
        },
        "inputs": dict(inputs),
        "files": {**unseen, **files},
        "listings": {
            now.format_path_name(p): [now.format_path_name(f) for f in names]
            for p, names in listings.items()
        },
        "modules": {
            now.format_path_name(f): {
                "hash": EDITED_DURING_RUN if f in edited else hashes.hash_path(f),
                "by": now.format_path_name(by) if by else "",
            }
            for f, by in used["modules"].items()
        },
        "packages": used["packages"],
        "env": {name: hash_environment_variable(name) for name in held.env},
        "python": PYTHON_VERSION,
        "unknowable": used["unknowable"],
        "absent": used.get("absent", []),
    }


def find_mentioned_tables(
    now: CurrentProject, stage: str, values: Mapping[str, Any], modules: Iterable[str]
) -> set[str]:
    """Tables that the notebook, the project's own modules or a parameter name: DuckDB, pyarrow and others open them unseen.

    Only what is there counts: a file with a suffix of ``NATIVE``, a pattern of such files, a folder in the
    project that holds nothing else. Runs and hidden folders are left out.
    """
    root, reports = str(now.project.root), str(now.project.reports_folder)
    sources = [
        c["source"] for c in notebook_cells.load_code_cells(now.project.get_notebook_path(stage))
    ]
    sources += [
        Path(m).read_text(encoding="utf-8", errors="replace")
        for m in modules
        if os.path.exists(m) and not now.format_path_name(m).startswith(f"{PACKAGE_FOLDER.name}/")
    ]
    given = [
        v for value in values.values() for v in (value if isinstance(value, list) else [value])
    ]
    texts = {str(v) for v in given if isinstance(v, (str, Path))}.union(
        *map(_find_string_literals, sources)
    )
    found = set()
    for word in {
        w for t in texts if len(t) < 10_000 for w in (t, *_WORD_PATTERN.findall(t)) if "\0" not in w
    }:
        path = os.path.abspath(os.path.join(root, word))
        inside = path.removeprefix(os.path.join(root, ""))
        left_out = (
            path == root
            or f"{os.sep}." in f"{os.sep}{inside}"
            or path.startswith(os.path.join(reports, ""))
        )
        pattern = 0 < word.find(os.sep) < word.find("*")
        folder = (
            not left_out
            and inside != path
            and os.sep in word
            and os.path.isdir(path)
            and all(map(_TABLE_FILE_NAME.fullmatch, dependencies.list_matching_files(path)))
        )
        if (
            folder
            or not left_out
            and _TABLE_FILE_NAME.fullmatch(path)
            and (pattern or os.path.isfile(path))
        ):
            found.add(path)
    return found


def _find_string_literals(source: str) -> set[str]:
    """The texts that stand in code; a cell that Python alone cannot read, as one with magics, is one text."""
    try:
        return {
            n.value
            for n in ast.walk(ast.parse(source))
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        }
    except SyntaxError:
        return {source}


def get_write_time_ns(path: str) -> int:
    """When a file was last written, whatever time it bears (ns); of a folder or a pattern, any of its files; 0 for one that is gone."""
    return max((os.stat(f).st_ctime_ns for f in dependencies.list_matching_files(path)), default=0)


def read_file_stamp(path: str) -> tuple[int, int]:
    """A file's size and time; nothing for one that is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return (-1, -1)
    return found.st_size, found.st_mtime_ns


def is_module_available(now: CurrentProject, module: str) -> bool:
    """Whether a module that was looked for in vain is to be found by now; a part of an installed package comes with its version."""
    own = any(
        now.project.resolve_path(module.replace(".", os.sep) + end).exists()
        for end in ("/__init__.py", ".py")
    )
    return own or "." not in module and importlib.util.find_spec(module) is not None


def refresh_dependencies(
    now: CurrentProject, stage: str, old: StageDependencies
) -> StageDependencies:
    """A trace as if the stage had run now and used the same: for an edit that somebody says does not matter. Parameters and inputs stay."""
    listings = {
        p: [
            now.format_path_name(f)
            for f in dependencies.list_matching_files(str(now.resolve_path(p)))
        ]
        for p in old["listings"]
    }
    return {
        **old,
        "cells": now.hash_cells(stage),
        "settings": {n: now.settings[n] for n in old["settings"] if n in now.settings},
        "files": {
            f: now.hash_file(f)
            for f in dict.fromkeys(
                [
                    *old["files"],
                    *list_declared_files(now, stage, old),
                    *(f for names in listings.values() for f in names),
                ]
            )
        },
        "listings": listings,
        "modules": {m: {**about, "hash": now.hash_file(m)} for m, about in old["modules"].items()},
        "packages": {
            p: now.package_versions[p] for p in old["packages"] if p in now.package_versions
        },
        "env": {n: hash_environment_variable(n) for n in now.project.config.stages[stage].env},
        "python": PYTHON_VERSION,
        "absent": [m for m in old.get("absent", ()) if not is_module_available(now, m)],
    }


def list_declared_files(now: CurrentProject, stage: str, old: StageDependencies) -> list[str]:
    """The files that a stage declares, without folders and patterns whose files a trace has."""
    names = [
        now.format_path_name(os.path.abspath(now.project.resolve_path(f)))
        for f in now.project.config.stages[stage].files
    ]
    return [n for n in names if n not in old["listings"]]
