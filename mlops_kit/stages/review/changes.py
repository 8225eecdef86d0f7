"""What changed since the champion: rows, columns, model, limits, code, packages.

Both versions are described alike (`VersionDescription`), the champion from what its run left in
the reports folder. The comparison is a pure function of the two descriptions.

To add an aspect:

1. add a field to `VersionDescription` and fill it in `_describe_challenger` and
   `_describe_champion`,
2. add a line to `list_changes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from mlops_kit.core.formatting import format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.project import artifacts, run_folder, run_manifest
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.stage import Stage

UNCHANGED = "unchanged"
_LIMIT_SECTIONS = ("review", "cost", "contract")
_IGNORED_SETTINGS = {"as_of", "until", "stages"}  # the aspects "rows" and "code" cover them
_CODE_PART_TITLES = {
    "features": "the project's features",
    "contract": "the data contract",
    "mlops_kit": "mlops-kit itself",
}


@dataclass(frozen=True)
class VersionDescription:
    """What a version was made from, and how; what is unknown is None or empty.

    Attributes
    ----------
    newest_day : str
        The day of the newest row, in the project's time zone.
    settings : mapping
        The settings of the project by their dotted names.
    cells_by_notebook : mapping
        The source of each code cell, by the name of the notebook.
    part_hashes : mapping
        The hashes of the features, the contract and mlops-kit that the review depended on.
    """

    row_count: int | None = None
    newest_day: str = ""
    feature_names: tuple[str, ...] = ()
    family: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    cells_by_notebook: Mapping[str, list[str]] = field(default_factory=dict)
    part_hashes: Mapping[str, str] = field(default_factory=dict)
    package_versions: Mapping[str, str] = field(default_factory=dict)


class Change(NamedTuple):
    """How one aspect of a version changed, in words."""

    aspect: str
    change: str


def describe_changes(
    stage: Stage,
    champion: ModelVersion | None,
    recipe: Mapping[str, Any],
    table: pd.DataFrame,
) -> Table:
    """Describe what changed since the champion was made.

    Parameters
    ----------
    champion : ModelVersion or None
        The champion as the registry describes it.
    recipe : mapping
        What training handed on in this run.
    table : DataFrame
        The feature table of this run.

    Returns
    -------
    Table
        One row per aspect (rows, columns, model, parameters, threshold, limits, settings, code,
        packages): aspect, change.
    """
    table = to_pandas(table)
    if champion is None:
        return Table(
            "Changes",
            "There was no champion: this is the first version.",
            pd.DataFrame(columns=list(Change._fields)),
        )
    champion_run = stage.project.reports_folder / champion.run
    run_exists = (champion_run / run_manifest.MANIFEST_FILE).exists()
    if run_exists:
        old = _describe_champion(stage, champion_run)
    else:
        old = VersionDescription(
            feature_names=champion.features,
            threshold=champion.threshold,
        )
    changes = list_changes(_describe_challenger(stage, recipe, table, old), old)
    return Table(
        f"Changes since version {champion.version}",
        _summarize_changes(champion, changes, run_exists),
        pd.DataFrame(changes, columns=list(Change._fields)),
    )


def _describe_challenger(
    stage: Stage,
    recipe: Mapping[str, Any],
    table: pd.DataFrame,
    champion: VersionDescription,
) -> VersionDescription:
    """Describe the version that this run makes.

    Notebooks that the run has not executed yet are taken from the project.
    """
    cells_by_notebook = {}
    for stage_name in stage.config.stages:
        notebook = stage.project.get_notebook_path(stage_name)
        executed = stage.run_folder / "notebooks" / notebook.name
        cells_by_notebook[notebook.stem] = read_code_cells(
            executed if executed.exists() else notebook
        )
    return VersionDescription(
        **_describe_recipe_and_table(recipe, table, stage.config),
        cells_by_notebook=cells_by_notebook,
        part_hashes=_read_part_hashes(stage.run_folder),
        package_versions={name: _get_installed_version(name) for name in champion.package_versions},
    )


def _describe_champion(stage: Stage, run: Path) -> VersionDescription:
    """Describe the version that another run made; what is gone or damaged stays unknown."""
    known_artifacts = run_folder.list_artifacts(run)
    config = run_folder.load_recorded_project(stage.project, run).config
    read: dict[str, Any] = {}
    for name in ("recipe", "features"):
        artifact = known_artifacts.get(name)
        if artifact is not None and artifacts.are_artifacts_intact(run, [artifact]):
            read[name] = artifacts.read_artifact(run, artifact)
    cells_by_notebook = {}
    for notebook in sorted((run / "notebooks").glob("*.ipynb")):
        cells_by_notebook[notebook.stem] = read_code_cells(notebook)
    return VersionDescription(
        **_describe_recipe_and_table(read.get("recipe", {}), read.get("features"), config),
        cells_by_notebook=cells_by_notebook,
        part_hashes=_read_part_hashes(run),
        package_versions=run_manifest.read_stored_manifest(run).packages,
    )


def _describe_recipe_and_table(
    recipe: Mapping[str, Any],
    table: pd.DataFrame | None,
    config: ProjectConfig,
) -> dict[str, Any]:
    """Describe what a run's recipe, feature table and settings say, as fields by name."""
    fields: dict[str, Any] = {
        "feature_names": tuple(recipe.get("features", ())),
        "family": str(recipe.get("family", "")),
        "params": recipe.get("params", {}),
        "threshold": recipe.get("threshold"),
    }
    if table is not None:
        fields["row_count"] = len(table)
        if config.time is not None and len(table):
            newest = table[config.time].max().tz_convert(config.timezone)
            fields["newest_day"] = f"{newest:%Y-%m-%d}"
    all_settings = config.model_dump(mode="json")
    fields["settings"] = _flatten_settings(
        {name: value for name, value in all_settings.items() if name not in _IGNORED_SETTINGS}
    )
    return fields


