"""A run's pages in a real browser: wide and narrow, light and dark.

The checks hold whatever the design: no error, no request to elsewhere, nothing that scrolls
sideways, nothing that axe-core calls serious. Skipped where there is no Chromium.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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


@contextmanager
def open_page(chromium: Any, file: Path) -> Iterator[tuple[Any, list[str]]]:
    """Open a page in a window of its own without network; yield it and its problems."""
    with browser_window.open_window(
        chromium, file.as_uri(), LOCAL_ADDRESSES, offline=True
    ) as opened:
        yield opened


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_from_disk_without_errors_and_requests_nothing(
    chromium: Any, run: Path, name: str
) -> None:
    with open_page(chromium, run / name) as (page, problems):
        assert not problems
        assert page.title()
        assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("name", OWN_PAGES)
def test_every_image_of_a_page_is_loaded(chromium: Any, run: Path, name: str) -> None:
    with open_page(chromium, run / name) as (page, _):
        assert not page.evaluate(FIND_BROKEN_IMAGES)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_scrolls_sideways(chromium: Any, run: Path, name: str) -> None:
    with open_page(chromium, run / name) as (page, _):
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert not page.evaluate(browser_window.FIND_OVERFLOW, ""), f"at {width} pixels"


@pytest.mark.parametrize("name", OWN_PAGES)
def test_page_is_accessible_in_light_and_dark(chromium: Any, run: Path, name: str) -> None:
    with open_page(chromium, run / name) as (page, _):
        assert not browser_window.find_accessibility_problems(page)


def test_every_link_of_the_index_leads_to_a_file_of_the_run(chromium: Any, run: Path) -> None:
    with open_page(chromium, run / "index.html") as (page, _):
        links = page.evaluate(LIST_LINKS)
    assert set(NOTEBOOK_PAGES) <= set(links)
    assert not [link for link in links if not (run / link.split("#")[0]).exists()]
