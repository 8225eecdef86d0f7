"""What changed since the champion: rows, columns, model, limits, code, packages.

Both are described alike (``Made``), the champion from what its run left in ``reports/``; the
comparison is pure and the same for both.

To add a line: 1. a field of ``Made``, filled in ``now`` and ``then``, 2. a line in ``lines``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.project import artifacts, run_folder, run_manifest
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.stage import Stage

UNCHANGED = "unchanged"
_LIMIT_SECTIONS = ("review", "cost", "contract")
_IGNORED_SETTINGS = {"as_of", "until", "stages"}  # told by rows and code
_CODE_PART_TITLES = {
    "features": "the project's features",
    "contract": "the data contract",
    "mlops_kit": "mlops-kit itself",
}


@dataclass(frozen=True)
class VersionDescription:
    """What a version was made from, and how; what is not known is None or empty."""

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


def describe_changes(
    stage: Stage,
    champion: ModelVersion | None,
    recipe: Mapping[str, Any],
    table: pd.DataFrame,
) -> Table:
    """What changed since the version that serves.

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
        what, said: a row each for rows, columns, model, parameters, threshold, limits, settings, code and packages.
    """
    if champion is None:
        return Table(
            "What changed?",
            "There is no champion yet: this is the first version.",
            pd.DataFrame(columns=["what", "said"]),
        )
    run = stage.project.reports_folder / champion.run
    there = (run / "manifest.json").exists()
    before = (
        _describe_champion(stage, run)
        if there
        else VersionDescription(
            feature_names=champion.features,
            threshold=champion.threshold,
        )
    )
    found = list_changes(_describe_challenger(stage, recipe, table, before), before)
    return Table(
        f"What changed since version {champion.version}",
        _summarize_changes(champion, found, there),
        pd.DataFrame(found, columns=["what", "said"]),
    )


def _describe_challenger(
    stage: Stage, recipe: Mapping[str, Any], table: pd.DataFrame, before: VersionDescription
) -> VersionDescription:
    """The version that this run makes; notebooks that it has not run yet are taken as they stand."""
    books = {
        s: stage.run_folder / "notebooks" / stage.project.get_notebook_path(s).name
        for s in stage.config.stages
    }
    cells = {
        b.stem: read_code_cells(b if b.exists() else stage.project.get_notebook_path(s))
        for s, b in books.items()
    }
    return VersionDescription(
        **_describe_recipe_and_table(recipe, table, stage.config),
        cells_by_notebook=cells,
        part_hashes=_read_part_hashes(stage.run_folder),
        package_versions={n: _get_installed_version(n) for n in before.package_versions},
    )


def _describe_champion(stage: Stage, run: Path) -> VersionDescription:
    """The version that another run made, from what it left; what is gone or damaged is not known."""
    known, config = (
        run_folder.list_artifacts(run),
        run_folder.load_recorded_project(stage.project, run).config,
    )
    kept = {
        n: artifacts.read_artifact(run, known[n])
        for n in ("recipe", "features")
        if n in known and artifacts.are_artifacts_intact(run, [known[n]])
    }
    cells = {b.stem: read_code_cells(b) for b in sorted((run / "notebooks").glob("*.ipynb"))}
    return VersionDescription(
        **_describe_recipe_and_table(kept.get("recipe", {}), kept.get("features"), config),
        cells_by_notebook=cells,
        part_hashes=_read_part_hashes(run),
        package_versions=run_manifest.read_stored_manifest(run).packages,
    )


def _describe_recipe_and_table(
    recipe: Mapping[str, Any], table: pd.DataFrame | None, config: ProjectConfig
) -> dict[str, Any]:
    """What a run's recipe, feature table and config say."""
    told: dict[str, Any] = {
        "columns": tuple(recipe.get("features", ())),
        "family": str(recipe.get("family", "")),
        "params": recipe.get("params", {}),
        "threshold": recipe.get("threshold"),
    }
    if table is not None:
        newest = table[config.time].max() if config.time is not None and len(table) else None
        told |= {
            "rows": len(table),
            "newest": f"{newest.tz_convert(config.timezone):%Y-%m-%d}"
            if newest is not None
            else "",
        }
    return {
        **told,
        "settings": _flatten_settings(
            {k: v for k, v in config.model_dump(mode="json").items() if k not in _IGNORED_SETTINGS}
        ),
    }


def _read_part_hashes(run: Path) -> dict[str, str]:
    """The hashes of the code and the contract that a run's review hung on; a draft has none."""
    if not (run / run_manifest.MANIFEST_FILE).exists():
        return {}
    found = run_manifest.read_stored_manifest(run).get_stage("review").code_origins
    return {k: found[k] for k in _CODE_PART_TITLES if k in found}


