"""The retraining rules of this package: stops, reasons and guards, each in order of precedence.

A rule returns a sentence if it applies, else an empty text; ``policy`` combines them.
"""

from __future__ import annotations

from datetime import timedelta

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.stages.retrain.policy import (
    RECOVERY_REASON,
    SUPERSEDED_RULE,
    RetrainingEvidence,
    RuleRole,
    register_retraining_rule,
)
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.monitoring_tables import (
    CONCEPT_DRIFT_CHECK,
    CONFIRMED_DRIFT_CHECK,
    REALIZED_PERFORMANCE_CHECK,
    DriftStatus,
    upgrade_monitoring_table,
)


@register_retraining_rule("schema", RuleRole.STOP)
def stop_on_broken_schema(evidence: RetrainingEvidence) -> str:
    """Stop if columns are missing or changed their type: the next model would learn the fault."""
    return evidence.get_failure_sentence("schema")


@register_retraining_rule("missing", RuleRole.STOP, "monitor.max_missing_increase")
def stop_on_missing_values(evidence: RetrainingEvidence) -> str:
    """Stop if values of a column went missing: a fault of the source, not a change of the world."""
    drift = upgrade_monitoring_table(evidence.drift).data
    alerts = drift[drift["status"] == DriftStatus.ALERT]
    increase = alerts["missing_current"].astype(float) - alerts["missing_reference"].astype(float)
    max_increase = evidence.config.monitor.max_missing_increase
    columns = alerts.loc[increase > max_increase, "column"].tolist()
    if not columns:
        return ""
    return f"Values of {', '.join(columns)} went missing; fix the source first."


@register_retraining_rule("performance_drop", RuleRole.REASON, "retrain.on_performance_drop")
def retrain_on_performance_drop(evidence: RetrainingEvidence) -> str:
    """Retrain if the labels prove that performance dropped, in more than one window alone."""
    is_on = evidence.config.retrain.on_performance_drop
    if not evidence.counts_as_reason("performance_drop", is_on) or not evidence.is_drop_confirmed:
        return ""
    return evidence.get_failure_sentence(REALIZED_PERFORMANCE_CHECK)


@register_retraining_rule("drift", RuleRole.REASON, "retrain.on_drift")
def retrain_on_drift(evidence: RetrainingEvidence) -> str:
    """Retrain on drift alone, if the project wants to."""
    if not evidence.counts_as_reason("drift", evidence.config.retrain.on_drift):
        return ""
    return evidence.get_failure_sentence("drift", "score_drift")


@register_retraining_rule("concept_drift", RuleRole.REASON, "retrain.on_concept_drift")
def retrain_on_concept_drift(evidence: RetrainingEvidence) -> str:
    """Retrain on concept drift: realized performance stays below estimated performance.

    If neither the daily losses nor the window before show a drop, the estimate may be at fault.
    """
    is_on = evidence.config.retrain.on_concept_drift
    if not evidence.counts_as_reason("concept_drift", is_on) or not evidence.is_drop_confirmed:
        return ""
    return evidence.get_failure_sentence(CONCEPT_DRIFT_CHECK)


@register_retraining_rule("confirmed_drift", RuleRole.REASON, "retrain.on_confirmed_drift")
def retrain_on_confirmed_drift(evidence: RetrainingEvidence) -> str:
    """Retrain on drift that is estimated to cost performance, if the labels prove the loss.

    One window is enough: drift, its estimated cost and the labels agree.
    """
    if not evidence.counts_as_reason("confirmed_drift", evidence.config.retrain.on_confirmed_drift):
        return ""
    return evidence.get_failure_sentence(CONFIRMED_DRIFT_CHECK)


@register_retraining_rule(RECOVERY_REASON, RuleRole.REASON, "retrain.on_performance_drop")
def retrain_after_incomplete_recovery(evidence: RetrainingEvidence) -> str:
    """Retrain if the champion was made during a change and stays below an earlier version."""
    is_on = evidence.config.retrain.on_performance_drop
    if not evidence.counts_as_reason(RECOVERY_REASON, is_on):
        return ""
    return evidence.recovery_reason


