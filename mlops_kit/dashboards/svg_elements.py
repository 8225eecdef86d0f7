"""SVG elements in the page's own colors, so that charts follow the dark mode.

Positions are pixels, or percentages where a chart is as wide as its column. Texts are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlops_kit.dashboards.rendering import Html

Point = tuple[float, float]


def draw_line(start: Point, end: Point, color: str, dash: str = "") -> Html:
    """Draw a straight line."""
    return Html(
        '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="var(--{})"{} />'
    ).format(*start, *end, color, _format_dash(dash))


def _format_dash(dash: str) -> Html:
    return Html(' stroke-dasharray="{}"').format(dash) if dash else Html()


def draw_text(
    position: Point, text: str, anchor: str = "start", color: str = "", is_bold: bool = False
) -> Html:
    """Draw a text; ``anchor`` is SVG's ``start``, ``middle`` or ``end``."""
    style = Html(' style="fill:var(--{})"').format(color) if color else Html()
    return Html('<text x="{:.1f}" y="{:.1f}" text-anchor={} class="{}"{}>{}</text>').format(
        *position, anchor, "v" if is_bold else "", style, text
    )


def draw_rectangle(
    corner: Point,
    size: Point,
    color: str,
    opacity: float = 1,
    tooltip: str = "",
    radius: float = 0,
) -> Html:
    """Draw a rectangle by its upper left corner, its width and its height."""
    title = Html("<title>{}</title>").format(tooltip) if tooltip else Html()
    return Html(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx={:g} fill="var(--{})" '
        "opacity={:g}>{}</rect>"
    ).format(*corner, *size, radius, color, opacity, title)


def draw_circle(center: Point, radius: float, color: str) -> Html:
    """Draw a filled circle."""
    return Html('<circle cx="{:.1f}" cy="{:.1f}" r={:g} fill="var(--{})"/>').format(
        *center, radius, color
    )


def draw_path(points: Iterable[Point | None], color: str, dash: str = "") -> Html:
    """Draw a line through points; it breaks where a point is None."""
    commands = []
    command = "M"
    for point in points:
        if point is None:
            command = "M"
            continue
        commands.append(f"{command}{point[0]:.1f},{point[1]:.1f}")
        command = "L"
    return Html(
        '<path d="{}" fill=none stroke="var(--{})" stroke-width=2.4 stroke-dasharray="{}" '
        "stroke-linejoin=round />"
    ).format(" ".join(commands), color, dash)


def draw_polygon(points: Iterable[Point], color: str, opacity: float) -> Html:
    """Draw a filled area."""
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Html('<polygon points="{}" fill="var(--{})" opacity={:g} />').format(
        corners, color, opacity
    )


def wrap_chart(width: float, height: float, label: str, elements: Iterable[Html]) -> Html:
    """Make a chart of elements; ``label`` reads it to a screen reader."""
    return Html('<svg viewBox="0 0 {:g} {:g}" role=img aria-label="{}">{}</svg>').format(
        width, height, label, Html().join(elements)
    )


def wrap_strip(label: str, elements: Sequence[Html]) -> Html:
    """Make a chart as wide as its column and one line high; positions in it are percentages."""
    return Html('<svg class=strip role=img aria-label="{}">{}</svg>').format(
        label, Html().join(elements)
    )


def draw_strip_marker(position: float, color: str, dash: str = "") -> Html:
    """Draw a vertical line in a strip."""
    return Html(
        '<line x1="{0:.2f}%" x2="{0:.2f}%" y1=0 y2="100%" stroke="var(--{1})"{2} />'
    ).format(position, color, _format_dash(dash))


def draw_strip_interval(low: float, value: float, high: float, color: str) -> Html:
    """Draw a value with its interval in a strip: a dot on a line."""
    line = Html(
        '<line x1="{:.2f}%" x2="{:.2f}%" y1="50%" y2="50%" stroke="var(--{})" stroke-width=3 '
        "stroke-linecap=round />"
    ).format(low, high, color)
    dot = Html('<circle cx="{:.2f}%" cy="50%" r=5 fill="var(--{})" />').format(value, color)
    return line + dot


def draw_strip_band(start: float, width: float) -> Html:
    """Draw a grey band in a strip."""
    return Html(
        '<rect x="{:.2f}%" y="16%" width="{:.2f}%" height="68%" rx=3 fill="var(--line)" />'
    ).format(start, width)


def draw_strip_bar(width: float, color: str) -> Html:
    """Draw a bar from the left end of a strip."""
    return Html(
        '<rect x=0 y=6 width="{:.2f}%" height=16 rx=3 fill="var(--{})" opacity=.8 />'
    ).format(width, color)


def draw_strip_text(position: float, text: str, anchor: str) -> Html:
    """Draw a text below a strip."""
    return Html('<text x="{:.2f}%" y=14 text-anchor={}>{}</text>').format(position, anchor, text)
