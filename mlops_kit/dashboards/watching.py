"""What the watch has stored, read for the page: windows, incidents, decisions on retraining, answers, labels.

Nothing is computed here that was not stored, but for counts and quantiles that the database gives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from mlops_kit import decisions
from mlops_kit.config import Project
from mlops_kit.dashboards import versions
from mlops_kit.database import DUE, Incident, Label, Prediction, Retraining, Watch, Window, exists, rows, session, stamp
from mlops_kit.errors import KitError
from mlops_kit.results import Interval, Table, Verdict, Verdicts, revive
from mlops_kit.stage import WAITING

if TYPE_CHECKING:
    from mlops_kit.dashboards.versions import Version
    from mlops_kit.database import Promotion

MOST = 26  # windows on the page, the newest
DAYS, USUAL, ASKED = 30, 14, 7  # days of money saved, days that say what is usual, days of who asked
LATEST = 20_000  # labels whose delay is told
DAY = timedelta(days=1)


def known(value: Any) -> float | None:
    """A stored number, None for what is missing."""
    return None if value is None or value != value else float(value)


@dataclass(frozen=True)
class Stretch:
    """A monitored window: what was seen without labels, and what the labels said, once they were in."""

    row: Window
    headline: str

    @cached_property
    def start(self) -> datetime:
        """Its first moment."""
        return datetime.fromisoformat(self.row.start)

    @cached_property
    def end(self) -> datetime:
        """The moment after its last."""
        return datetime.fromisoformat(self.row.end)

    @property
    def version(self) -> str:
        """The version that was monitored in it."""
        return self.row.version

    @cached_property
    def looked(self) -> dict[str, Any]:
        """What was seen without labels."""
        found: dict[str, Any] = revive(json.loads(self.row.looked))
        return found

    @cached_property
    def settled(self) -> dict[str, Any] | None:
        """What the labels said; None while they are not due."""
        found: dict[str, Any] | None = revive(json.loads(self.row.settled)) if self.row.settled else None
        return found

    @property
    def estimated(self) -> Interval:
        """The headline metric expected without labels."""
        found: Interval = self.looked["estimated"]
        return found

    def measure(self, metric: str = "") -> dict[str, Any] | None:
        """The stored row of a metric that the labels gave; of the headline metric where none is named."""
        table: Table | None = self.settled["realised"] if self.settled else None
        found = table.data.to_dict("records") if table is not None else []
        return next(({str(k): v for k, v in r.items()} for r in found if r["metric"] == (metric or self.headline)), None)

    def realised(self, metric: str = "") -> Interval:
        """A metric as the labels gave it, with its interval; of None where they did not."""
        row = self.measure(metric)
        return Interval(known(row["value"]), known(row["low"]), known(row["high"])) if row else Interval(None)

    @cached_property
    def drift(self) -> list[dict[str, Any]]:
        """The drift of each column, as stored."""
        return [{str(k): v for k, v in r.items()} for r in self.looked["drift"].data.to_dict("records")]

    @property
    def verdicts(self) -> Verdicts:
        """All that was judged of it so far."""
        return Verdicts.of((self.settled or self.looked)["verdicts"])

    def verdict(self, check: str) -> Verdict | None:
        """The verdict of one check, if it was given."""
        return next((v for v in self.verdicts if v.check == check), None)


class Watched:
    """All that a project's watch has stored; of the windows the newest ``most``."""

    def __init__(self, project: Project, most: int = MOST) -> None:
        self.project, self.config, self.most = project, project.config, most
        self.zone = ZoneInfo(project.config.timezone)

    @cached_property
    def mark(self) -> Watch | None:
        """How far the watch has come; None where nothing is watched."""
        return next(iter(rows(self.project, sa.select(Watch).where(Watch.model == self.config.name))), None)

    @cached_property
    def since(self) -> datetime:
        """The moment from which it watches."""
        assert self.mark is not None
        return datetime.fromisoformat(self.mark.since)

    @cached_property
    def upto(self) -> datetime:
        """The moment up to which it has seen everything."""
        assert self.mark is not None
        return datetime.fromisoformat(self.mark.upto)

    @cached_property
    def passed(self) -> datetime:
        """When, by the clock, it made its last pass."""
        assert self.mark is not None
        return datetime.fromisoformat(self.mark.at)

    @property
    def following(self) -> datetime:
        """The moment of its next pass."""
        return self.upto + self.config.watch.every

    @property
    def lived(self) -> bool:
        """Whether it lives a past stretch of time and not by the clock."""
        return self.passed - self.upto > 2 * self.config.watch.every

    @property
    def stands(self) -> bool:
        """Whether it should have passed by the clock and has not."""
        return not self.lived and datetime.now(UTC) - self.passed > 2 * self.config.watch.every

    @cached_property
    def windows(self) -> list[Stretch]:
        """The newest windows, in their order."""
        asked = sa.select(Window).where(Window.model == self.config.name).order_by(Window.start.desc()).limit(self.most)
        return [Stretch(w, self.config.headline) for w in reversed(rows(self.project, asked))]

    @cached_property
    def settled(self) -> list[Stretch]:
        """Those of them whose labels were counted."""
        return [w for w in self.windows if w.settled]

    @cached_property
    def incidents(self) -> list[Incident]:
        """What somebody should know, the newest first."""
        return rows(self.project, sa.select(Incident).where(Incident.model == self.config.name).order_by(Incident.opened.desc(), Incident.id.desc()).limit(500))

    @property
    def still(self) -> list[Incident]:
        """The incidents that last, the worst first."""
        return sorted((i for i in self.incidents if i.closed is None), key=lambda i: (i.severity != "act", i.opened))

    @cached_property
    def decided(self) -> list[Retraining]:
        """The decisions on retraining, the newest first."""
        return rows(self.project, sa.select(Retraining).where(Retraining.model == self.config.name).order_by(Retraining.moment.desc(), Retraining.id.desc()).limit(500))

    def held(self) -> str:
        """What keeps the watch from the new version that there is a reason for; empty if nothing does."""
        said = (self.settled[-1].settled or {}).get("decision", {}) if self.settled else {}
        if said.get("action") not in {"wait", "stop"}:
            return ""
        return next((str(e["said"]) for e in said["evidence"] if e["applies"] and e["role"] in {"stop", "guard"}), "")

    def saved(self) -> tuple[float, timedelta] | None:
        """What the decisions saved in the last days that have their labels, and how long those are; None if that is not known."""
        recent = [w for w in self.settled if w.settled and w.settled.get("saved") is not None]
        within = [w for w in recent if w is recent[-1] or w.start >= recent[-1].end - DAYS * DAY]
        return (sum(w.settled["saved"] for w in within if w.settled), within[-1].end - within[0].start) if within else None

    @property
    def pending(self) -> Retraining | None:
        """The retraining that is on its way."""
        return next((r for r in self.decided if r.state in {DUE, WAITING}), None)

    @cached_property
    def promotions(self) -> list[Promotion]:
        """What served, the newest first."""
        return decisions.history(self.project)

    @property
    def serving(self) -> Promotion | None:
        """The promotion that holds."""
        return next(iter(self.promotions), None)

    @cached_property
    def made(self) -> dict[str, Version]:
        """The reviewed versions by number; nothing where no run can be read."""
        try:
            return {v.number: v for v in versions.versions(self.project)}
        except (KitError, OSError, ValueError):
            return {}

    @cached_property
    def outcomes(self) -> dict[str, Version]:
        """The version that a run made, by the run's name."""
        return {v.run.name: v for v in versions.reviewed(self.project)}

    def placed(self, promotion: Promotion) -> datetime | None:
        """Where a promotion stands on the line of time that is watched; None where nothing tells.

        By the clock, where the watch goes by it. In a past that is lived, at the moment as of which the
        version was made, or, for one that served before, at the last moment that had been decided on.
        """
        by_clock = datetime.fromisoformat(promotion.at)
        if not self.lived:
            return by_clock
        again = any(p.version == promotion.version and p.number < promotion.number for p in self.promotions)
        decided = next((r.moment for r in self.decided if r.at <= promotion.at), None)
        if again and decided:
            return self.upto if promotion.at >= self.passed.isoformat() else datetime.fromisoformat(decided)
        run = self.made.get(promotion.version)
        asked = next((r.moment for r in self.decided if run and r.run == run.run.name), None) or (run.manifest.get("as_of") if run else None)
        return self.config.utc(datetime.fromisoformat(asked)) if asked else None

    def promised(self, version: str) -> float | None:
        """The headline metric that the review of a version promised."""
        rows = (w.measure() for w in self.settled if w.version == version)
        found = next((known(r["promised"]) for r in rows if r and known(r["promised"]) is not None), None)
        if found is not None or version not in self.made:
            return found
        try:
            table = self.made[version].table("metrics").frame()
        except KitError:
            return None
        return next((known(r["value"]) for r in table.to_dict("records") if r["metric"] == self.config.headline), None)

    def counts(self, borders: list[tuple[datetime, datetime]]) -> list[int]:
        """How many rows were answered in each of these stretches, by the rows' own moments."""
        if not borders or not exists(self.project):
            return [0] * len(borders)
        counted = [sa.select(sa.literal(i).label("n"), sa.func.count().label("rows")).where(Prediction.model == self.config.name, Prediction.moment >= stamp(a), Prediction.moment < stamp(b)) for i, (a, b) in enumerate(borders)]
        with session(self.project) as opened:
            found = dict(opened.execute(sa.union_all(*counted)).all())
        return [int(found[i]) for i in range(len(borders))]

    def days(self, most: int) -> list[tuple[datetime, int]]:
        """The rows answered on each of the last days up to the last pass, the newest last."""
        count = min(most, max(1, -(-(self.upto - self.since) // DAY)))
        borders = [(self.upto - (i + 1) * DAY, self.upto - i * DAY) for i in reversed(range(count))]
        return [(a, n) for (a, _), n in zip(borders, self.counts(borders), strict=True)]

    @cached_property
    def last(self) -> Any:
        """The newest row that was answered, its moment and when it was."""
        with session(self.project) as opened:
            return opened.execute(sa.select(Prediction.moment, Prediction.at).where(Prediction.model == self.config.name, Prediction.moment.is_not(None)).order_by(Prediction.moment.desc()).limit(1)).first()

    @cached_property
    def answers(self) -> list[tuple[str, str, int, str]]:
        """Who asked which version in the last days, how often, and when last."""
        recent = Prediction.moment >= stamp(self.upto - ASKED * DAY)
        asked = sa.select(Prediction.origin, Prediction.version, sa.func.count(), sa.func.max(Prediction.at)).where(Prediction.model == self.config.name, recent).group_by(Prediction.origin, Prediction.version)
        with session(self.project) as opened:
            return sorted(opened.execute(asked).all(), key=lambda r: r[3], reverse=True)

    @cached_property
    def endpoint(self) -> datetime | None:
        """When the endpoint answered last, if it did for a row of the last day or a later one."""
        within = (Prediction.model == self.config.name, Prediction.moment >= stamp(self.upto - DAY), Prediction.origin == "endpoint")
        with session(self.project) as opened:
            found = opened.scalar(sa.select(sa.func.max(Prediction.at)).where(*within))
        return datetime.fromisoformat(found) if found else None

    @cached_property
    def labelled(self) -> str:
        """The moment of the newest row whose label is in; empty where none is."""
        asked = sa.select(Prediction.moment).join(Label, sa.and_(Label.prediction == Prediction.id, Label.counts)).where(Prediction.model == self.config.name, Prediction.moment.is_not(None))
        with session(self.project) as opened:
            return str(opened.scalar(asked.order_by(Prediction.moment.desc()).limit(1)) or "")

    @cached_property
    def words(self) -> dict[str, int]:
        """How many messages about labels became what."""
        with session(self.project) as opened:
            return dict(opened.execute(sa.select(Label.word, sa.func.count()).where(Label.model == self.config.name).group_by(Label.word)).all())

    @cached_property
    def late(self) -> list[float]:
        """How many days the newest labels took to come, in order of length."""
        asked = sa.select(Prediction.moment, Label.known).join(Label, sa.and_(Label.prediction == Prediction.id, Label.counts))
        newest = asked.where(Prediction.model == self.config.name, Prediction.moment.is_not(None)).order_by(Prediction.moment.desc()).limit(LATEST)
        with session(self.project) as opened:
            found = opened.execute(newest).all()
        return sorted((datetime.fromisoformat(k) - datetime.fromisoformat(str(m))) / DAY for m, k in found)
