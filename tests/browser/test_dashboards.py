"""The dashboards as a person meets them, served and as a file: by day and by night, wide and narrow, by mouse and by keyboard; and a decision taken on one.

Skipped, with the reason, where there is no Chromium.
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
from mlops_kit.project import loader
from mlops_kit.registry import store
from tests.browser import window
from tests.dashboards import rounds, story

REACH = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide, [role=tablist]')).slice(0, 4).map(e => e.outerHTML.slice(0, 120))"""
TABS = ("verdict", "quality", "slices", "reasons", "data", "lineage", "history", "card")

pytestmark = window.NEEDED


@contextmanager
def opened(chromium: Any, url: str, name: str = "ann") -> Iterator[tuple[Any, list[str]]]:
    """A page in a window of its own; and what it complained of, or asked of another host."""
    filed = url.startswith("file:")
    with window.opened(
        chromium,
        url,
        ("file:" if filed else "/".join(url.split("/")[:3]), "data:", "about:"),
        extra_http_headers={} if filed else {"X-User": name},
    ) as found:
        yield found


def serious(page: Any) -> list[str]:
    """What axe-core calls serious, by day and by night; the model card in its frame is looked at with the run's pages."""
    from axe_core_python.sync_playwright import Axe

    found = []
    page.evaluate(
        "document.querySelectorAll('iframe').forEach(f => f.remove())"
    )  # its origin is none, which axe does not bear
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        worst = [v for v in Axe().run(page)["violations"] if v["impact"] in {"serious", "critical"}]
        found += [
            f"{scheme}: {v['id']}: {v['help']}: {v['nodes'][0]['html'][:150]} ({len(v['nodes'])} times)"
            for v in worst
        ]
    return found


@pytest.fixture(scope="module")
def twin(registered: loader.Project) -> str:
    """The page as a file beside the runs."""
    file = registered.reports_folder / "review.html"
    files.write_text(file, dashboards.twin("review", registered, file))
    return file.as_uri()


def test_the_file_opens_without_error_and_asks_nobody(chromium: Any, twin: str) -> None:
    with opened(chromium, twin) as (page, wrong):
        assert page.title() == "Model review: flights"
        assert not wrong
        assert "costs $0.19 a flight less" in page.inner_text("h1")
        assert not page.query_selector("button[data-act]")


def test_every_tab_fits_every_width_and_has_nothing_serious(chromium: Any, twin: str) -> None:
    with opened(chromium, twin) as (page, wrong):
        for tab in TABS:
            page.click(f"#tab-{tab}")
            assert [t for t in TABS if page.is_visible(f"#{t}")] == [tab]
            for width in (400, 1280, 1920):
                page.set_viewport_size({"width": width, "height": 900})
                assert not page.evaluate(REACH), f"{tab} at {width} pixels"
        page.evaluate(
            "document.querySelectorAll('[role=tabpanel]').forEach(p => { p.hidden = false; })"
        )
        assert not serious(page)
        assert not wrong


def test_the_tabs_answer_the_keyboard_and_the_address(chromium: Any, twin: str) -> None:
    with opened(chromium, f"{twin}#history") as (page, _):
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


def test_what_if_answers_for_the_chosen_row_without_asking_anybody(
    chromium: Any, twin: str
) -> None:
    with opened(chromium, f"{twin}#reasons") as (page, wrong):
        page.select_option("select[name=row]", "7002")
        said = [
            e.inner_text() for e in page.query_selector_all("[data-in=what-if]") if e.is_visible()
        ]
        assert len(said) == 1
        assert "It says 61% of flight 7002, where wind is 3.1." in said[0]
        assert "81%" in said[0]
        assert not wrong


def test_a_version_is_approved_on_its_page_and_then_serves(
    chromium: Any, registered: loader.Project, address: str
) -> None:
    with opened(chromium, f"{address}/review") as (page, wrong):
        page.wait_for_selector("button[data-act=approve]:not([disabled])")
        assert "signed in: ann" in page.inner_text(".top")
        assert not serious(page)
        page.focus("button[data-act=approve]")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.name") == "reason"
        page.click("dialog[open] [type=submit]")
        assert "Say why" in page.inner_text("dialog[open] [role=alert]")
        assert not serious(page)
        assert len(approvals.list_approvals(registered)) == 1
        page.fill("dialog[open] textarea", f"better {story.SCRIPT}")
        page.click("dialog[open] [type=submit]")
        page.wait_for_function("document.querySelector('.answer')?.textContent")
        assert (
            page.inner_text(".answer")
            == "Version 2 is approved. Its run continues now and promotes it."
        )
        said = approvals.list_approvals(registered)[0]
        assert (said.outcome, said.actor, said.reason) == (
            "approved",
            "ann",
            f"better {story.SCRIPT}",
        )
        assert serves(registered) == "2", (
            registered.reports_folder / story.NEW / "logs" / "resume.log"
        ).read_text()
        page.goto(f"{address}/review", wait_until="load", timeout=60_000)
        assert page.inner_text(".badge") == "● Serves now"
        assert f"by ann: better {story.SCRIPT}" in page.inner_text(".say")
        assert page.title() != "owned"
        assert page.is_disabled("button[data-act=rollback]")
        assert not wrong


