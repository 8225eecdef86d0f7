"""From what was measured of a column to its drift status.

A change is an alert or a warning only if it is significant after Benjamini and Hochberg's
correction over the columns, and large: an effect above its limit, or, of a small share, a ratio to
the reference. What was measured comes from ``drift_tests`` and ``rate_changes``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import scipy_stats
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor.rate_changes import (
    MIN_ALERT_SHARE_CHANGE,
    MIN_SHARE_CHANGE,
    RateChange,
)
from mlops_kit.stats.monitoring_tables import DriftReason, DriftStatus

DRIFT_COLUMNS = [
    "column",
    "kind",
    "statistic",
    "effect",
    "limit",
    "p_value",
    "adjusted_p",
    "missing_reference",
    "missing_current",
    "status",
    "reason",
    "explanation",
    "effective_rows",
]


class Classification(NamedTuple):
    """A drift status, what it rests on, and a phrase that explains it."""

    status: DriftStatus
    reason: DriftReason
    explanation: str


@dataclass
class ColumnDrift:
    """What was measured of one column; the numbers are NaN where it was not tested.

    ``effective_rows`` is the number of independent rows that tell as much as the smaller side.
    """

    column: str
    kind: str
    limit: float
    statistic: float = math.nan
    effect: float = math.nan
    p_value: float = math.nan
    adjusted_p: float = math.nan
    missing_reference: float = math.nan
    missing_current: float = math.nan
    status: DriftStatus = DriftStatus.NOT_TESTED
    reason: DriftReason = DriftReason.COLUMN_ABSENT
    explanation: str = "a side has no such column"
    effective_rows: float = math.nan
    reference_rows: float = math.nan
    new_values: str = ""
    missing: RateChange | None = None
    rare: RateChange | None = None
    extreme: RateChange | None = None

    @property
    def is_tested(self) -> bool:
        """Whether a drift test has run."""
        return not math.isnan(self.p_value)

    @property
    def order(self) -> tuple[bool, bool, float]:
        """Sort key: alerts, then warnings for a change, then by effect."""
        is_change = self.reason is not DriftReason.NEW_VALUES
        is_effect_warning = self.status is DriftStatus.WARNING and is_change
        effect = -1.0 if math.isnan(self.effect) else self.effect
        return self.status is not DriftStatus.ALERT, not is_effect_warning, -effect

    def classify(self, classification: Classification) -> None:
        """Set the status, its reason and the explanation."""
        self.status = classification.status
        self.reason = classification.reason
        self.explanation = classification.explanation

    def to_row(self) -> list[object]:
        """Return the values of ``DRIFT_COLUMNS``."""
        values: list[object] = []
        for name in DRIFT_COLUMNS:
            value = getattr(self, name)
            values.append(str(value) if isinstance(value, str) else value)
        return values


def classify_columns(
    columns: list[ColumnDrift],
    limits: MonitorConfig,
    other_tests: int = 0,
) -> None:
    """Adjust the p-values over the columns, and classify each column that was tested.

    ``other_tests`` is the number of tests beside those of the columns, such as that of joint drift.
    """
    for name in ("missing", "rare", "extreme"):
        _adjust_rate_changes(columns, name)
    tested = [column for column in columns if column.is_tested]
    # A test that is not known yet counts as one without an effect, which is conservative.
    p_values = [column.p_value for column in tested] + [1.0] * other_tests
    for column, adjusted_p in zip(tested, adjust_p_values(p_values), strict=False):
        column.adjusted_p = adjusted_p
    for column in columns:
        changes = _list_changes(column, limits)
        if column.is_tested or changes:
            column.classify(_choose_classification(column, changes, limits))


def adjust_p_values(p_values: list[float]) -> list[float]:
    """Adjust p-values for the number of tests (Benjamini & Hochberg, JRSS B 57 (1995))."""
    if not p_values:
        return []
    return [float(p_value) for p_value in scipy_stats.false_discovery_control(p_values)]


def _adjust_rate_changes(columns: list[ColumnDrift], name: str) -> None:
    """Adjust the p-values of one kind of rate change over the columns."""
    changed = [column for column in columns if getattr(column, name) is not None]
    p_values = [getattr(column, name).p_value for column in changed]
    for column, p_value in zip(changed, adjust_p_values(p_values), strict=True):
        setattr(column, name, getattr(column, name)._replace(p_value=p_value))


def _choose_classification(
    column: ColumnDrift,
    changes: list[Classification],
    limits: MonitorConfig,
) -> Classification:
    """Choose the most severe change, and mention the others of its severity and new values."""
    for status in (DriftStatus.ALERT, DriftStatus.WARNING):
        severe = [change for change in changes if change.status is status]
        if not severe:
            continue
        mentioned = severe
        if status is DriftStatus.ALERT:
            mentioned = severe + [
                change for change in changes if change.reason is DriftReason.NEW_VALUES
            ]
        explanation = "; ".join(change.explanation for change in mentioned)
        return severe[0]._replace(explanation=explanation)
    is_significant = column.adjusted_p < limits.alpha
    qualifier = "too small to matter" if is_significant else "not significant"
    explanation = f"effect {format_number(column.effect)}, {qualifier}"
    return Classification(DriftStatus.NONE, DriftReason.EFFECT, explanation)


def _list_changes(column: ColumnDrift, limits: MonitorConfig) -> list[Classification]:
    """List what is an alert or a warning of a column, in order of importance."""
    changes = [
        _classify_missing(column, limits),
        _classify_effect(column, limits),
        _classify_extreme(column, limits),
        _classify_rare(column, limits),
    ]
    if column.new_values:
        changes.append(
            Classification(DriftStatus.WARNING, DriftReason.NEW_VALUES, column.new_values)
        )
    return [change for change in changes if change is not None]


def _classify_effect(column: ColumnDrift, limits: MonitorConfig) -> Classification | None:
    """Classify the effect of the drift test."""
    if not column.is_tested:
        return None
    effect = f"effect {format_number(column.effect)}"
    if column.adjusted_p < limits.alpha and column.effect >= limits.alert_effect:
        explanation = f"{effect}, limit {limits.alert_effect:g}"
        return Classification(DriftStatus.ALERT, DriftReason.EFFECT, explanation)
    if column.adjusted_p < limits.warning_alpha and column.effect >= limits.warning_effect:
        explanation = f"{effect}, warning limit {limits.warning_effect:g}"
        return Classification(DriftStatus.WARNING, DriftReason.EFFECT, explanation)
    return None


def _classify_missing(column: ColumnDrift, limits: MonitorConfig) -> Classification | None:
    """Classify the change of the share of missing values."""
    change = column.missing
    if change is None:
        return None
    explanation = change.describe("missing values")
    is_significant = change.p_value < limits.alpha
    if is_significant and change.change > limits.max_missing_increase:
        return Classification(DriftStatus.ALERT, DriftReason.MISSING_VALUES, explanation)
    return _classify_ratio(
        column,
        change,
        DriftReason.MISSING_VALUES,
        explanation,
        limits,
    )


def _classify_extreme(column: ColumnDrift, limits: MonitorConfig) -> Classification | None:
    """Classify an increase of the share of extreme values."""
    change = column.extreme
    if change is None or change.change <= 0:
        return None
    explanation = change.describe("extreme values")
    return _classify_ratio(
        column,
        change,
        DriftReason.EXTREME_VALUES,
        explanation,
        limits,
    )


def _classify_rare(column: ColumnDrift, limits: MonitorConfig) -> Classification | None:
    """Classify the change of the share of a rare category."""
    change = column.rare
    if change is None:
        return None
    explanation = change.describe(f"{change.name!r}")
    return _classify_ratio(
        column,
        change,
        DriftReason.RARE_VALUES,
        explanation,
        limits,
    )


def _classify_ratio(
    column: ColumnDrift,
    change: RateChange,
    reason: DriftReason,
    explanation: str,
    limits: MonitorConfig,
) -> Classification | None:
    """Classify the change of a share by its significance and its ratio to the reference."""
    ratio = change.compute_ratio(column.reference_rows)
    is_large_alert = ratio >= limits.alert_ratio and change.change >= MIN_ALERT_SHARE_CHANGE
    if change.p_value < limits.alpha and is_large_alert:
        return Classification(DriftStatus.ALERT, reason, explanation)
    is_large = not 1 / limits.warning_ratio < ratio < limits.warning_ratio
    is_large = is_large and abs(change.change) >= MIN_SHARE_CHANGE
    if change.p_value < limits.warning_alpha and is_large:
        return Classification(DriftStatus.WARNING, reason, explanation)
    return None


def make_not_tested(reason: DriftReason, explanation: str) -> Classification:
    """Make the classification of a column that no test can or need decide."""
    return Classification(DriftStatus.NOT_TESTED, reason, explanation)


def make_too_few(count: str, limits: MonitorConfig) -> Classification:
    """Make the classification of a column with too few rows or values."""
    return make_not_tested(
        DriftReason.TOO_FEW_ROWS,
        f"{count} on one side, fewer than {limits.min_rows}",
    )


def describe_new_categories(names: tuple[str, ...], share: float) -> str:
    """Describe categories that the reference does not have."""
    return f"new categories: {', '.join(names)} in {format_percent(share)} of the rows"
