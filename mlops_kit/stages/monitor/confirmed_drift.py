"""Confirmed drift: drift that is estimated to cost performance, and labels that prove the loss.

The limit of a performance drop (``monitor.max_drop``) is for a drop of any cause, which one window
may show by chance. A smaller drop counts where three findings agree: features have drifted, the
drift is estimated to cost at least ``review.margin``, the difference from which two models count as
different, and the realized performance is below the reference by as much and by more than noise.
One window is enough then, so noise is judged over a year of windows: without a loss, labels of one
of 52 windows show one in 5% of years (0.1% of windows, a deviation of 3.1 standard errors).
"""

from __future__ import annotations

from functools import partial

from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Interval, Table, Verdict
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stages.monitor.incidents import MonitoredWindow
from mlops_kit.stats.interval_difference import compute_difference_interval
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.monitoring_tables import (
    CONFIRMED_DRIFT_CHECK,
    OUTSIDE_SUPPORT_COLUMN,
    DriftStatus,
)

_MAX_LISTED_COLUMNS = 3
_MAX_P_VALUE = 0.05 / 52  # one-sided, of a window: Bonferroni's correction over those of a year


def check_confirmed_drift(
    window: MonitoredWindow,
    realized: Table,
    reference: Interval | None,
    config: ProjectConfig,
) -> Verdict:
    """Check whether drift costs performance, by its estimated cost and by the labels; warns.

    It cannot tell where a drifted feature has values outside the training support: their cost is
    not known, and a retraining is not the answer before somebody knows where they come from.

    Parameters
    ----------
    window : MonitoredWindow
        The drift of the window with its cost, and the estimated performance.
    realized : Table
        The realized performance of the window.
    reference : Interval or None
        The reference performance, with its interval.
    config : ProjectConfig
        The project's settings.
    """
    metric = METRICS[config.headline_metric]
    make_verdict = partial(
        Verdict,
        CONFIRMED_DRIFT_CHECK,
        "No drift that costs performance",
        severity=CheckSeverity.WARNS,
        limit=f"a loss of {config.review.margin:g} of {metric.title}, beyond noise",
    )
    value = Interval(None)
    if not realized.data.empty:
        value = realized.to_intervals()[config.headline_metric]
    if reference is None or reference.value is None or value.value is None:
        return make_verdict(
            outcome=CheckOutcome.NOT_APPLICABLE,
            sentence="There are no labels or no reference to compare them with.",
        )
    columns = _list_drifted_columns(window)
    joint = window.joint_drift
    if not columns and (joint is None or joint.status != DriftStatus.ALERT):
        return make_verdict(outcome=CheckOutcome.PASSED, sentence="No feature has drifted.")
    outside = _list_columns_outside_support(window, columns)
    if outside:
        return make_verdict(
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=f"{', '.join(outside)}: outside the training support, at an unknown cost.",
            hint="find out where these values come from before a retraining",
        )
    cost = _estimate_cost(window, reference, columns, config)
    loss = _measure_loss(value, reference, metric.greater_is_better)
    subject = "The features have drifted jointly"
    if columns:
        others = len(columns) - _MAX_LISTED_COLUMNS
        listed = ", ".join(columns[:_MAX_LISTED_COLUMNS])
        subject = f"{listed}{f' and {others} more' if others > 0 else ''} drifted"
    sentence = (
        f"{subject}, at an estimated cost of {format_number(cost)} of {metric.title}; realized "
        f"{value}, reference {reference}."
    )
    observed = f"estimated cost {format_number(cost)}, loss {loss}"
    make_verdict = partial(make_verdict, observed=observed, sentence=sentence)
    is_costly = cost >= config.review.margin
    if loss.low is None:
        return make_verdict(outcome=CheckOutcome.CANNOT_TELL, hint="wait for more labels")
    if is_costly and _is_certain_loss(loss, config.review.margin):
        return make_verdict(
            outcome=CheckOutcome.FAILED,
            hint="retrain on rows that include the drifted ones",
            diagnostics={"columns": columns, "cost": cost},
        )
    return make_verdict(outcome=CheckOutcome.PASSED)


def _list_drifted_columns(window: MonitoredWindow) -> list[str]:
    """List the features that raise an alert, the most severe first."""
    data = window.drift.data
    if data.empty:
        return []
    is_drifted = (data["status"] == DriftStatus.ALERT) & (data["column"] != SCORE_COLUMN)
    return list(data.loc[is_drifted, "column"])


def _list_columns_outside_support(window: MonitoredWindow, columns: list[str]) -> list[str]:
    """List the drifted features whose cost is not known."""
    data = window.drift.data
    if OUTSIDE_SUPPORT_COLUMN not in data:
        return []
    is_outside = data[OUTSIDE_SUPPORT_COLUMN].astype(bool) & data["column"].isin(columns)
    return list(data.loc[is_outside, "column"])


def _estimate_cost(
    window: MonitoredWindow,
    reference: Interval,
    columns: list[str],
    config: ProjectConfig,
) -> float:
    """Return the largest estimate of the cost: of a feature, of all jointly, of the estimate."""
    data = window.drift.data
    costs = [0.0]
    if "cost" in data:
        column_costs = data.loc[data["column"].isin(columns), "cost"].astype(float).dropna()
        costs += column_costs.tolist()
    if window.joint_cost is not None and window.joint_cost.cost is not None:
        costs.append(window.joint_cost.cost)
    if window.estimated.value is not None and reference.value is not None:
        metric = METRICS[config.headline_metric]
        costs.append(-metric.compute_gain(window.estimated.value, reference.value))
    return float(max(costs))


def _measure_loss(value: Interval, reference: Interval, greater_is_better: bool) -> Interval:
    """Measure how much worse the realized performance is than the reference, with its interval."""
    if greater_is_better:
        return compute_difference_interval(reference, value)
    return compute_difference_interval(value, reference)


def _is_certain_loss(loss: Interval, margin: float) -> bool:
    """Whether a loss reaches the margin, and is not due to noise in any of a year's windows.

    The standard error is that of a normal distribution with the lower bound of the interval.
    """
    from scipy import special

    if loss.value is None or loss.low is None or loss.value < margin:
        return False
    standard_error = (loss.value - loss.low) / special.ndtri((1 + loss.level) / 2)
    return bool(loss.value > -special.ndtri(_MAX_P_VALUE) * standard_error)
