"""Charts with two axes: their data, and how they are drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.svg_elements import (
    Point,
    draw_circle,
    draw_line,
    draw_path,
    draw_polygon,
    draw_rectangle,
    draw_text,
    wrap_chart,
)
from mlops_kit.dashboards.view_models import Color

_BOTTOM_MARGIN = 26.0  # pixels below the plot, for the texts of the x axis
_HISTOGRAM_HEIGHT = 46.0  # pixels of the largest share
_MAX_HISTOGRAM_BAR = 18.0
_MIN_HISTOGRAM_BAR = 3.0
_LATE_EVENT_SHARE = 0.8  # the text of an event further right is on its left
_UNUSUAL_FACTOR = 0.2  # a bar this much outside of the usual range stands out
_BAR_CHART_SIZE = (1120, 190)
_BAR_WIDTH_SHARE = 0.72


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
    name : str
        Written beside the line; empty: not named.
    name_index : int
        The known point at which the name stands; -1 for the last.
    name_offset : float
        Pixels of the name below that point.
    """

    points: Sequence[tuple[float, float | None]]
    color: str = Color.PRIMARY
    dash: str = ""
    name: str = ""
    name_index: int = -1
    name_offset: float = -12
    has_dots: bool = False
    anchor: str = "middle"


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
    """The size of a chart, the ends of its axes and its margins in pixels."""

    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    left: float = 44.0
    right: float = 14.0
    top: float = 18.0

    @property
    def bottom(self) -> float:
        """The position of the x axis."""
        return self.height - _BOTTOM_MARGIN

    def to_x(self, value: float) -> float:
        """Return how far to the right a value is."""
        first, last = self.x_range
        share = (value - first) / ((last - first) or 1)
        return self.left + share * (self.width - self.left - self.right)

    def to_y(self, value: float) -> float:
        """Return how far down a value is."""
        low, high = self.y_range
        share = (value - low) / ((high - low) or 1)
        return self.bottom - share * (self.bottom - self.top)

    def to_point(self, x: float, y: float) -> Point:
        """Return the position of a point."""
        return self.to_x(x), self.to_y(y)


def draw_line_chart(chart: LineChart) -> Html:
    """Draw a chart of lines."""
    width, height = chart.size
    x_range = (chart.x_ticks[0][0], chart.x_ticks[-1][0])
    y_range = (chart.y_ticks[0], chart.y_ticks[-1])
    area = _PlotArea(width, height, x_range, y_range)
    elements = [
        *_draw_y_axis(area, chart.y_ticks, chart.format_value),
        *_draw_histogram(area, chart.histogram),
    ]
    if chart.has_diagonal:
        start = area.to_point(x_range[0], x_range[0])
        end = area.to_point(x_range[1], x_range[1])
        elements.append(draw_line(start, end, Color.NEUTRAL, "4 4"))
    if chart.band:
        elements.append(_draw_band(area, chart.band))
    for event in chart.events:
        elements.extend(_draw_event(area, event))
    for line in chart.lines:
        elements.extend(_draw_chart_line(area, line))
    elements.extend(_draw_x_texts(area, chart.x_ticks, "middle"))
    return wrap_chart(width, height, chart.label, elements)


def _draw_y_axis(
    area: _PlotArea, ticks: Sequence[float], format_value: Callable[[float], str]
) -> list[Html]:
    """Draw a horizontal line with its text for each tick."""
    elements = []
    for value in ticks:
        y = area.to_y(value)
        elements.append(draw_line((area.left, y), (area.width - area.right, y), "line"))
        elements.append(draw_text((area.left - 6, y + 4), format_value(value), "end"))
    return elements


def _draw_x_texts(area: _PlotArea, ticks: Sequence[tuple[float, str]], anchor: str) -> list[Html]:
    """Draw the texts below the x axis."""
    texts = []
    for value, text in ticks:
        if text:
            texts.append(draw_text((area.to_x(value), area.height - 6), text, anchor))
    return texts


