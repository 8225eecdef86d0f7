"""Papermill's engine of ours: whatever happens to a kernel, the saved notebook tells it.

``papermill --engine mlops NOTEBOOK OUT`` uses it by itself (an entry point); the chain gives it the run's
limits. How a notebook ended stands in its metadata under ``mlops`` (an ``End``), each cell's status says
what was run and what was not, and a failure is raised as papermill's own error with the same words.

To add a limit: a field of ``Limits``, and what goes beyond it in ``Watch.breach``.
"""

from __future__ import annotations

import ast
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import ERROR_MARKER_TAG

from mlops_kit import store
from mlops_kit.pipeline import entry, kernels
from mlops_kit.stage import QUIET

NAME = "mlops"
GRACE = 5.0  # seconds that a cell has to end after it was interrupted, before its group is killed
DRAIN = 60  # seconds that outputs may lag behind the end of their cell
CAP = 1_000_000  # characters of a cell's streams that the notebook keeps; the rest goes to a file beside it
TRACE = "__import__('sys').modules['mlops_kit.trace'].report()"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
LINE = re.compile(r"Cell In\[\d+\], line (\d+)")


@dataclass(frozen=True)
class End:
    """How a notebook ended.

    ``status`` is one of succeeded, failed, killed, timed out, interrupted, stopped early; ``detail`` says
    more of it (``signal 9, likely out of memory, peak 3.1 GiB``). ``cell`` counts code cells from one,
    ``line`` the lines of that cell; ``peak`` is resident memory in bytes.
    """

    status: str
    type: str = ""
    message: str = ""
    detail: str = ""
    cell: int | None = None
    line: int | None = None
    source: str = ""
    traceback: list[str] = field(default_factory=list)
    peak: int = 0

    @property
    def words(self) -> str:
        """The status as it is shown: ``killed (signal 9, …)``."""
        return f"{self.status} ({self.detail})" if self.detail else self.status


class Stopped(PapermillExecutionError):  # type: ignore[misc]
    """A notebook did not end well; ``end`` says how."""

    def __init__(self, index: int, count: int | None, end: End) -> None:
        super().__init__(index, count, end.source, end.type, end.message, end.traceback)
        self.end = end

    def __str__(self) -> str:
        told = super().__str__() if self.end.traceback else ""
        return f"{told}{self.end.words}{f' in cell {self.end.cell}' if self.end.cell else ''}: {': '.join(filter(None, (self.end.type, self.end.message)))}"


@dataclass
class Limits:
    """What a stage may take; None is no limit. Seconds, and bytes of resident memory of its process group."""

    cell: float | None = None
    stage: float | None = None
    memory: int | None = None
    start: float = 60


class Watch:
    """Looks after a kernel from a thread: memory, time, and whether the run was told to stop."""

    def __init__(self, limits: Limits, stop: threading.Event | None = None) -> None:
        self.limits, self.stop = limits, stop or threading.Event()
        self.child: kernels.Child | None = None
        self.began, self.cell_began = time.monotonic(), 0.0
        self.peak, self.reason, self.detail, self.starved = 0, "", "", starved()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look, daemon=True)

    def breach(self) -> tuple[str, str]:
        """What the kernel has gone beyond: a status and what more there is to say; empty if all is well."""
        now, limits = time.monotonic(), self.limits
        if self.stop.is_set():
            return "interrupted", ""
        if limits.memory and self.peak > limits.memory:
            return "killed", f"over its memory limit of {gib(limits.memory)}, peak {gib(self.peak)}"
        if limits.stage and now - self.began > limits.stage:
            return "timed out", f"stage over {limits.stage:g} s"
        if limits.cell and self.cell_began and now - self.cell_began > limits.cell:
            return "timed out", f"cell over {limits.cell:g} s"
        return "", ""

    def look(self) -> None:
        """Interrupt what goes beyond its limits, and kill it if that does not help."""
        asked = 0.0
        while not self.over.wait(0.05 if self.stop.is_set() else 0.2):
            if self.child is None:
                continue
            self.peak = max(self.peak, resident(self.child.pid))
            if not self.reason:
                self.reason, self.detail = self.breach()
                if self.reason:
                    asked = time.monotonic()
                    self.child.send_signal(
                        signal.SIGKILL if self.reason == "killed" else signal.SIGINT
                    )
            elif time.monotonic() - asked > GRACE:
                self.child.kill()


