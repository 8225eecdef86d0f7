"""The index of a run: headline, stages, checks, branches and origin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.core import files
from mlops_kit.core.results import (
    CheckOutcome,
    CheckSeverity,
    KeyNumber,
    Verdict,
    Verdicts,
)
from mlops_kit.core.serialization import to_json_value
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.pipeline import report
from mlops_kit.pipeline.run_decision import make_run_decision
from mlops_kit.project.run_manifest import (
    BranchResult,
    GitStatus,
    RunManifest,
    RunStatus,
    StageEntry,
    StageError,
    StageStatus,
)


def build_manifest(status: str = "succeeded", **values: Any) -> RunManifest:
    return RunManifest(
        run="20240101-000000-abcd",
        project="tiny",
        status=RunStatus(status),
        started="2024-01-01T10:20:30.000+00:00",
        **values,
    )


def build_verdict(
    outcome: CheckOutcome, severity: CheckSeverity = CheckSeverity.BLOCKS, **values: Any
) -> Verdict:
    return Verdict("check", "A check", outcome, severity, "It is <so>.", **values)


PASSED = Verdicts((build_verdict(CheckOutcome.PASSED),))
FAILED = Verdicts((build_verdict(CheckOutcome.FAILED),))
REVIEWED = {"review": StageEntry(status=StageStatus.SUCCEEDED, sentence="Fit. It is good.")}
BLOCKED = {
    "review": StageEntry(
        status=StageStatus.FAILED, error=StageError(type="RunFailedError", message="too slow")
    )
}


@pytest.mark.parametrize(
    ("manifest", "verdicts", "headline"),
    [
        (
            build_manifest(stages=REVIEWED),
            PASSED,
            ("● Fit to serve", "good", "Fit. It is good."),
        ),
        (
            build_manifest(stages=REVIEWED),
            Verdicts(()),
            ("● Done", "good", "Fit. It is good."),
        ),
        (
            build_manifest(stages=REVIEWED, sample=500),
            PASSED,
            ("◆ Sample", "watch", "Fit. It is good."),
        ),
        (
            build_manifest("waiting (approval)", stages=REVIEWED),
            PASSED,
            ("◆ Waiting for an approval", "watch", "Fit. It is good."),
        ),
        (
            build_manifest("failed", stages=BLOCKED),
            FAILED,
            ("▲ Not fit to serve", "act", "The run stopped in review: too slow"),
        ),
        (
            build_manifest("failed", stages=BLOCKED),
            PASSED,
            ("▲ Failed", "act", "The run failed in review: too slow"),
        ),
        (
            build_manifest("killed", stages={"train": StageEntry(status=StageStatus.KILLED)}),
            Verdicts(()),
            ("▲ Failed", "act", "The run failed in train: its process was killed"),
        ),
        (
            build_manifest("interrupted"),
            Verdicts(()),
            ("◆ Interrupted", "watch", "The run is interrupted."),
        ),
        (build_manifest(), Verdicts(()), ("● Done", "good", "Nothing was run.")),
    ],
)
def test_headline_says_how_the_run_ended(
    manifest: RunManifest, verdicts: Verdicts, headline: tuple[str, str, str]
) -> None:
    assert report.build_headline(manifest, verdicts) == headline


@pytest.mark.parametrize(
    ("outcome", "badge", "line"),
    [
        (ApprovalOutcome.REJECTED, "▲ Rejected", "ann rejected it: too &lt;slow&gt;"),
        (
            ApprovalOutcome.CHANGES_REQUESTED,
            "◆ Changes requested",
            "ann requested changes: too &lt;slow&gt;",
        ),
        (
            ApprovalOutcome.APPROVED,
            "◆ Approved, not in service yet",
            "ann approved it: too &lt;slow&gt;",
        ),
    ],
)
def test_page_of_a_run_that_waited_shows_the_decision(
    tmp_path: Path, outcome: ApprovalOutcome, badge: str, line: str
) -> None:
    waiting = StageEntry(
        status=StageStatus.WAITING_FOR_APPROVAL,
        error=StageError(type="WaitingForApprovalError", message="version 2 waits for an approval"),
    )
    manifest = build_manifest("waiting (approval)", stages={**REVIEWED, "deploy": waiting})
    before = report.write_run_index(tmp_path, manifest).read_text(encoding="utf-8")
    assert "◆ Waiting for an approval" in before
    assert before.count("version 2 waits for an approval") == 2
    decision = make_run_decision(outcome, "ann", "too <slow>")
    after = report.write_run_index(tmp_path, manifest, decision).read_text(encoding="utf-8")
    assert badge in after
    assert f"Deploy: {line}" in after
    assert after.count(line) == 2
    assert "waits for an approval" not in after
    assert "Waiting" not in after


BRANCHES = [
    BranchResult(
        name="k=1",
        values={"train.k": 1},
        status=RunStatus.SUCCEEDED,
        run="r.k=1",
        seconds=2.5,
        numbers={"loss": 0.123456, "rows": 10},
    ),
    BranchResult(
        name="k=2",
        values={"train.k": 2},
        status=RunStatus.FAILED,
        run="r.k=2",
        numbers={"loss": 0.2, "rows": 10},
        error="too many",
    ),
    BranchResult(name="k=3", values={"train.k": 3}),
]


def test_branch_table_has_only_numbers_that_differ() -> None:
    table = report.build_branch_table(build_manifest(branches=BRANCHES[:2]))
    assert table.columns == ["train.k", "status", "seconds", "loss", "error"]
    assert table.rows == [
        [1, "succeeded", 2.5, 0.123456, ""],
        [2, "failed", "", 0.2, "too many"],
    ]


def test_headline_counts_the_branches() -> None:
    manifest = build_manifest("failed", branches=BRANCHES)
    headline = report.build_headline(manifest, Verdicts(()))
    assert headline == ("▲ Failed", "act", "1 of 3 branches succeeded.")


@pytest.fixture
def page(tmp_path: Path) -> str:
    """The index of a run with a review and branches."""
    warning = build_verdict(
        CheckOutcome.FAILED, CheckSeverity.WARNS, observed="0.4", hint="Try <b>."
    )
    record = {
        "stage": "review",
        "verdicts": to_json_value([warning]),
        "shown": [
            {
                "title": "Loss",
                "sentence": "It <falls>.",
                "figure": "figures/loss.svg",
                "front": True,
                "numbers": [],
            },
            {
                "title": "Numbers",
                "sentence": "",
                "figure": None,
                "front": False,
                "numbers": to_json_value([KeyNumber("AUC", "0.75", ("0.74 to 0.76",))]),
            },
        ],
        "artifacts": {},
        "read": {},
    }
    files.write_json(tmp_path / "stages" / "review.json", record)
    files.write_text(tmp_path / "figures" / "loss.svg", "<svg><title>loss</title></svg>")
    files.write_text(tmp_path / "notebooks" / "04_review.ipynb", "{}")
    entry = StageEntry(
        status=StageStatus.SUCCEEDED,
        notebook="04_review",
        question="Is it fit?",
        sentence="Fit to serve. It costs <less>.",
        seconds=12.4,
    )
    manifest = build_manifest(
        stages={"review": entry},
        note="a <note>",
        git=GitStatus(commit="0123456789abcdef", dirty=True),
        as_of="2024-01-01T00:00:00+00:00",
        until="2024-02-01T00:00:00+00:00",
    )
    return report.write_run_index(tmp_path, manifest).read_text(encoding="utf-8")


def test_index_begins_with_the_first_sentence(page: str) -> None:
    assert "<h1>Fit to serve.</h1><p>It costs &lt;less&gt;.</p>" in page
    assert '<span class="badge watch">◆ Fit to serve, with reservations</span>' in page
    assert "as of 2024-01-01, until 2024-02-01" in page


def test_index_shows_stage_figure_numbers_and_files(page: str) -> None:
    assert "● review <span class=faint>12 s</span>" in page
    assert "<svg><title>loss</title></svg><figcaption>It &lt;falls&gt;.</figcaption>" in page
    assert "<h2>AUC</h2><p class=big>0.75</p><p class=note>0.74 to 0.76</p>" in page
    assert re.findall(r'<a href="(.*?)"', page) == ["notebooks/04_review.ipynb", "manifest.json"]


def test_index_shows_checks_with_sentence_observed_value_and_hint(page: str) -> None:
    sentence = "<p class=note>It is &lt;so&gt;.</p>"
    row = (
        f'<td class="st watch">▲ failed<td>review<td>A check{sentence}<td>0.4<td><td>Try &lt;b&gt;.'
    )
    assert row in page


def test_index_shows_the_origin_of_the_run(page: str) -> None:
    assert "<dt>commit</dt><dd>0123456789 with uncommitted changes</dd>" in page
    assert "<dt>note</dt><dd>a &lt;note&gt;</dd>" in page
    assert "<dt>as of, until</dt><dd>2024-01-01 00:00, 2024-02-01 00:00 (UTC)</dd>" in page


def test_index_shows_times_in_the_time_zone_of_the_project(tmp_path: Path) -> None:
    manifest = RunManifest(
        run="r",
        status=RunStatus.SUCCEEDED,
        started="2024-07-02T01:30:00+00:00",
        as_of="2024-07-01T00:00:00",
        until="2024-08-01T04:00:00+00:00",
        timezone="America/New_York",
    )
    page = report.write_run_index(tmp_path, manifest).read_text(encoding="utf-8")
    assert "made 2024-07-01 21:30 America/New_York" in page
    assert "as of 2024-07-01, until 2024-08-01" in page
    assert "<dd>2024-07-01 00:00, 2024-08-01 00:00 (America/New_York)</dd>" in page
