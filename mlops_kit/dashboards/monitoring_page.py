"""The monitoring dashboard: is the model that serves still well, and what is there to do until when?

One screen answers: a sentence, what lives, realised beside estimated performance, what is open, what
changed and whether it matters, whether to retrain. The other tabs hold the evidence. Everything is read
from what the watch stored (``watching``); how it is shown stands in ``templates/dashboards/monitoring.html``.

To add a tab: 1. its macro in that template, 2. its key and name in ``Monitoring.tabs``.
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import Verdict
from mlops_kit.dashboards import monitoring_charts, rendering, svg_charts
from mlops_kit.dashboards.monitoring_data import ASKED, DAY, LATEST, MOST, Watched
from mlops_kit.dashboards.page_base import Page
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.text_formats import day, full, months, words
from mlops_kit.db import approvals
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import RETRAINING_DUE, WatchRecord
from mlops_kit.project import loader
from mlops_kit.stats.metrics import METRICS

SHOWN = 60  # days of rows that are drawn


class Monitoring(Page):
    """The page of what serves.

    Parameters
    ----------
    file : Path, optional
        Where the page will stand as a file; links to the runs' files then lead from there.
    windows : int
        How many windows to look back over.
    """

    name, again = "monitoring", "mlops watch --once"
    tabs = {
        "now": "Now",
        "performance": "Performance",
        "drift": "Drift",
        "data": "Data",
        "incidents": "Incidents",
        "retraining": "Retraining",
        "service": "Service",
    }
    source = (
        "the database",
        "the database that the watch writes",
        "put it back, or mlops watch --once",
    )
    due, asked, latest, usual = (
        RETRAINING_DUE,
        ASKED,
        LATEST,
        14,
    )  # what the template names; ``usual``: days that say what is usual
    found: Watched

    def __init__(
        self, project: loader.Project, file: Path | None = None, windows: int = MOST
    ) -> None:
        self.most, self.metric = windows, METRICS[project.config.headline_metric]
        super().__init__(project, file)

    def read(self) -> bool:
        """Read how far the watch has come; whether it has begun."""
        if serving := approvals.get_current_promotion(self.project):
            self.about += f" · version {serving.version}"
        for mark in query_records(
            self.project, sa.select(WatchRecord).where(WatchRecord.model == self.config.name)
        ):
            self.found = Watched(self.project, mark, self.most)
        return hasattr(self, "found")

    @cached_property
    def state(self) -> str:
        """How the model is, as a word: the template's ``STATES`` say how it looks."""
        found, outcome = self.found, self.proof.outcome if self.proof else ""
        if found.stands:
            return "stands"
        if not found.windows:
            return "empty"
        worst = any(i.severity == "act" for i in found.still) or outcome == "failed"
        if worst and not self.replaced:
            return "act"
        if (
            worst
            or any(i.acknowledged_by is None for i in found.still)
            or (outcome == "cannot tell" and self.settled_value is not None)
        ):
            return "look"
        return "healthy" if self.settled_value is not None else "unlabelled"

    @cached_property
    def proof(self) -> Verdict | None:
        """What the newest labels say of the promise; None while none are in."""
        return self.found.settled[-1].verdict("realised") if self.found.settled else None

    @property
    def settled_value(self) -> float | None:
        """What was measured on the newest labels; None where none are in, or too few."""
        return self.found.settled[-1].realised().value if self.found.settled else None

    @property
    def replaced(self) -> bool:
        """Whether another version serves than the one that the newest labels are of."""
        return any(
            self.found.serving and w.version != self.found.serving.version
            for w in self.found.settled[-1:]
        )

    def next_pass(self) -> str:
        """When the watch passes next, as one says it."""
        at, today = (
            (self.found.upto + self.config.watch.interval).astimezone(self.zone),
            datetime.now(self.zone),
        )
        if self.found.lived:
            return full(at, self.zone)
        if at < today:
            return "the next pass"
        return f"{ {0: 'today', 1: 'tomorrow'}.get((at.date() - today.date()).days, f'{at:%-d %B}') }, {at:%H:%M}"

    def price(self, value: float) -> str:
        """What a cost amounts to, in words."""
        least, most = self.config.review.margin, self.config.monitor.max_drop
        if value < least:
            return (
                f"it costs about {format_number(max(value, 0.0))}, too little to act on"
                if value > 0
                else "it costs nothing"
            )
        return f"it costs about {format_number(value)} of {self.metric.title}" + (
            f", over the limit of {format_number(most)}" if value >= most else ""
        )

    def curve(self, kind: str) -> Html:
        """Performance over time, ``broad`` or ``slim``."""
        return monitoring_charts.curve(self, kind)

    def heat(self) -> list[tuple[str, list[svg_charts.Cell | None]]]:
        """Drift by column and window."""
        return [
            monitoring_charts.line(self, c, self.found.windows)
            for c in monitoring_charts.ranked(self.found.windows)
        ]

    def volume(self) -> tuple[Html, str]:
        """Rows by day beside what is usual, drawn and in words."""
        days = self.found.days(SHOWN)
        counts, begin = sorted(n for _, n in days), days[0][0]
        low, high = counts[len(counts) // 10], counts[-1 - len(counts) // 10]
        ticks = months(begin, self.found.upto, self.zone, lambda m: (m - begin) / DAY, 8)
        picture = svg_charts.columns(
            [(i + 0.5, n, f"{day(a, self.zone)}: {n:,} rows") for i, (a, n) in enumerate(days)],
            ticks,
            (low, high),
            "Rows by day",
        )
        return (
            picture,
            f"The last {words(len(days), 'day')} up to {full(self.found.upto, self.zone)}. Shaded: eight days of ten, {low:,} – {high:,}.",
        )

    def html(self) -> Html:
        """The whole page; after everything else what stands behind its cells, for the page is seen before it is clicked."""
        return super().html() + self.sketches()

    def sketches(self) -> Html:
        """The distributions by window and column behind the cells, as data for the page's script, in which no text ends the element."""
        return rendering.part(self.name, "sketches", self)


def page(project: loader.Project, file: Path | None = None, **asked: str) -> Html:
    """The whole page as HTML; ``file`` says where it will stand.

    Raises
    ------
    KitError
        If a version is asked for: the page is of what serves.
    """
    if named := next((k for k, v in asked.items() if v), ""):
        raise KitError(
            f"the monitoring page takes no --{named}",
            "nothing: it is of what serves",
            "mlops report --dashboard monitoring",
        )
    return Monitoring(project, file).html()


def open(windows: int = MOST) -> Monitoring:
    """Open the page of the project that stands here, over so many windows."""
    rendering.asked(lambda: Monitoring(loader.load_project(), windows=windows).html())
    return Monitoring(loader.load_project(), windows=windows)
