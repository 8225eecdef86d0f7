"""The head of the monitoring page: the state, one sentence, the decisions, and recent activity."""

from __future__ import annotations

from datetime import timedelta

from mlops_kit.core.column_labels import label_names
from mlops_kit.core.formatting import format_number
from mlops_kit.dashboards.monitoring_context import (
    REFRESH_COMMAND,
    MonitoringContext,
    MonitoringStatus,
    list_named_columns,
)
from mlops_kit.dashboards.monitoring_data import DriftRow, MonitoredWindow
from mlops_kit.dashboards.monitoring_records import describe_pending_retraining
from mlops_kit.dashboards.operator_actions import make_operator_actions
from mlops_kit.dashboards.page_base import guard_html
from mlops_kit.dashboards.rendering import (
    Html,
    get_base_url,
    is_served,
    keep_versions_unbroken,
)
from mlops_kit.dashboards.rollback_action import make_rollback_actions
from mlops_kit.dashboards.text_formats import (
    describe_interval,
    describe_window,
    format_age,
    format_count,
    format_day,
    format_event_time,
    format_interval_in_sentence,
    format_optional,
    format_period,
    format_rounded_money,
    format_short_time,
    lowercase_first,
)
from mlops_kit.dashboards.view_models import (
    ActionView,
    Color,
    SelectOption,
    StatementView,
    StripView,
    TopLineView,
    make_column_name,
)
from mlops_kit.db.tables import RETRAINING_DUE, IncidentRecord
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stages.monitor.incidents import IncidentSeverity
from mlops_kit.stages.retrain.policy import RetrainingAction, RuleRole
from mlops_kit.stats.monitoring_tables import DriftStatus

_STATUSES = {
    MonitoringStatus.STOPPED: (Color.CRITICAL, "▲ Monitoring has stopped"),
    MonitoringStatus.CRITICAL: (Color.CRITICAL, "▲ Critical"),
    MonitoringStatus.WARNING: (Color.WARNING, "◆ Warning"),
    MonitoringStatus.HEALTHY: (Color.GOOD, "● Healthy"),
    MonitoringStatus.NO_LABELS: (Color.NEUTRAL, "○ No labels yet"),
    MonitoringStatus.NO_WINDOWS: (Color.NEUTRAL, "○ No data yet"),
}
_USUAL_DAYS = 14  # days that show how many rows are usual
_UNUSUAL_FACTOR = 0.2  # a count this much outside of the usual range stands out
_SAVINGS_PERIOD = timedelta(days=30)


def build_monitoring_head(
    context: MonitoringContext,
    title: str,
    subject: str,
) -> Html:
    """Build the head of the page, without the tabs."""
    until = format_event_time(context.data.watched_until, context.zone)
    top_line = TopLineView(
        title,
        subject,
        Html("data until {} · refreshed {} · times: {}").format(
            until, _format_refresh_time(context), context.config.timezone
        ),
        shows_visitor=is_served(),
    )
    statement = guard_html(
        "State", lambda: Html(build_monitoring_statement(context)), REFRESH_COMMAND
    )
    activity = guard_html("Activity", lambda: Html(build_activity_strip(context)), REFRESH_COMMAND)
    return Html().join([top_line, statement, activity])


def _format_refresh_time(context: MonitoringContext) -> Html | str:
    """Format when the watch made its last pass; served pages count the time since."""
    updated_at = context.data.updated_at
    if not is_served():
        return format_event_time(updated_at, context.zone)
    return Html('<time datetime="{}" data-ago>{} ago</time>').format(
        updated_at.isoformat(), format_age(updated_at)
    )


def build_monitoring_statement(context: MonitoringContext) -> StatementView:
    """Build the state, the sentence, its details and the decisions."""
    color, status = _STATUSES[context.status]
    sentence = f"{summarize_performance(context)} {describe_next_step(context)}"
    return StatementView(
        color=color,
        status=status,
        sentence=keep_versions_unbroken(sentence),
        detail=describe_monitoring_details(context),
        actions=tuple(_list_actions(context)) if is_served() else (),
    )


