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
NEEDED = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no chromium on this machine: pages were not looked at in a browser (Debian: apt-get install chromium)",
)


@contextmanager
def opened(
    chromium: Any, url: str, allowed: tuple[str, ...], **settings: Any
) -> Iterator[tuple[Any, list[str]]]:
    """A page in a window of its own; and what it complained of, did not find, or asked for beside what is allowed."""
    window = chromium.new_context(viewport={"width": 1280, "height": 900}, **settings)
    page, wrong = window.new_page(), list[str]()
    page.on(
        "console",
        lambda said: (
            wrong.append(f"console: {said.text}") if said.type in {"error", "warning"} else None
        ),
    )
    page.on("pageerror", lambda error: wrong.append(f"page: {error}"))
    page.on(
        "request",
        lambda request: (
            wrong.append(f"asked for {request.url[:200]}")
            if not request.url.startswith(allowed)
            else None
        ),
    )
    page.on("requestfailed", lambda request: wrong.append(f"not found: {request.url[:200]}"))
    page.goto(url, wait_until="load", timeout=60_000)
    yield page, wrong
    window.close()
