"""The model card, as HTML and as Markdown: intended use, performance, checks, provenance.

Everything is computed except what only people know (``card.yaml``: ``intended_use``, ``limits``,
``owner``); missing entries are shown as missing. The card holds no clock time, no run and no
version, so that equal inputs give an equal file, and it loads nothing from the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from mlops_kit.core.column_labels import NAME_COLUMNS, get_column_label
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.formatting import format_cell_html, format_number, render_table_html
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import OUTCOME_COLORS, CheckOutcome, Table, Verdict, Verdicts
from mlops_kit.data.splitters import get_validation_scheme
from mlops_kit.data.target import load_coding
from mlops_kit.project.config.data import get_file_location
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.loader import Project, read_yaml_file
from mlops_kit.stages.review.checks import CHAMPION_CHECKS
from mlops_kit.stats.metrics import METRICS

CARD_FILE = "card.yaml"
CARD_FIELDS = {"intended_use": "Intended use", "limits": "Known limits", "owner": "Owner"}
_POSITIVE_CLASS = "positive class"  # the fact of the card


@dataclass(frozen=True)
class _CardEntry:
    """A named entry of the card; an empty text is shown as missing."""

    title: str
    text: str


@dataclass(frozen=True)
class _CheckRow:
    """One check: the CSS class of its outcome, and the cells of its row."""

    style: str
    cells: list[str]


@dataclass(frozen=True)
class _CardSection:
    """A table of the review with its heading."""

    title: str
    sentence: str
    frame: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _ModelCard:
    """What the templates show; they contain no rules of their own."""

    project_name: str
    task: str
    event: str
    badge_style: str
    badge: str
    headline: str
    blocking_sentence: str
    sample_note: str
    purpose: list[_CardEntry]
    missing_note: str
    checks_sentence: str
    checks_frame: pd.DataFrame
    check_rows: list[_CheckRow]
    sections: list[_CardSection]
    provenance: list[_CardEntry]


def read_card_file(project: Project) -> dict[str, str]:
    """Read what people have written in the project's ``card.yaml``; empty if there is no file.

    Raises
    ------
    KitError
        If the file does not contain a mapping, or has an unknown key.
    """
    file = project.resolve_path(CARD_FILE)
    content = read_yaml_file(file, f"edit {CARD_FILE}") if file.exists() else None
    if not content:
        return {}
    if not isinstance(content, dict):
        raise KitError(
            f"{CARD_FILE} contains a {type(content).__name__} instead of keys and values",
            ", ".join(CARD_FIELDS),
            f"edit {CARD_FILE}",
        )
    for key in content:
        if key not in CARD_FIELDS:
            raise KitError(
                f"{CARD_FILE}: unknown key {key!r}",
                suggest_names(str(key), CARD_FIELDS),
                f"edit {CARD_FILE}",
            )
    return {key: str(value).strip() for key, value in content.items() if value is not None}


def collect_card_facts(project: Project, table: pd.DataFrame) -> dict[str, str]:
    """Collect what people wrote, the positive class, and the rows and period of each part."""
    table = to_pandas(table)
    config = project.config
    facts = read_card_file(project)
    if config.task == "binary":
        facts[_POSITIVE_CLASS] = str(load_coding(project).positive)
    if config.task == "multiclass":
        facts["classes"] = ", ".join(map(str, load_coding(project).classes))
    for part, rows in table.groupby("part"):
        period = ""
        if config.time is not None and len(rows):
            times = pd.to_datetime(rows[config.time], utc=True).dt.tz_convert(config.timezone)
            period = f", {times.min():%Y-%m-%d} to {times.max():%Y-%m-%d}"
        facts[f"rows: {part}"] = f"{len(rows):,}{period}"
    return facts


def render_model_card(
    config: ProjectConfig,
    recipe: Mapping[str, Any],
    verdicts: Iterable[Verdict],
    tables: Iterable[Table],
    facts: Mapping[str, str],
) -> str:
    """Render the model card as one self-contained HTML document.

    Parameters
    ----------
    recipe : mapping
        What training handed on: family, params, threshold, features, metric, score.
    verdicts : iterable of Verdict
        The checks that do not depend on the current champion.
    tables : iterable of Table
        Performance (`evaluate_performance`) first: its sentence is the headline of the card. Then
        slices (`evaluate_slices`) and importance (`compute_permutation_importance`).
    facts : mapping
        Result of `collect_card_facts`: ``intended_use``, ``limits`` and ``owner`` as people wrote
        them; all other entries are shown with the data.
    """
    card = _make_model_card(config, recipe, verdicts, list(tables), facts)
    return _render_template("card.html", card)


def render_model_card_markdown(
    config: ProjectConfig,
    recipe: Mapping[str, Any],
    verdicts: Iterable[Verdict],
    tables: Iterable[Table],
    facts: Mapping[str, str],
) -> str:
    """Render the same card as Markdown, for a repository or a pull request."""
    card = _make_model_card(config, recipe, verdicts, list(tables), facts)
    return _render_template("card.md", card)


def _make_model_card(
    config: ProjectConfig,
    recipe: Mapping[str, Any],
    verdicts: Iterable[Verdict],
    tables: list[Table],
    facts: Mapping[str, str],
) -> _ModelCard:
    all_verdicts = Verdicts.from_verdicts(verdicts)
    checks_frame = all_verdicts.to_frame()
    badge_style, badge = all_verdicts.label_fitness("by its own checks")
    purpose = [_CardEntry(title, facts.get(key, "")) for key, title in CARD_FIELDS.items()]
    check_rows = []
    for verdict, cells in zip(all_verdicts, checks_frame.values.tolist(), strict=True):
        check_rows.append(_CheckRow(_get_check_style(verdict), cells))
    sections = []
    for table in tables:
        frame = _label_columns(table)
        sections.append(_CardSection(table.title, table.sentence, frame, table.notes))
    return _ModelCard(
        project_name=config.name,
        task=config.task,
        event=_describe_event(config, facts),
        badge_style=badge_style,
        badge=badge,
        headline=tables[0].sentence,
        blocking_sentence=_find_blocking_sentence(all_verdicts),
        sample_note=_describe_sample(config),
        purpose=purpose,
        missing_note=f"missing: add it to {CARD_FILE}",
        checks_sentence=_describe_checks(all_verdicts),
        checks_frame=checks_frame,
        check_rows=check_rows,
        sections=sections,
        provenance=_describe_provenance(config, recipe, facts),
    )


def _describe_event(config: ProjectConfig, facts: Mapping[str, str]) -> str:
    """Describe what is predicted: the target, of a binary task with its positive class."""
    event = config.target
    if _POSITIVE_CLASS in facts:
        event = f"{config.target} = {facts[_POSITIVE_CLASS]}"
    return f"{config.event} ({event})" if config.event else event


def _describe_checks(verdicts: Verdicts) -> str:
    """Describe how the checks ended, out of those of the whole review.

    The others compare the model with the champion of the day, so that they are not on the card.
    """
    champion_checks = len(CHAMPION_CHECKS)
    count = len(verdicts) + champion_checks
    others = "The other one compares" if champion_checks == 1 else "The others compare"
    return (
        f"{count} checks of the review stage, {len(verdicts)} of them of the model itself: "
        f"{verdicts.list_counts()}. {others} it with the champion; the review dashboard shows the "
        "result."
    )


def _find_blocking_sentence(verdicts: Verdicts) -> str:
    for verdict in verdicts:
        if verdict.is_blocking:
            return verdict.sentence
    return ""


def _describe_sample(config: ProjectConfig) -> str:
    if not config.sample:
        return ""
    return f"Made from a sample of {config.sample:,} rows: for a trial, not for service."


def _get_check_style(verdict: Verdict) -> str:
    """Get the CSS class of a check; a failed check that only warns does not look like a block."""
    if verdict.outcome == CheckOutcome.FAILED and not verdict.is_blocking:
        return OUTCOME_COLORS[CheckOutcome.CANNOT_TELL]
    return OUTCOME_COLORS[verdict.outcome]


def _render_template(name: str, card: _ModelCard) -> str:
    """Render one of the templates beside this module; HTML escapes every value."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "markdown_table": _format_markdown_rows,
        "html_table": render_table_html,
    }
    return environment.get_template(name).render(card=card)


