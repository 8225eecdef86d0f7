"""Follow the processes that a stage starts, and the servers that it connects to.

A forked process inherits the hooks of ``file_tracer``; a new Python process installs them because
its ``PYTHONPATH`` begins with a folder whose ``sitecustomize`` does that. Both report what they use
as lines in a file of this folder. Of other programs, the files among their arguments count, and
that they cannot be followed (``shell_commands``).
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_kit.core import callers, file_tracer, library_tracer
from mlops_kit.core.file_log import FileLog, file_log
from mlops_kit.core.shell_commands import SHELLS, ShellUses, analyze_commands, analyze_program
from mlops_kit.core.traced_paths import TracedPaths, has_pattern

REPORTS_VARIABLE = "MLOPS_PROCESS_REPORTS"  # the folder of the reports, for child processes
_PROJECT_VARIABLES = ("MLOPS_PROJECT", "MLOPS_RUN_REPORTS")
_STARTUP_FILE = "sitecustomize.py"
_STARTUP_CODE = """\
import os, sys
folder = os.path.dirname(__file__)
sys.path[:] = [entry for entry in sys.path if entry != folder]
startup = sys.modules.pop("sitecustomize")
try:
    import sitecustomize
except ImportError:
    sys.modules["sitecustomize"] = startup
try:
    from mlops_kit.core.process_tracer import start_in_child
except Exception:
    with open(os.path.join(folder, f"{os.getpid()}.jsonl"), "a") as report:
        report.write('["untraced", "' + os.path.basename(sys.executable) + '", 0]\\n')
else:
    start_in_child(folder)
