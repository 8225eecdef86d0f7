"""The alerts and what became of them, for ``mlops alerts list`` and the monitoring page."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

import sqlalchemy as sa

from mlops_kit.core.formatting import align_columns
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import AlertMuteRecord, AlertRecord, IncidentRecord
from mlops_kit.project.loader import Project
from mlops_kit.stages.monitor.incidents import IncidentSeverity
from mlops_kit.watch.alert_queue import format_utc_time, list_active_mutes
from mlops_kit.watch.signals import get_public_name
from mlops_kit.watch.status import format_local_time

_COLUMNS = ("alert", "incident", "time", "sink", "event", "signal", "severity", "title", "state")
_JSON_FIELDS = (
    "id",
    "incident_id",
    "sink",
    "event",
    "signal",
    "severity",
    "title",
    "message",
    "created_at",
    "due_at",
    "sent_at",
    "attempts",
    "error",
    "withheld",
)


class AlertOverview(NamedTuple):
    """The newest alerts, the open incidents, and the mutes that have not ended."""

    alerts: list[AlertRecord]
    open_incidents: list[IncidentRecord]
    mutes: list[AlertMuteRecord]

    def to_json_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        alerts = []
        for alert in self.alerts:
            values = {name: getattr(alert, name) for name in _JSON_FIELDS}
            alerts.append({**values, "state": describe_alert_state(alert)})
        incidents = []
        for incident in self.open_incidents:
            incidents.append(
                {
                    "id": incident.id,
                    "signal": incident.signal,
                    "severity": incident.severity,
                    "title": incident.title,
                    "opened_at": incident.opened_at,
                    "acknowledged_by": incident.acknowledged_by,
                }
            )
        mutes = []
        for mute in self.mutes:
            mutes.append(
                {
                    "signal": mute.signal,
                    "until": mute.muted_until,
                    "actor": mute.actor,
                    "reason": mute.reason,
                }
            )
        return {"alerts": alerts, "open_incidents": incidents, "mutes": mutes}


def read_alert_overview(project: Project, max_alerts: int) -> AlertOverview:
    """Read the newest alerts, the open incidents, and the mutes that have not ended."""
    model = project.config.name
    newest_alerts = (
        sa.select(AlertRecord)
        .where(AlertRecord.model == model)
        .order_by(AlertRecord.id.desc())
        .limit(max_alerts)
    )
    open_incidents = (
        sa.select(IncidentRecord)
        .where(IncidentRecord.model == model, IncidentRecord.closed_at.is_(None))
        .order_by(IncidentRecord.id)
    )
    return AlertOverview(
        query_records(project, newest_alerts),
        query_records(project, open_incidents),
        list_active_mutes(project, datetime.now(UTC)),
    )


class AlertState(StrEnum):
    """What became of an alert."""

    SENT = "sent"
    WAITING = "waiting"
    FAILED = "failed"
    WITHHELD = "withheld"


def get_alert_state(alert: AlertRecord) -> AlertState:
    """Return what became of an alert; one that failed is tried again."""
    if alert.withheld is not None:
        return AlertState.WITHHELD
    if alert.sent_at is not None:
        return AlertState.SENT
    return AlertState.FAILED if alert.error else AlertState.WAITING


def describe_alert_state(alert: AlertRecord) -> str:
    """Describe what became of an alert: sent, not sent and why, or waiting."""
    if alert.withheld is not None:
        return alert.withheld
    if alert.sent_at is not None:
        return f"sent {format_utc_time(alert.sent_at)}"
    if alert.error:
        attempts = "1 attempt" if alert.attempts == 1 else f"{alert.attempts} attempts"
        return f"not sent after {attempts}: {alert.error}"
    if alert.due_at is not None:
        return f"waits until {format_utc_time(alert.due_at)}"
    return "waits to be sent"


def format_alert_overview(project: Project, overview: AlertOverview) -> str:
    """Format the alerts as a table, then the open incidents and the mutes, one per line."""
    lines = []
    if overview.alerts:
        rows = [_COLUMNS]
        for alert in overview.alerts:
            time = format_local_time(project.config, datetime.fromisoformat(alert.created_at))
            rows.append(
                (
                    str(alert.id),
                    str(alert.incident_id),
                    time,
                    alert.sink,
                    alert.event,
                    get_public_name(alert.signal),
                    IncidentSeverity(alert.severity).display_name,
                    alert.title,
                    describe_alert_state(alert),
                )
            )
        lines.append(align_columns(rows))
    else:
        lines.append("No alert has been stored.")
    for incident in overview.open_incidents:
        acknowledged = "not acknowledged"
        if incident.acknowledged_by:
            acknowledged = f"acknowledged by {incident.acknowledged_by}"
        lines.append(f"Open incident {incident.id}: {incident.title} ({acknowledged})")
    for mute in overview.mutes:
        end = format_local_time(project.config, datetime.fromisoformat(mute.muted_until))
        signal = get_public_name(mute.signal) or "all signals"
        lines.append(f"Muted until {end}: {signal}, by {mute.actor}: {mute.reason}")
    return "\n".join(lines)
