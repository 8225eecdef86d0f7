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

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.formatting import format_cell_html, format_number, render_table_html
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import OUTCOME_COLORS, Table, Verdict, Verdicts
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.loader import Project, read_yaml_file
from mlops_kit.stats.metrics import METRICS

CARD_FILE = "card.yaml"
CARD_FIELDS = {"intended_use": "Intended use", "limits": "Known limits", "owner": "Owner"}


def read_card_file(project: Project) -> dict[str, str]:
    """What people have written in the project's ``card.yaml``; empty where they have not.

    Raises
    ------
    KitError
        If the file is not keys and values, or has a key that the card does not know.
    """
    file = project.resolve_path(CARD_FILE)
    found = (read_yaml_file(file, f"edit {CARD_FILE}") if file.exists() else None) or {}
    if not isinstance(found, dict):
        raise KitError(
            f"{CARD_FILE} holds a {type(found).__name__}, not keys",
            ", ".join(CARD_FIELDS),
            f"edit {CARD_FILE}",
        )
    if other := [key for key in found if key not in CARD_FIELDS]:
        raise KitError(
            f"{CARD_FILE}: unknown key {other[0]!r}",
            suggest_names(str(other[0]), CARD_FIELDS),
            f"edit {CARD_FILE}",
        )
    return {str(k): str(v).strip() for k, v in found.items() if v is not None}


def collect_card_facts(project: Project, table: pd.DataFrame) -> dict[str, Any]:
    """What the card tells of the data: rows and period of each part; and what people wrote."""
    config, told = project.config, read_card_file(project)
    for part, rows in table.groupby("part"):
        period = ""
        if config.time is not None and len(rows):
            moments = pd.to_datetime(rows[config.time], utc=True).dt.tz_convert(config.timezone)
            period = f", {moments.min():%Y-%m-%d} to {moments.max():%Y-%m-%d}"
        told[f"rows: {part}"] = f"{len(rows):,}{period}"
    return told


def render_model_card(
    config: ProjectConfig,
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
    return _render_template(
        "card.html", config, recipe, verdicts, (metrics, slices, importance), facts
    )


def render_model_card_markdown(
    config: ProjectConfig,
    recipe: Mapping[str, Any],
    metrics: Table,
    verdicts: Iterable[Verdict],
    slices: Table,
    importance: Table,
    facts: Mapping[str, Any],
) -> str:
    """The same card as Markdown, for a repository or a pull request; parameters as of ``card``."""
    return _render_template(
        "card.md", config, recipe, verdicts, (metrics, slices, importance), facts
    )


def _render_template(
    name: str,
    config: ProjectConfig,
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
    )
    made_by.filters |= {
        "named": _label_columns,
        "rows": _format_markdown_rows,
        "html": lambda frame: Markup(render_table_html(frame)),
    }
    sampled = f"Made from a sample of {config.sample:,} rows: for a trial, not for service."
    told = {
        "made": _describe_provenance(config, recipe, facts),
        "people": CARD_FIELDS,
        "file": CARD_FILE,
        "colours": OUTCOME_COLORS,
        "facts": defaultdict(str, facts),
    }
    return made_by.get_template(name).render(
        config=config,
        found=Verdicts.from_verdicts(verdicts),
        tables=list(tables),
        sampled=sampled,
        **told,
    )


def _format_markdown_rows(frame: pd.DataFrame) -> str:
    """A table as Markdown's rows; what a value holds of Markdown's own signs is taken literally."""

    def cell(value: Any) -> str:
        return (
            unescape(format_cell_html(value))
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


def _label_columns(table: Table) -> pd.DataFrame:
    """The table with the metrics' titles, units in the heads, and words for underscores."""
    frame = (
        table.to_frame()[list(table.visible_columns)] if table.visible_columns else table.to_frame()
    )
    if "metric" in frame:
        frame = frame.assign(
            metric=[METRICS[m].title if m in METRICS else m for m in frame["metric"]]
        )
    heads = {
        c: f"{str(c).replace('_', ' ')}{f' ({table.units[c]})' if c in table.units else ''}"
        for c in frame.columns
    }
    return frame.rename(columns=heads)


def _describe_provenance(
    config: ProjectConfig, recipe: Mapping[str, Any], facts: Mapping[str, Any]
) -> dict[str, str]:
    """Data, features, family and parameters, as training handed them on."""
    threshold, params = recipe.get("threshold"), sorted(dict(recipe.get("params", {})).items())
    found = {
        "source": config.source if isinstance(config.source, str) else "a query",
        **{str(k): str(v) for k, v in facts.items() if k not in CARD_FIELDS},
    }
    found |= {
        "labels known after": format_duration(config.label_delay),
        "family": str(recipe.get("family", "unknown")),
    }
    found |= {
        "parameters": ", ".join(
            f"{k} = {format_number(v) if isinstance(v, float) else v}" for k, v in params
        )
        or "none",
        "threshold": "none" if threshold is None else format_number(float(threshold)),
    }
    found |= {
        "searched by": f"{recipe.get('metric', 'unknown')}, {format_number(recipe.get('score'))} in cross-validation",
        "refitted on all rows": "yes" if config.train.refit else "no",
    }
    return found | {
        "features": ", ".join(map(str, recipe.get("features", []))) or "unknown",
        "seed": str(config.seed),
    }