def summarize_performance(context: MonitoringContext) -> str:
    """Summarize in a sentence how the model in service is."""
    data = context.data
    if context.status is MonitoringStatus.STOPPED:
        last_pass = format_event_time(data.updated_at, context.zone)
        if data.liveness is not None and data.liveness.is_dead:
            seen_at = format_event_time(data.liveness.seen_at, context.zone)
            return f"The watch was last seen on {seen_at} and ended without notice."
        return f"The last pass of the watch was on {last_pass}."
    if context.status is MonitoringStatus.NO_WINDOWS and context.config.watch.window_rows:
        return "No window has all its rows yet."
    if context.status is MonitoringStatus.NO_WINDOWS:
        return "No window has ended yet."
    if context.status is MonitoringStatus.NO_LABELS:
        return f"There are no labels yet; {_describe_estimate(context)}."
    if context.is_performance_below_reference and context.realized_value is not None:
        return _describe_drop(context, context.realized_value)
    summary = "The labels do not tell yet whether performance matches its reference"
    if context.is_performance_confirmed:
        summary = "Performance matches its reference"
    incidents = _list_important_incidents(context)
    if not incidents:
        return f"{summary}."
    problem = f"{len(incidents)} incidents are open"
    if len(incidents) == 1:
        title = label_names(incidents[0].title, list_named_columns(incidents[0]))
        problem = lowercase_first(title)
    return f"{summary}, but {problem}."


def _describe_drop(context: MonitoringContext, value: float) -> str:
    """Describe a drop of the performance that the labels show."""
    window = context.data.last_labeled_window
    current = context.data.current_promotion
    version = window.version if window else ""
    if context.is_replaced and context.status is MonitoringStatus.WARNING and current is not None:
        return (
            f"Version {version} dropped below its reference performance; version "
            f"{current.version} has replaced it."
        )
    reference = format_number(context.data.get_reference(version))
    return (
        f"{context.metric.title} dropped to {format_number(value)}; the reference is {reference}."
    )


def _list_important_incidents(context: MonitoringContext) -> list[IncidentRecord]:
    """List the open incidents that nobody has acknowledged or that are critical."""
    incidents = list(context.data.unacknowledged_incidents)
    for incident in context.data.open_incidents:
        if incident.acknowledged_by and incident.severity == IncidentSeverity.CRITICAL:
            incidents.append(incident)
    return incidents


def _describe_estimate(context: MonitoringContext) -> str:
    """Describe how the estimated performance compares with its reference."""
    window = context.data.windows[-1]
    estimated = window.estimated.value
    reference = context.data.get_reference(window.version)
    max_drop = context.max_drop
    if estimated is None or reference is None or max_drop is None:
        return "the performance is not known"
    gain = context.metric.compute_gain(estimated, reference)
    if gain >= -max_drop:
        return "the estimated performance matches the reference"
    return "the estimated performance is below the reference"


def describe_next_step(context: MonitoringContext) -> str:
    """Describe what there is to do, and until when."""
    data = context.data
    if context.status is MonitoringStatus.STOPPED:
        return "Start mlops watch."
    if context.status is MonitoringStatus.NO_WINDOWS and context.config.watch.window_rows:
        return "The first one is evaluated when it has its rows."
    if context.status is MonitoringStatus.NO_WINDOWS:
        first_end = max(data.watched_from + context.config.watch.window, data.watched_until)
        return f"The first one is evaluated on {format_event_time(first_end, context.zone)}."
    next_pass = context.describe_next_pass()
    if context.status is MonitoringStatus.CRITICAL:
        pending = data.pending_retraining
        if pending is not None:
            return describe_pending_retraining(context, pending)
        current = data.current_promotion
        rollback = ""
        if current is not None and current.previous_version:
            rollback = f", or roll back to version {current.previous_version},"
        return f"Retrain{rollback} before {next_pass}."
    has_work = data.unacknowledged_incidents and not context.is_replaced
    if context.status is MonitoringStatus.WARNING and has_work:
        return f"Look into it before {next_pass}."
    return f"Nothing to do before {next_pass}."


