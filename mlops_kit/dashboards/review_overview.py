"""The first tab of the review page: key numbers, comparison, calibration, checks and changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlops_kit.core.results import Table
from mlops_kit.dashboards.check_tables import make_check_table
from mlops_kit.dashboards.page_base import CardContent, build_card, guard_html
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.review_context import ReviewContext
from mlops_kit.dashboards.review_lineage import list_origins
from mlops_kit.dashboards.stored_reviews import (
    RERUN_REVIEW_COMMAND,
    REVIEW_SUBJECT,
    CalibrationPoint,
    DifferenceRow,
    StoredReview,
    read_records,
)
from mlops_kit.dashboards.strip_charts import DifferenceInterval, make_difference_chart
from mlops_kit.dashboards.text_formats import take_first_sentence
from mlops_kit.dashboards.vega_charts import ChartLine, LineChart, choose_ticks, draw_line_chart
from mlops_kit.dashboards.view_models import (
    Block,
    Color,
    GridView,
    KeyNumberView,
    PairsView,
    TableView,
    make_table,
)
from mlops_kit.stages.review.champion_comparison import DifferenceOutcome
from mlops_kit.stages.review.evidence import describe_metric_threshold

_DIFFERENCE_COLORS = {
    DifferenceOutcome.BETTER: Color.GOOD,
    DifferenceOutcome.NO_WORSE: Color.MUTED,
    DifferenceOutcome.CANNOT_TELL: Color.WARNING,
    DifferenceOutcome.WORSE: Color.CRITICAL,
}
_WORST_SLICE_METRIC = "worst_slice"
_CLOSE_ENDS_SHARE = 0.09  # of the axis: the names of two lines that end closer are moved apart
_LATE_END_SHARE = 0.85  # of the axis: the name of a line that ends further right is above it
_NAME_OFFSET = 4.0
# Of the name of the higher line and of the lower one.
_CLOSE_NAME_OFFSETS = (-4.0, 14.0)
_LATE_NAME_OFFSETS = (-12.0, 20.0)
_MAX_SHOWN_ORIGINS = 7
_PROBABILITY_TICKS = (0, 0.25, 0.5, 0.75, 1)


def build_overview_tab(context: ReviewContext) -> Html:
    """Build the first tab."""
    review = context.review
    has_calibration = "calibration" in review.artifacts
    comparison_span = 7 if has_calibration else 12
    second_row = [
        guard_html(
            "Champion vs challenger",
            lambda: _build_comparison_card(context, comparison_span),
            RERUN_REVIEW_COMMAND,
            comparison_span,
        )
    ]
    if has_calibration:
        second_row.append(
            build_card("Calibration", lambda: _show_calibration(context), RERUN_REVIEW_COMMAND, 5)
        )
    third_row = (
        build_card("Checks", lambda: _show_checks(review), RERUN_REVIEW_COMMAND, 8),
        _build_changes_card(context),
    )
    return Html().join(
        [
            guard_html("Key numbers", lambda: _build_key_numbers(review), RERUN_REVIEW_COMMAND),
            GridView(tuple(second_row)),
            GridView(third_row),
        ]
    )


def _build_key_numbers(review: StoredReview) -> Html:
    """Build the row of key numbers."""
    cards = [KeyNumberView.from_key_number(number) for number in review.key_numbers.items]
    return Html(GridView(tuple(cards)))


def _show_checks(review: StoredReview) -> CardContent:
    return CardContent(
        review.verdicts.describe_counts(REVIEW_SUBJECT), make_check_table(review.verdicts)
    )


def _build_comparison_card(context: ReviewContext, span: int) -> Html:
    """Build the comparison with the champion; without one, with the baselines."""
    title, show = "Champion vs challenger", _show_differences
    if context.other is not None and not context.is_compared:
        title = f"Version {context.review.number} vs version {context.other.number}"
        show = _show_separate_numbers
    elif "against" in context.review.artifacts and not context.review.has_differences:
        title = "Comparison with baselines"
        show = _show_baselines
    return build_card(title, lambda: show(context), RERUN_REVIEW_COMMAND, span)


def _show_differences(context: ReviewContext) -> CardContent:
    """Show the differences to the champion as dots and whiskers."""
    review = context.review
    table = review.read_table("against")
    champion = review.champion_version
    label = f"Differences to version {champion} with intervals"
    note = (
        f"Version {review.number} vs version {champion}. {take_first_sentence(table.sentence)}. "
        "Grey: how much worse a metric may be and still count as no worse."
    )
    chart = make_difference_chart(_list_difference_intervals(review.differences), label)
    return CardContent(note, (chart,))


def _list_difference_intervals(rows: Sequence[DifferenceRow]) -> list[DifferenceInterval]:
    """List the differences that have an interval."""
    intervals = []
    for row in rows:
        if row.difference is None or row.low is None or row.high is None:
            continue
        is_slice = row.metric == _WORST_SLICE_METRIC
        outcome = DifferenceOutcome(row.verdict)
        intervals.append(
            DifferenceInterval(
                name="Worst slice" if is_slice else row.title,
                difference=row.difference,
                low=row.low,
                high=row.high,
                margin=row.margin or 0.0,
                text=row.text,
                verdict=row.verdict,
                color=_DIFFERENCE_COLORS[outcome],
            )
        )
    return intervals


def _show_baselines(context: ReviewContext) -> CardContent:
    """Show every metric beside those of the baselines."""
    sentence = context.review.read_table("against").sentence
    threshold = describe_metric_threshold(context.config)
    note = f"{sentence} It is compared with baselines instead. {threshold}".rstrip()
    return CardContent(note, (make_metric_table(context.review, None, "Baselines"),))


def _show_separate_numbers(context: ReviewContext) -> CardContent:
    """Show both versions' own numbers, which were not measured on the same rows."""
    review = context.review
    other = context.other
    if other is None:
        return CardContent()
    champion = "no version"
    if review.champion_version:
        champion = f"version {review.champion_version}"
    note = (
        "The two versions were not evaluated on the same rows, so their difference is not "
        "measured: part of what differs below may be due to the rows. "
        f"Version {review.number} was compared with {champion}."
    )
    rows = []
    for number in review.key_numbers.items:
        if number.title in review.metrics:
            continue
        rows.append((number.title, number.value, _get_number_text(other, number.title)))
    for title, metric in review.metrics.items():
        rows.append((title, metric.text, _get_metric_text(other, title)))
    headings = ("", f"version {review.number}", f"version {other.number}")
    return CardContent(note, (make_table(headings, rows, label="The numbers of both versions"),))


