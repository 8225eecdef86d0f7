"""The review dashboard: is the new model fit to serve, and what happens if one says yes.

One screen answers: a sentence in the project's own terms, what approving does, the numbers beside the
champion's, where it is better, whether it means what it says, what failed, what changed. The other
tabs (``detail``) hold the evidence. Everything is read from what the runs stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from mlops_kit import config as configs
from mlops_kit import decisions
from mlops_kit.config import Project
from mlops_kit.dashboards import detail, draw, theme, versions
from mlops_kit.dashboards.theme import Html, card, grid, guarded, join, tag
from mlops_kit.dashboards.versions import Version
from mlops_kit.errors import KitError
from mlops_kit.results import money

TABS = {"verdict": "Verdict", "quality": "Quality", "slices": "Where it fails", "reasons": "Reasons", "data": "Data", "lineage": "Lineage", "history": "History", "card": "Card"}
FIRST = re.compile(r"(?<=[^\W_]|[\])%])\. (?=[^\W\d_a-z])")  # between two sentences
HEADS = {"rejected": ("act", "▲ Rejected"), "changes": ("watch", "◆ Changes asked for"), "approved": ("watch", "◆ Approved, on its way")}


class Review:
    """The page of one version beside another; each part is HTML that a notebook shows.

    Parameters
    ----------
    version : str
        Empty: the newest that waits for a decision, else the champion.
    against : str
        Empty: the one that it was compared with.
    file : Path, optional
        Where the page will stand as a file; links to the runs' files then lead from there.
    """

    def __init__(self, project: Project, version: str = "", against: str = "", file: Path | None = None) -> None:
        self.project, self.file = project, file
        self.known: list[Version] = []
        self.wrong: KitError | None = None
        try:
            self.known = versions.versions(project)
            if not self.known:
                return
            self.mine = versions.pick(self.known, version) if version else versions.asked_for(self.known)
            other = against or next((v.number for v in self.known if v.number == self.mine.opponent), "")
            self.other: Version | None = versions.pick(self.known, other) if other else None
        except KitError as error:
            self.wrong = error
        except (OSError, ValueError) as error:
            self.wrong = KitError(f"what a run stored cannot be read: {error}", "files as the run wrote them", versions.AGAIN)

    @cached_property
    def compared(self) -> bool:
        """Whether the two were judged on the same rows."""
        return self.other is not None and self.other.number == self.mine.opponent

    @property
    def about(self) -> str:
        """What the page is of."""
        return f"{self.project.config.name} · {self.project.config.target}"

    def head(self) -> Html:
        """The state, the sentence, what approving does, what one can do, and the row of tabs."""
        if self.wrong is not None:
            return theme.empty("Model review", self.about, f"{self.wrong.what[0].upper()}{self.wrong.what[1:]}.", f"Expected: {self.wrong.expected}. To mend it:", self.wrong.cure)
        if not self.known:
            return theme.empty("Model review", self.about, "No version has been reviewed yet.", "A run makes one; this page then says whether it is fit to serve. Run", "mlops run")
        made = self.mine.manifest["stages"].get("review", {}).get("started") or self.mine.manifest["started"]
        line = theme.top("Model review", tag("{} · {}", self.about, self.choice()), f"made {theme.moment(self.project, made)}", who=theme.served())
        return join([line, guarded("Verdict", self.saying), theme.tabs(TABS)])

    def saying(self) -> Html:
        """The first card: state, sentence, detail, buttons."""
        colour, state = self.state()
        buttons, dialogs = self.actions() if theme.served() else ([], [])
        return theme.say(colour, state, self.sentence(), self.detail(), buttons, dialogs)

    def state(self) -> tuple[str, str]:
        """The version's state: a colour; a shape and a word."""
        if self.mine.serves:
            return "good", "● Serves now"
        if self.mine.sample:
            return "watch", "◆ A sample"
        if self.mine.promotion is not None:
            return "faint", "○ Served before"
        colour, word = self.mine.verdicts.state
        return HEADS.get(self.mine.said, (colour, word.replace("Fit to serve, with", "Fit, with")))

    def sentence(self) -> str:
        """What the decision hangs on, in one sentence."""
        return f"{self.claim()}{self.but()}"

    def claim(self) -> str:
        """How it stands to the other version in what matters most; with no other, what it does alone."""
        me, rows = f"Version {self.mine.number}", self.differences() if self.compared else []
        if not rows:
            told = FIRST.split(self.mine.numbers.sentence, maxsplit=1)[0].removesuffix(".")
            return f"{me}: {re.sub('^A ', 'a ', told)}"
        first = next((r for r in rows if r["metric"] == "cost"), rows[0])
        return f"{me} {standing(first, f'version {self.mine.opponent}', self.project.config)}"

    def differences(self) -> list[dict[str, Any]]:
        """The stored differences to the version that it was compared with."""
        if "against" not in self.mine.artifacts:
            return []
        return [{str(k): v for k, v in row.items()} for row in self.mine.table("against").frame().to_dict("records")]

    def but(self) -> str:
        """What speaks against it, or what became of it."""
        last = next(iter(self.mine.opinions), None)
        blocking = next((v for v in self.mine.verdicts if v.blocks), None)
        if blocking:
            return f", but it is blocked: {blocking.title[0].lower()}{blocking.title[1:]} fails."
        if self.mine.sample:
            return f", but it was made from a sample of {self.mine.sample:,} rows and cannot serve."
        if self.mine.serves or self.mine.promotion is not None or last is None:
            return ", and nothing blocks it."
        return {"rejected": f", but {last.by} rejected it.", "changes": f", but {last.by} asked for changes.", "approved": f", and {last.by} approved it."}[last.word]

    def detail(self) -> Html:
        """What else one should know before one decides, and what saying yes does."""
        last, told = next(iter(self.mine.opinions), None), [self.flagged(), theme.doubts(self.mine.verdicts)]
        present = decisions.current(self.project)
        if self.mine.serves and present is not None:
            told.append(f"It serves since {theme.moment(self.project, present.at)}, by {present.by}: {present.why}.")
        elif last is not None:
            told.append(f"{last.by}, {theme.moment(self.project, last.at)}: “{last.why}”.")
        if not self.closed() and theme.served():
            told.append(f"Approving serves it at once{f', and keeps version {present.version} to go back to' if present else ''}.")
        return join(filter(None, told), " ")

    def flagged(self) -> str:
        """What a flag means, in whole rows of a hundred."""
        found = next((n for n in self.mine.numbers.items if n.title.endswith(" among flagged")), None)
        if found is None or not found.value.endswith(" %"):
            return ""
        other = next((b.removesuffix(" %") for b in found.beside if b.startswith("version ")), "")
        return f"Of 100 {self.project.config.row}s that it flags, {found.value.removesuffix(' %')} are {self.project.config.target}{f' ({other})' if other else ''}."

    def closed(self) -> str:
        """Why it cannot be approved, whoever asks."""
        blocking = next((v for v in self.mine.verdicts if v.blocks), None)
        if blocking:
            return f"What blocks it: {blocking.sentence}"
        if self.mine.sample:
            return "A sample is never promoted."
        return "" if self.mine.waits else f"Its run does not wait for a decision: it is {self.mine.manifest['status']}."

    def actions(self) -> tuple[list[Html], list[Html]]:
        """The buttons, and the dialogs they open."""
        number, present = self.mine.number, decisions.current(self.project)
        if self.mine.serves and present is not None:
            if present.before is None:
                return [], []
            text = f"Version {present.before} serves again at once; version {number} does not. Both stay in the registry."
            return [theme.button("rollback", f"Go back to {present.before} …")], [theme.dialog("rollback", f"Go back to version {present.before}?", {"version": number}, text, f"Go back to {present.before}")]
        if self.mine.promotion is not None or self.mine.sample:
            return [], []
        kept = f" and version {present.version} is kept to go back to" if present else ""
        made = [
            ("ask", "Ask for changes", f"Ask for changes to version {number}?", "It does not serve; who made it reads what you write here.", "Ask for changes", ""),
            ("reject", "Reject", f"Reject version {number}?", "It will not serve; what serves goes on serving.", "Reject", ""),
            ("approve", "Approve …", f"Approve version {number}?", f"It serves at once{kept}.", "Approve", self.closed()),
        ]
        buttons = [theme.button(act, word, act == "approve", closed) for act, word, *_, closed in made]
        return buttons, [theme.dialog(act, title, self.mine.facts, text, word) for act, _, title, text, word, _ in made]

    def choice(self) -> Html:
        """Which version, and where there are more, two lists to choose any two from."""
        if len(self.known) < 2 or not theme.served():
            return tag("version {}", self.mine.number)
        other = self.other.number if self.other else ""
        mine = join(option(v.number, v is self.mine) for v in self.known)
        rest = join([option("", not other), *(option(v.number, v.number == other) for v in self.known if v is not self.mine)])
        lists = "<form class=choose method=get><label>version <select name=version>{}</select></label> <label>beside <select name=against>{}</select></label><noscript><button>Show</button></noscript></form>"
        return tag(lists, mine, rest)

    def panel(self, key: str) -> Html:
        """What a tab shows; nothing where there is no version to show."""
        if not self.known or self.wrong is not None:
            return Html("")
        make: Callable[[], Html] = self.first if key == "verdict" else lambda: detail.TABS[key](self)
        return theme.panel(key, guarded(TABS[key], make), first=key == "verdict")

    def first(self) -> Html:
        """The first tab: numbers, comparison, calibration, checks, changes."""
        calibration = "calibration" in self.mine.artifacts
        return join([
            guarded("Numbers", lambda: grid(*map(theme.number, self.mine.numbers.items))),
            grid(guarded("Is it better?", self.better, 7), guarded("Does it mean what it says?", lambda: detail.calibration(self), 5)) if calibration else grid(guarded("Is it better?", self.better)),
            grid(guarded("Checks", self.checks, 8), guarded("What changed?", self.changes, 4)),
        ])  # fmt: skip

    def better(self) -> Html:
        """Dots and whiskers about the other version; or both versions' own numbers, where they were not judged on the same rows."""
        span = 7 if "calibration" in self.mine.artifacts else 12
        if self.other is not None and not self.compared:
            return detail.apart(self, span)
        found, rows = self.mine.table("against"), self.differences()
        if not rows:
            return detail.simple(self, f"{found.sentence} So it is measured against simple models.", span)
        drawn = [draw.Row(str(r["title"]).split(":")[0], float(r["low"]), float(r["difference"]), float(r["high"]), float(r["margin"]), r["verdict"], r["text"]) for r in rows if known(r["low"])]
        note = f"{FIRST.split(found.sentence)[0].removesuffix('.')}. Grey: how much worse each may be and still count as no worse."
        return card(f"Better than version {self.mine.opponent}?", draw.interval_rows(drawn, f"Differences to version {self.mine.opponent} with intervals"), note=note, span=span)

    def checks(self) -> Html:
        """The table of checks."""
        return card("Checks", theme.checks(self.mine.verdicts), note=theme.tally(self.mine.verdicts), span=8)

    def changes(self) -> Html:
        """What is different from the version that it was compared with; of a first version, what it was made from."""
        found = self.mine.table("changes")
        if found.frame().empty:
            return card("What was it made from?", theme.pairs(list(detail.origin(self.mine))[:7]), note=found.sentence, span=4)
        rows = [(what, said) for what, said in found.frame().itertuples(index=False, name=None)]
        return card(f"What changed since version {self.mine.opponent}", theme.pairs(rows), note=found.sentence, span=4)

    def html(self) -> Html:
        """The whole page."""
        return join([self.head(), *map(self.panel, TABS)])


