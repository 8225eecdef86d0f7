"""The further tabs of the monitoring page: the evidence behind the first one."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from mlops_kit.core.column_labels import label_names_html
from mlops_kit.core.formatting import format_money, format_number, format_percent
from mlops_kit.dashboards.check_tables import make_check_table, make_outcome_cell
from mlops_kit.dashboards.monitoring_alerts import show_alerts, show_arrivals, show_watch
from mlops_kit.dashboards.monitoring_charts import make_volume_chart
from mlops_kit.dashboards.monitoring_context import (
    REFRESH_COMMAND,
    MonitoringContext,
    list_named_columns,
)
from mlops_kit.dashboards.monitoring_data import (
    ENDPOINT_ORIGIN,
    MAX_DELAY_LABELS,
    REQUEST_DAYS,
    MonitoredWindow,
)
from mlops_kit.dashboards.monitoring_drift import format_share, show_drift, show_slices
from mlops_kit.dashboards.monitoring_records import (
    count_windows,
    describe_retraining_policy,
    describe_retraining_result,
    format_retraining_reason,
    make_action_cell,
    make_severity_cell,
)
from mlops_kit.dashboards.operator_actions import (
    show_operator_decisions,
    show_predecessor_comparisons,
)
from mlops_kit.dashboards.page_base import CardContent, build_card
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.text_formats import (
    describe_duration,
    describe_listing,
    format_clock_time,
    format_count,
    format_day,
    format_event_time,
    format_interval_cell,
    format_optional,
    format_period,
    format_rounded_money,
    get_metric_title,
)
from mlops_kit.dashboards.vega_charts import draw_bar_chart
from mlops_kit.dashboards.view_models import (
    Color,
    GridView,
    PairsView,
    make_column_name,
    make_day_cell,
    make_optional_table,
    make_paragraph,
    make_status,
    make_table,
    make_titled_cell,
)
from mlops_kit.db.tables import LabelOutcome, RetrainingRecord
from mlops_kit.stages.retrain.policy import POLICY_ACTOR
from mlops_kit.watch.records import WindowPerformance

_MAX_VOLUME_DAYS = 60
_MAX_SCHEMA_WINDOWS = 60
_SCHEMA_CHECK = "schema"


def build_performance_tab(context: MonitoringContext) -> Html:
    """Build the tab: metrics, estimate, reference and cost of every window."""
    card = build_card("Performance by window", lambda: _show_performance(context), REFRESH_COMMAND)
    return Html(GridView((card,)))


def _show_performance(context: MonitoringContext) -> CardContent:
    """Show every window, the newest first."""
    windows = context.data.windows
    row_name = context.config.row_name
    metrics = _list_realized_metrics(context.data.labeled_windows)
    has_costs = any(
        window.performance is not None and window.performance.cost is not None for window in windows
    )
    has_cost_estimates = any(window.monitoring.estimated_cost is not None for window in windows)
    headings = ["Window", "Version", "Rows", "Labeled", *metrics.values()]
    headings += ["Estimated", "Reference"]
    if has_cost_estimates:
        headings.append(f"Estimated cost per {row_name}")
    if has_costs:
        headings += [f"Cost per {row_name}", "Saved"]
    headings.append("Below the estimate")
    rows = []
    for window in reversed(windows):
        rows.append(_make_performance_row(context, window, metrics, has_costs, has_cost_estimates))
    resampled = "groups" if context.config.validation.group else "days"
    listing = describe_listing(len(windows), "window", "the newest first")
    note = f"{listing} The intervals are 95% intervals from resampling whole {resampled}."
    if has_costs:
        note += f" Saved: compared with flagging every {row_name} or none, whichever is cheaper."
    threshold_sentence = context.describe_threshold()
    if threshold_sentence:
        note += f" {threshold_sentence}"
    number_columns = range(2, len(headings) - 1)
    table = make_optional_table(headings, rows, number_columns, "Performance by window")
    return CardContent(note, table)


def _list_realized_metrics(windows: Iterable[MonitoredWindow]) -> dict[str, str]:
    """List the metrics that any window has, with their titles."""
    titles = {}
    for window in windows:
        for metric in window.realized_rows:
            titles[metric] = get_metric_title(metric)
    return titles


def _make_performance_row(
    context: MonitoringContext,
    window: MonitoredWindow,
    metrics: Iterable[str],
    has_costs: bool,
    has_cost_estimates: bool,
) -> list[object]:
    """Make the row of a window."""
    unit = context.config.cost.unit
    reference = context.data.get_reference(window.version)
    performance = window.performance
    row: list[object] = [
        make_day_cell(format_period(window.start, window.end, context.zone)),
        window.version,
        f"{window.monitoring.rows:,}",
        "not due" if performance is None else f"{performance.labeled_rows:,}",
    ]
    for metric in metrics:
        row.append(format_interval_cell(window.get_realized(metric)))
    row.append(format_interval_cell(window.estimated))
    row.append(format_optional(reference, format_number))
    if has_cost_estimates:
        cost = window.monitoring.estimated_cost
        row.append("" if cost is None else format_interval_cell(cost))
    if has_costs:
        row.extend(_make_cost_cells(performance, unit))
    row.append(_make_below_estimate_cell(performance))
    return row


def _make_cost_cells(performance: WindowPerformance | None, unit: str) -> tuple[str, str]:
    """Make the cells of a window's cost per row and of its saving."""
    if performance is None:
        return "", ""
    cost = format_optional(performance.cost, partial(format_money, unit=unit))
    saved = format_optional(performance.saved, partial(format_rounded_money, unit=unit))
    return cost, saved


