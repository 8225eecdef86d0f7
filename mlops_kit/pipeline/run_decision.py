"""A person's decision on the version of a run that waits for one, as the pages of the run show it.

A run that waits for an approval ends before anybody has decided, so its page is written again when
somebody does.
"""

from __future__ import annotations

import json
from pathlib import Path

from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.pipeline import report
from mlops_kit.pipeline.report_views import RunDecision
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_run_folders
from mlops_kit.project.run_manifest import RunManifest, RunStatus, read_manifest

_BADGES = {
    ApprovalOutcome.APPROVED: ("◆ Approved, not in service yet", "watch"),
    ApprovalOutcome.REJECTED: ("▲ Rejected", "act"),
    ApprovalOutcome.CHANGES_REQUESTED: ("◆ Changes requested", "watch"),
}
_VERBS = {
    ApprovalOutcome.APPROVED: "approved it",
    ApprovalOutcome.REJECTED: "rejected it",
    ApprovalOutcome.CHANGES_REQUESTED: "requested changes",
}


def find_run_decision(project: Project, folder: Path, manifest: RunManifest) -> RunDecision | None:
    """Find the last decision on the version of a run that waits; None if there is none.

    A run that goes on after an approval says itself what became of its version.
    """
    if manifest.status != RunStatus.WAITING_FOR_APPROVAL:
        return None
    file = folder / "artifacts" / "version.json"
    if not file.exists():
        return None
    version = str(json.loads(file.read_text(encoding="utf-8")).get("version"))
    for approval in approvals.list_approvals(project):
        if approval.version == version:
            outcome = ApprovalOutcome(approval.outcome)
            return make_run_decision(outcome, approval.actor, approval.reason)
    return None


def make_run_decision(outcome: ApprovalOutcome, actor: str, reason: str) -> RunDecision:
    """Make what the pages of a run show of a decision on its version."""
    badge, css_class = _BADGES[outcome]
    return RunDecision(badge, css_class, str(outcome), f"{actor} {_VERBS[outcome]}: {reason}")


def rewrite_run_page(project: Project, run: str) -> None:
    """Write the page of a run again after a decision on its version; nothing without the run."""
    for folder in list_run_folders(project.reports_folder):
        if folder.name == run:
            manifest = read_manifest(folder)
            report.write_run_index(folder, manifest, find_run_decision(project, folder, manifest))
