"""The HTML pages of a run: each notebook without its code, and an index of the run.

They open from disk without a network: nbconvert's body only, our own style sheet, figures inline.
Templates get view models: every decision about what is shown, and how, is taken here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from mlops_kit.core import files
from mlops_kit.core.extras import import_from_extra
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.core.results import (
    OUTCOME_COLORS,
    OUTCOME_MARKS,
    CheckOutcome,
    KeyNumber,
    Verdict,
    Verdicts,
)
from mlops_kit.core.serialization import from_json_value
from mlops_kit.pipeline.failed_checks import describe_check_counts
from mlops_kit.pipeline.page_prose import select_page_cells
from mlops_kit.pipeline.report_views import (
    BranchTable,
    CheckView,
    FigureView,
    Headline,
    Link,
    RunDecision,
    RunView,
    StageView,
)
from mlops_kit.project.notebook_cells import read_notebook_title
from mlops_kit.project.run_folder import read_stage_records
from mlops_kit.project.run_manifest import (
    BranchResult,
    RunManifest,
    RunStatus,
    StageEntry,
    StageStatus,
)

# CSS classes of a status: good, watch (attention), act (failed) and faint.
_STATUS_MARKS = {
    StageStatus.SUCCEEDED: ("●", "good"),
    StageStatus.SKIPPED: ("○", "faint"),
    StageStatus.NOT_RUN: ("○", "faint"),
    StageStatus.RUNNING: ("◆", "watch"),
    StageStatus.INTERRUPTED: ("◆", "watch"),
    StageStatus.WAITING_FOR_APPROVAL: ("◆", "watch"),
}
_FAILURE_MARK = ("▲", "act")
_FAILED_STATUSES = (
    StageStatus.FAILED,
    StageStatus.KILLED,
    StageStatus.TIMED_OUT,
    StageStatus.STOPPED_EARLY,
)
_STAGES_AFTER_REVIEW = ("deploy", "monitor", "retrain")
_SENTENCE_BOUNDARY = re.compile(r"(?<=[^\W_]|[\])%])\. (?=[^\W\d_a-z])")
_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_SHOWN_COMMIT_CHARACTERS = 10
_SHOWN_HASH_CHARACTERS = 12
_DATE = slice(10)  # of a formatted time: the date


def render_report_template(name: str, **values: Any) -> str:
    """Render a template of the folder ``report``; values are escaped unless it says otherwise."""
    import jinja2

    folder = find_resource_folder("templates") / "report"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    template = environment.from_string((folder / name).read_text(encoding="utf-8"))
    css = (folder / "style.css").read_text(encoding="utf-8")
    return template.render(css=css, **values)


def write_notebook_page(notebook: Path) -> Path:
    """Write an executed notebook as HTML without code, beside it.

    Of a widget its static image is shown. Prose that only introduces code is left out.

    Returns
    -------
    Path
        The page.
    """
    with import_from_extra("train"):
        import nbformat
        from nbconvert import HTMLExporter

    executed = nbformat.read(notebook, as_version=4)
    executed.metadata.pop("widgets", None)
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(_WIDGET_VIEW, None)
    executed.cells = select_page_cells(executed.cells)
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(executed)
    # With a tab stop a wide table can be scrolled by keyboard.
    body = body.replace('<div class="output_html ', '<div tabindex="0" class="output_html ')
    page = render_report_template(
        "page.html",
        title=read_notebook_title(notebook),
        body=body,
        notebook=notebook.name,
    )
    target = notebook.with_suffix(".html")
    files.write_text(target, page)
    return target


def write_notebook_page_in_fork(notebook: str) -> str:
    """Call ``write_notebook_page`` with values that JSON can represent, for the fork server."""
    return str(write_notebook_page(Path(notebook)))


def write_run_index(run: Path, manifest: RunManifest, decision: RunDecision | None = None) -> Path:
    """Write the ``index.html`` of a run.

    Parameters
    ----------
    decision : RunDecision, optional
        What was decided about the version of a run that waits for a decision.

    Returns
    -------
    Path
        The page.
    """
    view = _build_run_view(run, manifest, decision)
    page = run / "index.html"
    files.write_text(page, render_report_template("index.html", page=view))
    return page


def _build_run_view(run: Path, manifest: RunManifest, decision: RunDecision | None) -> RunView:
    """Collect what the index of a run shows."""
    records: dict[str, Mapping[str, Any]] = {}
    verdicts_by_stage: dict[str, list[Verdict]] = {}
    for stage, record in read_stage_records(run).items():
        if stage in manifest.stages:
            records[stage] = record
            verdicts_by_stage[stage] = [revive_verdict(v) for v in record["verdicts"]]
    review_verdicts = Verdicts.from_verdicts(verdicts_by_stage.get("review", []))
    headline = build_headline(manifest, review_verdicts, decision)
    branch_table = build_branch_table(manifest)
    first_sentence, *other_sentences = _SENTENCE_BOUNDARY.split(headline.text, maxsplit=1)
    if other_sentences:
        first_sentence += "."
    verdicts_by_stage = {  # in the order of the chain
        stage: verdicts_by_stage[stage] for stage in manifest.stages if stage in verdicts_by_stage
    }
    all_verdicts = Verdicts.from_verdicts(chain.from_iterable(verdicts_by_stage.values()))
    stages = [
        _build_stage_view(run, stage, entry, records.get(stage, {}), decision)
        for stage, entry in manifest.stages.items()
    ]
    return RunView(
        project=manifest.project,
        run=manifest.run,
        period=_describe_period(manifest),
        started=f"{_format_local_time(manifest, manifest.started)} {manifest.timezone}",
        headline=headline._replace(text=first_sentence),
        details=_list_details(manifest, "".join(other_sentences), decision),
        numbers=_find_key_numbers(records),
        branches=_format_branch_table(branch_table),
        branch_links=_list_branch_links(manifest),
        stages=stages,
        checks=_build_check_views(all_verdicts, verdicts_by_stage),
        checks_sentence=describe_check_counts(verdicts_by_stage),
        origin=_list_origin(manifest),
    )


def _describe_period(manifest: RunManifest) -> str:
    """Return the two cut-offs of a run as dates; empty if its table has no time."""
    if not manifest.as_of:
        return ""
    as_of = _format_local_time(manifest, manifest.as_of)[_DATE]
    until = _format_local_time(manifest, manifest.until or "")[_DATE]
    return f"as of {as_of}, until {until}"


def _format_local_time(manifest: RunManifest, time: str) -> str:
    """Return a stored timestamp to the minute in the project's time zone; empty without one.

    The cut-offs of a project are stored as they are set: without an offset, in that time zone.
    """
    if not time:
        return ""
    timestamp = datetime.fromisoformat(time)
    if timestamp.tzinfo is not None:
        timestamp = timestamp.astimezone(ZoneInfo(manifest.timezone))
    return f"{timestamp:%Y-%m-%d %H:%M}"


def build_headline(
    manifest: RunManifest, verdicts: Verdicts, decision: RunDecision | None = None
) -> Headline:
    """Summarize how a run ended.

    Parameters
    ----------
    manifest : RunManifest
        The record of the run.
    verdicts : Verdicts
        The verdicts of its review.
    decision : RunDecision, optional
        As in ``write_run_index``.
    """
    if manifest.branches:
        return _build_branches_headline(manifest)
    for stage, entry in manifest.stages.items():
        if entry.status in _FAILED_STATUSES:
            return _build_failure_headline(stage, entry, verdicts)
    if decision is not None:
        return Headline(decision.badge, decision.css_class, _find_main_sentence(manifest))
    if manifest.status == RunStatus.WAITING_FOR_APPROVAL:
        return Headline("◆ Waiting for an approval", "watch", _find_main_sentence(manifest))
    if manifest.status != RunStatus.SUCCEEDED:
        badge = f"◆ {manifest.status.capitalize()}"
        return Headline(badge, "watch", f"The run is {manifest.status}.")
    if manifest.sample:
        return Headline("◆ Sample", "watch", _find_main_sentence(manifest))
    if not len(verdicts) or not manifest.get_stage("review").is_selected:
        return Headline("● Done", "good", _find_main_sentence(manifest))
    fitness = verdicts.fitness_label
    return Headline(fitness.text, fitness.color, _find_main_sentence(manifest))


def _build_branches_headline(manifest: RunManifest) -> Headline:
    """Summarize a run with branches: how many of them succeeded."""
    succeeded = sum(branch.status == RunStatus.SUCCEEDED for branch in manifest.branches)
    text = f"{succeeded} of {len(manifest.branches)} branches succeeded."
    if succeeded == len(manifest.branches):
        return Headline("● Done", "good", text)
    return Headline(f"▲ {manifest.status.capitalize()}", "act", text)


def _build_failure_headline(stage: str, entry: StageEntry, verdicts: Verdicts) -> Headline:
    """Summarize a run in which a stage failed; the review may have stopped it on purpose."""
    reason = _get_failure_reason(entry)
    if stage == "review" and verdicts.is_blocked:
        return Headline("▲ Not fit to serve", "act", f"The run stopped in {stage}: {reason}")
    return Headline("▲ Failed", "act", f"The run failed in {stage}: {reason}")


def _get_failure_reason(entry: StageEntry) -> str:
    """Return why a stage did not succeed."""
    return entry.error_message or "its process was killed"


def _find_main_sentence(manifest: RunManifest) -> str:
    """Return the sentence of the review, or of the last stage that has one.

    A stage that the run was not asked for has the sentence of an earlier run.
    """
    review = manifest.get_stage("review")
    if review.sentence and review.is_selected:
        return review.sentence
    for entry in reversed(manifest.stages.values()):
        if entry.sentence and entry.is_selected:
            return entry.sentence
    return "Nothing was run."


def _list_details(
    manifest: RunManifest, rest_of_headline: str, decision: RunDecision | None
) -> list[str]:
    """Return the lines below the headline: the rest of it, and what later stages did."""
    lines: list[str] = []
    if manifest.sample:
        lines.append(
            f"Made from a sample of {manifest.sample:,} rows; its model cannot be promoted."
        )
    if rest_of_headline:
        lines.append(rest_of_headline)
    for stage in _STAGES_AFTER_REVIEW:
        entry = manifest.get_stage(stage)
        if entry.status == StageStatus.WAITING_FOR_APPROVAL and decision is not None:
            lines.append(f"{stage.capitalize()}: {decision.sentence}")
        elif entry.status == StageStatus.WAITING_FOR_APPROVAL:
            lines.append(f"{stage.capitalize()}: {_get_failure_reason(entry)}")
        elif entry.sentence and entry.is_selected:
            lines.append(f"{stage.capitalize()}: {entry.sentence}")
    if manifest.approval == "automatic" and manifest.get_stage("deploy").sentence:
        lines.append("Approval is automatic: no person reviewed the model.")
    return lines


def _find_key_numbers(records: Mapping[str, Mapping[str, Any]]) -> Sequence[KeyNumber]:
    """Return the first key numbers that a stage displayed."""
    for record in records.values():
        for shown in record["shown"]:
            numbers: Sequence[KeyNumber] = shown.get("numbers") or []
            if numbers:
                return numbers
    return []


def build_branch_table(manifest: RunManifest) -> BranchTable:
    """Build a table of the branches of a run; of their numbers it has only those that differ."""
    branches = manifest.branches
    if not branches:
        return BranchTable(["status", "seconds", "error"], [])
    names: dict[str, None] = {}
    for branch in branches:
        names |= dict.fromkeys(branch.numbers)
    differing = [name for name in names if _differs_between(branches, name)]
    columns = [*branches[0].values, "status", "seconds", *differing, "error"]
    return BranchTable(columns, [_build_branch_row(branch, differing) for branch in branches])


def _differs_between(branches: Sequence[BranchResult], number: str) -> bool:
    """Return whether a number is not the same in all branches."""
    return len({branch.numbers.get(number) for branch in branches}) > 1


def _build_branch_row(branch: BranchResult, numbers: Sequence[str]) -> list[Any]:
    """Return the cells of one branch."""
    return [
        *branch.values.values(),
        str(branch.status),
        "" if branch.seconds is None else branch.seconds,
        *(branch.numbers.get(name, "") for name in numbers),
        branch.error,
    ]


def _format_branch_table(table: BranchTable) -> BranchTable:
    """Format the numbers of a table of branches for the page."""
    rows = []
    for row in table.rows:
        rows.append([f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row])
    return BranchTable(table.columns, rows)


def _list_branch_links(manifest: RunManifest) -> list[Link]:
    """Return links to the branches that were started."""
    from urllib.parse import quote

    return [
        Link(branch.name, f"branches/{quote(branch.run)}/index.html")
        for branch in manifest.branches
        if branch.run
    ]


def revive_verdict(verdict: Verdict | dict[str, Any]) -> Verdict:
    """Return a verdict of a stage's record, whether or not it was restored from JSON already."""
    if isinstance(verdict, Verdict):
        return verdict
    restored: Verdict = from_json_value(verdict)
    return restored


