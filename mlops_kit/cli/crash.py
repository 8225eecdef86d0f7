"""What the user is told of an exception that no command expects: what, where, and what to do.

The traceback goes to a file in ``.mlops/errors`` of the project, or in the folder for temporary
files where there is no project or it cannot be written. ``--debug`` prints it as well.

Only the standard library is imported before an error has been reported: the error may be that a
module of this package, or of a library, cannot be imported.

To add a hint: a line in ``_HINTS_BY_ERRNO``, or a case in ``_find_hint``.
"""

from __future__ import annotations

import errno
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

CRASH_EXIT_CODE = 1
DEBUG_VARIABLE = "MLOPS_DEBUG"
_PROJECT_VARIABLE = "MLOPS_PROJECT"
_PROJECT_OPTION = "--project"
_CONFIG_FILE_NAME = "mlops.yaml"
_ERRORS_FOLDER = Path(".mlops/errors")
_MAX_KEPT_FILES = 20
_MAX_MESSAGE_CHARACTERS = 300
_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
_HINTS_BY_ERRNO = {
    errno.ENOSPC: "free disk space; mlops clean removes old runs",
    errno.EDQUOT: "free disk space, or ask for a larger quota; mlops clean removes old runs",
    errno.EROFS: "use a copy of the project on a file system that can be written",
    errno.EACCES: "give this user access to it, or run as the user that has it",
    errno.EPERM: "give this user access to it, or run as the user that has it",
    errno.EMFILE: "raise the limit on open files: ulimit -n 4096",
    errno.ECONNREFUSED: "start the server behind this address, or correct the address",
    errno.EADDRINUSE: "use another port, or end the program that listens on it",
    errno.ENOMEM: "free memory, or use fewer rows",
}
_DATABASE_MODULES = ("sqlalchemy", "sqlite3", "psycopg")


def report_crash(error: BaseException) -> int:
    """Print what happened, where, and what to do; store the traceback.

    Returns
    -------
    int
        The exit code.
    """
    scrub = _find_scrubber()
    text = scrub("".join(traceback.format_exception(error)))
    file = _store_traceback(text)
    if os.environ.get(DEBUG_VARIABLE):
        _print_line(text.rstrip())
    hint = _find_hint(error)
    if file is not None:
        hint = f"{hint}; the traceback is in {_shorten_path(file)}"
    elif not os.environ.get(DEBUG_VARIABLE):
        hint = f"{hint}; mlops --debug shows the traceback"
    _print_line(f"error: {scrub(_describe_error(error))}")
    _print_line(f"  Where: {_describe_location(error)}")
    _print_line(f"  Hint: {hint}")
    return CRASH_EXIT_CODE


def _print_line(text: str) -> None:
    """Print to standard error, if anybody still reads it."""
    with suppress(OSError, ValueError):
        encoding = sys.stderr.encoding or "utf-8"
        sys.stderr.write(text.encode(encoding, "replace").decode(encoding) + "\n")
        sys.stderr.flush()


def _describe_error(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    message = lines[0]
    if len(message) > _MAX_MESSAGE_CHARACTERS:
        message = f"{message[:_MAX_MESSAGE_CHARACTERS]}…"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {message}"


def _describe_location(error: BaseException) -> str:
    """Return file, line and function: of the user's code, else of this package, else the last."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shorten_path(Path(error.filename))}, line {error.lineno}"
    if not frames:
        return "unknown"
    frame = frames[-1]
    for is_wanted in (_is_own_file, _is_user_file):  # the second decides if both are there
        wanted_frames = [candidate for candidate in frames if is_wanted(candidate.filename)]
        if wanted_frames:
            frame = wanted_frames[-1]
    return f"{_shorten_path(Path(frame.filename))}, line {frame.lineno}, in {frame.name}"


def _is_own_file(name: str) -> bool:
    """Return whether a file belongs to this package."""
    path = Path(name)
    return path.is_relative_to(_PACKAGE_FOLDER) and path != Path(__file__)


def _is_user_file(name: str) -> bool:
    """Return whether a file belongs neither to this package nor to Python or a library."""
    path = Path(name)
    if not path.is_absolute() or path.is_relative_to(_PACKAGE_FOLDER):
        return False
    installed = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()]
    # A system's own Python has the prefix /usr, below which users keep files as well.
    return not any(path.is_relative_to(folder) for folder in installed if folder != "/usr")


def _find_hint(error: BaseException) -> str:
    """Return what to do about an error."""
    if isinstance(error, OSError) and error.errno in _HINTS_BY_ERRNO:
        return _HINTS_BY_ERRNO[error.errno]
    if isinstance(error, ImportError):
        library = (error.name or "").partition(".")[0]
        subject = f"{library!r} is missing or broken in {sys.prefix}" if library else str(error)
        return f"{subject}: install the packages of this environment again"
    if isinstance(error, MemoryError):
        return _HINTS_BY_ERRNO[errno.ENOMEM]
    if type(error).__module__.partition(".")[0] in _DATABASE_MODULES:
        return "check that the database can be reached and written: mlops doctor"
    frames = traceback.extract_tb(error.__traceback__)
    user_files = [frame.filename for frame in frames if _is_user_file(frame.filename)]
    if user_files:
        return f"correct {_shorten_path(Path(user_files[-1]))}"
    if isinstance(error, OSError):
        return "correct the file or the address that it names"
    return "report this fault of mlops-kit"


def _shorten_path(path: Path) -> Path:
    """Return a path relative to the current folder, or below this package's folder, if it is."""
    with suppress(OSError, ValueError):
        if path.is_relative_to(_PACKAGE_FOLDER):
            return path.relative_to(_PACKAGE_FOLDER.parent)
        return path.relative_to(Path.cwd())
    return path


def _find_project_folder() -> Path | None:
    """Return the project's folder as the command names it, without reading its settings."""
    named = os.environ.get(_PROJECT_VARIABLE, "")
    for position, argument in enumerate(sys.argv):
        if argument == _PROJECT_OPTION:
            named = (sys.argv[position + 1 :] or [""])[0]
        elif argument.startswith(f"{_PROJECT_OPTION}="):
            named = argument.partition("=")[2]
    with suppress(OSError, RuntimeError):
        folder = Path(named or ".").expanduser().resolve()
        candidates = [folder] if named else [folder, *folder.parents]
        for candidate in candidates:
            if (candidate / _CONFIG_FILE_NAME).is_file():
                return candidate
    return None


def _store_traceback(text: str) -> Path | None:
    """Write a traceback to a file, and remove the oldest ones; None if it cannot be written."""
    import tempfile

    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    header = f"{now:%Y-%m-%d %H:%M:%S} UTC, Python {sys.version.split()[0]}, {sys.platform}\n"
    project_folder = _find_project_folder()
    if project_folder is not None:
        with suppress(OSError):
            folder = project_folder / _ERRORS_FOLDER
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(header + text, encoding="utf-8", errors="replace")
            for old_file in sorted(folder.glob("*.txt"))[:-_MAX_KEPT_FILES]:
                old_file.unlink(missing_ok=True)
            return folder / name
    with suppress(OSError):
        descriptor, path = tempfile.mkstemp(prefix="mlops-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(header + text)
        return Path(path)
    return None


def _find_scrubber() -> Callable[[str], str]:
    """Return what removes the project's secrets from a text, if its settings can be read."""
    with suppress(Exception):  # the error that is being reported may be in there
        from mlops_kit.project.loader import load_project
        from mlops_kit.project.secrets import make_scrubber

        return make_scrubber(load_project(_find_project_folder(), with_plugins=False))
    return str
