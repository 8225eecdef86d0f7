"""Results: frozen records with a sentence, a table and an HTML representation.

A stage computes a result, a notebook shows it, a run stores it as JSON and a dashboard reads it
back. Results themselves compute nothing.

To add a kind of result: 1. a frozen dataclass that inherits from ``Result``, 2. its ``sentence``,
and ``data`` or an own ``to_frame()``, 3. a sample in ``tests/test_results.py``, which then tests
that it is escaped and survives the way through JSON.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from mlops_kit.core.formatting import format_number, label_sentence_html, render_table_html
from mlops_kit.core.frames import convert_foreign_frame
from mlops_kit.core.lazy import pd
from mlops_kit.core.serialization import Serializable, to_json_value

_MAX_PRINTED_ROWS = 20  # of a result's table in a terminal


class CheckOutcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    CANNOT_TELL = "cannot tell"
    NOT_APPLICABLE = "not applicable"


class CheckSeverity(StrEnum):
    """What a failed check means for the stage."""

    BLOCKS = "blocks"
    WARNS = "warns"


# A shape beside the color, so that the outcome can be told without color.
OUTCOME_MARKS = {
    CheckOutcome.PASSED: "●",
    CheckOutcome.FAILED: "▲",
    CheckOutcome.CANNOT_TELL: "◆",
    CheckOutcome.NOT_APPLICABLE: "○",
}
# CSS classes of templates/report/style.css and of the dashboards.
OUTCOME_COLORS = {
    CheckOutcome.PASSED: "good",
    CheckOutcome.FAILED: "act",
    CheckOutcome.CANNOT_TELL: "watch",
    CheckOutcome.NOT_APPLICABLE: "faint",
}
# The order of verdicts with the same consequence.
_OUTCOME_ORDER = (
    CheckOutcome.FAILED,
    CheckOutcome.CANNOT_TELL,
    CheckOutcome.PASSED,
    CheckOutcome.NOT_APPLICABLE,
)


class Result(Serializable):
    """Base of results; subclasses have a ``sentence``, and ``data`` or an own ``to_frame``."""

    sentence: str
    data: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers as a table."""
        return self.data

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        rows = self.to_frame().head(_MAX_PRINTED_ROWS)
        return f"{self.sentence}\n{rows.to_string(index=False)}"

    def _repr_html_(self) -> str:
        frame = self.to_frame()
        sentence = label_sentence_html(self.sentence, frame)
        return f"<p><b>{sentence}</b></p>{render_table_html(frame)}"


@dataclass(frozen=True, repr=False)
class Table(Result):
    """A result that is a table.

    Parameters
    ----------
    title : str
        The heading.
    sentence : str
        What the table shows, in one sentence.
    data : DataFrame
        The numbers.
    units : dict of str to str
        The unit of a column, such as ``{"delay": "minutes"}``.
    notes : tuple of str
        Notes below the table.
    visible_columns : tuple of str
        The columns that a reader sees; empty: all.
    """

    legacy_fields: ClassVar[dict[str, str]] = {"shown": "visible_columns"}

    title: str
    sentence: str
    data: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    visible_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # A table of Polars or Arrow is shown and stored like any other.
        object.__setattr__(self, "data", convert_foreign_frame(self.data))

    def to_intervals(self) -> dict[str, Interval]:
        """Return the value of each metric with its interval; NaN becomes None.

        The table needs the columns ``metric``, ``value``, ``low`` and ``high``.
        """
        numbers = self.data[["value", "low", "high"]].astype(float)
        intervals = {}
        for metric, row in zip(self.data["metric"], numbers.to_numpy().tolist(), strict=True):
            intervals[str(metric)] = Interval(*to_json_value(row))
        return intervals

    def _repr_html_(self) -> str:
        visible = self.data
        if self.visible_columns:
            visible = visible[list(self.visible_columns)]
        headings = {column: f"{column} ({unit})" for column, unit in self.units.items()}
        notes = [f"<p class=note>{html.escape(note)}</p>" for note in self.notes]
        return (
            f"<h3>{html.escape(self.title)}</h3>"
            f"<p><b>{label_sentence_html(self.sentence, self.data)}</b></p>"
            f"{render_table_html(visible.rename(columns=headings))}"
            f"{''.join(notes)}"
        )


