"""Promotion: a version becomes champion only if it passed its review and was approved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mlops_kit.core.errors import WaitingForApprovalError
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.db import approvals
from mlops_kit.db.operator_decisions import find_promotion_stop
from mlops_kit.db.tables import ApprovalOutcome, ApprovalRecord, PromotionRecord
from mlops_kit.registry.versions import ModelVersion, load_version, promote_version
from mlops_kit.stages.stage import Stage

_HINTS = {
    CheckOutcome.PASSED: "",
    CheckOutcome.FAILED: "look at the checks of the review",
    CheckOutcome.NOT_APPLICABLE: "approve it, from a full run",
}


@dataclass(frozen=True)
class PromotionDecision:
    """Whether a version was promoted, and why.

    Attributes
    ----------
    sentence : str
        The decision in a sentence.
    reason : str
        The reason of the person who approved or rejected, or why neither counts.
    version, previous_version, actor, promoted_at : str or None
        The promotion; None if there was none.
    """

    promoted: bool
    sentence: str
    reason: str
    version: str | None = None
    previous_version: str | None = None
    actor: str | None = None
    promoted_at: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, for the artifact ``promotion``."""
        return asdict(self)


def promote_if_approved(stage: Stage, version: dict[str, Any]) -> tuple[PromotionDecision, Verdict]:
    """Promote the reviewed version if it passed its review and was approved.

    A draft promotes nothing: it reports what the run decided on the same version.

    Parameters
    ----------
    version : dict
        The review's artifact ``version``.

    Returns
    -------
    decision : PromotionDecision
    gate : Verdict
        The decision as a verdict.

    Raises
    ------
    WaitingForApprovalError
        If a person has to approve the version and nobody has decided yet.
    """
    outcome, refusal = _find_refusal(stage, version)
    if refusal:
        return _refuse(f"Not promoted: {refusal}.", refusal, outcome)
    approval = _require_approval(stage, load_version(stage.project, version["version"]))
    if approval.outcome != ApprovalOutcome.APPROVED:
        decided = f"rejected by {approval.actor}"
        if approval.outcome == ApprovalOutcome.CHANGES_REQUESTED:
            decided = f"{approval.actor} asked for changes"
        sentence = f"Not promoted: {decided}: {approval.reason}"
        return _refuse(sentence, approval.reason, CheckOutcome.FAILED)
    promotion = promote_version(stage.project, version["version"], approval.actor, approval.reason)
    sentence = _describe_promotion(promotion)
    decision = PromotionDecision(
        promoted=True,
        sentence=sentence,
        reason=promotion.reason,
        version=promotion.version,
        previous_version=promotion.previous_version,
        actor=promotion.actor,
        promoted_at=promotion.promoted_at,
    )
    return decision, _make_promotion_verdict(CheckOutcome.PASSED, sentence)


def _refuse(
    sentence: str,
    reason: str,
    outcome: CheckOutcome,
) -> tuple[PromotionDecision, Verdict]:
    """Make the decision not to promote, and its verdict."""
    decision = PromotionDecision(promoted=False, sentence=sentence, reason=reason)
    return decision, _make_promotion_verdict(outcome, sentence)


def _describe_promotion(promotion: PromotionRecord) -> str:
    """Describe a promotion in a sentence."""
    approver = f"by {promotion.actor}"
    if promotion.actor == approvals.AUTOMATIC_APPROVER:
        approver = "automatically"
    # Stored with the run and read later, so it says what happened and not what is.
    sentence = f"Version {promotion.version} became the champion, approved {approver}"
    if promotion.previous_version:
        return f"{sentence}; version {promotion.previous_version} was kept for a rollback."
    return f"{sentence}."


def _find_refusal(stage: Stage, version: dict[str, Any]) -> tuple[CheckOutcome, str]:
    """Find why a version may not be promoted, whatever a person decides; empty if it may."""
    if stage.config.branch:
        reason = f"it is one branch of several ({stage.config.branch})"
        return CheckOutcome.NOT_APPLICABLE, reason
    if stage.sample:
        reason = f"it was trained on a sample of {stage.sample:,} rows"
        return CheckOutcome.NOT_APPLICABLE, reason
    if not version.get("passed"):
        return CheckOutcome.FAILED, "its review did not pass"
    if stage.is_draft:
        current = approvals.get_current_promotion(stage.project)
        if current is None or current.version != version["version"]:
            return CheckOutcome.NOT_APPLICABLE, "it is a draft"
    return CheckOutcome.PASSED, ""


def _require_approval(stage: Stage, version: ModelVersion) -> ApprovalRecord:
    """Return the decision on a version; with ``approval: automatic`` it is made here.

    After two rollbacks in a row a person has to decide.
    """
    approval = approvals.find_approval(stage.project, version)
    stop = find_promotion_stop(stage.project)
    if approval is None and stage.config.approval == "automatic" and stop is None:
        approval = approvals.record_approval(
            stage.project,
            version,
            ApprovalOutcome.APPROVED,
            approvals.AUTOMATIC_APPROVER,
            "review passed",
        )
    if approval is None:
        hint = 'mlops approve --reason "why", or mlops reject --reason "why"'
        explanation = ""
        if stop is not None and stage.config.approval == "automatic":
            explanation = f". {stop.sentence}"
            hint += '; mlops promotion enable --reason "why" makes approvals automatic again'
        raise WaitingForApprovalError(
            f"version {version.version} waits for an approval{explanation}",
            "a person who reads its model card and decides",
            hint,
        )
    return approval


def _make_promotion_verdict(outcome: CheckOutcome, sentence: str) -> Verdict:
    """Make the verdict on a promotion."""
    return Verdict(
        "promotion",
        "Version may be promoted",
        outcome,
        CheckSeverity.BLOCKS,
        sentence,
        observed=sentence,
        limit="a passed review and an approval",
        hint=_HINTS[outcome],
    )
