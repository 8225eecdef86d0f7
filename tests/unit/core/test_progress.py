"""Progress: lines that stay, and transient lines."""

from __future__ import annotations

import io

from mlops_kit.core.progress import ProgressPrinter


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_log_has_lasting_lines_and_few_transient_ones() -> None:
    stream = io.StringIO()
    report = ProgressPrinter(stream, interval=1e9)
    report("train: cell 1 of 9", transient=True)
    report("train: succeeded")
    report.close()
    assert stream.getvalue() == "train: succeeded\n"
    report_often = ProgressPrinter(stream, interval=0)
    report_often("train: cell 2 of 9", transient=True)
    assert stream.getvalue().endswith("train: cell 2 of 9\n")


def test_terminal_shows_transient_lines_and_keeps_lasting_ones() -> None:
    stream = Terminal()
    report = ProgressPrinter(stream)
    report("train: cell 1 of 9", transient=True)
    report("train: [succeeded]")
    report.close()
    assert "train: cell 1 of 9" in stream.getvalue()
    assert "train: [succeeded]" in stream.getvalue()
