"""The fork server: a process that only imports modules, from which warm kernels are forked.

It fits, queries and draws nothing, and runs no Python thread (a module that starts one while it is
imported is left out): forking such a process is safe, whereas forking after a single OpenMP fit
crashes. It reads requests from standard input, one ``ChildRequest`` as JSON per line, and answers
on standard output in the same way: ``{"id", "pid"}`` when a child was started,
``{"pid", "status"}`` when it has ended. It is a process of its own, or forked from the resident
server (``resident.server``), which has imported most modules already.

When a child ends, the processes that it left running are killed; when standard input is closed, all
of them are. On Linux that includes daemons, because orphans are reparented to the fork server.

``kernel_pool.ForkServer`` is the other end of the pipe.
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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from mlops_kit.core import background_errors, dependencies, import_tracer
from mlops_kit.core.extras import import_from_extra
from mlops_kit.pipeline import shell_errors
from mlops_kit.pipeline.shell_errors import SHELL_ERRORS_VARIABLE

DEFERRED_MODULES_MARKER = "|"  # modules after it are imported while the first kernels already run
KERNEL_MODULES = (
    "ipykernel.debugger",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.zmqshell",
)
_IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CHILD_ID_VARIABLE = "MLOPS_KERNEL"  # in the environment of all processes that a child starts
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_PDEATHSIG = 1
_KERNEL_OOM_SCORE = 500  # out of memory, Linux kills the kernel rather than the run
_READ_SIZE_BYTES = 65_536
_CHILD_REPORTS_FOLDER = "processes"  # beside the connection file; removed with it


@dataclass(frozen=True)
class ChildRequest:
    """What the fork server is asked to start: a kernel or a function call.

    Attributes
    ----------
    cwd, env, log : str, dict, str
        Working directory, environment, and file for standard error.
    connection : str
        Connection file of the kernel to start; empty for a function call.
    plain : bool
        Start the kernel as a new interpreter that shares nothing with the fork server.
    call : str
        Function to call, as ``module:function``.
    args : list
        Its arguments; JSON must be able to represent them.
    answer : str
        File for its result, as JSON.
    id : int
        Number of the request, set by the sender.
    """

    cwd: str
    env: dict[str, str]
    log: str
    connection: str = ""
    plain: bool = False
    call: str = ""
    args: list[Any] = field(default_factory=list)
    answer: str = ""
    id: int = 0

    def to_line(self) -> bytes:
        """Return the request as one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


