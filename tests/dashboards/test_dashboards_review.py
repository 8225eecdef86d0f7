"""The review page: its sentence, what stands beside it, and that one part that fails takes no other along."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_kit import dashboards
from mlops_kit.cli import application
from mlops_kit.core import resources
from mlops_kit.core.errors import KitError
from mlops_kit.dashboards import rendering, version_data
from mlops_kit.dashboards.review_page import Review
from mlops_kit.db import approvals
from mlops_kit.project import loader
from tests.dashboards import story


def text(part: str) -> str:
    """What a reader sees of a piece of HTML."""
    return " ".join(
        html.unescape(re.sub(r"<[^>]+>", " ", re.sub(r"</?span[^>]*>", "", part))).split()
    )


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Voilà shows it."""
    monkeypatch.setenv("VOILA_PREHEAT", "False")


def said(page: Review, name: str) -> str:
    """A sentence of the page, as a reader sees it."""
    return text(rendering.part("review", name, page))


def row(**values: Any) -> dict[str, Any]:
    return {**dict(zip(story.COLUMNS, story.AGAINST[0], strict=True)), **values}


def test_the_first_screen_says_what_hangs_on_it_in_the_projects_own_terms(
    told: loader.Project,
) -> None:
    page = Review(told)
    assert (page.mine.number, page.mine.opponent, page.compared) == ("8", "7", True)
    assert (
        said(page, "sentence")
        == "Version 8 costs $0.19 a flight less than version 7, and nothing blocks it."
    )
    assert (
        said(page, "detail")
        == "Of 100 flights that it flags, 52 are late (version 7: 47). 1 check cannot tell yet."
    )
    assert page.state() == ("watch", "◆ Fit, with reservations")


def test_every_number_on_the_page_is_the_stored_one(told: loader.Project) -> None:
    page = Review(told)
    seen = text(page.html())
    for number in page.mine.read("numbers").items:
        assert all(said in seen for said in (number.title, number.value, *number.beside))
    for line in page.differences():
        assert line["text"] in seen
        assert line["verdict"] in seen
    for name in ("metrics", "costs", "slices", "split"):
        found = page.mine.table(name)
        assert found.sentence in seen
        assert all(
            text(rendering.cell(v)) in seen
            for v in found.to_frame().to_numpy(dtype=object).ravel()
            if name != "metrics"
        )
    for what, said in page.mine.read("changes").frame().itertuples(index=False):
        assert f"{what} {said}" in seen
    for check in page.mine.verdicts:
        assert check.title in seen
        assert (check.observed or check.sentence) in seen


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (row(verdict="worse", difference=-0.19), "costs $0.19 a flight more than version 7"),
        (row(verdict="no worse", difference=0.01), "costs about as much as version 7"),
        (
            row(verdict="cannot tell", difference=-0.02),
            "may cost as much as version 7, which cannot be told yet ($0.02 a flight more)",
        ),
        (
            row(metric="r2", title="R²", verdict="better", text="+ 0.015"),
            "is better than version 7 in R² (+ 0.015)",
        ),
        (
            row(metric="r2", title="R²", verdict="worse", text="− 0.015"),
            "is worse than version 7 in R² (− 0.015)",
        ),
        (
            row(metric="r2", title="R²", verdict="cannot tell", text="− 0.006"),
            "cannot yet be told from version 7 in R² (− 0.006)",
        ),
    ],
)
def test_a_standing_is_worded_by_its_verdict(
    told: loader.Project, line: dict[str, Any], words: str
) -> None:
    assert text(rendering.part("review", "standing", line, "version 7", told.config)) == words


def test_a_first_version_tells_what_it_does_alone(told: loader.Project) -> None:
    page = Review(told, "7")
    assert (
        said(page, "sentence")
        == "Version 7: a flight costs $4.12 with this model, $2.92 less than without one, and nothing blocks it."
    )
    assert page.state() == ("good", "● Serves now")
    assert "Is it better than a simple model?" in page.html()