@dataclass(frozen=True)
class KeyNumber(Serializable):
    """A number that matters, as text: ``value`` is shown large, the ``details`` below it.

    Details are the interval, or what the number is to be compared with. ``key`` names the number
    for code that looks for it, and ``champion_value`` is the champion's, where there is one.
    """

    legacy_kind: ClassVar[str] = "Number"
    legacy_fields: ClassVar[dict[str, str]] = {"beside": "details"}

    title: str
    value: str
    details: tuple[str, ...] = ()
    key: str = ""
    champion_value: str = ""


@dataclass(frozen=True, repr=False)
class KeyNumbers(Result):
    """The few numbers of a stage that matter, with a sentence that says what they mean."""

    legacy_kind: ClassVar[str] = "Numbers"

    title: str
    sentence: str
    items: tuple[KeyNumber, ...]

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per number."""
        rows = [(number.title, number.value, "; ".join(number.details)) for number in self.items]
        return pd.DataFrame(rows, columns=["number", "value", "details"])


@dataclass(frozen=True)
class Interval(Serializable):
    """A value with its confidence interval; ``low`` and ``high`` are None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95

    def __str__(self) -> str:
        value = format_number(self.value)
        if self.low is None or self.high is None:
            return value
        return f"{value} [{format_number(self.low)}, {format_number(self.high)}]"


@dataclass(frozen=True, repr=False)
class Figure(Result):
    """A chart as SVG with the table that it shows and a sentence that reads it aloud."""

    title: str
    sentence: str
    svg: str
    data: pd.DataFrame

    def _repr_html_(self) -> str:
        return (
            f"<figure role=img aria-label='{html.escape(self.title, quote=True)}'>{self.svg}"
            f"<figcaption><b>{label_sentence_html(self.sentence, self.data)}</b></figcaption>"
            "</figure>"
        )


