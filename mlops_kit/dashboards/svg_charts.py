"""Where the numbers of a drawing stand; the drawings themselves are ``templates/dashboards/drawings.html``.

Each takes plain numbers and gives ``Html`` that names itself to a screen reader; text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from mlops_kit.dashboards.rendering import Html, part


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover a range.

    >>> ticks(0.03, 0.93), ticks(52, 318, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 100.0, 200.0, 300.0, 400.0])
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / about))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


class Line(NamedTuple):
    """A line of a picture: its points, its colour, its name and where that stands (a point's index, pixels below)."""

    points: Sequence[tuple[float, float | None]]
    colour: str = "blue"
    dash: str = ""
    name: str = ""
    at: int = -1
    below: float = -12
    dots: bool = False
    anchor: str = "middle"


class Frame(NamedTuple):
    """A picture's size, the ends of its axes, and the pixels left free beside and above them."""

    width: int
    height: int
    first: float
    last: float
    low: float
    high: float
    left: float = 44.0
    right: float = 14.0
    top: float = 18.0

    def x(self, value: float) -> float:
        """How far to the right a number stands, in pixels."""
        return self.left + (value - self.first) / (self.last - self.first or 1) * (
            self.width - self.left - self.right
        )

    def y(self, value: float) -> float:
        """How far down a number stands, in pixels."""
        return (
            self.height
            - 26
            - (value - self.low) / (self.high - self.low or 1) * (self.height - 26 - self.top)
        )


def curve(
    lines: Sequence[Line],
    label: str,
    ticks: Sequence[tuple[float, str]],
    levels: Sequence[float],
    word: Callable[[float], str],
    band: Sequence[tuple[float, float, float]] = (),
    marks: Sequence[tuple[float, str, str]] = (),
    bars: Sequence[tuple[float, float]] = (),
    diagonal: bool = False,
    size: tuple[int, int] = (520, 230),
) -> Html:
    """Lines over a number, with what helps to read them.

    Parameters
    ----------
    ticks : pairs of place and word
        Below; the first and the last are the ends of the axis.
    levels : numbers
        Lines across; the lowest and the highest are the ends.
    band : triples of place, low, high
        An area behind the lines.
    marks : triples of place, word, colour
        Moments, as dashed lines down.
    bars : pairs of place and height (0 to 1)
        Columns at the foot.
    """
    frame = Frame(*size, ticks[0][0], ticks[-1][0], levels[0], levels[-1])
    thick = max(
        3.0,
        min(
            [18.0, *(0.8 * (frame.x(b) - frame.x(a)) for (a, _), (b, _) in pairwise(sorted(bars)))]
        ),
    )
    return part(
        "drawings",
        "curve",
        frame,
        lines,
        label,
        ticks,
        levels,
        word,
        band,
        marks,
        bars,
        thick,
        diagonal,
    )


class Cell(NamedTuple):
    """A cell of a heat map: how deep (0 to 1), what colour, what it says, and what the page's script finds behind it."""

    depth: float
    colour: str
    said: str
    behind: str


def columns(
    bars: Sequence[tuple[float, float, str]],
    below: Sequence[tuple[float, str]],
    usual: tuple[float, float],
    label: str,
) -> Html:
    """Columns from zero: (place, height, what it says), with what is usual shaded behind them.

    Parameters
    ----------
    below : pairs of place and word
        Words; the first and the last are the ends of the axis.
    """
    levels = ticks(0, max(h for _, h, _ in bars), 3)
    frame = Frame(1120, 190, below[0][0], below[-1][0], 0, levels[-1], 50.0, 6.0, 14.0)
    thick = (frame.width - frame.left - frame.right) / len(bars) * 0.72
    return part(
        "drawings", "columns", frame, bars, below, levels, "{:,.0f}".format, usual, thick, label
    )