def test_two_versions_that_were_not_judged_on_the_same_rows_stand_side_by_side(
    told: loader.Project,
) -> None:
    story.write(told, "20130801-000000-cccc", "9", "8", "waiting (approval)")
    page = Review(told, "9", "7")
    assert not page.compared
    assert said(page, "sentence").startswith("Version 9: a flight costs")
    seen = text(page.panel("verdict"))
    assert "not judged on the same rows" in seen
    assert "Version 9 was compared with version 8." in seen
    assert "ROC-AUC 0.786 [0.781, 0.791] 0.771 [0.781, 0.791]" in seen
    assert "Cost a flight $4.12 $4.31" in seen


def test_what_is_shown_unasked_is_what_waits_then_what_serves(
    told: loader.Project, tmp_path: Path
) -> None:
    assert version_data.asked_for(version_data.versions(told)).number == "8"
    approvals.record_approval(
        told,
        Review(told).mine.facts | {"review": "passed", "sample": "0", "author": "bob"},
        "rejected",
        "ann",
        "too slow",
    )
    assert Review(told).mine.number == "7"
    nobody = story.make(tmp_path / "nobody")
    for run in nobody.reports_folder.iterdir():
        (run / "manifest.json").write_text(
            (run / "manifest.json").read_text().replace("waiting (approval)", "failed")
        )
    assert Review(nobody).mine.number == "8"


@pytest.mark.parametrize(
    ("word", "state", "tail"),
    [
        ("rejected", "▲ Rejected", "but ann rejected it."),
        ("changes", "◆ Changes asked for", "but ann asked for changes."),
        ("approved", "◆ Approved, on its way", "and ann approved it."),
    ],
)
def test_what_was_said_of_it_stands_in_badge_sentence_and_history(
    told: loader.Project, word: approvals.ApprovalOutcome, state: str, tail: str
) -> None:
    approvals.record_approval(
        told,
        Review(told, "8").mine.facts | {"review": "passed", "sample": "0", "author": "bob"},
        word,
        "ann",
        f"because {story.SCRIPT}",
    )
    page = Review(told, "8")
    assert page.state()[1] == state
    assert said(page, "sentence").endswith(tail)
    assert f"because {story.SCRIPT}" in said(page, "detail")
    assert f"because {story.SCRIPT}" in text(page.html())


def test_nothing_from_outside_is_ever_html(told: loader.Project) -> None:
    story.serve(told, "8", by=story.SCRIPT, why=story.SCRIPT)
    page = dashboards.twin("review", told, told.reports_folder / "review.html")
    assert story.SCRIPT not in page
    assert page.count("<script") == 1
    assert page.count("&lt;script&gt;") > 8