def _get_number_text(review: StoredReview, title: str) -> str:
    """Return the value of a key number; empty if the review does not have it."""
    for number in review.key_numbers.items:
        if number.title == title:
            return number.value
    return ""


def _get_metric_text(review: StoredReview, title: str) -> str:
    """Return the text of a metric; empty if the review does not have it."""
    metric = review.metrics.get(title)
    return metric.text if metric else ""


def make_metric_table(review: StoredReview, other: StoredReview | None, label: str) -> TableView:
    """Make the table of every metric with its interval, the baselines and another version."""
    headings = ["Metric", f"version {review.number}", "linear baseline", "constant baseline"]
    if other is not None:
        headings.append(f"version {other.number}, on its own rows")
    rows = []
    for title, metric in review.metrics.items():
        row = [title, metric.text, metric.baseline_linear, metric.baseline_constant]
        if other is not None:
            row.append(_get_metric_text(other, title))
        rows.append(row)
    return make_table(headings, rows, range(1, 5), label)


@dataclass(frozen=True)
class _Curve:
    """A calibration curve of one model."""

    name: str
    color: str
    points: list[CalibrationPoint]

    @property
    def last_observed(self) -> float:
        """The height at which it ends."""
        return self.points[-1].observed or 0.0


def _show_calibration(context: ReviewContext) -> CardContent:
    """Show the calibration curve, beside the champion's on the same rows."""
    config = context.config
    if config.task == "binary":
        note = (
            f"Can the probabilities be taken at face value? Share of {context.event} against the "
            "predicted probability; dashed: perfect calibration; columns: how often each "
            "probability is predicted."
        )
    elif config.task == "multiclass":
        note = (
            "Can the probabilities be taken at face value? Share of rows in which the predicted "
            "class is the true one against its probability; dashed: perfect calibration; columns: "
            "how often each probability is predicted."
        )
    else:
        note = (
            f"Can the predictions be taken at face value? Mean {config.target} against the "
            "prediction; dashed: perfect calibration; columns: how often each value is predicted."
        )
    table = context.review.read_table("calibration")
    return CardContent(note, (draw_line_chart(make_calibration_chart(context, table)),))


