"""The nursery: a process that has only imported, from which a stage's kernel is forked, warm.

Nothing is fitted, queried or drawn here, and no Python thread runs (a library that starts one while it
is imported is left out): a fork of such a process is sound, a fork after one OpenMP fit is a crash. It reads
requests, a JSON line each, and answers in the same way. What a child leaves behind when it ends is killed,
and all that is left when the nursery's reader is gone; on Linux that finds daemons too, for orphans come to it.

A request has ``env``, ``cwd``, ``log`` (file for standard error) and either ``connection`` (a kernel's
connection file) or ``call`` (``module:function``), ``args`` and ``answer`` (a file for the JSON result).
With ``plain`` the kernel is a Python of its own, and shares nothing with this process.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlops_kit.core import dependencies, import_tracer

_KERNEL_MODULES = (
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
)
_IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM)
DEFERRED_MODULES_MARKER = "|"  # among the names of modules: those after it are not needed at once
_CHILD_ID_VARIABLE = (
    "MLOPS_KERNEL"  # environment variable by which all that a child has started is known
)
_thread_starting_modules: set[str] = set()  # modules that have started a thread
_PR_SET_CHILD_SUBREAPER, _PR_SET_PDEATHSIG = (
    36,
    1,
)  # prctl's PR_SET_CHILD_SUBREAPER and PR_SET_PDEATHSIG


def _import_module(name: str, rest: list[str], children: dict[int, str]) -> None:
    """Import what the kernels will; start anew without a module that starts a thread."""
    known, threads = set(sys.modules), threading.active_count()
    try:
        importlib.import_module(name)
    except Exception:
        for part in [
            m
            for m in set(sys.modules) - known
            if m.startswith(f"{name.partition('.')[0]}.")
            and name.partition(".")[0] not in sys.modules
        ]:
            del sys.modules[part]  # half of a package would fail there with another word
        return
    import_tracer.import_log.attribute_new_modules(name, known)
    if threading.active_count() > threads:
        _thread_starting_modules.add(name)
    if _thread_starting_modules and not children:
        os.execv(
            sys.executable,
            [
                sys.executable,
                "-c",
                FORK_SERVER_SCRIPT,
                json.dumps([n for n in rest if n not in _thread_starting_modules]),
            ],
        )


def _serve_requests(names: list[str]) -> None:
    """Answer requests until there is nobody left to answer; what is named after ``LATER`` is imported between two of them."""
    children: dict[int, str] = {}
    ended: dict[int, int] = {}
    _set_process_option(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(
        signal.SIGCHLD, lambda number, frame: _reap_children(children, ended)
    )  # in the midst of an import too, or of itself
    for number in _IGNORED_SIGNALS:  # the run decides what a Ctrl-C means for its kernels
        signal.signal(number, signal.SIG_IGN)
    first = names.index(DEFERRED_MODULES_MARKER) if DEFERRED_MODULES_MARKER in names else len(names)
    for name in names[
        :first
    ]:  # before the first fork: kernels that import the same beside each other take the cores twice
        _import_module(name, names, children)
    left, rest = names[first + 1 :], b""
    _freeze_memory()
    while True:
        while select.select([0], [], [], 0 if left else None)[0]:
            if not (read := os.read(0, 65536)):
                _kill_descendants(children)
                os._exit(0)  # extension modules complain of what they leak when they are taken down
            *lines, rest = (rest + read).split(b"\n")
            for asked in map(json.loads, lines):
                asked["env"][_CHILD_ID_VARIABLE] = f"{os.getpid()}.{asked['id']}"
                ended.clear()  # of orphans that nobody asks for
                children[_start_child(asked)] = asked["env"][_CHILD_ID_VARIABLE]
                _reap_children(children, ended)
        _import_module(left.pop(0), names, children)
        if not left:
            _freeze_memory()


def _freeze_memory() -> None:
    """Keep what stands for all children, in memory that they share."""
    import_tracer.map_modules_to_distributions()
    gc.collect()
    gc.freeze()


def _start_child(asked: dict[str, Any]) -> int:
    """Fork what is asked for, in a process group of its own, and say its number."""
    if "connection" in asked and (asked.get("plain") or threading.active_count() > 1):
        with Path(asked["log"]).open("ab") as log:
            command = [sys.executable, "-c", FORK_SERVER_SCRIPT, "--kernel", asked["connection"]]
            pid = subprocess.Popen(
                command,
                env=asked["env"],
                cwd=asked["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ).pid
    else:
        home = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run_child(asked, home)
    _send_reply(id=asked["id"], pid=pid)
    return pid


def _send_reply(**said: Any) -> None:
    """Answer in a line; whoever asked may have gone."""
    with suppress(BrokenPipeError):
        os.write(1, json.dumps(said).encode() + b"\n")


def _reap_children(children: dict[int, str], ended: dict[int, int]) -> None:
    """Say of each child that has ended how it ended, when nothing of it is left; it may end before it is known."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    for pid in [
        p for p in tuple(children) if p in ended
    ]:  # a copy, for a child that ends meanwhile is taken out
        if mark := children.pop(pid, ""):
            _kill_descendants([pid], mark)
            _send_reply(pid=pid, status=ended[pid])


