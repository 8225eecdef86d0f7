"""The drift of a window: by feature with its cost, of all features together, and by slice."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.data.columns import get_row_days
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import estimate
from mlops_kit.stages.monitor.domain_classifier import DomainClassifier, fit_domain_classifier
from mlops_kit.stages.monitor.drift import measure_drift
from mlops_kit.stages.monitor.drift_sides import DriftDesign
from mlops_kit.stages.monitor.drift_tests import SideWeights
from mlops_kit.stages.monitor.joint_cost import JointCost, estimate_joint_cost
from mlops_kit.stages.monitor.joint_drift import JointDrift, judge_joint_drift
from mlops_kit.stages.monitor.season import mark_seasonal_drift
from mlops_kit.stages.monitor.slice_drift import measure_slice_drift
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.monitoring_tables import OUTSIDE_SUPPORT_COLUMN, DriftStatus
from mlops_kit.watch.reference_data import ReferenceData

# Outcomes of a drift test after which the cost of the drift is estimated.
_COSTED_DRIFT_STATUSES = (DriftStatus.ALERT, DriftStatus.WARNING)


class WindowDrift(NamedTuple):
    """The drift of a window.

    Attributes
    ----------
    table : Table
        Drift by feature, with its cost.
    joint : JointDrift
        The drift of all features together.
    slices : Table or None
        Drift by slice; None without ``review.slices``.
    domain : DomainClassifier or None
        What tells the rows of the window from those of the reference that have label and score.
    """

    table: Table
    joint: JointDrift
    slices: Table | None
    domain: DomainClassifier | None


def measure_window_drift(
    reference: ReferenceData,
    expected: pd.DataFrame,
    current: pd.DataFrame,
    config: ProjectConfig,
    design: DriftDesign,
) -> WindowDrift:
    """Measure the drift of a window in every way.

    Parameters
    ----------
    reference : ReferenceData
        What the version was evaluated on.
    expected, current : DataFrame
        Features and score of the reference and of the window.
    config : ProjectConfig
        The project's settings.
    design : DriftDesign
        The days and the weights of the rows.
    """
    table = _measure_drift_with_cost(reference, expected, current, config, design)
    labeled = reference.outcomes.reference
    domain_days = None
    if design.days is not None:
        labeled_days = get_row_days(labeled, config)
        if labeled_days is not None:
            domain_days = (labeled_days, design.days.current)
    domain = fit_domain_classifier(
        labeled,
        current,
        reference.feature_names,
        domain_days,
        config.seed,
    )
    joint = judge_joint_drift(domain, domain_days, table, config.monitor, config.seed)
    slices = None
    if config.review.slices:
        slices = measure_slice_drift(
            expected,
            current,
            config.review.slices,
            config.monitor,
            config.seed,
            design,
        )
    return WindowDrift(table, joint, slices, domain)


def _measure_drift_with_cost(
    reference: ReferenceData,
    expected: pd.DataFrame,
    current: pd.DataFrame,
    config: ProjectConfig,
    design: DriftDesign,
) -> Table:
    """Measure drift by feature, and estimate what the drift of each costs."""
    table = measure_drift(
        expected,
        current,
        expected.columns,
        config.monitor,
        config.seed,
        design._replace(other_tests=1),  # that of joint drift
    )
    drifted_columns = []
    if len(table.data) and reference.history is not None and design.days is not None:
        table = mark_seasonal_drift(
            table,
            reference.history,
            current,
            design.days.current,
            config.monitor,
        )
    if len(table.data):
        is_costed = table.data["status"].isin(_COSTED_DRIFT_STATUSES)
        drifted_columns = table.data.loc[is_costed, "column"].tolist()
    cost_by_column: dict[str, float] = {}
    if reference.rows[config.target].notna().any() and len(current):
        cost_by_column = estimate.estimate_drift_costs(
            reference.rows,
            current,
            drifted_columns,
            config,
            design.weights,
            reference.threshold,
        )
    columns = table.data["column"]
    costs = [cost_by_column.get(column, math.nan) for column in columns]
    # A drifted column of labeled rows has no cost only where the reference has no rows like them.
    is_outside = [math.isnan(cost_by_column.get(column, 0.0)) for column in columns]
    data = table.data.assign(cost=costs)
    data[OUTSIDE_SUPPORT_COLUMN] = is_outside
    return replace(table, data=data)


def estimate_window_joint_cost(
    drift: WindowDrift,
    estimated: Interval,
    reference: ReferenceData,
    config: ProjectConfig,
) -> JointCost | None:
    """Estimate what the joint drift costs, where features or the estimate have changed."""
    has_changed = drift.joint.is_drifted or _has_estimate_dropped(estimated, reference, config)
    if len(drift.table.data):
        has_changed |= bool(drift.table.data["status"].isin(_COSTED_DRIFT_STATUSES).any())
    if not has_changed:
        return None
    labeled = reference.outcomes.reference
    return estimate_joint_cost(
        labeled,
        drift.domain,
        config,
        get_row_weights(labeled, config),
        reference.threshold,
    )


def _has_estimate_dropped(
    estimated: Interval, reference: ReferenceData, config: ProjectConfig
) -> bool:
    """Whether the estimate is worse than the reference performance by more than the margin."""
    reviewed = reference.performance.value if reference.performance else None
    if estimated.value is None or reviewed is None:
        return False
    gain = METRICS[config.headline_metric].compute_gain(estimated.value, reviewed)
    return gain < -config.review.margin


def compare_window_distributions(
    expected: pd.DataFrame,
    current: pd.DataFrame,
    weights: SideWeights | None,
) -> dict[str, Any]:
    """Compare the distributions of the columns that both sides have, for charts."""
    sketches = {}
    for name in expected:
        if name in current and len(current):
            sketches[str(name)] = estimate.compare_distributions(
                expected[name], current[name], weights
            )
    return sketches
