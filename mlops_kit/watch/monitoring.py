"""Monitoring the windows of the watch: incidents and retraining decisions.

A window is monitored once when it has ended, and its labels are evaluated once when they are due.
Each of the two is one transaction.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import list_key_columns
from mlops_kit.db import predictions
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import (
    RETRAINING_DUE,
    RetrainingRecord,
    WindowRecord,
)
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.registry import scoring
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.monitor.incidents import IncidentSignal
from mlops_kit.stages.monitor.stored_profiles import add_window_profile
from mlops_kit.stages.retrain.blocked_retraining import (
    MAX_BLOCKED_WINDOWS,
    describe_blocked_retraining,
)
from mlops_kit.stages.retrain.policy import (
    POLICY_ACTOR,
    RetrainingDecision,
    RetrainingEvidence,
    decide_retraining,
)
from mlops_kit.stats.monitoring_tables import (
    CONCEPT_DRIFT_CHECK,
    CONFIRMED_DRIFT_CHECK,
    REALIZED_PERFORMANCE_CHECK,
)
from mlops_kit.watch.alert_queue import update_incidents
from mlops_kit.watch.change_detection import encode_version_labels, find_suspected_change
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.incomplete_recovery import find_incomplete_recovery
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance, is_drop_growing
from mlops_kit.watch.reference_data import ReferenceData
from mlops_kit.watch.retraining import (
    count_new_labels,
    count_recent_retrainings,
    get_last_retraining_time,
    get_pending_reason,
)
from mlops_kit.watch.row_quarantine import check_window_for_faults
from mlops_kit.watch.signals import (
    BLOCKED_SIGNAL,
    SCHEMA_SIGNAL,
    SignalTime,
    WindowEvidence,
    detect_registered_signals,
    list_signal_names,
)
from mlops_kit.watch.windows import (
    analyze_labeled_window,
    analyze_unlabeled_window,
    profile_window,
)

_PERFORMANCE_CHECKS = (
    REALIZED_PERFORMANCE_CHECK,
    CONCEPT_DRIFT_CHECK,
    CONFIRMED_DRIFT_CHECK,
)


class WindowPredictions(NamedTuple):
    """The predictions of a window: those of one version, and how many each version made.

    ``sampling`` has the time, group and weight of the rows, as far as the project has them.
    """

    rows: pd.DataFrame
    version: str
    rows_by_version: dict[str, int]
    sampling: pd.DataFrame


class _StoredEvaluation(NamedTuple):
    """What the evaluation of a window's labels stores in one transaction."""

    performance: WindowPerformance
    decision: RetrainingDecision
    signals: list[IncidentSignal]


def select_window_predictions(
    context: WatchContext, start: datetime, end: datetime, version: str = ""
) -> WindowPredictions:
    """Select a window's predictions of one version, with their labels.

    Without a named version it is the last one that scored enough rows to be monitored, else the
    one with the most rows, else the champion.
    """
    all_rows = predictions.load_labeled_predictions(context.project, start, end)
    rows_by_version: dict[str, int] = {}
    for name, count in all_rows["version"].value_counts().items():
        rows_by_version[str(name)] = int(count)
    if not version:
        version = _choose_version(context, all_rows, rows_by_version)
    rows = all_rows[all_rows["version"] == version].reset_index(drop=True)
    rows = encode_version_labels(context.project, rows, context.get_reference(version).classes)
    sampling = _look_up_sampling(context, rows, start, end)
    return WindowPredictions(rows, version, rows_by_version, sampling)


def _look_up_sampling(
    context: WatchContext, rows: pd.DataFrame, start: datetime, end: datetime
) -> pd.DataFrame:
    """Look up the group and the weight of logged predictions in the source, by the rows' keys.

    The log has neither, because rows are scored without them. A row that the source does not have
    has no value.
    """
    config = context.config
    sampling = pd.DataFrame({config.time: rows["moment"]})
    columns = [name for name in (config.validation.group, config.weight) if name]
    if not columns:
        return sampling
    source_rows = context.history.read_until(end, since=start)
    keys = source_rows[list_key_columns(context.project)].itertuples(index=False, name=None)
    source_rows.index = pd.Index([predictions.encode_row_key(key) for key in keys], dtype=object)
    source_rows = source_rows[~source_rows.index.duplicated()]
    for column in columns:
        sampling[column] = rows["key"].map(source_rows[column])
    return sampling


