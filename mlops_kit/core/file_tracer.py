"""Record which files a process reads, lists and looks for: audit hooks and a wrapped ``os.stat``.

Python reports each file that it opens, each folder that it lists and each process that it starts
as an audit event; whether a file exists is asked through ``os.stat``, which has no event.

To add an event: a function that takes its arguments, and a line in ``_HANDLERS``.
"""

from __future__ import annotations

import functools
import glob
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from mlops_kit.core import callers
from mlops_kit.core.file_log import FileState, file_log
from mlops_kit.core.traced_paths import TooManyNamesError, TracedPaths, has_pattern

CODE_SUFFIXES = (".py", ".pyc")
_MAX_SEARCH_NAMES = 200_000  # listing more takes many seconds, at each plan again
_CONFIG_FILE = "mlops.yaml"  # its settings count one by one
_NOTEBOOK_SUFFIX = ".ipynb"
_WRITE_MODES = set("wax+")
# Modules that read the source of code to show it.
_SOURCE_VIEWERS = ("linecache.py", "inspect.py")
_SOURCE_VIEWER_FRAMES = 4  # how far up the stack they are looked for
_IMPORT_FUNCTIONS = {"_find_and_load", "_gcd_import", "_handle_fromlist"}
_EXISTENCE_FUNCTIONS = {
    "exists",
    "lexists",
    "isfile",
    "isdir",
    "islink",
    "ismount",
    "is_file",
    "is_dir",
    "is_symlink",
    "samefile",
}
_CONTENT_FUNCTIONS = {"getsize", "getmtime", "getctime"}
_NO_DESCRIPTOR = -1  # in an audit event: a path is not relative to an open folder


@dataclass
class _TracerState:
    """What the hooks of this process need.

    Attributes
    ----------
    paths : TracedPaths or None
        The files that count; None before a project is watched.
    records_imports : bool
        Whether imported files count as files, as in child processes: there is no import tracer.
    has_hooks : bool
        Whether the hooks are installed.
    handlers : dict
        What is called with the arguments of each audit event, by the name of the event.
    """

    paths: TracedPaths | None = None
    records_imports: bool = False
    has_hooks: bool = False
    handlers: dict[str, Callable[..., None]] = field(default_factory=dict)


tracer_state = _TracerState()
_thread_state = threading.local()


def watch_paths(paths: TracedPaths) -> None:
    """Record from now on what this process uses of the files that count."""
    tracer_state.paths = paths
    if tracer_state.has_hooks:
        return
    tracer_state.has_hooks = True
    tracer_state.handlers.update(_HANDLERS)
    _wrap_existence_checks()
    sys.addaudithook(_handle_event)


def add_event_handler(event: str, handler: Callable[..., None]) -> None:
    """Call a function with the arguments of each audit event of a kind."""
    tracer_state.handlers[event] = handler


def _handle_event(event: str, arguments: tuple[Any, ...]) -> None:
    handler = tracer_state.handlers.get(event)
    if handler is None or getattr(_thread_state, "is_busy", False):
        return
    _thread_state.is_busy = True
    try:
        handler(*arguments)
    except (OSError, ValueError, TypeError):  # a path that the call itself will reject
        return
    finally:
        _thread_state.is_busy = False


def run_untraced(function: Callable[[], Any]) -> Any:
    """Call a function whose own use of files does not count."""
    was_busy = getattr(_thread_state, "is_busy", False)
    _thread_state.is_busy = True
    try:
        return function()
    finally:
        _thread_state.is_busy = was_busy


def get_file_state(path: str) -> FileState:
    """Return size and modification time of a file."""
    status = _original_stat(path)
    return status.st_size, status.st_mtime_ns


def add_file_read(path: str, is_shared: bool = False) -> None:
    """Record that a file was read, if it counts; one that is not there was looked for."""
    if tracer_state.paths is None or not tracer_state.paths.contains(path):
        return
    if path in file_log.read or path in file_log.written:
        return
    try:
        size, modified_ns = get_file_state(path)
    except OSError:
        file_log.add("missing", path)
        return
    if os.path.isfile(path):
        file_log.add("read", path, (size, modified_ns, is_shared))


