"""The head of the review page: the state of the version, one sentence, and the decisions."""

from __future__ import annotations

import json
from dataclasses import asdict
from zoneinfo import ZoneInfo

from mlops_kit.core.formatting import UNKNOWN_TEXT, format_money
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdicts
from mlops_kit.dashboards.page_base import guard_html
from mlops_kit.dashboards.rendering import Html, is_served, keep_versions_unbroken
from mlops_kit.dashboards.review_context import ReviewContext
from mlops_kit.dashboards.rollback_action import make_rollback_actions
from mlops_kit.dashboards.stored_reviews import (
    COST_METRIC,
    RERUN_REVIEW_COMMAND,
    DifferenceRow,
    StoredReview,
)
from mlops_kit.dashboards.text_formats import (
    choose_verb,
    format_clock_time,
    format_count,
    lowercase_first,
    take_first_sentence,
)
from mlops_kit.dashboards.view_models import (
    ActionView,
    ChooserView,
    Color,
    SelectOption,
    SelectView,
    StatementView,
    TopLineView,
)
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review.champion_comparison import DifferenceOutcome
from mlops_kit.stages.review.stored_tables import PRECISION_KEY

_APPROVAL_STATES = {
    ApprovalOutcome.REJECTED: (Color.CRITICAL, "▲ Rejected"),
    ApprovalOutcome.CHANGES_REQUESTED: (Color.WARNING, "◆ Changes requested"),
}
_SHORT_FITNESS_TEXTS = {Color.WARNING: "◆ Fit, with reservations"}  # the others are short
_APPROVAL_CLAUSES = {
    ApprovalOutcome.REJECTED: ", but {} rejected it.",
    ApprovalOutcome.CHANGES_REQUESTED: ", but {} requested changes.",
    ApprovalOutcome.APPROVED: ", and {} approved it.",
}
_METRIC_COMPARISONS = {
    DifferenceOutcome.BETTER: "is better than",
    DifferenceOutcome.NO_WORSE: "is no worse than",
    DifferenceOutcome.WORSE: "is worse than",
    DifferenceOutcome.CANNOT_TELL: "cannot be told apart yet from",
}


def build_review_head(context: ReviewContext, title: str, subject: str) -> Html:
    """Build the head of the page, without the tabs."""
    review = context.review
    zone = ZoneInfo(context.config.timezone)
    started = review.manifest.get_stage("review").started or review.manifest.started
    top_line = TopLineView(
        title,
        Html("{} · {}").format(subject, _build_version_choice(context)),
        f"reviewed {format_clock_time(started, zone)} · times: {context.config.timezone}",
        shows_visitor=is_served(),
    )
    statement = guard_html(
        "Verdict", lambda: Html(build_review_statement(context)), RERUN_REVIEW_COMMAND
    )
    return Html().join([top_line, statement])


def build_review_statement(context: ReviewContext) -> StatementView:
    """Build the state, the sentence, its details and the decisions."""
    color, status = describe_review_status(context.review)
    return StatementView(
        color=color,
        status=status,
        sentence=keep_versions_unbroken(summarize_review(context)),
        detail=describe_review_details(context),
        actions=tuple(_list_actions(context)) if is_served() else (),
    )


def describe_review_status(review: StoredReview) -> tuple[str, str]:
    """Describe the state of a version: a color, and a shape with words."""
    if review.is_champion:
        return Color.GOOD, "● In service"
    if review.sample_rows:
        return Color.WARNING, "◆ Sample"
    if review.promotion is not None and review.is_rolled_back:
        return Color.WARNING, "◆ Rolled back"
    if review.promotion is not None:
        return Color.NEUTRAL, "○ Previously in service"
    last = review.last_approval
    if last is not None and last.outcome == ApprovalOutcome.APPROVED:
        return _describe_approved_status(review)
    if last is not None:
        return _APPROVAL_STATES[ApprovalOutcome(last.outcome)]
    color, text = review.verdicts.fitness_label
    return color, _SHORT_FITNESS_TEXTS.get(Color(color), text)


def _describe_approved_status(review: StoredReview) -> tuple[str, str]:
    """Describe an approved version that is not in service: its run has to put it there."""
    if review.manifest.is_running:
        return Color.WARNING, "◆ Approved, being deployed"
    if review.is_waiting:
        return Color.WARNING, "◆ Approved, not in service yet"
    return Color.CRITICAL, "▲ Approved, not deployed"


