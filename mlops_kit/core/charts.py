"""Figures drawn from tables: one function a shape, static SVG, nothing computed and nothing fetched.

A table brings the title, the sentence and the units; a function here only lays its columns on paper.

To add a shape: 1. a function that takes a ``results.Table`` and names its columns by keyword, 2. ``cast``
to give those columns their roles, 3. ``drawn`` to make the figure; ``tests/test_plots.py`` then holds
it to the same contract as the others.
"""

from __future__ import annotations

import re
import textwrap
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.lazy import alt, np, pd
from mlops_kit.core.results import Figure, Table

_PLOT_WIDTH_PIXELS = 480  # pixels of the plotting area; the SVG shrinks with its page
_FONT_FAMILY = "Inter, system-ui, sans-serif"
MAX_LINE_POINTS = 5000
MAX_CHART_ROWS = 40
# A page may lay its palette over these names; elsewhere the plain colour holds. They are not the page's own
# --ink and --blue: those turn light on a dark page, while a figure keeps its white paper.
_BLUE, _GREY, _RED = (
    "var(--chart-blue, #2f6bd8)",
    "var(--chart-grey, #66707c)",
    "var(--chart-red, #b3261e)",
)
_TEXT_COLOR, _GRID_COLOR, _BACKGROUND_COLOR = (
    "var(--chart-ink, #1a2028)",
    "var(--chart-rule, #e4e8ec)",
    "var(--chart-paper, #ffffff)",
)
_SERIES_COLORS = [
    _BLUE,
    "var(--chart-orange, #c2701c)",
    "var(--chart-green, #0c7f63)",
    "var(--chart-purple, #7d55c7)",
    _RED,
    "var(--chart-teal, #1b8a9b)",
    _GREY,
    "var(--chart-brown, #8c6239)",
]
_DATE_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}([T ]|$)")


def _select_columns(table: Table, **roles: str | None) -> pd.DataFrame:
    """The table's columns under the names of their roles, ready to be drawn.

    Names such as ``a.b`` or ``n:Q`` mean something else to Vega, so no name of the user's reaches it.
    Numbers that are not finite are left out of the drawing.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    columns: dict[str, Any] = {}
    for role, name in ((r, n) for r, n in roles.items() if n is not None):
        if name not in table.data.columns:
            raise KitError(
                f"the table {table.title!r} has no column {name!r} to draw",
                suggest_names(name, table.data.columns),
                f"name one of its columns as {role}",
            )
        column = table.data[name]
        if role in _NUMERIC_ROLES:
            column = (
                pd.to_numeric(column, errors="coerce")
                .astype("float64")
                .replace([np.inf, -np.inf], np.nan)
            )
        columns[role] = column.to_numpy()
    return pd.DataFrame(columns)


_NUMERIC_ROLES = {"y", "low", "high", "value", "share"}  # roles that are always lengths on paper


def detect_x_axis_type(values: pd.Series) -> tuple[pd.Series, str]:
    """What is laid along x, with Vega's type for it: moments, numbers, or names in the order given.

    Moments go through as UTC wall time: drawn in the machine's zone, a figure would differ by machine.
    """
    known = values.dropna()
    if pd.api.types.is_datetime64_any_dtype(values) or (
        len(known) and known.map(lambda v: bool(_DATE_PATTERN.match(str(v)))).all()
    ):
        return pd.to_datetime(values, utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ"), "temporal"
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return values.astype("float64").replace([np.inf, -np.inf], np.nan), "quantitative"
    return values.map(_format_label), "ordinal"


def _format_label(value: Any) -> str:
    """A value as a label; a missing one is said in words."""
    return (
        "missing"
        if value is None or value != value or str(value) in {"<NA>", "NaT"}
        else str(value)
    )


def _format_axis_title(table: Table, column: str, title: str | None = None) -> str:
    """An axis title with the unit of its column: ``delay (minutes)``."""
    said, unit = title or column, table.units.get(column, "")
    return f"{said} ({unit})" if unit and unit not in said else said


def thin_points(frame: pd.DataFrame, limit: int = MAX_LINE_POINTS) -> tuple[pd.DataFrame, str]:
    """At most ``limit`` rows, evenly spaced, first and last kept; and a note that says so."""
    if len(frame) <= limit:
        return frame, ""
    return frame.iloc[
        np.linspace(0, len(frame) - 1, limit).round().astype(int)
    ], f"{limit:,} of {len(frame):,} points are drawn, evenly spaced"


def _to_chart_data(frame: pd.DataFrame) -> alt.Data:
    """The rows as plain values, missing ones as null: Vega-Altair has then no types to guess."""
    return alt.Data(values=frame.astype(object).where(frame.notna(), None).to_dict("records"))


def _render_figure(table: Table, chart: alt.TopLevelMixin, note: str = "") -> Figure:
    """The chart as a figure: the table's title, sentence and numbers, and SVG that loads nothing."""
    import vl_convert

    title = alt.TitleParams(
        textwrap.wrap(table.title, 64) or [""],
        subtitle=[note] if note else alt.Undefined,
        anchor="start",
        offset=12,
    )
    finished = chart.properties(title=title, name="figure").configure(
        background=_BACKGROUND_COLOR, aria=False
    )
    finished = finished.configure_view(stroke=None).configure_title(
        color=_TEXT_COLOR, subtitleColor=_TEXT_COLOR, fontSize=15
    )
    finished = finished.configure_axis(
        labelColor=_TEXT_COLOR,
        titleColor=_TEXT_COLOR,
        gridColor=_GRID_COLOR,
        domainColor=_GREY,
        tickColor=_GREY,
        labelLimit=220,
        titleFontWeight="normal",
        labelFontSize=12,
        titleFontSize=12,
        titlePadding=10,
    )
    finished = finished.configure_legend(
        labelColor=_TEXT_COLOR,
        titleColor=_TEXT_COLOR,
        orient="bottom",
        symbolType="stroke",
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
    )
    with (
        alt.data_transformers.enable("default", max_rows=None),
        alt.data_transformers.disable_max_rows(),
    ):
        spec = finished.to_dict()
    # Text is measured in vl-convert's own sans-serif, so that the drawing is the same on every machine.
    # Parts that call themselves graphics without saying what they show only trouble a screen reader; the figure has a label.
    styled = re.sub(
        r' (role="graphics-[a-z]+"|aria-roledescription="[^"]*")',
        "",
        vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]),
    )
    styled = styled.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1).replace(
        'font-family="sans-serif"', f'font-family="{_FONT_FAMILY}"'
    )
    return Figure(table.title, table.sentence, styled, table.data)


