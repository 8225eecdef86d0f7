"""Alert sinks: where the watch sends word of an incident that opened, worsened or closed.

An alert is stored in the same transaction as the change of its incident, once for each sink under
``watch.alerts``, and sent afterwards. One that could not be sent is sent again by the next pass,
until it is; a process that is killed between sending and noting it sends it twice. ``Alert.number``
is the same then.

To add a sink, in the package or in a plugin of a project: decorate a function ``(Alert) -> None``
with ``@register_alert_sink(name)``, and add the name to ``watch.alerts``. It raises an error if it
could not send the alert, and has ``SINK_TIMEOUT_SECONDS`` for one.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry, describe_exception
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import AlertRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project.loader import Project

_MAX_ERROR_CHARACTERS = 500
SINK_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Alert:
    """What a sink is told.

    Attributes
    ----------
    number : int
        Number of the alert among all alerts of all sinks; the same if it is sent twice.
    model : str
        The project's name.
    event : str
        ``opened``, ``worsened`` (it became critical) or ``closed``.
    signal : str
        The name of the incident's signal, such as ``drift``.
    severity : str
        ``act`` or ``watch``.
    title : str
        The title of the incident.
    sentence : str
        What is wrong; for a closed incident, why it was closed.
    time : str
        When it happened, in UTC.
    project_folder : Path
        The project.
    alerts_file : Path
        The file under ``monitor.alerts_file``.
    """

    number: int
    model: str
    event: str
    signal: str
    severity: str
    title: str
    sentence: str
    time: str
    project_folder: Path
    alerts_file: Path


_SinkFunction = Callable[[Alert], None]
ALERT_SINKS: ExtensionRegistry[_SinkFunction] = ExtensionRegistry(ExtensionKind.ALERT_SINK)


def register_alert_sink(name: str) -> Callable[[_SinkFunction], _SinkFunction]:
    """Register the decorated function as an alert sink.

    Parameters
    ----------
    name : str
        The name under ``watch.alerts``.

    Examples
    --------
    >>> @register_alert_sink("standard_output")
    ... def print_alert(alert):
    ...     print(f"{alert.event}: {alert.title}")
    >>> "standard_output" in ALERT_SINKS
    True
    >>> del ALERT_SINKS["standard_output"]
    """
    return ALERT_SINKS.register(name)


@register_alert_sink("file")
def append_to_file(alert: Alert) -> None:
    """Append the alert to the project's file of alerts, as a line of JSON."""
    values = asdict(alert)
    for place in ("project_folder", "alerts_file"):
        del values[place]
    line = json.dumps(values, ensure_ascii=False, sort_keys=True)
    alert.alerts_file.parent.mkdir(parents=True, exist_ok=True)
    with alert.alerts_file.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the monitor stage of a run may append as well
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())


def list_unsent_alerts(project: Project) -> list[AlertRecord]:
    """List the alerts that their sinks do not have yet, the oldest first."""
    statement = (
        sa.select(AlertRecord)
        .where(
            AlertRecord.model == project.config.name,
            AlertRecord.sink.in_(project.config.watch.alerts),
            AlertRecord.sent_at.is_(None),
        )
        .order_by(AlertRecord.id)
    )
    return query_records(project, statement)


def send_alerts(project: Project) -> list[str]:
    """Send the alerts that have not been sent.

    Returns
    -------
    list of str
        A line for each sink that failed, with the number of alerts that wait for it.
    """
    errors: dict[str, str] = {}
    waiting: dict[str, int] = {}
    for record in list_unsent_alerts(project):
        # After a failure the others would most likely fail too, and they keep their order.
        if record.sink not in errors:
            error = _send_alert(project, record)
            _note_attempt(project, record, error)
            if not error:
                continue
            errors[record.sink] = error
        waiting[record.sink] = waiting.get(record.sink, 0) + 1
    return [
        f"the alert sink {sink!r} failed: {error}; {waiting[sink]} not sent, the next pass tries "
        "again"
        for sink, error in errors.items()
    ]


def _send_alert(project: Project, record: AlertRecord) -> str:
    """Send an alert; return what went wrong, or an empty text."""
    alert = Alert(
        number=record.id,
        model=record.model,
        event=record.event,
        signal=record.signal,
        severity=record.severity,
        title=record.title,
        sentence=record.message,
        time=record.created_at,
        project_folder=project.root,
        alerts_file=project.resolve_path(project.config.monitor.alerts_file),
    )
    try:
        sink = ALERT_SINKS[record.sink]
    except KitError as error:
        return error.message
    errors: list[str] = []

    def call_sink() -> None:
        try:
            sink(alert)
        except BaseException as error:  # a sink is foreign code: the watch goes on
            errors.append(describe_exception(error)[:_MAX_ERROR_CHARACTERS])

    # In a thread, so that a sink that hangs holds nothing up. It may still send the alert later.
    thread = threading.Thread(target=call_sink, daemon=True)
    thread.start()
    thread.join(SINK_TIMEOUT_SECONDS)
    if thread.is_alive():
        return f"no answer within {SINK_TIMEOUT_SECONDS:g} seconds"
    return "".join(errors)


def _note_attempt(project: Project, record: AlertRecord, error: str) -> None:
    """Note that an alert was sent, or why it was not."""
    sent_at = None if error else current_timestamp()
    statement = (
        sa.update(AlertRecord)
        .where(AlertRecord.id == record.id)
        .values(sent_at=sent_at, attempts=AlertRecord.attempts + 1, error=error)
    )
    with open_transaction(project) as transaction:
        transaction.execute(statement)
