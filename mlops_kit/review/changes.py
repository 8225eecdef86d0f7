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

from mlops_kit import stage as stages
from mlops_kit import store
from mlops_kit.config import Config
from mlops_kit.late import pd
from mlops_kit.results import Table, number

SAME = "unchanged"
LIMITS = ("review", "cost", "contract")
MOMENTS = {"as_of", "until", "stages"}  # told by rows and code
FILES = {
    "features": "the project's features",
    "contract": "the data contract",
    "mlops_kit": "mlops-kit itself",
}


@dataclass(frozen=True)
class Made:
    """What a version was made from, and how; what is not known is None or empty."""

    rows: int | None = None
    newest: str = ""
    columns: tuple[str, ...] = ()
    family: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    threshold: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    cells: Mapping[str, list[str]] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)


def changes(
    stage: stages.Stage,
    champion: Mapping[str, Any] | None,
    recipe: Mapping[str, Any],
    table: pd.DataFrame,
) -> Table:
    """What changed since the version that serves.

    Parameters
    ----------
    champion : mapping or None
        What the registry holds of it (``tracking.champion``).
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
    run = stage.project.reports / str(champion["run"])
    there = (run / "manifest.json").exists()
    before = (
        then(stage, run)
        if there
        else Made(
            columns=tuple(json.loads(champion["features"])),
            threshold=json.loads(champion["threshold"]),
        )
    )
    found = lines(now(stage, recipe, table, before), before)
    return Table(
        f"What changed since version {champion['version']}",
        sentence(champion, found, there),
        pd.DataFrame(found, columns=["what", "said"]),
    )


def now(stage: stages.Stage, recipe: Mapping[str, Any], table: pd.DataFrame, before: Made) -> Made:
    """The version that this run makes; notebooks that it has not run yet are taken as they stand."""
    books = {
        s: stage.run / "notebooks" / stage.project.notebook(s).name for s in stage.config.stages
    }
    cells = {b.stem: code(b if b.exists() else stage.project.notebook(s)) for s, b in books.items()}
    return Made(
        **described(recipe, table, stage.config),
        cells=cells,
        parts=parts(stage.run),
        packages={n: installed(n) for n in before.packages},
    )


def then(stage: stages.Stage, run: Path) -> Made:
    """The version that another run made, from what it left; what is gone or damaged is not known."""
    known, config = stages.artifacts(run), stages.recorded(stage.project, run).config
    kept = {
        n: store.read_artifact(run, known[n])
        for n in ("recipe", "features")
        if n in known and store.intact(run, [known[n]])
    }
    cells = {b.stem: code(b) for b in sorted((run / "notebooks").glob("*.ipynb"))}
    return Made(
        **described(kept.get("recipe", {}), kept.get("features"), config),
        cells=cells,
        parts=parts(run),
        packages=store.read_json(run / "manifest.json")["packages"],
    )


def described(
    recipe: Mapping[str, Any], table: pd.DataFrame | None, config: Config
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
        "settings": flat(
            {k: v for k, v in config.model_dump(mode="json").items() if k not in MOMENTS}
        ),
    }


def parts(run: Path) -> dict[str, str]:
    """The hashes of the code and the contract that a run's review hung on; a draft has none."""
    file = run / "manifest.json"
    found = (
        store.read_json(file)["stages"].get("review", {}).get("parts", {}) if file.exists() else {}
    )
    return {k: found[k] for k in FILES if k in found}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= (
            flat(value, f"{prefix}{key}.")
            if isinstance(value, dict) and value
            else {f"{prefix}{key}": value}
        )
    return found


def code(book: Path) -> list[str]:
    """The code cells of a notebook, without the parameters that the pipeline put in."""
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"] if book.exists() else []
    return [
        "".join(c["source"]).strip()
        for c in cells
        if c["cell_type"] == "code" and "injected-parameters" not in c["metadata"].get("tags", [])
    ]