def plot_line(
    table: Table,
    x: str,
    y: str,
    low: str | None = None,
    high: str | None = None,
    colour: str | None = None,
    y_title: str | None = None,
    x_title: str | None = None,
) -> Figure:
    """A line over moments, numbers or steps, with a band from ``low`` to ``high`` if both are given."""
    frame = _select_columns(table, x=x, y=y, low=low, high=high, colour=colour)
    frame["x"], kind = detect_x_axis_type(frame["x"])
    frame, note = thin_points(frame)
    dates = kind == "temporal" and len(frame) > 0 and frame["x"].min()[:10] != frame["x"].max()[:10]
    axis = alt.Axis(
        grid=False,
        tickCount=6,
        labelOverlap=True,
        labelAngle=0,
        format=("%Y-%m-%d" if dates else "%H:%M") if kind == "temporal" else alt.Undefined,
    )
    scale = (
        alt.Scale(type="utc")
        if kind == "temporal"
        else alt.Scale(zero=False)
        if kind == "quantitative"
        else alt.Undefined
    )
    along = alt.X(
        "x",
        type=kind,
        title=_format_axis_title(table, x, x_title),
        scale=scale,
        sort=None,
        axis=axis,
    )
    up = alt.Y(
        "y",
        type="quantitative",
        title=_format_axis_title(table, y, y_title),
        scale=alt.Scale(zero=False),
        axis=alt.Axis(tickCount=6),
    )
    marks: dict[str, Any] = {}
    if colour is not None:
        frame = frame.assign(colour=frame["colour"].map(_format_label))
        # A dash beside the colour: lines are told apart without colour too.
        marks = {
            "color": alt.Color(
                "colour",
                type="nominal",
                title=_format_axis_title(table, colour),
                sort=None,
                scale=alt.Scale(range=_SERIES_COLORS),
            ),
            "strokeDash": alt.StrokeDash("colour", type="nominal", sort=None, legend=None),
        }
    base = alt.Chart(_to_chart_data(frame)).encode(x=along)
    plain = {} if colour is not None else {"color": _BLUE}
    layers = [
        base.mark_line(point={"size": 22, **plain} if len(frame) <= 60 else False, **plain).encode(
            y=up, **marks
        )
    ]
    if low and high:
        fill = {"color": marks["color"]} if marks else {}
        layers.insert(
            0,
            base.mark_area(opacity=0.18, **plain).encode(
                y=alt.Y("low", type="quantitative"), y2="high", **fill
            ),
        )
    return _render_figure(
        table, alt.layer(*layers).properties(width=_PLOT_WIDTH_PIXELS, height=240), note
    )


def plot_bars(
    table: Table, x: str, y: str, y_title: str | None = None, x_title: str | None = None
) -> Figure:
    """Horizontal bars, in the table's order: a name in ``x``, its length in ``y``."""
    frame, note = _select_chart_rows(_select_columns(table, label=x, value=y))
    across = alt.X(
        "value",
        type="quantitative",
        title=_format_axis_title(table, y, y_title),
        axis=alt.Axis(tickCount=6),
    )
    chart = (
        alt.Chart(_to_chart_data(frame))
        .mark_bar(color=_BLUE, height={"band": 0.7})
        .encode(y=_build_label_axis(table, x, x_title), x=across)
    )
    return _render_figure(
        table,
        chart.properties(width=_PLOT_WIDTH_PIXELS, height=_compute_height_pixels(frame)),
        note,
    )