def _format_markdown_rows(frame: pd.DataFrame) -> str:
    """Format a table as Markdown; Markdown's own characters in values are escaped."""
    for name in NAME_COLUMNS & set(frame.columns):
        labels = frame[name].map(lambda column: get_column_label(str(column)).text)
        frame = frame.assign(**{name: labels})
    lines = [_format_markdown_row(frame.columns), "|" + " --- |" * len(frame.columns)]
    for row in frame.itertuples(index=False, name=None):
        lines.append(_format_markdown_row(row))
    return "\n".join(lines)


def _format_markdown_row(cells: Iterable[Any]) -> str:
    escapes = {"\\": "\\\\", "|": "\\|", "<": "&lt;", "\n": " "}
    texts = []
    for cell in cells:
        text = unescape(format_cell_html(cell))
        texts.append("".join(escapes.get(character, character) for character in text))
    return f"| {' | '.join(texts)} |"


def _label_columns(table: Table) -> pd.DataFrame:
    """Label a table for readers: titles of metrics, units in the heads, no underscores."""
    frame = table.to_frame()
    if table.visible_columns:
        frame = frame[list(table.visible_columns)]
    if "metric" in frame:
        titles = [METRICS[name].title if name in METRICS else name for name in frame["metric"]]
        frame = frame.assign(metric=titles)
    labels = {}
    for column in frame.columns:
        label = str(column).replace("_", " ")
        if column in table.units:
            label = f"{label} ({table.units[column]})"
        labels[column] = label
    return frame.rename(columns=labels)


def _describe_provenance(
    config: ProjectConfig, recipe: Mapping[str, Any], facts: Mapping[str, str]
) -> list[_CardEntry]:
    """Describe data, features, family and parameters, as training handed them on."""
    entries = {"source": get_file_location(config.source) or "a query"}
    entries |= {name: value for name, value in facts.items() if name not in CARD_FIELDS}
    entries["labels known after"] = format_duration(config.label_delay)
    entries["validation"] = get_validation_scheme(config).describe()
    entries["family"] = str(recipe.get("family", "unknown"))
    entries["parameters"] = _format_params(recipe.get("params", {}))
    threshold = recipe.get("threshold")
    entries["decision threshold"] = "none"
    if threshold is not None:
        entries["decision threshold"] = format_number(float(threshold))
    search_score = format_number(recipe.get("score"))
    search_metric = recipe.get("metric", "unknown")
    entries["selected by"] = f"{search_metric}, {search_score} in cross-validation"
    entries["refitted on all rows"] = "yes" if config.train.refit else "no"
    entries["features"] = ", ".join(recipe.get("features", [])) or "unknown"
    entries["seed"] = str(config.seed)
    return [_CardEntry(title, text) for title, text in entries.items()]


def _format_params(params: Mapping[str, Any]) -> str:
    texts = []
    for name, value in sorted(params.items()):
        text = format_number(value) if isinstance(value, float) else value
        texts.append(f"{name} = {text}")
    return ", ".join(texts) or "none"
