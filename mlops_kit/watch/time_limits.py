"""Calls of foreign code and networks with a time limit."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mlops_kit.core.extensions import describe_exception


def call_with_time_limit(function: Callable[[], None], seconds: float) -> str:
    """Call a function in a thread; return what went wrong, or an empty text.

    A call that takes longer holds nothing up; it is not ended, and may still succeed later.
    """
    errors: list[str] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:  # foreign code may even exit: the caller goes on
            errors.append(describe_exception(error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        return f"no answer within {seconds:g} seconds"
    return "".join(errors)
