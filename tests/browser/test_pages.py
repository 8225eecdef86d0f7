"""A run's pages in a real browser: wide and narrow, light and dark.

The checks hold whatever the design: no error, no request to elsewhere, nothing that scrolls
sideways, nothing that axe-core calls serious. Skipped where there is no Chromium.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlops_kit.project.config import pipeline
from tests.support import browser_window

NOTEBOOK_PAGES = [
    f"notebooks/{Path(stage['notebook']).stem}.html" for stage in pipeline.DEFAULT_STAGES.values()
]
OWN_PAGES = ["index.html", *NOTEBOOK_PAGES, "artifacts/card.html"]
PAGES = [*OWN_PAGES, "artifacts/profile.html"]
LOCAL_ADDRESSES = ("file:", "data:", "blob:", "about:")
FIND_BROKEN_IMAGES = (
    "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(0, 100))"
)
LIST_LINKS = (
    "[...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href'))"
    ".filter(h => !h.startsWith('#'))"
)

pytestmark = browser_window.NEEDS_CHROMIUM


class OpenedPage(NamedTuple):
    """A page of a run in a window of its own without network."""

    file: Path
    page: Any
    problems: list[str]


@pytest.fixture(scope="module", params=PAGES)
def opened(request: pytest.FixtureRequest, chromium: Any, run: Path) -> Iterator[OpenedPage]:
    """A page, opened once for all tests; each leaves it as wide as it was."""
    file = run / request.param
    with browser_window.open_window(chromium, file.as_uri(), LOCAL_ADDRESSES, offline=True) as (
        page,
        problems,
    ):
        yield OpenedPage(file, page, problems)


of_own_pages = pytest.mark.parametrize("opened", OWN_PAGES, indirect=True)


def test_page_opens_from_disk_without_errors_and_requests_nothing(opened: OpenedPage) -> None:
    assert not opened.problems
    assert opened.page.title()
    assert opened.page.evaluate("document.documentElement.lang") == "en"


@of_own_pages
def test_every_image_of_a_page_is_loaded(opened: OpenedPage) -> None:
    assert not opened.page.evaluate(FIND_BROKEN_IMAGES)


def test_nothing_scrolls_sideways(opened: OpenedPage) -> None:
    for width in (400, 1280):
        opened.page.set_viewport_size({"width": width, "height": 900})
        overflow = opened.page.evaluate(browser_window.FIND_OVERFLOW, "")
        assert not overflow, f"at {width} pixels"


@of_own_pages
def test_page_is_accessible_in_light_and_dark(opened: OpenedPage) -> None:
    assert not browser_window.find_accessibility_problems(opened.page)


@pytest.mark.parametrize("opened", ["index.html"], indirect=True)
def test_every_link_of_the_index_leads_to_a_file_of_the_run(opened: OpenedPage) -> None:
    run = opened.file.parent
    links = opened.page.evaluate(LIST_LINKS)
    assert set(NOTEBOOK_PAGES) <= set(links)
    assert not [link for link in links if not (run / link.split("#")[0]).exists()]
