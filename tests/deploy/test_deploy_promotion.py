"""The decision to serve: only a passed review, a full run and an approval move the champion."""

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


def champion(project: loader.Project) -> str:
    return versions.require_champion(project).version


@pytest.mark.parametrize(
    ("version", "values", "outcome", "why"),
    [
        ({"version": "3", "passed": False}, {}, "failed", "its review did not pass"),
        ({"version": None, "passed": False}, {}, "failed", "its review did not pass"),
        (SECOND, {"sample": 50}, "not applicable", "it was made from a sample of 50 rows"),
        (
            {"version": "3", "passed": False},
            {"sample": 50},
            "not applicable",
            "it was made from a sample of 50 rows",
        ),
        (SECOND, {"draft": True}, "not applicable", "it is a draft"),
    ],
    ids=["failed review", "no version", "sample", "failed sample", "draft"],
)
def test_what_may_not_serve_leaves_the_champion(
    served: loader.Project,
    staged: Staged,
    version: dict[str, Any],
    values: dict[str, Any],
    outcome: str,
    why: str,
) -> None:
    made, gate = deploy.promote_if_approved(staged(served, **values), version)
    assert made == {"promoted": False, "sentence": f"Not promoted: {why}.", "why": why}
    assert (gate.outcome, gate.severity, gate.sentence) == (outcome, "blocks", made["sentence"])
    assert gate.hint
    assert gate.is_blocking == (outcome == "failed")
    assert champion(served) == "1"


def test_a_passed_and_approved_version_serves_and_the_one_before_is_kept(
    copied: loader.Project, staged: Staged
) -> None:
    made, gate = deploy.promote_if_approved(staged(copied), SECOND)
    assert made["promoted"]
    assert (made["version"], made["before"]) == ("2", "1")
    assert (
        made["sentence"]
        == "Version 2 serves now, approved automatically; version 1 is kept to go back to."
    )
    assert made["by"] == "mlops.yaml (approval: automatic)"
    assert made["reason"] == "review passed"
    assert made["at"]
    assert gate.outcome == "passed"
    assert not gate.is_blocking
    assert champion(copied) == "2"
    assert versions.roll_back(copied, "me", "why").version == "1"


def test_the_command_line_lets_the_one_before_serve_again(
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


def test_deciding_again_changes_nothing(copied: loader.Project, staged: Staged) -> None:
    first, _ = deploy.promote_if_approved(staged(copied), SECOND)
    assert deploy.promote_if_approved(staged(copied), SECOND)[0] == first


def test_a_draft_tells_what_the_run_decided(copied: loader.Project, staged: Staged) -> None:
    first, _ = deploy.promote_if_approved(staged(copied), SECOND)
    made, gate = deploy.promote_if_approved(staged(copied, draft=True), SECOND)
    assert made == first
    assert gate.outcome == "passed"


def test_without_a_persons_word_it_waits_and_their_word_decides(
    copied: loader.Project, staged: Staged
) -> None:
    stage = staged(copied, approval="manual")
    with pytest.raises(WaitingForApprovalError, match="version 2 waits for an approval") as waits:
        deploy.promote_if_approved(stage, SECOND)
    assert waits.value.exit_code == 3
    assert champion(copied) == "1"
    facts = versions.load_version(copied, "2")
    approvals.record_approval(copied, facts, "rejected", "ann", "too many alarms")
    made, gate = deploy.promote_if_approved(stage, SECOND)
    assert not made["promoted"]
    assert gate.is_blocking
    assert made["sentence"] == "Not promoted: rejected by ann: too many alarms"
    approvals.record_approval(copied, facts, "changes", "ann", "fewer alarms")
    assert (
        deploy.promote_if_approved(stage, SECOND)[0]["sentence"]
        == "Not promoted: ann asked for changes: fewer alarms"
    )
    approvals.record_approval(copied, facts, "approved", "bob", "the alarms are worth it")
    made, gate = deploy.promote_if_approved(stage, SECOND)
    assert made["promoted"]
    assert made["sentence"].startswith("Version 2 serves now, approved by bob")
    assert champion(copied) == "2"
