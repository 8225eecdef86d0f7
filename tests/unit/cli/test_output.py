"""What the command prints at the end of a run: its own results, failed checks, usable hints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlops_kit.cli import output
from mlops_kit.core.errors import RunFailedError, WaitingForApprovalError
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.project import loader
from mlops_kit.project.run_manifest import (
    RunManifest,
    RunStatus,
    StageEntry,
    StageError,
    StageStatus,
)
from mlops_kit.project.stage_record import StageRecord, write_stage_record

RUN = "20130701-061200-bbbb"
SUCCEEDED = StageEntry(status=StageStatus.SUCCEEDED, sentence="Fit to serve.")
FAILED = StageEntry(status=StageStatus.FAILED, error=StageError(message="disk full"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> loader.Project:
    """A project with the review record of one run, in the current folder."""
    folder = tmp_path / "a home"
    run = folder / "reports" / RUN
    run.mkdir(parents=True)
    (folder / "mlops.yaml").write_text(
        "name: tiny\nsource: t.csv\ntarget: late\ntask: binary\nplugins: []\n"
    )
    verdict = Verdict(
        "enough_history",
        "Enough history",
        CheckOutcome.FAILED,
        CheckSeverity.WARNS,
        "80 labeled rows were evaluated.",
    )
    write_stage_record(run, StageRecord(stage="review", verdicts=[verdict.to_json_dict()]))
    monkeypatch.chdir(folder)
    return loader.load_project(folder)


def make_manifest(status: RunStatus, **stages: StageEntry) -> RunManifest:
    return RunManifest(run=RUN, status=status, stages=stages)


def carry_over(entry: StageEntry, reason: str, is_selected: bool = True) -> StageEntry:
    changes = {"status": StageStatus.SKIPPED, "reason": reason, "is_selected": is_selected}
    return entry.model_copy(update=changes)


def test_failed_check_that_only_warns_is_in_the_summary(
    project: loader.Project, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make_manifest(RunStatus.SUCCEEDED, review=SUCCEEDED)
    output.report_run_outcome(project, manifest)
    page = f"reports/{RUN}/index.html"
    assert capsys.readouterr().out.splitlines() == [
        "",
        f"run {RUN}: succeeded",
        "  review: Fit to serve.",
        "Checks: 1 check of the review stage: 1 failed.",
        f"Failed checks (all checks with limits and hints: {page}#checks):",
        "  ▲ review: Enough history (enough_history, warns): 80 labeled rows were evaluated.",
        f"Report: {page}",
    ]
    output.report_run_outcome(project, manifest, as_json=True)
    (check,) = json.loads(capsys.readouterr().out)["failed_checks"]
    assert (check["check"], check["severity"]) == ("enough_history", "warns")


def test_summary_of_a_failed_run_has_no_result_of_an_earlier_one(
    project: loader.Project, capsys: pytest.CaptureFixture[str]
) -> None:
    carried = carry_over(SUCCEEDED, "as in 20130601-040000-aaaa", is_selected=False)
    manifest = make_manifest(RunStatus.FAILED, train=FAILED, review=carried, deploy=carried)
    with pytest.raises(RunFailedError, match="train failed: disk full"):
        output.report_run_outcome(project, manifest)
    assert capsys.readouterr().out.splitlines()[1:] == [
        f"run {RUN}: failed",
        f"Report: reports/{RUN}/index.html",
    ]


def test_result_of_a_stage_that_is_up_to_date_names_its_run(
    project: loader.Project, capsys: pytest.CaptureFixture[str]
) -> None:
    unchanged = carry_over(SUCCEEDED, "unchanged since 20130601-040000-aaaa")
    manifest = make_manifest(RunStatus.FAILED, review=unchanged, deploy=FAILED)
    with pytest.raises(RunFailedError):
        output.report_run_outcome(project, manifest)
    line = "  review: Fit to serve. (unchanged since 20130601-040000-aaaa)"
    assert line in capsys.readouterr().out.splitlines()


def test_hint_of_a_failed_run_is_a_command_that_works_where_it_is_printed(
    project: loader.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(RunStatus.FAILED, train=FAILED)
    with pytest.raises(RunFailedError) as inside:
        output.report_run_outcome(project, manifest)
    assert inside.value.hint.startswith(f"mlops logs train {RUN} shows what it printed;")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunFailedError) as outside:
        output.report_run_outcome(project, manifest)
    assert outside.value.hint.startswith(f"mlops logs train {RUN} --project 'a home' shows")


def test_approval_is_asked_for_with_the_project_that_the_command_needs(
    project: loader.Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    waiting = StageEntry(status=StageStatus.WAITING_FOR_APPROVAL)
    manifest = make_manifest(RunStatus.WAITING_FOR_APPROVAL, deploy=waiting)
    with pytest.raises(WaitingForApprovalError) as waits:
        output.report_run_outcome(project, manifest)
    assert waits.value.hint.startswith(
        f"mlops approve {RUN} --reason \"why\" --project 'a home', or"
    )
    assert f"Report: a home/reports/{RUN}/index.html" in capsys.readouterr().out