def gib(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def resident(pid: int) -> int:
    """Resident memory of a process and what it has started, in bytes."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def memory() -> int:
    """The memory that this process may use: the machine's, or its control group's where that is less."""
    limit, whole = (
        of_group("memory.max", "memory.limit_in_bytes"),
        int(psutil.virtual_memory().total),
    )
    return min(int(limit), whole) if limit.isdecimal() else whole


def starved() -> int:
    """How many processes of this control group have been killed as memory ran out."""
    found = re.search(r"^oom_kill (\d+)", of_group("memory.events", "memory.oom_control"), re.M)
    return int(found[1]) if found else 0


def of_group(new: str, old: str) -> str:
    """What the control group that holds this process says in a file on memory, by its name in version 2 and in 1; empty where there is none."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            folder, name = (
                (Path("/sys/fs/cgroup/memory"), old)
                if "memory" in kinds.split(",")
                else (Path("/sys/fs/cgroup"), new)
            )
            for file in (
                folder / place.lstrip("/") / name,
                folder / name,
            ):  # a container may see its own group as the root
                if kinds in {"", "memory"} and file.exists():
                    return file.read_text().strip()
    return ""


def scrubbed(value: Any, scrub: Callable[[str], str]) -> Any:
    """Plain values with all text scrubbed but names and kinds of things."""
    if isinstance(value, dict):
        return {k: v if k.endswith("_type") else scrubbed(v, scrub) for k, v in value.items()}
    if isinstance(value, list):
        return [scrubbed(v, scrub) for v in value]
    return scrub(value) if isinstance(value, str) else value


class Book(NotebookExecutionManager):  # type: ignore[misc]
    """Papermill's record of a notebook, saved atomically, without secrets and not twice a cell."""

    last, took, due = 0.0, 0.0, False
    scrub: Callable[[str], str] = str
    reserve: Path | None = None  # a file that is given up if there is no room for the last word

    def clean(self) -> Any:
        """The notebook as it may be seen."""
        return (
            nbformat.from_dict(scrubbed(self.nb, self.scrub)) if self.scrub is not str else self.nb
        )

    def save(self, now: bool = False, **given: Any) -> None:
        """Save; if the last time is nearer than ten times what a save takes, it is due when somebody asks again."""
        self.due = not now and time.monotonic() - self.last <= 10 * self.took
        if self.output_path and not self.due:
            begin = time.monotonic()
            if "://" in str(self.output_path) or str(self.output_path) == "-":
                super().save()
            else:
                self.file(now)
            self.last = time.monotonic()
            self.took = self.last - begin

    def file(self, needed: bool) -> None:
        """Write the notebook; on a full disk only if it is needed."""
        text = nbformat.writes(self.clean())
        try:
            store.write_text(Path(self.output_path), text)
        except OSError:
            if needed and self.reserve is not None:
                self.reserve.unlink(missing_ok=True)
                store.write_text(Path(self.output_path), text)
            elif needed:
                raise

    def close(self, end: End) -> None:
        """Record how it ended, and leave what was not run as pending."""
        self.end_time = self.now()
        facts = self.nb.metadata.papermill
        facts.update(
            end_time=self.end_time.isoformat(),
            duration=(self.end_time - self.start_time).total_seconds(),
            exception=end.status != "succeeded" or None,
        )
        self.nb.metadata["mlops"] = {
            k: v for k, v in asdict(end).items() if v not in (None, "", [])
        }
        self.nb.update(self.clean())
        self.cleanup_pbar()