def _build_check_views(
    verdicts: Verdicts, verdicts_by_stage: Mapping[str, Sequence[Verdict]]
) -> list[CheckView]:
    """Build the rows of the table of checks, the most serious first."""
    stages_by_identity = {}
    for stage, stage_verdicts in verdicts_by_stage.items():
        for verdict in stage_verdicts:
            stages_by_identity[id(verdict)] = stage
    return [_build_check_view(v, stages_by_identity[id(v)]) for v in verdicts]


def _build_check_view(verdict: Verdict, stage: str) -> CheckView:
    """Build one row of the table of checks."""
    css_class = OUTCOME_COLORS[verdict.outcome]
    if verdict.outcome == CheckOutcome.FAILED and not verdict.is_blocking:
        css_class = "watch"
    return CheckView(
        mark=OUTCOME_MARKS[verdict.outcome],
        css_class=css_class,
        outcome=str(verdict.outcome),
        stage=stage,
        title=verdict.title,
        explanation=verdict.explanation,
        observed=verdict.observed or verdict.sentence,
        limit=verdict.limit,
        hint=verdict.hint,
    )


def _build_stage_view(
    run: Path,
    name: str,
    entry: StageEntry,
    record: Mapping[str, Any],
    decision: RunDecision | None,
) -> StageView:
    """Build the section of one stage; one that waits for a decision shows it once it is there."""
    mark, css_class = _STATUS_MARKS.get(entry.status, _FAILURE_MARK)
    figures = _read_figures(run, record)
    status = "" if entry.status == StageStatus.SUCCEEDED else entry.status_text
    sentence = entry.summary
    if entry.status == StageStatus.WAITING_FOR_APPROVAL and decision is not None:
        status = decision.outcome
        sentence = decision.sentence
    return StageView(
        name=name,
        status=status,
        mark=mark,
        css_class=css_class,
        question=entry.question,
        sentence=sentence,
        seconds="" if entry.seconds is None else f"{entry.seconds:.0f}",
        front_figure=figures[0] if figures else None,
        more_figures=figures[1:],
        links=_list_stage_links(run, entry, record),
    )