def make_calibration_chart(context: ReviewContext, table: Table) -> LineChart:
    """Make the chart of the calibration curves; the first of the table is the reviewed model's."""
    points_by_model: dict[str, list[CalibrationPoint]] = {}
    for point in read_records(table, CalibrationPoint):
        points_by_model.setdefault(point.model, []).append(point)
    (_, points), *others = points_by_model.items()
    own_curve = _Curve(f"version {context.review.number}", Color.PRIMARY, points)
    other_curves = [_Curve(name, Color.NEUTRAL, rows) for name, rows in reversed(others)]
    all_points = [point for rows in points_by_model.values() for point in rows]
    has_classes = context.config.task != "regression"
    ticks = list(_PROBABILITY_TICKS) if has_classes else _choose_calibration_ticks(all_points)
    largest_share = max(point.share for point in points) or 1.0
    band = []
    for point in points:
        if point.low is not None and point.high is not None:
            band.append((point.predicted, point.low, point.high))
    return LineChart(
        lines=_make_curve_lines([*other_curves, own_curve], ticks),
        label=f"Calibration curves of {', '.join(points_by_model)}",
        x_ticks=[(value, context.format_prediction(value)) for value in ticks],
        y_ticks=ticks,
        format_value=context.format_prediction,
        band=band,
        histogram=[(point.predicted, point.share / largest_share) for point in points],
        has_diagonal=True,
        size=(430, 236),
    )


def _choose_calibration_ticks(points: Sequence[CalibrationPoint]) -> list[float]:
    """Choose ticks that cover the predictions, the observed values and their intervals."""
    values = []
    for point in points:
        for value in (point.predicted, point.observed, point.low, point.high):
            if value is not None:
                values.append(value)
    return choose_ticks(min(values), max(values))


def _make_curve_lines(curves: Sequence[_Curve], ticks: Sequence[float]) -> list[ChartLine]:
    """Make lines with their names beside their ends; the names of close ends are moved apart."""
    span = ticks[-1] - ticks[0]
    ends = [curve.last_observed for curve in curves]
    are_close = len(ends) > 1 and max(ends) - min(ends) < _CLOSE_ENDS_SHARE * span
    lines = []
    for curve, end in zip(curves, ends, strict=True):
        is_late = curve.points[-1].predicted - ticks[0] >= _LATE_END_SHARE * span
        is_higher = end == max(ends)
        lines.append(
            ChartLine(
                points=[(point.predicted, point.observed) for point in curve.points],
                color=curve.color,
                name=curve.name,
                name_offset=_choose_name_offset(is_late, is_higher, are_close),
                name_align="right" if is_late else "left",
            )
        )
    return lines


def _choose_name_offset(is_late: bool, is_higher: bool, are_close: bool) -> float:
    """Choose how many pixels below the end of its line a name is."""
    if not is_late and not are_close:
        return _NAME_OFFSET
    upper, lower = _LATE_NAME_OFFSETS if is_late else _CLOSE_NAME_OFFSETS
    return upper if is_higher else lower


def _build_changes_card(context: ReviewContext) -> Html:
    """Build what changed since the champion; for a first version, what it was made from."""
    review = context.review
    title = "Changes"
    if review.champion_version:
        title = f"Changes since version {review.champion_version}"

    def show_changes() -> CardContent:
        table = review.read_table("changes")
        rows: Sequence[tuple[str, object]] = list_origins(review, context.config)
        if not table.data.empty:
            rows = list(table.data.itertuples(index=False, name=None))
        else:
            rows = rows[:_MAX_SHOWN_ORIGINS]
        blocks: tuple[Block, ...] = (PairsView(tuple(rows)),)
        return CardContent(table.sentence, blocks)

    return build_card(title, show_changes, RERUN_REVIEW_COMMAND, 4)
