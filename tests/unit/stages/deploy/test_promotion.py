"""Promotion: only a passed review, a full run and an approval change the champion."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from mlops_kit.cli import application
from mlops_kit.core.errors import WaitingForApprovalError
from mlops_kit.db import approvals
from mlops_kit.project import loader
from mlops_kit.registry import versions
from mlops_kit.stages import deploy
from mlops_kit.stages.stage import Stage

Staged = Callable[..., Stage]
SECOND = {"version": "2", "passed": True}


def get_champion_version(project: loader.Project) -> str:
    return versions.require_champion(project).version


@pytest.mark.parametrize(
    ("version", "values", "outcome", "reason"),
    [
        ({"version": "3", "passed": False}, {}, "failed", "its review did not pass"),
        ({"version": None, "passed": False}, {}, "failed", "its review did not pass"),
        (SECOND, {"sample": 50}, "not applicable", "it was trained on a sample of 50 rows"),
        (
            {"version": "3", "passed": False},
            {"sample": 50},
            "not applicable",
            "it was trained on a sample of 50 rows",
        ),
        (SECOND, {"draft": True}, "not applicable", "it is a draft"),
    ],
    ids=["failed review", "no version", "sample", "failed sample", "draft"],
)
def test_refused_version_leaves_the_champion(
    served: loader.Project,
    staged: Staged,
    version: dict[str, Any],
    values: dict[str, Any],
    outcome: str,
    reason: str,
) -> None:
    decision, gate = deploy.promote_if_approved(staged(served, **values), version)
    assert decision == deploy.PromotionDecision(False, f"Not promoted: {reason}.", reason)
    assert (gate.outcome, gate.severity, gate.sentence) == (outcome, "blocks", decision.sentence)
    assert gate.hint
    assert gate.is_blocking == (outcome == "failed")
    assert get_champion_version(served) == "1"


def test_approved_version_becomes_champion_and_previous_is_kept(
    copied: loader.Project, staged: Staged
) -> None:
    decision, gate = deploy.promote_if_approved(staged(copied), SECOND)
    assert decision.promoted
    assert (decision.version, decision.previous_version) == ("2", "1")
    assert decision.sentence == (
        "Version 2 became the champion, approved automatically; version 1 was kept for a rollback."
    )
    assert decision.actor == "mlops.yaml (approval: automatic)"
    assert decision.reason == "review passed"
    assert decision.promoted_at
    assert gate.outcome == "passed"
    assert not gate.is_blocking
    assert get_champion_version(copied) == "2"
    assert versions.roll_back(copied, "me", "why").version == "1"


def test_rollback_command_restores_previous_version(
    copied: loader.Project,
    staged: Staged,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deploy.promote_if_approved(staged(copied), SECOND)
    monkeypatch.setattr(
        sys,
        "argv",
        ["mlops", "rollback", "--reason", "too many alarms", "--project", str(copied.root)],
    )
    with pytest.raises(SystemExit) as ended:
        application.main()
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out == "Version 1 is the champion again.\n"
    present = approvals.get_current_promotion(copied)
    assert present is not None
    assert (present.reason, present.previous_version) == (
        "rollback: too many alarms",
        "2",
    )


def test_repeated_promotion_changes_nothing(copied: loader.Project, staged: Staged) -> None:
    first, _ = deploy.promote_if_approved(staged(copied), SECOND)
    assert deploy.promote_if_approved(staged(copied), SECOND)[0] == first


def test_draft_reports_the_decision_of_the_run(copied: loader.Project, staged: Staged) -> None:
    first, _ = deploy.promote_if_approved(staged(copied), SECOND)
    decision, gate = deploy.promote_if_approved(staged(copied, draft=True), SECOND)
    assert decision == first
    assert gate.outcome == "passed"


def test_manual_approval_waits_and_decides(copied: loader.Project, staged: Staged) -> None:
    stage = staged(copied, approval="manual")
    with pytest.raises(WaitingForApprovalError, match="version 2 waits for an approval") as waits:
        deploy.promote_if_approved(stage, SECOND)
    assert waits.value.exit_code == 3
    assert get_champion_version(copied) == "1"
    facts = versions.load_version(copied, "2")
    approvals.record_approval(copied, facts, "rejected", "ann", "too many alarms")
    decision, gate = deploy.promote_if_approved(stage, SECOND)
    assert not decision.promoted
    assert gate.is_blocking
    assert decision.sentence == "Not promoted: rejected by ann: too many alarms"
    approvals.record_approval(copied, facts, "changes", "ann", "fewer alarms")
    assert (
        deploy.promote_if_approved(stage, SECOND)[0].sentence
        == "Not promoted: ann asked for changes: fewer alarms"
    )
    approvals.record_approval(copied, facts, "approved", "bob", "the alarms are worth it")
    decision, gate = deploy.promote_if_approved(stage, SECOND)
    assert decision.promoted
    assert decision.sentence.startswith("Version 2 became the champion, approved by bob")
    assert get_champion_version(copied) == "2"
