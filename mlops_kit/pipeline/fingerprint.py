"""What a stage's result depends on, part by part, so that a difference can be named.

The parts are what the stage really used (``mlops_kit.trace``), not what its text suggests: code cells
in order (no markdown, outputs, ids), parameters, the settings it read, the content of what it read from
the stages before, the files it read, the project's own modules it imported however deep, the packages it
reached with their versions, the environment variables it declares, Python's minor version. As long as
all of them are what they were, the stage would do the same again.

To add a part: a line in ``of``, and one in ``differences``. To add a format that libraries read past Python's
eyes: its suffix in ``NATIVE``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mlops_kit import config as configs
from mlops_kit import store, trace
from mlops_kit.config import Project
from mlops_kit.pipeline import params

Trace = dict[str, Any]
GONE = "gone"
EDITED = "edited while the stage ran"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PACKAGE = Path(__file__).parent.parent
NATIVE = re.compile(
    r".+\.(csv|tsv|jsonl?|ndjson|parquet|pq|feather|arrow|orc|avro|db|duckdb|sqlite3?|xlsx?)(\.(gz|zst|bz2))?",
    re.S,
)
WORD = re.compile(r"""[^\s'"`(),;=]+""")
RACY = (
    2 * 10**9
)  # ns: a file as young as this when it was hashed may change again and keep its time


class Hashes:
    """Content hashes of files, kept by inode, size and time, so that nothing is hashed twice."""

    def __init__(self, project: Project, verify: bool = False) -> None:
        self.file, self.verify, self.fresh = (
            project.path(".mlops") / "cache" / "hashes.json",
            verify,
            False,
        )
        try:
            self.known: dict[str, list[Any]] = store.read_json(self.file)
        except (OSError, ValueError):
            self.known = {}

    def of(self, path: str | Path) -> str:
        """The hash of a file's bytes; of a folder or a pattern, of its files' names and hashes; ``gone`` if it is not there."""
        folder = os.path.isdir(path)
        if (
            names := sorted(map(str, Path(path).rglob("*")))
            if folder
            else []
            if os.path.exists(path)
            else trace.listed(str(path))
        ):
            return hashlib.sha256(
                "\n".join(
                    f"{os.path.relpath(n, path)} {self.of(n)}" for n in names if os.path.isfile(n)
                ).encode()
            ).hexdigest()
        try:
            found = os.stat(path)
        except OSError:
            return GONE
        key, state = f"{found.st_dev}:{found.st_ino}", [found.st_size, found.st_mtime_ns]
        known = self.known.get(key)
        if not self.verify and known is not None and known[:2] == state:
            return str(known[2])
        begin = time.time_ns()
        made = store.sha256(Path(path))
        self.known.pop(key, None)
        if begin - found.st_mtime_ns > RACY:
            self.known[key] = [*state, made]
        self.fresh = True
        return made

    def learn(self, path: Path, hashed: str) -> None:
        """Take over the hash of a file that its writer has told."""
        if path.is_file():
            found = path.stat()
            self.known[f"{found.st_dev}:{found.st_ino}"], self.fresh = (
                [found.st_size, found.st_mtime_ns, hashed],
                True,
            )

    def save(self) -> None:
        """Keep what is new for the next time."""
        if self.fresh:
            store.write_json(self.file, dict(list(self.known.items())[-100_000:]))
            self.fresh = False


class Now:
    """The present state of a project, against which traces are held; each thing is looked up once."""

    def __init__(self, project: Project, hashes: Hashes | None = None) -> None:
        self.project, self.hashes = project, hashes or Hashes(project)
        self._cells: dict[Path, list[str]] = {}
        self._files: dict[str, str] = {}

    @cached_property
    def versions(self) -> dict[str, str]:
        """Versions of everything installed, by name."""
        return trace.versions()

    def cells(self, stage: str) -> list[str]:
        """The hashes of a notebook's code cells."""
        book = self.project.notebook(stage)
        if book not in self._cells:
            self._cells[book] = cells(book)
        return self._cells[book]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The present value of every setting, by dotted name."""
        return configs.values_by_name(self.project.config)

    @cached_property
    def places(self) -> dict[tuple[str, str], str]:
        """The dotted name of each setting, by class and field."""
        return configs.places(self.project.config)

    def hash(self, name: str) -> str:
        """The hash of a file that a trace calls by this name."""
        if name not in self._files:
            self._files[name] = self.hashes.of(self.path(name))
        return self._files[name]

    def laid(self, artifacts: Mapping[str, Any]) -> None:
        """Take files of the project to be what a skipped stage puts back there."""
        self._files |= {n: a["sha256"] for n, a in artifacts.items() if a["kind"] == "file"}

    def path(self, name: str) -> Path:
        """The file that a trace calls by this name."""
        return (
            PACKAGE.parent / name
            if name.startswith(f"{PACKAGE.name}/")
            else self.project.path(name)
        )

    def name(self, path: str) -> str:
        """How a trace calls a file: from the project's folder, so that it may move."""
        for root in (PACKAGE.parent, self.project.root):
            relative = os.path.relpath(path, root)
            if not relative.startswith("..") and (
                root == self.project.root or relative.startswith(PACKAGE.name + os.sep)
            ):
                return Path(relative).as_posix()
        return path


def cells(book: Path) -> list[str]:
    """The hashes of a notebook's code cells, without what papermill put in: an executed one has those of its source."""
    return [
        trace.cell_hash(c["source"])
        for c in params.code_cells(book)
        if "injected-parameters" not in c["metadata"].get("tags", [])
    ]


def secret_hash(name: str) -> str | None:
    """What is kept of an environment variable: not its value."""
    value = os.environ.get(name)
    return None if value is None else trace.cell_hash(value)


def of(
    now: Now,
    stage: str,
    values: Mapping[str, Any],
    used: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> Trace:
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
        {*used["edited"], *(f for f, seen in used["files"].items() if tuple(seen) != state(f))},
    )
    held, start = now.project.config.stages[stage], used["start"]
    outputs = {
        w for s in now.project.config.stages.values() for w in s.writes
    }  # files that a stage hands on count as its artifacts
    files = {
        now.name(f): EDITED if f in edited else hashes.of(f)
        for f in used["files"]
        if now.name(f) not in outputs
    }
    named = [
        p
        for p in mentioned(now, stage, values, used["modules"])
        if written(p) <= start and now.name(p) not in outputs
    ]  # what it has written itself is no input
    places = {
        p: trace.listed(p)
        for p in (*named, *(os.path.abspath(now.project.path(f)) for f in held.files))
    }
    unseen = {
        now.name(f): EDITED if written(f) > start else hashes.of(f)
        for p, names in places.items()
        for f in names or [p]
    }
    listings = used["listings"] | {
        p: names for p, names in places.items() if names not in ([], [p])
    }
    return {
        "cells": used.get("cells") or now.cells(stage),
        "params": params.kept(values),
        "settings": {
            name: now.settings[name]
            for name in sorted(
                now.places[tuple(pair)] for pair in used["settings"] if tuple(pair) in now.places
            )
        },
        "inputs": dict(inputs),
        "files": {**unseen, **files},
        "listings": {now.name(p): [now.name(f) for f in names] for p, names in listings.items()},
        "modules": {
            now.name(f): {
                "hash": EDITED if f in edited else hashes.of(f),
                "by": now.name(by) if by else "",
            }
            for f, by in used["modules"].items()
        },
        "packages": used["packages"],
        "env": {name: secret_hash(name) for name in held.env},
        "python": PYTHON,
        "unknowable": used["unknowable"],
        "absent": used.get("absent", []),
    }


def mentioned(now: Now, stage: str, values: Mapping[str, Any], modules: Iterable[str]) -> set[str]:
    """Tables that the notebook, the project's own modules or a parameter name: DuckDB, pyarrow and others open them unseen.

    Only what is there counts: a file with a suffix of ``NATIVE``, a pattern of such files, a folder in the
    project that holds nothing else. Runs and hidden folders are left out.
    """
    root, reports = str(now.project.root), str(now.project.reports)
    sources = [c["source"] for c in params.code_cells(now.project.notebook(stage))]
    sources += [
        Path(m).read_text(encoding="utf-8", errors="replace")
        for m in modules
        if os.path.exists(m) and not now.name(m).startswith(f"{PACKAGE.name}/")
    ]
    given = [
        v for value in values.values() for v in (value if isinstance(value, list) else [value])
    ]
    texts = {str(v) for v in given if isinstance(v, (str, Path))}.union(*map(literals, sources))
    found = set()
    for word in {
        w for t in texts if len(t) < 10_000 for w in (t, *WORD.findall(t)) if "\0" not in w
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
            and all(map(NATIVE.fullmatch, trace.listed(path)))
        )
        if folder or not left_out and NATIVE.fullmatch(path) and (pattern or os.path.isfile(path)):
            found.add(path)
    return found


def literals(source: str) -> set[str]:
    """The texts that stand in code; a cell that Python alone cannot read, as one with magics, is one text."""
    try:
        return {
            n.value
            for n in ast.walk(ast.parse(source))
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        }
    except SyntaxError:
        return {source}


def written(path: str) -> int:
    """When a file was last written, whatever time it bears (ns); of a folder or a pattern, any of its files; 0 for one that is gone."""
    return max((os.stat(f).st_ctime_ns for f in trace.listed(path)), default=0)


def state(path: str) -> tuple[int, int]:
    """A file's size and time; nothing for one that is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return (-1, -1)
    return found.st_size, found.st_mtime_ns


def differences(
    now: Now, stage: str, values: Mapping[str, Any], inputs: Mapping[str, str | None], old: Trace
) -> Iterator[str]:
    """Why a stage is not what a trace says, a sentence each; none if it is.

    Parameters
    ----------
    inputs : dict
        Content of each artifact there is to read; None for one that is not made yet.
    """
    book = now.project.notebook(stage).stem
    cells = now.cells(stage)
    if cells != old["cells"]:
        changed = [n for n, (a, b) in enumerate(zip_longest(cells, old["cells"]), 1) if a != b]
        yield (
            f"code cell {changed[0]} of {book} changed"
            if len(cells) == len(old["cells"])
            else f"{book} has {len(cells)} code cells, it had {len(old['cells'])}"
        )
    yield from changes("parameter", params.kept(values), old["params"])
    yield from changes(
        "setting",
        {n: now.settings[n] for n in old["settings"] if n in now.settings},
        old["settings"],
    )
    yield from files(now, stage, inputs, old)
    yield from (
        f"`{name}` changed"
        for name, content in old["inputs"].items()
        if inputs.get(name, GONE) not in (content, None)
    )
    for name, version in old["packages"].items():
        if (here := now.versions.get(name)) != version:
            yield f"{name} {version} → {here or 'not installed'}"
    for name in dict.fromkeys([*old["env"], *now.project.config.stages[stage].env]):
        if secret_hash(name) != old["env"].get(name, ""):
            yield f"environment variable {name} {'changed' if name in old['env'] else 'is declared newly'}"
    yield from (f"{name} can be imported now" for name in old.get("absent", ()) if there(now, name))
    if old["python"] != PYTHON:
        yield f"Python {old['python']} → {PYTHON}"
    for what in old["unknowable"]:
        yield f"its source is {what}: only reading it tells whether it changed"


def there(now: Now, module: str) -> bool:
    """Whether a module that was looked for in vain is to be found by now; a part of an installed package comes with its version."""
    own = any(
        now.project.path(module.replace(".", os.sep) + end).exists()
        for end in ("/__init__.py", ".py")
    )
    return own or "." not in module and importlib.util.find_spec(module) is not None


def renewed(now: Now, stage: str, old: Trace) -> Trace:
    """A trace as if the stage had run now and used the same: for an edit that somebody says does not matter. Parameters and inputs stay."""
    listings = {p: [now.name(f) for f in trace.listed(str(now.path(p)))] for p in old["listings"]}
    return {
        **old,
        "cells": now.cells(stage),
        "settings": {n: now.settings[n] for n in old["settings"] if n in now.settings},
        "files": {
            f: now.hash(f)
            for f in dict.fromkeys(
                [
                    *old["files"],
                    *declared(now, stage, old),
                    *(f for names in listings.values() for f in names),
                ]
            )
        },
        "listings": listings,
        "modules": {m: {**about, "hash": now.hash(m)} for m, about in old["modules"].items()},
        "packages": {p: now.versions[p] for p in old["packages"] if p in now.versions},
        "env": {n: secret_hash(n) for n in now.project.config.stages[stage].env},
        "python": PYTHON,
        "absent": [m for m in old.get("absent", ()) if not there(now, m)],
    }


def changes(what: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[str]:
    """Named values that differ."""
    for name in [*old, *(n for n in new if n not in old)]:
        if name not in new or name not in old or new[name] != old[name]:
            yield f"{what} {name}: {old.get(name, 'not given')} → {new.get(name, 'not given')}"


def files(now: Now, stage: str, inputs: Mapping[str, str | None], old: Trace) -> Iterator[str]:
    """Files and modules that differ; not those that another stage is still to write."""
    for name in dict.fromkeys([*old["files"], *declared(now, stage, old)]):
        before, here = old["files"].get(name), now.hash(name)
        if before != here and inputs.get(name, "") is not None:
            yield f"`{name}` {became(before, here)}"
    for place, names in old["listings"].items():
        if [now.name(f) for f in trace.listed(str(now.path(place)))] != names:
            yield f"`{place}` holds other files than before"
    for name, module in old["modules"].items():
        if now.hash(name) != module["hash"]:
            yield f"`{name}` {became(module['hash'], now.hash(name))}: imported by {via(name, old['modules']) or now.project.notebook(stage).stem}"


def declared(now: Now, stage: str, old: Trace) -> list[str]:
    """The files that a stage declares, without folders and patterns whose files a trace has."""
    names = [
        now.name(os.path.abspath(now.project.path(f)))
        for f in now.project.config.stages[stage].files
    ]
    return [n for n in names if n not in old["listings"]]


def became(before: str | None, here: str) -> str:
    """What became of a file."""
    return (
        EDITED
        if before == EDITED
        else "is declared newly"
        if before is None
        else "is gone"
        if here == GONE
        else "is there now"
        if before == GONE
        else "changed"
    )


def via(name: str, modules: Mapping[str, Any]) -> str:
    """The module through which another came in; empty where the notebook itself imports it."""
    by = Path(modules[name]["by"])
    return (
        ""
        if modules[name]["by"] not in modules
        else by.parent.name
        if by.stem == "__init__"
        else by.stem
    )


def broken(
    folder: Path, artifacts: Mapping[str, Any], hashes: Hashes, writes: Iterable[str] = ()
) -> Iterator[str]:
    """Outputs of a stage that are not what it wrote, or that it never wrote."""
    for name, entry in artifacts.items():
        found = hashes.of(folder / entry["path"])
        if found != entry["sha256"]:
            yield f"output `{name}` is {'gone' if found == GONE else 'damaged'}"
    yield from (
        f"output `{name}` is declared and was not written"
        for name in writes
        if name not in artifacts
    )


def displaced(project: Project, artifacts: Mapping[str, Any], hashes: Hashes) -> list[str]:
    """Outputs that stand in the project itself, and are not there as the stage wrote them."""
    return [
        n
        for n, a in artifacts.items()
        if a["kind"] == "file" and hashes.of(project.path(n)) != a["sha256"]
    ]


def used(old: Mapping[str, Any]) -> dict[str, str]:
    """The files and modules of a trace, with the hash of each."""
    return {
        **old.get("files", {}),
        **{m: about["hash"] for m, about in old.get("modules", {}).items()},
    }


def whole(found: Trace) -> str:
    """One hash of all parts, to be shown."""
    return store.text_hash(found)


def origins(now: Now) -> dict[str, str]:
    """The code and the contract that a run was made with, a hash each, for the comparison of two versions."""
    project, hashes = now.project, now.hashes
    package = {
        str(p.relative_to(PACKAGE)): hashes.of(p)
        for p in sorted(PACKAGE.rglob("*"))
        if p.is_file() and p.suffix != ".pyc"
    }
    return {
        "mlops_kit": store.text_hash(package),
        "features": store.text_hash(
            {f: hashes.of(project.path(f)) for f in project.config.features}
        ),
        "contract": hashes.of(project.path(project.config.contract.file)),
    }