def summarize_review(context: ReviewContext) -> str:
    """Summarize how the version compares in what matters most, and what stands against it.

    Without a comparison: what the version does on its own.
    """
    review = context.review
    differences = review.differences if context.is_compared else []
    if differences:
        row = _choose_main_difference(differences)
        comparison = describe_difference(
            row, review.number, review.champion_version, context.config
        )
    else:
        sentence = take_first_sentence(review.key_numbers.sentence)
        comparison = f"Version {review.number}: {lowercase_first(sentence)}"
    return f"{comparison}{_describe_obstacle(review)}"


def _choose_main_difference(differences: list[DifferenceRow]) -> DifferenceRow:
    """Choose the difference that matters most: the cost, else the first."""
    for row in differences:
        if row.metric == COST_METRIC:
            return row
    return differences[0]


def describe_difference(
    row: DifferenceRow, version: str, champion: str, config: ProjectConfig
) -> str:
    """Describe how a version compares with the champion in one metric."""
    outcome = DifferenceOutcome(row.verdict)
    if row.metric != COST_METRIC:
        comparison = _METRIC_COMPARISONS[outcome]
        return f"Version {version} {comparison} version {champion} in {row.title} ({row.text})"
    difference = row.difference or 0.0
    amount = format_money(abs(difference), config.cost.unit)
    change = f"{amount} {'less' if difference > 0 else 'more'} per {config.row_name}"
    if outcome is DifferenceOutcome.NO_WORSE:
        return f"Errors cost about as much with version {version} as with version {champion}"
    if outcome is DifferenceOutcome.CANNOT_TELL:
        return (
            f"It cannot be told yet whether errors cost more with version {version} than with "
            f"version {champion} ({change})"
        )
    return f"Errors cost {change} with version {version} than with version {champion}"


def _describe_obstacle(review: StoredReview) -> str:
    """Describe what stands against a version, or what was decided about it."""
    blocking = review.blocking_verdict
    if blocking is not None:
        return f", but the check “{blocking.title}” fails and blocks it."
    if review.sample_rows:
        return (
            f", but it was trained on a sample of {review.sample_rows:,} rows and cannot be "
            "promoted."
        )
    last = review.last_approval
    if review.promotion is not None or last is None:
        reservations = review.verdicts.reservations
        if not reservations:
            return ", and no check blocks it."
        return f". No check blocks it, with reservations: {reservations[0].sentence}"
    return _APPROVAL_CLAUSES[ApprovalOutcome(last.outcome)].format(last.actor)


def explain_blocked_approval(review: StoredReview) -> str:
    """Explain why a version cannot be approved, whoever asks; empty if it can."""
    blocking = review.blocking_verdict
    if blocking is not None:
        return f"A check blocks it: {blocking.sentence}"
    if review.sample_rows:
        return "A version that was trained on a sample is never promoted."
    if review.is_approved:
        return "It is approved already; its run puts it in service."
    if not review.is_waiting:
        return f"Its run does not wait for a decision; its status is: {review.manifest.status}."
    return ""


def describe_review_details(context: ReviewContext) -> str:
    """Describe what else one should know before deciding, and what approving does."""
    review = context.review
    sentences = [
        _describe_flagged_rows(context),
        describe_reservations(review.verdicts),
        _describe_last_decision(context),
    ]
    is_undecided = review.promotion is None and not review.is_rejected
    if is_served() and is_undecided and not explain_blocked_approval(review):
        current = context.current_promotion
        rollback = ""
        if current is not None:
            rollback = f" and keeps version {current.version} for a rollback"
        sentences.append(f"Approving it puts it in service at once{rollback}.")
    return " ".join(sentence for sentence in sentences if sentence)


def _describe_last_decision(context: ReviewContext) -> str:
    """Describe since when the version is in service, until when it was, or the last decision."""
    zone = ZoneInfo(context.config.timezone)
    review = context.review
    current = context.current_promotion
    if review.is_champion and current is not None:
        time = format_clock_time(current.promoted_at, zone)
        reason = current.reason.removesuffix(".")
        if review.was_reinstated:
            return f"In service again since {time}, by {current.actor}: {reason}."
        return f"In service since {time}, promoted by {current.actor}: {reason}."
    successor = review.successor
    if successor is not None:
        time = format_clock_time(successor.promoted_at, zone)
        return (
            f"In service until {time}, when version {successor.version} replaced it "
            f"({successor.actor}: {successor.reason.removesuffix('.')})."
        )
    last = review.last_approval
    if last is None:
        return _describe_ended_run(review)
    decision = f"{last.actor}, {format_clock_time(last.decided_at, zone)}: “{last.reason}”."
    return f"{decision} {_describe_deployment(review)}".rstrip()


