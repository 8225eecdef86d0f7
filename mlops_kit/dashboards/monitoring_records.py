"""How incidents and retraining decisions are shown, which several tabs do."""

from __future__ import annotations

from mlops_kit.core.column_labels import label_names_html
from mlops_kit.dashboards.monitoring_context import MonitoringContext, list_named_columns
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.stored_reviews import StoredReview
from mlops_kit.dashboards.text_formats import (
    capitalize_sentence,
    describe_duration,
    format_count,
    format_day,
    format_period,
    take_first_sentence,
)
from mlops_kit.dashboards.view_models import Color, FactRow, make_status
from mlops_kit.db.tables import (
    RETRAINING_DUE,
    RETRAINING_REJECTED,
    IncidentRecord,
    RetrainingRecord,
)
from mlops_kit.project.run_manifest import RunStatus
from mlops_kit.stages.monitor.incidents import (
    FEED_FAULT_SIGNAL,
    PROMOTION_STOP_SIGNAL,
    REINSTATEMENT_SIGNAL,
    ROLLBACK_SIGNAL,
    IncidentSeverity,
)
from mlops_kit.stages.monitor.limits import describe_max_drop
from mlops_kit.stages.retrain.policy import POLICY_ACTOR, RetrainingAction
from mlops_kit.watch.signals import ARRIVAL_SIGNALS

_SEVERITY_TEXTS = {
    IncidentSeverity.CRITICAL: "▲ critical",
    IncidentSeverity.WARNING: "◆ warning",
}
_ACTION_WORDS = {
    RetrainingAction.RETRAIN: (Color.GOOD, "yes"),
    RetrainingAction.KEEP: (Color.NONE, "no"),
    RetrainingAction.WAIT: (Color.WARNING, "not yet"),
    RetrainingAction.STOP: (Color.CRITICAL, "stop"),
}
# How the policy's reasons begin, which repeats the action.
_REASON_PREFIXES = {
    RetrainingAction.RETRAIN: "Yes: ",
    RetrainingAction.KEEP: "No: ",
    RetrainingAction.WAIT: "Not yet: ",
    RetrainingAction.STOP: "No, and stop: ",
}
_MAX_MESSAGE_CHARACTERS = 90
# Incidents that are not about windows.
_SIGNALS_WITHOUT_WINDOWS = {
    "retraining",
    FEED_FAULT_SIGNAL,
    PROMOTION_STOP_SIGNAL,
    REINSTATEMENT_SIGNAL,
    ROLLBACK_SIGNAL,
    *ARRIVAL_SIGNALS,
}


def make_severity_cell(incident: IncidentRecord) -> Html:
    """Make the cell of an incident's severity, or that it is closed."""
    if incident.closed_at is not None:
        return make_status(Color.GOOD, "● closed")
    severity = IncidentSeverity(incident.severity)
    return make_status(severity, _SEVERITY_TEXTS[severity])


def count_windows(incident: IncidentRecord) -> int | None:
    """Return in how many windows an incident was observed; None if it is not about windows."""
    return None if incident.signal in _SIGNALS_WITHOUT_WINDOWS else incident.window_count


def make_incident_row(context: MonitoringContext, incident: IncidentRecord) -> FactRow:
    """Make an incident in a few lines."""
    message = incident.message
    if len(message) >= _MAX_MESSAGE_CHARACTERS:
        first_part = message.partition("; ")[0].removesuffix(".")
        message = f"{first_part}."
    columns = list_named_columns(incident)
    title = Html(label_names_html(incident.title, columns))
    labeled_message = Html(label_names_html(message, columns))
    status = _describe_incident_status(context, incident)
    cell = Html("<b>{}</b><div class=unit>{}</div><div class=unit>{}</div>").format(
        title, labeled_message, status
    )
    return FactRow(make_severity_cell(incident), (cell,))