def known(value: Any) -> bool:
    """Whether a stored number is there."""
    return value is not None and value == value


def option(value: str, on: bool) -> Html:
    """A choice in a list."""
    return tag('<option value="{0}"{1}>{2}</option>', value, Html(" selected") if on else Html(""), value or "none")


def standing(row: dict[str, Any], other: str, config: configs.Config) -> str:
    """How a version stands to another in one metric: the words after its name."""
    if row["metric"] == "cost":
        apart = f"{money(abs(row['difference']), config.cost.unit)} a {config.row} {'less' if row['difference'] > 0 else 'more'}"
        if row["verdict"] in {"better", "worse"}:
            return f"costs {apart} than {other}"
        return f"costs about as much as {other}" if row["verdict"] == "no worse" else f"may cost as much as {other}, which cannot be told yet ({apart})"
    said = {"better": "is better than", "no worse": "is no worse than", "worse": "is worse than", "cannot tell": "cannot yet be told from"}[row["verdict"]]
    return f"{said} {other} in {row['title']} ({row['text']})"


def page(project: Project, file: Path | None = None, version: str = "", against: str = "") -> Html:
    """The whole page as HTML; ``file`` says where it will stand."""
    return Review(project, version, against, file).html()


def open(version: str = "", against: str = "") -> Review:  # noqa: A001 - reads as review.open in a notebook
    """Open the page of the project that stands here; a visitor's address stands over what the notebook names."""
    asked = theme.asked(lambda: Review(configs.load()).html())
    return Review(configs.load(), asked.get("version", version), asked.get("against", against))