class _RequestServer:
    """Imports modules, starts children, and reports how they ended.

    Attributes
    ----------
    module_names : list of str
        The modules to import, with ``DEFERRED_MODULES_MARKER`` among them.
    children : dict
        The id (value of ``_CHILD_ID_VARIABLE``) of each running child, by process id.
    exit_codes : dict
        Exit codes of processes that have ended, by process id.
    thread_starting_modules : set of str
        Imported modules that started a thread.
    """

    def __init__(self, module_names: list[str]) -> None:
        self.module_names = module_names
        self.children: dict[int, str] = {}
        self.exit_codes: dict[int, int] = {}
        self.thread_starting_modules: set[str] = set()
        self.unread = b""

    def serve(self) -> NoReturn:
        """Answer requests until standard input is closed; import deferred modules in between."""
        _set_process_option(_PR_SET_CHILD_SUBREAPER, 1)
        # The handler may run in the middle of an import, and of itself.
        signal.signal(signal.SIGCHLD, lambda *_: self.reap_children())
        for number in _IGNORED_SIGNALS:  # the run decides what Ctrl-C means for its kernels
            signal.signal(number, signal.SIG_IGN)
        names = self.module_names
        split = len(names)
        if DEFERRED_MODULES_MARKER in names:
            split = names.index(DEFERRED_MODULES_MARKER)
        # Before the first fork: kernels that import the same modules at once need twice the CPU.
        for name in names[:split]:
            self.import_module(name)
        deferred = names[split + 1 :]
        freeze_memory()
        while True:
            while _has_input(is_blocking=not deferred):
                self.read_requests()
            self.import_module(deferred.pop(0))
            if not deferred:
                freeze_memory()

    def read_requests(self) -> None:
        """Read what has arrived and start a child for each complete request."""
        received = os.read(0, _READ_SIZE_BYTES)
        if not received:
            _kill_descendants(self.children)
            os._exit(0)  # a regular exit makes extension modules complain about leaks
        *lines, self.unread = (self.unread + received).split(b"\n")
        for line in lines:
            request = ChildRequest(**json.loads(line))
            child_id = f"{os.getpid()}.{request.id}"
            request.env[_CHILD_ID_VARIABLE] = child_id
            self.exit_codes.clear()  # of orphans, which nobody waits for
            self.children[_start_child(request)] = child_id
            self.reap_children()

    def reap_children(self) -> None:
        """Report each child that has ended, after all its processes have been killed.

        A child may end before ``children`` has it: its exit code is kept until then.
        """
        with suppress(ChildProcessError):
            while True:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                self.exit_codes[pid] = os.waitstatus_to_exitcode(wait_status)
        ended = [pid for pid in tuple(self.children) if pid in self.exit_codes]
        for pid in ended:
            # Another call of this handler may have reported the child in the meantime.
            child_id = self.children.pop(pid, "")
            if child_id:
                _kill_descendants([pid], child_id)
                _send_reply(pid=pid, status=self.exit_codes[pid])

    def import_module(self, name: str) -> None:
        """Import a module for the kernels; restart without it if it starts a thread."""
        if import_for_forks(name):
            self.thread_starting_modules.add(name)
        if self.thread_starting_modules and not self.children:
            self.restart()

    def restart(self) -> NoReturn:
        """Replace this process by one that does not import the modules that start threads."""
        names = [name for name in self.module_names if name not in self.thread_starting_modules]
        arguments = [sys.executable, "-c", FORK_SERVER_SCRIPT, json.dumps(names)]
        os.execv(sys.executable, arguments)  # noqa: S606 - a list of our own, no shell


def import_for_forks(name: str) -> bool:
    """Import a module ahead of the forks that will need it, if it can be imported.

    Returns
    -------
    bool
        Whether it started a thread, which makes forks unsafe.
    """
    modules_before = set(sys.modules)
    threads_before = threading.active_count()
    try:
        importlib.import_module(name)
    except Exception:  # whatever it is, the notebook that imports the module will show it
        _forget_partial_package(name, modules_before)
    else:
        import_tracer.import_log.attribute_new_modules(name, modules_before)
    return threading.active_count() > threads_before


def _has_input(is_blocking: bool) -> bool:
    """Return whether standard input can be read; wait until it can if ``is_blocking``."""
    timeout = None if is_blocking else 0
    readable, _, _ = select.select([0], [], [], timeout)
    return bool(readable)


def _forget_partial_package(name: str, modules_before: set[str]) -> None:
    """Remove the submodules of a package that could not be imported.

    If they stayed, importing the package in a notebook would fail with another error.
    """
    package = name.partition(".")[0]
    if package in sys.modules:
        return
    for module in set(sys.modules) - modules_before:
        if module.startswith(f"{package}."):
            del sys.modules[module]


def freeze_memory() -> None:
    """Keep all objects out of garbage collection, so that children share their memory."""
    import_tracer.map_modules_to_distributions()  # cached here, used by every kernel
    gc.collect()
    gc.freeze()


def _start_child(request: ChildRequest) -> int:
    """Start what a request asks for in a process group of its own; return its process id."""
    is_kernel = bool(request.connection)
    if is_kernel and (request.plain or threading.active_count() > 1):
        pid = _start_plain_kernel(request)
    else:
        server_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            _run_child(request, server_pid)
    _send_reply(id=request.id, pid=pid)
    return pid