def _describe_incident_status(context: MonitoringContext, incident: IncidentRecord) -> str:
    """Describe since when an incident is open, and who knows; or when and why it was closed."""
    if incident.closed_at is not None:
        period = format_period(incident.opened_at, incident.closed_at, context.zone)
        return f"{period} · {incident.close_reason or 'closed'}"
    parts = [f"since {format_day(incident.opened_at, context.zone)}"]
    window_count = count_windows(incident)
    if window_count is not None:
        parts.append(format_count(window_count, "window"))
    if incident.acknowledged_by:
        parts.append(f"{incident.acknowledged_by}: {incident.acknowledge_reason}")
    else:
        parts.append("not acknowledged")
    return " · ".join(parts)


def make_action_cell(record: RetrainingRecord) -> Html:
    """Make the cell that says whether to retrain."""
    color, word = _ACTION_WORDS[RetrainingAction(record.action)]
    return make_status(color, word)


def format_retraining_reason(record: RetrainingRecord) -> str:
    """Format the reason of a retraining decision without the action, which is beside it."""
    prefix = _REASON_PREFIXES[RetrainingAction(record.action)]
    return capitalize_sentence(record.reason.removeprefix(prefix))


def make_retraining_row(context: MonitoringContext, record: RetrainingRecord) -> FactRow:
    """Make a retraining decision in a line: its first sentence, and its result."""
    text = take_first_sentence(format_retraining_reason(record))
    if record.actor != POLICY_ACTOR:
        text += f", requested by {record.actor}"
    result = describe_retraining_result(context, record)
    if result:
        text += f"; {result}"
    day = Html("<span class=day>{}</span>").format(format_day(record.as_of, context.zone))
    return FactRow(day, (make_action_cell(record), Html("{}").format(text)))


def describe_retraining_result(context: MonitoringContext, record: RetrainingRecord) -> str:
    """Describe what a retraining decision resulted in; empty if nothing."""
    if record.status == RETRAINING_DUE:
        return "the new version is being made"
    if not record.run_id:
        return ""
    review = context.data.reviews_by_run.get(record.run_id)
    is_reviewed = record.status in {
        RunStatus.WAITING_FOR_APPROVAL,
        RETRAINING_REJECTED,
        RunStatus.SUCCEEDED,
    }
    if review is None or not is_reviewed:
        return f"run {record.run_id}: {record.status}"
    if review.promotion is None and record.status != RunStatus.SUCCEEDED:
        return _describe_waiting_version(review)
    if review.is_champion:
        return f"version {review.number} is in service"
    if review.promotion is not None:
        return f"version {review.number} was promoted"
    return f"version {review.number} was made"


def _describe_waiting_version(review: StoredReview) -> str:
    """Describe what was decided about a version that has not been in service."""
    last = review.last_approval
    if review.is_approved:
        return f"version {review.number} is approved, and not in service yet"
    if last is None:
        return f"version {review.number} waits for an approval"
    if review.is_rejected:
        return f"version {review.number} was rejected by {last.actor}"
    return f"version {review.number} waits: {last.actor} requested changes"


def describe_pending_retraining(context: MonitoringContext, record: RetrainingRecord) -> str:
    """Describe in a sentence where a pending retraining is."""
    if record.status == RETRAINING_DUE:
        return "A new version is being made."
    return f"{capitalize_sentence(describe_retraining_result(context, record))}."


def describe_retraining_policy(context: MonitoringContext) -> str:
    """Describe from the settings when a new version is made."""
    config = context.config
    conditions = []
    if config.retrain.on_performance_drop:
        limit = describe_max_drop(config.monitor.max_drop)
        conditions.append(f"labels show a performance drop of more than {limit}")
    if config.retrain.on_concept_drift:
        windows = format_count(config.watch.min_drifted_windows, "window")
        conditions.append(
            f"realized performance stays below estimated performance for {windows} in a row"
        )
    if config.retrain.on_confirmed_drift:
        conditions.append("labels confirm that drift costs performance")
    if config.retrain.on_drift:
        conditions.append("a column drifts")
    if config.retrain.max_age is not None:
        conditions.append(f"the model is older than {describe_duration(config.retrain.max_age)}")
    if not conditions:
        return "Retraining is started by people only."
    return f"Retrain when {', or '.join(conditions)}."