def _draw_histogram(area: _PlotArea, histogram: Sequence[tuple[float, float]]) -> list[Html]:
    """Draw the bars at the foot, as wide as the closest two allow."""
    width = _MAX_HISTOGRAM_BAR
    for (left, _), (right, _) in pairwise(sorted(histogram)):
        width = min(width, 0.8 * (area.to_x(right) - area.to_x(left)))
    width = max(width, _MIN_HISTOGRAM_BAR)
    bars = []
    for value, share in histogram:
        height = _HISTOGRAM_HEIGHT * share
        corner = (area.to_x(value) - width / 2, area.bottom - height)
        bars.append(draw_rectangle(corner, (width, height), "blue2", opacity=0.55))
    return bars


def _draw_band(area: _PlotArea, band: Sequence[tuple[float, float, float]]) -> Html:
    """Draw the area between the low and the high values."""
    upper = [area.to_point(x, high) for x, _, high in band]
    lower = [area.to_point(x, low) for x, low, _ in reversed(band)]
    return draw_polygon([*upper, *lower], "blue2", opacity=0.45)


def _draw_event(area: _PlotArea, event: ChartEvent) -> list[Html]:
    """Draw a dashed vertical line with its text."""
    x = area.to_x(event.x)
    text_x = x + 5
    anchor = "start"
    if x > area.width * _LATE_EVENT_SHARE:
        text_x = x - 5
        anchor = "end"
    return [
        draw_line((x, 12), (x, area.bottom), event.color, "3 3"),
        draw_text((text_x, 14), event.text, anchor, event.color, is_bold=True),
    ]


def _draw_chart_line(area: _PlotArea, line: ChartLine) -> list[Html]:
    """Draw a line with its dots and its name."""
    points: list[Point | None] = []
    for x, value in line.points:
        is_missing = value is None or math.isnan(value)
        points.append(None if is_missing or value is None else area.to_point(x, value))
    known_points = [point for point in points if point is not None]
    elements = [draw_path(points, line.color, line.dash)]
    if line.has_dots:
        elements.extend(draw_circle(point, 3.2, line.color) for point in known_points)
    if line.name and known_points:
        index = max(-len(known_points), min(line.name_index, len(known_points) - 1))
        x, y = known_points[index]
        if line.anchor == "start":
            x += 8
        position = (x, y + line.name_offset)
        elements.append(draw_text(position, line.name, line.anchor, line.color, is_bold=True))
    return elements


def draw_bar_chart(chart: BarChart) -> Html:
    """Draw a chart of bars; those far outside of the usual range stand out."""
    width, height = _BAR_CHART_SIZE
    y_ticks = choose_ticks(0, max(bar.value for bar in chart.bars), 3)
    x_range = (chart.x_ticks[0][0], chart.x_ticks[-1][0])
    y_range = (0, y_ticks[-1])
    area = _PlotArea(width, height, x_range, y_range, left=50.0, right=6.0, top=14.0)
    plot_width = area.width - area.left - area.right
    bar_width = plot_width / len(chart.bars) * _BAR_WIDTH_SHARE
    low, high = chart.usual_range
    usual_height = max(area.to_y(low) - area.to_y(high), 1)
    elements = [
        *_draw_y_axis(area, y_ticks, "{:,.0f}".format),
        draw_rectangle((area.left, area.to_y(high)), (plot_width, usual_height), "line"),
    ]
    for bar in chart.bars:
        is_low = bar.value < low * (1 - _UNUSUAL_FACTOR)
        is_high = bar.value > high * (1 + _UNUSUAL_FACTOR)
        color = Color.WARNING if is_low or is_high else Color.PRIMARY
        corner = (area.to_x(bar.x) - bar_width / 2, area.to_y(bar.value))
        size = (bar_width, max(area.to_y(0) - area.to_y(bar.value), 0))
        elements.append(draw_rectangle(corner, size, color, 0.8, bar.text, radius=2))
    elements.extend(_draw_x_texts(area, chart.x_ticks, "start"))
    return wrap_chart(width, height, chart.label, elements)
