"""Failed checks of a run: of which stages, and what is said about each."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.pipeline import failed_checks
from mlops_kit.project.run_manifest import RunManifest, RunStatus, StageEntry, StageStatus
from mlops_kit.project.stage_record import StageRecord, write_stage_record


def make_verdict(check: str, outcome: CheckOutcome, severity: CheckSeverity) -> Verdict:
    title = check.replace("_", " ").capitalize()
    return Verdict(check, title, outcome, severity, f"{title} is bad.", hint="more data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with the verdicts of two stages."""
    few_rows = make_verdict("few_rows", CheckOutcome.FAILED, CheckSeverity.WARNS)
    leakage = make_verdict("leakage", CheckOutcome.FAILED, CheckSeverity.BLOCKS)
    calibration = make_verdict("calibration", CheckOutcome.CANNOT_TELL, CheckSeverity.WARNS)
    passed = make_verdict("gain", CheckOutcome.PASSED, CheckSeverity.BLOCKS)
    for stage, verdicts in {
        "prepare": [leakage],
        "review": [passed, calibration, few_rows],
    }.items():
        stored = [verdict.to_json_dict() for verdict in verdicts]
        write_stage_record(tmp_path, StageRecord(stage=stage, verdicts=stored))
    return tmp_path


def make_manifest(**stages: StageEntry) -> RunManifest:
    return RunManifest(run="r", status=RunStatus.SUCCEEDED, stages=stages)


def test_failed_checks_of_either_severity_are_in_the_order_of_the_stages(folder: Path) -> None:
    done = StageEntry(status=StageStatus.SUCCEEDED)
    found = failed_checks.list_failed_checks(
        folder, make_manifest(review=done, prepare=done, deploy=done)
    )
    assert [check.describe() for check in found] == [
        "review: Few rows (few_rows, warns): Few rows is bad.",
        "prepare: Leakage (leakage, blocks): Leakage is bad.",
    ]
    assert found[0].to_json_dict() == {
        "stage": "review",
        "check": "few_rows",
        "title": "Few rows",
        "severity": "warns",
        "sentence": "Few rows is bad.",
        "hint": "more data",
    }


@pytest.mark.parametrize(("is_selected", "count"), [(True, 1), (False, 0)])
def test_checks_of_a_stage_that_the_run_was_not_asked_for_are_not_its_own(
    folder: Path, is_selected: bool, count: int
) -> None:
    carried = StageEntry(status=StageStatus.SKIPPED, reason="as in q", is_selected=is_selected)
    assert len(failed_checks.list_failed_checks(folder, make_manifest(review=carried))) == count


def test_checks_are_counted_by_stage(folder: Path) -> None:
    done = StageEntry(status=StageStatus.SUCCEEDED)
    carried = StageEntry(status=StageStatus.SKIPPED, reason="as in q", is_selected=False)
    manifest = make_manifest(prepare=done, review=done, deploy=done)
    counts = failed_checks.describe_check_counts(
        failed_checks.read_verdicts_by_stage(folder, manifest)
    )
    assert counts == (
        "1 check of the prepare stage: 1 failed. "
        "3 checks of the review stage: 1 passed, 1 failed, 1 cannot tell."
    )
    review_alone = failed_checks.read_verdicts_by_stage(
        folder, make_manifest(prepare=carried, review=done)
    )
    assert failed_checks.describe_check_counts(review_alone).startswith("3 checks of the review")
    assert failed_checks.describe_check_counts({}) == ""
