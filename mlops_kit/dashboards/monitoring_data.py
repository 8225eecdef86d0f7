"""What the watch has stored: windows, incidents, retraining decisions, predictions and labels.

Nothing is computed that was not stored, except for counts and quantiles that the database gives.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.core.results import Interval, Verdict, Verdicts
from mlops_kit.dashboards.stored_reviews import (
    StoredReview,
    get_first,
    get_last,
    iterate_reviews,
    list_reviews,
    read_records,
)
from mlops_kit.db.approvals import list_promotions
from mlops_kit.db.engine import open_read_session, query_records
from mlops_kit.db.operator_decisions import AcceptedReference, load_accepted_references
from mlops_kit.db.tables import (
    RETRAINING_DUE,
    IncidentRecord,
    LabelRecord,
    PredictionRecord,
    PromotionRecord,
    RetrainingRecord,
    WatchRecord,
    WindowRecord,
)
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import RunStatus
from mlops_kit.stages.monitor.incidents import IncidentSeverity
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance, accept_value
from mlops_kit.watch.liveness import WatchLiveness, read_watch_liveness
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance

DEFAULT_WINDOW_COUNT = 26
MAX_DELAY_LABELS = 20_000  # newest labels whose delay is measured
REQUEST_DAYS = 7  # days of which predictions are counted by origin
ENDPOINT_ORIGIN = "endpoint"
DAY = timedelta(days=1)
_MAX_RECORDS = 500
_MAX_MISSED_PASSES = 2  # the watch has stopped, or replays the past, after so many intervals


@dataclass(frozen=True)
class DriftRow:
    """The drift of one column in a window; ``cost`` is None where it is not known.

    With ``outside_support`` it is unknown because the reference has no such rows.
    """

    column: str
    kind: str
    status: str
    explanation: str
    effect: float | None
    adjusted_p: float | None
    missing_reference: float | None
    missing_current: float | None
    cost: float | None
    outside_support: bool | None = None


@dataclass(frozen=True)
class RealizedRow:
    """A metric that the labels of a window gave, beside its reference."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    reference: float | None


class MonitoredWindow:
    """A window: what is known of it without labels, and with them once they are due."""

    def __init__(self, record: WindowRecord, headline_metric: str) -> None:
        self.record = record
        self.headline_metric = headline_metric
        self.version = record.version
        self.start = datetime.fromisoformat(record.start)
        self.end = datetime.fromisoformat(record.end)

    @cached_property
    def monitoring(self) -> WindowMonitoring:
        """What is known of the window without labels."""
        return WindowMonitoring.from_json(self.record.monitoring_json)

    @cached_property
    def performance(self) -> WindowPerformance | None:
        """What the labels of the window show; None while they are not due."""
        if self.record.realized_json is None:
            return None
        return WindowPerformance.from_json(self.record.realized_json)

    @property
    def estimated(self) -> Interval:
        """The estimated performance."""
        return self.monitoring.estimated

    @cached_property
    def drift_rows(self) -> list[DriftRow]:
        """The drift of each column."""
        return read_records(self.monitoring.drift, DriftRow)

    @cached_property
    def realized_rows(self) -> dict[str, RealizedRow]:
        """The metrics that the labels gave, by metric; empty while they are not due."""
        if self.performance is None:
            return {}
        table = self.performance.realized
        return {row.metric: row for row in read_records(table, RealizedRow)}

    @property
    def realized(self) -> Interval:
        """The realized performance; its value is None where there is none."""
        return self.get_realized(self.headline_metric)

    @property
    def reference(self) -> float | None:
        """The reference performance that was stored with the realized one."""
        row = self.realized_rows.get(self.headline_metric)
        return row.reference if row else None

    def get_realized(self, metric: str) -> Interval:
        """Return a metric with its interval; its value is None where there is none."""
        row = self.realized_rows.get(metric)
        if row is None:
            return Interval(None)
        return Interval(row.value, row.low, row.high)

    @property
    def verdicts(self) -> Verdicts:
        """The checks of the window so far."""
        stored = self.performance or self.monitoring
        return Verdicts.from_verdicts(stored.verdicts)

    def find_verdict(self, check: str) -> Verdict | None:
        """Find the verdict of a check."""
        for verdict in self.verdicts:
            if verdict.check == check:
                return verdict
        return None


