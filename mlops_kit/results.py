"""What travels between the rooms: frozen results with a sentence, a table and an HTML face.

A room computes one of these; a notebook shows it; the store files it as JSON; a dashboard reads it
back. None of them computes anything.

To add a kind of result: a frozen dataclass here that ends in ``Result``'s three faces (``sentence``,
``frame()``, ``_repr_html_``); the round trip through JSON is then tested with the others.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from mlops_kit.late import pd

KINDS: dict[str, type[Any]] = {}

Outcome = Literal["passed", "failed", "cannot tell", "not applicable"]
Severity = Literal["blocks", "warns"]
MARKS: dict[str, str] = {"passed": "●", "failed": "▲", "cannot tell": "◆", "not applicable": "○"}
SHOWN = 20  # rows of a result in a terminal
COLOURS = {"passed": "good", "failed": "act", "cannot tell": "watch", "not applicable": "faint"}


def number(value: Any, digits: int = 3) -> str:
    """Write a number for a sentence: thousands separated, no false precision.

    >>> number(336776), number(0.75213), number(float("nan")), number(12.0), number(1234.5)
    ('336,776', '0.752', 'unknown', '12', '1,234')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "unknown"
    if isinstance(value, float):
        if math.isinf(value):
            return "infinite"
        if value.is_integer() or abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{value:.{digits}f}" if abs(value) >= 10**-digits else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def money(value: Any, unit: str) -> str:
    """Write an amount with its unit; a currency's sign or code stands before it.

    >>> money(4.1372, "$"), money(-0.5, "EUR"), money(12, "hours"), money(3.5, ""), money(None, "$")
    ('$ 4.14', 'EUR -0.50', '12 hours', '3.500', 'unknown')
    """
    if value is None or math.isnan(value) or not unit:
        return number(value)
    currency = len(unit) == 1 and not unit.isalnum() or (len(unit) == 3 and unit.isupper())
    return f"{unit} {value:,.2f}" if currency else f"{number(value)} {unit}"


def percent(share: float, digits: int = 0) -> str:
    """Write a share as a percentage.

    >>> percent(0.2345), percent(0.004), percent(0.0)
    ('23 %', '0.4 %', '0 %')
    """
    if share is None or math.isnan(share):
        return "unknown"
    if 0 < abs(share) < 0.01 and digits == 0:
        digits = 1 if abs(share) >= 0.001 else 2
    return f"{100 * share:.{digits}f} %"


def plain(value: Any) -> Any:
    """Turn a value into what JSON holds: NumPy scalars, moments, NaN and frames included."""
    if hasattr(value, "to_json_dict"):
        return value.to_json_dict()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "iterrows"):
        return {
            "__frame__": {
                "columns": list(map(str, value.columns)),
                "rows": plain(value.to_numpy(dtype=object).tolist()),
            }
        }
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return None if str(value) in {"NaT", "<NA>"} else str(value)


