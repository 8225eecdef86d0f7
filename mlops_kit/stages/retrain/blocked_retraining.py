"""Retrainings that a guard blocks although a reason is proven, window after window."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_kit.stages.retrain.policy import (
    SUPERSEDED_RULE,
    RetrainingAction,
    RetrainingDecision,
    RuleRole,
)

MAX_BLOCKED_WINDOWS = 3  # then a guard that blocks a proven reason is an incident


def describe_blocked_retraining(decisions: Sequence[RetrainingDecision]) -> str:
    """Describe which guard has blocked a proven reason in several windows in a row.

    Parameters
    ----------
    decisions : sequence of RetrainingDecision
        The decisions of the windows, the newest first.

    Returns
    -------
    str
        Empty unless the same guard blocked in ``MAX_BLOCKED_WINDOWS`` windows.
    """
    recent = decisions[:MAX_BLOCKED_WINDOWS]
    is_blocked = all(decision.action == RetrainingAction.WAIT for decision in recent)
    if len(recent) < MAX_BLOCKED_WINDOWS or not is_blocked:
        return ""
    blocking_rules = [
        {result.rule for result in decision.list_applying(RuleRole.GUARD)} for decision in recent
    ]
    always_blocking = set.intersection(*blocking_rules)
    for result in recent[0].list_applying(RuleRole.GUARD):
        is_other_window = result.rule == SUPERSEDED_RULE
        if result.rule not in always_blocking or is_other_window:
            continue
        advice = "no setting changes that"
        if result.setting:
            advice = f"look at {result.setting} in mlops.yaml"
        return (
            f"{recent[0].reason} The guard {result.rule!r} blocks for {len(recent)} windows in a "
            f"row: {advice}."
        )
    return ""
