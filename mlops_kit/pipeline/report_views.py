"""View models of a run's index page: what the template ``index.html`` shows, ready to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlops_kit.core.results import KeyNumber


class RunDecision(NamedTuple):
    """What was decided about the version of a run that waited: in a badge, a word, a sentence."""

    badge: str
    css_class: str
    outcome: str
    sentence: str


class Headline(NamedTuple):
    """How a run ended: a badge, its CSS class, and one or more sentences."""

    badge: str
    css_class: str
    text: str


class BranchTable(NamedTuple):
    """The branches of a run as a table."""

    columns: list[str]
    rows: list[list[Any]]


class Link(NamedTuple):
    """A link on a page."""

    text: str
    address: str


@dataclass(frozen=True)
class FigureView:
    """A figure with its caption."""

    title: str
    sentence: str
    svg: str


@dataclass(frozen=True)
class StageView:
    """A stage on the index: its question, its result, its figures, and the files to open.

    ``status`` is empty for a stage that succeeded, ``seconds`` for one that was not executed.
    """

    name: str
    status: str
    mark: str
    css_class: str
    question: str
    sentence: str
    seconds: str
    front_figure: FigureView | None
    more_figures: list[FigureView]
    links: list[Link]


@dataclass(frozen=True)
class CheckView:
    """A row of the table of checks."""

    mark: str
    css_class: str
    outcome: str
    stage: str
    title: str
    explanation: str
    observed: str
    limit: str
    hint: str


@dataclass(frozen=True)
class RunView:
    """Everything that the index of a run shows."""

    project: str
    run: str
    period: str
    started: str
    headline: Headline
    details: list[str]
    numbers: Sequence[KeyNumber]
    branches: BranchTable
    branch_links: list[Link]
    stages: list[StageView]
    checks: list[CheckView]
    checks_sentence: str
    origin: list[tuple[str, str]]
