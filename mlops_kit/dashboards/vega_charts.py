"""Charts with two axes of numbers: their data, and the Vega-Lite declarations that draw them.

A chart is as wide as its card: the SVG is scaled, and the style sheet sets the size of its texts.
The colors are the page's CSS variables, so that a chart follows the dark mode. Declarations are
plain dicts, because importing Altair takes longer than building a page.

To add a chart type: 1. a record of its data here, 2. a function that declares its layers and
returns ``_render_chart``, 3. a row in ``test_text_from_outside_is_escaped``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from mlops_kit.core.vega_lite import render_svg
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.view_models import Color

_BOTTOM_MARGIN = 26.0  # pixels below the plot, for the texts of the x axis
_HISTOGRAM_HEIGHT = 46.0  # pixels of the largest share
_MAX_HISTOGRAM_BAR = 18.0
_MIN_HISTOGRAM_BAR = 3.0
_LATE_EVENT_SHARE = 0.8  # the text of an event further right is on its left
_EVENT_TOP = 12.0  # pixels from the top of the chart to the line of an event
_NAME_MARGIN = 8.0  # pixels between the end of a line and a name that begins there
_DOT_AREA = 41.0  # square pixels
_UNUSUAL_FACTOR = 0.2  # a bar this much outside of the usual range stands out
_BAR_CHART_SIZE = (1120, 190)
_BAR_WIDTH_SHARE = 0.72
_MAX_CACHED_CHARTS = 32

_DESCRIBED_PATH = re.compile(r'<path aria-label="([^"]*)"([^>]*)/>')
VEGA_LITE_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
CHART_STYLE = {
    "aria": False,
    "view": {"stroke": None},
    "axis": {
        "title": None,
        "domain": False,
        "ticks": False,
        "labelColor": "var(--soft)",
        "labelFontSize": 12,
        "labelBound": False,
        "labelFlush": False,
        "labelOverlap": False,
        "labelLimit": 0,
        "gridColor": "var(--line)",
    },
    "axisX": {"grid": False, "labelPadding": 10},
    "axisY": {"labelPadding": 6},
    "text": {"fontSize": 12, "fontWeight": 600, "baseline": "alphabetic"},
}

Declaration = dict[str, Any]


def choose_ticks(low: float, high: float, max_steps: int = 5) -> list[float]:
    """Choose round numbers that cover a range.

    >>> choose_ticks(0.03, 0.93), choose_ticks(52, 318, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 100.0, 200.0, 300.0, 400.0])
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return [0.0, 1.0]
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / max_steps))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= max_steps)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [round(index * step, 12) for index in range(first, last + 1)]


@dataclass(frozen=True)
class ChartLine:
    """A line of a chart; it breaks where a value is missing.

    Attributes
    ----------
    dash : tuple of int
        Lengths of its dashes and gaps in pixels; empty: not dashed.
    name : str
        Written beside the line; empty: not named.
    name_index : int
        The known point at which the name stands; -1 for the last.
    name_offset : float
        Pixels of the name below that point.
    name_align : str
        The side of the name that is there: ``left``, ``center`` or ``right``.
    """

    points: Sequence[tuple[float, float | None]]
    color: str = Color.PRIMARY
    dash: tuple[int, ...] = ()
    name: str = ""
    name_index: int = -1
    name_offset: float = -12
    name_align: str = "center"
    has_dots: bool = False

    @property
    def known_points(self) -> list[tuple[float, float]]:
        """The points that have a value."""
        return [(x, y) for x, y in self.points if y is not None and not math.isnan(y)]


@dataclass(frozen=True)
class ChartEvent:
    """Something that happened at one place of the x axis."""

    x: float
    text: str
    color: str = Color.GOOD