def serves(project: loader.Project) -> str:
    """The version that serves, once a decision has been carried out."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        found = approvals.get_current_promotion(project)
        if found is not None and found.version == "2":
            break
        time.sleep(0.2)
    return found.version if found else ""


def test_a_page_of_ones_own_has_live_widgets_and_asks_no_other_host(
    chromium: Any, address: str
) -> None:
    with opened(chromium, f"{address}/own") as (page, wrong):
        page.click("button:has-text('press')", timeout=60_000)
        page.wait_for_selector("text=pressed", timeout=60_000)
        assert page.title() == "Of one's own"
        assert not [w for w in wrong if not w.startswith("console:")]


def test_only_an_operator_goes_back_and_the_page_then_says_so(
    chromium: Any, registered: loader.Project, address: str
) -> None:
    with opened(chromium, f"{address}/review", "carl") as (page, wrong):
        page.click("button[data-act=rollback]:not([disabled])")
        page.fill("dialog[open] textarea", "too many alarms")
        page.click("dialog[open] [type=submit]")
        page.wait_for_function("document.querySelector('.answer')?.textContent")
        assert page.inner_text(".answer") == "Version 1 is in service again; version 2 is not."
        assert not wrong
    found = approvals.get_current_promotion(registered)
    assert found is not None
    assert (found.version, found.actor, found.reason) == (
        "1",
        "carl",
        "rollback: too many alarms",
    )


@pytest.fixture(scope="module")
def watched(registered: loader.Project) -> loader.Project:
    """The same project, three weeks watched; something is open."""
    rounds.tell(registered, [0.79, 0.78, "due"], ["1", "1", "1"])
    rounds.answer(registered, 21, "1")
    rounds.incident(registered)
    rounds.decide(registered, 1, "keep", "No: as promised.")
    return registered


def test_the_monitoring_file_fits_every_width_and_has_nothing_serious(
    chromium: Any, watched: loader.Project
) -> None:
    file = watched.reports_folder / "monitoring.html"
    files.write_text(file, dashboards.twin("monitoring", watched, file))
    with opened(chromium, file.as_uri()) as (page, wrong):
        assert "As good as promised" in page.inner_text("h1")
        assert not page.query_selector("button[data-act]")
        page.evaluate(
            "document.querySelectorAll('[role=tabpanel]').forEach(p => { p.hidden = false; })"
        )
        for width in (400, 1280, 1920):
            page.set_viewport_size({"width": width, "height": 900})
            assert not page.evaluate(REACH), f"{width} pixels"
        assert not serious(page)
        assert not wrong


def test_a_cell_shows_its_two_distributions_by_mouse_and_by_keyboard(
    chromium: Any, watched: loader.Project
) -> None:
    with opened(chromium, (watched.reports_folder / "monitoring.html").as_uri()) as (page, wrong):
        begin = time.monotonic()
        page.click("[aria-label^='wind, 1 – 7 Jul']")
        assert "wind, 1 – 7 Jul: effect 0.400" in page.inner_text(".sketch")
        assert "50% → 20%" in page.inner_text(".sketch")
        assert time.monotonic() - begin < 1
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            page.keyboard.press(key)
        assert page.inner_text(".sketch").startswith("score, 8 – 14 Jul")
        assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
        assert not serious(page)
        page.click(".sketch button")
        assert not page.is_visible(".sketch")
        assert not wrong


def test_an_incident_is_acknowledged_on_the_page_by_an_operator_alone(
    chromium: Any, watched: loader.Project, address: str
) -> None:
    with opened(chromium, f"{address}/monitoring", "ann") as (page, _):
        page.wait_for_function("document.querySelector('[data-who]').textContent.includes('ann')")
        assert page.is_disabled("button[data-act=acknowledge]")
        assert "'ann' may not decide this" in page.get_attribute(
            "button[data-act=acknowledge]", "title"
        )
    with opened(chromium, f"{address}/monitoring", "carl") as (page, wrong):
        page.click("button[data-act=acknowledge]:not([disabled])")
        page.fill("dialog[open] textarea", "the strike")
        page.click("dialog[open] [type=submit]")
        page.wait_for_function("document.querySelector('.answer')?.textContent")
        assert "The incident stays open until it is resolved." in page.inner_text(".answer")
        page.wait_for_selector(
            "text=carl: the strike", timeout=60_000
        )  # the page loads itself again
        assert not page.query_selector("button[data-act=acknowledge]")
        assert not wrong
    assert [(i.seen_by, i.seen_why) for i in query_records(watched, sa.select(IncidentRecord))] == [
        ("carl", "the strike")
    ]


def test_the_page_says_that_somebody_moved_the_alias(
    chromium: Any, watched: loader.Project, address: str
) -> None:
    present = approvals.get_current_promotion(watched)
    other = "2" if present is not None and present.version == "1" else "1"
    with store.connect_mlflow(watched) as client:
        client.set_registered_model_alias("flights", "champion", other)
    with opened(chromium, f"{address}/monitoring") as (page, wrong):
        page.wait_for_selector("[data-note]:not([hidden])")
        assert page.inner_text("[data-note]").startswith(
            f"◆ MLflow's champion points to version {other}"
        )
        assert not wrong
