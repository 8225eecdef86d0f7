"""One browser for the pages of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import browser_window


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser; closed before tests that have an event loop of their own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_window.CHROMIUM, args=browser_window.ARGUMENTS
        )
        yield browser
        browser.close()
