"""Elements of charts: columns by role, axes, colors, and the figure in the end."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlops_kit.core.column_labels import NAME_COLUMNS, get_column_label
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.lazy import alt, np, pd
from mlops_kit.core.results import Figure, Table
from mlops_kit.core.vega_lite import render_svg

MAX_LINE_POINTS = 5000
MAX_CHART_ROWS = 40
PLOT_WIDTH_PIXELS = 480  # of the plotting area; the SVG shrinks with its page
_ROW_HEIGHT_PIXELS = 22
_MIN_HEIGHT_PIXELS = 90
_MAX_TITLE_CHARACTERS = 64  # per line
AXIS_TICKS = 6
_FONT_FAMILY = "Inter, system-ui, sans-serif"
# A page may set these variables to its own palette; elsewhere the plain color is used. They are
# not the variables of the page itself (--ink, --blue): those are light on a dark page, while a
# chart keeps its white background.
BLUE = "var(--chart-blue, #2f6bd8)"
GREY = "var(--chart-grey, #66707c)"
_RED = "var(--chart-red, #b3261e)"
_TEXT_COLOR = "var(--chart-ink, #1a2028)"
_GRID_COLOR = "var(--chart-rule, #e4e8ec)"
_BACKGROUND_COLOR = "var(--chart-paper, #ffffff)"
_SERIES_COLORS = [
    BLUE,
    "var(--chart-orange, #c2701c)",
    "var(--chart-green, #0c7f63)",
    "var(--chart-purple, #7d55c7)",
    _RED,
    "var(--chart-teal, #1b8a9b)",
    GREY,
    "var(--chart-brown, #8c6239)",
]
_DATE_PATTERN = re.compile(r"\d{4}-\d{2}-\d{2}([T ]|$)")
_NUMERIC_ROLES = {"y", "low", "high", "value", "share", "count"}
_MISSING_TEXTS = {"<NA>", "NaT"}


class XAxisValues(NamedTuple):
    """Values for the x axis with Vega's name for their type."""

    values: pd.Series
    axis_type: str


def select_columns(table: Table, **columns_by_role: str | None) -> pd.DataFrame:
    """Return the table's columns under the names of their roles.

    Names such as ``a.b`` or ``n:Q`` have a meaning in Vega, so it gets none of the table's own
    names. Numbers that are not finite are not drawn.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    selected: dict[str, Any] = {}
    for role, name in columns_by_role.items():
        if name is None:
            continue
        if name not in table.data.columns:
            raise KitError(
                f"the table {table.title!r} has no column {name!r} to draw",
                suggest_names(name, table.data.columns),
                f"name one of its columns as {role}",
            )
        column = table.data[name]
        if role in _NUMERIC_ROLES:
            column = _to_finite_numbers(pd.to_numeric(column, errors="coerce"))
        selected[role] = column.to_numpy()
    return pd.DataFrame(selected)


def _to_finite_numbers(values: pd.Series) -> pd.Series:
    return values.astype("float64").replace([np.inf, -np.inf], np.nan)


def detect_x_axis_type(values: pd.Series) -> XAxisValues:
    """Detect whether values for the x axis are timestamps, numbers or names, and convert them.

    Timestamps become UTC wall time: in the machine's time zone a chart would differ by machine.
    """
    if _are_timestamps(values):
        utc_times = pd.to_datetime(values, utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        return XAxisValues(utc_times, "temporal")
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return XAxisValues(_to_finite_numbers(values), "quantitative")
    return XAxisValues(values.map(format_label), "ordinal")


def _are_timestamps(values: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(values):
        return True
    present = values.dropna()
    if len(present) == 0:
        return False
    return all(_DATE_PATTERN.match(str(value)) for value in present)


def format_label(value: Any) -> str:
    """Format a value as a label; a missing one is called missing."""
    is_missing = value is None or value != value or str(value) in _MISSING_TEXTS
    if is_missing:
        return "missing"
    return str(value)


def format_axis_title(
    table: Table,
    column: str,
    titles: Mapping[str, str] | None = None,
) -> str:
    """Return the title of an axis with the unit of its column: ``delay (minutes)``."""
    title = (titles or {}).get(column, column)
    unit = table.units.get(column, "")
    if not unit or unit in title:
        return title
    return f"{title} ({unit})"


def thin_points(frame: pd.DataFrame, limit: int = MAX_LINE_POINTS) -> tuple[pd.DataFrame, str]:
    """Keep at most ``limit`` rows, evenly spaced, with the first and the last one.

    Returns
    -------
    frame : DataFrame
        The rows to draw.
    note : str
        How many were left out; empty if none.
    """
    if len(frame) <= limit:
        return frame, ""
    positions = np.linspace(0, len(frame) - 1, limit).round().astype(int)
    return frame.iloc[positions], f"{limit:,} of {len(frame):,} points are drawn, evenly spaced"


def select_chart_rows(frame: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Keep the first rows of a chart with one line per row, numbered and with text labels.

    The number is the position: two rows with the same label keep a line each. The second result
    is a note on rows that were left out.
    """
    labels = frame["label"].map(format_label)
    rows = frame.assign(
        label=labels,
        row=range(len(frame)),
    ).head(MAX_CHART_ROWS)
    if len(frame) <= MAX_CHART_ROWS:
        return rows, ""
    return rows, f"the first {MAX_CHART_ROWS} of {len(frame):,} are drawn"


def find_range(frame: pd.DataFrame) -> list[float]:
    """Return the smallest and the largest finite number; never an empty range."""
    numbers = frame.to_numpy(dtype="float64").ravel()
    finite_numbers = numbers[np.isfinite(numbers)]
    if len(finite_numbers) == 0:
        return [0.0, 1.0]
    lowest = float(finite_numbers.min())
    highest = float(finite_numbers.max())
    if lowest == highest:
        return [lowest - 0.5, highest + 0.5]
    return [lowest, highest]


