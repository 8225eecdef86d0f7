"""How a run tells where it is: lines that stay, and one that passes.

In a terminal the passing line is a spinner that is rewritten; in a log it is a plain line now and then.
"""

from __future__ import annotations

import time
from typing import Any, Protocol, TextIO

_LOG_INTERVAL_SECONDS = 30  # seconds between two passing lines in a log


class ProgressReporter(Protocol):
    """What the chain calls: a line that stays, or one that passes."""

    def __call__(self, text: str, transient: bool = False) -> None:
        """Tell a line."""


def _make_rich_text(text: str) -> Any:
    """Text that rich shows as it is."""
    from rich.text import Text

    return Text(text)


class ProgressPrinter:
    """Tells on a stream; to be left by ``close``."""

    def __init__(self, stream: TextIO, interval: float = _LOG_INTERVAL_SECONDS) -> None:
        self.stream, self.interval_seconds, self.last_line_time = stream, interval, time.monotonic()
        self.status: Any = None
        self.transient_lines: dict[str, str] = {}  # of stages that go on at once, each its line
        if stream.isatty():
            from rich.console import Console

            self.status = Console(file=stream, highlight=False).status("")
            self.status.start()

    def __call__(self, text: str, transient: bool = False) -> None:
        """Tell a line; in a log a passing one only if the last line is some time ago."""
        if self.status is not None:
            who = text.partition(":" if ":" in text else " ")[0]
            self.transient_lines.pop(who, None)
            if transient:
                self.transient_lines[who] = text
            else:
                self.status.console.print(text, markup=False)
            self.status.update(_make_rich_text(" · ".join(self.transient_lines.values()) or " "))
            return
        if not transient or time.monotonic() - self.last_line_time >= self.interval_seconds:
            self.last_line_time = time.monotonic()
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        """Take the passing line away."""
        if self.status is not None:
            self.status.stop()
