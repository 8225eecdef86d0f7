"""Charts drawn from tables: one function per chart type, static SVG, nothing is computed.

A table brings the title, the sentence and the units; a function here only draws its columns.

To add a chart type: 1. write a function that takes a ``results.Table`` and the names of its
columns, 2. use ``select_columns`` to give these columns their roles, 3. use ``render_figure`` to
make the figure, 4. add it to ``CHART_TYPES`` in ``tests/test_plots.py``, which then tests it like
the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops_kit.core.chart_elements import (
    AXIS_TICKS,
    BLUE,
    GREY,
    MAX_CHART_ROWS,
    PLOT_WIDTH_PIXELS,
    build_label_axis,
    build_value_axis,
    build_x_axis,
    compute_height_pixels,
    detect_x_axis_type,
    encode_series,
    find_range,
    format_axis_title,
    format_label,
    render_figure,
    select_chart_rows,
    select_columns,
    thin_points,
    to_chart_data,
)
from mlops_kit.core.lazy import alt
from mlops_kit.core.results import Figure, Table

__all__ = [
    "plot_bars",
    "plot_calibration_curve",
    "plot_intervals",
    "plot_line",
    "plot_matrix",
]

_LINE_HEIGHT_PIXELS = 240
_CALIBRATION_HEIGHT_PIXELS = 340
_MAX_LINE_POINTS_WITH_MARKS = 60
_LEGEND_SHARES = [0, 0.25, 0.5, 0.75, 1]
_MATRIX_WIDTH_PIXELS = 900
_MAX_CELL_PIXELS = 56  # side of a square of a matrix
_MAX_MATRIX_LABEL_PIXELS = 120
_MIN_CELL_WITH_TEXT_PIXELS = 33  # smaller squares have no number
_MATRIX_TEXT_OFFSET = 6  # pixels of share and count from the middle of a square


def plot_line(
    table: Table,
    x: str,
    y: str,
    band: tuple[str, str] | None = None,
    color: str | None = None,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """Plot a line over timestamps, numbers or steps.

    Parameters
    ----------
    table : Table
        The table to draw.
    x, y : str
        Its columns.
    band : tuple of str, optional
        Columns with the lower and upper ends of an interval, drawn as a band.
    color : str, optional
        Column that divides the rows into lines of different colors.
    titles : mapping of str to str, optional
        Axis titles by column; by default the names of the columns.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    low, high = band or (None, None)
    frame = select_columns(
        table,
        x=x,
        y=y,
        low=low,
        high=high,
        color=color,
    )
    frame["x"], axis_type = detect_x_axis_type(frame["x"])
    frame, note = thin_points(frame)
    x_title = format_axis_title(table, x, titles)
    y_title = format_axis_title(table, y, titles)
    line_encoding = {"y": build_value_axis("y", y_title, is_vertical=True)}
    band_encoding: dict[str, Any] = {}
    plain_color: dict[str, Any] = {"color": BLUE}
    if color is not None:
        frame = frame.assign(color=frame["color"].map(format_label))
        line_encoding |= encode_series(format_axis_title(table, color, titles))
        band_encoding["color"] = line_encoding["color"]
        plain_color = {}
    base = alt.Chart(to_chart_data(frame)).encode(x=build_x_axis(frame, axis_type, x_title))
    has_marks = len(frame) <= _MAX_LINE_POINTS_WITH_MARKS
    marks = {"size": 22, **plain_color} if has_marks else False
    layers = [
        base.mark_line(
            point=marks,
            **plain_color,
        ).encode(**line_encoding)
    ]
    if band:
        band_encoding["y"] = alt.Y("low", type="quantitative")
        area = base.mark_area(
            opacity=0.18,
            **plain_color,
        ).encode(
            y2="high",
            **band_encoding,
        )
        layers.insert(0, area)
    chart = alt.layer(*layers).properties(
        width=PLOT_WIDTH_PIXELS,
        height=_LINE_HEIGHT_PIXELS,
    )
    return render_figure(table, chart, note)


