"""Compare what a stage used in an earlier run with the present, part by part.

The parts are what the stage really used (``mlops_kit.core.dependencies``), not what its text
suggests: code cells in order (no markdown, outputs, ids), parameters, the settings it read, the
content of the artifacts it read from earlier stages, the files it read, the project's own modules
it imported however deep, the versions of the packages it reached, the environment variables it
declares, Python's minor version. As long as all of them are unchanged, the stage would do the same
again.

To add a part: a field of ``StageDependencies``, a line in ``collect_dependencies``, a generator
here and its call in ``find_differences``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mlops_kit.core.dependencies import list_matching_files
from mlops_kit.core.files import hash_json
from mlops_kit.pipeline.current_project import (
    PACKAGE_FOLDER,
    PYTHON_VERSION,
    CurrentProject,
    hash_environment_variable,
    list_working_folder,
)
from mlops_kit.pipeline.file_hashes import MISSING_FILE, FileHashes, InputHashes
from mlops_kit.pipeline.param_types import StageValues, encode_value
from mlops_kit.pipeline.stage_dependencies import (
    EDITED_DURING_RUN,
    is_module_available,
    list_current_names,
    list_declared_files,
    path_exists,
)
from mlops_kit.pipeline.stage_notes import describe_untraced_use, is_untraced_use_accepted
from mlops_kit.project.artifacts import Artifact
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import ModuleDependency, StageDependencies

_ABSENT_VALUE = "not given"


def find_differences(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    inputs: InputHashes,
    recorded: StageDependencies,
) -> Iterator[str]:
    """Yield what has changed since a stage was executed, one sentence each.

    Parameters
    ----------
    values : mapping
        The parameter values that the stage would be given.
    inputs : mapping
        Content hash of each artifact of the other stages; None for one that has yet to be produced.
    """
    settings = {
        name: current.settings[name] for name in recorded.settings if name in current.settings
    } | list_working_folder(current, stage)
    yield from _compare_cells(current, stage, recorded)
    yield from _compare_values("parameter", encode_value(dict(values)), recorded.params)
    yield from _compare_values("setting", settings, recorded.settings)
    yield from _compare_files(current, stage, inputs, recorded)
    yield from _compare_modules(current, stage, recorded)
    yield from _compare_inputs(inputs, recorded)
    yield from _compare_environment(current, stage, recorded)
    for source in recorded.unknowable:
        yield f"its source is {source}: only reading it tells whether it changed"
    config = current.project.config.stages[stage]
    if recorded.untraced and not is_untraced_use_accepted(config):
        yield describe_untraced_use(recorded)


def _compare_cells(
    current: CurrentProject,
    stage: str,
    recorded: StageDependencies,
) -> Iterator[str]:
    """Yield whether the code of the notebook changed, with the first cell."""
    notebook = current.project.get_notebook_path(stage).stem
    cells = current.hash_cells(stage)
    if len(cells) != len(recorded.cells):
        yield f"{notebook} has {len(cells)} code cells, it had {len(recorded.cells)}"
        return
    for number, (cell, recorded_cell) in enumerate(zip_longest(cells, recorded.cells), 1):
        if cell != recorded_cell:
            yield f"code cell {number} of {notebook} changed"
            return


def _compare_values(
    kind: str,
    values: StageValues,
    recorded_values: Mapping[str, Any],
) -> Iterator[str]:
    """Yield the named values that changed."""
    for name in dict.fromkeys([*recorded_values, *values]):
        is_in_both = name in values and name in recorded_values
        if not is_in_both or values[name] != recorded_values[name]:
            recorded_value = _format_value(name, recorded_values)
            yield f"{kind} {name}: {recorded_value} → {_format_value(name, values)}"


def _format_value(name: str, values: Mapping[str, Any]) -> str:
    """Format a named value; an empty text has quotes, so that it can be seen."""
    value = values.get(name, _ABSENT_VALUE)
    return "''" if value == "" else str(value)


def _compare_files(
    current: CurrentProject,
    stage: str,
    inputs: InputHashes,
    recorded: StageDependencies,
) -> Iterator[str]:
    """Yield files and listings that changed; not files that another stage has yet to write."""
    declared = list_declared_files(current, stage, recorded)
    for name in dict.fromkeys([*recorded.files, *declared]):
        is_pending = inputs.get(name, "") is None
        recorded_hash = recorded.files.get(name)
        file_hash = current.hash_file(name)
        if recorded_hash != file_hash and not is_pending:
            yield f"`{name}` {_describe_file_change(recorded_hash, file_hash)}"
    for name, recorded_files in recorded.listings.items():
        paths = list_matching_files(str(current.resolve_path(name)))
        if [current.format_path_name(path) for path in paths] != recorded_files:
            yield f"`{name}` holds other files than before"
    yield from _compare_searches(current, inputs, recorded)


def _compare_searches(
    current: CurrentProject,
    inputs: InputHashes,
    recorded: StageDependencies,
) -> Iterator[str]:
    """Yield what was listed or looked for and is different now."""
    for search, recorded_names in recorded.searches.items():
        names = set(list_current_names(current, search))
        pending = {name for name in names if inputs.get(name, "") is None}
        added = sorted(names - set(recorded_names) - pending)
        removed = sorted(set(recorded_names) - names)
        if added:
            yield f"`{search}` has `{added[0]}` now"
        elif removed:
            yield f"`{search}` does not have `{removed[0]}` any more"
    for name in recorded.missing:
        if path_exists(current, name):
            yield f"`{name}` exists now"
    for name in recorded.existing:
        if name not in recorded.files and not path_exists(current, name):
            yield f"`{name}` is gone"


def _compare_modules(
    current: CurrentProject,
    stage: str,
    recorded: StageDependencies,
) -> Iterator[str]:
    """Yield the project's own modules that changed, with what imported them."""
    notebook = current.project.get_notebook_path(stage).stem
    for name, module in recorded.modules.items():
        module_hash = current.hash_file(name)
        if module_hash != module.hash:
            change = _describe_file_change(module.hash, module_hash)
            importer = _find_importer(name, recorded.modules) or notebook
            yield f"`{name}` {change}: imported by {importer}"


