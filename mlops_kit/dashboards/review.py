"""The review dashboard: is the new model fit to serve, and what happens if one says yes.

One screen answers: a sentence in the project's own terms, what approving does, the numbers beside the
champion's, where it is better, whether it means what it says, what failed, what changed. The other
tabs (``detail``) hold the evidence. Everything is read from what the runs stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mlops_kit import config as configs
from mlops_kit import decisions
from mlops_kit.config import Project
from mlops_kit.dashboards import draw, theme, versions
from mlops_kit.dashboards.theme import Html, card, grid, guarded, join, tag, words
from mlops_kit.dashboards.versions import Version
from mlops_kit.results import Verdicts, percent

if TYPE_CHECKING:
    import pandas as pd

TABS = {"verdict": "Verdict", "quality": "Quality", "slices": "Where it fails", "reasons": "Reasons", "data": "Data", "lineage": "Lineage", "history": "History", "card": "Card"}


class Review:
    """The page of one version beside another; each part is HTML that a notebook shows.

    Parameters
    ----------
    version : str
        Empty: the newest that waits for a decision, else the champion.
    against : str
        Empty: the one that it was compared with.
    """

    def __init__(self, project: Project, version: str = "", against: str = "") -> None:
        self.project = project
        self.known = versions.versions(project)
        if not self.known:
            return
        self.mine = versions.pick(self.known, version) if version else versions.asked_for(project, self.known)
        self.opponent = versions.opponent(self.mine)
        self.other = against or (self.opponent if self.opponent in {v.number for v in self.known} else "")
        self.beside: Version | None = versions.pick(self.known, self.other) if self.other else None

    @property
    def compared(self) -> bool:
        """Whether the two were judged on the same rows."""
        return bool(self.opponent) and self.other == self.opponent

    @property
    def verdicts(self) -> Verdicts:
        """All checks of the review, the ones against the champion included."""
        return Verdicts.of([*self.mine.read("verdicts"), *self.mine.read("comparison")])

    def difference(self, metric: str) -> dict[str, Any] | None:
        """The stored difference to the other version in a metric; None if there is none."""
        if not self.compared or "against" not in self.mine.artifacts:
            return None
        rows: list[dict[str, Any]] = self.mine.read("against").frame().to_dict("records")
        return next((r for r in rows if r["metric"] == metric), None)

    def head(self) -> Html:
        """The state, the sentence, what approving does, and what one can do."""
        about = f"{self.project.config.name} · {self.project.config.target}"
        if not self.known:
            return theme.empty("Model review", about, "No version has been reviewed yet.", "A run makes one, and this page then says whether it is fit to serve. Run", "mlops run")
        reviewed = self.mine.manifest["stages"].get("review", {}).get("started") or self.mine.manifest["started"]
        line = theme.top("Model review", f"{about} · version {self.mine.number}", f"made {moment(self.project, reviewed)}", who=theme.served())
        return line + guarded("Verdict", self.saying)

    def saying(self) -> Html:
        """The first card: state, sentence, detail, buttons."""
        colour, state = self.state()
        dialogs = buttons = ()
        return theme.say(colour, state, self.sentence(), self.detail(), buttons, dialogs) + self.choice()

    def state(self) -> tuple[str, str]:
        """The version's state: a colour; a shape and a word."""
        present = decisions.current(self.project)
        if self.mine.sample:
            return "watch", "◆ Sample"
        if present is not None and present.version == self.mine.number:
            return "good", "● Serves now"
        return self.verdicts.state

    def sentence(self) -> str:
        """What the decision hangs on, in one sentence."""
        return f"{self.claim()}{self.but()}"

    def claim(self) -> str:
        """What is better or worse than in the other version; with no other, what this one does."""
        return str(self.mine.manifest["stages"]["review"]["sentence"]).split(". ")[0]

    def but(self) -> str:
        """What speaks against it."""
        blocking = [v for v in self.verdicts if v.blocks]
        return f", but it is blocked: {blocking[0].sentence}" if blocking else ", and nothing blocks it."

    def detail(self) -> str:
        """What else one should know before saying yes."""
        unsure = self.verdicts.count("cannot tell")
        return f"{words(unsure, 'check').capitalize()} cannot tell yet." if unsure else ""

    def choice(self) -> Html:
        """Two lists to choose any two versions from."""
        if len(self.known) < 2 or not theme.served():
            return Html("")
        mine = join(tag("<option{}>{}</option>", Html(" selected") if v is self.mine else Html(""), v.number) for v in self.known)
        other = join(tag("<option{}>{}</option>", Html(" selected") if v.number == self.other else Html(""), v.number) for v in self.known if v is not self.mine)
        return tag('<form class=choose method=get><label>Version <select name=version>{}</select></label><label>against <select name=against>{}</select></label><button>Show</button></form>', mine, other)

    def tabs(self) -> Html:
        """The row of tabs."""
        return theme.tabs(TABS) if self.known else Html("")

    def panel(self, key: str, make: Callable[[], Html]) -> Html:
        """One tab's content; nothing where no version is known."""
        return theme.panel(key, guarded(TABS[key], make), first=key == "verdict") if self.known else Html("")

    def verdict(self) -> Html:
        """The first tab: numbers, comparison, calibration, checks, changes."""
        return self.panel("verdict", lambda: join([
            guarded("Numbers", lambda: grid(*(theme.number(n) for n in self.mine.read("numbers").items))),
            grid(guarded("Better?", self.better, 7), guarded("Does it mean what it says?", self.calibration, 5)),
            grid(guarded("Checks", self.checks, 8), guarded("What changed?", self.changes, 4)),
        ]))  # fmt: skip

    def better(self) -> Html:
        """Dots and whiskers: where it is better than the other version."""
        found = self.mine.read("against")
        rows = [draw.Row(str(r["title"]), r["low"], r["difference"], r["high"], r["margin"], r["verdict"], r["text"]) for r in found.frame().to_dict("records")]
        if not rows:
            return card("Better than before?", note=found.sentence, span=7)
        note = f"{found.sentence} Grey: how much worse each may be and still count as no worse."
        return card(f"Better than version {self.other}?", draw.interval_rows(rows, f"Differences to version {self.other} with intervals"), note=note, span=7)

    def calibration(self) -> Html:
        """What is seen where it says so, for both versions."""
        data: pd.DataFrame = self.mine.read("calibration").frame()
        lines = [draw.Line(list(zip(part["said"], part["seen"], strict=True)), "blue", "", str(name)) for name, part in data.groupby("model", sort=False)]
        ticks = [(v / 4, percent(v / 4)) for v in range(5)]
        return card("When it says 30 %, is it 30 %?", draw.curve(lines, "Seen against said", ticks, [v for v, _ in ticks], percent, diagonal=True, size=(430, 236)), note="Seen share against the prediction; dashed: perfect; columns: how often it says so.", span=5)

    def checks(self) -> Html:
        """The table of checks."""
        return card("Checks", theme.checks(self.verdicts), note=self.verdicts.sentence, span=8)

    def changes(self) -> Html:
        """What is different from the other version."""
        found = self.mine.read("changes").frame()
        return card(f"What changed since version {self.other}" if self.other else "What it is made of", theme.pairs(found.itertuples(index=False, name=None)), span=4)

    def html(self) -> Html:
        """The whole page."""
        return join([self.head(), self.tabs(), self.verdict()])


def moment(project: Project, when: str) -> str:
    """A stored moment in the project's zone, as a person writes it."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    there = datetime.fromisoformat(when).astimezone(ZoneInfo(project.config.timezone))
    return f"{there:%-d %B %Y, %H:%M}"


def open(version: str = "", against: str = "") -> Review:  # noqa: A001 - reads as review.open in a notebook
    """Open the page of the project that stands here: a notebook's first line, and what a visitor's address asks for."""
    asked = theme.asked()
    return Review(configs.load(), version or asked.get("version", ""), against or asked.get("against", ""))