def add_search(search: str) -> list[str]:
    """Record that a folder (with a slash at the end) or a pattern was listed; return its names.

    A pattern with too many names, such as all files of the machine, cannot be traced.
    """
    paths = tracer_state.paths
    if paths is None or not paths.contains(search.rstrip(os.sep)):
        return []
    try:
        names = paths.list_names(search, _MAX_SEARCH_NAMES)
    except TooManyNamesError:
        add_untraced_use(f"{search} (more than {_MAX_SEARCH_NAMES:,} files)")
        return []
    if search not in file_log.searches:
        file_log.add("searches", search, names)
    return names


def add_path_use(path: str, is_shared: bool = True) -> None:
    """Record that a program or library was given a path: a file, a folder or a pattern."""
    if os.path.isdir(path):
        names = add_search(os.path.join(path, "**"))
    elif has_pattern(path) and not os.path.exists(path):
        names = add_search(path)
    else:
        names = [path]
    for name in names:
        if not os.path.isdir(name):
            add_file_read(name, is_shared)


def add_untraced_use(name: str) -> None:
    """Record something that cannot be followed, with the cell that is being executed."""
    cell, _ = callers.find_running_cell()
    file_log.add("untraced", name, cell)


def to_path(value: Any, folder_descriptor: int = _NO_DESCRIPTOR) -> str | None:
    """Return an argument as an absolute path; None if it is none, such as a descriptor.

    A path that is relative to an open folder is only known where the system tells its name.
    """
    if isinstance(value, int) or value is None:
        return None
    text = os.fsdecode(value)
    if not text:
        return None
    if folder_descriptor == _NO_DESCRIPTOR or os.path.isabs(text):
        return os.path.abspath(text)
    descriptor_link = f"/proc/self/fd/{folder_descriptor}"
    if not os.path.islink(descriptor_link):
        return None
    return os.path.normpath(os.path.join(os.readlink(descriptor_link), text))


def _handle_open(path: Any, mode: Any, flags: Any) -> None:
    if not isinstance(path, (str, bytes, os.PathLike)) or tracer_state.paths is None:
        return
    name = to_path(path)
    if name is None:
        return
    if mode:
        is_write = bool(_WRITE_MODES & set(mode))
        is_exclusive = "x" in mode
    else:
        is_write = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
        is_exclusive = isinstance(flags, int) and bool(flags & os.O_EXCL)
    if is_write:
        if not is_exclusive or not os.path.lexists(name):  # else opening it fails
            file_log.add("written", name)
        return
    frame = sys._getframe(2)
    if frame.f_code.co_filename.startswith("<frozen importlib"):
        _record_code_read(name, frame)
    elif name not in file_log.read and _is_counted_read(name, frame):
        add_file_read(name)


def _is_counted_read(path: str, frame: FrameType) -> bool:
    """Return whether it counts that a file is opened, given who opens it."""
    paths = tracer_state.paths
    if paths is None or not paths.contains(path):
        return False
    if path.endswith(CODE_SUFFIXES) and _is_source_viewer(frame):
        return False
    caller = callers.find_caller(frame)
    if paths.is_in_project(path):
        relative_path = path.removeprefix(paths.root).lstrip(os.sep)
        is_hidden = any(part.startswith(".") for part in relative_path.split(os.sep))
        is_special = path.endswith((_NOTEBOOK_SUFFIX, *CODE_SUFFIXES))
        if is_hidden or is_special or relative_path == _CONFIG_FILE:
            return caller.is_local
        return os.path.exists(path) or caller.is_local
    return caller.is_local


def _is_source_viewer(frame: FrameType | None) -> bool:
    for _ in range(_SOURCE_VIEWER_FRAMES):
        if frame is None:
            return False
        if frame.f_code.co_filename.endswith(_SOURCE_VIEWERS):
            return True
        frame = frame.f_back
    return False


