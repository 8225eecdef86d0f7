"""Notebook client."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import CellExecutionError
from papermill.clientwrap import PapermillNotebookClient

from mlops_kit.pipeline.kernel_watchdog import KernelWatchdog

MAX_STREAM_CHARACTERS = 1_000_000  # characters of a cell's streams that the notebook keeps; the rest goes to a file beside it
_TRACER_REPORT_EXPRESSION = (
    "__import__('sys').modules['mlops_kit.core.dependencies'].report_dependencies()"
)


def collapse_carriage_returns(text: str) -> str:
    """Text as a terminal shows it: of a line that was written over by carriage returns, the last.

    >>> frames("1 of 9\\r2 of 9\\r3 of 9\\ndone")
    '3 of 9\\ndone'
    """
    *lines, last = text.split("\n")
    end = "\r" if last.endswith("\r") else ""  # what comes next writes over it
    return "\n".join(line.removesuffix("\r").rpartition("\r")[2] for line in [*lines, last]) + end


class MlopsNotebookClient(PapermillNotebookClient):  # type: ignore[misc]
    """Runs the cells of a notebook, and knows at which one it is."""

    watchdog: KernelWatchdog
    report_cell: Callable[[int, int], None] | None = None
    log_path: Path | None = None
    current_index: int = -1
    used_dependencies: dict[str, Any] | None = None

    def papermill_execute_cells(self) -> None:
        """Run cell after cell until one fails; then ask the kernel what was used."""
        code = [i for i, c in enumerate(self.nb.cells) if c.cell_type == "code"]
        for index, cell in enumerate(self.nb.cells):
            self.current_index = index
            if self.report_cell and index in code:
                self.report_cell(code.index(index) + 1, len(code))
            self.nb_man.cell_start(cell, index)
            self.stream_characters, self.watchdog.cell_started_at = 0, time.monotonic()
            try:
                self.execute_cell(cell, index)
                self.raise_shown_error(cell)
            except BaseException:
                self.nb_man.cell_exception(cell, cell_index=index)
                raise
            finally:
                self.watchdog.cell_started_at = 0.0
                self.nb_man.cell_complete(cell, cell_index=index)
        reply = self.wait_for_reply(
            self.kc.execute("", silent=True, user_expressions={"used": _TRACER_REPORT_EXPRESSION})
        )
        told = reply["content"]["user_expressions"]["used"] if reply else {}
        self.used_dependencies = (
            ast.literal_eval(told["data"]["text/plain"]) if told.get("status") == "ok" else None
        )

    async def _async_check_alive(self) -> None:
        """Each second of a cell: what is due is saved."""
        if self.nb_man.is_save_due:
            self.nb_man.save()
        await super()._async_check_alive()

    @staticmethod
    def raise_shown_error(cell: Any) -> None:
        """Take an error that a cell has shown for its failure, although the kernel says all is well (``%run`` of a script that fails)."""
        shown = next((o for o in cell.get("outputs", []) if o.output_type == "error"), None)
        if shown is not None and "raises-exception" not in cell.metadata.get("tags", []):
            raise CellExecutionError.from_cell_and_msg(cell, shown)

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take in an output; a stream goes on in the output that it has, unless something was shown since."""
        content = msg["content"]
        if msg["msg_type"] != "stream":
            return super().process_message(msg, cell, cell_index)
        if not self.trim_stream(content, cell_index):
            return None
        streams = takewhile(lambda o: o.output_type == "stream", reversed(cell.outputs))
        old = next((o for o in streams if o.name == content["name"]), None)
        if (
            old is None
            or self.clear_before_next_output
            or self.output_hook_stack[msg["parent_header"].get("msg_id")]
        ):
            content["text"] = collapse_carriage_returns(content["text"])
            return super().process_message(msg, cell, cell_index)
        old["text"] = (
            collapse_carriage_returns(old["text"] + content["text"])
            if "\r" in content["text"] + old["text"][-1:]
            else old["text"] + content["text"]
        )
        self.log_output_message(nbformat.from_dict({"output_type": "stream", **content}))
        return self.nb_man.autosave_cell()

    def trim_stream(self, content: dict[str, str], index: int) -> bool:
        """Whether there is room left in the notebook for some of a stream; what is too much goes to a file."""
        text, before = content["text"], self.stream_characters
        self.stream_characters += len(text)
        if self.log_path is not None and self.stream_characters > MAX_STREAM_CHARACTERS:
            first = before <= MAX_STREAM_CHARACTERS
            file = self.write_overflow(
                text[max(0, MAX_STREAM_CHARACTERS - before) :], index, "w" if first else "a"
            )
            content["text"] = (
                f"{text[: MAX_STREAM_CHARACTERS - before]}\n… the output goes on in {file}\n"
            )
            return first
        return True

    def write_overflow(self, text: str, index: int, mode: str) -> str:
        """Put what is too much for the notebook into a file beside the kernel's log; the file's name."""
        assert self.log_path is not None
        path = self.log_path.with_suffix(f".cell{index}.txt")
        with path.open(mode, encoding="utf-8") as file:
            file.write(self.nb_man.scrub(text))
        return path.name