@pytest.mark.usefixtures("visited")
def test_the_buttons_carry_what_the_page_shows_and_the_twin_has_none(
    told: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Review(told).html()
    assert [
        act in page
        for act in (
            'data-act="ask"',
            'data-act="reject"',
            'data-act="approve"',
            'data-act="rollback"',
        )
    ] == [True, True, True, False]
    assert all(f"&#34;{v}&#34;" in page for v in Review(told).mine.facts.values())
    assert "Approving serves it at once, and keeps version 7 to go back to." in page
    monkeypatch.delenv("VOILA_PREHEAT")
    assert "<button type=button data-act" not in Review(told).html()
    assert "Approving" not in Review(told).html()


@pytest.mark.usefixtures("visited")
def test_a_version_that_serves_can_be_left_for_the_one_before(told: loader.Project) -> None:
    assert 'data-act="rollback"' not in Review(told, "7").html()
    story.serve(told, "8")
    page = Review(told).html()
    assert "Go back to 7 …" in page
    assert 'data-act="approve"' not in page


@pytest.mark.usefixtures("visited")
def test_what_blocks_closes_the_button_in_words(
    told: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Review(told)
    [first, *rest] = page.mine.verdicts
    blocking = type(first)(
        "leak", "No column knows the future", "failed", "blocks", "wind knows it."
    )
    page.mine.__dict__["verdicts"] = type(page.mine.verdicts).from_verdicts([blocking, *rest])
    assert said(page, "sentence").endswith("but it is blocked: no column knows the future fails.")
    assert page.state()[0] == "act"
    assert text(rendering.part("review", "closed", page.mine)) == "What blocks it: wind knows it."
    assert 'data-closed=1 title="What blocks it: wind knows it."' in page.head()


@pytest.mark.parametrize(
    "gone",
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
def test_a_card_that_fails_says_so_and_the_rest_stands(told: loader.Project, gone: str) -> None:
    whole = Review(told).html()
    story.write(told, story.NEW, "8", "7", "waiting (approval)", drop=(gone,))
    page = Review(told, "8").html()
    assert (
        whole.count("This card cannot be shown") < page.count("This card cannot be shown")
        or gone == "calibration"
    )
    assert "mlops run --from review" in page
    assert "Who said what?" in page
    assert "What can be opened?" in page


def test_a_damaged_file_is_told_on_its_card(told: loader.Project) -> None:
    (told.reports_folder / story.NEW / "artifacts" / "slices.json").write_text("{")
    page = text(Review(told).html())
    assert "The artifact 'slices' of 20130701-061200-bbbb is damaged" in page
    assert "Version 8 costs $0.19 a flight less" in page


def test_an_old_run_shows_what_it_has(told: loader.Project) -> None:
    gone = (
        "numbers",
        "against",
        "calibration",
        "changes",
        "slices",
        "importance",
        "what_if",
        "costs",
    )
    run = story.write(told, story.NEW, "8", "7", "waiting (approval)", drop=gone)
    record = rendering.json.loads((run / "stages" / "review.json").read_text())
    record["shown"] = [
        {
            "title": "What the decision hangs on",
            "sentence": "A flight costs $4.17 with this model. Nothing else.",
            "numbers": [
                {
                    "__kind__": "Number",
                    "title": "Cost a flight",
                    "value": "$4.17",
                    "beside": ["without a model: $7.04"],
                }
            ],
        }
    ]
    (run / "stages" / "review.json").write_text(rendering.json.dumps(record))
    page = text(Review(told, "8").html())
    assert "Version 8: a flight costs $4.17 with this model, and nothing blocks it." in page
    assert "without a model: $7.04" in page
    assert "an older version made it" in page


def test_before_the_first_version_it_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(story.YAML)
    project = loader.load_project(tmp_path)
    page = text(Review(project).html())
    assert "No version has been reviewed yet." in page
    assert page.endswith("Run mlops run")
    assert dashboards.twin("review", project, tmp_path / "review.html")


def test_an_unknown_version_names_those_there_are(told: loader.Project) -> None:
    assert "No run here has version '9'. Expected: one of: 7, 8." in text(Review(told, "9").html())


def test_the_twin_links_to_the_runs_files_from_where_it_stands(told: loader.Project) -> None:
    page = dashboards.twin("review", told, told.root / "elsewhere" / "review.html")
    [link] = re.findall(r'href="([^"]+card.html)"', page)
    assert (told.root / "elsewhere" / link).resolve() == (
        told.reports_folder / story.NEW / "artifacts" / "card.html"
    ).resolve()
    assert "http" not in page
    assert len(page) < 5e6


def test_the_command_line_writes_the_page_as_one_file(
    told: loader.Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys,
        "argv",
        ["mlops", "report", "--dashboard", "review", "--version", "7", "--project", str(told.root)],
    )
    with pytest.raises(SystemExit) as ended:
        application.main()
    assert ended.value.code in (0, None)
    assert "review.html shows the review dashboard" in capsys.readouterr().out
    assert "● Serves now" in (told.reports / "review.html").read_text()


def test_an_unknown_dashboard_names_those_there_are(told: loader.Project) -> None:
    with pytest.raises(KitError, match="no dashboard 'revue'"):
        dashboards.twin("revue", told, told.root / "x.html")


def test_the_notebook_shows_every_part_in_jupyterlab_too(
    told: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("MLOPS_PROJECT", str(told.root))
    book = nbformat.read(
        resources.find_resource_folder("notebooks") / "dashboards" / "review.ipynb", as_version=4
    )
    NotebookClient(book, timeout=60, kernel_name="python3").execute()
    shown = [
        o["data"]["text/html"]
        for c in book.cells
        if c.cell_type == "code"
        for o in c.outputs
        if "data" in o
    ]
    assert len(shown) == 1 + len(Review.tabs)
    assert all(s.startswith("<style>") for s in shown)
    assert "costs $0.19 a flight less" in text(shown[0])
    assert "data-act" not in "".join(re.sub("<style>.*?</style>", "", s, flags=re.S) for s in shown)