def frames(text: str) -> str:
    """Text as a terminal shows it: of a line that was written over by carriage returns, the last.

    >>> frames("1 of 9\\r2 of 9\\r3 of 9\\ndone")
    '3 of 9\\ndone'
    """
    *lines, last = text.split("\n")
    end = "\r" if last.endswith("\r") else ""  # what comes next writes over it
    return "\n".join(line.removesuffix("\r").rpartition("\r")[2] for line in [*lines, last]) + end


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """Runs the cells of a notebook, and knows at which one it is."""

    watch: Watch
    progress: Callable[[int, int], None] | None = None
    side: Path | None = None
    at: int = -1
    used: dict[str, Any] | None = None

    def papermill_execute_cells(self) -> None:
        """Run cell after cell until one fails; then ask the kernel what was used."""
        code = [i for i, c in enumerate(self.nb.cells) if c.cell_type == "code"]
        for index, cell in enumerate(self.nb.cells):
            self.at = index
            if self.progress and index in code:
                self.progress(code.index(index) + 1, len(code))
            self.nb_man.cell_start(cell, index)
            self.written, self.watch.cell_began = 0, time.monotonic()
            try:
                self.execute_cell(cell, index)
                self.refuse(cell)
            except BaseException:
                self.nb_man.cell_exception(cell, cell_index=index)
                raise
            finally:
                self.watch.cell_began = 0.0
                self.nb_man.cell_complete(cell, cell_index=index)
        reply = self.wait_for_reply(
            self.kc.execute("", silent=True, user_expressions={"used": TRACE})
        )
        told = reply["content"]["user_expressions"]["used"] if reply else {}
        self.used = (
            ast.literal_eval(told["data"]["text/plain"]) if told.get("status") == "ok" else None
        )

    async def _async_check_alive(self) -> None:
        """Each second of a cell: what is due is saved."""
        if self.nb_man.due:
            self.nb_man.save()
        await super()._async_check_alive()

    @staticmethod
    def refuse(cell: Any) -> None:
        """Take an error that a cell has shown for its failure, although the kernel says all is well (``%run`` of a script that fails)."""
        shown = next((o for o in cell.get("outputs", []) if o.output_type == "error"), None)
        if shown is not None and "raises-exception" not in cell.metadata.get("tags", []):
            raise CellExecutionError.from_cell_and_msg(cell, shown)

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take in an output; a stream goes on in the output that it has, unless something was shown since."""
        content = msg["content"]
        if msg["msg_type"] != "stream":
            return super().process_message(msg, cell, cell_index)
        if not self.fits(content, cell_index):
            return None
        streams = takewhile(lambda o: o.output_type == "stream", reversed(cell.outputs))
        old = next((o for o in streams if o.name == content["name"]), None)
        if (
            old is None
            or self.clear_before_next_output
            or self.output_hook_stack[msg["parent_header"].get("msg_id")]
        ):
            content["text"] = frames(content["text"])
            return super().process_message(msg, cell, cell_index)
        old["text"] = (
            frames(old["text"] + content["text"])
            if "\r" in content["text"] + old["text"][-1:]
            else old["text"] + content["text"]
        )
        self.log_output_message(nbformat.from_dict({"output_type": "stream", **content}))
        return self.nb_man.autosave_cell()

    def fits(self, content: dict[str, str], index: int) -> bool:
        """Whether there is room left in the notebook for some of a stream; what is too much goes to a file."""
        text, before = content["text"], self.written
        self.written += len(text)
        if self.side is not None and self.written > CAP:
            first = before <= CAP
            file = self.overflow(text[max(0, CAP - before) :], index, "w" if first else "a")
            content["text"] = f"{text[: CAP - before]}\n… the output goes on in {file}\n"
            return first
        return True

    def overflow(self, text: str, index: int, mode: str) -> str:
        """Put what is too much for the notebook into a file beside the kernel's log; the file's name."""
        assert self.side is not None
        path = self.side.with_suffix(f".cell{index}.txt")
        with path.open(mode, encoding="utf-8") as file:
            file.write(self.nb_man.scrub(text))
        return path.name


class Engine(entry.Engine, NBClientEngine):  # type: ignore[misc]
    """Runs a notebook in a kernel of ours; what begins with ``kernel_`` comes from the chain."""

    @classmethod
    def execute_notebook(
        cls,
        nb: Any,
        kernel_name: str,
        output_path: str | None = None,
        progress_bar: Any = True,
        log_output: bool = False,
        autosave_cell_every: int = 30,
        kernel_target: str | None = None,
        kernel_check: Callable[[], str] | None = None,
        **given: Any,
    ) -> Any:
        """Run the notebook, and save it as what became of it.

        ``kernel_check`` says what is missing when all cells went well; ``kernel_target`` is saved to by
        nobody else (papermill writes over its own output path once more, and not atomically).

        Raises
        ------
        Stopped
            If it did not end well.
        """
        book = Book(
            nb,
            output_path=kernel_target or output_path,
            progress_bar=progress_bar,
            log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )
        book.scrub, book.reserve = (
            given.pop("kernel_scrub", None) or str,
            given.pop("kernel_reserve", None),
        )
        book.notebook_start()
        nb.metadata["mlops"] = {"status": "running", "pid": os.getpid()}
        book.save(now=True)
        watch = Watch(
            given.pop("kernel_limits", None)
            or Limits(cell=given.get("execution_timeout"), start=given.get("start_timeout") or 60),
            given.pop("kernel_stop", None),
        )
        made, failure = None, None
        with kernels.terminated():
            try:
                made = cls.managed(book, watch, {**given, "log_output": log_output})
            except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - each has its word below
                failure = error
            finally:
                watch.over.set()
        end, index = told(book.nb, made, watch, failure)
        if failure is None and kernel_check is not None and (missing := kernel_check()):
            end = replace(end, status="failed", type="RunFailed", message=missing)
        end = End(**scrubbed(asdict(end), book.scrub))
        book.close(end)
        if end.status != "succeeded":
            mark(book.nb, end, index)
        book.save(now=True)
        if end.status != "succeeded":
            raise Stopped(
                index,
                next(
                    (
                        c.get("execution_count")
                        for c in book.nb.cells[index : index + 2]
                        if c.cell_type == "code"
                    ),
                    None,
                ),
                end,
            ) from failure
        allow(book.nb)
        return book.nb

    @classmethod
    def managed(cls, book: Book, watch: Watch, given: dict[str, Any]) -> Client:
        """Start the kernel, run the cells, take everything down again."""
        log = given.get("kernel_log")
        folder = Path(tempfile.mkdtemp(prefix="mk-"))
        kept = {k: v for k, v in given.items() if k in {"stdout_file", "stderr_file", "log_output"}}
        client = Client(
            book,
            km=kernels.manager(folder, log or "/dev/stderr", given.get("kernel_plain", False)),
            startup_timeout=watch.limits.start,
            kernel_name="python3",
            shutdown_kernel="immediate",
            iopub_timeout=DRAIN,
            **kept,
        )
        client.watch, client.progress = watch, given.get("kernel_progress")
        client.side = Path(log) if log else None
        client.owns_km = True
        begin = client.start_new_kernel

        def start(**_: Any) -> None:
            begin(
                env=given.get("kernel_env") or {**QUIET, **os.environ},
                cwd=given.get("kernel_cwd") or os.getcwd(),
            )
            watch.child = client.km.provisioner.process
            watch.thread.start()

        client.start_new_kernel = start  # nbclient hands these on to the kernel's process; papermill's own engine has no way to
        book.client = client
        try:
            client.execute()
            if "kernel_used" in given:
                given["kernel_used"](client.used)
            return client
        finally:
            if watch.child is not None:
                watch.child.kill()  # with all that its cells have left behind
                watch.child.wait(GRACE)
            shutil.rmtree(folder, ignore_errors=True)


def told(
    nb: Any, made: Client | None, watch: Watch, failure: BaseException | None
) -> tuple[End, int]:
    """How a notebook ended, and the index of the cell at which it did."""
    running = [
        i for i, c in enumerate(nb.cells) if c.metadata.papermill["status"] in {"running", "failed"}
    ]
    index = running[-1] if running else 0
    cell = nb.cells[index]
    if failure is None:
        return End("succeeded", peak=watch.peak), index
    number = sum(c.cell_type == "code" for c in nb.cells[: index + 1])
    place: dict[str, Any] = {
        "cell": number if running else None,
        "source": cell.source if running else "",
        "peak": watch.peak,
    }
    if isinstance(failure, CellExecutionError):
        traceback = [
            line
            for o in cell.get("outputs", [])
            if o.output_type == "error"
            for line in o.traceback
        ] or failure.traceback.splitlines()
        found = [int(n) for n in LINE.findall(ANSI.sub("", "\n".join(traceback)))]
        place |= {
            "line": found[0] if found else None,
            "traceback": traceback[-6:],
            "type": failure.ename,
        }
    if watch.reason:
        said = {
            "killed": "the kernel was killed",
            "timed out": "it took too long and was interrupted",
            "interrupted": "the run was told to stop",
        }[watch.reason]
        return End(
            watch.reason,
            message=said,
            detail=watch.detail,
            **{"type": watch.reason, **place} if "type" not in place else place,
        ), index
    if isinstance(failure, KeyboardInterrupt):
        return End(
            "interrupted", type="KeyboardInterrupt", message="the run was told to stop", **place
        ), index
    if isinstance(failure, CellExecutionError):
        if failure.ename == "SystemExit" and failure.evalue in {"", "0", "None"}:
            return End(
                "stopped early",
                message=f"sys.exit({failure.evalue}) in cell {number}: what comes after it was not run",
                **place,
            ), index
        return End("failed", message=failure.evalue, **place), index
    code = watch.child.wait(GRACE) if watch.child is not None else None
    if isinstance(failure, DeadKernelError) and code is not None and code < 0:
        likely = (
            ", likely out of memory"
            if code == -signal.SIGKILL
            and (starved() > watch.starved or watch.peak > 0.5 * memory())
            else ""
        )
        return End(
            "killed",
            type="DeadKernelError",
            message="the kernel died",
            detail=f"signal {-code}{likely}, peak {gib(watch.peak)}",
            **place,
        ), index
    if isinstance(failure, DeadKernelError):
        return End(
            "failed",
            type="DeadKernelError",
            message=f"the kernel ended by itself with exit code {code}",
            **place,
        ), index
    began = any(c.metadata.papermill["status"] != "pending" for c in nb.cells)
    return End(
        "failed",
        type=type(failure).__name__,
        message=str(failure)
        if began
        else f"the kernel did not start: {str(failure).splitlines()[0] if str(failure) else type(failure).__name__}",
        **place,
    ), index


def mark(nb: Any, end: End, index: int) -> None:
    """Say before the cell at which a notebook ended how it ended; a later run takes that out again."""
    where = " in the cell below" if end.cell else ""
    cell = nbformat.v4.new_markdown_cell(
        f"**▲ {end.words[0].upper()}{end.words[1:]}**{where}. {': '.join(filter(None, (end.type, end.message)))}"
    )
    cell.metadata.update(
        tags=[ERROR_MARKER_TAG],
        papermill={
            "status": "completed",
            "exception": None,
            "start_time": None,
            "end_time": None,
            "duration": None,
        },
    )
    nb.cells.insert(index, cell)


def allow(nb: Any) -> None:
    """Let papermill see no failure in a cell that was allowed to raise: it goes by outputs, not by tags."""
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                text = "\n".join(output.traceback)
                output.clear()
                output.update(output_type="stream", name="stderr", text=text)


def register() -> None:
    """Make the engine known to papermill as ``mlops``, where it is not installed; what it logs of each run, the run says better."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    papermill_engines.register(NAME, Engine)