def _read_figures(run: Path, record: Mapping[str, Any]) -> list[FigureView]:
    """Read the figures that a stage displayed, those for the front of its section first."""
    front: list[FigureView] = []
    others: list[FigureView] = []
    for shown in record.get("shown", []):
        path = run / (shown["figure"] or "")
        if path.is_file():
            svg = path.read_text(encoding="utf-8")
            figure = FigureView(shown["title"], shown["sentence"], svg)
            (front if shown["front"] else others).append(figure)
    return front + others


def _list_stage_links(run: Path, entry: StageEntry, record: Mapping[str, Any]) -> list[Link]:
    """Return links to the files of a stage that exist: report, notebook, documents."""
    notebook = run / "notebooks" / f"{entry.notebook}.ipynb"
    candidates = [("report", notebook.with_suffix(".html")), ("notebook", notebook)]
    for artifact in record.get("artifacts", {}).values():
        if artifact["kind"] == "document":
            candidates.append((artifact["name"].replace("_", " "), run / artifact["path"]))
    return [
        Link(text, path.relative_to(run).as_posix()) for text, path in candidates if path.exists()
    ]


def _list_origin(manifest: RunManifest) -> list[tuple[str, str]]:
    """Return what a run was made from, as terms and values; unknown values are left out."""
    packages = [f"{name} {version}" for name, version in manifest.packages.items()]
    terms = {
        "note": manifest.note,
        "as of, until": _describe_cut_offs(manifest),
        "features": _describe_features(manifest),
        "seed": str(manifest.seed),
        "commit": _describe_commit(manifest),
        "MLflow run": manifest.mlflow.get("run", ""),
        "packages": ", ".join(packages),
    }
    return [(term, value) for term, value in terms.items() if value]


def _describe_cut_offs(manifest: RunManifest) -> str:
    """Return the two cut-offs of a run to the minute."""
    if not manifest.as_of:
        return "none: there is no time column"
    as_of = _format_local_time(manifest, manifest.as_of)
    return f"{as_of}, {_format_local_time(manifest, manifest.until or '')} ({manifest.timezone})"


def _describe_features(manifest: RunManifest) -> str:
    """Return size and content hash of the prepared features; empty without them."""
    features = manifest.get_stage("prepare").artifacts.get("features")
    if features is None or not features.content:
        return ""
    return f"{features.rows:,} rows, content {features.content[:_SHOWN_HASH_CHARACTERS]}"


def _describe_commit(manifest: RunManifest) -> str:
    """Return the commit of the project, and whether there were uncommitted changes."""
    git = manifest.git
    if not git.commit:
        return "the project is not under git"
    commit = git.commit[:_SHOWN_COMMIT_CHARACTERS]
    return f"{commit} with uncommitted changes" if git.dirty else commit
