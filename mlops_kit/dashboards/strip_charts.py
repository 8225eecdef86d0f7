"""Charts that are rows of text and a strip: intervals, bars, and the cells of a heat map.

Nothing here has an axis. A strip is as wide as its column and stands in line with its texts, and a
cell can be clicked and walked to, so the browser lays them out: they are HTML, placed by
percentages and colored by the style sheet. Charts with axes are in ``vega_charts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.view_models import Color, View

_ZERO_POSITION = 45.0  # percent of a strip at which a difference is zero
_MAX_DIFFERENCE_WIDTH = 43.0
_SCALE_MARGIN = 3.0  # percent left free at either end of a common scale
_MIN_BAR_WIDTH = 0.5
_MIN_CELL_DEPTH = 12.0  # percent of color in the palest and in the darkest cell
_MAX_CELL_DEPTH = 92.0
_CELL_MARKS = {Color.CRITICAL: "▲", Color.WARNING: "◆"}


class StripShape(StrEnum):
    """The shapes of the marks of a strip, by their CSS classes."""

    BAND = "band"
    LINE = "line"
    DASHED_LINE = "dashed"
    WHISKER = "whisker"
    DOT = "dot"
    BAR = "bar-strip"


@dataclass(frozen=True)
class StripMark:
    """A mark of a strip; its start and its width are percentages of the strip."""

    shape: StripShape
    start: float
    width: float = 0.0
    color: str = Color.NEUTRAL

    @property
    def style(self) -> str:
        """The place of the mark, as CSS."""
        style = f"left:{self.start:.2f}%"
        if self.width:
            style += f";width:{self.width:.2f}%"
        return style


class TextAnchor(StrEnum):
    """The part of a text that is at its position, by its CSS class."""

    START = "start"
    MIDDLE = "middle"
    END = "end"


@dataclass(frozen=True)
class StripText:
    """A text below the strips; its position is a percentage of a strip."""

    position: float
    text: str
    anchor: TextAnchor

    @property
    def style(self) -> str:
        """The place of the text, as CSS."""
        return f"left:{self.position:.2f}%"


@dataclass(frozen=True)
class StripRow:
    """A row: its name, its strip, a text and, if there is one, a colored verdict.

    Attributes
    ----------
    label : str
        Reads the strip to a screen reader.
    """

    name: str
    label: str
    marks: tuple[StripMark, ...]
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
    foot: tuple[StripText, ...] = ()
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
    """A row of a heat map; a cell is None where nothing is known.

    Attributes
    ----------
    tooltip : str
        What is shown on hover; empty: the name.
    """

    name: str
    cells: tuple[HeatMapCell | None, ...]
    tooltip: str = ""


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
        margin_width = item.margin * scale
        marks = (
            StripMark(StripShape.BAND, _ZERO_POSITION - margin_width, margin_width),
            StripMark(StripShape.LINE, _ZERO_POSITION),
            *_make_interval_marks(
                _ZERO_POSITION + item.low * scale,
                _ZERO_POSITION + item.difference * scale,
                _ZERO_POSITION + item.high * scale,
                item.color,
            ),
        )
        rows.append(StripRow(item.name, strip_label, marks, item.text, item.verdict, item.color))
    foot = (
        StripText(_ZERO_POSITION, "the same", TextAnchor.MIDDLE),
        StripText(100, "better →", TextAnchor.END),
    )
    return StripChartView(label, tuple(rows), foot=foot, has_verdicts=True)


def _make_interval_marks(low: float, value: float, high: float, color: str) -> list[StripMark]:
    """Make the marks of a value with its interval: a dot on a line."""
    whisker = StripMark(StripShape.WHISKER, low, high - low, color)
    return [whisker, StripMark(StripShape.DOT, value, color=color)]


def make_value_chart(
    values: Sequence[ValueInterval], overall: float, overall_text: str, label: str
) -> StripChartView:
    """Make dots and whiskers on a common scale, with the overall value as a dashed line."""
    least = min([overall, *(item.low for item in values)])
    most = max([overall, *(item.high for item in values)])
    scale = (100 - 2 * _SCALE_MARGIN) / ((most - least) or 1)

    def to_position(value: float) -> float:
        return _SCALE_MARGIN + (value - least) * scale

    overall_mark = StripMark(StripShape.DASHED_LINE, to_position(overall))
    rows = []
    for item in values:
        interval = f"interval from {item.low:.3g} to {item.high:.3g}"
        strip_label = f"{_strip_tags(item.name)}: {item.text}; {interval}"
        low, value, high = (to_position(v) for v in (item.low, item.value, item.high))
        marks = (overall_mark, *_make_interval_marks(low, value, high, item.color))
        rows.append(StripRow(item.name, strip_label, marks, item.text))
    foot = StripText(overall_mark.start, overall_text, _choose_anchor(overall_mark.start))
    return StripChartView(label, tuple(rows), "three", (foot,))


def _choose_anchor(position: float) -> TextAnchor:
    """Choose the side of a text so that it stays within the strip."""
    if position > 80:
        return TextAnchor.END
    if position < 20:
        return TextAnchor.START
    return TextAnchor.MIDDLE


def make_bar_strips(bars: Sequence[tuple[str, float, str]], label: str) -> StripChartView:
    """Make bars from zero, of (name, value, text); those that are not above zero are grey."""
    largest = max((abs(value) for _, value, _ in bars), default=1.0) or 1.0
    rows = []
    for name, value, text in bars:
        width = max(abs(value) / largest * 100, _MIN_BAR_WIDTH)
        color = Color.PRIMARY if value > 0 else Color.NEUTRAL
        bar = StripMark(StripShape.BAR, 0, width, color)
        rows.append(StripRow(name, f"{_strip_tags(name)}: {text}", (bar,), text))
    return StripChartView(label, tuple(rows), "bars")


def _strip_tags(name: str) -> str:
    """Return a name as a screen reader reads it."""
    return name.striptags() if isinstance(name, Html) else name