def _describe_ended_run(review: StoredReview) -> str:
    """Describe how a run ended that does not wait for a decision; empty if it waits or goes on."""
    if review.is_waiting or review.manifest.is_running or review.sample_rows:
        return ""
    return f"Its run does not wait for a decision; its status is: {review.manifest.status}."


def _describe_deployment(review: StoredReview) -> str:
    """Describe when an approved version is put in service; empty for another version."""
    run = review.run.name
    if not review.is_approved:
        return ""
    if review.manifest.is_running:
        return f"Run {run} is putting it in service."
    if review.is_waiting:
        return f"It is put in service when run {run} continues."
    return f"Run {run} is {review.manifest.status} and has not put it in service."


def _describe_flagged_rows(context: ReviewContext) -> str:
    """Describe the precision of the flagged rows, beside the champion's."""
    config = context.config
    number = context.review.find_key_number(PRECISION_KEY)
    if number is None or number.value == UNKNOWN_TEXT:
        return ""
    beside = ""
    if number.champion_value:
        beside = f" (version {context.review.champion_version}: {number.champion_value})"
    return f"Of the {config.row_name}s that it flags, {number.value} are {context.event}{beside}."


def describe_reservations(verdicts: Verdicts) -> str:
    """Describe the checks that fail without blocking, and those that cannot tell."""
    warnings = 0
    for verdict in verdicts:
        is_warning = verdict.severity is CheckSeverity.WARNS
        warnings += verdict.outcome is CheckOutcome.FAILED and is_warning
    undecided = verdicts.count_outcome(CheckOutcome.CANNOT_TELL)
    parts = []
    if warnings:
        verb = choose_verb(warnings, "fails", "fail")
        parts.append(f"{format_count(warnings, 'check')} {verb} without blocking it")
    if undecided:
        parts.append(f"{format_count(undecided, 'check')} cannot tell yet")
    return f"{' and '.join(parts)}." if parts else ""


def _build_version_choice(context: ReviewContext) -> Html | str:
    """Build two lists to choose any two versions from; in a file, the version's name."""
    number = context.review.number
    if len(context.reviews) < 2 or not is_served():
        return f"version {number}"
    other = context.other.number if context.other else ""
    versions = [review.number for review in context.reviews]
    version_options = [SelectOption(v, v, v == number) for v in versions]
    other_options = [SelectOption("", "none", not other)]
    for version in versions:
        if version != number:
            other_options.append(SelectOption(version, version, version == other))
    selects = (
        SelectView("version", "version", tuple(version_options)),
        SelectView("against", "vs", tuple(other_options)),
    )
    return Html(ChooserView(selects, is_submitted=True))


def _list_actions(context: ReviewContext) -> list[ActionView]:
    """List the decisions that can be taken on the version."""
    review = context.review
    if review.is_champion:
        return make_rollback_actions(context.current_promotion)
    if review.promotion is not None or review.sample_rows or review.manifest.is_running:
        return []
    number = review.number
    payload = json.dumps(asdict(review.shown_facts))
    current = context.current_promotion
    kept = ""
    blocked_reason = explain_blocked_approval(review)
    stays = "no version is in service"
    if current is not None:
        stays = f"version {current.version} stays in service"
        kept = f" Version {current.version} is kept for a rollback."
    return [
        ActionView(
            name="ask",
            label="Request changes",
            title=f"Request changes to version {number}?",
            text="It is not promoted; its author reads what you write here.",
            submit_label="Request changes",
            payload=payload,
        ),
        ActionView(
            name="reject",
            label="Reject",
            title=f"Reject version {number}?",
            text=f"It is not promoted; {stays}.",
            submit_label="Reject",
            payload=payload,
        ),
        ActionView(
            name="approve",
            label="Approve …",
            title=f"Approve version {number}?",
            text=blocked_reason or f"It is put in service at once.{kept}",
            submit_label="Approve",
            payload=payload,
            blocked_reason=blocked_reason,
            is_primary=True,
        ),
    ]
