"""The chart of a confusion matrix: shares and counts of the true classes by predicted class.

It keeps its size, so that the numbers of 26 classes stay readable; on a narrow page it scrolls in
its own frame. All numbers stand in a color of text, since the squares are pale in light and dark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.vega_charts import (
    CHART_STYLE,
    VEGA_LITE_SCHEMA,
    Declaration,
    declare_layer,
    format_color,
    render_declaration,
)

_MAX_DRAWN_CLASSES = 40
_CHART_WIDTH_PIXELS = 900  # of the squares
_MAX_SQUARE_PIXELS = 76
_MIN_SQUARE_WITH_TEXT = 33
_MAX_ROW_HEIGHT = 46
_MIN_DEPTH = 0.1  # of the color where there is a row
_TEXT_OFFSET = 6  # pixels of share and count from the middle of a square
_PIXELS_PER_CHARACTER = 7
_MAX_LABEL_PIXELS = 130
_START_TAG = re.compile(r"<svg[^>]*? width=\"([\d.]+)\" height=\"([\d.]+)\"")
_COUNT_UNITS = ((10**6, "M"), (10**4, "k"))


@dataclass(frozen=True)
class MatrixCell:
    """How many rows of a true class are predicted as a class, and which share of that class."""

    true_class: str
    predicted_class: str
    count: int
    share: float


@dataclass(frozen=True)
class MatrixChart:
    """A confusion matrix.

    Attributes
    ----------
    names : sequence of str
        The classes, in their order.
    cells : sequence of MatrixCell
        Cells of other classes are not drawn.
    label : str
        Reads the chart to a screen reader.
    """

    names: Sequence[str]
    cells: Sequence[MatrixCell]
    label: str


def choose_drawn_classes(cells: Sequence[MatrixCell]) -> list[str]:
    """Choose the classes to draw, in their order: of too many, those with the most errors."""
    errors: dict[str, int] = {}
    for cell in cells:
        is_error = cell.true_class != cell.predicted_class
        for name in (cell.true_class, cell.predicted_class):
            errors[name] = errors.get(name, 0) + is_error * cell.count
    ranked = sorted(errors, key=lambda name: errors[name], reverse=True)
    drawn = set(ranked[:_MAX_DRAWN_CLASSES])
    return [name for name in errors if name in drawn]


def draw_matrix_chart(chart: MatrixChart) -> Html:
    """Draw a confusion matrix: a square per pair of classes, with share and count."""
    square_width = min(_MAX_SQUARE_PIXELS, _CHART_WIDTH_PIXELS // max(1, len(chart.names)))
    has_texts = square_width >= _MIN_SQUARE_WITH_TEXT
    rows = _make_rows(chart)
    position = _declare_axes(chart.names, square_width)
    layers = [
        declare_layer(
            rows,
            "rect",
            {"aria": True, "strokeWidth": {"expr": "datum.border"}},
            **position,
            color={"value": format_color("blue2")},
            fillOpacity={"field": "depth", "type": "quantitative", "scale": None},
            stroke={"field": "stroke", "type": "nominal", "scale": None, "legend": None},
            description={"field": "text"},
        )
    ]
    if has_texts:
        layers += [_declare_numbers(rows, position, *place) for place in _NUMBERS]
    declaration = {
        "$schema": VEGA_LITE_SCHEMA,
        "width": square_width * len(chart.names),
        "height": min(_MAX_ROW_HEIGHT, square_width) * len(chart.names),
        "padding": 4,
        "background": None,
        "config": CHART_STYLE,
        "layer": layers,
    }
    svg = render_declaration(json.dumps(declaration))
    [(width, height)] = _START_TAG.findall(svg)
    _, _, elements = svg.partition(">")  # behind the start tag
    frame = Html(
        '<div class="wide matrix" tabindex=0 role=region aria-label="{}">'
        '<svg viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</div>'
    )
    return frame.format(
        "Confusion matrix, chart", width, height, width, height, chart.label, Html(elements)
    )


# Each number of a square: its field, its pixels below the middle, and its weight.
_NUMBERS = (("percent", -_TEXT_OFFSET, 600), ("count", _TEXT_OFFSET + 1, 400))


def _make_rows(chart: MatrixChart) -> list[Declaration]:
    """Make the data of the squares; without a row of the table there is only the diagonal."""
    drawn = frozenset(chart.names)
    rows = []
    for cell in chart.cells:
        if not {cell.true_class, cell.predicted_class} <= drawn:
            continue
        is_hit = cell.true_class == cell.predicted_class
        if not cell.count and not is_hit:
            continue
        rows.append(
            {
                "true": cell.true_class,
                "predicted": cell.predicted_class,
                "depth": _MIN_DEPTH + (1 - _MIN_DEPTH) * cell.share if cell.count else 0,
                "stroke": format_color("soft" if is_hit else "line"),
                "border": 1.5 if is_hit else 0.5,
                "percent": _format_share(cell.share) if cell.count else "",
                "count": _format_count(cell.count) if cell.count else "",
                "text": (
                    f"{cell.true_class} predicted as {cell.predicted_class}: {cell.count:,} rows, "
                    f"{cell.share:.1%} of {cell.true_class}"
                ),
            }
        )
    # A border that is drawn later is not covered by its neighbors.
    rows.sort(key=lambda row: row["true"] == row["predicted"])
    return rows


def _format_share(share: float) -> str:
    """Format a share in few characters.

    >>> _format_share(0.004), _format_share(0.654), _format_share(0.999)
    ('<1%', '65%', '99%')
    """
    if 0 < share < 0.01:
        return "<1%"
    if 0.99 < share < 1:
        return "99%"
    return f"{share:.0%}"


def _format_count(count: int) -> str:
    """Format a count in at most five characters.

    >>> _format_count(7), _format_count(9876), _format_count(12345), _format_count(3_400_000)
    ('7', '9,876', '12k', '3M')
    """
    for size, unit in _COUNT_UNITS:
        if count >= size:
            divisor = 1000 if unit == "k" else size
            return f"{count / divisor:,.0f}{unit}"
    return f"{count:,}"


def _declare_axes(names: Sequence[str], square_width: int) -> dict[str, Declaration]:
    """Declare the true class as rows, and the predicted class as columns with names above."""
    scale = {"domain": list(names), "padding": 0}
    longest = max(map(len, names), default=0)
    is_upright = min(longest * _PIXELS_PER_CHARACTER, _MAX_LABEL_PIXELS) > square_width
    title = {"titleColor": format_color("soft"), "titleFontWeight": 600, "titlePadding": 18}
    axis = {"labelLimit": _MAX_LABEL_PIXELS, "labelOverlap": False, **title}
    columns = {**axis, "orient": "top", "title": "Predicted class"}
    columns |= {"labelAngle": -90 if is_upright else 0}
    # The name of a column stands beside it, not in the middle of its tick.
    columns |= {"labelAlign": "left", "labelBaseline": "middle"} if is_upright else {}
    rows = {**axis, "title": "True class"}
    return {
        "x": {"field": "predicted", "type": "nominal", "scale": scale, "axis": columns},
        "y": {"field": "true", "type": "nominal", "scale": scale, "axis": rows},
    }


def _declare_numbers(
    rows: Sequence[Declaration],
    position: dict[str, Declaration],
    field: str,
    offset: int,
    weight: int,
) -> Declaration:
    """Declare one of the numbers in the squares."""
    style = {"dy": offset, "fontWeight": weight, "color": format_color("ink"), "fontSize": 11}
    return declare_layer(
        [row for row in rows if row[field]],
        "text",
        {**style, "baseline": "middle"},
        **position,
        text={"field": field, "type": "nominal"},
    )