@dataclass(frozen=True, repr=False)
class Verdict(Result):
    """What a check concludes; acting on it happens elsewhere.

    Parameters
    ----------
    check : str
        The name under which the check is registered.
    title : str
        The check in a reader's words.
    outcome : CheckOutcome
        Whether it passed.
    severity : CheckSeverity
        Whether a failure blocks or warns.
    sentence : str
        The conclusion.
    observed, limit : str
        What was measured, and the limit, as text for a table.
    hint : str
        What to do about it; empty when the check passed.
    diagnostics : dict
        The numbers behind the conclusion.
    """

    legacy_fields: ClassVar[dict[str, str]] = {
        "found": "observed",
        "cure": "hint",  # stored by earlier versions
    }

    check: str
    title: str
    outcome: CheckOutcome
    severity: CheckSeverity
    sentence: str
    observed: str = ""
    limit: str = ""
    hint: str = ""
    diagnostics: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Verdicts that are read from JSON have plain text here.
        object.__setattr__(self, "outcome", CheckOutcome(self.outcome))
        object.__setattr__(self, "severity", CheckSeverity(self.severity))

    @property
    def is_blocking(self) -> bool:
        """Whether this verdict alone stops the model or the data."""
        return self.outcome is CheckOutcome.FAILED and self.severity is CheckSeverity.BLOCKS

    @property
    def is_reservation(self) -> bool:
        """Whether the check fails without blocking, or cannot tell."""
        is_open = self.outcome in {CheckOutcome.FAILED, CheckOutcome.CANNOT_TELL}
        return is_open and not self.is_blocking

    @property
    def explanation(self) -> str:
        """The sentence of a check that failed or cannot tell, to stand below its title.

        It is empty if there is no observed value, since a table then shows the sentence in its
        place.
        """
        is_open = self.outcome in {CheckOutcome.FAILED, CheckOutcome.CANNOT_TELL}
        return self.sentence if is_open and self.observed else ""

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row: result, check, observed, limit, hint."""
        return Verdicts((self,)).to_frame()


class FitnessLabel(NamedTuple):
    """Whether a model is fit to serve: a CSS class, and a mark with the words."""

    color: str
    text: str


@dataclass(frozen=True, repr=False)
class Verdicts(Result):
    """The verdicts of a stage, the most serious first."""

    items: tuple[Verdict, ...]

    @classmethod
    def from_verdicts(cls, verdicts: Iterable[Verdict]) -> Verdicts:
        """Sort verdicts: blocking, failed, cannot tell, passed, not applicable."""

        def get_seriousness(verdict: Verdict) -> tuple[bool, int]:
            return (not verdict.is_blocking, _OUTCOME_ORDER.index(verdict.outcome))

        return cls(tuple(sorted(verdicts, key=get_seriousness)))

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def is_blocked(self) -> bool:
        """Whether any verdict blocks."""
        return any(verdict.is_blocking for verdict in self.items)

    @property
    def fitness_label(self) -> FitnessLabel:
        """What the verdicts of a review say about the model's fitness to serve."""
        return self.label_fitness()

    def label_fitness(self, basis: str = "") -> FitnessLabel:
        """Label what the verdicts say about the model's fitness to serve.

        Parameters
        ----------
        basis : str
            On what that rests if not on the whole review, such as ``by its own checks``.
        """
        fitness = f"Fit to serve {basis}".rstrip()
        if self.is_blocked:
            return FitnessLabel("act", "▲ Not fit to serve")
        reservations = self.count_outcome(CheckOutcome.FAILED)
        reservations += self.count_outcome(CheckOutcome.CANNOT_TELL)
        if reservations:
            return FitnessLabel("watch", f"◆ {fitness}, with reservations")
        return FitnessLabel("good", f"● {fitness}")

    @property
    def reservations(self) -> list[Verdict]:
        """The verdicts that do not block but did not pass either, the most serious first.

        A check that would block and cannot tell comes before one that fails without blocking, and
        that before one that cannot tell and would not block.
        """

        def get_seriousness(verdict: Verdict) -> tuple[bool, bool]:
            would_block = verdict.severity is CheckSeverity.BLOCKS
            return (not would_block, verdict.outcome is not CheckOutcome.FAILED)

        reservations = [verdict for verdict in self.items if verdict.is_reservation]
        return sorted(reservations, key=get_seriousness)

    def count_outcome(self, outcome: CheckOutcome) -> int:
        """Count the verdicts with this outcome."""
        return sum(verdict.outcome == outcome for verdict in self.items)

    @property
    def sentence(self) -> str:  # type: ignore[override]
        """The number of verdicts by outcome, and the first that blocks."""
        sentence = self.describe_counts()
        blocking = [verdict for verdict in self.items if verdict.is_blocking]
        if blocking:
            sentence += f" Blocking: {blocking[0].sentence}"
        return sentence

    def describe_counts(self, subject: str = "") -> str:
        """Describe how many checks there are and how many have which outcome.

        Every page and command counts checks by this method, so that one that counts the checks of
        a stage does not seem to contradict one that counts those of another.

        Parameters
        ----------
        subject : str
            What the checks are about, such as ``the review stage``.

        Examples
        --------
        >>> passed = Verdict("rows", "Enough rows", "passed", "warns", "There are 300 rows.")
        >>> Verdicts((passed,)).describe_counts("the review stage")
        '1 check of the review stage: 1 passed.'
        """
        noun = "check" if len(self.items) == 1 else "checks"
        tail = f" of {subject}" if subject else ""
        return f"{len(self.items)} {noun}{tail}: {self.list_counts()}."

    def list_counts(self) -> str:
        """List the outcomes with the number of checks that have each."""
        counts = []
        for outcome in CheckOutcome:
            count = self.count_outcome(outcome)
            if count:
                counts.append(f"{count} {outcome}")
        return ", ".join(counts) or "none ran"

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per verdict: result, check, observed, limit, hint."""
        rows = []
        for verdict in self.items:
            result = f"{OUTCOME_MARKS[verdict.outcome]} {verdict.outcome}"
            observed = verdict.observed or verdict.sentence
            rows.append((result, verdict.title, observed, verdict.limit, verdict.hint))
        return pd.DataFrame(rows, columns=["Result", "Check", "Observed", "Limit", "Hint"])