@register_retraining_rule("drift_cost", RuleRole.REASON, "retrain.max_drift_cost")
def retrain_on_costly_drift(evidence: RetrainingEvidence) -> str:
    """Retrain if the drift of a column is estimated to cost more than the project accepts."""
    limit = evidence.config.retrain.max_drift_cost
    data = evidence.drift.data
    if limit is None or "cost" not in data:
        return ""
    costly = data[data["cost"].astype(float) > limit]
    if costly.empty:
        return ""
    worst = costly.sort_values("cost", ascending=False, kind="stable").iloc[0]
    title = METRICS[evidence.config.headline_metric].title
    return (
        f"The drift of {worst['column']} costs about {format_number(float(worst['cost']))} of "
        f"{title}; the limit is {format_number(limit)}."
    )


@register_retraining_rule("age", RuleRole.REASON, "retrain.max_age")
def retrain_on_age(evidence: RetrainingEvidence) -> str:
    """Retrain if the model is older than the project allows."""
    max_age = evidence.config.retrain.max_age
    age = evidence.model_age
    if max_age is None or age is None or age <= max_age:
        return ""
    return f"The model is {age.days} days old; the limit is {format_duration(max_age)}."


@register_retraining_rule("data_volume", RuleRole.REASON, "retrain.max_new_labels")
def retrain_on_data_volume(evidence: RetrainingEvidence) -> str:
    """Retrain if many rows were labeled since the model's cut-off."""
    limit = evidence.config.retrain.max_new_labels
    if limit is None or evidence.labeled_rows < limit:
        return ""
    return f"{evidence.labeled_rows:,} rows were labeled since the model's cut-off."


@register_retraining_rule(SUPERSEDED_RULE, RuleRole.GUARD)
def wait_if_superseded(evidence: RetrainingEvidence) -> str:
    """Leave the decision to a window that is later, or of the present champion."""
    return evidence.superseded_reason


@register_retraining_rule("labels", RuleRole.GUARD, "retrain.min_labels")
def wait_for_labels(evidence: RetrainingEvidence) -> str:
    """Wait while too few rows were labeled since the model's cut-off."""
    min_labels = evidence.config.retrain.min_labels
    if evidence.labeled_rows >= min_labels:
        return ""
    return (
        f"Only {evidence.labeled_rows:,} rows were labeled since the model's cut-off; "
        f"{min_labels:,} are needed."
    )


@register_retraining_rule("faults", RuleRole.GUARD, "retrain.quarantine")
def wait_for_rows_without_faults(evidence: RetrainingEvidence) -> str:
    """Wait while the window that shows the reason has faults: they explain it."""
    return evidence.fault_reason


@register_retraining_rule("change", RuleRole.GUARD)
def wait_for_rows_after_change(evidence: RetrainingEvidence) -> str:
    """Wait while too few rows follow a suspected change to train on some and evaluate on others."""
    return evidence.change_reason


@register_retraining_rule("quarantine", RuleRole.GUARD, "contract.max_quarantined_share")
def wait_for_accepted_rows(evidence: RetrainingEvidence) -> str:
    """Wait while the data contract rejects too many of the newest rows."""
    limit = evidence.config.contract.max_quarantined_share
    if evidence.rejected_share <= limit:
        return ""
    return (
        f"The data contract rejects {format_percent(evidence.rejected_share)} of the newest rows; "
        f"the limit is {format_percent(limit)}."
    )


@register_retraining_rule("pending", RuleRole.GUARD, "approval")
def wait_for_pending_version(evidence: RetrainingEvidence) -> str:
    """Wait while a new version waits for an approval."""
    return evidence.pending_reason


@register_retraining_rule("cooldown", RuleRole.GUARD, "retrain.cooldown")
def wait_for_cooldown(evidence: RetrainingEvidence) -> str:
    """Wait until the last retraining has had time to show its effect.

    A proven performance drop that grows does not wait: the last retraining is out of date already,
    or made no new version.
    """
    cooldown = evidence.config.retrain.cooldown
    elapsed = evidence.time_since_last
    if elapsed is None or elapsed >= cooldown or evidence.is_drop_growing:
        return ""
    days = elapsed / timedelta(days=1)
    return (
        f"The last retraining was {days:g} days ago; the cooldown is {format_duration(cooldown)}."
    )


@register_retraining_rule("budget", RuleRole.GUARD, "retrain.max_retrainings")
def wait_for_budget(evidence: RetrainingEvidence) -> str:
    """Wait while the budget of retrainings is used up."""
    policy = evidence.config.retrain
    if policy.max_retrainings is None or evidence.recent_retrainings < policy.max_retrainings:
        return ""
    return (
        f"{evidence.recent_retrainings} retrainings were made within "
        f"{format_duration(policy.budget_period)}; the budget is {policy.max_retrainings}."
    )
