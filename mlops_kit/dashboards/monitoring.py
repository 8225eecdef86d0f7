"""The monitoring dashboard: is the model that serves still well, and what is there to do until when?

One screen answers: a sentence, what lives, realised beside estimated performance, what is open, what
changed and whether it matters, whether to retrain. The other tabs (``service``) hold the evidence.
Everything is read from what the watch stored (``watching``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mlops_kit import config as configs
from mlops_kit.config import Project
from mlops_kit.dashboards import changed, lines, service, theme
from mlops_kit.dashboards.theme import Html, grid, guarded, join, tag, words
from mlops_kit.dashboards.watching import DAY, MOST, USUAL, Watched
from mlops_kit.dashboards.wording import ago, amount, between, day, full, length, lower, span
from mlops_kit.database import DUE
from mlops_kit.errors import KitError
from mlops_kit.metrics import METRICS
from mlops_kit.results import Verdict, number

TABS = {"now": "Now", "performance": "Performance", "drift": "Drift", "data": "Data", "incidents": "Incidents", "retraining": "Retraining", "service": "Service"}
STATES = {
    "stands": ("act", "▲ Stands still"), "act": ("act", "▲ Act"), "look": ("watch", "◆ Look"), "healthy": ("good", "● Healthy"),
    "unlabelled": ("faint", "○ No labels yet"), "empty": ("faint", "○ Nothing to judge yet"),
}  # fmt: skip
AGAIN = "mlops watch --once"


class Monitoring:
    """The page of what serves; each part is HTML that a notebook shows.

    Parameters
    ----------
    file : Path, optional
        Where the page will stand as a file; links to the runs' files then lead from there.
    windows : int
        How many windows to look back over.
    """

    def __init__(self, project: Project, file: Path | None = None, windows: int = MOST) -> None:
        self.project, self.config, self.file = project, project.config, file
        self.found = Watched(project, windows)
        self.metric = METRICS[project.config.headline]
        self.wrong: KitError | None = None
        try:
            self.watched = self.found.mark is not None
        except KitError as error:
            self.wrong = error
        except (sa.exc.SQLAlchemyError, OSError, ValueError) as error:
            self.wrong = KitError(f"the database cannot be read: {str(error).splitlines()[0]}", "the database that the watch writes", "put it back, or mlops watch --once")

    @property
    def about(self) -> str:
        """What the page is of."""
        serving = None if self.wrong is not None else self.found.serving
        return f"{self.config.name} · {self.config.target}{f' · version {serving.version}' if serving else ''}"

    def head(self) -> Html:
        """The state, the sentence, what one can do, what lives, and the row of tabs."""
        if self.wrong is not None:
            return theme.empty("Monitoring", self.about, f"{self.wrong.what[0].upper()}{self.wrong.what[1:]}.", f"Expected: {self.wrong.expected}. To mend it:", self.wrong.cure)
        if not self.watched:
            return theme.empty("Monitoring", self.about, "Nothing is watched yet.", "A pass of the watch scores what is new, imports labels and monitors; this page then says how the model is. Run", AGAIN)
        line = theme.top("Monitoring", self.about, tag("up to {} · refreshed {}", full(self.found.upto, self.found.zone), self.refreshed()), who=theme.served())
        return join([line, guarded("State", self.saying, cure=AGAIN), guarded("Is it alive?", self.alive, cure=AGAIN), theme.tabs(TABS)])

    def refreshed(self) -> Html:
        """When the last pass was made: how long ago, where a script can go on counting."""
        if not theme.served():
            return tag("{}", full(self.found.passed, self.found.zone))
        return tag('<time datetime="{}" data-ago>{} ago</time>', self.found.passed.isoformat(), ago(datetime.now(UTC) - self.found.passed))

    def saying(self) -> Html:
        """The first card: state, sentence, detail, buttons."""
        colour, word = STATES[self.state]
        buttons, dialogs = self.actions() if theme.served() else ([], [])
        return theme.say(colour, word, f"{self.claim()} {self.todo()}".strip(), self.detail(), buttons, dialogs)

    @cached_property
    def state(self) -> str:
        """One of the keys of ``STATES``."""
        found = self.found
        if not found.windows:
            return "stands" if found.stands else "empty"
        if found.stands:
            return "stands"
        worst = any(i.severity == "act" for i in found.still) or (self.proof is not None and self.proof.outcome == "failed")
        if worst and not self.replaced:
            return "act"
        if worst or any(i.seen_by is None for i in found.still) or (self.proof is not None and self.proof.outcome == "cannot tell" and self.settled_value):
            return "look"
        return "healthy" if self.settled_value else "unlabelled"

    @cached_property
    def proof(self) -> Verdict | None:
        """What the newest labels say of the promise; None while none are in."""
        return self.found.settled[-1].verdict("realised") if self.found.settled else None

    @property
    def settled_value(self) -> bool:
        """Whether any labels were enough to measure on."""
        return bool(self.found.settled) and self.found.settled[-1].realised().value is not None

    @property
    def replaced(self) -> bool:
        """Whether another version serves than the one that the newest labels are of."""
        found = self.found
        return bool(found.settled and found.serving) and found.settled[-1].version != found.serving.version  # type: ignore[union-attr]

    def claim(self) -> str:
        """How the model is, in a sentence."""
        found, title = self.found, self.metric.title
        if self.state == "stands":
            return f"Nobody has looked since {full(found.passed, found.zone)}."
        if self.state == "empty":
            return "No window has ended yet."
        if self.state == "unlabelled":
            return f"No labels are in yet; {self.guess()}."
        last = found.settled[-1] if found.settled else None
        value = last.realised().value if last else None
        failed = self.proof is not None and self.proof.outcome == "failed" and value is not None
        if self.replaced and self.state == "look" and failed and last and found.serving:
            return f"Version {last.version} fell below what was promised; version {found.serving.version} has taken its place."
        if failed and last:
            return f"{title} fell to {number(value)}; {number(found.promised(last.version))} was promised."
        return self.open_claim()

    def open_claim(self) -> str:
        """How it is where the labels prove no fall: what is open."""
        unseen = [i for i in self.found.still if i.seen_by is None or i.severity == "act"]
        told = "The labels cannot tell yet whether it is as good as promised" if self.proof is None or self.proof.outcome != "passed" else "As good as promised"
        if not unseen:
            return f"{told}."
        return f"{told}, but {lower(unseen[0].title) if len(unseen) == 1 else f'{len(unseen)} incidents are open'}."

    def guess(self) -> str:
        """What the estimate says of the promise, where labels do not."""
        last = self.found.windows[-1]
        value, promise = last.estimated.value, self.found.promised(last.version)
        if value is None or promise is None:
            return "nothing tells how good it is"
        return f"the estimate is {'as good as' if self.metric.gain(value, promise) >= -self.config.monitor.fall else 'worse than'} promised"

    def todo(self) -> str:
        """What there is to do, and until when."""
        found, by = self.found, self.next_pass()
        if self.state == "stands":
            return "Start mlops watch."
        if self.state == "empty":
            return f"The first is looked at on {full(max(found.since + self.config.watch.window, found.upto), found.zone)}."
        if self.state == "act":
            before = found.serving.before if found.serving else None
            if found.pending:
                return "A new version is on its way." if found.pending.state == DUE else "A new version waits for a decision."
            return f"Retrain{f', or go back to version {before},' if before else ''} before {by}."
        unseen = any(i.seen_by is None for i in found.still)
        return f"Look at it before {by}." if self.state == "look" and unseen and not self.replaced else f"Nothing to do before {by}."

    def next_pass(self) -> str:
        """When the watch passes next, as one says it."""
        at, zone = self.found.following.astimezone(self.found.zone), self.found.zone
        today = datetime.now(zone).date()
        if self.found.lived:
            return full(self.found.following, zone)
        if at < datetime.now(zone):
            return "the next pass"
        return f"{ {0: 'today', 1: 'tomorrow'}.get((at.date() - today).days, f'{at:%-d %B}')}, {at:%H:%M}"

    def detail(self) -> Html:
        """The newest window in numbers, what its drift costs, and what is on its way."""
        if not self.found.windows:
            often = f"every {length(self.config.watch.every)}".replace("every 1 ", "every ")
            return tag("A window is {} long; rows are scored and labels imported {}.", length(self.config.watch.window), often)
        told: list[Any] = [self.measured(), self.dearest()]
        if self.found.pending is not None:
            told.append(self.way(self.found.pending.state))
        elif self.state == "act" and (held := self.found.held()):
            told.append(f"The watch makes no new version yet: {lower(held)}")
        return join(filter(None, told), " ")

    def measured(self) -> str:
        """The newest window's estimate beside the promise."""
        last, title = self.found.windows[-1], self.metric.title
        when, promise = span(last.start, last.end, self.found.zone), self.found.promised(last.version)
        by = f" by version {last.version}" if self.found.serving and self.found.serving.version != last.version else ""
        tail = f", promised {number(promise)}." if promise is not None else "."
        if last.estimated.value is not None:
            return f"Estimated {title} {between(last.estimated)}, {when}{by}{tail}"
        done = self.found.settled[-1] if self.found.settled else None
        return f"{title} realised {between(done.realised())}, {span(done.start, done.end, self.found.zone)}{tail}" if done and done.realised().value is not None else ""

    def dearest(self) -> Any:
        """The drift of the newest window that costs most, in words."""
        last = self.found.windows[-1]
        moved = [r for r in last.drift if r["word"] == "alert" and r["column"] != "score"]
        if not last.drift:
            return ""
        if not moved:
            return "No column has drifted."
        priced = sorted((r for r in moved if changed.cost(r) is not None), key=lambda r: -(changed.cost(r) or 0))
        if not priced:
            return tag("<b>{}</b> is unlike what it was judged on; what that costs is not known.", moved[0]["column"])
        row, value = priced[0], changed.cost(priced[0]) or 0.0
        return tag("<b>{}</b> is unlike what it was judged on; {}.", row["column"], changed.price(value, self.config))

    def way(self, state: str) -> Html:
        """That a new version is on its way, with the way to decide on it."""
        if state == DUE:
            return tag("A retraining is due; its next pass makes it.")
        page = tag('<a href="{}review">Review it</a>.', os.environ.get("VOILA_BASE_URL", "/")) if theme.served() else Html("")
        return tag("A new version waits for a decision. {}", page)

    def actions(self) -> tuple[list[Html], list[Html]]:
        """The buttons, and the dialogs they open."""
        found, made = self.found, [self.retrain()]
        serving = found.serving
        if serving is not None and serving.before is not None:
            text = f"Version {serving.before} serves again at once; version {serving.version} does not. Both stay in the registry."
            made.append((theme.button("rollback", f"Go back to {serving.before} …"), theme.dialog("rollback", f"Go back to version {serving.before}?", {"version": serving.version}, text, f"Go back to {serving.before}")))
        unseen = [i for i in found.still if i.seen_by is None]
        if unseen:
            choice = join(tag('<option value="{}">{}</option>', i.id, i.title) for i in unseen)
            named = tag("<label for=which>Incident</label><select id=which name=id>{}</select>", choice)
            text = "It stays open until it is over; others see that you know, and what you make of it."
            made.append((theme.button("acknowledge", "Acknowledge", main=True), theme.dialog("acknowledge", "Acknowledge an incident", {}, text, "Acknowledge", more=named)))
        return [b for b, _ in made], [d for _, d in made]

    def retrain(self) -> tuple[Html, Html]:
        """The button that asks for a new model, and its dialog."""
        found = self.found
        closed = f"A retraining is on its way already, decided by {found.pending.by}." if found.pending else ""
        then = "serves by itself if its review passes" if self.config.approval == "automatic" else "waits for an approval"
        text = f"The chain runs as of {full(found.upto, found.zone)}, on the rows known then. The new version {then}."
        return theme.button("retrain", "Retrain anyway …", closed=closed), theme.dialog("retrain", "Make a new version?", {}, text, "Retrain")

    def alive(self) -> Html:
        """What lives: rows scored, the newest of them, labels, money."""
        found, zone = self.found, self.found.zone
        days = [n for _, n in found.days(USUAL + 1)]
        usual = f", usual {min(days[:-1]):,} – {max(days[:-1]):,}" if len(days) > 1 else ""
        whole = f"on {day(found.upto - DAY, zone)}" if found.upto.astimezone(zone).hour == 0 else "in the last 24 hours"
        odd = bool(days[:-1]) and not min(days[:-1]) * 0.8 <= days[-1] <= max(days[:-1]) * 1.2
        told = [tag("<b{}>{}{}</b> scored {}{}", Html(" class=watch") if odd else Html(""), "◆ " if odd else "", f"{days[-1]:,}", whole, usual)]
        if found.last:
            told.append(tag("newest row <b>{}</b>", full(datetime.fromisoformat(found.last[0]), zone, year=False)))
        if found.endpoint:
            told.append(tag("<b>{}</b> since the endpoint answered last", ago(datetime.now(UTC) - found.endpoint)))
        told.append(tag("labels in up to <b>{}</b>", day(datetime.fromisoformat(found.labelled), zone)) if found.labelled else Html("<b>no</b> labels yet"))
        if self.config.cost.unit and (kept := found.saved()):
            told.append(tag("<b>{}</b> saved in {}", amount(kept[0], self.config.cost.unit), words(kept[1] // DAY, "day")))
        note = Html('<p class="alive watch" data-note role=status hidden></p>') if theme.served() else Html("")
        return tag("<div class=alive>{}</div>{}", join(tag("<span>{}</span>", t) for t in told), note)

    def panel(self, key: str) -> Html:
        """What a tab shows; nothing where nothing is watched."""
        if self.wrong is not None or not self.watched:
            return Html("")
        make: Callable[[], Html] = self.first if key == "now" else lambda: service.TABS[key](self)
        return theme.panel(key, guarded(TABS[key], make, cure=AGAIN), first=key == "now")

    def first(self) -> Html:
        """The first tab: performance, incidents, drift, decisions."""
        pair = grid(guarded("Is it still good?", lambda: lines.good(self), 8, AGAIN), guarded("Open incidents", lambda: service.open_incidents(self), 4, AGAIN))
        return pair + grid(guarded("What changed, and does it matter?", lambda: changed.heat(self), 8, AGAIN), guarded("Retraining", lambda: service.newest_decisions(self), 4, AGAIN))

    def html(self) -> Html:
        """The whole page."""
        return join([self.head(), *map(self.panel, TABS), self.sketches()])

    def sketches(self) -> Html:
        """The distributions behind the cells, for the page's script; after everything else, for the page is seen before it is clicked."""
        return changed.sketches(self) if self.wrong is None and self.watched else Html("")


def page(project: Project, file: Path | None = None, **asked: str) -> Html:
    """The whole page as HTML; ``file`` says where it will stand.

    Raises
    ------
    KitError
        If a version is asked for: the page is of what serves.
    """
    named = next((k for k, v in asked.items() if v), "")
    if named:
        raise KitError(f"the monitoring page takes no --{named}", "nothing: it is of what serves", "mlops report --dashboard monitoring")
    return Monitoring(project, file).html()


def open(windows: int = MOST) -> Monitoring:  # noqa: A001 - reads as monitoring.open in a notebook
    """Open the page of the project that stands here, over so many windows."""
    theme.asked(lambda: Monitoring(configs.load(), windows=windows).html())
    return Monitoring(configs.load(), windows=windows)
