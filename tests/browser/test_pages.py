"""A run's pages as a person meets them: in a real browser, wide and narrow, by day and by night.

What is asked holds whatever the design: no error, nothing from elsewhere, nothing that scrolls
sideways, nothing that axe-core calls serious. Skipped, with the reason, where there is no Chromium.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.project.config import pipeline
from tests.browser import window

OURS = [
    "index.html",
    *(f"notebooks/{Path(s['notebook']).stem}.html" for s in pipeline.DEFAULT_STAGES.values()),
    "artifacts/card.html",
]
PAGES = [*OURS, "artifacts/profile.html"]
LOCAL = ("file:", "data:", "blob:", "about:")

pytestmark = window.NEEDED


@contextmanager
def opened(chromium: Any, file: Path) -> Iterator[tuple[Any, list[str]]]:
    """A page in a window of its own, cut off from the network; and what it complained of or asked for."""
    with window.opened(chromium, file.as_uri(), LOCAL, offline=True) as found:
        yield found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_from_disk_without_error_and_asks_nobody(
    chromium: Any, run: Path, name: str
) -> None:
    with opened(chromium, run / name) as (page, wrong):
        assert not wrong
        assert page.title()
        assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize("name", OURS)
def test_every_picture_of_a_page_is_drawn(chromium: Any, run: Path, name: str) -> None:
    with opened(chromium, run / name) as (page, _):
        assert not page.evaluate(
            "[...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(0, 100))"
        )


REACH = """() => document.documentElement.scrollWidth <= innerWidth ? [] : [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 4).map(e => e.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("name", PAGES)
def test_nothing_scrolls_sideways(chromium: Any, run: Path, name: str) -> None:
    with opened(chromium, run / name) as (page, _):
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 900})
            assert not page.evaluate(REACH), f"at {width} pixels"


@pytest.mark.parametrize("name", OURS)
def test_axe_finds_nothing_serious_by_day_or_by_night(chromium: Any, run: Path, name: str) -> None:
    from axe_core_python.sync_playwright import Axe

    with opened(chromium, run / name) as (page, _):
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = [
                v for v in Axe().run(page)["violations"] if v["impact"] in {"serious", "critical"}
            ]
            assert not [
                f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:150]} ({len(v['nodes'])} times)"
                for v in found
            ], scheme


def test_every_link_of_the_index_leads_to_a_file_of_the_run(chromium: Any, run: Path) -> None:
    with opened(chromium, run / "index.html") as (page, _):
        links = page.evaluate(
            "[...document.querySelectorAll('a[href]')].map(a => a.getAttribute('href')).filter(h => !h.startsWith('#'))"
        )
    assert {
        f"notebooks/{Path(s['notebook']).stem}.html" for s in pipeline.DEFAULT_STAGES.values()
    } <= set(links)
    assert not [link for link in links if not (run / link.split("#")[0]).exists()]