def _record_code_read(path: str, frame: FrameType | None) -> None:
    """Record a file that the import system opens.

    Imports are the import tracer's; a module that is loaded from its path is a file.
    """
    paths = tracer_state.paths
    outermost_function = ""
    while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        outermost_function = frame.f_code.co_name
        frame = frame.f_back
    is_import = outermost_function in _IMPORT_FUNCTIONS
    if is_import and not tracer_state.records_imports:
        return
    if not is_import and _is_source_viewer(frame):
        return
    source = path
    if path.endswith(".pyc"):
        try:
            source = importlib.util.source_from_cache(path)
        except ValueError:
            source = path
    if paths is not None and paths.contains(source):
        add_file_read(source)
    elif tracer_state.records_imports:
        _record_package_use(path)


def _record_package_use(path: str) -> None:
    """Record the top-level module of an installed package's file."""
    for folder in ("site-packages", "dist-packages"):
        _, separator, inner_path = path.partition(f"{os.sep}{folder}{os.sep}")
        if separator:
            file_log.add("packages", inner_path.partition(os.sep)[0].partition(".")[0])


def _handle_listing(path: Any = None) -> None:
    folder = to_path(path if path is not None else os.curdir)
    if folder is None or tracer_state.paths is None:
        return
    frame = sys._getframe(2)
    module = str(frame.f_globals.get("__name__", ""))
    is_part_of_search = module == "glob" or (
        module == "pathlib" and frame.f_code.co_name != "iterdir"
    )
    # A file that is imported is looked for by listing folders.
    is_import = frame.f_code.co_filename.startswith("<frozen importlib")
    if is_part_of_search or is_import or not tracer_state.paths.contains(folder):
        return
    if callers.find_caller(frame).is_local:
        _record_folder(folder)


def _record_folder(folder: str) -> None:
    if os.path.isdir(folder):
        add_search(os.path.join(folder, ""))
    else:
        file_log.add("missing", folder)


def _handle_glob(
    pattern: Any,
    is_recursive: bool,
    root: Any,
    folder_descriptor: Any,
) -> None:
    del is_recursive  # "**" in a pattern that is not recursive finds fewer files
    text = os.fspath(pattern)
    if isinstance(text, bytes) or folder_descriptor is not None:
        return
    _record_pattern(os.path.join(os.fspath(root) if root else "", text))


def _handle_path_glob(folder: Any, pattern: str) -> None:
    _record_pattern(os.path.join(glob.escape(os.fspath(folder)), pattern))


def _handle_path_rglob(folder: Any, pattern: str) -> None:
    _record_pattern(os.path.join(glob.escape(os.fspath(folder)), "**", pattern))


def _record_pattern(pattern: str) -> None:
    if not callers.find_caller(sys._getframe(2)).is_local:
        return
    absolute_pattern = os.path.abspath(pattern)
    if has_pattern(absolute_pattern):
        add_search(absolute_pattern)
    elif os.path.exists(absolute_pattern):
        file_log.add("existing", absolute_pattern)
    elif tracer_state.paths is not None and tracer_state.paths.contains(absolute_pattern):
        file_log.add("missing", absolute_pattern)


def _handle_rename(
    source: Any,
    target: Any,
    source_descriptor: int,
    target_descriptor: int,
) -> None:
    source_path = to_path(source, source_descriptor)
    target_path = to_path(target, target_descriptor)
    if source_path is not None and target_path is not None:
        file_log.add("removed", source_path)
        file_log.add("written", target_path)


def _handle_removal(path: Any, folder_descriptor: int) -> None:
    removed_path = to_path(path, folder_descriptor)
    if removed_path is not None:
        file_log.add("removed", removed_path)


def _handle_folder_creation(path: Any, mode: int, folder_descriptor: int) -> None:
    del mode
    _record_creation(path, folder_descriptor)


def _handle_link(source: Any, target: Any, *folder_descriptors: int) -> None:
    del source  # the file that the link leads to is seen when it is opened
    _record_creation(target, folder_descriptors[-1])


def _record_creation(path: Any, folder_descriptor: int) -> None:
    created_path = to_path(path, folder_descriptor)
    if created_path is not None:
        file_log.add("written", created_path)


