"""The decision to serve: only what passed its review and was approved."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.errors import WaitingForApprovalError
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalOutcome, ApprovalRecord
from mlops_kit.registry import versions
from mlops_kit.stages.stage import Stage


def promote_if_approved(stage: Stage, version: dict[str, Any]) -> tuple[dict[str, Any], Verdict]:
    """Promote the reviewed version if it may be; say what was decided and why.

    A draft decides nothing: it tells what the run decided on the same version.

    Returns
    -------
    dict, Verdict
        ``promoted``, ``sentence`` and the record (version, by, reason, at, before); the gate.

    Raises
    ------
    Waiting
        If a person has to approve the version and nobody has said anything of it yet.
    """
    no, outcome = _find_refusal(stage, version)
    if no:
        sentence = f"Not promoted: {no}."
        return {"promoted": False, "sentence": sentence, "why": no}, _make_promotion_verdict(
            outcome, sentence
        )
    found = _require_approval(stage, versions.load_version(stage.project, version["version"]))
    if found.outcome != "approved":
        sentence = f"Not promoted: {f'{found.actor} asked for changes' if found.outcome == 'changes' else f'rejected by {found.actor}'}: {found.reason}"
        return {
            "promoted": False,
            "sentence": sentence,
            "why": found.reason,
        }, _make_promotion_verdict(CheckOutcome.FAILED, sentence)
    promotion = versions.promote_version(
        stage.project, version["version"], found.actor, found.reason
    )
    done = {
        "version": promotion.version,
        "before": promotion.previous_version,
        "by": promotion.actor,
        "reason": promotion.reason,
        "at": promotion.promoted_at,
    }
    by = "automatically" if found.actor == approvals.AUTOMATIC_APPROVER else f"by {found.actor}"
    sentence = f"Version {done['version']} serves now, approved {by}" + (
        f"; version {done['before']} is kept to go back to." if done["before"] else "."
    )
    return {"promoted": True, "sentence": sentence, **done}, _make_promotion_verdict(
        CheckOutcome.PASSED, sentence
    )


def _find_refusal(stage: Stage, version: dict[str, Any]) -> tuple[str, CheckOutcome]:
    """Why the version may not serve whatever a person says of it, or nothing; and what that makes of the gate."""
    if stage.config.branch:
        return f"it is one branch of several ({stage.config.branch})", CheckOutcome.NOT_APPLICABLE
    if stage.sample:
        return f"it was made from a sample of {stage.sample:,} rows", CheckOutcome.NOT_APPLICABLE
    if not version.get("passed"):
        return "its review did not pass", CheckOutcome.FAILED
    present = approvals.get_current_promotion(stage.project) if stage.is_draft else None
    if stage.is_draft and (present is None or present.version != version["version"]):
        return "it is a draft", CheckOutcome.NOT_APPLICABLE
    return "", CheckOutcome.PASSED


def _require_approval(stage: Stage, facts: versions.ModelVersion) -> ApprovalRecord:
    """What was said of this version; the rule of ``approval: automatic`` says it where no person has to."""
    found = approvals.find_approval(stage.project, facts)
    if found is None and stage.config.approval == "automatic":
        found = approvals.record_approval(
            stage.project,
            facts,
            ApprovalOutcome.APPROVED,
            approvals.AUTOMATIC_APPROVER,
            "review passed",
        )
    if found is None:
        raise WaitingForApprovalError(
            f"version {facts.version} waits for an approval",
            "somebody who looks at its model card and decides",
            'mlops approve --reason "why", or mlops reject --reason "why"',
        )
    return found


def _make_promotion_verdict(outcome: CheckOutcome, sentence: str) -> Verdict:
    """The decision as a verdict."""
    cure = (
        ""
        if outcome == "passed"
        else "look at the review's checks"
        if outcome == "failed"
        else "approve it, from a full run"
    )
    return Verdict(
        "promotion",
        "May the model serve",
        outcome,
        CheckSeverity.BLOCKS,
        sentence,
        sentence,
        "a passed review and an approval",
        cure,
    )
