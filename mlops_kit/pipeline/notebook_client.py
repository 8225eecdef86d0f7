"""The client that executes the cells of a notebook in a kernel and collects their outputs.

It joins the pieces of a stream, keeps of a progress bar only the last frame, moves output beyond
``MAX_STREAM_CHARACTERS`` to a file, and finally asks the kernel which dependencies it used.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlops_kit.core.extras import import_from_extra
from mlops_kit.pipeline.kernel_watchdog import KernelWatchdog

with import_from_extra("train"):
    import nbformat
    from nbclient.exceptions import CellExecutionError
    from papermill.clientwrap import PapermillNotebookClient

MAX_STREAM_CHARACTERS = 1_000_000  # kept of each cell in the notebook; the rest goes to a file
_TRACER_REPORT_EXPRESSION = (
    "__import__('sys').modules['mlops_kit.core.dependencies'].report_dependencies()"
)


def collapse_carriage_returns(text: str) -> str:
    r"""Return text as a terminal shows it: a carriage return overwrites the line so far.

    >>> collapse_carriage_returns("1 of 9\r2 of 9\r3 of 9\ndone")
    '3 of 9\ndone'
    """
    lines = text.split("\n")
    # Text that arrives later overwrites the last line, so its carriage return is kept.
    ending = "\r" if lines[-1].endswith("\r") else ""
    shown_lines = [line.removesuffix("\r").rpartition("\r")[2] for line in lines]
    return "\n".join(shown_lines) + ending


class MlopsNotebookClient(PapermillNotebookClient):  # type: ignore[misc]
    """Executes the cells of a notebook and keeps track of the current one.

    Attributes
    ----------
    watchdog : KernelWatchdog
        Told when each cell starts and ends.
    report_cell : callable, optional
        Called before each code cell with its number and the number of code cells.
    log_path : Path, optional
        The kernel's log; output that is too long for the notebook is stored beside it.
    used_dependencies : dict or None
        What the kernel reported as used; None if it has no import tracer.
    """

    watchdog: KernelWatchdog
    report_cell: Callable[[int, int], None] | None = None
    log_path: Path | None = None
    stream_characters: int = 0  # of the current cell
    used_dependencies: dict[str, Any] | None = None

    def papermill_execute_cells(self) -> None:
        """Execute the cells until one fails, then ask the kernel what was used."""
        code_indices = [i for i, cell in enumerate(self.nb.cells) if cell.cell_type == "code"]
        for index, cell in enumerate(self.nb.cells):
            if self.report_cell and index in code_indices:
                self.report_cell(code_indices.index(index) + 1, len(code_indices))
            self._execute_single_cell(cell, index)
        self.used_dependencies = self._request_dependencies()

    def _execute_single_cell(
        self,
        cell: Any,
        index: int,
    ) -> None:
        self.nb_man.cell_start(cell, index)
        self.stream_characters = 0
        self.watchdog.cell_started_at = time.monotonic()
        try:
            self.execute_cell(cell, index)
            self.raise_shown_error(cell)
        except BaseException:
            self.nb_man.cell_exception(cell, cell_index=index)
            raise
        finally:
            self.watchdog.cell_started_at = 0.0
            self.nb_man.cell_complete(cell, cell_index=index)

    def _request_dependencies(self) -> dict[str, Any] | None:
        """Ask the kernel's import tracer what was used; None if there is no tracer."""
        message_id = self.kc.execute(
            "",
            silent=True,
            user_expressions={"used": _TRACER_REPORT_EXPRESSION},
        )
        reply = self.wait_for_reply(message_id)
        if not reply:
            return None
        result = reply["content"]["user_expressions"]["used"]
        if result.get("status") != "ok":
            return None
        used: dict[str, Any] = ast.literal_eval(result["data"]["text/plain"])
        return used

    async def _async_check_alive(self) -> None:
        """Save the notebook if that is due; nbclient calls this every second of a cell."""
        if self.nb_man.is_save_due:
            self.nb_man.save()
        await super()._async_check_alive()

    @staticmethod
    def raise_shown_error(cell: Any) -> None:
        """Raise an error that a cell displayed although the kernel reported success.

        ``%run`` of a script that fails does that.

        Raises
        ------
        CellExecutionError
            If the cell shows an error and is not tagged ``raises-exception``.
        """
        if "raises-exception" in cell.metadata.get("tags", []):
            return
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise CellExecutionError.from_cell_and_msg(cell, output)

    def process_message(
        self,
        msg: dict[str, Any],
        cell: Any,
        cell_index: int,
    ) -> Any:
        """Add an output to its cell; a piece of a stream continues the output of that stream.

        If something else was displayed in between, the stream starts a new output.
        """
        content = msg["content"]
        if msg["msg_type"] != "stream":
            return super().process_message(msg, cell, cell_index)
        if not self.trim_stream(content, cell_index):
            return None
        previous = _find_open_stream(cell, content["name"])
        is_redirected = self.output_hook_stack[msg["parent_header"].get("msg_id")]
        if previous is None or self.clear_before_next_output or is_redirected:
            content["text"] = collapse_carriage_returns(content["text"])
            return super().process_message(msg, cell, cell_index)
        # Only text with a carriage return is collapsed: scanning a long line again for each
        # of its pieces took minutes.
        needs_collapsing = "\r" in content["text"] + previous["text"][-1:]
        previous["text"] += content["text"]
        if needs_collapsing:
            previous["text"] = collapse_carriage_returns(previous["text"])
        self.log_output_message(nbformat.from_dict({"output_type": "stream", **content}))
        return self.nb_man.autosave_cell()

    def trim_stream(
        self,
        content: dict[str, str],
        cell_index: int,
    ) -> bool:
        """Trim a piece of a stream to the space left in the notebook; write the rest to a file.

        Returns
        -------
        bool
            Whether the notebook gets some of it.
        """
        text = content["text"]
        space = MAX_STREAM_CHARACTERS - self.stream_characters
        self.stream_characters += len(text)
        if self.log_path is None or self.stream_characters <= MAX_STREAM_CHARACTERS:
            return True
        is_first_overflow = space >= 0
        path = self.log_path.with_suffix(f".cell{cell_index}.txt")
        with path.open("w" if is_first_overflow else "a", encoding="utf-8") as file:
            file.write(self.nb_man.scrub(text[max(0, space) :]))
        content["text"] = f"{text[:space]}\n… the output continues in {path.name}\n"
        return is_first_overflow


def _find_open_stream(cell: Any, name: str) -> Any:
    """Return the output of a stream that more text can be added to, None without one."""
    latest_streams = takewhile(lambda o: o.output_type == "stream", reversed(cell.outputs))
    for output in latest_streams:
        if output.name == name:
            return output
    return None