@dataclass(frozen=True)
class LineChart:
    """Lines over a number or time, with what helps to read them.

    Attributes
    ----------
    label : str
        Reads the chart to a screen reader.
    x_ticks : sequence of (x, text)
        The first and the last are the ends of the axis.
    y_ticks : sequence of float
        The first and the last are the ends of the axis.
    band : sequence of (x, low, high)
        An area behind the lines.
    histogram : sequence of (x, share)
        Bars at the foot; a share of 1 is the highest.
    """

    lines: Sequence[ChartLine]
    label: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[float]
    format_value: Callable[[float], str]
    band: Sequence[tuple[float, float, float]] = ()
    events: Sequence[ChartEvent] = ()
    histogram: Sequence[tuple[float, float]] = ()
    has_diagonal: bool = False
    size: tuple[int, int] = (520, 230)


@dataclass(frozen=True)
class BarChartBar:
    """A bar of a bar chart; ``text`` is shown when one points at it."""

    x: float
    value: float
    text: str


@dataclass(frozen=True)
class BarChart:
    """Bars from zero over time, with the usual range of values shaded behind them."""

    bars: Sequence[BarChartBar]
    label: str
    x_ticks: Sequence[tuple[float, str]]
    usual_range: tuple[float, float]


@dataclass(frozen=True)
class _PlotArea:
    """The size of a chart, its axes with their ticks, and its margins in pixels."""

    size: tuple[int, int]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    left: float = 44.0
    right: float = 14.0
    top: float = 18.0
    x_text_align: str = "center"

    @property
    def width(self) -> float:
        """The width of the plot."""
        return self.size[0] - self.left - self.right

    @property
    def height(self) -> float:
        """The height of the plot."""
        return self.size[1] - self.top - _BOTTOM_MARGIN

    @property
    def x_range(self) -> tuple[float, float]:
        """The ends of the x axis."""
        return self.x_ticks[0][0], self.x_ticks[-1][0]

    @property
    def y_range(self) -> tuple[float, float]:
        """The ends of the y axis."""
        return self.y_ticks[0][0], self.y_ticks[-1][0]

    @property
    def x_per_pixel(self) -> float:
        """How much of the x axis a pixel is."""
        first, last = self.x_range
        return (last - first or 1) / self.width

    @property
    def y_per_pixel(self) -> float:
        """How much of the y axis a pixel is."""
        low, high = self.y_range
        return (high - low or 1) / self.height

    def declare_x(self, field: str = "x") -> Declaration:
        """Declare the horizontal position of a mark."""
        axis = _declare_axis(self.x_ticks) | {"labelAlign": self.x_text_align}
        return {"field": field, **_declare_scale(self.x_range), "axis": axis}

    def declare_y(self, field: str = "y") -> Declaration:
        """Declare the vertical position of a mark."""
        axis = _declare_axis(self.y_ticks)
        return {"field": field, **_declare_scale(self.y_range), "axis": axis}


def _declare_scale(ends: tuple[float, float]) -> Declaration:
    """Declare the scale of an axis, which ends where its ticks do."""
    low, high = ends
    if low == high:
        high = low + 1
    scale = {"domain": [low, high], "nice": False, "zero": False, "padding": 0}
    return {"type": "quantitative", "scale": scale}


def _declare_axis(ticks: Sequence[tuple[float, str]]) -> Declaration:
    """Declare the ticks of an axis with their texts."""
    texts: dict[float, str] = {}
    for value, text in ticks:
        texts[value] = text or texts.get(value, "")
    values = list(texts)
    expression = f"{json.dumps(list(texts.values()))}[indexof({json.dumps(values)}, datum.value)]"
    return {"values": values, "labelExpr": expression}


def declare_layer(
    rows: Iterable[Declaration], mark: str, style: Declaration, **encoding: Declaration
) -> Declaration:
    """Declare one kind of mark for rows of data."""
    return {
        "data": {"values": list(rows)},
        "mark": {"type": mark, **style},
        "encoding": encoding,
    }


def _read_color(field: str = "color") -> Declaration:
    """Declare that a color is the one that the data name."""
    return {"field": field, "type": "nominal", "scale": None, "legend": None}


def format_color(color: str) -> str:
    """Format a color of the style sheet, as SVG takes it."""
    return f"var(--{color})"