def describe_monitoring_details(context: MonitoringContext) -> Html:
    """Describe the newest window in numbers, the cost of its drift, and what happens next."""
    data = context.data
    window = data.last_window
    if window is None:
        watch = context.config.watch
        return Html("A window is {} long. New rows are scored and labels are imported {}.").format(
            describe_window(watch), describe_interval(watch.interval)
        )
    sentences: list[Html | str] = [_describe_newest_performance(context, window)]
    if window.drift_rows:
        sentences.append(_describe_drift(context, window))
    sentences.append(_describe_retraining(context))
    return Html(" ").join([sentence for sentence in sentences if sentence])


def _describe_newest_performance(context: MonitoringContext, window: MonitoredWindow) -> str:
    """Describe the estimate of the newest window, or the newest labels, beside the reference."""
    current = context.data.current_promotion
    reference = context.data.get_reference(window.version)
    tail = format_optional(reference, lambda value: f", reference {format_number(value)}")
    metric = context.metric.title
    if window.estimated.value is not None:
        estimate = format_interval_in_sentence(window.estimated)
        period = format_period(window.start, window.end, context.zone)
        version = ""
        if current is not None and current.version != window.version:
            version = f" by version {window.version}"
        return f"Estimated {metric} {estimate}, {period}{version}{tail}."
    labeled = context.data.last_labeled_window
    if labeled is None or labeled.realized.value is None:
        return ""
    realized = format_interval_in_sentence(labeled.realized)
    period = format_period(labeled.start, labeled.end, context.zone)
    return f"Realized {metric} {realized}, {period}{tail}."


def _describe_drift(context: MonitoringContext, window: MonitoredWindow) -> Html:
    """Describe the drifted column that costs most."""
    drifted = []
    for row in window.drift_rows:
        if row.status == DriftStatus.ALERT and row.column != SCORE_COLUMN:
            drifted.append(row)
    if not drifted:
        return Html("No column has drifted.")
    costly = _choose_costliest(drifted)
    cost = "what that costs is not known"
    if costly.outside_support:
        cost = "it is outside the training support, so what that costs is not known"
    elif costly.cost is not None:
        cost = context.describe_drift_cost(costly.cost)
    return Html("<b>{}</b> has drifted from the reference; {}.").format(
        make_column_name(costly.column), cost
    )


def _choose_costliest(rows: list[DriftRow]) -> DriftRow:
    """Choose a row outside the training support, else the highest cost, else the first row."""
    for row in rows:
        if row.outside_support:
            return row
    known = [row for row in rows if row.cost is not None]
    return max(
        known,
        key=lambda row: row.cost or 0.0,
        default=rows[0],
    )


def _describe_retraining(context: MonitoringContext) -> Html | str:
    """Describe the retraining that is pending, or what prevents one."""
    pending = context.data.pending_retraining
    if pending is not None:
        if pending.status == RETRAINING_DUE:
            return "A retraining is due; the next pass of the watch starts it."
        link = Html()
        if is_served():
            link = Html(' <a href="{}review">Review it</a>.').format(get_base_url())
        return Html("{}{}").format(describe_pending_retraining(context, pending), link)
    window = context.data.last_labeled_window
    if context.status is not MonitoringStatus.CRITICAL or window is None or not window.performance:
        return ""
    decision = window.performance.decision
    if decision is None or decision.action not in (RetrainingAction.WAIT, RetrainingAction.STOP):
        return ""
    for result in decision.rule_results:
        if result.applies and result.role in (RuleRole.STOP, RuleRole.GUARD):
            return f"No retraining yet: {lowercase_first(result.sentence)}"
    return ""