def _make_below_estimate_cell(performance: WindowPerformance | None) -> Html | str:
    """Make the cell that says whether realized performance is below the estimate."""
    if performance is None:
        return ""
    if performance.is_below_estimate:
        return make_status(Color.WARNING, "◆ yes")
    return "no"


def build_drift_tab(context: MonitoringContext) -> Html:
    """Build the tab: the checks of the newest window, and its drift by column."""
    cards = []
    if context.data.last_window is not None:
        cards.append(build_card("Checks", lambda: _show_checks(context), REFRESH_COMMAND))
    cards.append(build_card("Drift by feature", lambda: show_drift(context), REFRESH_COMMAND))
    if context.data.last_window is not None and context.data.last_window.monitoring.slices:
        cards.append(build_card("Drift by slice", lambda: show_slices(context), REFRESH_COMMAND))
    return Html(GridView(tuple(cards)))


def _show_checks(context: MonitoringContext) -> CardContent:
    window = context.data.windows[-1]
    period = format_period(window.start, window.end, context.zone)
    counts = window.verdicts.describe_counts(f"the window {period}")
    return CardContent(counts, make_check_table(window.verdicts))


def build_data_tab(context: MonitoringContext) -> Html:
    """Build the tab: rows by day, missing values, the schema and the data contract."""
    hint = REFRESH_COMMAND
    cards = (
        build_card("Prediction volume", lambda: _show_volume(context), hint),
        build_card("Arrivals", lambda: show_arrivals(context), hint),
        build_card("Missing values", lambda: _show_missing_values(context), hint, 6),
        build_card("Schema", lambda: _show_schema(context), hint, 6),
        build_card("Data contract", lambda: _show_contract(context), hint),
    )
    return Html(GridView(cards))


def _show_volume(context: MonitoringContext) -> CardContent:
    """Show the scored rows by day beside the usual range."""
    chart = make_volume_chart(context, _MAX_VOLUME_DAYS)
    low, high = chart.usual_range
    until = format_event_time(context.data.watched_until, context.zone)
    note = (
        f"Scored rows in the last {format_count(len(chart.bars), 'day')} until {until}. "
        f"Shaded: the range of eight days in ten, {low:,} – {high:,}."
    )
    return CardContent(note, (draw_bar_chart(chart),))