def draw_line_chart(chart: LineChart) -> Html:
    """Draw a chart of lines."""
    y_ticks = [(value, chart.format_value(value)) for value in chart.y_ticks]
    area = _PlotArea(chart.size, chart.x_ticks, y_ticks)
    layers = []
    if chart.histogram:
        layers.append(_declare_histogram(area, chart.histogram))
    if chart.has_diagonal:
        layers.append(_declare_diagonal(area))
    if chart.band:
        layers.append(_declare_band(area, chart.band))
    if chart.events:
        layers.extend(_declare_events(area, chart.events))
    layers.extend(_declare_lines(area, chart.lines))
    return _render_chart(area, layers, chart.label)


def _declare_histogram(area: _PlotArea, histogram: Sequence[tuple[float, float]]) -> Declaration:
    """Declare the bars at the foot, as wide as the closest two allow."""
    width = _MAX_HISTOGRAM_BAR
    for (left, _), (right, _) in pairwise(sorted(histogram)):
        width = min(width, 0.8 * (right - left) / area.x_per_pixel)
    width = max(width, _MIN_HISTOGRAM_BAR)
    foot = area.y_range[0]
    rows = []
    for x, share in histogram:
        rows.append({"x": x, "y": foot + share * _HISTOGRAM_HEIGHT * area.y_per_pixel})
    style = {"orient": "vertical", "size": width, "color": format_color("blue2"), "opacity": 0.55}
    return declare_layer(
        rows, "bar", style, x=area.declare_x(), y=area.declare_y(), y2={"datum": foot}
    )


def _declare_diagonal(area: _PlotArea) -> Declaration:
    """Declare the line on which both axes have the same value."""
    rows = [{"x": end, "y": end} for end in area.x_range]
    style = {"color": format_color(Color.NEUTRAL), "strokeDash": [4, 4], "strokeWidth": 1}
    return declare_layer(rows, "line", style, x=area.declare_x(), y=area.declare_y())


def _declare_band(area: _PlotArea, band: Sequence[tuple[float, float, float]]) -> Declaration:
    """Declare the area between the low and the high values."""
    rows = [{"x": x, "low": low, "high": high} for x, low, high in band]
    style = {"color": format_color("blue2"), "opacity": 0.45}
    return declare_layer(
        rows, "area", style, x=area.declare_x(), y=area.declare_y("low"), y2={"field": "high"}
    )


def _declare_events(area: _PlotArea, events: Sequence[ChartEvent]) -> list[Declaration]:
    """Declare a dashed vertical line with its text for each event."""
    first, _ = area.x_range
    rows = []
    for event in events:
        position = area.left + (event.x - first) / area.x_per_pixel
        is_late = position > area.size[0] * _LATE_EVENT_SHARE
        rows.append(
            {
                "x": event.x,
                "text": event.text,
                "color": format_color(event.color),
                "align": "right" if is_late else "left",
                "dx": -5 if is_late else 5,
            }
        )
    top = {"value": _EVENT_TOP - area.top}
    rules = declare_layer(
        rows,
        "rule",
        {"strokeDash": [3, 3]},
        x=area.declare_x(),
        y=top,
        y2={"value": area.height},
        color=_read_color(),
    )
    texts = declare_layer(
        rows,
        "text",
        {"align": {"expr": "datum.align"}, "dx": {"expr": "datum.dx"}, "dy": 2},
        x=area.declare_x(),
        y=top,
        text={"field": "text"},
        color=_read_color(),
    )
    return [rules, texts]


