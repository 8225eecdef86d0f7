"""The dashboards as a person meets them, served and exported, and decisions taken on them.

Light and dark, wide and narrow, by mouse and by keyboard. Skipped where there is no Chromium.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from mlops_kit import dashboards
from mlops_kit.core import files
from mlops_kit.db import approvals
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import IncidentRecord
from mlops_kit.project.loader import Project
from mlops_kit.registry import store
from tests.support import browser_window, sample_runs, watch_records

TABS = ("verdict", "quality", "slices", "explanations", "data", "lineage", "history", "card")
SCROLLING_ELEMENTS = ".wide, [role=tablist]"
MAX_PROMOTION_SECONDS = 180
SHOW_ALL_PANELS = (
    "document.querySelectorAll('[role=tabpanel]').forEach(panel => { panel.hidden = false; })"
)
# The color of the first text in a chart, and the one that it should have.
COLORS_OF_A_CHART = """(() => {
    const text = document.querySelector('.broad svg text');
    const sample = document.body.appendChild(document.createElement('i'));
    sample.style.color = 'var(--soft)';
    return [getComputedStyle(text).fill, getComputedStyle(sample).color];
})()"""
VISITOR_IS_SHOWN = "document.querySelector('[data-who]')?.textContent === 'signed in: ann'"
ANSWER_IS_SHOWN = "document.querySelector('.answer')?.textContent"

pytestmark = browser_window.NEEDS_CHROMIUM


@contextmanager
def open_page(chromium: Any, url: str, name: str = "ann") -> Iterator[tuple[Any, list[str]]]:
    """Open a page in a window of its own; yield it and its problems."""
    is_file = url.startswith("file:")
    origin = "file:" if is_file else "/".join(url.split("/")[:3])
    settings: dict[str, Any] = {}
    if not is_file:
        # Chromium sends no extra header when it opens a WebSocket, but it sends cookies.
        cookie = {"name": "x-user", "value": name, "domain": "127.0.0.1", "path": "/"}
        cookie |= {"expires": -1, "httpOnly": False, "secure": False, "sameSite": "Lax"}
        settings["extra_http_headers"] = {"X-User": name}
        settings["storage_state"] = {"cookies": [cookie], "origins": []}
    allowed = (origin, "data:", "about:")
    with browser_window.open_window(chromium, url, allowed, **settings) as opened:
        yield opened


def find_serious_problems(page: Any) -> list[str]:
    """Find accessibility problems; the model card in its frame is tested with the run's pages."""
    # axe cannot look into a frame that has no origin.
    page.evaluate("document.querySelectorAll('iframe').forEach(frame => frame.remove())")
    return browser_window.find_accessibility_problems(page)


