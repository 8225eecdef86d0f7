"""The windows of the watch: what is known of each before and after its labels have arrived.

A window is analyzed once when it has ended, and once more when its labels are due.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Interval, Table, Verdict, Verdicts
from mlops_kit.core.tasks import (
    TASKS,
    summarize_score,
    to_score_array,
    to_score_column,
)
from mlops_kit.data.column_kinds import infer_statistical_kind
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.artifacts import read_artifact
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_artifacts
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.monitor import alerts, drift, estimate
from mlops_kit.stages.monitor.column_bins import COUNTED_KINDS, make_column_bins
from mlops_kit.stages.monitor.drift_sides import (
    SCORE_COLUMN,
    DriftDesign,
    make_side_days,
    replace_class_probabilities,
)
from mlops_kit.stages.monitor.drift_tests import SideWeights, make_side_weights
from mlops_kit.stages.monitor.joint_cost import JointCost, estimate_joint_cost
from mlops_kit.stages.monitor.performance_estimate import (
    COST,
    OutcomeModel,
    WindowRows,
    estimate_functions,
    fit_outcome_model,
    list_window_functions,
)
from mlops_kit.stages.monitor.profile_scan import profile_parquet
from mlops_kit.stages.monitor.realized import measure_labeled_rows
from mlops_kit.stages.monitor.reference_performance import (
    ReferencePerformance,
    get_reference_performance,
    select_held_out_rows,
)
from mlops_kit.stages.monitor.schema import check_schema
from mlops_kit.stages.monitor.season import DriftHistory, mark_seasonal_drift
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.monitoring_tables import (
    CONCEPT_DRIFT_CHECK,
    OUTSIDE_SUPPORT_COLUMN,
    DriftStatus,
)
from mlops_kit.stats.weights import compute_weighted_mean
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance

# Outcomes of a drift test after which the cost of the drift is estimated.
_COSTED_DRIFT_STATUSES = (DriftStatus.ALERT, DriftStatus.WARNING)


class ReferenceData(NamedTuple):
    """What a version was evaluated on.

    Attributes
    ----------
    rows : DataFrame
        The held-out rows: features, target and score.
    performance : ReferencePerformance or None
        Reference performance: the headline metric that the review measured.
    outcomes : OutcomeModel
        What the labels of new rows are drawn from, fitted on the held-out rows.
    classes : tuple
        The classes in the order of the version's codes; empty for a regression.
    history : DriftHistory or None
        The profile by day of the rows that the version was made from; None if rows have weights.
    threshold : float or None
        The decision threshold of the version.
    """

    feature_names: list[str]
    rows: pd.DataFrame
    performance: ReferencePerformance | None
    outcomes: OutcomeModel
    classes: tuple[Any, ...] = ()
    history: DriftHistory | None = None
    threshold: float | None = None


def load_reference(project: Project, version: ModelVersion) -> ReferenceData:
    """Load the reference of a version from the run that made it.

    Raises
    ------
    RunFailedError
        If the artifacts of the run are gone, because nothing can then be compared.
    """
    config = project.config
    run = project.reports_folder / version.run
    known_artifacts = list_artifacts(run)
    for name in ("features", "held_out_scores", "metrics"):
        if name not in known_artifacts:
            raise RunFailedError(
                f"run {version.run}, which made version {version.version}, no longer has the "
                f"artifact {name!r}",
                f"the folder of the run in {config.reports}/",
                "restore it, or mlops run",
            )
    table = read_artifact(run, known_artifacts["features"])
    held_out_scores = read_artifact(run, known_artifacts["held_out_scores"])
    quality = read_artifact(run, known_artifacts["metrics"])
    held_out_rows = select_held_out_rows(table, held_out_scores, config)
    return ReferenceData(
        feature_names=list(version.features),
        rows=held_out_rows,
        performance=get_reference_performance(
            quality,
            config,
            held_out_rows,
            version.threshold,
        ),
        outcomes=fit_outcome_model(held_out_rows, list(version.features), config),
        classes=version.classes,
        history=_profile_history(
            run / known_artifacts["features"].path, held_out_rows, version.features, config
        ),
        threshold=version.threshold,
    )


def _profile_history(
    file: Path,
    held_out_rows: pd.DataFrame,
    features: Iterable[str],
    config: ProjectConfig,
) -> DriftHistory | None:
    """Profile the features of all rows by day, in the bins of the held-out rows."""
    if config.time is None or config.weight is not None:
        return None
    bins = {}
    for name in features:
        if name in held_out_rows:
            kind = infer_statistical_kind(held_out_rows[name])
            if kind in COUNTED_KINDS:
                bins[name] = make_column_bins(held_out_rows[name], kind)
    return DriftHistory(bins, profile_parquet(file, bins, config.time, config.timezone))


def analyze_unlabeled_window(
    project: Project,
    reference: ReferenceData,
    predictions: pd.DataFrame,
    inputs: pd.DataFrame,
    rows_by_version: dict[str, int],
    sampling: pd.DataFrame,
) -> WindowMonitoring:
    """Analyze a window without labels: drift, its cost, and estimated performance.

    Parameters
    ----------
    predictions : DataFrame
        The predictions of one version in the window (`db.predictions`).
    inputs : DataFrame
        Their features, in the same order.
    rows_by_version : dict
        Predictions of all versions in the window.
    sampling : DataFrame
        Time, group and weight of the predictions, as far as the project has them.
    """
    config = project.config
    compared_features = [name for name in reference.feature_names if name in reference.rows]
    expected = replace_class_probabilities(
        reference.rows[[*compared_features, SCORE_COLUMN]], reference.classes
    )
    scores = to_score_array(predictions[SCORE_COLUMN])
    current = replace_class_probabilities(
        inputs.assign(**{SCORE_COLUMN: to_score_column(scores)}), reference.classes
    )
    design = get_sampling_design(sampling, config)
    weights = make_side_weights(get_row_weights(reference.rows, config), design.weights)
    drift_design = DriftDesign(make_side_days(reference.rows, sampling, config), weights)
    drift_table = _measure_drift_with_cost(
        reference,
        expected,
        current,
        config,
        drift_design,
    )
    estimates = estimate_functions(
        reference.outcomes,
        WindowRows(
            predictions[SCORE_COLUMN],
            inputs,
            design,
            reference.threshold,
        ),
        list_window_functions(config, reference.threshold),
    )
    estimated = estimates[config.headline_metric]
    verdicts = [
        check_schema(expected, current),
        alerts.check_feature_drift(drift_table, config),
        alerts.check_prediction_drift(drift_table, config),
    ]
    return WindowMonitoring(
        rows=len(predictions),
        flagged_share=_compute_flagged_share(predictions["decision"], design.weights, config),
        mean_score=_compute_mean(pd.Series(summarize_score(scores)), design.weights),
        estimated=estimated.interval,
        estimation_method=estimated.method.value,
        estimation_note=estimated.note,
        drift=drift_table,
        sketches=_compare_distributions(expected, current, weights),
        verdicts=Verdicts.from_verdicts(verdicts),
        rows_by_version=rows_by_version,
        joint_cost=_estimate_joint_cost(drift_table, estimated.interval, reference, inputs, config),
        estimated_cost=estimates[COST].interval if COST in estimates else None,
        reference=reference.performance,
    )


def _estimate_joint_cost(
    drift_table: Table,
    estimated: Interval,
    reference: ReferenceData,
    inputs: pd.DataFrame,
    config: ProjectConfig,
) -> JointCost | None:
    """Estimate what the joint drift costs, where a column or the estimate has changed."""
    has_changed = _has_estimate_dropped(estimated, reference, config)
    if len(drift_table.data):
        has_changed |= bool(drift_table.data["status"].isin(_COSTED_DRIFT_STATUSES).any())
    if not has_changed:
        return None
    return estimate_joint_cost(
        reference.rows,
        inputs,
        [name for name in reference.feature_names if name in reference.rows],
        config,
        get_row_weights(reference.rows, config),
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


def _compare_distributions(
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


def _measure_drift_with_cost(
    reference: ReferenceData,
    expected: pd.DataFrame,
    current: pd.DataFrame,
    config: ProjectConfig,
    design: DriftDesign,
) -> Table:
    """Measure drift by feature, and estimate what the drift of each costs."""
    table = drift.measure_drift(
        expected,
        current,
        expected.columns,
        config.monitor,
        config.seed,
        design,
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


def _compute_flagged_share(
    decisions: pd.Series,
    weights: np.ndarray | None,
    config: ProjectConfig,
) -> float | None:
    """Compute the share of rows predicted positive; None for a task without a positive class."""
    return _compute_mean(decisions, weights) if TASKS[config.task].has_threshold else None


def _compute_mean(values: pd.Series, weights: np.ndarray | None) -> float | None:
    """Compute a mean, weighted if there are weights; None if there are no values."""
    return compute_weighted_mean(values, weights) if values.notna().any() else None


def analyze_labeled_window(
    project: Project,
    reference: ReferenceData,
    predictions: pd.DataFrame,
    monitoring: WindowMonitoring,
    earlier_windows_below: int,
    sampling: pd.DataFrame,
) -> WindowPerformance:
    """Analyze the labels of a window: realized performance, its cost, and concept drift.

    Parameters
    ----------
    predictions : DataFrame
        The predictions of one version in the window, with their labels.
    monitoring : WindowMonitoring
        What `analyze_unlabeled_window` found.
    earlier_windows_below : int
        Consecutive windows before this one with realized below estimated performance.
    sampling : DataFrame
        Time, group and weight of the predictions, as far as the project has them.
    """
    config = project.config
    labeled_scores = sampling.assign(
        **{
            config.target: predictions["label"],
            SCORE_COLUMN: predictions[SCORE_COLUMN],
        }
    )
    realized = measure_labeled_rows(labeled_scores, config, reference.performance, config.seed)
    is_below_estimate = _is_below_estimate(realized, monitoring.estimated, config)
    windows_below = earlier_windows_below + 1 if is_below_estimate else 0
    verdicts = [
        *monitoring.verdicts,
        alerts.check_realized_performance(realized, config),
        _check_concept_drift(windows_below, realized, monitoring.estimated, config),
    ]
    is_labeled = predictions["label"].notna()
    labeled_predictions = predictions[is_labeled]
    weights = get_row_weights(sampling[is_labeled], config)
    cost, saved = _compute_window_cost(labeled_predictions, config, weights)
    return WindowPerformance(
        labeled_rows=len(labeled_predictions),
        realized=realized,
        cost=cost,
        saved=saved,
        is_below_estimate=is_below_estimate,
        verdicts=Verdicts.from_verdicts(verdicts),
    )


def _compute_window_cost(
    predictions: pd.DataFrame,
    config: ProjectConfig,
    weights: np.ndarray | None = None,
) -> tuple[float | None, float | None]:
    """Compute the cost of errors per row, and the total saving against the cheaper blind rule.

    The blind rules flag every row or none. Rows count with their weights.
    """
    has_decisions = TASKS[config.task].has_threshold and predictions["decision"].notna().all()
    if predictions.empty or not has_decisions:
        return None, None
    false_alarm_cost = config.cost.false_alarm
    miss_cost = config.cost.miss
    labels = predictions["label"].to_numpy(float)
    is_flagged = predictions["decision"].to_numpy(float)
    row_costs = false_alarm_cost * is_flagged * (1 - labels) + miss_cost * (1 - is_flagged) * labels
    if weights is None:
        weights = np.ones(len(labels))
    cost_of_flagging_all = false_alarm_cost * float((weights * (1 - labels)).sum())
    cost_of_flagging_none = miss_cost * float((weights * labels).sum())
    total_cost = float((weights * row_costs).sum())
    saved = min(cost_of_flagging_all, cost_of_flagging_none) - total_cost
    return total_cost / float(weights.sum()), saved


def _is_below_estimate(
    realized: Table,
    estimated: Interval,
    config: ProjectConfig,
) -> bool:
    """Whether the realized performance is worse than all of the interval of the estimate.

    That interval contains the realized value of 95% of windows unless the concept has drifted.
    """
    metric = METRICS[config.headline_metric]
    measured = realized.to_intervals().get(config.headline_metric, Interval(None))
    worst_value = estimated.low if metric.greater_is_better else estimated.high
    if measured.value is None or worst_value is None:
        return False
    return metric.compute_gain(measured.value, worst_value) < 0


def _check_concept_drift(
    windows_below: int,
    realized: Table,
    estimated: Interval,
    config: ProjectConfig,
) -> Verdict:
    """Check for concept drift: realized stays below estimated performance.

    Parameters
    ----------
    windows_below : int
        Consecutive windows with realized below estimated performance, up to this one.
    """
    min_windows = config.watch.min_drifted_windows
    verdict = Verdict(
        check=CONCEPT_DRIFT_CHECK,
        title="No concept drift",
        outcome=CheckOutcome.NOT_APPLICABLE,
        severity=CheckSeverity.WARNS,
        sentence="There is no estimate to compare the labels with.",
    )
    if estimated.value is None or realized.data.empty:
        return verdict
    verdict = replace(verdict, limit=f"not below the estimate in {min_windows} windows in a row")
    realized_value = realized.to_intervals()[config.headline_metric].value
    if realized_value is None:
        return replace(
            verdict,
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=realized.sentence,
            hint="wait for labels",
        )
    observed = (
        f"{METRICS[config.headline_metric].title} realized {format_number(realized_value)}, "
        f"estimated {estimated}"
    )
    if windows_below >= max(min_windows, 1):
        return replace(
            verdict,
            outcome=CheckOutcome.FAILED,
            sentence=f"{observed}: below for {windows_below} windows in a row, which is concept "
            "drift.",
            observed=observed,
            hint="retrain on recent rows",
        )
    return replace(
        verdict,
        outcome=CheckOutcome.PASSED,
        sentence=f"{observed}.",
        observed=observed,
    )
