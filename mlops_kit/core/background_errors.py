"""Record exceptions that no cell shows: in threads, in asyncio tasks, in futures nobody asks.

Python prints them at most; the cell that started the thread or task succeeds.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from mlops_kit.core import callers

_RECORD_ATTRIBUTE = "_mlops_kit_error"


@dataclass
class BackgroundError:
    """An exception outside of the cells.

    Attributes
    ----------
    text : str
        Where it was raised, its class and its message.
    cell : int
        The execution count of the cell that was running; 0 if none was.
    is_retrieved : bool
        Whether the notebook asked for the result, and so was told.
    """

    text: str
    cell: int
    is_retrieved: bool = False


_errors: list[BackgroundError] = []


def watch_background_errors() -> None:
    """Record from now on the exceptions of threads, tasks and futures of this process."""
    _watch_threads()
    _watch_tasks()
    _watch_futures()


def list_background_errors() -> list[tuple[str, int]]:
    """Return the exceptions that no cell has shown, with the cell that was running."""
    _collect_finished_tasks()
    shown: dict[tuple[str, int], None] = {}
    for error in _errors:
        if not error.is_retrieved:
            shown[error.text, error.cell] = None
    return list(shown)


def _add_error(place: str, error: BaseException | None) -> BackgroundError:
    text = f"{type(error).__name__}: {error}" if error is not None else "unknown error"
    cell, _ = callers.find_running_cell()
    recorded = BackgroundError(f"{place}: {text}", cell)
    _errors.append(recorded)
    return recorded


def _watch_threads() -> None:
    show_exception = threading.excepthook

    def record_and_show(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_type is not SystemExit:
            name = arguments.thread.name if arguments.thread is not None else "unknown"
            _add_error(f"exception in thread {name}", arguments.exc_value)
        show_exception(arguments)

    threading.excepthook = record_and_show


def _watch_tasks() -> None:
    handle_exception = asyncio.BaseEventLoop.call_exception_handler

    def record_and_handle(loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            _add_error("exception in a task", error)
        handle_exception(loop, context)

    asyncio.BaseEventLoop.call_exception_handler = record_and_handle  # type: ignore[method-assign, assignment]


def _collect_finished_tasks() -> None:
    """Record the exceptions of tasks that still exist and that nobody has asked."""
    all_tasks: Any = getattr(asyncio.tasks, "_all_tasks", ())
    tasks: Any = getattr(asyncio.tasks, "_scheduled_tasks", all_tasks)  # since Python 3.12
    for task in list(tasks):
        is_unnoticed = task.done() and getattr(task, "_log_traceback", False)
        if is_unnoticed and not task.cancelled():
            _add_error("exception in a task", task.exception())


def _watch_futures() -> None:
    set_exception = Future.set_exception

    @functools.wraps(set_exception)
    def record_and_set(future: Future[Any], exception: BaseException | None) -> None:
        setattr(future, _RECORD_ATTRIBUTE, _add_error("exception in an executor", exception))
        set_exception(future, exception)

    setattr(Future, set_exception.__name__, record_and_set)
    for name in ("result", "exception"):
        setattr(Future, name, _wrap_retrieval(getattr(Future, name)))


def _wrap_retrieval(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def retrieve(future: Future[Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return original(future, *args, **kwargs)
        finally:
            recorded = getattr(future, _RECORD_ATTRIBUTE, None)
            if recorded is not None:
                recorded.is_retrieved = True

    return retrieve