def _handle_library_load(name: Any) -> None:
    if isinstance(name, str) and os.sep in name:
        add_file_read(os.path.abspath(name))


def _handle_sqlite(database: Any) -> None:
    text = os.fspath(database) if isinstance(database, (str, os.PathLike)) else ""
    is_address = text.startswith("file:")
    if is_address:
        text = text.removeprefix("file:").partition("?")[0]
        text = text.removeprefix("//") if text.startswith("///") else text
    if not text or text == ":memory:" or callers.find_caller(sys._getframe(2)).is_service:
        return
    path = os.path.abspath(text)
    add_file_read(path, is_shared=True)
    if os.path.exists(path):
        add_file_read(f"{path}-wal", is_shared=True)  # what is not yet in the database file itself


def _handle_script(path: Any) -> None:
    script = to_path(path)
    if script is not None:
        add_file_read(script)


_HANDLERS: dict[str, Callable[..., None]] = {
    "open": _handle_open,
    "os.listdir": _handle_listing,
    "os.scandir": _handle_listing,
    "glob.glob/2": _handle_glob,
    "pathlib.Path.glob": _handle_path_glob,
    "pathlib.Path.rglob": _handle_path_rglob,
    "os.rename": _handle_rename,
    "os.remove": _handle_removal,
    "os.rmdir": _handle_removal,
    "os.mkdir": _handle_folder_creation,
    "os.symlink": _handle_link,
    "os.link": _handle_link,
    "ctypes.dlopen": _handle_library_load,
    "sqlite3.connect": _handle_sqlite,
    "cpython.run_file": _handle_script,
}

_original_stat = os.stat


def _wrap_existence_checks() -> None:
    """Record what ``os.stat``, ``os.lstat`` and ``os.access`` are asked about."""
    for name in ("stat", "lstat", "access"):
        original = getattr(os, name)
        wrapped = _wrap_existence_check(original)
        setattr(os, name, wrapped)
        # Modules such as shutil look in these sets for what a function supports.
        for supported in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
            if original in supported:
                supported.add(wrapped)


def _wrap_existence_check(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def check_and_record(path: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(_thread_state, "is_busy", False) or type(path) is int:
            return original(path, *args, **kwargs)
        try:
            result = original(path, *args, **kwargs)
        except (FileNotFoundError, NotADirectoryError):
            _record_check(path, False, kwargs)
            raise
        _record_check(path, result is not False, kwargs)
        return result

    return check_and_record


def _record_check(
    path: Any,
    exists: bool,
    options: dict[str, Any],
) -> None:
    """Record that it was asked whether a path exists, if the notebook's code asked."""
    paths = tracer_state.paths
    if paths is None or options.get("dir_fd") is not None:
        return
    _thread_state.is_busy = True
    try:
        name = to_path(path)
        if name is None or name in file_log.written or not paths.contains(name):
            return
        if os.path.basename(name).startswith("<"):  # code without a file, in a traceback
            return
        if name in file_log.missing or name in file_log.read:
            return
        frame = sys._getframe(2)
        caller = callers.find_caller(frame)
        # Libraries look for their own settings and caches in many places.
        is_question = paths.is_in_project(name) or caller.libraries <= sys.stdlib_module_names
        if not caller.is_local or not is_question:
            return
        if not exists:
            file_log.add("missing", name)
        elif _asks_for_content(frame):
            add_file_read(name)
            file_log.add("existing", name)
        else:
            file_log.add("existing", name)
    finally:
        _thread_state.is_busy = False


def _asks_for_content(frame: FrameType | None) -> bool:
    """Return whether size or time of a file are asked for, not only whether it exists."""
    while frame is not None and frame.f_globals.get("__name__") in {"pathlib", "genericpath", "os"}:
        function = frame.f_code.co_name
        if function in _CONTENT_FUNCTIONS:
            return True
        if function in _EXISTENCE_FUNCTIONS:
            return False
        frame = frame.f_back
    return frame is not None and callers.find_caller(frame).libraries == set()
