"""Charts that are rows of text and a strip: intervals, bars, and the cells of a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.svg_elements import (
    draw_strip_band,
    draw_strip_bar,
    draw_strip_interval,
    draw_strip_marker,
    draw_strip_text,
    wrap_strip,
)
from mlops_kit.dashboards.view_models import Color, View

_ZERO_POSITION = 45.0  # percent of a strip at which a difference is zero
_MAX_DIFFERENCE_WIDTH = 43.0
_SCALE_MARGIN = 3.0  # percent left free at either end of a common scale
_MIN_BAR_WIDTH = 0.5
_MIN_CELL_DEPTH = 12.0  # percent of color in the palest and in the darkest cell
_MAX_CELL_DEPTH = 92.0
_CELL_MARKS = {Color.CRITICAL: "▲", Color.WARNING: "◆"}


@dataclass(frozen=True)
class StripRow:
    """A row: its name, its strip, a text and, if there is one, a colored verdict."""

    name: str
    strip: Html
    text: str
    verdict: str = ""
    verdict_color: str = ""


@dataclass(frozen=True)
class StripChartView(View):
    """Rows with a strip; ``layout`` is the CSS class of their columns."""

    macro: ClassVar[str] = "strip_chart"
    label: str
    rows: tuple[StripRow, ...]
    layout: str = ""
    foot: Html = Html()  # noqa: RUF009 - an empty text, which nobody can change
    has_verdicts: bool = False


@dataclass(frozen=True)
class DifferenceInterval:
    """A difference between two models; positive is better."""

    name: str
    difference: float
    low: float
    high: float
    margin: float
    text: str
    verdict: str
    color: str


@dataclass(frozen=True)
class ValueInterval:
    """A value with its interval."""

    name: str
    value: float
    low: float
    high: float
    text: str
    color: str


@dataclass(frozen=True)
class HeatMapCell:
    """A cell of a heat map.

    Attributes
    ----------
    depth : float
        How dark it is, from 0 to 1.
    label : str
        What it means, in words.
    key : str
        Under which the page's script finds the distributions behind it.
    """

    depth: float
    color: str
    label: str
    key: str

    @property
    def mark(self) -> str:
        """A shape beside the color."""
        return _CELL_MARKS.get(Color(self.color), "")

    @property
    def depth_percent(self) -> str:
        """The depth as the style sheet takes it."""
        percent = _MIN_CELL_DEPTH + (_MAX_CELL_DEPTH - _MIN_CELL_DEPTH) * self.depth
        return f"{percent:.0f}%"


@dataclass(frozen=True)
class HeatMapRow:
    """A row of a heat map; a cell is None where nothing is known."""

    name: str
    cells: tuple[HeatMapCell | None, ...]


@dataclass(frozen=True)
class HeatMapView(View):
    """Cells by row and column, to point at, to click and to walk through by arrow keys."""

    macro: ClassVar[str] = "heat_map"
    label: str
    rows: tuple[HeatMapRow, ...]
    ticks: tuple[str, ...]


@dataclass(frozen=True)
class HeatMapKeyEntry:
    """What a color of a heat map means."""

    color: str
    text: str

    @property
    def mark(self) -> str:
        """A shape beside the color."""
        return _CELL_MARKS.get(Color(self.color), "")


@dataclass(frozen=True)
class HeatMapKeyView(View):
    """The key of a heat map, and the place where the distributions of a cell are shown."""

    macro: ClassVar[str] = "heat_map_key"
    entries: tuple[HeatMapKeyEntry, ...]


def make_difference_chart(differences: Sequence[DifferenceInterval], label: str) -> StripChartView:
    """Make dots and whiskers around "the same"; the grey band shows the margin.

    Each row has its own scale, because metrics differ in unit: what counts is the position
    relative to zero and to the margin.
    """
    rows = []
    for item in differences:
        ends = (abs(item.low), abs(item.high), abs(item.difference), 1.2 * abs(item.margin), 1e-12)
        scale = _MAX_DIFFERENCE_WIDTH / max(ends)
        strip_label = (
            f"{item.name}: {item.text}, {item.verdict}; interval from {item.low:.3g} to "
            f"{item.high:.3g}, margin {item.margin:.3g}"
        )
        elements = [
            draw_strip_band(_ZERO_POSITION - item.margin * scale, item.margin * scale),
            draw_strip_marker(_ZERO_POSITION, Color.NEUTRAL),
            draw_strip_interval(
                _ZERO_POSITION + item.low * scale,
                _ZERO_POSITION + item.difference * scale,
                _ZERO_POSITION + item.high * scale,
                item.color,
            ),
        ]
        strip = wrap_strip(strip_label, elements)
        rows.append(StripRow(item.name, strip, item.text, item.verdict, item.color))
    foot = draw_strip_text(_ZERO_POSITION, "the same", "middle")
    foot += draw_strip_text(100, "better →", "end")
    return StripChartView(label, tuple(rows), foot=foot, has_verdicts=True)


def make_value_chart(
    values: Sequence[ValueInterval], overall: float, overall_text: str, label: str
) -> StripChartView:
    """Make dots and whiskers on a common scale, with the overall value as a dashed line."""
    least = min([overall, *(item.low for item in values)])
    most = max([overall, *(item.high for item in values)])
    scale = (100 - 2 * _SCALE_MARGIN) / ((most - least) or 1)

    def to_position(value: float) -> float:
        return _SCALE_MARGIN + (value - least) * scale

    rows = []
    for item in values:
        strip_label = f"{item.name}: {item.text}; interval from {item.low:.3g} to {item.high:.3g}"
        low, value, high = (to_position(v) for v in (item.low, item.value, item.high))
        elements = [
            draw_strip_marker(to_position(overall), Color.NEUTRAL, "4 4"),
            draw_strip_interval(low, value, high, item.color),
        ]
        rows.append(StripRow(item.name, wrap_strip(strip_label, elements), item.text))
    position = to_position(overall)
    foot = draw_strip_text(position, overall_text, _choose_anchor(position))
    return StripChartView(label, tuple(rows), "three", foot)


def _choose_anchor(position: float) -> str:
    """Choose the side of a text so that it stays within the strip."""
    if position > 80:
        return "end"
    return "start" if position < 20 else "middle"


def make_bar_strips(bars: Sequence[tuple[str, float, str]], label: str) -> StripChartView:
    """Make bars from zero, of (name, value, text); those that are not above zero are grey."""
    largest = max((abs(value) for _, value, _ in bars), default=1.0) or 1.0
    rows = []
    for name, value, text in bars:
        width = max(abs(value) / largest * 100, _MIN_BAR_WIDTH)
        color = Color.PRIMARY if value > 0 else Color.NEUTRAL
        strip = wrap_strip(f"{name}: {text}", [draw_strip_bar(width, color)])
        rows.append(StripRow(name, strip, text))
    return StripChartView(label, tuple(rows), "bars")
