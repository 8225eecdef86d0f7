"""Checks of what all features show together, and of the slices; they warn at most."""

from __future__ import annotations

from functools import partial

from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Table, Verdict
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.joint_drift import JointDrift
from mlops_kit.stats.monitoring_tables import DriftReason, DriftStatus

_MAX_LISTED_SLICES = 3


def check_joint_drift(joint: JointDrift, config: ProjectConfig) -> Verdict:
    """Check whether all features together drifted; warns at most."""
    make_verdict = partial(
        Verdict,
        "joint_drift",
        "Features depend on one another as at the review",
        severity=CheckSeverity.WARNS,
        sentence=joint.sentence,
    )
    if joint.status == DriftStatus.NOT_TESTED:
        return make_verdict(outcome=CheckOutcome.NOT_APPLICABLE)
    make_verdict = partial(
        make_verdict,
        observed=f"ROC-AUC {format_number(joint.domain_auc)} of window against reference",
        limit=f"effect below {config.monitor.alert_effect:g}, or not significant",
        diagnostics={"features": list(joint.features), "adjusted_p": joint.adjusted_p},
    )
    if joint.status == DriftStatus.ALERT:
        return make_verdict(
            outcome=CheckOutcome.FAILED,
            hint="look at the named columns together; drift alone is no reason to retrain",
        )
    return make_verdict(outcome=CheckOutcome.PASSED)


def check_slice_drift(slices: Table) -> Verdict:
    """Check whether a slice has become a larger or smaller part of the rows; warns at most."""
    make_verdict = partial(
        Verdict,
        "slice_drift",
        "Slices have the share of the rows that they had at the review",
        severity=CheckSeverity.WARNS,
        sentence=slices.sentence,
    )
    data = slices.data
    if data.empty:
        return make_verdict(outcome=CheckOutcome.NOT_APPLICABLE)
    drifted = data.loc[data["status"] == DriftStatus.ALERT, "slice"].tolist()
    make_verdict = partial(make_verdict, observed=f"{len(drifted)} of {len(data)} slices")
    if drifted:
        return make_verdict(
            outcome=CheckOutcome.FAILED,
            hint=f"find out who the rows are about now: {', '.join(drifted[:_MAX_LISTED_SLICES])}",
            diagnostics={"slices": drifted},
        )
    if (data["reason"] == DriftReason.TOO_FEW_ROWS).all():
        return make_verdict(outcome=CheckOutcome.CANNOT_TELL, hint="wait for more rows")
    return make_verdict(outcome=CheckOutcome.PASSED)
