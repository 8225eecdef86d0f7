"""What travels between the rooms: frozen results with a sentence, a table and an HTML face.

A room computes one of these; a notebook shows it; the store files it as JSON; a dashboard reads it
back. None of them computes anything.

To add a kind of result: a frozen dataclass here that ends in ``Result``'s three faces (``sentence``,
``frame()``, ``_repr_html_``); the round trip through JSON is then tested with the others.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from mlops_kit.core.formatting import format_number, render_table_html
from mlops_kit.core.lazy import pd
from mlops_kit.core.serialization import Serializable, to_json_value

CheckOutcome = Literal["passed", "failed", "cannot tell", "not applicable"]
CheckSeverity = Literal["blocks", "warns"]
OUTCOME_MARKS: dict[str, str] = {
    "passed": "●",
    "failed": "▲",
    "cannot tell": "◆",
    "not applicable": "○",
}
_MAX_PRINTED_ROWS = 20  # rows of a result in a terminal
OUTCOME_COLORS = {
    "passed": "good",
    "failed": "act",
    "cannot tell": "watch",
    "not applicable": "faint",
}


class Result(Serializable):
    """The faces every result has. Subclasses have a ``sentence``, and ``data`` or a ``frame`` of their own."""

    sentence: str
    data: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """The numbers as a table."""
        return self.data

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        return f"{self.sentence}\n{self.to_frame().head(_MAX_PRINTED_ROWS).to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p><b>{html.escape(self.sentence)}</b></p>{render_table_html(self.to_frame())}"


@dataclass(frozen=True, repr=False)
class Table(Result):
    """Any result that is a table: a title, its sentence, the numbers, and what they are measured in.

    ``units`` maps a column to its unit (``{"delay": "minutes"}``); ``notes`` are read below the table;
    ``shown`` names the columns that a reader sees, where not all are worth it.
    """

    title: str
    sentence: str
    data: pd.DataFrame
    units: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    visible_columns: tuple[str, ...] = ()

    def to_intervals(self) -> dict[str, Interval]:
        """Of a table of metrics, each one's value with its interval; what is NaN there is None here."""
        ends = self.data[["value", "low", "high"]].astype(float).itertuples(index=False, name=None)
        return {
            str(m): Interval(*to_json_value(row))
            for m, row in zip(self.data["metric"], ends, strict=True)
        }

    def _repr_html_(self) -> str:
        seen = self.data[list(self.visible_columns)] if self.visible_columns else self.data
        named = seen.rename(columns={c: f"{c} ({u})" for c, u in self.units.items()})
        notes = "".join(f"<p class=note>{html.escape(n)}</p>" for n in self.notes)
        return f"<h3>{html.escape(self.title)}</h3><p><b>{html.escape(self.sentence)}</b></p>{render_table_html(named)}{notes}"


@dataclass(frozen=True)
class KeyNumber(Serializable):
    """A number that matters, worded: ``value`` large, ``beside`` the lines below it (interval, what to compare with)."""

    title: str
    value: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class KeyNumbers(Result):
    """The few numbers that matter of a stage, with the sentence that says what they mean."""

    title: str
    sentence: str
    items: tuple[KeyNumber, ...]

    def to_frame(self) -> pd.DataFrame:
        """A row a number."""
        return pd.DataFrame(
            [(n.title, n.value, "; ".join(n.details)) for n in self.items],
            columns=["number", "value", "beside"],
        )


@dataclass(frozen=True)
class Interval(Serializable):
    """A value with its interval (95 % unless ``level`` says otherwise); low and high may be None."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return format_number(self.value)
        return (
            f"{format_number(self.value)} [{format_number(self.low)}, {format_number(self.high)}]"
        )


@dataclass(frozen=True, repr=False)
class Figure(Result):
    """A drawn result: SVG made from a table, with the sentence to read aloud beside it."""

    title: str
    sentence: str
    svg: str
    data: pd.DataFrame

    def _repr_html_(self) -> str:
        return (
            f"<figure role=img aria-label='{html.escape(self.title, quote=True)}'>{self.svg}"
            f"<figcaption><b>{html.escape(self.sentence)}</b></figcaption></figure>"
        )


@dataclass(frozen=True, repr=False)
class Verdict(Result):
    """What a check says: outcome, severity, sentence, diagnostics. Acting on it stands elsewhere.

    ``found`` and ``limit`` are worded for a table; ``cure`` says what to do, and is empty when passed.
    """

    check: str
    title: str
    outcome: CheckOutcome
    severity: CheckSeverity
    sentence: str
    observed: str = ""
    limit: str = ""
    hint: str = ""
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @property
    def is_blocking(self) -> bool:
        """True if this verdict alone keeps the model, or the data, from going on."""
        return self.outcome == "failed" and self.severity == "blocks"

    def to_frame(self) -> pd.DataFrame:
        """One row: result, check, found, limit, what to do."""
        return Verdicts((self,)).to_frame()


@dataclass(frozen=True, repr=False)
class Verdicts(Result):
    """The verdicts of a stage, the worst first."""

    items: tuple[Verdict, ...]

    @classmethod
    def from_verdicts(cls, items: Iterable[Verdict]) -> Verdicts:
        """Sort: failed and blocking, failed, cannot tell, passed, not applicable."""
        order = {"failed": 0, "cannot tell": 1, "passed": 2, "not applicable": 3}
        return cls(tuple(sorted(items, key=lambda v: (not v.is_blocking, order[v.outcome]))))

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def is_blocked(self) -> bool:
        """True if any verdict blocks."""
        return any(v.is_blocking for v in self.items)

    @property
    def fitness_label(self) -> tuple[str, str]:
        """What the verdicts of a review amount to: a colour, and the state in a shape and words."""
        unsure = self.count_outcome("failed") + self.count_outcome("cannot tell")
        return (
            ("act", "▲ Not fit to serve")
            if self.is_blocked
            else ("watch", "◆ Fit to serve, with reservations")
            if unsure
            else ("good", "● Fit to serve")
        )

    def count_outcome(self, outcome: CheckOutcome) -> int:
        """How many verdicts have this outcome."""
        return sum(v.outcome == outcome for v in self.items)

    @property
    def sentence(self) -> str:  # type: ignore[override]
        """Counts in words, and the first that blocks."""
        counts = [f"{self.count_outcome(o)} {o}" for o in OUTCOME_MARKS if self.count_outcome(o)]  # type: ignore[arg-type]
        blocking = next((v for v in self.items if v.is_blocking), None)
        return (
            f"{len(self.items)} check{'' if len(self.items) == 1 else 's'}: {', '.join(counts) or 'none ran'}."
            + (f" What blocks: {blocking.sentence}" if blocking else "")
        )

    def to_frame(self) -> pd.DataFrame:
        """A row a verdict: result, check, found, limit, what to do."""
        rows = [
            (
                f"{OUTCOME_MARKS[v.outcome]} {v.outcome}",
                v.title,
                v.observed or v.sentence,
                v.limit,
                v.hint,
            )
            for v in self.items
        ]
        return pd.DataFrame(rows, columns=["Result", "Check", "Found", "Limit", "What to do"])