def revive(value: Any) -> Any:
    """The inverse of ``plain`` for results and frames; anything else is left as it is."""
    if isinstance(value, list):
        return [revive(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"__frame__"}:
        return pd.DataFrame(value["__frame__"]["rows"], columns=value["__frame__"]["columns"])
    inner = {k: revive(v) for k, v in value.items()}
    if "__kind__" not in inner:
        return inner
    cls = KINDS[inner["__kind__"]]
    return cls(
        **{
            f.name: tuple(v) if isinstance(v := inner[f.name], list) else v
            for f in fields(cls)
            if f.name in inner
        }
    )


class Filed:
    """What is filed as JSON and read back as its own kind; subclasses are frozen dataclasses."""

    def __init_subclass__(cls) -> None:
        KINDS[cls.__name__] = cls

    def to_json_dict(self) -> dict[str, Any]:
        """The fields as JSON's own types, with the name of the kind."""
        return {
            "__kind__": type(self).__name__,
            **{f.name: plain(getattr(self, f.name)) for f in fields(self)},
        }  # type: ignore[arg-type]


class Result(Filed):
    """The faces every result has. Subclasses have a ``sentence``, and ``data`` or a ``frame`` of their own."""

    sentence: str
    data: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """The numbers as a table."""
        return self.data

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        return f"{self.sentence}\n{self.frame().head(SHOWN).to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p><b>{html.escape(self.sentence)}</b></p>{table_html(self.frame())}"


def cell_html(value: Any) -> str:
    """One value of a table, escaped; numbers short, days without a clock."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or str(value) in {"NaT", "<NA>", "nan"}:
        return ""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 10_000):
        return number(value)
    return html.escape(str(value).removesuffix(" 00:00:00"))


def table_html(frame: pd.DataFrame, limit: int = 40) -> str:
    """A small table as HTML without styles of its own; values are escaped, the rest is counted.

    Numbers stand to the right, under a head that does too.
    """
    marks = [
        " class=num"
        if pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t)
        else ""
        for t in frame.dtypes
    ]
    heads = "".join(
        f"<th{m}>{html.escape(str(c).replace('_', ' '))}</th>"
        for c, m in zip(frame.columns, marks, strict=True)
    )
    rows = [
        f"<tr>{''.join(f'<td{m}>{cell_html(v)}</td>' for v, m in zip(row, marks, strict=True))}</tr>"
        for row in frame.head(limit).itertuples(index=False, name=None)
    ]
    more = f"<p class=note>… and {len(frame) - limit:,} more rows</p>" if len(frame) > limit else ""
    body = (
        f"<div class=wide tabindex=0><table class=kit><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        if rows
        else ""
    )
    return body + more


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
    shown: tuple[str, ...] = ()

    def intervals(self) -> dict[str, Interval]:
        """Of a table of metrics, each one's value with its interval; what is NaN there is None here."""
        ends = self.data[["value", "low", "high"]].astype(float).itertuples(index=False, name=None)
        return {
            str(m): Interval(*plain(row)) for m, row in zip(self.data["metric"], ends, strict=True)
        }

    def _repr_html_(self) -> str:
        seen = self.data[list(self.shown)] if self.shown else self.data
        named = seen.rename(columns={c: f"{c} ({u})" for c, u in self.units.items()})
        notes = "".join(f"<p class=note>{html.escape(n)}</p>" for n in self.notes)
        return f"<h3>{html.escape(self.title)}</h3><p><b>{html.escape(self.sentence)}</b></p>{table_html(named)}{notes}"


@dataclass(frozen=True)
class Number(Filed):
    """A number that matters, worded: ``value`` large, ``beside`` the lines below it (interval, what to compare with)."""

    title: str
    value: str
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Numbers(Result):
    """The few numbers that matter of a stage, with the sentence that says what they mean."""

    title: str
    sentence: str
    items: tuple[Number, ...]

    def frame(self) -> pd.DataFrame:
        """A row a number."""
        return pd.DataFrame(
            [(n.title, n.value, "; ".join(n.beside)) for n in self.items],
            columns=["number", "value", "beside"],
        )


@dataclass(frozen=True)
class Interval(Filed):
    """A value with its interval (95 % unless ``level`` says otherwise); low and high may be None."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return number(self.value)
        return f"{number(self.value)} [{number(self.low)}, {number(self.high)}]"


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
    outcome: Outcome
    severity: Severity
    sentence: str
    found: str = ""
    limit: str = ""
    cure: str = ""
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @property
    def blocks(self) -> bool:
        """True if this verdict alone keeps the model, or the data, from going on."""
        return self.outcome == "failed" and self.severity == "blocks"

    def frame(self) -> pd.DataFrame:
        """One row: result, check, found, limit, what to do."""
        return Verdicts((self,)).frame()


@dataclass(frozen=True, repr=False)
class Verdicts(Result):
    """The verdicts of a stage, the worst first."""

    items: tuple[Verdict, ...]

    @classmethod
    def of(cls, items: Iterable[Verdict]) -> Verdicts:
        """Sort: failed and blocking, failed, cannot tell, passed, not applicable."""
        order = {"failed": 0, "cannot tell": 1, "passed": 2, "not applicable": 3}
        return cls(tuple(sorted(items, key=lambda v: (not v.blocks, order[v.outcome]))))

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def blocked(self) -> bool:
        """True if any verdict blocks."""
        return any(v.blocks for v in self.items)

    @property
    def state(self) -> tuple[str, str]:
        """What the verdicts of a review amount to: a colour, and the state in a shape and words."""
        unsure = self.count("failed") + self.count("cannot tell")
        return (
            ("act", "▲ Not fit to serve")
            if self.blocked
            else ("watch", "◆ Fit to serve, with reservations")
            if unsure
            else ("good", "● Fit to serve")
        )

    def count(self, outcome: Outcome) -> int:
        """How many verdicts have this outcome."""
        return sum(v.outcome == outcome for v in self.items)

    @property
    def sentence(self) -> str:  # type: ignore[override]
        """Counts in words, and the first that blocks."""
        counts = [f"{self.count(o)} {o}" for o in MARKS if self.count(o)]  # type: ignore[arg-type]
        blocking = next((v for v in self.items if v.blocks), None)
        return (
            f"{len(self.items)} check{'' if len(self.items) == 1 else 's'}: {', '.join(counts) or 'none ran'}."
            + (f" What blocks: {blocking.sentence}" if blocking else "")
        )

    def frame(self) -> pd.DataFrame:
        """A row a verdict: result, check, found, limit, what to do."""
        rows = [
            (f"{MARKS[v.outcome]} {v.outcome}", v.title, v.found or v.sentence, v.limit, v.cure)
            for v in self.items
        ]
        return pd.DataFrame(rows, columns=["Result", "Check", "Found", "Limit", "What to do"])