def _kill_descendants(groups: Iterable[int], mark: str = "") -> None:
    """Kill whole process groups, and of what else has come to be below this process all that bears a mark."""
    import psutil

    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if not mark or process.environ().get(_CHILD_ID_VARIABLE) == mark:
                process.kill()


def _set_process_option(what: int, value: int) -> None:
    """Ask Linux for something about this process; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(what, value)


def _run_child(asked: dict[str, Any], home: int) -> None:
    """In the child: be a process of its own, do what is asked, and end."""
    status = 1
    try:
        _detach_child(asked, home)
        if "connection" in asked:
            _run_kernel(asked["connection"])
        else:
            _call_function(asked)
        status = 0
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _detach_child(asked: dict[str, Any], home: int) -> None:
    """Own session, streams, environment, folder and random numbers; die with the nursery, which is process ``home``."""
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _set_process_option(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != home:
        os._exit(1)
    nothing, log = (
        os.open(os.devnull, os.O_RDONLY),
        os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    )
    for target, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, target)
    for end in (nothing, log):
        os.close(end)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    if "numpy" in sys.modules:
        sys.modules[
            "numpy"
        ].random.seed()  # Python's own generator does this by itself after a fork
    import_tracer.mark_process_fork()


def _call_function(asked: dict[str, Any]) -> None:
    """Run a function of ours and file what it returns."""
    module, _, name = asked["call"].partition(":")
    result = getattr(importlib.import_module(module), name)(*asked["args"])
    Path(asked["answer"]).write_text(json.dumps(result), encoding="utf-8")


def _run_kernel(connection: str) -> None:
    """Be an IPython kernel until it is shut down; where memory runs out, it goes before the run that has to tell it."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    import zmq
    from ipykernel.kernelapp import IPKernelApp

    class App(IPKernelApp):
        """Drops no output: above a thousand that wait, ZeroMQ would, and with them the word that a cell has ended."""

        def init_iopub(self, context: Any) -> None:
            """Open the outputs' socket without a limit."""
            context.setsockopt(zmq.SNDHWM, 0)
            super().init_iopub(context)  # type: ignore[no-untyped-call]

    app: Any = App.instance()
    app.initialize(["-f", connection, f"--IPKernelApp.parent_handle={os.getppid()}"])
    if "MLOPS_PROJECT" in os.environ:
        dependencies.watch_project_files(
            os.environ["MLOPS_PROJECT"], os.path.dirname(os.environ.get("MLOPS_RUN", os.devnull))
        )
    import_tracer.mark_process_fork()  # the kernel stands: what comes now is the notebook's
    app.start()


def run_fork_server() -> None:
    """The nursery's door; with ``--kernel FILE`` a plain kernel and nothing else."""
    import_tracer.install_import_hooks()
    if sys.argv[1:2] == ["--kernel"]:
        _run_kernel(sys.argv[2])
        return
    for name in _KERNEL_MODULES:
        importlib.import_module(name)
    _serve_requests(json.loads(sys.argv[1]))


FORK_SERVER_SCRIPT = f"from {__name__} import run_fork_server; run_fork_server()"