def _read_part_hashes(run: Path) -> dict[str, str]:
    """Read the hashes of code and contract that a run's review depended on; a draft has none."""
    if not (run / run_manifest.MANIFEST_FILE).exists():
        return {}
    all_parts = run_manifest.read_stored_manifest(run).get_stage("review").code_origins
    return {name: all_parts[name] for name in _CODE_PART_TITLES if name in all_parts}


def _flatten_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flatten_settings(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_code_cells(notebook: Path) -> list[str]:
    """Read the code cells of a notebook, without the parameters that the pipeline injected."""
    if not notebook.exists():
        return []
    sources = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        is_injected = "injected-parameters" in cell["metadata"].get("tags", [])
        if cell["cell_type"] == "code" and not is_injected:
            sources.append("".join(cell["source"]).strip())
    return sources


def _get_installed_version(package: str) -> str:
    """Get the version of a package in this kernel."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def list_changes(new: VersionDescription, old: VersionDescription) -> list[Change]:
    """List what changed, aspect by aspect; what is unknown of the old version is left out."""
    changes = []
    if old.row_count is not None:
        changes.append(Change("rows", _describe_row_change(new, old)))
    column_change = _describe_column_change(new.feature_names, old.feature_names)
    changes.append(Change("columns", column_change))
    if old.family:
        old_params = old.params if old.family == new.family else {}
        changes.append(Change("model", _format_change(new.family, old.family)))
        changes.append(
            Change("parameters", _join_changes(_list_differences(new.params, old_params)))
        )
    if old.threshold is not None:
        threshold_change = _format_change(
            _format_setting(new.threshold), _format_setting(old.threshold)
        )
        changes.append(Change("threshold", threshold_change))
    changed_parts = _list_changed_parts(new, old)
    contract_title = _CODE_PART_TITLES["contract"]
    if old.settings:
        limit_changes = _list_differences(_select_limits(new), _select_limits(old))
        if contract_title in changed_parts:
            limit_changes.append(contract_title)
        other_changes = _list_differences(_select_other_settings(new), _select_other_settings(old))
        changes.append(Change("limits", _join_changes(limit_changes)))
        changes.append(Change("settings", _join_changes(other_changes)))
    if old.cells_by_notebook:
        code_changes = _count_changed_cells(new.cells_by_notebook, old.cells_by_notebook)
        code_changes += [title for title in changed_parts if title != contract_title]
        changes.append(Change("code", _join_changes(code_changes)))
    if old.package_versions:
        package_changes = _list_differences(new.package_versions, old.package_versions)
        changes.append(Change("packages", _join_changes(package_changes)))
    return changes


def _list_changed_parts(new: VersionDescription, old: VersionDescription) -> list[str]:
    """List the titles of the code parts whose hash changed; an unknown old hash is no change."""
    titles = []
    for part, title in _CODE_PART_TITLES.items():
        if part not in new.part_hashes or part not in old.part_hashes:
            continue
        if new.part_hashes[part] != old.part_hashes[part]:
            titles.append(title)
    return titles


def _join_changes(changes: Iterable[str]) -> str:
    return "; ".join(changes) or UNCHANGED


def _format_setting(value: Any) -> str:
    """Format a setting or a parameter as text."""
    if isinstance(value, list):
        return ", ".join(map(_format_setting, value)) or "none"
    if value is None or value == "":
        return "none"
    return format_number(value)


def _format_change(new: str, old: str) -> str:
    return UNCHANGED if new == old else f"{new}, was {old}"


def _list_differences(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """List the names whose values differ, then those that are gone."""
    differences = []
    for name, value in new.items():
        if name not in old:
            differences.append(f"{name} {_format_setting(value)}")
        elif value != old[name]:
            change = _format_change(_format_setting(value), _format_setting(old[name]))
            differences.append(f"{name} {change}")
    for name, value in old.items():
        if name not in new:
            differences.append(f"{name} removed, was {_format_setting(value)}")
    return differences


def _describe_row_change(new: VersionDescription, old: VersionDescription) -> str:
    """Describe how many rows were added or removed, and how recent they are."""
    row_count = new.row_count or 0
    added_rows = row_count - (old.row_count or 0)
    same_newest_day = new.newest_day == old.newest_day
    if added_rows == 0 and same_newest_day:
        return UNCHANGED
    sign = "−" if added_rows < 0 else "+"
    text = f"{sign}{abs(added_rows):,}, {row_count:,} in total"
    if same_newest_day:
        return text
    return f"{text}; newest from {_format_change(new.newest_day, old.newest_day)}"


def _describe_column_change(new: Iterable[str], old: Iterable[str]) -> str:
    """Describe which columns were added and removed."""
    old_names = list(old)
    new_names = list(new)
    added = [name for name in new_names if name not in old_names]
    removed = [name for name in old_names if name not in new_names]
    changes = []
    if added:
        changes.append(f"+{len(added)}: {', '.join(added)}")
    if removed:
        changes.append(f"−{len(removed)}: {', '.join(removed)}")
    return _join_changes(changes)


def _is_limit(setting: str) -> bool:
    return setting.split(".")[0] in _LIMIT_SECTIONS


def _select_limits(description: VersionDescription) -> dict[str, Any]:
    """Select the settings that are limits of the review, error costs or contract rules."""
    return {name: value for name, value in description.settings.items() if _is_limit(name)}


def _select_other_settings(description: VersionDescription) -> dict[str, Any]:
    return {name: value for name, value in description.settings.items() if not _is_limit(name)}


def _count_changed_cells(new: Mapping[str, list[str]], old: Mapping[str, list[str]]) -> list[str]:
    """Count the code cells of each notebook that were changed, added or removed."""
    texts = []
    for notebook, new_cells in new.items():
        if notebook not in old:
            continue
        matcher = SequenceMatcher(None, old[notebook], new_cells, autojunk=False)
        changed_cells = 0
        for tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
            if tag != "equal":
                changed_cells += max(old_end - old_start, new_end - new_start)
        if changed_cells:
            noun = "cell" if changed_cells == 1 else "cells"
            texts.append(f"{changed_cells} {noun} in {notebook}")
    return texts


def _summarize_changes(
    champion: ModelVersion,
    changes: list[Change],
    run_exists: bool,
) -> str:
    """Word which aspects changed and which did not."""
    run = champion.run
    version_name = f"version {champion.version}"
    if not run_exists:
        return (
            f"Run {run}, which made {version_name}, is no longer in the reports folder, so only "
            "what the registry holds can be compared."
        )
    changed = [change.aspect for change in changes if change.change != UNCHANGED]
    unchanged = [change.aspect for change in changes if change.change == UNCHANGED]
    if not changed:
        outcome = "nothing changed"
    elif not unchanged:
        outcome = "everything changed"
    else:
        outcome = f"changed: {', '.join(changed)}; unchanged: {', '.join(unchanged)}"
    return f"Since {version_name} (run {run}): {outcome}."
