"""How a run tells where it is: lines that stay, and one that passes.

In a terminal the passing line is a spinner that is rewritten; in a log it is a plain line now and then.
"""

from __future__ import annotations

import time
from typing import Any, Protocol, TextIO

INTERVAL = 30  # seconds between two passing lines in a log


class Say(Protocol):
    """What the chain calls: a line that stays, or one that passes."""

    def __call__(self, text: str, passing: bool = False) -> None:
        """Tell a line."""


def rich_text(text: str) -> Any:
    """Text that rich shows as it is."""
    from rich.text import Text

    return Text(text)


class Teller:
    """Tells on a stream; to be left by ``close``."""

    def __init__(self, stream: TextIO, interval: float = INTERVAL) -> None:
        self.stream, self.interval, self.last = stream, interval, time.monotonic()
        self.status: Any = None
        self.passing: dict[str, str] = {}  # of stages that go on at once, each its line
        if stream.isatty():
            from rich.console import Console

            self.status = Console(file=stream, highlight=False).status("")
            self.status.start()

    def __call__(self, text: str, passing: bool = False) -> None:
        """Tell a line; in a log a passing one only if the last line is some time ago."""
        if self.status is not None:
            who = text.partition(":" if ":" in text else " ")[0]
            self.passing.pop(who, None)
            if passing:
                self.passing[who] = text
            else:
                self.status.console.print(text, markup=False)
            self.status.update(rich_text(" · ".join(self.passing.values()) or " "))
            return
        if not passing or time.monotonic() - self.last >= self.interval:
            self.last = time.monotonic()
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Take the passing line away."""
        if self.status is not None:
            self.status.stop()