def _compare_inputs(inputs: InputHashes, recorded: StageDependencies) -> Iterator[str]:
    """Yield the artifacts of earlier stages that changed; not those yet to be produced."""
    for name, content_hash in recorded.inputs.items():
        if inputs.get(name, MISSING_FILE) not in (content_hash, None):
            yield f"`{name}` changed"


def _compare_environment(
    current: CurrentProject,
    stage: str,
    recorded: StageDependencies,
) -> Iterator[str]:
    """Yield packages, environment variables and the Python version that changed."""
    for name, version in recorded.packages.items():
        installed = current.package_versions.get(name)
        if installed != version:
            yield f"{name} {version} → {installed or 'not installed'}"
    declared_variables = current.project.config.stages[stage].env
    for name in dict.fromkeys([*recorded.env, *declared_variables]):
        if name not in recorded.env:
            yield f"environment variable {name} is newly declared"
        elif hash_environment_variable(name) != recorded.env[name]:
            yield f"environment variable {name} changed"
    for name in recorded.absent:
        if is_module_available(current, name):
            yield f"{name} can be imported now"
    if recorded.python != PYTHON_VERSION:
        yield f"Python {recorded.python} → {PYTHON_VERSION}"


def _describe_file_change(recorded_hash: str | None, file_hash: str) -> str:
    """Return what happened to a file, as the end of a sentence."""
    if recorded_hash == EDITED_DURING_RUN:
        return EDITED_DURING_RUN
    if recorded_hash is None:
        return "is newly declared"
    if file_hash == MISSING_FILE:
        return "is gone"
    if recorded_hash == MISSING_FILE:
        return "exists now"
    return "changed"


def _find_importer(name: str, modules: Mapping[str, ModuleDependency]) -> str:
    """Return the module that imported another one; empty if the notebook itself did."""
    importer = modules[name].imported_by
    if importer not in modules:
        return ""
    path = Path(importer)
    module = path.parent if path.stem == "__init__" else path.with_suffix("")
    return module.name if module.is_absolute() else ".".join(module.parts)


def find_damaged_outputs(
    folder: Path,
    artifacts: Mapping[str, Artifact],
    hashes: FileHashes,
    declared: Iterable[str] = (),
) -> Iterator[str]:
    """Yield the outputs of a stage that are missing, damaged or were never written.

    Parameters
    ----------
    folder : Path
        The run that has the artifacts.
    declared : iterable of str
        Names of the outputs that the stage should have written.
    """
    for name, artifact in artifacts.items():
        file_hash = hashes.hash_path(folder / artifact.path)
        if file_hash == artifact.sha256:
            continue
        yield f"output `{name}` is {'gone' if file_hash == MISSING_FILE else 'damaged'}"
    for name in declared:
        if name not in artifacts:
            yield f"output `{name}` is declared and was not written"


def find_displaced_outputs(
    project: Project,
    artifacts: Mapping[str, Artifact],
    hashes: FileHashes,
) -> list[str]:
    """Return the outputs that belong into the project itself and are not there as written."""
    return [
        name
        for name, artifact in artifacts.items()
        if artifact.kind == "file"
        and hashes.hash_path(project.resolve_path(name)) != artifact.sha256
    ]


def get_file_hashes(dependencies: StageDependencies) -> dict[str, str]:
    """Return the hashes of the files and modules that a stage used, by name."""
    module_hashes = {name: module.hash for name, module in dependencies.modules.items()}
    return {**dependencies.files, **module_hashes}


def compute_fingerprint(dependencies: StageDependencies) -> str:
    """Return one hash of everything that a stage used."""
    return hash_json(dependencies.model_dump())


def hash_code_origins(current: CurrentProject) -> dict[str, str]:
    """Return hashes of the package, the feature files and the contract.

    They are stored with each stage, for the comparison of two model versions.
    """
    project, hashes = current.project, current.hashes
    package_files = {}
    for path in sorted(PACKAGE_FOLDER.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            package_files[str(path.relative_to(PACKAGE_FOLDER))] = hashes.hash_path(path)
    feature_files = {
        name: hashes.hash_path(project.resolve_path(name)) for name in project.config.features
    }
    return {
        "mlops_kit": hash_json(package_files),
        "features": hash_json(feature_files),
        "contract": hashes.hash_path(project.resolve_path(project.config.contract.file)),
    }