def plot_intervals(
    table: Table, label: str, value: str, low: str, high: str, reference: float | None = None
) -> Figure:
    """A point with its interval for each row, in the table's order; ``reference`` is a dashed line."""
    frame, note = _select_chart_rows(
        _select_columns(table, label=label, value=value, low=low, high=high)
    )
    base = alt.Chart(_to_chart_data(frame)).encode(y=_build_label_axis(table, label))
    across = {
        "type": "quantitative",
        "title": _format_axis_title(table, value),
        "scale": alt.Scale(zero=False),
        "axis": alt.Axis(tickCount=6),
    }
    layers: list[Any] = [
        base.mark_rule(color=_BLUE, strokeWidth=2).encode(x=alt.X("low", **across), x2="high"),
        base.mark_point(color=_BLUE, filled=True, size=70, opacity=1).encode(
            x=alt.X("value", **across)
        ),
    ]
    if reference is not None:
        layers.insert(
            0,
            alt.Chart(alt.Data(values=[{"at": float(reference)}]))
            .mark_rule(color=_GREY, strokeDash=[5, 4])
            .encode(x=alt.X("at", **across)),
        )
    return _render_figure(
        table,
        alt.layer(*layers).properties(
            width=_PLOT_WIDTH_PIXELS, height=_compute_height_pixels(frame)
        ),
        note,
    )


def plot_calibration_curve(table: Table, x: str, y: str, low: str, high: str, share: str) -> Figure:
    """Observed over predicted, with intervals and the diagonal; a dot's area is its ``share`` of rows."""
    frame, note = thin_points(_select_columns(table, value=x, y=y, low=low, high=high, share=share))
    held = frame[["value", "y", "low", "high"]].to_numpy(dtype="float64").ravel()
    held = held[np.isfinite(held)]
    ends = [float(held.min()), float(held.max())] if len(held) else [0.0, 1.0]
    ends = ends if ends[0] < ends[1] else [ends[0] - 0.5, ends[0] + 0.5]
    scale = alt.Scale(domain=ends, nice=False, padding=14)
    along = alt.X(
        "value",
        type="quantitative",
        title=_format_axis_title(table, x),
        scale=scale,
        axis=alt.Axis(tickCount=6),
    )
    up = {
        "type": "quantitative",
        "title": _format_axis_title(table, y),
        "scale": scale,
        "axis": alt.Axis(tickCount=6),
    }
    base = alt.Chart(_to_chart_data(frame)).encode(x=along)
    size = alt.Size(
        "share",
        type="quantitative",
        title=_format_axis_title(table, share),
        scale=alt.Scale(rangeMin=20, rangeMax=300, zero=True),
        legend=alt.Legend(symbolType="circle", tickCount=4),
    )
    diagonal = alt.Chart(alt.Data(values=[{"value": e, "y": e} for e in ends])).mark_line(
        color=_GREY, strokeDash=[5, 4]
    )
    layers = [
        diagonal.encode(x=along, y=alt.Y("y", **up)),
        base.mark_rule(color=_BLUE, strokeWidth=2).encode(y=alt.Y("low", **up), y2="high"),
        base.mark_point(color=_BLUE, filled=True, opacity=1).encode(y=alt.Y("y", **up), size=size),
    ]
    return _render_figure(
        table, alt.layer(*layers).properties(width=_PLOT_WIDTH_PIXELS, height=340), note
    )


def _select_chart_rows(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The first rows of a figure with a line a row, numbered, labels as text (two rows of one name keep a line each); and a note that says so."""
    return frame.assign(label=frame["label"].map(_format_label), row=range(len(frame))).head(
        MAX_CHART_ROWS
    ), f"the first {MAX_CHART_ROWS} of {len(frame):,} are drawn" if len(
        frame
    ) > MAX_CHART_ROWS else ""


def _build_label_axis(table: Table, column: str, title: str | None = None) -> alt.Y:
    """The axis of names: a line a row, in the table's order, labelled by name."""
    import json

    labels = [_format_label(v) for v in table.data[column].head(MAX_CHART_ROWS)]
    # The row number is the position and the name its label: Vega would lay equal names over each other.
    return alt.Y(
        "row",
        type="ordinal",
        title=_format_axis_title(table, column, title),
        scale=alt.Scale(domain=list(range(len(labels)))),
        axis=alt.Axis(
            labelExpr=f"{json.dumps(labels)}[datum.value]",
            grid=False,
            titleAngle=0,
            titleAlign="right",
            titleX=-8,
            titleY=-8,
        ),
    )


def _compute_height_pixels(frame: pd.DataFrame) -> int:
    """Pixels of a figure with a line a row."""
    return max(90, 22 * len(frame))
