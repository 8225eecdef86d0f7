"""The drift of the newest window on the monitoring page: by feature, jointly, and by slice."""

from __future__ import annotations

from dataclasses import dataclass

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.dashboards.monitoring_context import MonitoringContext
from mlops_kit.dashboards.monitoring_data import DriftRow
from mlops_kit.dashboards.page_base import CardContent
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.stored_reviews import read_records
from mlops_kit.dashboards.text_formats import format_optional, format_period
from mlops_kit.dashboards.view_models import (
    make_column_name,
    make_notes,
    make_sentence,
    make_table,
)

_MAX_SHOWN_P_VALUE_PRECISION = 0.001
_NO_WINDOW_NOTE = "No window with rows to compare has ended yet."


@dataclass(frozen=True)
class SliceRow:
    """The drift of one slice in a window; ``within`` lists the features that drifted in it."""

    slice: str
    reference_share: float | None
    current_share: float | None
    effect: float | None
    adjusted_p: float | None
    status: str
    within: str


def show_drift(context: MonitoringContext) -> CardContent:
    """Show the drift of the newest window, column by column."""
    window = context.data.last_window
    if window is None or not window.drift_rows:
        return CardContent(_NO_WINDOW_NOTE)
    table = window.monitoring.drift
    period = format_period(window.start, window.end, context.zone)
    note = Html(
        "{}, {:,} rows of version {}. {} An alert needs an effect of {:g} and significance. The "
        "cost is estimated only for columns that drifted."
    ).format(
        period,
        window.monitoring.rows,
        window.version,
        make_sentence(table),
        context.config.monitor.alert_effect,
    )
    joint_drift = window.monitoring.joint_drift
    if joint_drift is not None:
        note += f" {joint_drift.sentence}"
    joint_cost = window.monitoring.joint_cost
    if joint_cost is not None:
        joint_text = "is not known: window and reference hardly overlap"
        if joint_cost.cost is not None:
            joint_text = f"is about {format_number(joint_cost.cost)} of {context.metric.title}"
        note += (
            f" The cost of the joint drift of all features {joint_text} (effective sample: "
            f"{joint_cost.effective_rows:,} reference rows; a classifier tells the window from the "
            f"reference with ROC-AUC {format_number(joint_cost.domain_auc)})."
        )
    headings = (
        "Column",
        "Kind",
        "Status",
        "Effect",
        f"Cost in {context.metric.title}",
        "Adjusted p",
        "Missing",
        "Explanation",
    )
    rows = [_make_drift_cells(row) for row in window.drift_rows]
    drift_table = make_table(headings, rows, [3, 4, 5, 6], "Drift by feature")
    return CardContent(note, (drift_table, *make_notes(table)))


def _make_drift_cells(row: DriftRow) -> tuple[object, ...]:
    """Make the cells of a column's drift."""
    cost = format_optional(row.cost, format_number)
    if row.outside_support:
        cost = "unknown: outside the training support"
    missing = f"{format_share(row.missing_reference)} → {format_share(row.missing_current)}"
    status = row.status.replace("_", " ")
    p_value = _format_p_value(row.adjusted_p)
    name = make_column_name(row.column)
    return name, row.kind, status, row.effect, cost, p_value, missing, row.explanation


def format_share(share: float | None) -> str:
    """Format a share that may be unknown."""
    return "unknown" if share is None else format_percent(share)


def _format_p_value(p_value: float | None) -> str:
    """Format a p-value; a tiny one by its bound."""
    if p_value is None:
        return ""
    if p_value < _MAX_SHOWN_P_VALUE_PRECISION:
        return f"< {_MAX_SHOWN_P_VALUE_PRECISION:g}"
    return format_number(p_value)


def show_slices(context: MonitoringContext) -> CardContent:
    """Show the share of each slice in the reference and in the newest window."""
    window = context.data.last_window
    table = None if window is None else window.monitoring.slices
    if window is None or table is None:
        return CardContent(_NO_WINDOW_NOTE)
    period = format_period(window.start, window.end, context.zone)
    note = Html("{}. {}").format(period, make_sentence(table))
    rows = []
    for row in read_records(table, SliceRow):
        shares = f"{format_share(row.reference_share)} → {format_share(row.current_share)}"
        rows.append(
            (
                row.slice,
                row.status.replace("_", " "),
                shares,
                row.effect,
                _format_p_value(row.adjusted_p),
                row.within,
            )
        )
    headings = ("Slice", "Status", "Share of rows", "Effect", "Adjusted p", "Drifted within it")
    slice_table = make_table(headings, rows, [2, 3, 4], "Drift by slice")
    return CardContent(note, (slice_table, *make_notes(table)))
