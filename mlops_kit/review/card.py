"""The model card, as HTML and as Markdown: what the model is for, how good it is, what speaks against it.

Everything is computed but what only people know (``card.yaml``: ``intended_use``, ``limits``,
``owner``); what is missing there is shown as missing. The card holds no clock time, no run and no
version, so that equal inputs give an equal file; it asks nothing of any other host.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape, unescape
from pathlib import Path
from typing import Any

import yaml

from mlops_kit.config import Config, Project, duration_text
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
    file: Path = project.path(FILE)
    if not file.exists():
        return {}
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KitError(f"{FILE} is not YAML: {' '.join(str(error).split())}", ", ".join(PEOPLE), f"edit {FILE}") from error
    if not isinstance(found, dict):
        raise KitError(f"{FILE} holds a {type(found).__name__}, not keys", ", ".join(PEOPLE), f"edit {FILE}")
    for key in found:
        if key not in PEOPLE:
            raise KitError(f"{FILE}: unknown key {key!r}", nearest(str(key), PEOPLE), f"edit {FILE}")
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


def card(config: Config, recipe: Mapping[str, Any], metrics: Table, verdicts: Iterable[Verdict], slices: Table, importance: Table, facts: Mapping[str, Any]) -> str:
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
    found = Verdicts.of(verdicts)
    top, purpose = verdict(config, metrics, found), section("What is it for?", people_html(facts))
    checks, origin = section("Checks", f"<p>{escape(found.sentence)}</p>{checks_html(found)}"), section("What was it made from?", terms_html({k: escape(v) for k, v in made(config, recipe, facts).items()}))
    parts = [top, purpose, checks, *map(table_section, (metrics, slices, importance)), origin]
    style = Path(__file__).with_name("card.css").read_text(encoding="utf-8")
    title = escape(f"Model card: {config.name}")
    head = "<meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
    return f"<!doctype html><html lang=en><head>{head}<title>{title}</title><style>\n{style}</style></head><body><main>{''.join(parts)}</main></body></html>\n"


def markdown(config: Config, recipe: Mapping[str, Any], metrics: Table, verdicts: Iterable[Verdict], slices: Table, importance: Table, facts: Mapping[str, Any]) -> str:
    """The same card as Markdown, for a repository or a pull request; parameters as of ``card``."""
    found = Verdicts.of(verdicts)
    sampled = f"\n**Made from a sample of {config.sample:,} rows: for a trial, not for service.**\n" if config.sample else ""
    top = f"# Model card: {config.name}\n\n**{found.state[1]}.** {metrics.sentence}\n{sampled}"
    purpose = "\n".join(f"- **{title}**: {facts.get(key) or f'missing: write it into {FILE}'}" for key, title in PEOPLE.items())
    tables = [f"## {t.title}\n\n{t.sentence}\n\n{rows_markdown(named(t))}" + "".join(f"\n\n{n}" for n in t.notes) for t in (metrics, slices, importance)]
    origin = "\n".join(f"- **{k}**: {v}" for k, v in made(config, recipe, facts).items())
    parts = [f"## What is it for?\n\n{purpose}", f"## Checks\n\n{found.sentence}\n\n{rows_markdown(found.frame())}", *tables, f"## What was it made from?\n\n{origin}"]
    return "\n\n".join([top, *parts]) + "\n"


def rows_markdown(frame: pd.DataFrame) -> str:
    """A table as Markdown's rows; what a value holds of Markdown's own signs is taken literally."""

    def cell(value: Any) -> str:
        return unescape(cell_html(value)).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")

    lines = ["| " + " | ".join(map(cell, row)) + " |" for row in [tuple(frame.columns), *frame.itertuples(index=False, name=None)]]
    return "\n".join([lines[0], "|" + " --- |" * len(frame.columns), *lines[1:]])


def verdict(config: Config, metrics: Table, found: Verdicts) -> str:
    """The top of the card: the state in a word and a shape, and the sentence about quality."""
    style, state = found.state
    blocking = next((v.sentence for v in found if v.blocks), "")
    sampled = f"<p class=act>Made from a sample of {config.sample:,} rows: for a trial, not for service.</p>" if config.sample else ""
    top = f"<p class=top><b>Model card</b> · {escape(config.name)} · predicts {escape(config.target)} ({escape(config.task)})</p>"
    return f"{top}<section><span class='badge {style}'>{state}</span><h1>{escape(metrics.sentence)}</h1>{f'<p>{escape(blocking)}</p>' if blocking else ''}{sampled}</section>"


def section(title: str, body: str) -> str:
    """A titled part of the card; the body is HTML already."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def table_section(table: Table) -> str:
    """A result as a part of the card: its title, sentence, table and notes."""
    notes = "".join(f"<p class=note>{escape(n)}</p>" for n in table.notes)
    return section(table.title, f"<p>{escape(table.sentence)}</p>{table_html(named(table))}{notes}")


def named(table: Table) -> pd.DataFrame:
    """The table with the metrics' titles, units in the heads, and words for underscores."""
    frame = table.frame()[list(table.shown)] if table.shown else table.frame()
    if "metric" in frame:
        frame = frame.assign(metric=[METRICS[m].title if m in METRICS else m for m in frame["metric"]])
    heads = {c: f"{str(c).replace('_', ' ')}{f' ({table.units[c]})' if c in table.units else ''}" for c in frame.columns}
    return frame.rename(columns=heads)


def people_html(facts: Mapping[str, Any]) -> str:
    """What only people know; what they have not written is shown as missing, in red."""
    missing = f"<span class=act>▲ missing: write it into {FILE}</span>"
    return terms_html({title: escape(str(facts[key])) if facts.get(key) else missing for key, title in PEOPLE.items()})


def terms_html(told: Mapping[str, str]) -> str:
    """A list of terms, each with what is said of it as HTML."""
    return f"<dl>{''.join(f'<dt>{escape(k)}</dt><dd>{v}</dd>' for k, v in told.items())}</dl>"


def checks_html(found: Verdicts) -> str:
    """A row a check, the worst first: result, check, found, limit, what to do."""
    styles = ["watch" if v.outcome == "failed" and not v.blocks else COLOURS[v.outcome] for v in found]
    lines = [[f"<td class='st {s}'>{m}</td>", *(f"<td>{escape(c)}</td>" for c in cells)] for s, (m, *cells) in zip(styles, found.frame().itertuples(index=False, name=None), strict=True)]
    rows, heads = [f"<tr>{''.join(line)}</tr>" for line in lines], "".join(f"<th>{h}</th>" for h in found.frame().columns)
    return f"<table class=checks><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def made(config: Config, recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, str]:
    """Data, features, family and parameters, as training handed them on."""
    threshold, params = recipe.get("threshold"), sorted(dict(recipe.get("params", {})).items())
    found = {"source": config.source if isinstance(config.source, str) else "a query", **{str(k): str(v) for k, v in facts.items() if k not in PEOPLE}}
    found |= {"labels known after": duration_text(config.label_delay), "family": str(recipe.get("family", "unknown"))}
    found |= {"parameters": ", ".join(f"{k} = {number(v) if isinstance(v, float) else v}" for k, v in params) or "none", "threshold": "none" if threshold is None else number(float(threshold))}
    found |= {"searched by": f"{recipe.get('metric', 'unknown')}, {number(recipe.get('score'))} in cross-validation", "refitted on all rows": "yes" if config.train.refit else "no"}
    return found | {"features": ", ".join(map(str, recipe.get("features", []))) or "unknown", "seed": str(config.seed)}

