"""Sending the alerts that wait in the queue.

An alert is sent at least once: a process that is killed between sending one and noting it sends it
again, with the same number. After a failure a sink is tried again later and later, up to once an
hour; the other sinks are not affected. The alerts of a sink keep their order, unless one fails
several times: the later ones are then tried as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import AlertRecord
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.project.loader import Project
from mlops_kit.stages.monitor.incidents import IncidentSeverity
from mlops_kit.watch.alert_message import Alert, AlertEvent, get_page_link
from mlops_kit.watch.alert_queue import describe_mute, find_mute, is_delayed, list_active_mutes
from mlops_kit.watch.alert_sinks import call_sink

_FIRST_RETRY_DELAY = timedelta(minutes=1)
_MAX_RETRY_DELAY = timedelta(hours=1)
_MAX_DOUBLINGS = 10  # of the delay, whose maximum is reached before
# An alert that failed this often may be refused for good: it does not hold up the later ones.
_MAX_BLOCKING_ATTEMPTS = 3


def list_unsent_alerts(project: Project) -> list[AlertRecord]:
    """List the alerts that their sinks do not have yet and are to get, the oldest first."""
    statement = (
        sa.select(AlertRecord)
        .where(
            AlertRecord.model == project.config.name,
            AlertRecord.sink.in_(project.config.alerts.sinks),
            AlertRecord.sent_at.is_(None),
            AlertRecord.withheld.is_(None),
        )
        .order_by(AlertRecord.id)
    )
    return query_records(project, statement)


def compute_retry_delay(attempts: int) -> timedelta:
    """Compute how long to wait after so many failures: a minute, then twice as long each time.

    >>> [str(compute_retry_delay(attempts)) for attempts in (1, 3, 99)]
    ['0:01:00', '0:04:00', '1:00:00']
    """
    doublings = min(attempts - 1, _MAX_DOUBLINGS)
    factor: int = 2**doublings
    return min(_FIRST_RETRY_DELAY * factor, _MAX_RETRY_DELAY)


def send_alerts(project: Project, as_of: datetime) -> list[str]:
    """Send the alerts that are due.

    Parameters
    ----------
    as_of : datetime
        The time of the watch, by which alerts are due.

    Returns
    -------
    list of str
        A line for each sink that failed, with the number of alerts that wait for it.
    """
    lines = []
    unsent = _withhold_muted_alerts(project, as_of)
    for sink in project.config.alerts.sinks:
        alerts = [alert for alert in unsent if alert.sink == sink and not is_delayed(alert, as_of)]
        error, unsent_count = _send_to_sink(project, sink, alerts, as_of)
        if error:
            lines.append(
                f"the alert sink {sink!r} failed: {error}; {unsent_count} not sent, tried again"
            )
    return lines


def _withhold_muted_alerts(project: Project, as_of: datetime) -> list[AlertRecord]:
    """Withhold the unsent alerts of signals that have been muted since; return the others."""
    unsent = list_unsent_alerts(project)
    mutes = list_active_mutes(project, as_of) if unsent else []
    if not mutes:
        return unsent
    remaining = []
    with open_transaction(project) as transaction:
        for alert in unsent:
            mute = find_mute(mutes, alert.signal, as_of)
            if mute is None:
                remaining.append(alert)
                continue
            statement = (
                sa.update(AlertRecord)
                .where(AlertRecord.id == alert.id)
                .values(withheld=describe_mute(mute))
            )
            transaction.execute(statement)
    return remaining


def _send_to_sink(
    project: Project, sink: str, alerts: Sequence[AlertRecord], as_of: datetime
) -> tuple[str, int]:
    """Send the alerts of a sink; return the first error, and how many are still unsent."""
    first_error = ""
    unsent_count = len(alerts)
    for records in _group_messages(project, sink, alerts, as_of):
        blocks_later = max(record.attempts for record in records) < _MAX_BLOCKING_ATTEMPTS
        if _waits_for_retry(records):
            if blocks_later:
                break
            continue
        error = call_sink(project, sink, _compose_alert(project, records))
        _note_attempt(project, records, error)
        if not error:
            unsent_count -= len(records)
            continue
        first_error = first_error or error
        if blocks_later:
            break
    return first_error, unsent_count


def _group_messages(
    project: Project, sink: str, alerts: Sequence[AlertRecord], as_of: datetime
) -> Iterator[list[AlertRecord]]:
    """Group alerts to messages: one each, or all that wait in a digest once that is due."""
    digest = project.config.alerts.sinks[sink].digest
    if digest is None:
        for alert in alerts:
            yield [alert]
        return
    if not alerts:
        return
    has_critical = any(alert.severity == IncidentSeverity.CRITICAL for alert in alerts)
    waited = as_of - datetime.fromisoformat(alerts[0].created_at)
    if has_critical or waited >= digest:
        yield list(alerts)


def _waits_for_retry(records: Sequence[AlertRecord]) -> bool:
    """Whether a message has failed so recently that it is not tried again yet."""
    now = format_timestamp(datetime.now(UTC))
    return any(record.retry_at is not None and record.retry_at > now for record in records)


def _compose_alert(project: Project, records: Sequence[AlertRecord]) -> Alert:
    """Compose what the sink is told: one alert, or a digest of several."""
    newest = records[-1]
    alert = Alert(
        number=newest.id,
        model=newest.model,
        event=newest.event,
        signal=newest.signal,
        severity=newest.severity,
        title=newest.title,
        sentence=newest.message,
        time=newest.created_at,
        project_folder=project.root,
        alerts_file=project.resolve_path(project.config.monitor.alerts_file),
        incident=newest.incident_id,
        link=get_page_link(project.config.dashboard),
    )
    if len(records) == 1:
        return alert
    return _compose_digest(alert, records)


def _compose_digest(newest: Alert, records: Sequence[AlertRecord]) -> Alert:
    """Compose a digest: a line per alert, the severity of the worst."""
    is_critical = any(record.severity == IncidentSeverity.CRITICAL for record in records)
    severity = IncidentSeverity.CRITICAL if is_critical else IncidentSeverity.WARNING
    lines = [f"{record.event}: {record.title}: {record.message}" for record in records]
    return replace(
        newest,
        event=AlertEvent.DIGEST.value,
        signal="",
        severity=severity.value,
        title=f"{len(records)} alerts",
        sentence="\n".join(lines),
        incident=0,
    )


def _note_attempt(project: Project, records: Sequence[AlertRecord], error: str) -> None:
    """Note that alerts were sent, or why not and when to try again."""
    attempts = max(record.attempts for record in records) + 1
    values: dict[str, object] = {
        "attempts": attempts,
        "error": error,
        "sent_at": current_timestamp(),
        "retry_at": None,
    }
    if error:
        values["sent_at"] = None
        values["retry_at"] = format_timestamp(datetime.now(UTC) + compute_retry_delay(attempts))
    numbers = [record.id for record in records]
    statement = sa.update(AlertRecord).where(AlertRecord.id.in_(numbers)).values(values)
    with open_transaction(project) as transaction:
        transaction.execute(statement)


def send_test_alert(project: Project, sink: str) -> str:
    """Send a test alert to a sink; return what went wrong, or an empty text.

    Raises
    ------
    KitError
        If there is no such sink.
    """
    sinks = project.config.alerts.sinks
    if sink not in sinks:
        raise KitError(
            f"there is no alert sink {sink!r}",
            suggest_names(sink, sinks) if sinks else "a sink under alerts.sinks in mlops.yaml",
            "mlops alerts test",
        )
    alert = Alert(
        number=0,
        model=project.config.name,
        event=AlertEvent.TEST.value,
        signal="",
        severity=IncidentSeverity.WARNING.value,
        title="Test of the alerts",
        sentence=f"The sink {sink!r} of {project.config.name} works.",
        time=current_timestamp(),
        project_folder=project.root,
        alerts_file=project.resolve_path(project.config.monitor.alerts_file),
        link=get_page_link(project.config.dashboard),
    )
    return call_sink(project, sink, alert)