def decode_features(rows: pd.DataFrame, reference: ReferenceData) -> pd.DataFrame:
    """Decode the logged features; timestamps, which are logged as text, become timestamps again."""
    features = predictions.decode_feature_values(rows, reference.feature_names)
    for name in features:
        if name in reference.rows and pd.api.types.is_datetime64_any_dtype(reference.rows[name]):
            features[name] = pd.to_datetime(features[name], utc=True, format="ISO8601")
    return features


def _choose_version(
    context: WatchContext, all_rows: pd.DataFrame, rows_by_version: dict[str, int]
) -> str:
    for name in all_rows["version"].iloc[::-1].unique():
        if rows_by_version[name] >= context.config.monitor.min_rows:
            return str(name)
    for name in rows_by_version:
        return name
    return context.get_champion().version.version


def monitor_window(context: WatchContext, start: datetime, end: datetime, as_of: datetime) -> None:
    """Monitor a window without labels, and open incidents for what persists."""
    window_predictions = select_window_predictions(context, start, end)
    rows = window_predictions.rows
    reference = context.get_reference(window_predictions.version)
    feature_values = decode_features(rows, reference)
    analyzed = analyze_unlabeled_window(
        context.project,
        reference,
        rows,
        feature_values,
        window_predictions.rows_by_version,
        window_predictions.sampling,
    )
    monitoring_json = _add_contract_check(context, analyzed, start, end, as_of).to_json()
    # Signals rest on what is stored, so that a repeated pass comes to the same ones.
    monitoring = WindowMonitoring.from_json(monitoring_json)
    evidence = WindowEvidence(
        config=context.config,
        start=start,
        end=end,
        version=window_predictions.version,
        predictions=rows,
        features=feature_values,
        monitoring=monitoring,
    )
    signals = _detect_signals(context, evidence, reference)
    profile = profile_window(
        reference, rows, feature_values, window_predictions.sampling, context.config
    )
    with open_transaction(context.project) as transaction:
        window = WindowRecord(
            model=context.config.name,
            start=format_timestamp(start),
            end=format_timestamp(end),
            version=window_predictions.version,
            monitored_at=format_timestamp(as_of),
            monitoring_json=monitoring_json,
        )
        transaction.add(window)
        if profile is not None and reference.profile is not None:
            add_window_profile(transaction, window, profile, reference.profile)
        incident_lines = update_incidents(
            transaction,
            context.config,
            {incidents.DRIFT_SIGNAL, SCHEMA_SIGNAL, *list_signal_names(SignalTime.WINDOW_ENDED)},
            signals,
            as_of,
            f"not observed {_format_window(context, start, end)}",
        )
    summary = (
        f"{context.format_time(start)} to {context.format_time(end)} monitored: "
        f"{format_number(len(rows))} rows of version {window_predictions.version}, "
        f"estimated {format_number(monitoring.estimated.value)}"
    )
    if monitoring.contract_sentence:
        summary += f". {monitoring.contract_sentence}"
    context.report_lines(as_of, [summary, *incident_lines])


def _add_contract_check(
    context: WatchContext,
    monitoring: WindowMonitoring,
    start: datetime,
    end: datetime,
    as_of: datetime,
) -> WindowMonitoring:
    """Add what the data contract rejects in the rows of the window."""
    known_rows = context.history.read_until(as_of, start)
    rows = known_rows[known_rows[context.config.time] < end].reset_index(drop=True)
    if rows.empty:
        return monitoring
    check = scoring.check_rows_to_score(context.project, rows, known_rows)
    return replace(
        monitoring,
        rejected_rows=check.rejected_count,
        contract_sentence=check.table.sentence if check.violations else "",
    )


def _detect_signals(
    context: WatchContext, evidence: WindowEvidence, reference: ReferenceData
) -> list[IncidentSignal]:
    """Detect what should open an incident before the labels of a window are due."""
    monitoring = evidence.monitoring
    earlier_texts = [window.monitoring_json for window in context.list_monitored_windows()]
    recent_windows = []
    for text in earlier_texts[-incidents.RECENT_WINDOWS + 1 :]:
        recent_windows.append(WindowMonitoring.from_json(text))
    recent_windows.append(monitoring)
    schema_verdicts = [verdict for verdict in monitoring.verdicts if verdict.check == "schema"]
    earlier_rows = [WindowMonitoring.read_row_count(text) for text in earlier_texts]
    evidence = evidence._replace(earlier_row_counts=earlier_rows)
    return [
        *incidents.detect_costly_drift(recent_windows, reference.performance, context.config),
        *incidents.detect_proven_failures(schema_verdicts),
        *detect_registered_signals(evidence, SignalTime.WINDOW_ENDED),
    ]


