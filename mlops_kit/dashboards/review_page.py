"""The review dashboard: is the new model fit to serve, and what happens if one says yes.

One screen answers: a sentence in the project's own terms, what approving does, the numbers beside the
champion's, where it is better, whether it means what it says, what failed, what changed. The other
tabs hold the evidence. Everything is read from what the runs stored; how it is shown stands in
``templates/dashboards/review.html``.

To add a tab: 1. its macro in that template, 2. its key and name in ``Review.tabs``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.dashboards import rendering, svg_charts, version_data
from mlops_kit.dashboards.page_base import Page
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.version_data import Version
from mlops_kit.db import approvals
from mlops_kit.project import loader

FIRST = re.compile(r"(?<=[^\W_]|[\])%])\. (?=[^\W\d_a-z])")  # between two sentences
HEADS = {
    "rejected": ("act", "▲ Rejected"),
    "changes": ("watch", "◆ Changes asked for"),
    "approved": ("watch", "◆ Approved, on its way"),
}


class Review(Page):
    """The page of one version beside another.

    Parameters
    ----------
    version : str
        Empty: the newest that waits for a decision, else the champion.
    against : str
        Empty: the one that it was compared with.
    file : Path, optional
        Where the page will stand as a file; links to the runs' files then lead from there.
    """

    name, again = "review", version_data.AGAIN
    tabs = {
        "verdict": "Verdict",
        "quality": "Quality",
        "slices": "Where it fails",
        "reasons": "Reasons",
        "data": "Data",
        "lineage": "Lineage",
        "history": "History",
        "card": "Card",
    }
    source = ("what a run stored", "files as the run wrote them", version_data.AGAIN)
    mine: Version
    other: Version | None

    def __init__(
        self,
        project: loader.Project,
        version: str = "",
        against: str = "",
        file: Path | None = None,
    ) -> None:
        self.asked = version, against
        super().__init__(project, file)

    def read(self) -> bool:
        """Choose the two versions; whether there are any."""
        version, against = self.asked
        self.known = version_data.versions(self.project)
        if not self.known:
            return False
        self.mine = (
            version_data.pick(self.known, version)
            if version
            else version_data.asked_for(self.known)
        )
        self.other = (
            version_data.pick(self.known, against)
            if against
            else next((v for v in self.known if v.number == self.mine.opponent), None)
        )
        self.compared = (
            self.other is not None and self.other.number == self.mine.opponent
        )  # judged on the same rows
        self.promotions, self.opinions = (
            approvals.list_promotions(self.project),
            approvals.list_approvals(self.project),
        )
        self.present = next(iter(self.promotions), None)
        return True

    def state(self) -> tuple[str, str]:
        """The version's state: a colour; a shape and a word."""
        if self.mine.serves:
            return "good", "● Serves now"
        if self.mine.sample:
            return "watch", "◆ A sample"
        if self.mine.promotion is not None:
            return "faint", "○ Served before"
        colour, word = self.mine.verdicts.fitness_label
        return HEADS.get(self.mine.said, (colour, word.replace("Fit to serve, with", "Fit, with")))

    def first(self, said: str) -> str:
        """The first of some sentences, without its full stop."""
        return FIRST.split(said, maxsplit=1)[0].removesuffix(".")

    def differences(self) -> list[dict[str, Any]]:
        """The stored differences to the version that it was compared with."""
        return (
            version_data.records(self.mine.table("against"))
            if "against" in self.mine.artifacts
            else []
        )

    def calibration(self) -> Html:
        """What is seen where the model says so, beside what the other version has on the same rows."""
        curves = self.mine.grouped("calibration", "model")
        (_, mine), *others = ((name, rows) for (name,), rows in curves.items())
        values = [
            r[k]
            for rows in curves.values()
            for r in rows
            for k in ("predicted", "observed", "low", "high")
            if r[k] is not None
        ]
        levels = (
            [0, 0.25, 0.5, 0.75, 1]
            if self.config.task == "binary"
            else svg_charts.ticks(min(values), max(values))
        )
        lines = named(
            [
                *((rows, "faint", name) for name, rows in reversed(others)),
                (mine, "blue", f"version {self.mine.number}"),
            ],
            levels,
        )
        most = max(r["share"] for r in mine) or 1.0
        return svg_charts.curve(
            lines,
            f"Seen against said by {', '.join(name for (name,) in curves)}",
            [(v, self.word(v)) for v in levels],
            levels,
            self.word,
            size=(430, 236),
            diagonal=True,
            band=[(r["predicted"], r["low"], r["high"]) for r in mine if r["low"] is not None],
            bars=[(r["predicted"], r["share"] / most) for r in mine],
        )

    def word(self, value: float) -> str:
        """How a prediction is written."""
        return format_percent(value) if self.config.task == "binary" else format_number(value)


def named(
    curves: Sequence[tuple[list[dict[str, Any]], str, str]], levels: Sequence[float]
) -> list[svg_charts.Line]:
    """Lines with their names beside their ends; where two ends are close, the higher name goes up and the lower down."""
    span, ends, out = (
        levels[-1] - levels[0],
        [rows[-1]["observed"] or 0.0 for rows, _, _ in curves],
        [],
    )
    close = len(ends) > 1 and max(ends) - min(ends) < 0.09 * span
    for (rows, colour, name), end in zip(curves, ends, strict=True):
        room, higher = rows[-1]["predicted"] - levels[0] < 0.85 * span, end == max(ends)
        below = (-12 if higher else 20) if not room else (-4 if higher else 14) if close else 4
        out.append(
            svg_charts.Line(
                [(r["predicted"], r["observed"]) for r in rows],
                colour,
                name=name,
                below=below,
                anchor="start" if room else "end",
            )
        )
    return out


def page(
    project: loader.Project, file: Path | None = None, version: str = "", against: str = ""
) -> Html:
    """The whole page as HTML; ``file`` says where it will stand."""
    return Review(project, version, against, file).html()


def open(version: str = "", against: str = "") -> Review:
    """Open the page of the project that stands here; a visitor's address stands over what the notebook names."""
    asked = rendering.asked(lambda: Review(loader.load_project()).html())
    return Review(
        loader.load_project(), asked.get("version", version), asked.get("against", against)
    )
