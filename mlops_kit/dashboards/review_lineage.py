"""Lineage: what a version was made from, its reports, and its artifacts."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

from mlops_kit.dashboards.page_base import CardContent, build_card
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.review_context import ReviewContext
from mlops_kit.dashboards.stored_reviews import RERUN_REVIEW_COMMAND, StoredReview
from mlops_kit.dashboards.text_formats import format_clock_time
from mlops_kit.dashboards.view_models import GridView, make_table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.run_manifest import GitStatus

_SHOWN_HASH_CHARACTERS = 12
_DATE_CHARACTERS = 10
_MLFLOW_RUN_TITLES = {"run": "MLflow run", "train": "MLflow run of train"}


def list_origins(review: StoredReview, config: ProjectConfig) -> list[tuple[str, str]]:
    """List what the run of a version was made from, as pairs of name and text."""
    manifest = review.manifest
    facts = review.shown_facts
    run = manifest.run
    if review.sample_rows:
        run = f"{run}, a sample of {review.sample_rows:,} rows"
    cutoffs = "the table has no timestamps"
    if manifest.as_of:
        until = manifest.until or ""
        cutoffs = f"{manifest.as_of[:_DATE_CHARACTERS]}, {until[:_DATE_CHARACTERS]}"
    origins = [
        ("run", run),
        ("started", format_clock_time(manifest.started, ZoneInfo(config.timezone))),
        ("as of, until", cutoffs),
        ("commit", _describe_commit(manifest.git)),
        ("model", facts.model_hash[:_SHOWN_HASH_CHARACTERS]),
        ("evidence", facts.evidence_hash[:_SHOWN_HASH_CHARACTERS]),
        *_list_classes(review, config),
        ("note, seed", f"{manifest.note or 'none'}, {manifest.seed}"),
    ]
    for stage, run_id in manifest.mlflow.items():
        if stage in _MLFLOW_RUN_TITLES:
            origins.append((_MLFLOW_RUN_TITLES[stage], run_id))
    packages = [f"{name} {version}" for name, version in manifest.packages.items()]
    return [*origins, ("packages", ", ".join(packages))]


def _list_classes(review: StoredReview, config: ProjectConfig) -> list[tuple[str, str]]:
    """List the positive class of a binary task, or the classes of a multiclass task."""
    if not review.classes or config.task == "regression":
        return []
    if config.task == "binary":
        return [("positive class", str(review.classes[-1]))]
    return [("classes", ", ".join(map(str, review.classes)))]


def _describe_commit(git: GitStatus) -> str:
    """Describe the commit of a run."""
    if not git.commit:
        return "not under git"
    changes = " with uncommitted changes" if git.dirty else ""
    return f"{git.commit[:_SHOWN_HASH_CHARACTERS]}{changes}"


def build_lineage_tab(context: ReviewContext) -> Html:
    """Build the tab: origins of both versions, reports and artifacts."""
    hint = RERUN_REVIEW_COMMAND
    cards = (
        build_card("Lineage", lambda: _show_origins(context), hint, 7),
        build_card("Notebooks and reports", lambda: _show_reports(context), hint, 5),
        build_card("Artifacts", lambda: _show_artifacts(context), hint),
    )
    return Html(GridView(cards))


def _show_origins(context: ReviewContext) -> CardContent:
    """Show what both versions were made from, side by side."""
    headings = ["", f"version {context.review.number}"]
    origins = dict(list_origins(context.review, context.config))
    other_origins: dict[str, str] = {}
    if context.other is not None:
        headings.append(f"version {context.other.number}")
        other_origins = dict(list_origins(context.other, context.config))
    rows = []
    for name in {**origins, **other_origins}:
        row = [name, origins.get(name, "")]
        if context.other is not None:
            row.append(other_origins.get(name, ""))
        rows.append(row)
    return CardContent("", (make_table(headings, rows, label="Lineage", css_class="wrap"),))


def _show_reports(context: ReviewContext) -> CardContent:
    """Show the run's report and the executed notebooks, with how each stage ended."""
    run = context.review.run
    manifest = context.review.manifest

    def make_link(path: Path, text: str) -> Html | str:
        return context.make_link(path, text) if path.exists() else text

    rows: list[tuple[object, object]] = [
        (make_link(run / "index.html", "the run"), str(manifest.status))
    ]
    for stage, entry in manifest.stages.items():
        notebook = run / "notebooks" / f"{entry.notebook}.html"
        rows.append((make_link(notebook, stage), str(entry.status)))
    return CardContent("", (make_table(("Page", "Status"), rows, label="Pages"),))


def _show_artifacts(context: ReviewContext) -> CardContent:
    """Show the artifacts of the run with their rows and content hashes."""
    note = (
        "Equal content has an equal hash. A record is a fact about the outside world and has no "
        "hash."
    )
    rows = []
    for name, artifact in context.review.artifacts.items():
        content = (artifact.content or "a record")[:_SHOWN_HASH_CHARACTERS]
        rows.append((artifact.stage, name.replace("_", " "), artifact.rows, content))
    headings = ("Stage", "Artifact", "Rows", "Content")
    return CardContent(note, (make_table(headings, rows, [2], "Artifacts"),))
