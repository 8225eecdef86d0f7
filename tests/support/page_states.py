"""A project with one real run in the states in which its pages can be seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import sqlalchemy as sa

from mlops_kit.dashboards.monitoring_page import MonitoringPage
from mlops_kit.dashboards.review_page import ReviewPage
from mlops_kit.db import approvals
from mlops_kit.db.approvals import ReviewedVersion
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import ApprovalOutcome, ApprovalRecord, PromotionRecord
from mlops_kit.pipeline.run_decision import rewrite_run_page
from mlops_kit.project import loader
from mlops_kit.project.run_folder import list_run_folders
from mlops_kit.project.run_manifest import (
    RunStatus,
    StageError,
    StageStatus,
    read_manifest,
    write_manifest,
)
from tests.support import page_numbers

STATES = ("in service", "waiting", "approved", "rejected", "rolled back", "failed", "empty")
REASON = "as agreed on Monday"
PERSON = "ann"
NEXT_VERSION = "1001"  # a version that replaced the one of the run, and was rolled back


def copy_in_state(home: Path, target: Path, state: str) -> loader.Project:
    """Copy a project and put the version of its newest run into a state.

    Parameters
    ----------
    home : Path
        A project with a run whose version is in service.
    target : Path
        The folder to make.
    """
    target.mkdir(parents=True)
    for name in ("mlops.yaml", "contract.yaml", "card.yaml"):
        if (home / name).exists():
            shutil.copy(home / name, target / name)
    if (home / "features").exists():
        shutil.copytree(home / "features", target / "features")
    if state == "empty":
        return loader.load_project(target)
    shutil.copytree(home / "reports", target / "reports")
    (target / ".mlops").mkdir()
    for file in (home / ".mlops").glob("mlops.db*"):
        shutil.copy(file, target / ".mlops" / file.name)
    project = loader.load_project(target)
    _change_state(project, state)
    return project


def _change_state(project: loader.Project, state: str) -> None:
    run = list_run_folders(project.reports_folder)[0]
    stored = json.loads((run / "artifacts" / "version.json").read_text(encoding="utf-8"))
    version = _make_version(str(stored["version"]), stored["model_hash"])
    if state == "rolled back":
        _replace_and_roll_back(project, version)
        return
    if state == "in service":
        return
    with open_transaction(project) as session:
        for table in (PromotionRecord, ApprovalRecord):
            session.execute(sa.delete(table).where(table.version == version.version))
    manifest = read_manifest(run)
    manifest.status = RunStatus.FAILED if state == "failed" else RunStatus.WAITING_FOR_APPROVAL
    for name in list(manifest.stages)[list(manifest.stages).index("deploy") :]:
        is_deploy = name == "deploy"
        status = StageStatus.WAITING_FOR_APPROVAL if is_deploy else StageStatus.NOT_RUN
        entry = manifest.stages[name]
        entry.status = StageStatus.FAILED if is_deploy and state == "failed" else status
        entry.sentence = ""
        entry.error = None
        if is_deploy and state == "failed":
            entry.error = StageError(type="OSError", message="the disk is full")
        elif is_deploy:
            message = f"version {version.version} waits for an approval"
            entry.error = StageError(type="WaitingForApprovalError", message=message)
        (run / "stages" / f"{name}.json").unlink(missing_ok=True)
    write_manifest(run, manifest)
    outcomes = {"approved": ApprovalOutcome.APPROVED, "rejected": ApprovalOutcome.REJECTED}
    if state in outcomes:
        approvals.record_approval(project, version, outcomes[state], PERSON, REASON)
    rewrite_run_page(project, run.name)


def _make_version(number: str, model_hash: str) -> ReviewedVersion:
    return ReviewedVersion(number, model_hash, "evidence", "passed", 0, "the pipeline")


def _replace_and_roll_back(project: loader.Project, version: ReviewedVersion) -> None:
    """Put another version in service, and go back to that of the run."""
    following = _make_version(NEXT_VERSION, "another model")
    for promoted, reason in ((following, REASON), (version, f"rollback: {REASON}")):
        current = approvals.get_current_promotion(project)
        approvals.record_approval(project, promoted, ApprovalOutcome.APPROVED, PERSON, REASON)
        approvals.record_promotion(project, promoted, current, PERSON, reason)


def find_page_problems(project: loader.Project) -> dict[str, list[str]]:
    """Find the numbers that nothing stored explains, on both dashboards, run page and card.

    Returns
    -------
    dict of str to list of str
        The problems by page; pages without one are left out.
    """
    runs = list_run_folders(project.reports_folder)
    pages = {
        "review": str(ReviewPage(project).html()),
        "monitoring": str(MonitoringPage(project).html()),
    }
    if runs:
        for name in ("index.html", "artifacts/card.html"):
            pages[name] = (runs[0] / name).read_text(encoding="utf-8")
    stored = page_numbers.StoredValues(project, tuple(runs))
    rules = page_numbers.make_count_rules(project)
    problems = {}
    for name, page in pages.items():
        unexplained = page_numbers.find_unexplained(page, stored, rules)
        found = [f"{item.number} in: {item.text}" for item in unexplained]
        if runs and name != "monitoring":
            found += page_numbers.check_check_counts(page, runs[0])
        if name == "monitoring":
            found += page_numbers.find_contradictions(page)
        if found:
            problems[name] = found
    return problems
