"""What the pictures of monitoring show: performance over time, with what was promised and promoted; and drift by column and window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_kit.core.formatting import format_number
from mlops_kit.dashboards import svg_charts
from mlops_kit.dashboards.monitoring_data import DAY, Stretch
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.text_formats import day, months, span
from mlops_kit.stats.monitoring_tables import DriftStatus

if TYPE_CHECKING:
    from mlops_kit.dashboards.monitoring_page import Monitoring


SIZES = {
    "broad": (760, 305),
    "slim": (400, 250),
}  # of performance over time, on a screen and on a phone
RECENT = 3  # windows that say which columns come first
JUDGED = {DriftStatus.ALERT, DriftStatus.WARNING}  # statuses whose cost was estimated
DEEP = 5.0  # times the limit at which a cell is as dark as it gets
Values = Sequence[float | None]


def curve(page: Monitoring, kind: str) -> Html:
    """The lines over time."""
    found = page.found
    begin, until = ends(page)

    def x(moment: datetime) -> float:
        return (moment - begin) / DAY

    middle = [x(w.start + (w.end - w.start) / 2) for w in found.windows]
    real, guess, kept = (
        [w.realised().value for w in found.windows],
        [w.estimated.value for w in found.windows],
        [found.promised(w.version) for w in found.windows],
    )
    band = [
        (at, w.estimated.low, w.estimated.high)
        for at, w in zip(middle, found.windows, strict=True)
        if w.estimated.low is not None and w.estimated.high is not None
    ]
    if len(band) == 1:  # one window alone has a width too
        band = [(middle[0] + side * x(until) / 50, *band[0][1:]) for side in (-1, 1)]
    values = [v for v in (*real, *guess, *kept) if v is not None] + [
        v for _, low, high in band for v in (low, high)
    ]
    levels = svg_charts.ticks(min(values), max(values), 4) if values else [0.0, 1.0]
    told = f"{page.metric.title}, realised: {', '.join(f'{span(w.start, w.end, page.zone)} {format_number(w.realised().value)}' for w in found.settled[-6:])}"
    slim = kind == "slim"
    return svg_charts.curve(
        [
            *promises(page, x, kept, [guess, real], levels),
            *named(middle, guess, real, kept, levels),
        ],
        told,
        months(begin, until, page.zone, x, 4 if slim else 8),
        levels,
        digits(levels),
        band=band,
        marks=marks(page, x, slim),
        size=SIZES[kind],
    )


def ends(page: Monitoring) -> tuple[datetime, datetime]:
    """The ends of the line of time."""
    windows = page.found.windows
    return windows[0].start, max(windows[-1].end, page.found.upto)


def digits(levels: Sequence[float]) -> Callable[[float], str]:
    """How the lines across are written: all with as many digits as the one that needs most."""
    most = max(len(f"{v:g}".partition(".")[2]) for v in levels)
    return lambda v: f"{v:,.{most}f}"


def free(
    own: Values, others: Sequence[Values], levels: Sequence[float], taken: Sequence[int] = ()
) -> tuple[int, bool]:
    """Where a line's name stands clear: the number of its known point, and whether above it, as far as possible from the other lines and names."""
    spots = [(-1.0, 0, True)]
    for i, value in enumerate(own):
        if value is None or (len(own) > 4 and i in {0, len(own) - 1}):
            continue
        near = [v - value for o in others for v in o[max(0, i - 1) : i + 2] if v is not None]
        crowd = 1.0 if all(abs(i - t) > 2 for t in taken) else 0.2
        above = min([levels[-1] - value, *(d for d in near if d >= 0)])
        below = min([value - levels[0], *(-d for d in near if d <= 0)])
        spots += [(above * crowd, i, True), (below * crowd, i, False)]
    _, best, over = max(spots, key=lambda s: s[0])
    return sum(v is not None for v in own[:best]), over


