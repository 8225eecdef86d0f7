"""The drawings of the pages: SVG by hand, in the page's own colours, so that dark mode costs nothing.

Each takes plain numbers and gives ``Html`` that names itself to a screen reader; text is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlops_kit.dashboards.theme import Html, join, tag

COLOURS = {"better": "good", "no worse": "soft", "cannot tell": "watch", "worse": "act"}


def svg(width: float, height: float, label: str, parts: Sequence[Html]) -> Html:
    """A picture with a name."""
    return tag('<svg viewBox="0 0 {:.0f} {:.0f}" role=img aria-label="{}">{}</svg>', width, height, label, join(parts))


def text(x: float, y: float, said: str, colour: str = "", anchor: str = "start", kind: str = "") -> Html:
    """A word in a picture."""
    fill = tag(' style="fill:var(--{})"', colour) if colour else Html("")
    return tag('<text x="{:.1f}" y="{:.1f}" text-anchor={} class="{}"{}>{}</text>', x, y, anchor, kind, fill, said)


def line(x1: float, y1: float, x2: float, y2: float, colour: str, more: str = "") -> Html:
    """A straight line; ``more`` are attributes of ours."""
    return tag('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="var(--{})" {} />', x1, y1, x2, y2, colour, Html(more))


@dataclass(frozen=True)
class Row:
    """A difference with its interval, scaled so that right is better; ``margin`` is how much worse is still no worse."""

    name: str
    low: float
    value: float
    high: float
    margin: float
    verdict: str
    text: str


def strip(label: str, parts: Sequence[Html]) -> Html:
    """A picture as wide as its column and a line high; places in it are percentages, so nothing is stretched."""
    return tag('<svg class=strip role=img aria-label="{}">{}</svg>', label, join(parts))


def upright(place: float, colour: str, more: str = "") -> Html:
    """A line down a strip."""
    return tag('<line x1="{0:.2f}%" x2="{0:.2f}%" y1=0 y2="100%" stroke="var(--{1})" {2} />', place, colour, Html(more))


def whisker(low: float, value: float, high: float, colour: str) -> list[Html]:
    """A dot with its interval, in percent of a strip."""
    return [
        tag('<line x1="{:.2f}%" x2="{:.2f}%" y1="50%" y2="50%" stroke="var(--{})" stroke-width=3 stroke-linecap=round />', low, high, colour),
        tag('<circle cx="{:.2f}%" cy="50%" r=5 fill="var(--{})" />', value, colour),
    ]


def interval_rows(rows: Sequence[Row], label: str) -> Html:
    """Dots and whiskers about "the same", a row a metric; each row has a scale of its own, as metrics differ in unit.

    A row is scaled by the largest of its ends and its margin: what counts is where it stands to nothing
    and to its margin, and the numbers stand beside it.
    """
    middle, half, out = 45.0, 43.0, []
    for row in rows:
        colour, reach = COLOURS.get(row.verdict, "faint"), max(abs(row.low), abs(row.high), abs(row.value), abs(row.margin) * 1.2, 1e-12)
        low, value, high, margin = (middle + v / reach * half for v in (row.low, row.value, row.high, -row.margin))
        grey = tag('<rect x="{:.2f}%" y="16%" width="{:.2f}%" height="68%" rx=3 fill="var(--line)" />', margin, middle - margin)
        told = f"{row.name}: {row.text}, {row.verdict}; interval from {row.low:.3g} to {row.high:.3g}, margin {row.margin:.3g}"
        drawn = strip(told, [grey, upright(middle, "faint"), *whisker(low, value, high, colour)])
        out.append(tag('<div class=iv><span class=k>{}</span>{}<span>{}</span><b class="{}">{}</b></div>', row.name, drawn, row.text, colour, row.verdict))
    foot = Html('<div class="iv foot" aria-hidden=true><span></span><svg class=strip><text x="45%" y=14 text-anchor=middle>the same</text><text x="100%" y=14 text-anchor=end>better →</text></svg><span></span><b></b></div>')
    return tag('<div role=group aria-label="{}">{}{}</div>', label, join(out), foot)


def ranges(rows: Sequence[tuple[str, float, float, float, str, str]], whole: float, word: str, label: str) -> Html:
    """Values with their intervals on one scale, beside the whole's: (name, low, value, high, what it says, colour)."""
    least, most = min([whole, *(r[1] for r in rows)]), max([whole, *(r[3] for r in rows)])

    def at(v: float) -> float:
        return 3 + (v - least) / ((most - least) or 1) * 94

    out = []
    for name, low, value, high, said, colour in rows:
        drawn = strip(f"{name}: {said}; interval from {low:.3g} to {high:.3g}", [upright(at(whole), "faint", "stroke-dasharray='4 4'"), *whisker(at(low), at(value), at(high), colour)])
        out.append(tag('<div class="iv three"><span class=k>{}</span>{}<span>{}</span></div>', name, drawn, said))
    foot = tag('<div class="iv three foot" aria-hidden=true><span></span><svg class=strip><text x="{:.2f}%" y=14 text-anchor={}>{}</text></svg><span></span></div>', at(whole), "end" if at(whole) > 80 else "start" if at(whole) < 20 else "middle", word)
    return tag('<div role=group aria-label="{}">{}{}</div>', label, join(out), foot)