def _start_plain_kernel(request: ChildRequest) -> int:
    """Start a kernel as a new interpreter; return its process id."""
    command = [sys.executable, "-c", FORK_SERVER_SCRIPT, "--kernel", request.connection]
    with Path(request.log).open("ab") as log:
        process = subprocess.Popen(
            command,
            env=request.env,
            cwd=request.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return process.pid


def _send_reply(**values: int) -> None:
    """Write a reply; the reader may be gone."""
    with suppress(BrokenPipeError):
        os.write(1, json.dumps(values).encode() + b"\n")


def _kill_descendants(groups: Iterable[int], child_id: str = "") -> None:
    """Kill process groups, and descendants of this process: all, or those of one child."""
    import psutil

    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if not child_id or process.environ().get(_CHILD_ID_VARIABLE) == child_id:
                process.kill()


def _set_process_option(option: int, value: int) -> None:
    """Set an option of this process (``prctl``, Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _run_child(request: ChildRequest, server_pid: int) -> NoReturn:
    """Do in the forked child what a request asks for, and end the process."""
    status = 1
    try:
        _detach_child(request, server_pid)
        if request.connection:
            _run_kernel(request.connection)
        else:
            _call_function(request)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # the last frame of this process: show the error and end
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _detach_child(request: ChildRequest, server_pid: int) -> None:
    """Give the child its own session, streams, environment, directory and random numbers.

    The child is killed when the fork server ends.
    """
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _set_process_option(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server_pid:  # it ended before the option was set
        os._exit(1)
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    for descriptor in (null, log):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request.env)
    os.chdir(request.cwd)
    if "numpy" in sys.modules:  # Python's own generator is reseeded after a fork
        sys.modules["numpy"].random.seed()
    import_tracer.mark_process_fork()


def _call_function(request: ChildRequest) -> None:
    """Call the function that a request names and write its result."""
    module, _, name = request.call.partition(":")
    function = getattr(importlib.import_module(module), name)
    result = function(*request.args)
    Path(request.answer).write_text(json.dumps(result), encoding="utf-8")


def _run_kernel(connection: str) -> None:
    """Run an IPython kernel until it is shut down."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_KERNEL_OOM_SCORE))
    with import_from_extra("train"):
        import zmq
        from ipykernel.kernelapp import IPKernelApp

    class KernelApp(IPKernelApp):
        """A kernel that drops no output.

        With ZeroMQ's default limit of 1,000 waiting messages it would drop some, possibly the one
        that reports the end of a cell.
        """

        def init_iopub(self, context: Any) -> None:
            """Open the socket for outputs without a limit."""
            context.setsockopt(zmq.SNDHWM, 0)
            super().init_iopub(context)  # type: ignore[no-untyped-call]

    app: Any = KernelApp.instance()
    app.initialize(["-f", connection, f"--IPKernelApp.parent_handle={os.getppid()}"])
    project_root = os.environ.get("MLOPS_PROJECT")
    if project_root is not None:
        run_folder = Path(os.environ.get("MLOPS_RUN", os.devnull))
        dependencies.watch_project_files(
            project_root,
            str(run_folder.parent),
            Path(connection).parent / _CHILD_REPORTS_FOLDER,
        )
    shell_errors.configure_shell(app.shell, os.environ.get(SHELL_ERRORS_VARIABLE, ""))
    background_errors.watch_background_errors()
    import_tracer.mark_process_fork()  # what is imported from here on belongs to the notebook
    app.start()


def run_fork_server() -> None:
    """Run the fork server; with ``--kernel FILE`` only a plain kernel."""
    import_tracer.install_import_hooks()
    if sys.argv[1:2] == ["--kernel"]:
        _run_kernel(sys.argv[2])
        return
    for name in KERNEL_MODULES:
        importlib.import_module(name)
    serve_requests(json.loads(sys.argv[1]))


def serve_requests(module_names: list[str]) -> NoReturn:
    """Import modules, and start what standard input asks for until it is closed."""
    _RequestServer(module_names).serve()


FORK_SERVER_SCRIPT = f"from {__name__} import run_fork_server; run_fork_server()"