def _list_actions(context: MonitoringContext) -> list[ActionView]:
    """List the decisions that can be taken: retrain, roll back, acknowledge."""
    actions = [_make_retrain_action(context)]
    actions.extend(make_rollback_actions(context.data.current_promotion))
    actions.extend(make_operator_actions(context))
    incidents = context.data.unacknowledged_incidents
    if incidents:
        options = [SelectOption(str(incident.id), incident.title) for incident in incidents]
        actions.append(
            ActionView(
                name="acknowledge",
                label="Acknowledge",
                title="Acknowledge an incident",
                text="It stays open until it is over. Others see that you know, and your reason.",
                submit_label="Acknowledge",
                is_primary=True,
                incidents=tuple(options),
            )
        )
    return actions


def _make_retrain_action(context: MonitoringContext) -> ActionView:
    """Make the decision to retrain now."""
    pending = context.data.pending_retraining
    blocked_reason = ""
    if pending is not None:
        blocked_reason = f"A retraining is already pending, decided by {pending.actor}."
    promotion = "waits for an approval"
    if context.config.approval == "automatic":
        promotion = "is promoted automatically if it passes its review"
    as_of = format_event_time(context.data.watched_until, context.zone)
    return ActionView(
        name="retrain",
        label="Retrain now …",
        title="Make a new version?",
        text=f"The pipeline runs as of {as_of}. The new version {promotion}.",
        submit_label="Retrain",
        blocked_reason=blocked_reason,
    )


def build_activity_strip(context: MonitoringContext) -> StripView:
    """Build what shows that rows and labels arrive: counts, times, and money saved."""
    data = context.data
    facts = [_describe_row_count(context)]
    last_event_time = data.get_last_event_time()
    if last_event_time:
        time = format_short_time(last_event_time, context.zone)
        facts.append(Html("newest row <b>{}</b>").format(time))
    endpoint_time = data.get_last_endpoint_time()
    if endpoint_time is not None:
        age = format_age(endpoint_time)
        facts.append(Html("<b>{}</b> since the endpoint's last prediction").format(age))
    last_labeled_time = data.get_last_labeled_time()
    if last_labeled_time:
        day = format_day(last_labeled_time, context.zone)
        facts.append(Html("labels up to <b>{}</b>").format(day))
    else:
        facts.append(Html("<b>no</b> labels yet"))
    facts.extend(_describe_savings(context))
    return StripView(tuple(facts), has_server_note=is_served())


def _describe_row_count(context: MonitoringContext) -> Html:
    """Describe how many rows were scored last, beside the usual number."""
    data = context.data
    *days_before, last_day = data.count_rows_by_day(_USUAL_DAYS + 1)
    usual_counts = [day.count for day in days_before]
    is_unusual = False
    usual = ""
    if usual_counts:
        low = min(usual_counts)
        high = max(usual_counts)
        is_low = last_day.count < low * (1 - _UNUSUAL_FACTOR)
        is_unusual = is_low or last_day.count > high * (1 + _UNUSUAL_FACTOR)
        usual = f", usually {low:,} – {high:,}"
    is_whole_day = data.watched_until.astimezone(context.zone).hour == 0
    period = "in the last 24 hours"
    if is_whole_day:
        period = f"on {format_day(last_day.start, context.zone)}"
    count = Html("<b>{:,}</b>").format(last_day.count)
    if is_unusual:
        count = Html("<b class=watch>◆ {:,}</b>").format(last_day.count)
    return Html("{} rows scored {}{}").format(count, period, usual)


def _describe_savings(context: MonitoringContext) -> list[Html]:
    """Describe the money saved in the last windows that have their labels."""
    unit = context.config.cost.unit
    windows = []
    for window in context.data.labeled_windows:
        if window.performance is not None and window.performance.saved is not None:
            windows.append(window)
    recent = [
        window
        for window in windows
        if window is windows[-1] or windows[-1].end - window.start <= _SAVINGS_PERIOD
    ]
    if not unit or not recent:
        return []
    saved = 0.0
    for window in recent:
        if window.performance is not None:
            saved += window.performance.saved or 0.0
    days = (recent[-1].end - recent[0].start).days
    amount = format_rounded_money(saved, unit)
    return [Html("<b>{}</b> saved in {}").format(amount, format_count(days, "day"))]
