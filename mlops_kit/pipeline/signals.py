"""Termination signals of a process that executes notebooks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DEFAULT_HANDLERS: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """Raise ``KeyboardInterrupt`` at the first SIGTERM or Ctrl-C, and ignore later ones.

    Applies only in the main thread, and only to signals for which the program has no handler.
    """
    replaced: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        for number, default in _DEFAULT_HANDLERS.items():
            if signal.getsignal(number) is default:
                replaced.append(number)

    def interrupt(*_: Any) -> None:
        for number in replaced:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in replaced:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, _DEFAULT_HANDLERS[number])
