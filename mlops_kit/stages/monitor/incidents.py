"""Incidents: opened once, updated while they last, closed when they are over.

Drift alone opens none: a column must have drifted in most of the last windows, and its drift must
be estimated to cost more than the margin below which two models count as equal. All such columns
are one incident, because they usually change together. What labels prove, and a broken schema,
opens an incident at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome, Interval, Table, Verdict
from mlops_kit.db.approvals import check_permission
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import IncidentRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK, DriftStatus

RECENT_WINDOWS = 3  # windows among which a drift has to persist
_MAX_LISTED_COLUMNS = 3
_TITLE_BY_CHECK = {
    REALIZED_PERFORMANCE_CHECK: "Performance below its reference",
    "gap": "Concept drift",
    "schema": "The columns changed",
}


class IncidentSeverity(StrEnum):
    """How urgent an incident is; the values are those stored in the database."""

    CRITICAL = "act"
    WARNING = "watch"


class IncidentSignal(NamedTuple):
    """A reason for an incident: what is wrong, how severe it is, a title and a sentence."""

    name: str
    severity: str
    title: str
    sentence: str


class MonitoredWindow(Protocol):
    """What an incident for drift rests on: a window's drift with its cost, and the estimate."""

    @property
    def drift(self) -> Table:
        """Drift by feature, with a column ``cost``."""

    @property
    def estimated(self) -> Interval:
        """The estimated performance."""


def detect_costly_drift(
    windows: Sequence[MonitoredWindow],
    reference: float | None,
    config: ProjectConfig,
) -> list[IncidentSignal]:
    """Detect drift that persists and costs performance, as one signal.

    It is critical only if the estimated performance has dropped by more than the limit too.

    Parameters
    ----------
    windows : sequence of MonitoredWindow
        The monitored windows, the newest last.
    reference : float or None
        The reference performance.

    Returns
    -------
    list of IncidentSignal
        One signal, or none.
    """
    tables = [window.drift.data for window in windows[-RECENT_WINDOWS:]]
    recent = [table for table in tables if len(table)]
    if not recent or not len(tables[-1]):
        return []
    persistent = _select_persistent_drift(recent, config)
    if persistent.empty:
        return []
    worst = persistent.sort_values("cost", ascending=False, kind="stable")
    metric = METRICS[config.headline_metric]
    estimated = windows[-1].estimated
    is_critical = False
    if estimated.value is not None and reference is not None:
        gain = metric.compute_gain(estimated.value, reference)
        is_critical = gain < -config.monitor.max_drop
    costs = []
    for row in worst.head(_MAX_LISTED_COLUMNS).itertuples():
        costs.append(f"{row.column} costs about {format_number(row.cost)} of {metric.title}")
    sentence = (
        f"{'; '.join(costs)}. Estimated performance {estimated}, "
        f"reference performance {format_number(reference)}."
    )
    severity = IncidentSeverity.CRITICAL if is_critical else IncidentSeverity.WARNING
    title = _make_drift_title(worst["column"].tolist())
    return [IncidentSignal("drift", severity, title, sentence)]


def _select_persistent_drift(recent: list[pd.DataFrame], config: ProjectConfig) -> pd.DataFrame:
    """Select the features that drifted in enough of the recent windows, at a cost."""
    drifted_by_window = []
    for table in recent:
        is_alert = table["status"] == DriftStatus.ALERT
        drifted_by_window.append(set(table.loc[is_alert, "column"]))
    newest = recent[-1]
    drifted_windows = []
    for column in newest["column"]:
        drifted_windows.append(sum(column in drifted for drifted in drifted_by_window))
    newest = newest.assign(cost=newest["cost"].astype(float), drifted_windows=drifted_windows)
    is_feature = newest["column"] != SCORE_COLUMN
    is_alert = newest["status"] == DriftStatus.ALERT
    is_persistent = newest["drifted_windows"] >= config.watch.min_drifted_windows
    is_costly = newest["cost"] >= config.review.margin
    return newest[is_feature & is_alert & is_persistent & is_costly]


def _make_drift_title(columns: list[str]) -> str:
    """Make the title of an incident for drift in some columns."""
    if len(columns) == 1:
        return f"{columns[0]} has drifted"
    if len(columns) == 2:
        return f"{columns[0]} and {columns[1]} have drifted"
    return f"{columns[0]} and {len(columns) - 1} more columns have drifted"


