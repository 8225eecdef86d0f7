"""Incidents: opened once, updated while they last, closed when they are over.

Drift alone opens none: a column must have drifted in most of the last windows, and its drift must
be estimated to cost more than the margin below which two models count as equal, or its cost must
be unknown because the reference has no such rows. All such columns are one incident, because they
usually change together. Joint drift that persists at a cost, and an estimated performance below its
limit, open it even if no column has drifted. What labels prove, and a broken schema, opens an
incident at once.

An incident of performance or of concept drift ends when the realized performance is back at its
reference. A promotion does not end it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
from mlops_kit.stages.monitor.joint_cost import JointCost
from mlops_kit.stages.monitor.joint_drift import JointDrift
from mlops_kit.stages.monitor.limits import compute_bound
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.monitoring_tables import (
    CONCEPT_DRIFT_CHECK,
    CONFIRMED_DRIFT_CHECK,
    OUTSIDE_SUPPORT_COLUMN,
    REALIZED_PERFORMANCE_CHECK,
    DriftStatus,
)

RECENT_WINDOWS = 3  # windows among which a drift has to persist
ROLLBACK_SIGNAL = "rollback"
REINSTATEMENT_SIGNAL = "reinstatement"
PROMOTION_STOP_SIGNAL = "promotion_stopped"
DRIFT_SIGNAL = "drift"
FEED_FAULT_SIGNAL = "feed_fault"
# Drift with its estimated cost, and drift whose cost the labels prove: one of them is open at most.
_DRIFT_SIGNALS = frozenset({DRIFT_SIGNAL, CONFIRMED_DRIFT_CHECK})
# Incidents that end when the realized performance is back at its reference.
PERFORMANCE_SIGNALS = frozenset(
    {
        REALIZED_PERFORMANCE_CHECK,
        CONCEPT_DRIFT_CHECK,
        CONFIRMED_DRIFT_CHECK,
        ROLLBACK_SIGNAL,
        REINSTATEMENT_SIGNAL,
    }
)
_CRITICAL_CHECKS = frozenset({CONCEPT_DRIFT_CHECK, CONFIRMED_DRIFT_CHECK})
_MAX_LISTED_COLUMNS = 3
_TITLE_BY_CHECK = {
    REALIZED_PERFORMANCE_CHECK: "Performance below its reference",
    CONCEPT_DRIFT_CHECK: "Concept drift",
    CONFIRMED_DRIFT_CHECK: "Drift costs performance",
    "schema": "The columns changed",
}


class IncidentSeverity(StrEnum):
    """How urgent an incident is; the values are those stored in the database."""

    CRITICAL = "act"
    WARNING = "watch"

    @property
    def display_name(self) -> str:
        """How messages and settings name it: ``critical`` or ``warning``."""
        return self.name.lower()


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

    @property
    def joint_cost(self) -> JointCost | None:
        """What the joint drift of all features costs."""

    @property
    def joint_drift(self) -> JointDrift | None:
        """Whether a classifier tells the window from the reference."""


def detect_costly_drift(
    windows: Sequence[MonitoredWindow],
    reference: Interval | None,
    config: ProjectConfig,
) -> list[IncidentSignal]:
    """Detect drift that persists and costs performance, or an estimated drop, as one signal.

    It is critical only if the estimated performance has dropped by more than the limit too. Without
    a column that has drifted, it takes joint drift that persists at a cost, or an estimate whose
    whole interval is beyond the limit: the features then depend on one another as they did not
    before.

    Parameters
    ----------
    windows : sequence of MonitoredWindow
        The monitored windows, the newest last.
    reference : Interval or None
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
    estimated = windows[-1].estimated
    joint_cost = windows[-1].joint_cost
    persistent = _select_persistent_drift(recent, joint_cost, config)
    is_costly_jointly = _is_costly_joint_drift(windows[-RECENT_WINDOWS:], config)
    has_dropped = _is_certainly_below(estimated, reference, config)
    if persistent.empty and not is_costly_jointly and not has_dropped:
        return []
    ranked = persistent.sort_values(
        [OUTSIDE_SUPPORT_COLUMN, "cost"], ascending=False, kind="stable"
    )
    is_critical = _is_performance_drop(estimated.value, reference, config)
    joint_drift = windows[-1].joint_drift
    sentences = [_describe_drift_costs(ranked, joint_cost, config)]
    if joint_drift is not None and joint_drift.is_drifted:
        sentences.append(joint_drift.sentence)
    sentences.append(
        f"Estimated performance {estimated}, "
        f"reference performance {format_number(reference.value if reference else None)}."
    )
    sentence = " ".join(sentences)
    severity = IncidentSeverity.CRITICAL if is_critical else IncidentSeverity.WARNING
    title = _make_drift_title(ranked["column"].tolist())
    if ranked.empty and is_costly_jointly and not has_dropped:
        title = "The features have drifted jointly"
    return [IncidentSignal(DRIFT_SIGNAL, severity, title, sentence)]


