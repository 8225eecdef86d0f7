"""The windows of the watch: what is known of each before and after its labels have arrived.

A window is analyzed once when it has ended, and once more when its labels are due.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from mlops_kit.data.columns import get_row_days
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.artifacts import read_artifact
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_artifacts
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.monitor import alerts
from mlops_kit.stages.monitor.column_bins import COUNTED_KINDS, make_column_bins
from mlops_kit.stages.monitor.confirmed_drift import check_confirmed_drift
from mlops_kit.stages.monitor.drift_sides import (
    SCORE_COLUMN,
    DriftDesign,
    make_side_days,
    replace_class_probabilities,
)
from mlops_kit.stages.monitor.drift_tests import make_side_weights
from mlops_kit.stages.monitor.joint_checks import check_joint_drift, check_slice_drift
from mlops_kit.stages.monitor.performance_estimate import (
    COST,
    WindowRows,
    estimate_functions,
    fit_outcome_model,
    list_window_functions,
)
from mlops_kit.stages.monitor.profile_records import ReferenceProfile
from mlops_kit.stages.monitor.profile_scan import profile_parquet
from mlops_kit.stages.monitor.profiles import DriftProfile, profile_rows
from mlops_kit.stages.monitor.realized import measure_labeled_rows
from mlops_kit.stages.monitor.reference_performance import (
    get_reference_performance,
    select_held_out_rows,
)
from mlops_kit.stages.monitor.schema import check_schema
from mlops_kit.stages.monitor.stored_profiles import load_reference_profile
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.monitoring_tables import CONCEPT_DRIFT_CHECK
from mlops_kit.stats.weights import compute_weighted_mean
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from mlops_kit.watch.reference_data import ReferenceData
from mlops_kit.watch.window_drift import (
    WindowDrift,
    compare_window_distributions,
    estimate_window_joint_cost,
    measure_window_drift,
)


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
        profile=_profile_reference(
            project,
            version,
            run / known_artifacts["features"].path,
            held_out_rows,
        ),
        classes=version.classes,
        threshold=version.threshold,
    )


def _profile_reference(
    project: Project,
    version: ModelVersion,
    file: Path,
    held_out_rows: pd.DataFrame,
) -> ReferenceProfile:
    """Load the stored profile of a version's reference, or make it from its rows."""
    stored = load_reference_profile(project, version.version)
    if stored is not None:
        return stored
    config = project.config
    features = [name for name in version.features if name in held_out_rows]
    compared = replace_class_probabilities(
        held_out_rows[[*features, SCORE_COLUMN]], version.classes
    )
    bins = {}
    for name in map(str, compared.columns):
        kind = infer_statistical_kind(compared[name])
        if kind in COUNTED_KINDS:
            bins[name] = make_column_bins(compared[name], kind)
    history = None
    if config.time is not None and config.weight is None:
        feature_bins = {name: bins[name] for name in features if name in bins}
        history = profile_parquet(file, feature_bins, config.time, config.timezone)
    days = get_row_days(held_out_rows, config) if config.time in held_out_rows else None
    weights = get_row_weights(held_out_rows, config)
    return ReferenceProfile(bins, profile_rows(compared, bins, days, weights), history)


def profile_window(
    reference: ReferenceData,
    predictions: pd.DataFrame,
    inputs: pd.DataFrame,
    sampling: pd.DataFrame,
    config: ProjectConfig,
) -> DriftProfile | None:
    """Profile the predictions of a window by day, in the bins of its version's reference.

    None if the reference has no bins.

    Parameters
    ----------
    reference : ReferenceData
        What the version was evaluated on.
    predictions, inputs, sampling : DataFrame
        As of ``analyze_unlabeled_window``.
    config : ProjectConfig
        The project's settings.
    """
    if reference.profile is None:
        return None
    bins = reference.profile.bins
    current = _make_current_rows(reference, predictions, inputs)
    current = current.reindex(columns=list(bins))
    return profile_rows(
        current,
        bins,
        get_row_days(sampling, config),
        get_row_weights(sampling, config),
    )


def _make_current_rows(
    reference: ReferenceData,
    predictions: pd.DataFrame,
    inputs: pd.DataFrame,
) -> pd.DataFrame:
    """Combine the features of a window with its scores, or its predicted classes."""
    scores = to_score_array(predictions[SCORE_COLUMN])
    with_scores = inputs.assign(**{SCORE_COLUMN: to_score_column(scores)})
    return replace_class_probabilities(with_scores, reference.classes)


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
    current = _make_current_rows(reference, predictions, inputs)
    design = get_sampling_design(sampling, config)
    weights = make_side_weights(get_row_weights(reference.rows, config), design.weights)
    drift_design = DriftDesign(make_side_days(reference.rows, sampling, config), weights)
    measured = measure_window_drift(
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
            measured.domain,
        ),
        list_window_functions(config, reference.threshold),
    )
    estimated = estimates[config.headline_metric]
    return WindowMonitoring(
        rows=len(predictions),
        flagged_share=_compute_flagged_share(predictions["decision"], design.weights, config),
        mean_score=_compute_mean(pd.Series(summarize_score(scores)), design.weights),
        estimated=estimated.interval,
        estimation_method=estimated.method.value,
        estimation_note=estimated.note,
        drift=measured.table,
        sketches=compare_window_distributions(expected, current, weights),
        verdicts=_make_drift_verdicts(expected, current, measured, config),
        rows_by_version=rows_by_version,
        joint_cost=estimate_window_joint_cost(measured, estimated.interval, reference, config),
        joint_drift=measured.joint,
        slices=measured.slices,
        estimated_cost=estimates[COST].interval if COST in estimates else None,
        reference=reference.performance,
    )


def _make_drift_verdicts(
    expected: pd.DataFrame,
    current: pd.DataFrame,
    measured: WindowDrift,
    config: ProjectConfig,
) -> Verdicts:
    """Make the verdicts of a window without labels, the worst first."""
    verdicts = [
        check_schema(expected, current),
        alerts.check_feature_drift(measured.table, config),
        alerts.check_prediction_drift(measured.table, config),
        check_joint_drift(measured.joint, config),
    ]
    if measured.slices is not None:
        verdicts.append(check_slice_drift(measured.slices))
    return Verdicts.from_verdicts(verdicts)


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
        check_confirmed_drift(monitoring, realized, reference.performance, config),
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