def detect_proven_failures(verdicts: Iterable[Verdict]) -> list[IncidentSignal]:
    """Return a signal for each failure that the labels, or the columns themselves, prove."""
    signals = []
    for verdict in verdicts:
        if verdict.check not in _TITLE_BY_CHECK or verdict.outcome != CheckOutcome.FAILED:
            continue
        severity = IncidentSeverity.WARNING
        if verdict.is_blocking or verdict.check == "gap":
            severity = IncidentSeverity.CRITICAL
        title = _TITLE_BY_CHECK[verdict.check]
        signals.append(IncidentSignal(verdict.check, severity, title, verdict.sentence))
    return signals


def update_incidents(
    transaction: Session,
    config: ProjectConfig,
    checked: set[str],
    signals: list[IncidentSignal],
    timestamp: str,
    close_reason: str,
) -> list[str]:
    """Open, update and close incidents within a transaction.

    Who is told of it: ``mlops_kit.watch.alert_queue``.

    Parameters
    ----------
    config : ProjectConfig
        With the project's name.
    checked : set of str
        Names, up to the colon, of the signals that were looked for: an open incident of these
        without a signal is closed.
    signals : list of IncidentSignal
        The signals that there are now.
    close_reason : str
        Why incidents are closed, if some are.

    Returns
    -------
    list of str
        A line for each incident that was opened or closed.
    """
    open_query = sa.select(IncidentRecord).where(
        IncidentRecord.model == config.name,
        IncidentRecord.closed_at.is_(None),
    )
    open_incidents = {incident.signal: incident for incident in transaction.scalars(open_query)}
    lines = []
    signal_names = set()
    for signal in signals:
        signal_names.add(signal.name)
        incident = open_incidents.get(signal.name)
        if incident is not None:
            _update_incident(incident, signal, timestamp)
            continue
        transaction.add(_make_incident(config.name, signal, timestamp))
        lines.append(f"incident opened ({signal.severity}): {signal.title}: {signal.sentence}")
    for name, incident in open_incidents.items():
        if name in signal_names or name.split(":")[0] not in checked:
            continue
        incident.closed_at = timestamp
        incident.updated_at = timestamp
        incident.close_reason = close_reason
        lines.append(f"incident closed: {incident.title}")
    return lines


def _make_incident(
    model: str,
    signal: IncidentSignal,
    timestamp: str,
) -> IncidentRecord:
    return IncidentRecord(
        model=model,
        signal=signal.name,
        severity=str(signal.severity),
        title=signal.title,
        message=signal.sentence,
        opened_at=timestamp,
        updated_at=timestamp,
    )


def _update_incident(
    incident: IncidentRecord,
    signal: IncidentSignal,
    timestamp: str,
) -> None:
    """Give an open incident its present severity and texts; count each window once."""
    incident.severity = str(signal.severity)
    incident.title = signal.title
    incident.message = signal.sentence
    if incident.updated_at != timestamp:
        incident.window_count += 1
    incident.updated_at = timestamp


def acknowledge_incident(
    project: Project,
    number: int,
    person: str,
    reason: str,
) -> IncidentRecord:
    """Record that a person knows of an open incident, and their reason to leave it open.

    Raises
    ------
    KitError
        If there is no reason, the person may not do this, or there is no such incident.
    RunFailedError
        If the incident is closed, or somebody has acknowledged it already.
    """
    if not reason.strip():
        raise KitError(
            "an acknowledgement needs a reason",
            "a sentence that others can read later",
            "write what you know of the incident",
        )
    check_permission(project.config.people, person, approves=False)
    with open_transaction(project) as transaction:
        incident = transaction.get(IncidentRecord, number)
        if incident is None or incident.model != project.config.name:
            raise KitError(
                f"there is no incident {number}",
                "an incident that the page shows",
                "load the page again",
            )
        # The condition is part of the update, so that of two people at once only one succeeds.
        statement = (
            sa.update(IncidentRecord)
            .where(
                IncidentRecord.id == number,
                IncidentRecord.closed_at.is_(None),
                IncidentRecord.acknowledged_by.is_(None),
            )
            .values(
                acknowledged_by=person,
                acknowledged_at=current_timestamp(),
                acknowledge_reason=reason.strip(),
            )
        )
        updated = transaction.execute(statement)
        if not updated.rowcount:  # type: ignore[attr-defined]
            raise RunFailedError(
                f"the incident {incident.title!r} {_describe_handled(incident)}",
                "an open one that nobody has acknowledged",
                "load the page again",
            )
    return incident


def _describe_handled(incident: IncidentRecord) -> str:
    """Describe why an incident can no longer be acknowledged."""
    if incident.closed_at:
        return f"was closed {incident.closed_at[:10]}"
    return f"was acknowledged by {incident.acknowledged_by}"
