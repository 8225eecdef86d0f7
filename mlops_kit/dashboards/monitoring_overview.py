"""The first tab of the monitoring page: performance, incidents, drift and retraining decisions."""

from __future__ import annotations

from datetime import datetime

from mlops_kit.core.formatting import format_number
from mlops_kit.dashboards.monitoring_charts import (
    ChartLayout,
    make_drift_row,
    make_performance_chart,
    order_columns_by_cost,
)
from mlops_kit.dashboards.monitoring_context import REFRESH_COMMAND, MonitoringContext
from mlops_kit.dashboards.monitoring_data import MonitoredWindow
from mlops_kit.dashboards.monitoring_records import (
    describe_retraining_policy,
    make_incident_row,
    make_retraining_row,
)
from mlops_kit.dashboards.page_base import CardContent, build_card
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.strip_charts import HeatMapKeyEntry, HeatMapKeyView, HeatMapView
from mlops_kit.dashboards.text_formats import describe_duration, describe_window, format_count
from mlops_kit.dashboards.vega_charts import draw_line_chart
from mlops_kit.dashboards.view_models import (
    Block,
    Color,
    DetailsView,
    FactsView,
    GridView,
    make_note,
)
from mlops_kit.db.tables import IncidentRecord
from mlops_kit.stages.monitor.incidents import IncidentSeverity

_MAX_SHOWN_INCIDENTS = 4
_MAX_SHOWN_DECISIONS = 4
_MAX_OPEN_DRIFT_ROWS = 7
_MAX_DAYS_WITH_DAY_TICKS = 45
_MAX_DAY_TICKS = 6
_SEASON_DAYS = 2 * 365.25  # a shorter history cannot tell drift from season
_WINDOW_NAMES = {"7 days": "week", "1 day": "day"}


def build_overview_tab(context: MonitoringContext) -> Html:
    """Build the first tab."""
    hint = REFRESH_COMMAND
    first_row = (
        build_card(
            "Realized vs estimated performance", lambda: _show_performance(context), hint, 8
        ),
        build_card("Open incidents", lambda: _show_open_incidents(context), hint, 4),
    )
    second_row = (
        build_card("Drift by feature", lambda: _show_drift(context), hint, 8),
        build_card("Retraining decisions", lambda: _show_retraining(context), hint, 4),
    )
    return Html().join([GridView(first_row), GridView(second_row)])


def _show_performance(context: MonitoringContext) -> CardContent:
    """Show realized and estimated performance over time, with the reference and promotions."""
    window_length = describe_window(context.config.watch)
    windows = context.data.windows
    if not windows:
        return CardContent(f"The first window has not ended; each is {window_length} long.")
    window_name = _WINDOW_NAMES.get(window_length, f"window of {window_length}")
    has_estimates = any(window.estimated.value is not None for window in windows)
    sentences = [
        f"{context.metric.title} by {window_name}. Line: realized, where labels are available."
    ]
    if has_estimates:
        sentences.append("Dashed: estimated without labels, with a 95% band.")
    sentences.append("Dotted: reference.")
    if has_estimates:
        sentences.append(
            "Realized performance that stays below the estimate is a sign of concept drift."
        )
    sentences.append(context.describe_threshold())
    charts = []
    for layout in ChartLayout:
        chart = draw_line_chart(make_performance_chart(context, layout))
        charts.append(Html("<div class={}>{}</div>").format(layout, chart))
    return CardContent(" ".join(filter(None, sentences)), tuple(charts))


def _show_open_incidents(context: MonitoringContext) -> CardContent:
    """Show the open incidents, the critical ones first, and the one that was closed last."""
    incidents = context.data.open_incidents
    blocks: list[Block] = []
    if incidents:
        rows = [make_incident_row(context, item) for item in incidents[:_MAX_SHOWN_INCIDENTS]]
        blocks.append(FactsView(tuple(rows)))
    else:
        blocks.append(make_note("None. Drift opens an incident only if it lasts and has a cost."))
    hidden = len(incidents) - _MAX_SHOWN_INCIDENTS
    if hidden > 0:
        blocks.append(make_note(f"… and {hidden} more in the tab Incidents"))
    last_closed = _choose_last_closed(context.data.closed_incidents)
    if last_closed is not None:
        blocks.append(Html("<h2>Last closed</h2>"))
        blocks.append(FactsView((make_incident_row(context, last_closed),)))
    return CardContent("", tuple(blocks))


