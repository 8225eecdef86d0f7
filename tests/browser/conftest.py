"""One browser for the pages of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import window


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser; closed before tests that have an event loop of their own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=window.CHROMIUM, args=window.ARGUMENTS)
        yield browser
        browser.close()
