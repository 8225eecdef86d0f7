"""Report the progress of a run: lines that stay, and transient lines that are replaced.

In a terminal the transient lines are one line with a spinner; in a log they are plain lines at
intervals.
"""

from __future__ import annotations

import time
from typing import Any, Protocol, TextIO

_LOG_INTERVAL_SECONDS = 30.0


class ProgressReporter(Protocol):
    """What the pipeline calls to report its progress."""

    def __call__(
        self,
        text: str,
        transient: bool = False,
    ) -> None:
        """Report a line."""


class ProgressPrinter:
    """Prints progress to a stream; call ``close`` at the end.

    Parameters
    ----------
    stream : TextIO
        A terminal or a log.
    interval : float
        Minimum number of seconds before a transient line is printed to a log.
    """

    def __init__(
        self,
        stream: TextIO,
        interval: float = _LOG_INTERVAL_SECONDS,
    ) -> None:
        self.stream = stream
        self.interval_seconds = interval
        self.last_line_time = time.monotonic()
        self.transient_lines: dict[str, str] = {}  # of stages that run in parallel
        self.status: Any = None
        if stream.isatty():
            from rich.console import Console

            self.status = Console(file=stream, highlight=False).status("")
            self.status.start()

    def __call__(
        self,
        text: str,
        transient: bool = False,
    ) -> None:
        """Print a line; in a log, a transient one only some time after the last line."""
        if self.status is not None:
            self._show_in_terminal(text, transient)
            return
        is_due = time.monotonic() - self.last_line_time >= self.interval_seconds
        if not transient or is_due:
            self.last_line_time = time.monotonic()
            self.stream.write(f"{text}\n")
            self.stream.flush()

    def _show_in_terminal(
        self,
        text: str,
        transient: bool,
    ) -> None:
        from rich.text import Text

        # A line begins with the name of its stage.
        separator = ":" if ":" in text else " "
        stage = text.partition(separator)[0]
        self.transient_lines.pop(stage, None)
        if transient:
            self.transient_lines[stage] = text
        else:
            self.status.console.print(text, markup=False)
        self.status.update(Text(" · ".join(self.transient_lines.values()) or " "))

    def close(self) -> None:
        """Remove the transient lines."""
        if self.status is not None:
            self.status.stop()