def _format_window(context: WatchContext, start: datetime, end: datetime) -> str:
    return f"from {context.format_time(start)} to {context.format_time(end)}"


def evaluate_due_labels(context: WatchContext, as_of: datetime) -> None:
    """Evaluate the labels of the windows whose labels are due.

    Only the last of several windows can decide on a retraining.
    """
    due_windows = []
    for window in context.list_monitored_windows():
        labels_due_at = datetime.fromisoformat(window.end) + context.config.label_delay
        if window.realized_json is None and labels_due_at <= as_of:
            due_windows.append(window)
    for window in due_windows:
        later_window_reason = ""
        if window is not due_windows[-1]:
            later_window_reason = "A later window is evaluated in the same pass, and decides."
        _evaluate_labels(context, window, as_of, later_window_reason)


def _evaluate_labels(
    context: WatchContext, window: WindowRecord, as_of: datetime, later_window_reason: str
) -> None:
    """Evaluate the labels of a window: realized performance, incidents, retraining decision."""
    start = datetime.fromisoformat(window.start)
    end = datetime.fromisoformat(window.end)
    window_predictions = select_window_predictions(context, start, end, window.version)
    rows = window_predictions.rows
    monitoring = WindowMonitoring.from_json(window.monitoring_json)
    reference = context.get_reference(window.version)
    measured = analyze_labeled_window(
        context.project,
        reference,
        rows,
        monitoring,
        _count_earlier_windows_below(context, window),
        window_predictions.sampling,
    )
    # The decision rests on what is stored as well.
    performance = WindowPerformance.from_json(measured.to_json())
    decision = _decide_retraining(
        context, window, monitoring, performance, as_of, later_window_reason
    )
    evidence = WindowEvidence(
        config=context.config,
        start=start,
        end=end,
        version=window.version,
        predictions=rows,
        features=decode_features(rows, reference),
        monitoring=monitoring,
        performance=performance,
    )
    signals = [
        *incidents.detect_proven_failures(
            verdict for verdict in performance.verdicts if verdict.check != "schema"
        ),
        *detect_registered_signals(evidence, SignalTime.LABELS_DUE),
        *_detect_blocked_retraining(context, window, decision),
    ]
    incident_lines = _store_performance(
        context, window, as_of, _StoredEvaluation(measured, decision, signals)
    )
    summary = (
        f"{context.format_time(start)} to {context.format_time(end)} evaluated: "
        f"{performance.realized.sentence}"
    )
    context.report_lines(
        as_of, [summary, *incident_lines, f"retraining decision: {decision.reason}"]
    )


def _count_earlier_windows_below(context: WatchContext, window: WindowRecord) -> int:
    """Count the consecutive earlier windows of the same version that are below the estimate."""
    count = 0
    for earlier in reversed(context.list_monitored_windows()):
        is_same_version = earlier.version == window.version
        if earlier.realized_json is None or earlier.start >= window.start or not is_same_version:
            continue
        if not WindowPerformance.from_json(earlier.realized_json).is_below_estimate:
            break
        count += 1
    return count


def _decide_retraining(
    context: WatchContext,
    window: WindowRecord,
    monitoring: WindowMonitoring,
    performance: WindowPerformance,
    as_of: datetime,
    later_window_reason: str,
) -> RetrainingDecision:
    champion = context.get_champion().version
    last_retraining = get_last_retraining_time(context)
    length = context.config.watch.window / timedelta(days=1)
    scored_rows = sum(monitoring.rows_by_version.values())
    rows = monitoring.rejected_rows + scored_rows
    superseded_reason = later_window_reason
    if not superseded_reason and window.version != champion.version:
        superseded_reason = (
            f"The window is of version {window.version}, which version {champion.version} has "
            "replaced."
        )
    change = None
    fault_reason = ""
    if any(performance.has_failed(check) for check in _PERFORMANCE_CHECKS):
        change = find_suspected_change(context, as_of)
        fault_reason = check_window_for_faults(context, window, as_of)
    earlier = _load_earlier_performance(context, window)
    has_earlier_drop = earlier is not None and earlier.has_failed(REALIZED_PERFORMANCE_CHECK)
    is_drop_confirmed = change is not None or has_earlier_drop
    recovery_reason = ""
    if not superseded_reason:
        recovery_reason = find_incomplete_recovery(context, performance, as_of)
    return decide_retraining(
        RetrainingEvidence(
            drift=monitoring.drift,
            realized=performance.realized,
            alerts=performance.verdicts,
            config=context.config,
            labeled_rows=count_new_labels(context),
            model_age=as_of - datetime.fromisoformat(champion.as_of),
            time_since_last=as_of - last_retraining if last_retraining else None,
            pending_reason=get_pending_reason(context),
            superseded_reason=superseded_reason,
            rejected_share=monitoring.rejected_rows / rows if rows else 0.0,
            recent_retrainings=count_recent_retrainings(context, as_of),
            fault_reason=fault_reason,
            change_reason=change.describe_missing_rows() if change else "",
            decisions_per_day=scored_rows / length,
            is_drop_confirmed=is_drop_confirmed,
            is_drop_growing=is_drop_confirmed
            and is_drop_growing(performance, earlier, context.config.headline_metric),
            recovery_reason=recovery_reason,
        )
    )


