"""The dashboards as a person meets them, served and as a file: by day and by night, wide and narrow, by mouse and by keyboard; and a decision taken on one.

Skipped, with the reason, where there is no Chromium.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mlops_kit import config, dashboards, decisions, store
from tests.dashboards import story
from tests.dashboards.served import address, registered  # noqa: F401 - fixtures

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
REACH = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide, [role=tablist]')).slice(0, 4).map(e => e.outerHTML.slice(0, 120))"""
TABS = ("verdict", "quality", "slices", "reasons", "data", "lineage", "history", "card")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: pages were not looked at in a browser (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all pages; closed before tests that have an event loop of their own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened(chromium: Any, url: str, name: str = "ann") -> Iterator[tuple[Any, list[str]]]:
    """A page in a window of its own; and what it complained of, or asked of another host."""
    home = "file:" if url.startswith("file:") else "/".join(url.split("/")[:3])
    window = chromium.new_context(viewport={"width": 1280, "height": 900}, extra_http_headers={} if url.startswith("file:") else {"X-User": name})
    page, wrong = window.new_page(), list[str]()
    page.on("console", lambda said: wrong.append(f"console: {said.text}") if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: wrong.append(f"page: {error}"))
    page.on("request", lambda request: wrong.append(f"asked for {request.url[:200]}") if not request.url.startswith((home, "data:", "about:")) else None)
    page.on("requestfailed", lambda request: wrong.append(f"not found: {request.url[:200]}"))
    page.goto(url, wait_until="load", timeout=60_000)
    yield page, wrong
    window.close()


def serious(page: Any) -> list[str]:
    """What axe-core calls serious, by day and by night; the model card in its frame is looked at with the run's pages."""
    from axe_core_python.sync_playwright import Axe

    found = []
    page.evaluate("document.querySelectorAll('iframe').forEach(f => f.remove())")  # its origin is none, which axe does not bear
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        worst = [v for v in Axe().run(page)["violations"] if v["impact"] in {"serious", "critical"}]
        found += [f"{scheme}: {v['id']}: {v['help']}: {v['nodes'][0]['html'][:150]} ({len(v['nodes'])} times)" for v in worst]
    return found


@pytest.fixture(scope="module")
def twin(registered: config.Project) -> str:  # noqa: F811
    """The page as a file beside the runs."""
    file = registered.reports / "review.html"
    store.write_text(file, dashboards.twin("review", registered, file))
    return file.as_uri()


def test_the_file_opens_without_error_and_asks_nobody(chromium: Any, twin: str) -> None:
    with opened(chromium, twin) as (page, wrong):
        assert page.title() == "Model review: flights" and not wrong
        assert "costs $ 0.19 a flight less" in page.inner_text("h1") and not page.query_selector("button[data-act]")


def test_every_tab_fits_every_width_and_has_nothing_serious(chromium: Any, twin: str) -> None:
    with opened(chromium, twin) as (page, wrong):
        for tab in TABS:
            page.click(f"#tab-{tab}")
            assert [t for t in TABS if page.is_visible(f"#{t}")] == [tab]
            for width in (400, 1280, 1920):
                page.set_viewport_size({"width": width, "height": 900})
                assert not page.evaluate(REACH), f"{tab} at {width} pixels"
        page.evaluate("document.querySelectorAll('[role=tabpanel]').forEach(p => { p.hidden = false; })")
        assert not serious(page) and not wrong


def test_the_tabs_answer_the_keyboard_and_the_address(chromium: Any, twin: str) -> None:
    with opened(chromium, f"{twin}#history") as (page, _):
        assert page.is_visible("#history") and not page.is_visible("#verdict")
        page.focus("#tab-history")
        for key, tab in (("ArrowRight", "card"), ("ArrowRight", "verdict"), ("ArrowLeft", "card"), ("Home", "verdict"), ("End", "card")):
            page.keyboard.press(key)
            assert page.evaluate("document.activeElement.id") == f"tab-{tab}" and page.is_visible(f"#{tab}") and page.url.endswith(f"#{tab}")


def test_what_if_answers_for_the_chosen_row_without_asking_anybody(chromium: Any, twin: str) -> None:
    with opened(chromium, f"{twin}#reasons") as (page, wrong):
        page.select_option("select[name=row]", "7002")
        said = [e.inner_text() for e in page.query_selector_all("[data-in=what-if]") if e.is_visible()]
        assert len(said) == 1 and "It says 61 % of flight 7002, where wind is 3.1." in said[0] and "81 %" in said[0] and not wrong


def test_a_version_is_approved_on_its_page_and_then_serves(chromium: Any, registered: config.Project, address: str) -> None:  # noqa: F811
    with opened(chromium, f"{address}/review") as (page, wrong):
        page.wait_for_selector("button[data-act=approve]:not([disabled])")
        assert "signed in: ann" in page.inner_text(".top") and not serious(page)
        page.focus("button[data-act=approve]")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.name") == "reason"
        page.click("dialog[open] [type=submit]")
        assert "Say why" in page.inner_text("dialog[open] [role=alert]") and not serious(page) and len(decisions.opinions(registered)) == 1
        page.fill("dialog[open] textarea", f"better {story.SCRIPT}")
        page.click("dialog[open] [type=submit]")
        page.wait_for_function("document.querySelector('.answer')?.textContent")
        assert page.inner_text(".answer") == "Version 2 is approved. Its run goes on now and lets it serve."
        said = decisions.opinions(registered)[0]
        assert (said.word, said.by, said.why) == ("approved", "ann", f"better {story.SCRIPT}")
        assert serves(registered) == "2", (registered.reports / story.NEW / "logs" / "resume.log").read_text()
        page.goto(f"{address}/review", wait_until="load", timeout=60_000)
        assert page.inner_text(".badge") == "● Serves now" and f"by ann: better {story.SCRIPT}" in page.inner_text(".say")
        assert page.title() != "owned" and page.is_disabled("button[data-act=rollback]") and not wrong


def serves(project: config.Project) -> str:
    """The version that serves, once a decision has been carried out."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        found = decisions.current(project)
        if found is not None and found.version == "2":
            break
        time.sleep(0.2)
    return found.version if found else ""


def test_only_an_operator_goes_back_and_the_page_then_says_so(chromium: Any, registered: config.Project, address: str) -> None:  # noqa: F811
    with opened(chromium, f"{address}/review", "carl") as (page, wrong):
        page.click("button[data-act=rollback]:not([disabled])")
        page.fill("dialog[open] textarea", "too many alarms")
        page.click("dialog[open] [type=submit]")
        page.wait_for_function("document.querySelector('.answer')?.textContent")
        assert page.inner_text(".answer") == "Version 1 serves again; version 2 does not." and not wrong
    found = decisions.current(registered)
    assert found is not None and (found.version, found.by, found.why) == ("1", "carl", "rollback: too many alarms")
