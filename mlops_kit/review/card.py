"""The model card, as HTML and as Markdown: what the model is for, how good it is, what speaks against it.

Everything is computed but what only people know (``card.yaml``: ``intended_use``, ``limits``,
``owner``); what is missing there is shown as missing. The card holds no clock time, no run and no
version, so that equal inputs give an equal file; it asks nothing of any other host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from html import unescape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mlops_kit.config import Config, Project, duration_text, read_yaml
from mlops_kit.errors import KitError, nearest
from mlops_kit.late import pd
from mlops_kit.metrics import METRICS
from mlops_kit.results import COLOURS, Table, Verdict, Verdicts, cell_html, number, table_html

FILE = "card.yaml"
PEOPLE = {"intended_use": "Intended use", "limits": "Known limits", "owner": "Owner"}


def people(project: Project) -> dict[str, str]:
    """What people have written in the project's ``card.yaml``; empty where they have not.

    Raises
    ------
    KitError
        If the file is not keys and values, or has a key that the card does not know.
    """
    file = project.path(FILE)
    found = (read_yaml(file, f"edit {FILE}") if file.exists() else None) or {}
    if not isinstance(found, dict):
        raise KitError(
            f"{FILE} holds a {type(found).__name__}, not keys", ", ".join(PEOPLE), f"edit {FILE}"
        )
    if other := [key for key in found if key not in PEOPLE]:
        raise KitError(
            f"{FILE}: unknown key {other[0]!r}", nearest(str(other[0]), PEOPLE), f"edit {FILE}"
        )
    return {str(k): str(v).strip() for k, v in found.items() if v is not None}


def facts(project: Project, table: pd.DataFrame) -> dict[str, Any]:
    """What the card tells of the data: rows and period of each part; and what people wrote."""
    config, told = project.config, people(project)
    for part, rows in table.groupby("part"):
        period = ""
        if config.time is not None and len(rows):
            moments = pd.to_datetime(rows[config.time], utc=True).dt.tz_convert(config.timezone)
            period = f", {moments.min():%Y-%m-%d} to {moments.max():%Y-%m-%d}"
        told[f"rows: {part}"] = f"{len(rows):,}{period}"
    return told


def card(
    config: Config,
    recipe: Mapping[str, Any],
    metrics: Table,
    verdicts: Iterable[Verdict],
    slices: Table,
    importance: Table,
    facts: Mapping[str, Any],
) -> str:
    """The model card as one self-contained HTML document.

    Parameters
    ----------
    recipe : mapping
        What training handed on: family, params, threshold, features, metric, score.
    metrics, slices, importance : Table
        Of ``quality``, ``by_slice`` and ``permutation_importance``.
    verdicts : iterable of Verdict
        The checks that do not hang on the champion of the moment.
    facts : mapping
        ``intended_use``, ``limits`` and ``owner``, as people wrote them; anything else is told of the data.
    """
    return filled("card.html", config, recipe, verdicts, (metrics, slices, importance), facts)


def markdown(
    config: Config,
    recipe: Mapping[str, Any],
    metrics: Table,
    verdicts: Iterable[Verdict],
    slices: Table,
    importance: Table,
    facts: Mapping[str, Any],
) -> str:
    """The same card as Markdown, for a repository or a pull request; parameters as of ``card``."""
    return filled("card.md", config, recipe, verdicts, (metrics, slices, importance), facts)


def filled(
    name: str,
    config: Config,
    recipe: Mapping[str, Any],
    verdicts: Iterable[Verdict],
    tables: Iterable[Table],
    facts: Mapping[str, Any],
) -> str:
    """The card by one of the templates beside this module; HTML escapes every value."""
    import jinja2

    made_by = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # noqa: S701 - Markdown has its own
    made_by.filters |= {
        "named": named,
        "rows": rows_markdown,
        "html": lambda frame: Markup(table_html(frame)),
    }  # noqa: S704 - it escapes
    sampled = f"Made from a sample of {config.sample:,} rows: for a trial, not for service."
    told = {
        "made": made(config, recipe, facts),
        "people": PEOPLE,
        "file": FILE,
        "colours": COLOURS,
        "facts": defaultdict(str, facts),
    }
    return made_by.get_template(name).render(
        config=config, found=Verdicts.of(verdicts), tables=list(tables), sampled=sampled, **told
    )


def rows_markdown(frame: pd.DataFrame) -> str:
    """A table as Markdown's rows; what a value holds of Markdown's own signs is taken literally."""

    def cell(value: Any) -> str:
        return (
            unescape(cell_html(value))
            .replace("\\", "\\\\")
            .replace("|", "\\|")
            .replace("<", "&lt;")
            .replace("\n", " ")
        )

    lines = [
        "| " + " | ".join(map(cell, row)) + " |"
        for row in [tuple(frame.columns), *frame.itertuples(index=False, name=None)]
    ]
    return "\n".join([lines[0], "|" + " --- |" * len(frame.columns), *lines[1:]])


def named(table: Table) -> pd.DataFrame:
    """The table with the metrics' titles, units in the heads, and words for underscores."""
    frame = table.frame()[list(table.shown)] if table.shown else table.frame()
    if "metric" in frame:
        frame = frame.assign(
            metric=[METRICS[m].title if m in METRICS else m for m in frame["metric"]]
        )
    heads = {
        c: f"{str(c).replace('_', ' ')}{f' ({table.units[c]})' if c in table.units else ''}"
        for c in frame.columns
    }
    return frame.rename(columns=heads)


def made(config: Config, recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Data, features, family and parameters, as training handed them on."""
    threshold, params = recipe.get("threshold"), sorted(dict(recipe.get("params", {})).items())
    found = {
        "source": config.source if isinstance(config.source, str) else "a query",
        **{str(k): str(v) for k, v in facts.items() if k not in PEOPLE},
    }
    found |= {
        "labels known after": duration_text(config.label_delay),
        "family": str(recipe.get("family", "unknown")),
    }
    found |= {
        "parameters": ", ".join(
            f"{k} = {number(v) if isinstance(v, float) else v}" for k, v in params
        )
        or "none",
        "threshold": "none" if threshold is None else number(float(threshold)),
    }
    found |= {
        "searched by": f"{recipe.get('metric', 'unknown')}, {number(recipe.get('score'))} in cross-validation",
        "refitted on all rows": "yes" if config.train.refit else "no",
    }
    return found | {
        "features": ", ".join(map(str, recipe.get("features", []))) or "unknown",
        "seed": str(config.seed),
    }
