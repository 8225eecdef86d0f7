"""Progress: lines that stay, and lines that pass."""

from __future__ import annotations

import io

from mlops_kit.core.progress import ProgressPrinter


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_has_the_lines_that_stay_and_few_that_pass() -> None:
    stream = io.StringIO()
    say = ProgressPrinter(stream, interval=1e9)
    say("train: cell 1 of 9", transient=True)
    say("train: succeeded")
    say.close()
    assert stream.getvalue() == "train: succeeded\n"
    often = ProgressPrinter(stream, interval=0)
    often("train: cell 2 of 9", transient=True)
    assert stream.getvalue().endswith("train: cell 2 of 9\n")


def test_a_terminal_shows_what_passes_and_keeps_what_stays() -> None:
    stream = Terminal()
    say = ProgressPrinter(stream)
    say("train: cell 1 of 9", transient=True)
    say("train: [succeeded]")
    say.close()
    assert "train: cell 1 of 9" in stream.getvalue()
    assert "train: [succeeded]" in stream.getvalue()
