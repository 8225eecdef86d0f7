"""Signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupt_on_termination() -> Iterator[None]:
    """Let the first SIGTERM or Ctrl-C interrupt, and none after it: in the main thread of a program that does not use them."""
    mine = threading.current_thread() is threading.main_thread()
    held = {
        number: plain
        for number, plain in (
            (signal.SIGTERM, signal.SIG_DFL),
            (signal.SIGINT, signal.default_int_handler),
        )
        if mine and signal.getsignal(number) is plain
    }

    def interrupt(*_: Any) -> None:
        for number in held:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in held:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, plain in held.items():
            signal.signal(number, plain)