def _show_missing_values(context: MonitoringContext) -> CardContent:
    """Show the columns with missing values, those that increased most first."""
    window = context.data.last_window
    if window is None:
        return CardContent("No window has ended yet.")
    limit = context.config.monitor.max_missing_increase
    changes = []
    for row in window.drift_rows:
        current = row.missing_current or 0.0
        reference = row.missing_reference or 0.0
        if current or reference:
            changes.append((current - reference, row))
    changes.sort(
        key=lambda change: change[0],
        reverse=True,
    )
    period = format_period(window.start, window.end, context.zone)
    note = (
        f"Share of values that are missing, {period}. Marked from an increase of "
        f"{format_percent(limit)}."
    )
    if not changes:
        return CardContent(note, (make_paragraph("None."),))
    rows = []
    for increase, row in changes:
        mark = make_status(Color.WARNING, "◆ more") if increase > limit else ""
        reference_share = format_share(row.missing_reference)
        name = make_column_name(row.column)
        rows.append((name, reference_share, format_share(row.missing_current), mark))
    headings = ("Column", "Reference", "Now", "")
    return CardContent(note, (make_table(headings, rows, [1, 2], "Missing values"),))


def _show_schema(context: MonitoringContext) -> CardContent:
    """Show whether the columns of each window are those of the reference."""
    rows = []
    for window in list(reversed(context.data.windows))[:_MAX_SCHEMA_WINDOWS]:
        verdict = window.find_verdict(_SCHEMA_CHECK)
        if verdict is not None:
            period = make_day_cell(format_period(window.start, window.end, context.zone))
            rows.append((period, make_outcome_cell(verdict), verdict.sentence))
    table = make_optional_table(("Window", "Result", "Observed"), rows, label="Schema")
    return CardContent("Compared with the columns of the held-out set.", table)


def _show_contract(context: MonitoringContext) -> CardContent:
    """Show what the data contract rejected in each window, or accepted although it is new."""
    rows = []
    for window in list(reversed(context.data.windows))[:_MAX_SCHEMA_WINDOWS]:
        monitoring = window.monitoring
        if monitoring.contract_sentence:
            period = make_day_cell(format_period(window.start, window.end, context.zone))
            count = format_number(monitoring.rejected_rows)
            rows.append((period, count, monitoring.contract_sentence))
    note = "Rows that the data contract rejects have no score; new values that it accepts do."
    if not rows:
        return CardContent(f"{note} There were none.")
    headings = ("Window", "Rejected rows", "Observed")
    return CardContent(note, (make_table(headings, rows, [1], "Data contract"),))


def build_incidents_tab(context: MonitoringContext) -> Html:
    """Build the tab of all incidents, and who was told of them."""
    cards = (
        build_card("Incidents", lambda: _show_incidents(context), REFRESH_COMMAND),
        build_card("Alerts", lambda: show_alerts(context), REFRESH_COMMAND),
    )
    return Html(GridView(cards))


def _show_incidents(context: MonitoringContext) -> CardContent:
    """Show all incidents: the open ones, then the closed ones."""
    zone = context.zone
    incidents = [*context.data.open_incidents, *context.data.closed_incidents]
    rows = []
    for incident in incidents:
        columns = list_named_columns(incident)
        closed = ""
        if incident.closed_at is not None:
            closed = make_day_cell(format_day(incident.closed_at, zone))
        acknowledged = "no"
        if incident.acknowledged_by and incident.acknowledged_at:
            time = format_clock_time(incident.acknowledged_at, zone)
            acknowledged = f"{incident.acknowledged_by}, {time}: {incident.acknowledge_reason}"
        rows.append(
            (
                make_severity_cell(incident),
                make_titled_cell(
                    Html(label_names_html(incident.title, columns)),
                    Html(label_names_html(incident.message, columns)),
                ),
                make_day_cell(format_day(incident.opened_at, zone)),
                closed,
                format_optional(count_windows(incident), str),
                acknowledged,
                incident.close_reason,
            )
        )
    headings = ("Status", "Incident", "From", "To", "Windows", "Acknowledged", "Closed because")
    listing = describe_listing(len(incidents), "incident", "open ones first")
    note = f"{listing} An incident stays open while it lasts."
    table = make_optional_table(headings, rows, [4], "Incidents")
    return CardContent(note, table)


def build_retraining_tab(context: MonitoringContext) -> Html:
    """Build the tab of all retraining decisions."""
    card = build_card("Retraining decisions", lambda: _show_retraining(context), REFRESH_COMMAND)
    return Html(GridView((card,)))


