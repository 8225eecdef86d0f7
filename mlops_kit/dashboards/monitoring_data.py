"""What the watch has stored, read for the page: windows, incidents, decisions on retraining, answers, labels.

Nothing is computed here that was not stored, but for counts and quantiles that the database gives.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.core.results import Interval, Verdict, Verdicts
from mlops_kit.dashboards import version_data
from mlops_kit.db import approvals
from mlops_kit.db.engine import open_transaction, query_records
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
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance

MOST = 26  # windows on the page, the newest
ASKED = 7  # days of who asked
LATEST = 20_000  # labels whose delay is told
DAY = timedelta(days=1)


class Stretch:
    """A monitored window: what was seen without labels, and what the labels said, once they were in."""

    def __init__(self, row: WindowRecord, headline: str) -> None:
        self.row, self.headline, self.version = row, headline, row.version
        self.start, self.end = datetime.fromisoformat(row.start), datetime.fromisoformat(row.end)

    @cached_property
    def looked(self) -> WindowMonitoring:
        """What is known of the window without labels."""
        return WindowMonitoring.from_json(self.row.monitoring_json)

    @cached_property
    def settled(self) -> WindowPerformance | None:
        """What the labels of the window show; None while they are not due."""
        if self.row.realized_json is None:
            return None
        return WindowPerformance.from_json(self.row.realized_json)

    @property
    def estimated(self) -> Interval:
        """The headline metric expected without labels."""
        return self.looked.estimated

    def measure(self, metric: str = "") -> dict[str, Any]:
        """The stored row of a metric that the labels gave, of the headline metric where none is named; empty where they did not."""
        found = version_data.records(self.settled.realized) if self.settled else []
        return next((r for r in found if r["metric"] == (metric or self.headline)), {})

    def realised(self, metric: str = "") -> Interval:
        """A metric as the labels gave it, with its interval; of None where they did not."""
        row = self.measure(metric)
        return Interval(row.get("value"), row.get("low"), row.get("high"))

    @cached_property
    def drift(self) -> list[dict[str, Any]]:
        """The drift of each column, as stored."""
        return [{"cost": None, **r} for r in version_data.records(self.looked.drift)]

    @property
    def verdicts(self) -> Verdicts:
        """All that was judged of it so far."""
        return Verdicts.from_verdicts((self.settled or self.looked).verdicts)

    def verdict(self, check: str) -> Verdict | None:
        """The verdict of one check, if it was given."""
        return next((v for v in self.verdicts if v.check == check), None)


class Watched:
    """All that a project's watch has stored up to its mark; of the windows the newest ``most``.

    It watches since a moment, has seen everything up to another, and by the clock made its last pass at a third.
    """

    def __init__(self, project: Project, mark: WatchRecord, most: int) -> None:
        self.project, self.config, self.most = project, project.config, most
        self.since, self.upto, self.passed = map(
            datetime.fromisoformat, (mark.watched_from, mark.watched_until, mark.updated_at)
        )
        self.answered = (
            PredictionRecord.model == project.config.name,
            PredictionRecord.event_time.is_not(None),
        )

    @property
    def lived(self) -> bool:
        """Whether it lives a past stretch of time and not by the clock."""
        return self.passed - self.upto > 2 * self.config.watch.interval

    @property
    def stands(self) -> bool:
        """Whether it should have passed by the clock and has not."""
        return not self.lived and datetime.now(UTC) - self.passed > 2 * self.config.watch.interval

    @cached_property
    def windows(self) -> list[Stretch]:
        """The newest windows, in their order."""
        asked = (
            sa.select(WindowRecord)
            .where(WindowRecord.model == self.config.name)
            .order_by(WindowRecord.start.desc())
            .limit(self.most)
        )
        return [
            Stretch(w, self.config.headline_metric)
            for w in reversed(query_records(self.project, asked))
        ]

    @cached_property
    def settled(self) -> list[Stretch]:
        """Those of them whose labels were counted."""
        return [w for w in self.windows if w.settled]

    @cached_property
    def incidents(self) -> list[IncidentRecord]:
        """What somebody should know, the newest first."""
        return query_records(
            self.project,
            sa.select(IncidentRecord)
            .where(IncidentRecord.model == self.config.name)
            .order_by(IncidentRecord.opened_at.desc(), IncidentRecord.id.desc())
            .limit(500),
        )

    @property
    def still(self) -> list[IncidentRecord]:
        """The incidents that last, the worst first."""
        return sorted(
            (i for i in self.incidents if i.closed_at is None),
            key=lambda i: (i.severity != "act", i.opened_at),
        )

    @cached_property
    def decided(self) -> list[RetrainingRecord]:
        """The decisions on retraining, the newest first."""
        return query_records(
            self.project,
            sa.select(RetrainingRecord)
            .where(RetrainingRecord.model == self.config.name)
            .order_by(RetrainingRecord.as_of.desc(), RetrainingRecord.id.desc())
            .limit(500),
        )

    @property
    def pending(self) -> RetrainingRecord | None:
        """The retraining that is on its way."""
        return next(
            (
                r
                for r in self.decided
                if r.status in {RETRAINING_DUE, RunStatus.WAITING_FOR_APPROVAL}
            ),
            None,
        )

    @cached_property
    def promotions(self) -> list[PromotionRecord]:
        """What served, the newest first."""
        return approvals.list_promotions(self.project)

    @property
    def serving(self) -> PromotionRecord | None:
        """The promotion that holds."""
        return next(iter(self.promotions), None)

    @cached_property
    def made(self) -> dict[str, version_data.Version]:
        """The reviewed versions by number; nothing where no run can be read."""
        with suppress(KitError, OSError, ValueError):
            return {v.number: v for v in version_data.versions(self.project)}
        return {}

    @cached_property
    def outcomes(self) -> dict[str, version_data.Version]:
        """The version that a run made, by the run's name."""
        return {v.run.name: v for v in version_data.reviewed(self.project)}

    def placed(self, promotion: PromotionRecord) -> datetime | None:
        """Where a promotion stands on the line of time that is watched; None where nothing tells.

        By the clock, where the watch goes by it. In a past that is lived, at the moment as of which the
        version was made, or, for one that served before, at the last moment that had been decided on.
        """
        if not self.lived:
            return datetime.fromisoformat(promotion.promoted_at)
        again = any(
            p.version == promotion.version and p.number < promotion.number for p in self.promotions
        )
        decided = next(
            (r.as_of for r in self.decided if r.decided_at <= promotion.promoted_at), None
        )
        if again and decided:
            return (
                self.upto
                if promotion.promoted_at >= self.passed.isoformat()
                else datetime.fromisoformat(decided)
            )
        run = self.made.get(promotion.version)
        asked = next((r.as_of for r in self.decided if run and r.run_id == run.run.name), None) or (
            run.manifest.as_of if run else None
        )
        return self.config.to_utc(datetime.fromisoformat(asked)) if asked else None

    def promised(self, version: str) -> float | None:
        """The headline metric that the review of a version promised."""
        found: float | None = next(
            (
                r["reference"]
                for w in self.settled
                if w.version == version and (r := w.measure()) and r["reference"] is not None
            ),
            None,
        )
        with suppress(KitError):
            if found is None and version in self.made:
                return next(
                    (
                        r["value"]
                        for r in version_data.records(self.made[version].table("metrics"))
                        if r["metric"] == self.config.headline_metric
                    ),
                    None,
                )
        return found

    def ask(self, asked: Any) -> list[Any]:
        """The answer to a query of single values."""
        with open_transaction(self.project) as opened:
            return list(opened.execute(asked).all())

    def days(self, most: int) -> list[tuple[datetime, int]]:
        """The rows answered on each of the last days up to the last pass by the rows' own moments, the newest last."""
        count = min(most, max(1, -(-(self.upto - self.since) // DAY)))
        begins = [self.upto - (i + 1) * DAY for i in reversed(range(count))]
        counted = [
            sa.select(sa.literal(i), sa.func.count()).where(
                *self.answered,
                PredictionRecord.event_time >= format_timestamp(a),
                PredictionRecord.event_time < format_timestamp(a + DAY),
            )
            for i, a in enumerate(begins)
        ]
        found = dict(self.ask(sa.union_all(*counted)))
        return [(a, int(found[i])) for i, a in enumerate(begins)]

    def last(self) -> str:
        """The moment of the newest row that was answered; empty where none was."""
        return next(
            (
                m
                for (m,) in self.ask(
                    sa.select(PredictionRecord.event_time)
                    .where(*self.answered)
                    .order_by(PredictionRecord.event_time.desc())
                    .limit(1)
                )
            ),
            "",
        )

    def answers(self) -> list[tuple[str, str, int, str]]:
        """Who asked which version in the last days, how often, and when last."""
        asked = sa.select(
            PredictionRecord.origin,
            PredictionRecord.version,
            sa.func.count(),
            sa.func.max(PredictionRecord.scored_at),
        ).where(
            *self.answered, PredictionRecord.event_time >= format_timestamp(self.upto - ASKED * DAY)
        )
        return sorted(
            self.ask(asked.group_by(PredictionRecord.origin, PredictionRecord.version)),
            key=lambda r: r[3],
            reverse=True,
        )

    def endpoint(self) -> datetime | None:
        """When the endpoint answered last, if it did for a row of the last day or a later one."""
        [(found,)] = self.ask(
            sa.select(sa.func.max(PredictionRecord.scored_at)).where(
                *self.answered,
                PredictionRecord.event_time >= format_timestamp(self.upto - DAY),
                PredictionRecord.origin == "endpoint",
            )
        )
        return datetime.fromisoformat(found) if found else None

    def labels(self, most: int) -> list[Any]:
        """The moments of the newest rows whose labels are in, and the moments at which those were known."""
        asked = sa.select(PredictionRecord.event_time, LabelRecord.known_at).join(
            LabelRecord,
            sa.and_(LabelRecord.prediction_id == PredictionRecord.id, LabelRecord.is_current),
        )
        return self.ask(
            asked.where(*self.answered).order_by(PredictionRecord.event_time.desc()).limit(most)
        )

    @cached_property
    def words(self) -> dict[str, int]:
        """How many messages about labels became what."""
        return dict(
            self.ask(
                sa.select(LabelRecord.outcome, sa.func.count())
                .where(LabelRecord.model == self.config.name)
                .group_by(LabelRecord.outcome)
            )
        )

    def late(self) -> list[float]:
        """How many days the newest labels took to come, in order of length."""
        return sorted(
            (datetime.fromisoformat(known) - datetime.fromisoformat(moment)) / DAY
            for moment, known in self.labels(LATEST)
        )
