"""Progress: lines that stay, and lines that pass."""

from __future__ import annotations

import io

from mlops_kit.pipeline.progress import Teller


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_log_has_the_lines_that_stay_and_few_that_pass() -> None:
    stream = io.StringIO()
    say = Teller(stream, interval=1e9)
    say("train: cell 1 of 9", passing=True)
    say("train: succeeded")
    say.close()
    assert stream.getvalue() == "train: succeeded\n"
    often = Teller(stream, interval=0)
    often("train: cell 2 of 9", passing=True)
    assert stream.getvalue().endswith("train: cell 2 of 9\n")


def test_a_terminal_shows_what_passes_and_keeps_what_stays() -> None:
    stream = Terminal()
    say = Teller(stream)
    say("train: cell 1 of 9", passing=True)
    say("train: [succeeded]")
    say.close()
    assert "train: cell 1 of 9" in stream.getvalue() and "train: [succeeded]" in stream.getvalue()