def _show_retraining(context: MonitoringContext) -> CardContent:
    """Show all retraining decisions with the whole reason, the newest first."""
    policy = context.config.retrain
    rows = []
    for record in context.data.retrainings:
        actor = record.actor
        if actor != POLICY_ACTOR:
            actor = f"{actor}, {format_clock_time(record.decided_at, context.zone)}"
        rows.append(
            (
                make_day_cell(format_event_time(record.as_of, context.zone)),
                make_action_cell(record),
                format_retraining_reason(record),
                actor,
                _make_result_cell(context, record),
            )
        )
    headings = ("As of", "Retrain?", "Reason", "Decided by", "Result")
    note = (
        f"{describe_retraining_policy(context)} It takes at least {policy.min_labels:,} new "
        f"labels, and {describe_duration(policy.cooldown)} since the last retraining. The newest "
        "first."
    )
    return CardContent(note, make_optional_table(headings, rows, label="Retraining decisions"))


def _make_result_cell(context: MonitoringContext, record: RetrainingRecord) -> Html:
    """Make the result of a retraining decision, with a link to its run."""
    result = describe_retraining_result(context, record)
    index = context.project.reports_folder / record.run_id / "index.html"
    if not record.run_id or not index.exists():
        return Html("{}").format(result)
    return Html("{} ({})").format(result, context.make_link(index, record.run_id))


def build_service_tab(context: MonitoringContext) -> Html:
    """Build the tab: promotions, labels and requests."""
    hint = REFRESH_COMMAND
    cards = (
        build_card("Promotions", lambda: _show_promotions(context), hint, 7),
        build_card("Labels", lambda: _show_labels(context), hint, 5),
        build_card("Champion vs predecessor", lambda: show_predecessor_comparisons(context), hint),
        build_card("Decisions of operators", lambda: show_operator_decisions(context), hint),
        build_card("Predictions by origin", lambda: _show_requests(context), hint, 7),
        build_card("Watch", lambda: show_watch(context), hint, 5),
    )
    return Html(GridView(cards))


def _show_promotions(context: MonitoringContext) -> CardContent:
    """Show which versions were in service."""
    format_time = partial(format_event_time, zone=context.zone)
    rows = []
    for record in context.data.promotions:
        time = context.data.locate_promotion(record)
        since = format_optional(time, format_time)
        rows.append(
            (
                make_day_cell(since),
                record.version,
                record.previous_version or "",
                record.actor,
                record.reason,
                format_clock_time(record.promoted_at, context.zone),
            )
        )
    headings = ("From", "Version", "Previous", "By", "Reason", "Recorded")
    note = (
        "From: in a replay of the past, the time as of which the version was made. Recorded: the "
        "time of the clock."
    )
    return CardContent(note, make_optional_table(headings, rows, label="Promotions"))


def _show_labels(context: MonitoringContext) -> CardContent:
    """Show the label messages by outcome, and the delay of the labels."""
    counts = context.data.label_counts
    rows: list[tuple[str, object]] = []
    for outcome in LabelOutcome:
        rows.append((str(outcome), f"{counts.get(outcome, 0):,}"))
    delays = context.data.list_label_delays()
    if delays:
        rows.append(("median delay", f"{delays[len(delays) // 2]:.1f} days"))
        rows.append(("90% within", f"{delays[len(delays) * 9 // 10]:.1f} days"))
    note = (
        f"All label messages by outcome; the delay is that of the newest {MAX_DELAY_LABELS:,} at "
        "most. Unknown: there is no such prediction; refused: not a value of "
        f"{context.config.target}."
    )
    return CardContent(note, (PairsView(tuple(rows)),))


def _show_requests(context: MonitoringContext) -> CardContent:
    """Show by whom which version was asked for predictions."""
    rows = []
    for request in context.data.count_requests():
        origin = "endpoint" if request.origin == ENDPOINT_ORIGIN else "watch"
        last = format_event_time(request.last_scored_at, context.zone)
        rows.append((origin, request.version, f"{request.count:,}", last))
    until = format_event_time(context.data.watched_until, context.zone)
    headings = ("Origin", "Version", "Predictions", "Last")
    table = make_optional_table(headings, rows, [2], "Predictions by origin")
    return CardContent(f"In the last {REQUEST_DAYS} days until {until}.", table)
