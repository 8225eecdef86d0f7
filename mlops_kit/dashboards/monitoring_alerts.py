"""Cards of the monitoring page about alerts, arrivals, and the watch itself."""

from __future__ import annotations

from collections import Counter

from mlops_kit.dashboards.monitoring_context import MonitoringContext
from mlops_kit.dashboards.page_base import CardContent
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.text_formats import (
    format_clock_time,
    format_count,
    format_event_time,
    format_optional,
)
from mlops_kit.dashboards.view_models import (
    Block,
    Color,
    PairsView,
    make_day_cell,
    make_optional_table,
    make_paragraph,
    make_status,
    make_titled_cell,
)
from mlops_kit.watch.alert_delivery import list_unsent_alerts
from mlops_kit.watch.alert_list import (
    AlertState,
    describe_alert_state,
    get_alert_state,
    read_alert_overview,
)
from mlops_kit.watch.liveness import WatchLiveness
from mlops_kit.watch.signals import ARRIVAL_SIGNALS

_MAX_SHOWN_ALERTS = 50
_STATE_COLORS = {
    AlertState.SENT: (Color.GOOD, "● sent"),
    AlertState.WAITING: (Color.NEUTRAL, "○ waits"),
    AlertState.FAILED: (Color.WARNING, "◆ failed"),
    AlertState.WITHHELD: (Color.NONE, "withheld"),
}


def show_alerts(context: MonitoringContext) -> CardContent:
    """Show the newest alerts and what became of them, and what is muted."""
    overview = read_alert_overview(context.project, _MAX_SHOWN_ALERTS)
    sinks = context.config.alerts.sinks
    if not sinks and not overview.alerts:
        return CardContent("Nobody is told of incidents: alerts.sinks in mlops.yaml is empty.")
    counts = Counter(get_alert_state(alert) for alert in overview.alerts)
    waiting = counts[AlertState.WAITING] + counts[AlertState.FAILED]
    note = (
        f"Sinks: {', '.join(sinks) or 'none'}. Of the newest "
        f"{format_count(len(overview.alerts), 'alert')}: {counts[AlertState.SENT]} sent, "
        f"{waiting} waiting, {counts[AlertState.WITHHELD]} muted or withheld."
    )
    blocks: list[Block] = [*_describe_unsent_alerts(context)]
    for mute in overview.mutes:
        end = format_clock_time(mute.muted_until, context.zone)
        signal = mute.signal or "all signals"
        blocks.append(
            make_paragraph(f"○ Muted until {end}: {signal}, by {mute.actor}: {mute.reason}")
        )
    rows = []
    for alert in overview.alerts:
        color, word = _STATE_COLORS[get_alert_state(alert)]
        rows.append(
            (
                make_status(color, word),
                make_titled_cell(alert.title, alert.message),
                alert.event,
                alert.sink,
                make_day_cell(format_event_time(alert.created_at, context.zone)),
                describe_alert_state(alert),
            )
        )
    headings = ("Status", "Alert", "Event", "Sink", "Time", "Delivery")
    return CardContent(note, (*blocks, *make_optional_table(headings, rows, label="Alerts")))


def _describe_unsent_alerts(context: MonitoringContext) -> tuple[Html, ...]:
    """Say which alert sinks do not have all alerts, and why."""
    unsent = list_unsent_alerts(context.project)
    paragraphs = []
    for sink in dict.fromkeys(alert.sink for alert in unsent):
        waiting = [alert for alert in unsent if alert.sink == sink]
        reason = waiting[0].error or "the watch sends them when they are due"
        text = f"◆ {format_count(len(waiting), 'alert')} not sent to {sink!r} yet: {reason}"
        paragraphs.append(make_paragraph(make_status(Color.WARNING, text)))
    return tuple(paragraphs)


def show_arrivals(context: MonitoringContext) -> CardContent:
    """Show whether rows and labels arrive as they usually do on this weekday."""
    data = context.data
    problems = [item for item in data.open_incidents if item.signal in ARRIVAL_SIGNALS]
    blocks: list[Block] = []
    for incident in problems:
        text = f"◆ {incident.title}: {incident.message}"
        blocks.append(make_paragraph(make_status(Color.WARNING, text)))
    newest_row = data.get_last_event_time()
    newest_label = data.get_last_labeled_time()
    pairs: tuple[tuple[str, object], ...] = (
        ("newest row", format_event_time(newest_row, context.zone) if newest_row else "none"),
        (
            "newest row with a label",
            format_event_time(newest_label, context.zone) if newest_label else "none",
        ),
    )
    blocks.append(PairsView(pairs))
    note = "Compared with the same time of the same weekday in the weeks before; needs two weeks."
    if not problems:
        note = f"Nothing unusual. {note}"
    return CardContent(note, tuple(blocks))


def show_watch(context: MonitoringContext) -> CardContent:
    """Show whether the watch runs, where, and when it was last seen."""
    liveness = context.data.liveness
    if liveness is None:
        return CardContent("The watch has not been seen yet.")
    last_pass = format_optional(
        liveness.pass_ended_at or None, lambda time: format_clock_time(time, context.zone)
    )
    pairs: list[tuple[str, object]] = [
        ("state", _make_watch_state(liveness)),
        ("last seen", format_clock_time(liveness.seen_at, context.zone)),
        ("last pass", last_pass),
        ("where", f"{liveness.host}, process {liveness.process_id}"),
    ]
    if liveness.pass_error:
        pairs.append(("error", liveness.pass_error))
    note = "watch.heartbeat_url lets another service notice when the watch stops."
    if context.config.watch.heartbeat_url:
        note = "Another service is called after each pass (watch.heartbeat_url)."
    return CardContent(note, (PairsView(tuple(pairs)),))


def _make_watch_state(liveness: WatchLiveness) -> Html:
    if liveness.is_running and not liveness.is_responding:
        return make_status(Color.WARNING, "◆ not responding")
    if liveness.is_running:
        return make_status(Color.GOOD, "● running")
    if liveness.is_dead:
        return make_status(Color.CRITICAL, "▲ died without ending")
    return make_status(Color.NEUTRAL, "○ not running")