def installed(name: str) -> str:
    """The version of a package in this kernel."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def lines(new: Made, old: Made) -> list[tuple[str, str]]:
    """What changed, line by line; what is not known of the champion has no line."""
    moved = [
        name
        for part, name in FILES.items()
        if part in new.parts and new.parts[part] != old.parts.get(part, new.parts[part])
    ]
    contract, files = (
        [m for m in moved if m == FILES["contract"]],
        [m for m in moved if m != FILES["contract"]],
    )
    told = [
        ("rows", rows(new, old) if old.rows is not None else ""),
        ("columns", columns(new.columns, old.columns)),
        ("model", pair(new.family, old.family) if old.family else ""),
        (
            "parameters",
            said(differences(new.params, old.params if old.family == new.family else {}))
            if old.family
            else "",
        ),
        (
            "threshold",
            pair(value(new.threshold), value(old.threshold)) if old.threshold is not None else "",
        ),
        (
            "limits",
            said([*differences(chosen(new, True), chosen(old, True)), *contract])
            if old.settings
            else "",
        ),
        (
            "settings",
            said(differences(chosen(new, False), chosen(old, False))) if old.settings else "",
        ),
        ("code", said([*cells(new.cells, old.cells), *files]) if old.cells else ""),
        ("packages", said(differences(new.packages, old.packages)) if old.packages else ""),
    ]
    return [(what, text) for what, text in told if text]


def said(found: Iterable[str]) -> str:
    """The changes in one line."""
    return "; ".join(found) or SAME


def value(given: Any) -> str:
    """A setting or a parameter as a reader sees it."""
    if isinstance(given, list):
        return ", ".join(map(value, given)) or "none"
    return "none" if given in (None, "") else number(given)


def pair(new: str, old: str) -> str:
    """What it is, and what it was."""
    return SAME if new == old else f"{new}, was {old}"


def differences(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Each name whose value is not what it was."""
    kept = [
        f"{k} {pair(value(v), value(old[k])) if k in old else value(v)}"
        for k, v in new.items()
        if k not in old or v != old[k]
    ]
    return [*kept, *(f"{k} is gone, was {value(v)}" for k, v in old.items() if k not in new)]


def rows(new: Made, old: Made) -> str:
    """How many rows came or went, and up to which day they reach."""
    more = (new.rows or 0) - (old.rows or 0)
    period = f"; the newest of {pair(new.newest, old.newest)}" if new.newest != old.newest else ""
    return (
        f"{'−' if more < 0 else '+'} {abs(more):,}, {new.rows or 0:,} in all{period}"
        if more or period
        else SAME
    )


def columns(new: Iterable[str], old: Iterable[str]) -> str:
    """Columns gained and lost, by name."""
    gained, lost = [c for c in new if c not in set(old)], [c for c in old if c not in set(new)]
    return said(
        f"{sign} {len(names)}: {', '.join(names)}"
        for sign, names in (("+", gained), ("−", lost))
        if names
    )


def chosen(made: Made, limits: bool) -> dict[str, Any]:
    """The settings that are limits of the review, the costs and the contract; or the others."""
    return {k: v for k, v in made.settings.items() if (k.split(".")[0] in LIMITS) == limits}


def cells(new: Mapping[str, list[str]], old: Mapping[str, list[str]]) -> list[str]:
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


def sentence(champion: Mapping[str, Any], found: list[tuple[str, str]], there: bool) -> str:
    """Which version it is, and what of it changed and what did not."""
    name, run = f"version {champion['version']}", champion["run"]
    if not there:
        return f"The run {run} that made {name} is gone from the reports, so only what the registry holds of it can be compared."
    new, same = [w for w, t in found if t != SAME], [w for w, t in found if t == SAME]
    told = (
        f"changed: {', '.join(new)}; as before: {', '.join(same)}"
        if new and same
        else "everything changed"
        if new
        else "nothing changed"
    )
    return f"Since {name} (run {run}): {told}."
