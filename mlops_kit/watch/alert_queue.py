"""The queue of alerts: what each sink is told of each incident, stored until it is sent.

A sink is told when an incident opens and when it is closed. In between it is told at most twice: if
the incident becomes critical, and, while nobody has acknowledged it, that it continues. What is due
follows from the incidents, the alerts that are stored already, and the time. It is stored in the
transaction that changes the incident, so that no alert is lost or stored twice, whenever the
process is killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core.errors import KitError, RunFailedError, suggest_names
from mlops_kit.db.approvals import check_permission
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import AlertMuteRecord, AlertRecord, IncidentRecord
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.project.config.alerts import AlertSinkConfig
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal
from mlops_kit.watch.alert_message import AlertEvent
from mlops_kit.watch.signals import get_public_name, get_stored_name, list_all_signal_names

_MAX_UPDATES = 2  # between the opening and the closing of an incident
_CLOSED_EARLY = "the incident was closed before the cooldown ended"


class AlertHistory(NamedTuple):
    """What a sink has been told, as far as it matters for an incident.

    Attributes
    ----------
    of_incident : sequence of AlertRecord
        The alerts of the incident, in their order.
    last_of_signal : AlertRecord or None
        The last alert of an earlier incident of the same signal.
    """

    of_incident: Sequence[AlertRecord] = ()
    last_of_signal: AlertRecord | None = None

    @property
    def announced(self) -> list[AlertRecord]:
        """The alerts of the incident that the sink has or will get."""
        return [alert for alert in self.of_incident if alert.withheld is None]


def choose_event(
    incident: IncidentRecord,
    told: Sequence[AlertRecord],
    sink: AlertSinkConfig,
    config: ProjectConfig,
    as_of: datetime,
) -> AlertEvent | None:
    """Choose what a sink is to be told of an incident now; None if nothing.

    Parameters
    ----------
    told : sequence of AlertRecord
        What it has been told of this incident.
    """
    if incident.closed_at is not None:
        has_to_close = bool(told) and told[-1].event != AlertEvent.CLOSED
        return AlertEvent.CLOSED if has_to_close else None
    is_critical = incident.severity == IncidentSeverity.CRITICAL
    if not told:
        is_severe_enough = is_critical or sink.min_severity == "warning"
        is_due = _is_escalation_due(incident, sink, as_of)
        return AlertEvent.OPENED if is_severe_enough and is_due else None
    update_count = len(told) - 1
    has_worsened = is_critical and told[-1].severity != IncidentSeverity.CRITICAL
    if has_worsened and update_count < _MAX_UPDATES:
        return AlertEvent.WORSENED
    # The last update of a warning is reserved for its becoming critical.
    max_reminders = _MAX_UPDATES if is_critical else _MAX_UPDATES - 1
    if update_count >= max_reminders or incident.acknowledged_by:
        return None
    last_told_at = datetime.fromisoformat(told[-1].created_at)
    was_observed_again = datetime.fromisoformat(incident.updated_at) > last_told_at
    is_cooled_down = as_of - last_told_at >= config.alerts.cooldown
    return AlertEvent.CONTINUED if was_observed_again and is_cooled_down else None


def _is_escalation_due(incident: IncidentRecord, sink: AlertSinkConfig, as_of: datetime) -> bool:
    """Whether an incident has been open, without being acknowledged, long enough for a sink."""
    if sink.escalate_after is None:
        return True
    open_since = datetime.fromisoformat(incident.opened_at)
    return not incident.acknowledged_by and as_of - open_since >= sink.escalate_after


def queue_alerts(transaction: Session, config: ProjectConfig, as_of: datetime) -> None:
    """Store the alerts that are due as of a time, within a transaction."""
    if not config.alerts.sinks:
        return
    transaction.flush()
    mutes = list(transaction.scalars(_select_mutes(config.name)))
    for incident in transaction.scalars(_select_told_incidents(config.name)).all():
        mute = find_mute(mutes, incident.signal, as_of)
        for name, sink in config.alerts.sinks.items():
            history = _read_history(transaction, incident, name)
            if mute is not None and history.of_incident and history.of_incident[-1].withheld:
                continue
            if incident.closed_at is not None and _withhold_early_closed(history, as_of):
                continue
            event = choose_event(incident, history.announced, sink, config, as_of)
            if event is None:
                continue
            is_escalated = sink.escalate_after is not None
            alert = _make_alert(incident, name, event, as_of, is_escalated=is_escalated)
            if mute is not None:
                alert.withheld = describe_mute(mute)
            elif event == AlertEvent.OPENED:
                alert.due_at = _delay_repetition(history, config, as_of)
            transaction.add(alert)


def _select_told_incidents(model: str) -> sa.Select[IncidentRecord]:
    """Select the open incidents, and the closed ones of which a sink has not been told so."""
    is_closing = sa.case((AlertRecord.event == AlertEvent.CLOSED, 1), else_=0)
    still_open_for_a_sink = (
        sa.select(AlertRecord.incident_id)
        .where(AlertRecord.model == model, AlertRecord.withheld.is_(None))
        .group_by(AlertRecord.incident_id, AlertRecord.sink)
        .having(sa.func.sum(is_closing) == 0)
    )
    return (
        sa.select(IncidentRecord)
        .where(
            IncidentRecord.model == model,
            sa.or_(
                IncidentRecord.closed_at.is_(None),
                IncidentRecord.id.in_(still_open_for_a_sink),
            ),
        )
        .order_by(IncidentRecord.id)
    )


def _read_history(transaction: Session, incident: IncidentRecord, sink: str) -> AlertHistory:
    """Read what a sink has been told of an incident, and of earlier ones of its signal."""
    alerts_of_sink = sa.select(AlertRecord).where(
        AlertRecord.model == incident.model, AlertRecord.sink == sink
    )
    of_incident = transaction.scalars(
        alerts_of_sink.where(AlertRecord.incident_id == incident.id).order_by(AlertRecord.id)
    ).all()
    last_of_signal = transaction.scalars(
        alerts_of_sink.where(
            AlertRecord.signal == incident.signal,
            AlertRecord.incident_id != incident.id,
            AlertRecord.withheld.is_(None),
        )
        .order_by(AlertRecord.id.desc())
        .limit(1)
    ).first()
    return AlertHistory(of_incident, last_of_signal)


def _withhold_early_closed(history: AlertHistory, as_of: datetime) -> bool:
    """Withhold the opening of an incident that was closed before it was due to be sent."""
    if not history.announced:
        return False
    opening = history.announced[-1]
    is_waiting = opening.due_at is not None and datetime.fromisoformat(opening.due_at) >= as_of
    if opening.event != AlertEvent.OPENED or opening.sent_at is not None or not is_waiting:
        return False
    opening.withheld = _CLOSED_EARLY
    return True


def is_delayed(alert: AlertRecord, as_of: datetime) -> bool:
    """Whether an alert is not due yet."""
    return alert.due_at is not None and datetime.fromisoformat(alert.due_at) > as_of


def _delay_repetition(history: AlertHistory, config: ProjectConfig, as_of: datetime) -> str | None:
    """Return the end of the cooldown of a signal that was closed a short time ago."""
    if history.last_of_signal is None:
        return None
    last_told_at = datetime.fromisoformat(history.last_of_signal.created_at)
    end = last_told_at + config.alerts.cooldown
    return format_timestamp(end) if end > as_of else None


def _make_alert(
    incident: IncidentRecord,
    sink: str,
    event: AlertEvent,
    as_of: datetime,
    *,
    is_escalated: bool,
) -> AlertRecord:
    message = incident.message
    if event == AlertEvent.CLOSED:
        message = incident.close_reason
    elif event == AlertEvent.CONTINUED or (event == AlertEvent.OPENED and is_escalated):
        message = f"Open since {incident.opened_at[:10]}, not acknowledged. {message}"
    return AlertRecord(
        model=incident.model,
        incident_id=incident.id,
        sink=sink,
        event=event.value,
        signal=incident.signal,
        severity=incident.severity,
        title=incident.title,
        message=message,
        created_at=format_timestamp(as_of),
    )


def update_incidents(
    transaction: Session,
    config: ProjectConfig,
    checked: set[str],
    signals: list[IncidentSignal],
    as_of: datetime,
    close_reason: str,
) -> list[str]:
    """Open, update and close incidents, and store the alerts of it in the same transaction.

    See ``mlops_kit.stages.monitor.incidents.update_incidents``.
    """
    lines = incidents.update_incidents(
        transaction,
        config,
        checked,
        signals,
        format_timestamp(as_of),
        close_reason,
    )
    queue_alerts(transaction, config, as_of)
    return lines


def acknowledge_incident(project: Project, number: int, actor: str, reason: str) -> str:
    """Record that a person knows of an open incident, which ends its updates; return its title.

    See ``mlops_kit.stages.monitor.incidents.acknowledge_incident``.
    """
    return incidents.acknowledge_incident(project, number, actor, reason).title


def _select_mutes(model: str) -> sa.Select[AlertMuteRecord]:
    return (
        sa.select(AlertMuteRecord)
        .where(AlertMuteRecord.model == model)
        .order_by(AlertMuteRecord.id)
    )


def find_mute(
    mutes: Sequence[AlertMuteRecord], signal: str, as_of: datetime
) -> AlertMuteRecord | None:
    """Find the mute of a signal that ends last and has not ended; None if there is none."""
    active = []
    for mute in mutes:
        is_about_signal = mute.signal in {"", signal}
        if is_about_signal and datetime.fromisoformat(mute.muted_until) > as_of:
            active.append(mute)
    return max(active, key=lambda mute: mute.muted_until, default=None)


def format_utc_time(timestamp: str) -> str:
    """Format a stored timestamp: ``2024-03-07 00:00 UTC``."""
    return f"{datetime.fromisoformat(timestamp):%Y-%m-%d %H:%M} UTC"


def describe_mute(mute: AlertMuteRecord) -> str:
    """Describe until when, by whom and why a signal is muted."""
    return f"muted until {format_utc_time(mute.muted_until)} by {mute.actor}: {mute.reason}"


def list_active_mutes(project: Project, as_of: datetime) -> list[AlertMuteRecord]:
    """List the mutes that have not ended."""
    mutes = query_records(project, _select_mutes(project.config.name))
    return [mute for mute in mutes if datetime.fromisoformat(mute.muted_until) > as_of]


def mute_signal(
    project: Project,
    signal: str,
    until: datetime,
    actor: str,
    reason: str,
) -> AlertMuteRecord:
    """Record that nobody is to be told of a signal until a time.

    Incidents are opened and closed as before. One that is still open when the mute ends is told
    then.

    Parameters
    ----------
    signal : str
        Name of the signal, such as ``drift``; empty: all.

    Raises
    ------
    KitError
        If there is no such signal, no reason, the end is not in the future, or the person may not
        do this.
    """
    stored_signal = _find_signal(project, signal)
    if not reason.strip():
        raise KitError(
            "a mute needs a reason",
            "a sentence that others can read later",
            "state why nobody needs to be told",
        )
    if until <= datetime.now(UTC):
        raise KitError(
            f"the mute ends {until:%Y-%m-%d %H:%M}, in the past",
            "a time in the future",
            "name a later date",
        )
    check_permission(project.config.people, actor, approves=False)
    mute = AlertMuteRecord(
        model=project.config.name,
        signal=stored_signal,
        muted_until=format_timestamp(until),
        actor=actor,
        reason=reason.strip(),
        muted_at=current_timestamp(),
    )
    with open_transaction(project) as transaction:
        transaction.add(mute)
    return mute


def _find_signal(project: Project, signal: str) -> str:
    """Find the stored name of a signal of which there can be incidents, or have been."""
    statement = sa.select(IncidentRecord.signal).where(IncidentRecord.model == project.config.name)
    stored_names = {*list_all_signal_names(), *query_records(project, statement)}
    stored_name = get_stored_name(signal)
    if signal and stored_name not in stored_names:
        raise KitError(
            f"there is no incident signal {signal!r}",
            suggest_names(signal, map(get_public_name, stored_names)),
            "name one of them, or none to mute all",
        )
    return stored_name


def end_mutes(project: Project, signal: str, actor: str, as_of: datetime) -> int:
    """End the mutes of a signal now; return how many there were.

    Raises
    ------
    KitError
        If the person may not do this.
    RunFailedError
        If the signal is not muted.
    """
    check_permission(project.config.people, actor, approves=False)
    with open_transaction(project) as transaction:
        mutes = transaction.scalars(_select_mutes(project.config.name)).all()
        ended_count = 0
        stored_name = get_stored_name(signal)
        for mute in mutes:
            if mute.signal == stored_name and datetime.fromisoformat(mute.muted_until) > as_of:
                mute.muted_until = format_timestamp(as_of)
                ended_count += 1
    if not ended_count:
        raise RunFailedError(
            f"{signal or 'everything'} is not muted",
            "a mute that has not ended",
            "mlops alerts list shows them",
        )
    return ended_count
