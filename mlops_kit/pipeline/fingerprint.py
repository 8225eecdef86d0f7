"""What a stage's result depends on, part by part, so that a difference can be named.

The parts are what the stage really used (``mlops_kit.core.dependencies``), not what its text suggests: code cells
in order (no markdown, outputs, ids), parameters, the settings it read, the content of what it read from
the stages before, the files it read, the project's own modules it imported however deep, the packages it
reached with their versions, the environment variables it declares, Python's minor version. As long as
all of them are what they were, the stage would do the same again.

To add a part: a line in ``of``, and one in ``differences``. To add a format that libraries read past Python's
eyes: its suffix in ``NATIVE``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mlops_kit.core import dependencies
from mlops_kit.core.files import hash_json
from mlops_kit.pipeline import param_types
from mlops_kit.pipeline.current_project import (
    PACKAGE_FOLDER,
    PYTHON_VERSION,
    CurrentProject,
    hash_environment_variable,
)
from mlops_kit.pipeline.file_hashes import MISSING_FILE, FileHashes
from mlops_kit.pipeline.stage_dependencies import (
    EDITED_DURING_RUN,
    is_module_available,
    list_declared_files,
)
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import StageDependencies


def find_differences(
    now: CurrentProject,
    stage: str,
    values: Mapping[str, Any],
    inputs: Mapping[str, str | None],
    old: StageDependencies,
) -> Iterator[str]:
    """Why a stage is not what a trace says, a sentence each; none if it is.

    Parameters
    ----------
    inputs : dict
        Content of each artifact there is to read; None for one that is not made yet.
    """
    book = now.project.get_notebook_path(stage).stem
    cells = now.hash_cells(stage)
    if cells != old["cells"]:
        changed = [n for n, (a, b) in enumerate(zip_longest(cells, old["cells"]), 1) if a != b]
        yield (
            f"code cell {changed[0]} of {book} changed"
            if len(cells) == len(old["cells"])
            else f"{book} has {len(cells)} code cells, it had {len(old['cells'])}"
        )
    yield from _compare_values("parameter", param_types.encode_value(values), old["params"])
    yield from _compare_values(
        "setting",
        {n: now.settings[n] for n in old["settings"] if n in now.settings},
        old["settings"],
    )
    yield from _compare_files(now, stage, inputs, old)
    yield from (
        f"`{name}` changed"
        for name, content in old["inputs"].items()
        if inputs.get(name, MISSING_FILE) not in (content, None)
    )
    for name, version in old["packages"].items():
        if (here := now.package_versions.get(name)) != version:
            yield f"{name} {version} → {here or 'not installed'}"
    for name in dict.fromkeys([*old["env"], *now.project.config.stages[stage].env]):
        if hash_environment_variable(name) != old["env"].get(name, ""):
            yield f"environment variable {name} {'changed' if name in old['env'] else 'is declared newly'}"
    yield from (
        f"{name} can be imported now"
        for name in old.get("absent", ())
        if is_module_available(now, name)
    )
    if old["python"] != PYTHON_VERSION:
        yield f"Python {old['python']} → {PYTHON_VERSION}"
    for what in old["unknowable"]:
        yield f"its source is {what}: only reading it tells whether it changed"


def _compare_values(what: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[str]:
    """Named values that differ."""
    for name in [*old, *(n for n in new if n not in old)]:
        if name not in new or name not in old or new[name] != old[name]:
            yield f"{what} {name}: {old.get(name, 'not given')} → {new.get(name, 'not given')}"


def _compare_files(
    now: CurrentProject, stage: str, inputs: Mapping[str, str | None], old: StageDependencies
) -> Iterator[str]:
    """Files and modules that differ; not those that another stage is still to write."""
    for name in dict.fromkeys([*old["files"], *list_declared_files(now, stage, old)]):
        before, here = old["files"].get(name), now.hash_file(name)
        if before != here and inputs.get(name, "") is not None:
            yield f"`{name}` {_describe_file_change(before, here)}"
    for place, names in old["listings"].items():
        if [
            now.format_path_name(f)
            for f in dependencies.list_matching_files(str(now.resolve_path(place)))
        ] != names:
            yield f"`{place}` holds other files than before"
    for name, module in old["modules"].items():
        if now.hash_file(name) != module["hash"]:
            yield f"`{name}` {_describe_file_change(module['hash'], now.hash_file(name))}: imported by {_find_importer(name, old['modules']) or now.project.get_notebook_path(stage).stem}"


def _describe_file_change(before: str | None, here: str) -> str:
    """What became of a file."""
    return (
        EDITED_DURING_RUN
        if before == EDITED_DURING_RUN
        else "is declared newly"
        if before is None
        else "is gone"
        if here == MISSING_FILE
        else "is there now"
        if before == MISSING_FILE
        else "changed"
    )


def _find_importer(name: str, modules: Mapping[str, Any]) -> str:
    """The module through which another came in; empty where the notebook itself imports it."""
    by = Path(modules[name]["by"])
    return (
        ""
        if modules[name]["by"] not in modules
        else by.parent.name
        if by.stem == "__init__"
        else by.stem
    )


def find_damaged_outputs(
    folder: Path, artifacts: Mapping[str, Any], hashes: FileHashes, writes: Iterable[str] = ()
) -> Iterator[str]:
    """Outputs of a stage that are not what it wrote, or that it never wrote."""
    for name, entry in artifacts.items():
        found = hashes.hash_path(folder / entry["path"])
        if found != entry["sha256"]:
            yield f"output `{name}` is {'gone' if found == MISSING_FILE else 'damaged'}"
    yield from (
        f"output `{name}` is declared and was not written"
        for name in writes
        if name not in artifacts
    )


def find_displaced_outputs(
    project: Project, artifacts: Mapping[str, Any], hashes: FileHashes
) -> list[str]:
    """Outputs that stand in the project itself, and are not there as the stage wrote them."""
    return [
        n
        for n, a in artifacts.items()
        if a["kind"] == "file" and hashes.hash_path(project.resolve_path(n)) != a["sha256"]
    ]


def get_file_hashes(old: Mapping[str, Any]) -> dict[str, str]:
    """The files and modules of a trace, with the hash of each."""
    return {
        **old.get("files", {}),
        **{m: about["hash"] for m, about in old.get("modules", {}).items()},
    }


def compute_fingerprint(found: StageDependencies) -> str:
    """One hash of all parts, to be shown."""
    return hash_json(found)


def hash_code_origins(now: CurrentProject) -> dict[str, str]:
    """The code and the contract that a run was made with, a hash each, for the comparison of two versions."""
    project, hashes = now.project, now.hashes
    package = {
        str(p.relative_to(PACKAGE_FOLDER)): hashes.hash_path(p)
        for p in sorted(PACKAGE_FOLDER.rglob("*"))
        if p.is_file() and p.suffix != ".pyc"
    }
    return {
        "mlops_kit": hash_json(package),
        "features": hash_json(
            {f: hashes.hash_path(project.resolve_path(f)) for f in project.config.features}
        ),
        "contract": hashes.hash_path(project.resolve_path(project.config.contract.file)),
    }
