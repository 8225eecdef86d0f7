"""The charts of the monitoring page: performance over time, and drift by column and window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mlops_kit.core.column_labels import get_column_label
from mlops_kit.core.formatting import format_number
from mlops_kit.dashboards.monitoring_context import MonitoringContext
from mlops_kit.dashboards.monitoring_data import DAY, DriftRow, MonitoredWindow
from mlops_kit.dashboards.strip_charts import HeatMapCell, HeatMapRow
from mlops_kit.dashboards.text_formats import format_day, format_period, make_time_ticks
from mlops_kit.dashboards.vega_charts import (
    BarChart,
    BarChartBar,
    ChartEvent,
    ChartLine,
    LineChart,
    choose_ticks,
)
from mlops_kit.dashboards.view_models import Color
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stats.monitoring_tables import DriftStatus

_RECENT_WINDOWS = 3  # windows by whose cost columns are ordered
_DARKEST_EFFECT_FACTOR = 5.0  # times the limit at which a cell is as dark as it gets
_COSTED_STATUSES = (DriftStatus.ALERT, DriftStatus.WARNING)  # after which a cost is estimated
_READ_ALOUD_WINDOWS = 6
_LINE_END_MARGIN = 4  # a longer line is not named at its ends
_MIN_NAME_DISTANCE = 2  # points between the names of two lines
_CROWDED_FACTOR = 0.2
_MAX_DAY_TICKS = 8
_USUAL_SHARE = 10  # a tenth of the days is below the usual range, and a tenth above

OptionalValues = Sequence[float | None]


class ChartLayout(StrEnum):
    """The layouts of a chart: for a screen and for a phone."""

    BROAD = "broad"
    SLIM = "slim"


_CHART_SIZES = {ChartLayout.BROAD: (760, 305), ChartLayout.SLIM: (400, 250)}
_MAX_TIME_TICKS = {ChartLayout.BROAD: 8, ChartLayout.SLIM: 4}
_MIN_SHORT_TEXT_SPACE = {ChartLayout.BROAD: 0.1, ChartLayout.SLIM: 0.4}
_MIN_DATED_TEXT_SPACE = 0.2


@dataclass(frozen=True)
class PerformanceSeries:
    """Realized, estimated and reference performance by window.

    Attributes
    ----------
    start, end : datetime
        The ends of the time axis.
    """

    windows: Sequence[MonitoredWindow]
    start: datetime
    end: datetime
    realized: OptionalValues
    estimated: OptionalValues
    reference: OptionalValues

    def to_x(self, time: datetime) -> float:
        """Return the position of a timestamp: days from the start."""
        return (time - self.start) / DAY

    @property
    def middles(self) -> list[float]:
        """The positions of the middles of the windows."""
        return [
            self.to_x(window.start + (window.end - window.start) / 2) for window in self.windows
        ]


def make_performance_series(context: MonitoringContext) -> PerformanceSeries:
    """Collect the performance by window."""
    data = context.data
    windows = data.windows
    return PerformanceSeries(
        windows=windows,
        start=windows[0].start,
        end=max(windows[-1].end, data.watched_until),
        realized=[window.realized.value for window in windows],
        estimated=[window.estimated.value for window in windows],
        reference=[data.get_reference(window.version) for window in windows],
    )


def make_performance_chart(context: MonitoringContext, layout: ChartLayout) -> LineChart:
    """Make the chart of realized and estimated performance, with promotions as events."""
    series = make_performance_series(context)
    band = _make_estimate_band(series)
    ticks = _choose_value_ticks(series, band)
    realized_texts = []
    for window in context.data.labeled_windows[-_READ_ALOUD_WINDOWS:]:
        period = format_period(window.start, window.end, context.zone)
        realized_texts.append(f"{period} {format_number(window.realized.value)}")
    return LineChart(
        lines=[*_make_reference_lines(series, ticks), *_make_performance_lines(series, ticks)],
        label=f"Realized {context.metric.title}: {', '.join(realized_texts)}",
        x_ticks=make_time_ticks(
            series.start,
            series.end,
            context.zone,
            series.to_x,
            _MAX_TIME_TICKS[layout],
        ),
        y_ticks=ticks,
        format_value=_make_tick_formatter(ticks),
        band=band,
        events=list_promotion_events(context, layout),
        size=_CHART_SIZES[layout],
    )


def _make_estimate_band(series: PerformanceSeries) -> list[tuple[float, float, float]]:
    """Make the band of the estimate's intervals; that of a single window has a width too."""
    band = []
    for x, window in zip(series.middles, series.windows, strict=True):
        if window.estimated.low is not None and window.estimated.high is not None:
            band.append((x, window.estimated.low, window.estimated.high))
    if len(band) != 1:
        return band
    [(_, low, high)] = band
    center = series.middles[0]
    half_width = series.to_x(series.end) / 50
    return [(center - half_width, low, high), (center + half_width, low, high)]