def _is_costly_joint_drift(windows: Sequence[MonitoredWindow], config: ProjectConfig) -> bool:
    """Whether joint drift is an alert in enough of the windows, the newest included, at a cost."""
    alerts = []
    for window in windows:
        joint = window.joint_drift
        alerts.append(joint is not None and joint.status == DriftStatus.ALERT)
    cost = windows[-1].joint_cost
    if cost is None or cost.cost is None or not alerts[-1]:
        return False
    return sum(alerts) >= config.watch.min_drifted_windows and cost.cost >= config.review.margin


def _is_certainly_below(
    estimated: Interval,
    reference: Interval | None,
    config: ProjectConfig,
) -> bool:
    """Whether all of the interval of an estimate is beyond the limit of a performance drop."""
    metric = METRICS[config.headline_metric]
    best_value = estimated.high if metric.greater_is_better else estimated.low
    return _is_performance_drop(best_value, reference, config)


def _is_performance_drop(
    value: float | None,
    reference: Interval | None,
    config: ProjectConfig,
) -> bool:
    """Whether a value is beyond the limit of a performance drop; not if either is not known."""
    if value is None or reference is None:
        return False
    metric = METRICS[config.headline_metric]
    bound = compute_bound(config.monitor.max_drop, metric, reference)
    return bound is not None and metric.compute_gain(value, bound) < 0


def _describe_drift_costs(
    ranked: pd.DataFrame,
    joint_cost: JointCost | None,
    config: ProjectConfig,
) -> str:
    """Describe what the drift costs: columns of unknown cost, then each column, then all."""
    title = METRICS[config.headline_metric].title
    is_outside = ranked[OUTSIDE_SUPPORT_COLUMN]
    sentences = []
    if ranked.empty:
        sentences.append(
            "No single column has drifted at a cost: the features depend on one another in another "
            "way."
        )
    unknown = ranked.loc[is_outside, "column"].tolist()
    if unknown:
        names = ", ".join(unknown[:_MAX_LISTED_COLUMNS])
        verb = "is" if len(unknown) == 1 else "are"
        sentences.append(
            f"{names} {verb} outside the training support, at an unknown cost: find out where "
            "these values come from before a retraining."
        )
    costs = []
    for row in ranked[~is_outside].head(_MAX_LISTED_COLUMNS).itertuples():
        costs.append(f"{row.column} costs about {format_number(row.cost)} of {title}")
    if costs:
        sentences.append(f"{'; '.join(costs)}.")
    if joint_cost is not None and joint_cost.cost is not None:
        sentences.append(
            f"All features together cost about {format_number(joint_cost.cost)} of {title} "
            f"(effective sample: {format_number(joint_cost.effective_rows)} rows)."
        )
    return " ".join(sentences)