def _declare_lines(area: _PlotArea, lines: Sequence[ChartLine]) -> list[Declaration]:
    """Declare the lines, their dots and their names."""
    points: list[Declaration] = []
    dots: list[Declaration] = []
    names: list[Declaration] = []
    for index, line in enumerate(lines):
        style = {"line": index, "color": format_color(line.color), "dash": line.dash}
        for x, value in line.points:
            is_known = value is not None and not math.isnan(value)
            points.append({"x": x, "y": value if is_known else None, **style})
        if line.has_dots:
            dots.extend({"x": x, "y": y, **style} for x, y in line.known_points)
        if line.name and line.known_points:
            names.append(_make_name(line))
    position = {"x": area.declare_x(), "y": area.declare_y()}
    paths = declare_layer(
        points,
        "line",
        {"strokeWidth": 2.4, "strokeJoin": "round"},
        **position,
        color=_read_color(),
        strokeDash={"field": "dash", "type": "nominal", "scale": None},
        detail={"field": "line"},
    )
    circles = declare_layer(
        dots, "circle", {"size": _DOT_AREA, "opacity": 1}, **position, color=_read_color()
    )
    texts = declare_layer(
        names,
        "text",
        {key: {"expr": f"datum.{key}"} for key in ("align", "dx", "dy")},
        **position,
        text={"field": "text"},
        color=_read_color(),
    )
    return [paths, circles, texts]


def _make_name(line: ChartLine) -> Declaration:
    """Make the row of a line's name."""
    points = line.known_points
    x, y = points[max(-len(points), min(line.name_index, len(points) - 1))]
    return {
        "x": x,
        "y": y,
        "text": line.name,
        "color": format_color(line.color),
        "align": line.name_align,
        "dx": _NAME_MARGIN if line.name_align == "left" else 0,
        "dy": line.name_offset,
    }


def draw_bar_chart(chart: BarChart) -> Html:
    """Draw a chart of bars; those far outside of the usual range stand out."""
    values = choose_ticks(0, max(bar.value for bar in chart.bars), 3)
    y_ticks = [(value, f"{value:,.0f}") for value in values]
    area = _PlotArea(
        _BAR_CHART_SIZE, chart.x_ticks, y_ticks, left=50.0, right=6.0, top=14.0, x_text_align="left"
    )
    low, high = chart.usual_range
    rows = []
    for bar in chart.bars:
        is_low = bar.value < low * (1 - _UNUSUAL_FACTOR)
        is_high = bar.value > high * (1 + _UNUSUAL_FACTOR)
        color = Color.WARNING if is_low or is_high else Color.PRIMARY
        rows.append({"x": bar.x, "y": bar.value, "text": bar.text, "color": format_color(color)})
    usual_range = declare_layer(
        [{"low": low, "high": max(high, low + area.y_per_pixel)}],
        "rect",
        {"color": format_color("line")},
        x={"value": 0},
        x2={"value": area.width},
        y=area.declare_y("low"),
        y2={"field": "high"},
    )
    bars = declare_layer(
        rows,
        "bar",
        {
            "aria": True,
            "orient": "vertical",
            "size": area.width / len(chart.bars) * _BAR_WIDTH_SHARE,
            "cornerRadius": 2,
            "opacity": 0.8,
        },
        x=area.declare_x(),
        y=area.declare_y(),
        y2={"datum": 0},
        color=_read_color(),
        description={"field": "text"},
    )
    return _render_chart(area, [usual_range, bars], chart.label)


def _render_chart(area: _PlotArea, layers: Sequence[Declaration], label: str) -> Html:
    """Render layers as a chart; ``label`` reads it to a screen reader."""
    declaration = {
        "$schema": VEGA_LITE_SCHEMA,
        "width": area.width,
        "height": area.height,
        "padding": {
            "left": area.left,
            "right": area.right,
            "top": area.top,
            "bottom": _BOTTOM_MARGIN,
        },
        "autosize": "none",
        "background": None,
        "config": CHART_STYLE,
        "layer": list(layers),
    }
    svg = render_declaration(json.dumps(declaration))
    _, _, elements = svg.partition(">")  # behind the start tag
    start_tag = Html('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">')
    return start_tag.format(*area.size, label) + Html(elements)


@lru_cache(maxsize=_MAX_CACHED_CHARTS)
def render_declaration(declaration: str) -> str:
    """Render a declaration, once for equal ones.

    A kernel that waits for its visitor has built the page before, so the visitor waits for the
    charts only whose data have changed since.
    """
    svg = render_svg(json.loads(declaration), extra="dashboards")
    return _DESCRIBED_PATH.sub(r"<path\2><title>\1</title></path>", svg)