def assert_fits_every_width(page: Any) -> None:
    for width in (400, 1280, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        overflow = page.evaluate(browser_window.FIND_OVERFLOW, SCROLLING_ELEMENTS)
        assert not overflow, f"{width} pixels"


def submit_decision(page: Any, action: str, reason: str) -> str:
    """Take a decision by mouse; return the server's answer."""
    page.click(f"button[data-act={action}]:not([disabled])")
    page.fill("dialog[open] textarea", reason)
    page.click("dialog[open] [type=submit]")
    page.wait_for_function(ANSWER_IS_SHOWN)
    return str(page.inner_text(".answer"))


@pytest.fixture(scope="module")
def exported_review(registered_project: Project) -> str:
    """The address of the review page as a file beside the runs."""
    file = registered_project.reports_folder / "review.html"
    files.write_text(file, dashboards.export_page("review", registered_project, file))
    return file.as_uri()


def test_exported_page_opens_without_errors_and_requests_nothing(
    chromium: Any, exported_review: str
) -> None:
    with open_page(chromium, exported_review) as (page, problems):
        assert page.title() == "Model review: flights"
        assert not problems
        assert "Errors cost $0.19 less per flight" in page.inner_text("h1")
        assert not page.query_selector("button[data-act]")


def test_every_tab_fits_every_width_and_is_accessible(chromium: Any, exported_review: str) -> None:
    with open_page(chromium, exported_review) as (page, problems):
        for tab in TABS:
            page.click(f"#tab-{tab}")
            assert [t for t in TABS if page.is_visible(f"#{t}")] == [tab]
            assert_fits_every_width(page)
        page.evaluate(SHOW_ALL_PANELS)
        assert not find_serious_problems(page)
        assert not problems


def test_tabs_follow_the_keyboard_and_the_address(chromium: Any, exported_review: str) -> None:
    with open_page(chromium, f"{exported_review}#history") as (page, _):
        assert page.is_visible("#history")
        assert not page.is_visible("#verdict")
        page.focus("#tab-history")
        for key, tab in (
            ("ArrowRight", "card"),
            ("ArrowRight", "verdict"),
            ("ArrowLeft", "card"),
            ("Home", "verdict"),
            ("End", "card"),
        ):
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.id") == f"tab-{tab}"
            assert page.is_visible(f"#{tab}")
            assert page.url.endswith(f"#{tab}")


def test_what_if_analysis_shows_the_chosen_row_without_a_request(
    chromium: Any, exported_review: str
) -> None:
    with open_page(chromium, f"{exported_review}#explanations") as (page, problems):
        page.select_option("select[name=row]", "7002")
        parts = page.query_selector_all("[data-in=what-if]")
        shown = [part.inner_text() for part in parts if part.is_visible()]
        assert len(shown) == 1
        assert "The prediction for flight 7002, where wind is 3.1, is 61%." in shown[0]
        assert "81%" in shown[0]
        assert not problems


def test_approved_version_is_promoted(
    chromium: Any, registered_project: Project, server_address: str
) -> None:
    reason = f"better {sample_runs.SCRIPT}"
    with open_page(chromium, f"{server_address}/review") as (page, problems):
        page.wait_for_selector("button[data-act=approve]:not([disabled])")
        assert "signed in: ann" in page.inner_text(".top")
        assert not find_serious_problems(page)
        page.focus("button[data-act=approve]")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.name") == "reason"
        page.click("dialog[open] [type=submit]")
        assert "Enter a reason" in page.inner_text("dialog[open] [role=alert]")
        assert not find_serious_problems(page)
        assert len(approvals.list_approvals(registered_project)) == 1
        page.fill("dialog[open] textarea", reason)
        page.click("dialog[open] [type=submit]")
        page.wait_for_function(ANSWER_IS_SHOWN)
        assert page.inner_text(".answer") == (
            "Version 2 is approved. Its run continues now and promotes it."
        )
        approval = approvals.list_approvals(registered_project)[0]
        assert (approval.outcome, approval.actor, approval.reason) == ("approved", "ann", reason)
        log = registered_project.reports_folder / sample_runs.NEW_RUN / "logs" / "resume.log"
        assert wait_for_promotion(registered_project, "2") == "2", log.read_text()
        page.goto(f"{server_address}/review", wait_until="load", timeout=60_000)
        assert page.inner_text(".badge") == "● In service"
        assert f"promoted by ann: {reason}" in page.inner_text(".say")
        assert page.title() != "owned"
        assert page.is_disabled("button[data-act=rollback]")
        assert not problems


def wait_for_promotion(project: Project, version: str) -> str:
    """Wait until a version is in service; return the one that is."""
    current = ""
    end = time.monotonic() + MAX_PROMOTION_SECONDS
    while current != version and time.monotonic() < end:
        time.sleep(0.2)
        promotion = approvals.get_current_promotion(project)
        current = promotion.version if promotion else ""
    return current


def test_page_without_anything_to_decide_says_who_is_signed_in(
    chromium: Any, server_address: str
) -> None:
    with open_page(chromium, f"{server_address}/monitoring") as (page, problems):
        page.wait_for_function(VISITOR_IS_SHOWN)
        assert "Nothing is monitored yet." in page.inner_text("h1")
        assert not page.query_selector("button[data-act]")
        assert not problems


def test_own_page_has_live_widgets_and_requests_no_other_host(
    chromium: Any, server_address: str
) -> None:
    with open_page(chromium, f"{server_address}/own") as (page, problems):
        page.click("button:has-text('press')", timeout=60_000)
        page.wait_for_selector("text=pressed", timeout=60_000)
        assert page.title() == "The project's own page"
        page.wait_for_function(VISITOR_IS_SHOWN)
        assert not [problem for problem in problems if not problem.startswith("console:")]


def test_operator_rolls_back(
    chromium: Any, registered_project: Project, server_address: str
) -> None:
    with open_page(chromium, f"{server_address}/review", "carl") as (page, problems):
        answer = submit_decision(page, "rollback", "too many alarms")
        assert answer == "Version 1 is in service again; version 2 is not."
        assert not problems
    promotion = approvals.get_current_promotion(registered_project)
    assert promotion is not None
    assert (promotion.version, promotion.actor, promotion.reason) == (
        "1",
        "carl",
        "rollback: too many alarms",
    )


@pytest.fixture(scope="module")
def monitored_project(registered_project: Project) -> Project:
    """The same project after three monitored weeks; an incident is open."""
    watch_records.write_windows(registered_project, [0.79, 0.78, "due"], ["1", "1", "1"])
    watch_records.write_predictions(registered_project, 21, "1")
    watch_records.write_incident(registered_project)
    watch_records.write_retraining(registered_project, 1, "keep", "No: it matches the reference.")
    return registered_project


@pytest.fixture(scope="module")
def exported_monitoring(monitored_project: Project) -> str:
    """The address of the monitoring page as a file beside the runs."""
    file = monitored_project.reports_folder / "monitoring.html"
    files.write_text(file, dashboards.export_page("monitoring", monitored_project, file))
    return file.as_uri()


def test_exported_monitoring_fits_every_width_and_is_accessible(
    chromium: Any, exported_monitoring: str
) -> None:
    with open_page(chromium, exported_monitoring) as (page, problems):
        assert "Performance matches its reference" in page.inner_text("h1")
        assert not page.query_selector("button[data-act]")
        page.evaluate(SHOW_ALL_PANELS)
        assert_fits_every_width(page)
        assert not find_serious_problems(page)
        assert not problems


def test_charts_follow_the_color_scheme_and_the_width_of_their_card(
    chromium: Any, exported_monitoring: str
) -> None:
    with open_page(chromium, exported_monitoring) as (page, problems):
        colors = set()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            [shown, expected] = page.evaluate(COLORS_OF_A_CHART)
            assert shown == expected
            colors.add(shown)
        assert len(colors) == 2
        for width, layout in ((1280, "broad"), (375, "slim")):
            page.set_viewport_size({"width": width, "height": 900})
            chart = page.locator("svg[role=img]:visible")
            assert chart.count() == 1
            assert "Realized ROC-AUC: 1 – 7 Jul 0.790" in chart.get_attribute("aria-label")
            assert page.is_visible(f".{layout} svg")
            card = page.locator(".card", has=page.locator(".broad")).bounding_box()
            assert chart.bounding_box()["width"] > 0.85 * card["width"]
        page.click("#tab-data")
        tooltips = page.locator("#data svg title").all_text_contents()
        assert tooltips[-1] == "21 Jul: 3 rows"
        assert not problems


def test_cell_shows_its_distributions_by_mouse_and_by_keyboard(
    chromium: Any, exported_monitoring: str
) -> None:
    with open_page(chromium, exported_monitoring) as (page, problems):
        start = time.monotonic()
        page.click("[aria-label^='wind, 1 – 7 Jul']")
        assert "wind, 1 – 7 Jul: effect 0.400" in page.inner_text(".sketch")
        assert "50% → 20%" in page.inner_text(".sketch")
        assert time.monotonic() - start < 1
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        assert page.inner_text(".sketch").startswith("score, 8 – 14 Jul")
        assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
        assert not find_serious_problems(page)
        page.click(".sketch button")
        assert not page.is_visible(".sketch")
        assert not problems


def test_only_an_operator_acknowledges_an_incident(
    chromium: Any, monitored_project: Project, server_address: str
) -> None:
    with open_page(chromium, f"{server_address}/monitoring", "ann") as (page, _):
        page.wait_for_function("document.querySelector('[data-who]').textContent.includes('ann')")
        assert page.is_disabled("button[data-act=acknowledge]")
        title = page.get_attribute("button[data-act=acknowledge]", "title")
        assert "'ann' may not decide this" in title
    with open_page(chromium, f"{server_address}/monitoring", "carl") as (page, problems):
        answer = submit_decision(page, "acknowledge", "the strike")
        assert "Fewer rows than usual" in answer
        # The page reloads itself.
        page.wait_for_selector("text=carl: the strike", timeout=60_000)
        assert not page.query_selector("button[data-act=acknowledge]")
        assert not problems
    [incident] = query_records(monitored_project, sa.select(IncidentRecord))
    assert incident.acknowledged_by == "carl"
    assert incident.acknowledge_reason == "the strike"


def test_page_reports_that_the_alias_was_moved(
    chromium: Any, monitored_project: Project, server_address: str
) -> None:
    promotion = approvals.get_current_promotion(monitored_project)
    other = "2" if promotion is not None and promotion.version == "1" else "1"
    with store.connect_mlflow(monitored_project) as client:
        client.set_registered_model_alias("flights", "champion", other)
    with open_page(chromium, f"{server_address}/monitoring") as (page, problems):
        page.wait_for_selector("[data-note]:not([hidden])")
        note = page.inner_text("[data-note]")
        assert note.startswith(f"◆ MLflow's champion points to version {other}")
        assert not problems