@dataclass(frozen=True)
class DailyCount:
    """The rows that were scored within the 24 hours from ``start``."""

    start: datetime
    count: int


@dataclass(frozen=True)
class RequestCount:
    """How many predictions were made for whom, by which version, and when the last was."""

    origin: str
    version: str
    count: int
    last_scored_at: str


class MonitoringData:
    """All that a project's watch has stored; of the windows the newest.

    Attributes
    ----------
    watched_from, watched_until : datetime
        The period of event times that the watch has processed.
    updated_at : datetime
        When it made its last pass.
    """

    def __init__(self, project: Project, record: WatchRecord, max_windows: int) -> None:
        self.project = project
        self.config = project.config
        self.max_windows = max_windows
        self.watched_from = datetime.fromisoformat(record.watched_from)
        self.watched_until = datetime.fromisoformat(record.watched_until)
        self.updated_at = datetime.fromisoformat(record.updated_at)
        self._has_event_time = (
            PredictionRecord.model == self.config.name,
            PredictionRecord.event_time.is_not(None),
        )

    @property
    def is_replay(self) -> bool:
        """Whether it replays a period of the past instead of following the clock."""
        allowed = _MAX_MISSED_PASSES * self.config.watch.interval
        return self.updated_at - self.watched_until > allowed

    @property
    def is_stopped(self) -> bool:
        """Whether it was killed, or should have made a pass by now and has not."""
        if self.is_replay:
            return False
        if self.liveness is not None and self.liveness.is_dead:
            return True
        allowed = _MAX_MISSED_PASSES * self.config.watch.interval
        return datetime.now(UTC) - self.updated_at > allowed

    @cached_property
    def liveness(self) -> WatchLiveness | None:
        """When the watch was last seen; None if it never was."""
        return read_watch_liveness(self.project)

    @cached_property
    def windows(self) -> list[MonitoredWindow]:
        """The newest windows, in the order of time."""
        statement = (
            sa.select(WindowRecord)
            .where(WindowRecord.model == self.config.name)
            .order_by(WindowRecord.start.desc())
            .limit(self.max_windows)
        )
        records = query_records(self.project, statement)
        return [
            MonitoredWindow(record, self.config.headline_metric) for record in reversed(records)
        ]

    @cached_property
    def labeled_windows(self) -> list[MonitoredWindow]:
        """The windows whose labels have been evaluated, in the order of time."""
        return [window for window in self.windows if window.performance is not None]

    @property
    def last_window(self) -> MonitoredWindow | None:
        """The newest window."""
        return get_last(self.windows)

    @property
    def last_labeled_window(self) -> MonitoredWindow | None:
        """The newest window whose labels have been evaluated."""
        return get_last(self.labeled_windows)

    @cached_property
    def incidents(self) -> list[IncidentRecord]:
        """The incidents, the newest first."""
        statement = (
            sa.select(IncidentRecord)
            .where(IncidentRecord.model == self.config.name)
            .order_by(IncidentRecord.opened_at.desc(), IncidentRecord.id.desc())
            .limit(_MAX_RECORDS)
        )
        return query_records(self.project, statement)

    @property
    def open_incidents(self) -> list[IncidentRecord]:
        """The open incidents: the critical ones first, then the oldest."""
        is_open = [incident for incident in self.incidents if incident.closed_at is None]
        return sorted(
            is_open,
            key=lambda incident: (
                incident.severity != IncidentSeverity.CRITICAL,
                incident.opened_at,
            ),
        )

    @property
    def closed_incidents(self) -> list[IncidentRecord]:
        """The closed incidents, the newest first."""
        return [incident for incident in self.incidents if incident.closed_at is not None]

    @property
    def unacknowledged_incidents(self) -> list[IncidentRecord]:
        """The open incidents that nobody has acknowledged."""
        return [incident for incident in self.open_incidents if not incident.acknowledged_by]

    @cached_property
    def retrainings(self) -> list[RetrainingRecord]:
        """The retraining decisions, the newest first."""
        statement = (
            sa.select(RetrainingRecord)
            .where(RetrainingRecord.model == self.config.name)
            .order_by(RetrainingRecord.as_of.desc(), RetrainingRecord.id.desc())
            .limit(_MAX_RECORDS)
        )
        return query_records(self.project, statement)

    @property
    def pending_retraining(self) -> RetrainingRecord | None:
        """The retraining that is due, or whose version waits for an approval or its deployment."""
        for record in self.retrainings:
            if record.status == RETRAINING_DUE or self._is_version_pending(record):
                return record
        return None

    def _is_version_pending(self, record: RetrainingRecord) -> bool:
        """Whether the version of a retraining is neither in service nor rejected yet."""
        if record.status != RunStatus.WAITING_FOR_APPROVAL:
            return False
        review = self.reviews_by_run.get(record.run_id)
        # The watch notes at its next pass what was decided in the meantime.
        return review is None or (review.promotion is None and not review.is_rejected)

    @cached_property
    def promotions(self) -> list[PromotionRecord]:
        """The promotions, the newest first."""
        return list_promotions(self.project)

    @property
    def current_promotion(self) -> PromotionRecord | None:
        """The promotion in force."""
        return get_first(self.promotions)

    @cached_property
    def reviews(self) -> dict[str, StoredReview]:
        """The reviewed versions by number; empty if the runs cannot be read."""
        with suppress(KitError, OSError, ValueError):
            return {review.number: review for review in list_reviews(self.project)}
        return {}

    @cached_property
    def reviews_by_run(self) -> dict[str, StoredReview]:
        """The version that a run made, by the run's name."""
        return {review.run.name: review for review in iterate_reviews(self.project)}

    def locate_promotion(self, promotion: PromotionRecord) -> datetime | None:
        """Return where a promotion is on the time axis; None if that is not known.

        If the watch follows the clock: when it was recorded. In a replay: the time as of which the
        version was made; for a rollback, the time of the last decision before it.
        """
        if not self.is_replay:
            return datetime.fromisoformat(promotion.promoted_at)
        if self._is_rollback(promotion):
            for record in self.retrainings:
                if record.decided_at <= promotion.promoted_at:
                    if promotion.promoted_at >= self.updated_at.isoformat():
                        return self.watched_until
                    return datetime.fromisoformat(record.as_of)
        review = self.reviews.get(promotion.version)
        if review is None:
            return None
        as_of = review.manifest.as_of
        for record in self.retrainings:
            if record.run_id == review.run.name:
                as_of = record.as_of
                break
        if not as_of:
            return None
        return self.config.to_utc(datetime.fromisoformat(as_of))

    def _is_rollback(self, promotion: PromotionRecord) -> bool:
        """Whether the version had been promoted before."""
        for earlier in self.promotions:
            if earlier.version == promotion.version and earlier.number < promotion.number:
                return True
        return False

    @cached_property
    def _accepted_references(self) -> dict[str, AcceptedReference]:
        return load_accepted_references(self.project)

    def get_reference(self, version: str) -> float | None:
        """Return the reference performance of a version; None if it is not known."""
        performance = self.get_reference_performance(version)
        return None if performance is None else performance.value

    def get_reference_performance(self, version: str) -> ReferencePerformance | None:
        """Return the reference performance of a version with what its limit rests on.

        It is what a person accepted, else that of the newest window, else what the review measured.
        """
        performance = self._find_stored_reference(version) or self._find_reviewed_value(version)
        if version in self._accepted_references:
            accepted = self._accepted_references[version].value
            return accept_value(performance or ReferencePerformance(None), accepted)
        return performance

    def _find_stored_reference(self, version: str) -> ReferencePerformance | None:
        windows = [window for window in reversed(self.windows) if window.version == version]
        for window in windows:
            if window.monitoring.reference is not None:
                return window.monitoring.reference
        for window in windows:  # of records of earlier versions, which have only the value
            if window.reference is not None:
                return ReferencePerformance(window.reference)
        return None

    def _find_reviewed_value(self, version: str) -> ReferencePerformance | None:
        review = self.reviews.get(version)
        if review is None:
            return None
        with suppress(KitError):
            for metric in review.metrics.values():
                if metric.metric == self.config.headline_metric:
                    return ReferencePerformance(metric.value, metric.low, metric.high)
        return None

    def _execute(self, statement: sa.Executable) -> list[Any]:
        """Execute a query of single values."""
        with open_read_session(self.project) as session:
            return list(session.execute(statement).all())

    def count_rows_by_day(self, max_days: int) -> list[DailyCount]:
        """Count the scored rows of the last days, by event time, in the order of time."""
        watched_days = -(-(self.watched_until - self.watched_from) // DAY)
        day_count = min(max_days, max(1, watched_days))
        starts = [self.watched_until - days * DAY for days in range(day_count, 0, -1)]
        statements = []
        for index, start in enumerate(starts):
            statement = sa.select(sa.literal(index), sa.func.count()).where(
                *self._has_event_time,
                PredictionRecord.event_time >= format_timestamp(start),
                PredictionRecord.event_time < format_timestamp(start + DAY),
            )
            statements.append(statement)
        counts = dict(self._execute(sa.union_all(*statements)))
        return [DailyCount(start, int(counts[index])) for index, start in enumerate(starts)]

    def get_last_event_time(self) -> str:
        """Return the event time of the newest scored row; empty if there is none."""
        statement = (
            sa.select(PredictionRecord.event_time)
            .where(*self._has_event_time)
            .order_by(PredictionRecord.event_time.desc())
            .limit(1)
        )
        rows = self._execute(statement)
        return str(rows[0][0]) if rows else ""

    def count_requests(self) -> list[RequestCount]:
        """Count the predictions of the last days by origin and version, the last one first."""
        first_day = format_timestamp(self.watched_until - REQUEST_DAYS * DAY)
        statement = (
            sa.select(
                PredictionRecord.origin,
                PredictionRecord.version,
                sa.func.count(),
                sa.func.max(PredictionRecord.scored_at),
            )
            .where(*self._has_event_time, PredictionRecord.event_time >= first_day)
            .group_by(PredictionRecord.origin, PredictionRecord.version)
        )
        counts = [RequestCount(*row) for row in self._execute(statement)]
        return sorted(counts, key=lambda count: count.last_scored_at, reverse=True)

    def get_last_endpoint_time(self) -> datetime | None:
        """Return when the endpoint scored a row of the last day or a later one."""
        statement = sa.select(sa.func.max(PredictionRecord.scored_at)).where(
            *self._has_event_time,
            PredictionRecord.event_time >= format_timestamp(self.watched_until - DAY),
            PredictionRecord.origin == ENDPOINT_ORIGIN,
        )
        [(scored_at,)] = self._execute(statement)
        return datetime.fromisoformat(scored_at) if scored_at else None

    def _list_label_times(self, limit: int) -> list[Any]:
        """List the event times of the newest labeled rows, and when their labels were known."""
        is_current_label = sa.and_(
            LabelRecord.prediction_id == PredictionRecord.id, LabelRecord.is_current
        )
        statement = (
            sa.select(PredictionRecord.event_time, LabelRecord.known_at)
            .join(LabelRecord, is_current_label)
            .where(*self._has_event_time)
            .order_by(PredictionRecord.event_time.desc())
            .limit(limit)
        )
        return self._execute(statement)

    def get_last_labeled_time(self) -> str:
        """Return the event time of the newest labeled row; empty if there is none."""
        rows = self._list_label_times(1)
        return str(rows[0][0]) if rows else ""

    def list_label_delays(self) -> list[float]:
        """List the delays of the newest labels in days, the shortest first."""
        delays = []
        for event_time, known_at in self._list_label_times(MAX_DELAY_LABELS):
            delay = datetime.fromisoformat(known_at) - datetime.fromisoformat(event_time)
            delays.append(delay / DAY)
        return sorted(delays)

    @cached_property
    def label_counts(self) -> dict[str, int]:
        """The label messages by what the import did with them."""
        statement = (
            sa.select(LabelRecord.outcome, sa.func.count())
            .where(LabelRecord.model == self.config.name)
            .group_by(LabelRecord.outcome)
        )
        return dict(self._execute(statement))