def _choose_last_closed(incidents: list[IncidentRecord]) -> IncidentRecord | None:
    """Choose the incident that was closed last; a critical one goes first."""
    if not incidents:
        return None
    return max(
        incidents,
        key=lambda item: (item.severity == IncidentSeverity.CRITICAL, item.closed_at or ""),
    )


def _show_drift(context: MonitoringContext) -> CardContent:
    """Show drift by column and window; the columns that cost less are folded."""
    data = context.data
    if not any(window.drift_rows for window in data.windows):
        return CardContent("No window with rows to compare has ended yet.")
    metric = context.metric.title
    note = (
        "Depth: how far a column is from the reference. Color: what that is estimated to cost of "
        f"{metric}. Click a cell for the two distributions."
    )
    if (data.watched_until - data.watched_from).days < _SEASON_DAYS:
        note += " With less than two years of data, drift cannot be told from seasonality."
    columns = order_columns_by_cost(data.windows)
    rows = [make_drift_row(context, column) for column in columns]
    ticks = _make_window_ticks(context)
    open_rows = tuple(rows[:_MAX_OPEN_DRIFT_ROWS])
    blocks: list[Block] = [HeatMapView("Drift by feature and window", open_rows, ticks)]
    folded = tuple(rows[_MAX_OPEN_DRIFT_ROWS:])
    if folded:
        heat_map = HeatMapView("Drift of the other features", folded, ticks)
        summary = f"Show {format_count(len(folded), 'more column')}"
        blocks.append(DetailsView(summary, heat_map))
    blocks.append(_make_heat_map_key(context))
    return CardContent(note, tuple(blocks))


def _make_heat_map_key(context: MonitoringContext) -> HeatMapKeyView:
    """Make the key of the colors."""
    margin = format_number(context.config.review.margin)
    limit = format_number(context.max_drop)
    return HeatMapKeyView(
        (
            HeatMapKeyEntry(Color.PRIMARY, f"under {margin}: harmless"),
            HeatMapKeyEntry(Color.WARNING, f"from {margin}"),
            HeatMapKeyEntry(Color.CRITICAL, f"from {limit}"),
            HeatMapKeyEntry(Color.NEUTRAL, "not known"),
        )
    )


def _make_window_ticks(context: MonitoringContext) -> tuple[str, ...]:
    """Make the texts below the windows: some days, or each month where it begins."""
    starts = [_get_local_start(context, window) for window in context.data.windows]
    is_short = (starts[-1] - starts[0]).days < _MAX_DAYS_WITH_DAY_TICKS
    step = max(1, len(starts) // _MAX_DAY_TICKS)
    ticks = []
    for index, start in enumerate(starts):
        is_new_month = index == 0 or start.month != starts[index - 1].month
        if is_short and index % step == 0:
            ticks.append(f"{start:%-d %b}")
        elif not is_short and is_new_month:
            ticks.append(f"{start:%b}")
        else:
            ticks.append("")
    return tuple(ticks)


def _get_local_start(context: MonitoringContext, window: MonitoredWindow) -> datetime:
    return window.start.astimezone(context.zone)


def _show_retraining(context: MonitoringContext) -> CardContent:
    """Show the newest retraining decisions."""
    policy = describe_retraining_policy(context)
    records = context.data.retrainings
    if records:
        rows = [make_retraining_row(context, item) for item in records[:_MAX_SHOWN_DECISIONS]]
        return CardContent(policy, (FactsView(tuple(rows)),))
    delay = context.config.label_delay
    wait = f", {describe_duration(delay)} after its end" if delay else ""
    return CardContent(f"Decided when the labels of a window are available{wait}. {policy}")