def named(
    middle: Sequence[float], guess: Values, real: Values, kept: Values, levels: Sequence[float]
) -> list[svg_charts.Line]:
    """The estimated and the realised line, each named where it stands clear."""
    out, taken = [], list[int]()
    for own, others, colour, dash, name in (
        (guess, [real, kept], "soft", "5 4", "estimated"),
        (real, [guess, kept], "blue", "", "realised"),
    ):
        at, over = free(own, others, levels, taken)
        taken.append(at)
        if known := sum(v is not None for v in own):
            out.append(
                svg_charts.Line(
                    list(zip(middle, own, strict=True)),
                    colour,
                    dash,
                    name,
                    at,
                    -10 if over else 18,
                    dots=known == 1 or colour == "blue",
                )
            )
    return out


def promises(
    page: Monitoring,
    x: Callable[[datetime], float],
    kept: Values,
    others: Sequence[Values],
    levels: Sequence[float],
) -> list[svg_charts.Line]:
    """What was promised, a line for each stretch in which one version answered; the longest is named."""
    groups: list[tuple[str, list[tuple[float, float | None]], int]] = []
    for i, (window, promise) in enumerate(zip(page.found.windows, kept, strict=True)):
        if promise is None:
            continue
        if not groups or groups[-1][0] != window.version:
            groups.append((window.version, [(x(window.start), promise)], i))
        groups[-1][1].append((x(window.end), promise))
    longest = max(groups, key=lambda g: len(g[1]), default=None)
    out = []
    for group in groups:
        _, points, first = group
        some = slice(first, first + len(points) - 1)
        at, over = free(kept[some], [o[some] for o in others], levels)
        out.append(
            svg_charts.Line(
                points, "act", "2 4", "promised" if group is longest else "", at, -8 if over else 16
            )
        )
    return out


def marks(
    page: Monitoring, x: Callable[[datetime], float], slim: bool
) -> list[tuple[float, str, str]]:
    """The promotions in the time that is shown; their words are short where they stand close."""
    found, (begin, until) = page.found, ends(page)
    placed = sorted(
        (at, p.version)
        for p in found.promotions
        if (at := found.placed(p)) is not None and begin < at <= until
    )
    out = []
    for i, (at, version) in enumerate(placed):
        room = (placed[i + 1][0] - at) / (until - begin) if i + 1 < len(placed) else 1.0
        word = (
            f"{day(at, page.zone)}: version {version}"
            if not slim and room > 0.2
            else f"version {version}"
            if room > (0.4 if slim else 0.1)
            else version
        )
        out.append((x(at), word, "good"))
    return out


def ranked(windows: list[Stretch]) -> list[str]:
    """The columns, those that cost most lately first, then those that cost most ever, then by effect."""
    costs: dict[str, list[float]] = {}
    for i, window in enumerate(reversed(windows)):
        for row in window.drift:
            value = row["cost"] or 0.0
            costs[row["column"]] = list(
                map(
                    max,
                    costs.get(row["column"], [0.0] * 3),
                    (value if i < RECENT else 0.0, value, row["effect"] or 0.0),
                )
            )
    return sorted(costs, key=lambda c: [-v for v in costs[c]])


def line(
    page: Monitoring, column: str, windows: list[Stretch]
) -> tuple[str, list[svg_charts.Cell | None]]:
    """A column's cells, by window; None where its effect is not known."""
    found = [
        next((r for r in w.drift if r["column"] == column and r["effect"] is not None), None)
        for w in windows
    ]
    return "its answers" if column == "score" else column, [
        cell(page, r, w) if r else None for r, w in zip(found, windows, strict=True)
    ]


def cell(page: Monitoring, row: dict[str, Any], window: Stretch) -> svg_charts.Cell:
    """A cell. Blue: harmless; amber: it costs something; red: more than a fall that is let pass; grey: not known."""
    config, value, judged = page.config, row["cost"], row["status"] in JUDGED
    if value is None:
        colour, told = (
            ("faint", "what it costs is not known") if judged else ("blue", row["explanation"])
        )
    else:
        colour = (
            "act"
            if value >= config.monitor.max_drop
            else "watch"
            if value >= config.review.margin
            else "blue"
        )
        told = page.price(value)
    depth = min(1.0, row["effect"] / (DEEP * config.monitor.alert_effect or 1.0))
    return svg_charts.Cell(
        depth,
        colour,
        f"{row['column']}, {span(window.start, window.end, page.zone)}: effect {format_number(row['effect'])}; {told}",
        f"{window.row.id}|{row['column']}",
    )