def _choose_value_ticks(
    series: PerformanceSeries, band: Sequence[tuple[float, float, float]]
) -> list[float]:
    """Choose ticks that cover all lines and the band."""
    values = []
    for value in (*series.realized, *series.estimated, *series.reference):
        if value is not None:
            values.append(value)
    for _, low, high in band:
        values.extend((low, high))
    return choose_ticks(min(values), max(values), 4) if values else [0.0, 1.0]


def _make_tick_formatter(ticks: Sequence[float]) -> Callable[[float], str]:
    """Make a function that writes all ticks with as many digits as the longest needs."""
    digits = max(len(f"{tick:g}".partition(".")[2]) for tick in ticks)
    return lambda value: f"{value:,.{digits}f}"


@dataclass(frozen=True)
class NamePosition:
    """Where the name of a line is: at which window, and whether above the line."""

    window_index: int
    is_above: bool

    def choose_offset(
        self,
        above: float,
        below: float,
    ) -> float:
        """Choose the offset of a name above or below its line."""
        return above if self.is_above else below

    def count_known_before(self, values: OptionalValues) -> int:
        """Count the known values before it, which is its index among the known points."""
        return sum(value is not None for value in values[: self.window_index])


def choose_name_position(
    values: OptionalValues,
    others: Sequence[OptionalValues],
    ticks: Sequence[float],
    taken: Sequence[int] = (),
) -> NamePosition:
    """Choose the place for a line's name that is farthest from other lines and names."""
    best = NamePosition(0, is_above=True)
    best_space = -1.0
    is_long = len(values) > _LINE_END_MARGIN
    for index, value in enumerate(values):
        is_end = index in {0, len(values) - 1}
        if value is None or (is_long and is_end):
            continue
        factor = 1.0
        if any(abs(index - other) <= _MIN_NAME_DISTANCE for other in taken):
            factor = _CROWDED_FACTOR
        space_above, space_below = _measure_space(index, value, others, ticks)
        for space, is_above in ((space_above * factor, True), (space_below * factor, False)):
            if space > best_space:
                best_space = space
                best = NamePosition(index, is_above)
    return best


def _measure_space(
    index: int,
    value: float,
    others: Sequence[OptionalValues],
    ticks: Sequence[float],
) -> tuple[float, float]:
    """Measure the space above and below a value, to other lines and the ends of the axis."""
    above = [ticks[-1] - value]
    below = [value - ticks[0]]
    for other in others:
        for neighbor in other[max(0, index - 1) : index + 2]:
            if neighbor is None:
                continue
            if neighbor >= value:
                above.append(neighbor - value)
            if neighbor <= value:
                below.append(value - neighbor)
    return min(above), min(below)


def _make_performance_lines(series: PerformanceSeries, ticks: Sequence[float]) -> list[ChartLine]:
    """Make the estimated and the realized line, each named where there is space."""
    lines = []
    estimated_position = choose_name_position(
        series.estimated, [series.realized, series.reference], ticks
    )
    realized_position = choose_name_position(
        series.realized,
        [series.estimated, series.reference],
        ticks,
        [estimated_position.window_index],
    )
    for values, position, color, dash, name in (
        (series.estimated, estimated_position, Color.MUTED, (5, 4), "estimated"),
        (series.realized, realized_position, Color.PRIMARY, (), "realized"),
    ):
        known_count = sum(value is not None for value in values)
        if not known_count:
            continue
        lines.append(
            ChartLine(
                points=list(zip(series.middles, values, strict=True)),
                color=color,
                dash=dash,
                name=name,
                name_index=position.count_known_before(values),
                name_offset=position.choose_offset(-10, 18),
                has_dots=known_count == 1 or color is Color.PRIMARY,
            )
        )
    return lines


@dataclass
class _ReferencePeriod:
    """Consecutive windows of one version: where they begin, and the line of its reference."""

    version: str
    first_index: int
    points: list[tuple[float, float | None]]


def _make_reference_lines(series: PerformanceSeries, ticks: Sequence[float]) -> list[ChartLine]:
    """Make the reference, a line for each period of one version; the longest is named."""
    periods: list[_ReferencePeriod] = []
    for index, window in enumerate(series.windows):
        reference = series.reference[index]
        if reference is None:
            continue
        if not periods or periods[-1].version != window.version:
            start = (series.to_x(window.start), reference)
            periods.append(_ReferencePeriod(window.version, index, [start]))
        periods[-1].points.append((series.to_x(window.end), reference))
    longest = max(
        periods,
        key=lambda period: len(period.points),
        default=None,
    )
    lines = []
    for period in periods:
        covered = slice(period.first_index, period.first_index + len(period.points) - 1)
        values = series.reference[covered]
        others = [series.estimated[covered], series.realized[covered]]
        position = choose_name_position(values, others, ticks)
        lines.append(
            ChartLine(
                points=period.points,
                color=Color.CRITICAL,
                dash=(2, 4),
                name="reference" if period is longest else "",
                name_index=position.count_known_before(values),
                name_offset=position.choose_offset(-8, 16),
            )
        )
    return lines