def bars(rows: Sequence[tuple[str, float, str]], label: str) -> Html:
    """Bars from zero, a row a name, with what each says; those below zero are grey."""
    most = max((abs(v) for _, v, _ in rows), default=0) or 1.0
    out = []
    for name, value, said in rows:
        drawn = tag('<rect x=0 y=6 width="{:.2f}%" height=16 rx=3 fill="var(--{})" opacity=.8 />', max(abs(value) / most * 100, 0.5), "blue" if value > 0 else "faint")
        out.append(tag('<div class="iv bars"><span class=k>{}</span>{}<span>{}</span></div>', name, strip(f"{name}: {said}", [drawn]), said))
    return tag('<div role=group aria-label="{}">{}</div>', label, join(out))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover a range.

    >>> ticks(0.03, 0.93), ticks(52, 318, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 100.0, 200.0, 300.0, 400.0])
    """
    import math

    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / about))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


@dataclass(frozen=True)
class Line:
    """A line of a picture: its points, its colour, its name and where that stands (a point's index, pixels below)."""

    points: Sequence[tuple[float, float | None]]
    colour: str = "blue"
    dash: str = ""
    name: str = ""
    at: int = -1
    below: float = -12
    dots: bool = False
    anchor: str = "middle"


def curve(
    lines: Sequence[Line], label: str, ticks: Sequence[tuple[float, str]], levels: Sequence[float], word: Callable[[float], str],
    band: Sequence[tuple[float, float, float]] = (), marks: Sequence[tuple[float, str, str]] = (), bars: Sequence[tuple[float, float]] = (), diagonal: bool = False, size: tuple[float, float] = (520, 230),
) -> Html:  # fmt: skip
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
    (width, height), pad, right = size, 44.0, 14.0
    first, last, low, high = ticks[0][0], ticks[-1][0], levels[0], levels[-1]

    def x(v: float) -> float:
        return pad + (v - first) / (last - first or 1) * (width - pad - right)

    def y(v: float) -> float:
        return height - 26 - (v - low) / (high - low or 1) * (height - 44)

    out = [part for v in levels for part in (line(pad, y(v), width - right, y(v), "line"), text(pad - 6, y(v) + 4, word(v), anchor="end"))]
    thick = max(3.0, min([18.0, *(0.8 * (x(b) - x(a)) for (a, _), (b, _) in pairwise(sorted(bars)))]))
    out += [tag('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="var(--blue2)" opacity=.55 />', x(v) - thick / 2, height - 26 - 46 * share, thick, 46 * share) for v, share in bars]
    if diagonal:
        out.append(line(x(first), y(first), x(last), y(last), "faint", "stroke-dasharray='4 4'"))
    if band:
        around = [(v, hi) for v, _, hi in band] + [(v, lo) for v, lo, _ in reversed(band)]
        out.append(tag('<polygon points="{}" fill="var(--blue2)" opacity=.45 />', " ".join(f"{x(v):.1f},{y(w):.1f}" for v, w in around)))
    for v, said, colour in marks:
        late = x(v) > width * 0.8
        out += [line(x(v), 12, x(v), height - 26, colour, "stroke-dasharray='3 3'"), text(x(v) + (-5 if late else 5), 14, said, colour, "end" if late else "start", "v")]
    out += [part for drawn in lines for part in path(drawn, x, y)]
    out += [text(x(v), height - 6, said, anchor="middle") for v, said in ticks if said]
    return svg(width, height, label, out)


def path(drawn: Line, x: Callable[[float], float], y: Callable[[float], float]) -> list[Html]:
    """A line with its name; where a value is missing it breaks."""
    steps, pen = [], "M"
    for place, value in drawn.points:
        if value is None or value != value:
            pen = "M"
            continue
        steps.append(f"{pen}{x(place):.1f},{y(value):.1f}")
        pen = "L"
    out = [tag('<path d="{}" fill=none stroke="var(--{})" stroke-width=2.4 stroke-dasharray="{}" stroke-linejoin=round />', " ".join(steps), drawn.colour, drawn.dash)]
    known = [(p, v) for p, v in drawn.points if v is not None and v == v]
    if drawn.dots:
        out += [tag('<circle cx="{:.1f}" cy="{:.1f}" r=3.2 fill="var(--{})"/>', x(p), y(v), drawn.colour) for p, v in known]
    if drawn.name and known:
        place, value = known[max(-len(known), min(drawn.at, len(known) - 1))]
        out.append(text(x(place) + (8 if drawn.anchor == "start" else 0), y(value) + drawn.below, drawn.name, drawn.colour, drawn.anchor, "v"))
    return out


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map: how deep (0 to 1), what colour, what it says, and what the page's script finds behind it."""

    depth: float
    colour: str
    said: str
    behind: str


def cells(rows: Sequence[tuple[str, Sequence[Cell | None]]], ticks: Sequence[str], label: str) -> Html:
    """Cells by row and column, to point at, to click and to walk through by arrows; what matters has a shape besides its colour."""
    out = [tag('<div role=row><span role=rowheader class=k title="{0}">{0}</span>{1}</div>', name, join(map(cell, made))) for name, made in rows]
    foot = tag('<div role=presentation class=foot aria-hidden=true><span></span>{}</div>', join(tag("<span>{}</span>", t) for t in ticks))
    return tag('<div class=cells role=grid aria-label="{}" style="--n:{}">{}{}</div>', label, len(ticks), join(out), foot)


def cell(made: Cell | None) -> Html:
    """One cell; an empty one where there is nothing to tell."""
    if made is None:
        return Html('<span role=gridcell aria-label="nothing to tell"></span>')
    mark = {"act": "▲", "watch": "◆"}.get(made.colour, "")
    return tag('<span role=gridcell tabindex=-1 class="cell-{}" style="--d:{:.0f}%" data-behind="{}" aria-label="{}" title="{}"><i aria-hidden=true>{}</i></span>', made.colour, 12 + 80 * made.depth, made.behind, made.said, made.said, mark)


def columns(bars: Sequence[tuple[float, float, str]], below: Sequence[tuple[float, str]], usual: tuple[float, float], label: str, size: tuple[float, float] = (1120, 190)) -> Html:
    """Columns from zero: (place, height, what it says), with what is usual shaded behind them.

    Parameters
    ----------
    below : pairs of place and word
        Words; the first and the last are the ends of the axis.
    """
    (width, height), pad, right = size, 50.0, 6.0
    levels = ticks(0, max([h for _, h, _ in bars] or [1]), 3)
    first, last = below[0][0], below[-1][0]

    def x(v: float) -> float:
        return pad + (v - first) / (last - first or 1) * (width - pad - right)

    def y(v: float) -> float:
        return height - 26 - v / (levels[-1] or 1) * (height - 40)

    out = [part for v in levels for part in (line(pad, y(v), width - right, y(v), "line"), text(pad - 6, y(v) + 4, f"{v:,.0f}", anchor="end"))]
    out.append(tag('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="var(--line)" />', pad, y(usual[1]), width - pad - right, max(y(usual[0]) - y(usual[1]), 1)))
    thick = (width - pad - right) / max(len(bars), 1) * 0.72
    for place, value, said in bars:
        colour = "watch" if value < usual[0] * 0.8 or value > usual[1] * 1.2 else "blue"
        out.append(tag('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx=2 fill="var(--{})" opacity=.8><title>{}</title></rect>', x(place) - thick / 2, y(value), thick, max(y(0) - y(value), 0), colour, said))
    out += [text(x(v), height - 6, said) for v, said in below if said]
    return svg(width, height, label, out)