def plot_bars(
    table: Table,
    x: str,
    y: str,
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """Plot horizontal bars in the order of the table.

    Parameters
    ----------
    table : Table
        The table to draw.
    x, y : str
        Its columns with the name and the length of each bar.
    titles : mapping of str to str, optional
        Axis titles by column; by default the names of the columns.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    frame, note = select_chart_rows(
        select_columns(
            table,
            label=x,
            value=y,
        )
    )
    length = alt.X(
        "value",
        type="quantitative",
        title=format_axis_title(table, y, titles),
        axis=alt.Axis(tickCount=AXIS_TICKS),
    )
    bars = alt.Chart(to_chart_data(frame)).mark_bar(
        color=BLUE,
        height={"band": 0.7},
    )
    chart = bars.encode(
        y=build_label_axis(table, x, titles),
        x=length,
    )
    size = {"width": PLOT_WIDTH_PIXELS, "height": compute_height_pixels(frame)}
    return render_figure(table, chart.properties(**size), note)


def plot_intervals(
    table: Table,
    label: str,
    value: str,
    low: str,
    high: str,
    reference: float | None = None,
) -> Figure:
    """Plot a point with its interval for each row, in the order of the table.

    Parameters
    ----------
    table : Table
        The table to draw.
    label, value, low, high : str
        Its columns with the name, the value and the ends of the interval.
    reference : float, optional
        Where to draw a dashed line.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    columns = select_columns(
        table,
        label=label,
        value=value,
        low=low,
        high=high,
    )
    frame, note = select_chart_rows(columns)
    base = alt.Chart(to_chart_data(frame)).encode(y=build_label_axis(table, label))
    title = format_axis_title(table, value)
    low_axis = build_value_axis("low", title)
    layers: list[Any] = [
        base.mark_rule(
            color=BLUE,
            strokeWidth=2,
        ).encode(
            x=low_axis,
            x2="high",
        ),
        base.mark_point(
            color=BLUE,
            filled=True,
            size=70,
            opacity=1,
        ).encode(x=build_value_axis("value", title)),
    ]
    if reference is not None:
        position = alt.Chart(alt.Data(values=[{"at": float(reference)}]))
        line = position.mark_rule(
            color=GREY,
            strokeDash=[5, 4],
        )
        layers.insert(0, line.encode(x=build_value_axis("at", title)))
    size = {"width": PLOT_WIDTH_PIXELS, "height": compute_height_pixels(frame)}
    return render_figure(table, alt.layer(*layers).properties(**size), note)


def plot_matrix(
    table: Table,
    x: str,
    y: str,
    value: str,
    count: str | None = None,
) -> Figure:
    """Plot a matrix of shares, such as a confusion matrix: a square for each row of the table.

    Parameters
    ----------
    table : Table
        The table to draw.
    x, y : str
        Its columns with the name of the matrix's column and row.
    value : str
        Its column with the share, from 0 to 1.
    count : str, optional
        Its column with the number of rows, written below the share; squares without a row are
        empty.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    frame = select_columns(table, x=x, label=y, value=value, count=count)
    for role in ("x", "label"):
        frame[role] = frame[role].map(format_label)
    all_names = list(dict.fromkeys([*frame["label"], *frame["x"]]))
    names = all_names[:MAX_CHART_ROWS]
    note = ""
    if len(all_names) > len(names):
        note = f"the first {len(names)} of {len(all_names):,} are drawn"
    frame = frame[frame["label"].isin(names) & frame["x"].isin(names)]
    if count is not None:
        frame = frame[frame["count"] > 0]
    size = min(_MAX_CELL_PIXELS, _MATRIX_WIDTH_PIXELS // max(1, len(names)))
    axis = alt.Axis(grid=False, labelLimit=_MAX_MATRIX_LABEL_PIXELS)
    base = alt.Chart(to_chart_data(frame)).encode(
        x=alt.X("x", type="nominal", sort=names, title=format_axis_title(table, x), axis=axis),
        y=alt.Y("label", type="nominal", sort=names, title=format_axis_title(table, y), axis=axis),
    )
    color = alt.Color(
        "value",
        type="quantitative",
        title=format_axis_title(table, value),
        scale=alt.Scale(domain=[0, 1], range=["#eef3fb", "#1d4c9e"]),
        # A gradient would get another id in each figure.
        legend=alt.Legend(format="%", type="symbol", symbolType="square", values=_LEGEND_SHARES),
    )
    layers = [base.mark_rect(stroke="white").encode(color=color)]
    if size >= _MIN_CELL_WITH_TEXT_PIXELS:
        layers += _write_numbers(base, has_counts=count is not None)
    chart = alt.layer(*layers).properties(width=size * len(names), height=size * len(names))
    return render_figure(table, chart, note)


def _write_numbers(base: alt.Chart, has_counts: bool) -> list[alt.Chart]:
    """Write the share of each square, and the number of rows below it."""
    # Text on a dark square is light.
    ink = alt.condition("datum.value > 0.5", alt.value("white"), alt.value("#1a2028"))
    offset = _MATRIX_TEXT_OFFSET if has_counts else 0
    share = alt.Text("value", type="quantitative", format=".0%")
    layers = [base.mark_text(fontSize=11, dy=-offset).encode(text=share, color=ink)]
    if has_counts:
        number = alt.Text("count", type="quantitative", format=",")
        layers.append(base.mark_text(fontSize=10, dy=offset).encode(text=number, color=ink))
    return layers


def plot_calibration_curve(
    table: Table,
    x: str,
    y: str,
    low: str,
    high: str,
    share: str,
) -> Figure:
    """Plot observed against predicted values, with intervals and the diagonal.

    Parameters
    ----------
    table : Table
        The table to draw.
    x, y : str
        Its columns with the predicted and the observed value.
    low, high : str
        Its columns with the ends of the observed value's interval.
    share : str
        Its column with the share of rows, which is the area of a point.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    columns = select_columns(
        table,
        value=x,
        y=y,
        low=low,
        high=high,
        share=share,
    )
    frame, note = thin_points(columns)
    ends = find_range(frame[["value", "y", "low", "high"]])
    # Both axes have the same scale, so that the diagonal is one.
    axis = {
        "type": "quantitative",
        "scale": alt.Scale(domain=ends, nice=False, padding=14),
        "axis": alt.Axis(tickCount=AXIS_TICKS),
    }
    x_axis = alt.X("value", title=format_axis_title(table, x), **axis)
    y_axis = {"title": format_axis_title(table, y), **axis}
    base = alt.Chart(to_chart_data(frame)).encode(x=x_axis)
    corners = alt.Chart(alt.Data(values=[{"value": end, "y": end} for end in ends]))
    diagonal = corners.mark_line(color=GREY, strokeDash=[5, 4])
    intervals = base.mark_rule(color=BLUE, strokeWidth=2)
    points = base.mark_point(color=BLUE, filled=True, opacity=1)
    area = _encode_point_area(format_axis_title(table, share))
    layers = [
        diagonal.encode(x=x_axis, y=alt.Y("y", **y_axis)),
        intervals.encode(y=alt.Y("low", **y_axis), y2="high"),
        points.encode(y=alt.Y("y", **y_axis), size=area),
    ]
    chart = alt.layer(*layers).properties(
        width=PLOT_WIDTH_PIXELS,
        height=_CALIBRATION_HEIGHT_PIXELS,
    )
    return render_figure(table, chart, note)


def _encode_point_area(title: str) -> alt.Size:
    """Encode the share of rows by the area of a point."""
    return alt.Size(
        "share",
        type="quantitative",
        title=title,
        scale=alt.Scale(
            rangeMin=20,
            rangeMax=300,
            zero=True,
        ),
        legend=alt.Legend(symbolType="circle", tickCount=4),
    )
