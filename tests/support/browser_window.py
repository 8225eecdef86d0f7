"""A real browser and its windows, for all pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no chromium on this machine: pages were not tested in a browser "
    "(Debian: apt-get install chromium)",
)
# Elements that reach beyond the right edge of the window, except within those of `scrolls`.
FIND_OVERFLOW = """scrolls => document.documentElement.scrollWidth <= innerWidth ? [] :
    [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .filter(e => !scrolls || !e.closest(scrolls))
    .slice(0, 4).map(e => e.outerHTML.slice(0, 120))"""

# By color scheme, what axe-core is asked; what passes is not listed, which takes most of the time.
AXE_OPTIONS: dict[str, dict[str, Any]] = {
    "light": {"resultTypes": ["violations"]},
    "dark": {
        "resultTypes": ["violations"],
        "runOnly": {"type": "rule", "values": ["color-contrast"]},
    },
}


@contextmanager
def open_window(
    chromium: Any, url: str, allowed: tuple[str, ...], **settings: Any
) -> Iterator[tuple[Any, list[str]]]:
    """Open a page in a window of its own.

    Yields
    ------
    page
        The page, loaded.
    problems : list of str
        Its errors and warnings, what it did not find, and requests to other addresses.
    """
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, **settings)
    page = context.new_page()
    problems: list[str] = []

    def check_message(message: Any) -> None:
        if message.type in {"error", "warning"}:
            problems.append(f"console: {message.text}")

    def check_request(request: Any) -> None:
        if not request.url.startswith(allowed):
            problems.append(f"request: {request.url[:200]}")

    page.on("console", check_message)
    page.on("pageerror", lambda error: problems.append(f"page: {error}"))
    page.on("request", check_request)
    page.on("requestfailed", lambda request: problems.append(f"not found: {request.url[:200]}"))
    page.goto(url, wait_until="load", timeout=60_000)
    yield page, problems
    context.close()


def find_accessibility_problems(page: Any) -> list[str]:
    """Find what axe-core calls serious, in the light and in the dark color scheme.

    The dark scheme changes nothing but colors, so that only the rule about them runs again.
    """
    from axe_core_python.sync_playwright import Axe

    problems = []
    for scheme, options in AXE_OPTIONS.items():
        page.emulate_media(color_scheme=scheme)
        for violation in Axe().run(page, options=options)["violations"]:
            if violation["impact"] in {"serious", "critical"}:
                nodes = violation["nodes"]
                first = nodes[0]["html"][:150]
                text = f"{violation['id']}: {violation['help']}: {first} ({len(nodes)} times)"
                problems.append(f"{scheme}: {text}")
    return problems