def _load_earlier_performance(
    context: WatchContext, window: WindowRecord
) -> WindowPerformance | None:
    """Load what the labels of the window before show of the same version; None if there is none."""
    for earlier in reversed(context.list_monitored_windows()):
        is_same_version = earlier.version == window.version
        if earlier.realized_json is not None and earlier.start < window.start and is_same_version:
            return WindowPerformance.from_json(earlier.realized_json)
    return None


def _detect_blocked_retraining(
    context: WatchContext, window: WindowRecord, decision: RetrainingDecision
) -> list[IncidentSignal]:
    """Detect that the same guard has blocked a proven reason in several windows in a row."""
    decisions = [decision]
    for earlier in reversed(context.list_monitored_windows()):
        if earlier.realized_json is None or earlier.start >= window.start:
            continue
        stored = WindowPerformance.from_json(earlier.realized_json).decision
        if len(decisions) == MAX_BLOCKED_WINDOWS or stored is None:
            break
        decisions.append(stored)
    sentence = describe_blocked_retraining(decisions)
    if not sentence:
        return []
    return [
        IncidentSignal(
            BLOCKED_SIGNAL,
            incidents.IncidentSeverity.WARNING,
            "A retraining is blocked",
            sentence,
        )
    ]


def _store_performance(
    context: WatchContext,
    window: WindowRecord,
    as_of: datetime,
    evaluation: _StoredEvaluation,
) -> list[str]:
    """Store an evaluation, its incidents and its decision; return a line per incident."""
    decision = evaluation.decision
    labels_due_at = datetime.fromisoformat(window.end) + context.config.label_delay
    performance_signals = [
        signal for signal in evaluation.signals if signal.name in incidents.PERFORMANCE_SIGNALS
    ]
    other_signals = [
        signal for signal in evaluation.signals if signal.name not in incidents.PERFORMANCE_SIGNALS
    ]
    recovery = ""
    if window.version == context.get_champion().version.version:
        recovery = incidents.describe_recovery(evaluation.performance.verdicts)
    period = _format_window(
        context, datetime.fromisoformat(window.start), datetime.fromisoformat(window.end)
    )
    statement = (
        sa.update(WindowRecord)
        .where(WindowRecord.id == window.id, WindowRecord.realized_json.is_(None))
        .values(
            realized_at=format_timestamp(as_of),
            realized_json=evaluation.performance.with_decision(decision).to_json(),
        )
    )
    with open_transaction(context.project) as transaction:
        transaction.execute(statement)
        incident_lines = update_incidents(
            transaction,
            context.config,
            {BLOCKED_SIGNAL, *list_signal_names(SignalTime.LABELS_DUE)},
            other_signals,
            as_of,
            f"not observed {period}",
        )
        incident_lines += update_incidents(
            transaction,
            context.config,
            set(incidents.PERFORMANCE_SIGNALS) if recovery else set(),
            performance_signals,
            as_of,
            f"performance is back at its reference {period}, version {window.version}: {recovery}",
        )
        transaction.add(
            RetrainingRecord(
                model=context.config.name,
                as_of=format_timestamp(labels_due_at),
                action=decision.action.value,
                reason=decision.reason,
                actor=POLICY_ACTOR,
                decided_at=current_timestamp(),
                status=RETRAINING_DUE if decision.should_retrain else "",
            )
        )
    return incident_lines