def _flatten_settings(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= (
            _flatten_settings(value, f"{prefix}{key}.")
            if isinstance(value, dict) and value
            else {f"{prefix}{key}": value}
        )
    return found


def read_code_cells(book: Path) -> list[str]:
    """The code cells of a notebook, without the parameters that the pipeline put in."""
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"] if book.exists() else []
    return [
        "".join(c["source"]).strip()
        for c in cells
        if c["cell_type"] == "code" and "injected-parameters" not in c["metadata"].get("tags", [])
    ]


def _get_installed_version(name: str) -> str:
    """The version of a package in this kernel."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def list_changes(new: VersionDescription, old: VersionDescription) -> list[tuple[str, str]]:
    """What changed, line by line; what is not known of the champion has no line."""
    moved = [
        name
        for part, name in _CODE_PART_TITLES.items()
        if part in new.part_hashes
        and new.part_hashes[part] != old.part_hashes.get(part, new.part_hashes[part])
    ]
    contract, files = (
        [m for m in moved if m == _CODE_PART_TITLES["contract"]],
        [m for m in moved if m != _CODE_PART_TITLES["contract"]],
    )
    told = [
        ("rows", _describe_row_change(new, old) if old.row_count is not None else ""),
        ("columns", _describe_column_change(new.feature_names, old.feature_names)),
        ("model", _format_change(new.family, old.family) if old.family else ""),
        (
            "parameters",
            _join_changes(
                _list_differences(new.params, old.params if old.family == new.family else {})
            )
            if old.family
            else "",
        ),
        (
            "threshold",
            _format_change(_format_setting(new.threshold), _format_setting(old.threshold))
            if old.threshold is not None
            else "",
        ),
        (
            "limits",
            _join_changes(
                [
                    *_list_differences(_select_settings(new, True), _select_settings(old, True)),
                    *contract,
                ]
            )
            if old.settings
            else "",
        ),
        (
            "settings",
            _join_changes(
                _list_differences(_select_settings(new, False), _select_settings(old, False))
            )
            if old.settings
            else "",
        ),
        (
            "code",
            _join_changes(
                [*_count_changed_cells(new.cells_by_notebook, old.cells_by_notebook), *files]
            )
            if old.cells_by_notebook
            else "",
        ),
        (
            "packages",
            _join_changes(_list_differences(new.package_versions, old.package_versions))
            if old.package_versions
            else "",
        ),
    ]
    return [(what, text) for what, text in told if text]


def _join_changes(found: Iterable[str]) -> str:
    """The changes in one line."""
    return "; ".join(found) or UNCHANGED


def _format_setting(given: Any) -> str:
    """A setting or a parameter as a reader sees it."""
    if isinstance(given, list):
        return ", ".join(map(_format_setting, given)) or "none"
    return "none" if given in (None, "") else format_number(given)


def _format_change(new: str, old: str) -> str:
    """What it is, and what it was."""
    return UNCHANGED if new == old else f"{new}, was {old}"


def _list_differences(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Each name whose value is not what it was."""
    kept = [
        f"{k} {_format_change(_format_setting(v), _format_setting(old[k])) if k in old else _format_setting(v)}"
        for k, v in new.items()
        if k not in old or v != old[k]
    ]
    return [
        *kept,
        *(f"{k} is gone, was {_format_setting(v)}" for k, v in old.items() if k not in new),
    ]


def _describe_row_change(new: VersionDescription, old: VersionDescription) -> str:
    """How many rows came or went, and up to which day they reach."""
    more = (new.row_count or 0) - (old.row_count or 0)
    period = (
        f"; the newest of {_format_change(new.newest_day, old.newest_day)}"
        if new.newest_day != old.newest_day
        else ""
    )
    return (
        f"{'−' if more < 0 else '+'} {abs(more):,}, {new.row_count or 0:,} in all{period}"
        if more or period
        else UNCHANGED
    )


def _describe_column_change(new: Iterable[str], old: Iterable[str]) -> str:
    """Columns gained and lost, by name."""
    gained, lost = [c for c in new if c not in set(old)], [c for c in old if c not in set(new)]
    return _join_changes(
        f"{sign} {len(names)}: {', '.join(names)}"
        for sign, names in (("+", gained), ("−", lost))
        if names
    )


def _select_settings(made: VersionDescription, limits: bool) -> dict[str, Any]:
    """The settings that are limits of the review, the costs and the contract; or the others."""
    return {
        k: v for k, v in made.settings.items() if (k.split(".")[0] in _LIMIT_SECTIONS) == limits
    }


def _count_changed_cells(new: Mapping[str, list[str]], old: Mapping[str, list[str]]) -> list[str]:
    """How many code cells of each notebook were changed, added or taken out."""
    counts = {
        n: sum(
            max(b - a, d - c)
            for tag, a, b, c, d in SequenceMatcher(
                None, old[n], new[n], autojunk=False
            ).get_opcodes()
            if tag != "equal"
        )
        for n in new
        if n in old
    }
    return [f"{c} {'cell' if c == 1 else 'cells'} in {n}" for n, c in counts.items() if c]


def _summarize_changes(champion: ModelVersion, found: list[tuple[str, str]], there: bool) -> str:
    """Which version it is, and what of it changed and what did not."""
    name, run = f"version {champion.version}", champion.run
    if not there:
        return f"The run {run} that made {name} is gone from the reports, so only what the registry holds of it can be compared."
    new, same = [w for w, t in found if t != UNCHANGED], [w for w, t in found if t == UNCHANGED]
    told = (
        f"changed: {', '.join(new)}; as before: {', '.join(same)}"
        if new and same
        else "everything changed"
        if new
        else "nothing changed"
    )
    return f"Since {name} (run {run}): {told}."
