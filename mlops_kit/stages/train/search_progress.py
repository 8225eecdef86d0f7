"""The progress of a search: a bar in a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlops_kit.core.formatting import format_number

# Takes the number of trials that ended, and the best of them so far (a trial of Optuna).
ProgressCallback = Callable[[int, Any], None]
_INTERVAL_SECONDS = 10  # between two plain progress lines


@contextmanager
def show_search_progress(trials: int, progress: bool) -> Iterator[ProgressCallback]:
    """Yield a function that reports progress: a bar in a terminal, else a line now and then."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr, force_jupyter=False)
    if progress and console.is_terminal:
        with Progress(console=console, transient=True) as bar:
            task = bar.add_task("trials", total=trials)

            def update_bar(count: int, best: Any) -> None:
                description = f"trials, best {format_number(best.value)}"
                bar.update(task, completed=count, description=description)

            yield update_bar
        return

    last_line_at = time.monotonic()

    def print_line(count: int, best: Any) -> None:
        nonlocal last_line_at
        is_due = time.monotonic() - last_line_at >= _INTERVAL_SECONDS
        if not progress or not is_due:
            return
        last_line_at = time.monotonic()
        line = (
            f"{count} of {trials} trials, best {best.params['family']} {format_number(best.value)}"
        )
        console.print(line, highlight=False)

    yield print_line