def _select_persistent_drift(
    recent: list[pd.DataFrame],
    joint_cost: JointCost | None,
    config: ProjectConfig,
) -> pd.DataFrame:
    """Select the features that drifted in enough of the recent windows, at a cost."""
    drifted_by_window = []
    for table in recent:
        is_alert = table["status"] == DriftStatus.ALERT
        drifted_by_window.append(set(table.loc[is_alert, "column"]))
    newest = recent[-1]
    drifted_windows = []
    for column in newest["column"]:
        drifted_windows.append(sum(column in drifted for drifted in drifted_by_window))
    is_outside = pd.Series(False, newest.index)
    if OUTSIDE_SUPPORT_COLUMN in newest:  # records of earlier versions have no such column
        is_outside = newest[OUTSIDE_SUPPORT_COLUMN].astype(bool)
    newest = newest.assign(
        cost=_average_costs(recent),
        drifted_windows=drifted_windows,
        **{OUTSIDE_SUPPORT_COLUMN: is_outside},
    )
    is_feature = newest["column"] != SCORE_COLUMN
    is_alert = newest["status"] == DriftStatus.ALERT
    is_persistent = newest["drifted_windows"] >= config.watch.min_drifted_windows
    is_costly = (newest["cost"] >= config.review.margin) | is_outside
    if joint_cost is not None and joint_cost.cost is not None:
        is_costly |= joint_cost.cost >= config.review.margin
    return newest[is_feature & is_alert & is_persistent & is_costly]


def _average_costs(recent: list[pd.DataFrame]) -> pd.Series:
    """Average the cost of each column of the newest window over the windows in which it drifted.

    A cost close to the margin would otherwise close an incident and open it again by chance. A cost
    that is not known in the newest window stays so.
    """
    drifted = []
    for table in recent:
        is_alert = table["status"] == DriftStatus.ALERT
        drifted.append(table.loc[is_alert, ["column", "cost"]].astype({"cost": float}))
    mean_costs = pd.concat(drifted).groupby("column")["cost"].mean()
    newest_costs = recent[-1]["cost"].astype(float)
    averaged = recent[-1]["column"].map(mean_costs).fillna(newest_costs)
    return averaged.where(newest_costs.notna())


def _make_drift_title(columns: list[str]) -> str:
    """Make the title of an incident for drift in some columns, or in none."""
    if not columns:
        return "Estimated performance below its reference"
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
        if verdict.is_blocking or verdict.check in _CRITICAL_CHECKS:
            severity = IncidentSeverity.CRITICAL
        title = _TITLE_BY_CHECK[verdict.check]
        signals.append(IncidentSignal(verdict.check, severity, title, verdict.sentence))
    return signals


def describe_recovery(verdicts: Iterable[Verdict]) -> str:
    """Describe that the realized performance is back at its reference; empty if it is not known."""
    for verdict in verdicts:
        if verdict.check == REALIZED_PERFORMANCE_CHECK and verdict.outcome == CheckOutcome.PASSED:
            return verdict.sentence
    return ""


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
        A line for each incident that was opened, became critical, or was closed.
    """
    open_query = sa.select(IncidentRecord).where(
        IncidentRecord.model == config.name,
        IncidentRecord.closed_at.is_(None),
    )
    open_incidents = {incident.signal: incident for incident in transaction.scalars(open_query)}
    lines = _describe_worsened(open_incidents, signals)
    signal_names = set()
    for signal in signals:
        signal_names.add(signal.name)
        incident = open_incidents.get(signal.name)
        if incident is not None:
            _update_incident(incident, signal, timestamp)
            continue
        if signal.name in _DRIFT_SIGNALS and not _DRIFT_SIGNALS.isdisjoint(open_incidents):
            continue
        transaction.add(_make_incident(config.name, signal, timestamp))
        severity = IncidentSeverity(signal.severity)
        lines.append(
            f"incident opened ({severity.display_name}): {signal.title}: {signal.sentence}"
        )
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


def _describe_worsened(
    open_incidents: Mapping[str, IncidentRecord],
    signals: Iterable[IncidentSignal],
) -> list[str]:
    """Return a line for each open incident that becomes critical."""
    lines = []
    for signal in signals:
        incident = open_incidents.get(signal.name)
        if incident is None or incident.severity == IncidentSeverity.CRITICAL:
            continue
        if signal.severity == IncidentSeverity.CRITICAL:
            severity_name = IncidentSeverity.CRITICAL.display_name
            lines.append(f"incident worsened ({severity_name}): {signal.title}: {signal.sentence}")
    return lines


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
                "the number of an open incident",
                "mlops alerts list and the monitoring page show them",
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