def list_promotion_events(context: MonitoringContext, layout: ChartLayout) -> list[ChartEvent]:
    """List the promotions within the time axis; their texts are short where they are close."""
    series = make_performance_series(context)
    placed = []
    for promotion in context.data.promotions:
        time = context.data.locate_promotion(promotion)
        if time is not None and series.start < time <= series.end:
            placed.append((time, promotion.version))
    placed.sort()
    events = []
    for index, (time, version) in enumerate(placed):
        space = 1.0  # to the next promotion, as a share of the axis
        if index + 1 < len(placed):
            space = (placed[index + 1][0] - time) / (series.end - series.start)
        if layout is ChartLayout.BROAD and space > _MIN_DATED_TEXT_SPACE:
            text = f"{format_day(time, context.zone)}: version {version}"
        elif space > _MIN_SHORT_TEXT_SPACE[layout]:
            text = f"version {version}"
        else:
            text = version
        events.append(ChartEvent(series.to_x(time), text))
    return events


def order_columns_by_cost(windows: Sequence[MonitoredWindow]) -> list[str]:
    """Order the columns by their cost in the recent windows, then ever, then by effect."""
    keys: dict[str, tuple[float, float, float]] = {}
    for age, window in enumerate(reversed(windows)):
        for row in window.drift_rows:
            cost = row.cost or 0.0
            recent_cost = cost * (age < _RECENT_WINDOWS)
            effect = row.effect or 0.0
            before = keys.get(row.column, (0.0, 0.0, 0.0))
            keys[row.column] = (
                max(before[0], recent_cost),
                max(before[1], cost),
                max(before[2], effect),
            )
    return sorted(keys, key=lambda column: tuple(-value for value in keys[column]))


def make_drift_row(context: MonitoringContext, column: str) -> HeatMapRow:
    """Make a column's row of the heat map: a cell per window."""
    cells = []
    for window in context.data.windows:
        cell = None
        for row in window.drift_rows:
            if row.column == column and row.effect is not None:
                cell = _make_drift_cell(context, row, row.effect, window)
                break
        cells.append(cell)
    if column == SCORE_COLUMN:
        return HeatMapRow("prediction", tuple(cells))
    label = get_column_label(column)
    return HeatMapRow(label.text, tuple(cells), label.tooltip)


def _make_drift_cell(
    context: MonitoringContext,
    row: DriftRow,
    effect: float,
    window: MonitoredWindow,
) -> HeatMapCell:
    """Make a cell: its depth is the effect, its color the estimated cost.

    Blue is harmless, amber costs something, red costs more than the allowed drop, grey is unknown.
    """
    config = context.config
    if row.cost is None:
        color = Color.PRIMARY
        text = "no drift"
        if row.status in _COSTED_STATUSES:
            color = Color.NEUTRAL
            text = "its cost is not known"
    else:
        color = _choose_cost_color(row.cost, context)
        text = context.describe_drift_cost(row.cost)
    darkest_effect = _DARKEST_EFFECT_FACTOR * config.monitor.alert_effect or 1.0
    period = format_period(window.start, window.end, context.zone)
    name = get_column_label(row.column).text
    return HeatMapCell(
        depth=min(1.0, effect / darkest_effect),
        color=color,
        label=f"{name}, {period}: effect {format_number(effect)}; {text}",
        key=f"{window.record.id}|{row.column}",
    )


def _choose_cost_color(cost: float, context: MonitoringContext) -> Color:
    """Choose the color of an estimated cost."""
    if context.max_drop is not None and cost >= context.max_drop:
        return Color.CRITICAL
    if cost >= context.config.review.margin:
        return Color.WARNING
    return Color.PRIMARY


def make_volume_chart(context: MonitoringContext, max_days: int) -> BarChart:
    """Make the chart of scored rows by day, with the usual range."""
    days = context.data.count_rows_by_day(max_days)
    counts = sorted(day.count for day in days)
    margin = len(counts) // _USUAL_SHARE
    start = days[0].start
    bars = []
    for index, day in enumerate(days):
        text = f"{format_day(day.start, context.zone)}: {day.count:,} rows"
        bars.append(BarChartBar(index + 0.5, day.count, text))

    def to_x(time: datetime) -> float:
        return (time - start) / DAY

    ticks = make_time_ticks(
        start,
        context.data.watched_until,
        context.zone,
        to_x,
        _MAX_DAY_TICKS,
    )
    return BarChart(bars, "Rows by day", ticks, (counts[margin], counts[-1 - margin]))
