"""The review page: its sentence, its evidence, and that a part that fails affects no other."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_kit import dashboards
from mlops_kit.cli import application
from mlops_kit.core.errors import KitError
from mlops_kit.core.results import Table, Verdict, Verdicts
from mlops_kit.dashboards.review_head import (
    describe_difference,
    describe_review_details,
    describe_review_status,
    explain_blocked_approval,
    summarize_review,
)
from mlops_kit.dashboards.review_page import ReviewPage
from mlops_kit.dashboards.stored_reviews import DifferenceRow, choose_review, list_reviews
from mlops_kit.dashboards.view_models import format_cell
from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.project.loader import Project, load_project
from tests.support import sample_runs
from tests.support.page_text import read_text

FAILED_CARD = "This card cannot be shown"


def make_difference(**values: Any) -> DifferenceRow:
    cost = dict(zip(sample_runs.DIFFERENCE_COLUMNS, sample_runs.DIFFERENCES[0], strict=True))
    cost.pop("rows")
    return DifferenceRow(**cost | values)


def test_head_compares_the_version_with_the_champion(sample_project: Project) -> None:
    context = ReviewPage(sample_project).context
    assert context.review.number == "8"
    assert context.review.champion_version == "7"
    assert context.is_compared
    assert summarize_review(context) == (
        "Errors cost $0.19 less per flight with version 8 than with version 7. No check blocks it, "
        "with reservations: One slice may be weak."
    )
    assert describe_review_details(context) == (
        "Of the flights that it flags, 52% are late (version 7: 47%). 1 check cannot tell yet."
    )
    assert describe_review_status(context.review) == ("watch", "◆ Fit, with reservations")


@pytest.mark.slow
def test_every_number_on_the_page_is_the_stored_one(sample_project: Project) -> None:
    page = ReviewPage(sample_project)
    review = page.context.review
    shown = read_text(page.html())
    for number in review.read("numbers").items:
        assert number.title in shown
        assert number.value in shown
        assert all(detail in shown for detail in number.details)
    for row in review.differences:
        assert row.text in shown
        assert row.verdict in shown
    for name in ("metrics", "costs", "slices", "split"):
        table = review.read_table(name)
        assert table.sentence in shown
        if name == "metrics":  # shown with its interval as one text
            continue
        for value in table.to_frame().to_numpy(dtype=object).ravel():
            assert read_text(format_cell(value)) in shown
    for aspect, change in review.read_table("changes").data.itertuples(index=False):
        assert f"{aspect} {change}" in shown
    for verdict in review.verdicts:
        assert verdict.title in shown
        assert (verdict.observed or verdict.sentence) in shown


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            make_difference(verdict="worse", difference=-0.19),
            "Errors cost $0.19 more per flight with version 8 than with version 7",
        ),
        (
            make_difference(verdict="no worse", difference=0.01),
            "Errors cost about as much with version 8 as with version 7",
        ),
        (
            make_difference(verdict="cannot tell", difference=-0.02),
            "It cannot be told yet whether errors cost more with version 8 than with version 7 "
            "($0.02 more per flight)",
        ),
        (
            make_difference(metric="r2", title="R²", verdict="better", text="+ 0.015"),
            "Version 8 is better than version 7 in R² (+ 0.015)",
        ),
        (
            make_difference(metric="r2", title="R²", verdict="worse", text="− 0.015"),
            "Version 8 is worse than version 7 in R² (− 0.015)",
        ),
        (
            make_difference(metric="r2", title="R²", verdict="cannot tell", text="− 0.006"),
            "Version 8 cannot be told apart yet from version 7 in R² (− 0.006)",
        ),
    ],
)
def test_difference_is_described_by_its_verdict(
    sample_project: Project, row: DifferenceRow, expected: str
) -> None:
    assert describe_difference(row, "8", "7", sample_project.config) == expected


def test_first_version_is_described_on_its_own(sample_project: Project) -> None:
    page = ReviewPage(sample_project, "7")
    assert summarize_review(page.context) == (
        "Version 7: errors cost $4.12 per flight with this model, $2.92 less than without one. "
        "No check blocks it, with reservations: One slice may be weak."
    )
    assert describe_review_status(page.context.review) == ("good", "● In service")
    assert "Comparison with baselines" in page.html()


def test_versions_evaluated_on_different_rows_are_shown_side_by_side(
    sample_project: Project,
) -> None:
    sample_runs.write_run(sample_project, "20130801-000000-cccc", "9", "8", "waiting (approval)")
    page = ReviewPage(sample_project, "9", "7")
    assert not page.context.is_compared
    assert summarize_review(page.context).startswith("Version 9: errors cost")
    shown = read_text(page.panel("verdict"))
    assert "not evaluated on the same rows" in shown
    assert "Version 9 was compared with version 8." in shown
    assert "ROC-AUC 0.786 [0.781, 0.791] 0.771 [0.781, 0.791]" in shown
    assert "Cost per flight $4.12 $4.31" in shown


def test_the_version_that_waits_is_shown_first_then_the_champion(
    sample_project: Project, tmp_path: Path
) -> None:
    assert choose_review(list_reviews(sample_project)).number == "8"
    facts = sample_runs.make_facts("8")
    approvals.record_approval(sample_project, facts, ApprovalOutcome.REJECTED, "ann", "too slow")
    assert ReviewPage(sample_project).context.review.number == "7"
    unpromoted = sample_runs.make_project(tmp_path / "unpromoted")
    for run in unpromoted.reports_folder.iterdir():
        manifest = run / "manifest.json"
        manifest.write_text(manifest.read_text().replace("waiting (approval)", "failed"))
    assert ReviewPage(unpromoted).context.review.number == "8"


@pytest.mark.parametrize(
    ("outcome", "state", "clause"),
    [
        (ApprovalOutcome.REJECTED, "▲ Rejected", "but ann rejected it."),
        (ApprovalOutcome.CHANGES_REQUESTED, "◆ Changes requested", "but ann requested changes."),
        (ApprovalOutcome.APPROVED, "◆ Approved, not in service yet", "and ann approved it."),
    ],
)
def test_last_decision_is_in_badge_sentence_and_history(
    sample_project: Project, outcome: ApprovalOutcome, state: str, clause: str
) -> None:
    reason = f"because {sample_runs.SCRIPT}"
    facts = sample_runs.make_facts("8")
    approvals.record_approval(sample_project, facts, outcome, "ann", reason)
    page = ReviewPage(sample_project, "8")
    assert describe_review_status(page.context.review)[1] == state
    assert summarize_review(page.context).endswith(clause)
    assert reason in describe_review_details(page.context)
    assert "because &lt;script&gt;" in page.panel("history")


def set_run_status(project: Project, status: str) -> None:
    """Set the status of the run that made version 8, which waits."""
    file = project.reports_folder / sample_runs.NEW_RUN / "manifest.json"
    file.write_text(file.read_text().replace("waiting (approval)", status))


@pytest.mark.usefixtures("served_page")
@pytest.mark.parametrize(
    ("run_status", "state", "sentence", "is_offered"),
    [
        (
            "waiting (approval)",
            "◆ Approved, not in service yet",
            f"It is put in service when run {sample_runs.NEW_RUN} continues.",
            True,
        ),
        (
            "failed",
            "▲ Approved, not deployed",
            f"Run {sample_runs.NEW_RUN} is failed and has not put it in service.",
            True,
        ),
    ],
)
def test_approved_version_is_not_said_to_wait_for_an_approval(
    sample_project: Project, run_status: str, state: str, sentence: str, is_offered: bool
) -> None:
    facts = sample_runs.make_facts("8")
    approvals.record_approval(sample_project, facts, ApprovalOutcome.APPROVED, "ann", "fit")
    set_run_status(sample_project, run_status)
    page = ReviewPage(sample_project, "8")
    head = read_text(page.head())
    assert describe_review_status(page.context.review)[1] == state
    assert sentence in head
    assert "Approving" not in head
    assert explain_blocked_approval(page.context.review).startswith("It is approved already")
    assert ('data-act="reject"' in page.head()) == is_offered


@pytest.mark.usefixtures("served_page")
def test_version_in_service_says_since_when_and_a_rolled_back_one_until_when(
    sample_project: Project,
) -> None:
    sample_runs.promote(sample_project, "8", why="better.")
    head = read_text(ReviewPage(sample_project, "8").head())
    assert "● In service" in head
    assert "promoted by ann: better." in head
    assert "Approving" not in head
    assert "○ Previously in service" in read_text(ReviewPage(sample_project, "7").head())
    sample_runs.promote(sample_project, "7", "carl", "rollback: complaints")
    rolled_back = ReviewPage(sample_project, "8")
    head = read_text(rolled_back.head())
    assert "◆ Rolled back" in head
    assert "In service until" in head
    assert "when version 7 replaced it (carl: rollback: complaints)." in head
    assert 'data-act="approve"' not in rolled_back.head()
    champion = read_text(ReviewPage(sample_project, "7").head())
    assert "● In service" in champion
    assert "In service again since" in champion
    assert "by carl: rollback: complaints." in champion


def test_no_text_from_outside_becomes_html(sample_project: Project) -> None:
    sample_runs.promote(sample_project, "8", by=sample_runs.SCRIPT, why=sample_runs.SCRIPT)
    file = sample_project.reports_folder / "review.html"
    page = dashboards.export_page("review", sample_project, file)
    assert sample_runs.SCRIPT not in page
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;") > 8


@pytest.mark.usefixtures("served_page")
def test_buttons_send_what_the_page_shows_and_an_export_has_none(
    sample_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ReviewPage(sample_project)
    shown = page.html()
    for action in ("ask", "reject", "approve"):
        assert f'data-act="{action}"' in shown
    assert 'data-act="rollback"' not in shown
    for value in vars(page.context.review.shown_facts).values():
        assert f"&#34;{value}&#34;" in shown
    assert "Approving it puts it in service at once and keeps version 7" in read_text(shown)
    monkeypatch.delenv("VOILA_PREHEAT")
    exported = ReviewPage(sample_project).html()
    assert "<button type=button data-act" not in exported
    assert "Approving" not in exported


@pytest.mark.usefixtures("served_page")
def test_the_champion_can_be_rolled_back_to_the_version_before(sample_project: Project) -> None:
    assert 'data-act="rollback"' not in ReviewPage(sample_project, "7").html()
    sample_runs.promote(sample_project, "8")
    page = ReviewPage(sample_project).html()
    assert "Roll back to 7 …" in page
    assert 'data-act="approve"' not in page


@pytest.mark.usefixtures("served_page")
def test_a_blocking_check_disables_the_approval_with_a_reason(sample_project: Project) -> None:
    page = ReviewPage(sample_project)
    review = page.context.review
    blocking = Verdict(
        "leak", "No feature from the future", "failed", "blocks", "wind is from the future."
    )
    others = list(review.verdicts)[1:]
    review.__dict__["verdicts"] = Verdicts.from_verdicts([blocking, *others])
    assert summarize_review(page.context).endswith(
        "but the check “No feature from the future” fails and blocks it."
    )
    assert describe_review_status(review)[0] == "act"
    assert explain_blocked_approval(review) == "A check blocks it: wind is from the future."
    blocked = 'data-closed=1 title="A check blocks it: wind is from the future."'
    assert blocked in page.build_ready_head()


@pytest.mark.parametrize(
    "artifact",
    [
        "numbers",
        "against",
        "calibration",
        "changes",
        "slices",
        "importance",
        "what_if",
        "costs",
        "metrics",
        "card",
        "split",
        "verdicts",
    ],
)
def test_a_failed_card_says_so_and_affects_no_other(sample_project: Project, artifact: str) -> None:
    complete = ReviewPage(sample_project).html()
    sample_runs.write_run(
        sample_project, sample_runs.NEW_RUN, "8", "7", "waiting (approval)", drop=(artifact,)
    )
    page = ReviewPage(sample_project, "8").html()
    # A run without calibration has no such card.
    expected_more = artifact != "calibration"
    assert (page.count(FAILED_CARD) > complete.count(FAILED_CARD)) == expected_more
    assert "mlops run --from review" in page
    assert "Approvals and rejections" in page
    assert "Notebooks and reports" in page


def test_a_damaged_file_is_reported_on_its_card(sample_project: Project) -> None:
    run = sample_project.reports_folder / sample_runs.NEW_RUN
    (run / "artifacts" / "slices.json").write_text("{")
    page = read_text(ReviewPage(sample_project).html())
    assert re.search("artifact 'slices' of .*20130701-061200-bbbb.* is damaged", page)
    assert "Errors cost $0.19 less per flight with version 8" in page


def test_an_old_run_shows_what_it_stored(sample_project: Project) -> None:
    missing = (
        "numbers",
        "against",
        "calibration",
        "changes",
        "slices",
        "importance",
        "what_if",
        "costs",
    )
    run = sample_runs.write_run(
        sample_project, sample_runs.NEW_RUN, "8", "7", "waiting (approval)", drop=missing
    )
    record_file = run / "stages" / "review.json"
    record = json.loads(record_file.read_text())
    record["shown"] = [
        {
            "title": "Key numbers",
            "sentence": "A flight costs $4.17 with this model. Nothing else.",
            "numbers": [
                {
                    "__kind__": "Number",
                    "title": "Cost a flight",
                    "value": "$4.17",
                    "beside": ["without a model: $7.04"],  # stored by earlier versions
                }
            ],
        }
    ]
    record_file.write_text(json.dumps(record))
    shown = read_text(ReviewPage(sample_project, "8").html())
    assert "Version 8: a flight costs $4.17 with this model. No check blocks it" in shown
    assert "without a model: $7.04" in shown
    assert "an older version of mlops-kit made it" in shown


def test_old_reviews_name_the_champion_in_a_sentence(sample_project: Project) -> None:
    review = ReviewPage(sample_project).context.review
    verdict = next(v for v in review.verdicts if v.check == "against_champion")
    verdict.diagnostics.clear()
    title = "Better than version 6?"
    review.__dict__.pop("champion_version")
    review.__dict__["differences"] = []
    stored = {"against": Table(title, "", review.read_table("changes").data)}
    object.__setattr__(review, "read", stored.__getitem__)
    assert review.champion_version == "6"


def test_before_the_first_version_it_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(sample_runs.PROJECT_YAML)
    project = load_project(tmp_path)
    page = read_text(ReviewPage(project).html())
    assert "No version has been reviewed yet." in page
    assert page.endswith("Run mlops run")
    assert dashboards.export_page("review", project, tmp_path / "review.html")


def test_an_unknown_version_lists_those_that_exist(sample_project: Project) -> None:
    page = read_text(ReviewPage(sample_project, "9").html())
    assert "No run has version '9'. Expected: one of: 7, 8." in page


def test_an_export_links_to_files_relative_to_its_place(sample_project: Project) -> None:
    folder = sample_project.root / "elsewhere"
    page = dashboards.export_page("review", sample_project, folder / "review.html")
    [link] = re.findall(r'href="([^"]+card.html)"', page)
    card = sample_project.reports_folder / sample_runs.NEW_RUN / "artifacts" / "card.html"
    assert (folder / link).resolve() == card.resolve()
    assert "http" not in page
    assert len(page) < 5e6


def test_the_command_line_writes_the_page_as_one_file(
    sample_project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--dashboard", "review", "--version", "7", "--project", str(sample_project.root)]
    monkeypatch.setattr(sys, "argv", ["mlops", "report", *options])
    with pytest.raises(SystemExit) as exit_info:
        application.main()
    assert exit_info.value.code in (0, None)
    assert "Dashboard review written to" in capsys.readouterr().out
    exported = (sample_project.reports_folder / "review.html").read_text()
    assert "● In service" in exported


def test_an_unknown_dashboard_lists_those_that_exist(sample_project: Project) -> None:
    with pytest.raises(KitError, match="no dashboard 'revue'"):
        dashboards.export_page("revue", sample_project, sample_project.root / "x.html")