def to_chart_data(frame: pd.DataFrame) -> alt.Data:
    """Convert rows to plain values, missing ones to null, so that Altair need not infer types."""
    values = frame.astype(object).where(frame.notna(), None)
    return alt.Data(values=values.to_dict("records"))


def build_x_axis(
    frame: pd.DataFrame,
    axis_type: str,
    title: str,
) -> alt.X:
    """Build the x axis of a line: timestamps in UTC, numbers, or names in the order given."""
    scale: Any = alt.Undefined
    tick_format: Any = alt.Undefined
    if axis_type == "temporal":
        scale = alt.Scale(type="utc")
        tick_format = "%Y-%m-%d" if _has_several_days(frame["x"]) else "%H:%M"
    elif axis_type == "quantitative":
        scale = alt.Scale(zero=False)
    axis = alt.Axis(
        grid=False,
        tickCount=AXIS_TICKS,
        labelOverlap=True,
        labelAngle=0,
        format=tick_format,
    )
    return alt.X(
        "x",
        type=axis_type,
        title=title,
        scale=scale,
        sort=None,
        axis=axis,
    )


def _has_several_days(utc_times: pd.Series) -> bool:
    if len(utc_times) == 0:
        return False
    first_day = utc_times.min()[:10]
    last_day = utc_times.max()[:10]
    return bool(first_day != last_day)


def build_value_axis(
    field: str,
    title: str,
    is_vertical: bool = False,
) -> Any:
    """Build an axis of numbers that need not include zero."""
    channel = alt.Y if is_vertical else alt.X
    return channel(
        field,
        type="quantitative",
        title=title,
        scale=alt.Scale(zero=False),
        axis=alt.Axis(tickCount=AXIS_TICKS),
    )


def encode_series(title: str) -> dict[str, Any]:
    """Encode several lines by color, and by dashes for readers who see no color."""
    color = alt.Color(
        "color",
        type="nominal",
        title=title,
        sort=None,
        scale=alt.Scale(range=_SERIES_COLORS),
    )
    dashes = alt.StrokeDash(
        "color",
        type="nominal",
        sort=None,
        legend=None,
    )
    return {"color": color, "strokeDash": dashes}


def build_label_axis(
    table: Table,
    column: str,
    titles: Mapping[str, str] | None = None,
) -> alt.Y:
    """Build an axis of names: one line per row, in the order of the table."""
    names = table.data[column].head(MAX_CHART_ROWS)
    if column in NAME_COLUMNS:
        names = names.map(lambda name: get_column_label(str(name)).text)
    labels = [format_label(value) for value in names]
    # The number of the row is the position and the name its label: Vega would draw rows with the
    # same name over each other.
    axis = alt.Axis(
        labelExpr=f"{json.dumps(labels)}[datum.value]",
        grid=False,
        titleAngle=0,
        titleAlign="right",
        titleX=-8,
        titleY=-8,
    )
    return alt.Y(
        "row",
        type="ordinal",
        title=format_axis_title(table, column, titles),
        scale=alt.Scale(domain=list(range(len(labels)))),
        axis=axis,
    )


def compute_height_pixels(frame: pd.DataFrame) -> int:
    """Compute the height of a chart with one line per row."""
    return max(_MIN_HEIGHT_PIXELS, _ROW_HEIGHT_PIXELS * len(frame))


def render_figure(
    table: Table,
    chart: alt.TopLevelMixin,
    note: str = "",
) -> Figure:
    """Render a chart as a figure with the table's title, sentence and numbers.

    The SVG loads nothing.
    """
    title = alt.TitleParams(
        textwrap.wrap(table.title, _MAX_TITLE_CHARACTERS) or [""],
        subtitle=[note] if note else alt.Undefined,
        anchor="start",
        offset=12,
    )
    styled_chart = _apply_style(
        chart.properties(
            title=title,
            name="figure",
        )
    )
    with (
        alt.data_transformers.enable("default", max_rows=None),
        alt.data_transformers.disable_max_rows(),
    ):
        specification = styled_chart.to_dict()
    svg = render_svg(specification, extra="train")
    svg = svg.replace("<svg ", '<svg style="max-width:100%;height:auto" ', 1)
    # Text is measured in vl-convert's own sans-serif, so that a chart is the same on every machine.
    svg = svg.replace('font-family="sans-serif"', f'font-family="{_FONT_FAMILY}"')
    return Figure(table.title, table.sentence, svg, table.data)


def _apply_style(chart: Any) -> Any:
    """Set colors and sizes of titles, axes and legends."""
    chart = chart.configure(
        background=_BACKGROUND_COLOR,
        aria=False,
    )
    chart = chart.configure_view(stroke=None)
    chart = chart.configure_title(
        color=_TEXT_COLOR,
        subtitleColor=_TEXT_COLOR,
        fontSize=15,
    )
    chart = chart.configure_axis(
        labelColor=_TEXT_COLOR,
        titleColor=_TEXT_COLOR,
        gridColor=_GRID_COLOR,
        domainColor=GREY,
        tickColor=GREY,
        labelLimit=220,
        titleFontWeight="normal",
        labelFontSize=12,
        titleFontSize=12,
        titlePadding=10,
    )
    return chart.configure_legend(
        labelColor=_TEXT_COLOR,
        titleColor=_TEXT_COLOR,
        orient="bottom",
        symbolType="stroke",
        labelFontSize=12,
        titleFontSize=12,
        titleFontWeight="normal",
    )