"""
_REPORT_ENDING = ".jsonl"
# With these, Python ignores PYTHONPATH or does not import sitecustomize.
_ISOLATING_OPTIONS = re.compile(r"-[bBdiOPqRsuvx]*[IES]\w*")
_OPTION_BEFORE_VALUE = re.compile(r"-[bBdiOPqRsuvx]*[WX]|--check-hash-based-pycs")
_SCRIPT_CELL = re.compile(r"run_cell_magic\(")
_SCRIPT_MAGIC = re.compile(r"%%(?:bash|sh|script[^\n]*)\s*\n(.*)", re.DOTALL)


def follow_processes(folder: Path | None) -> None:
    """Follow child processes of this process.

    Parameters
    ----------
    folder : Path or None
        Where they report what they use; it need not exist. None if they cannot report, as in a
        notebook that is run by hand: then a Python process cannot be followed either.
    """
    _register_handlers()
    paths = file_tracer.tracer_state.paths
    if folder is None or paths is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _STARTUP_FILE).write_text(_STARTUP_CODE, encoding="utf-8")
    os.environ[REPORTS_VARIABLE] = str(folder)
    values = (paths.root, paths.reports)
    os.environ.update(zip(_PROJECT_VARIABLES, values, strict=True))
    search_path = os.environ.get("PYTHONPATH")
    entries = [str(folder), *([search_path] if search_path else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(entries)
    os.register_at_fork(after_in_child=_report_to_file)


def start_in_child(folder: str) -> None:
    """Record what this Python process uses, which a stage has started."""
    root, reports = (os.environ.get(name, "") for name in _PROJECT_VARIABLES)
    if not root or os.environ.get(REPORTS_VARIABLE) != folder:
        return
    file_tracer.tracer_state.records_imports = True
    _report_to_file()
    file_tracer.watch_paths(TracedPaths(root, reports))
    _register_handlers()
    os.register_at_fork(after_in_child=_report_to_file)
    library_tracer.watch_libraries()


def _report_to_file() -> None:
    """Report from now on each record of this process as a line of a file."""
    folder = os.environ.get(REPORTS_VARIABLE, "")
    file_tracer.tracer_state.records_imports = True
    if not folder:
        file_log.sink = None
        return
    name = f"{os.getpid()}-{os.urandom(4).hex()}{_REPORT_ENDING}"
    descriptors: list[int] = []

    def write_line(line: str) -> None:
        if not descriptors:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            path = os.path.join(folder, name)
            descriptors.append(file_tracer.run_untraced(lambda: os.open(path, flags, 0o600)))
        os.write(descriptors[0], f"{line}\n".encode())

    file_log.sink = write_line


def merge_child_reports(log: FileLog) -> None:
    """Add what child processes have reported until now to a log."""
    folder = os.environ.get(REPORTS_VARIABLE)
    if folder:
        file_tracer.run_untraced(lambda: _merge_reports(log, Path(folder)))


def _merge_reports(log: FileLog, folder: Path) -> None:
    for path in sorted(folder.glob(f"*{_REPORT_ENDING}")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                kind, name, value = json.loads(line)
            except ValueError:  # the process was killed while it wrote the line
                continue
            if kind == "read" and name in log.written and name not in log.read:
                continue  # the stage wrote it, and then gave it to the process
            log.apply(kind, name, value)


def _register_handlers() -> None:
    for event, handler in (
        ("subprocess.Popen", _handle_popen),
        ("os.system", _handle_system),
        ("os.exec", _handle_exec),
        ("os.posix_spawn", _handle_exec),
        ("os.fork", _handle_fork),
        ("os.forkpty", _handle_fork),
        ("socket.connect", _handle_connection),
        ("socket.sendto", _handle_connection),
        ("socket.getaddrinfo", _handle_lookup),
    ):
        file_tracer.add_event_handler(event, handler)


def _handle_popen(
    program: Any,
    arguments: Any,
    folder: Any,
    environment: Any,
) -> None:
    words = [arguments] if isinstance(arguments, (str, bytes)) else list(arguments)
    texts = [os.fsdecode(word) for word in words]
    if program is not None and texts:
        texts[0] = os.fsdecode(program)
    _record_program(texts, folder, environment)


def _handle_exec(
    program: Any,
    arguments: Any,
    environment: Any = None,
) -> None:
    texts = [os.fsdecode(word) for word in arguments]
    if texts:
        texts[0] = os.fsdecode(program)
    _record_program(texts, None, environment)


def _handle_system(command: Any) -> None:
    _record_program(["sh", "-c", os.fsdecode(command)], None, None)


def _handle_fork() -> None:
    is_reporting = bool(os.environ.get(REPORTS_VARIABLE))
    if not is_reporting and callers.find_caller(sys._getframe(2)).is_local:
        file_tracer.add_untraced_use("a child process")


def _record_program(
    arguments: list[str],
    folder: Any,
    environment: Any,
) -> None:
    """Record what a program uses that is started."""
    caller = callers.find_caller(sys._getframe(3))
    if not arguments or caller.is_service:
        return
    working_folder = os.path.abspath(os.fsdecode(folder) if folder is not None else os.curdir)
    is_shell = os.path.basename(arguments[0]) in SHELLS
    if is_shell and caller.kind == callers.CallerKind.UNKNOWN:
        script = _find_script_of_cell()  # `%%bash` passes it as standard input
        if script:
            _record_uses(analyze_commands(script, working_folder), environment)
            return
    _record_uses(analyze_program(arguments, working_folder), environment)


def _find_script_of_cell() -> str:
    """Return the script of the running cell, if it is one of ``%%bash`` or ``%%script``."""
    _, source = callers.find_running_cell()
    if not _SCRIPT_CELL.search(source):
        return ""
    shell = sys.modules["IPython"].get_ipython()
    match = _SCRIPT_MAGIC.search(shell.history_manager.input_hist_raw[-1])
    return match[1] if match else ""


def _record_uses(uses: ShellUses, environment: Any) -> None:
    for path in uses.written:
        file_log.add("written", path)
    for path in uses.paths:
        # An argument without a dot that is not there is a word, such as a pattern of grep.
        if os.path.exists(path) or has_pattern(path) or "." in os.path.basename(path):
            file_tracer.add_path_use(path)
    for path in uses.listed:
        _record_listed_path(path)
    for path in uses.tested:
        _record_tested_path(path)
    for name in uses.untraced:
        file_tracer.add_untraced_use(name)
    for arguments in uses.python_arguments:
        if not _is_followed(arguments, environment):
            file_tracer.add_untraced_use(os.path.basename(arguments[0]))


def _record_listed_path(path: str) -> None:
    if os.path.isdir(path):
        file_tracer.add_search(os.path.join(path, ""))
    elif has_pattern(path):
        file_tracer.add_search(path)
    else:
        _record_tested_path(path)


def _record_tested_path(path: str) -> None:
    paths = file_tracer.tracer_state.paths
    if paths is None or path in file_log.written or not paths.contains(path):
        return
    file_log.add("existing" if os.path.exists(path) else "missing", path)


def _is_followed(arguments: list[str], environment: Any) -> bool:
    """Return whether a Python process reports what it uses."""
    variables = environment if isinstance(environment, Mapping) else os.environ
    folder = os.environ.get(REPORTS_VARIABLE)
    search_path = str(variables.get("PYTHONPATH", ""))
    if not folder or not search_path.startswith(folder):
        return False
    return not _has_isolating_option(arguments[1:])


def _has_isolating_option(arguments: list[str]) -> bool:
    """Return whether one of Python's own options, which stand before the program, isolates it."""
    words = iter(arguments)
    for word in words:
        if _ISOLATING_OPTIONS.fullmatch(word):
            return True
        if _OPTION_BEFORE_VALUE.fullmatch(word):
            next(words, None)
        elif word in {"-", "-c", "-m"} or not word.startswith("-"):
            return False
    return False


_last_lookups: dict[str, str] = {}  # the host that was last looked up, by port


def _handle_lookup(
    host: Any,
    port: Any,
    *_: Any,
) -> None:
    if host is not None:
        _last_lookups[str(port)] = os.fsdecode(host)


def _handle_connection(connection: Any, address: Any) -> None:
    del connection
    caller = callers.find_caller(sys._getframe(2))
    if caller.is_service:
        return
    if isinstance(address, tuple) and len(address) > 1:
        host, port = str(address[0]), str(address[1])
        file_tracer.add_untraced_use(f"{_last_lookups.get(port, host)}:{port}")
        return
    path = os.fsdecode(address) if isinstance(address, (str, bytes)) else ""
    is_private = path.startswith(("\0", tempfile.gettempdir()))
    if path and not is_private:
        file_tracer.add_untraced_use(path)
