"""Find out who did something that an audit hook or a wrapped function has seen.

A library reads files and starts processes on behalf of the code that called it. Walking up the
stack, the first frame that is neither Python's nor an installed package's decides: the notebook or
a module of the project, or this package.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import FrameType
from typing import Any

from mlops_kit.core.import_tracer import KERNEL_PACKAGES, is_local_module_file

_PACKAGE_FOLDER = str(Path(__file__).parent.parent)
_TRACER_MODULES = tuple(
    f"{_PACKAGE_FOLDER}/core/{name}.py"
    for name in ("callers", "file_tracer", "library_tracer", "process_tracer", "dependencies")
)
# They keep stores and clusters going; what they read is not an input.
_SERVICE_PACKAGES = {"mlflow", "distributed"}


class CallerKind(Enum):
    """Whose code did something; ``UNKNOWN``: only libraries, as in a thread of a library."""

    LOCAL = "the notebook or a module of the project"
    PACKAGE = "this package"
    UNKNOWN = "libraries only"


@dataclass
class Caller:
    """Who did something, and the libraries that it went through."""

    kind: CallerKind
    libraries: set[str] = field(default_factory=set)

    @property
    def is_service(self) -> bool:
        """Whether it was this package, or a library that keeps the kernel or a store going."""
        is_from_service = bool(self.libraries & _SERVICE_PACKAGES)
        is_kernel = self.kind == CallerKind.UNKNOWN and bool(self.libraries & KERNEL_PACKAGES)
        return self.kind == CallerKind.PACKAGE or is_from_service or is_kernel

    @property
    def is_local(self) -> bool:
        """Whether it was the notebook or a module of the project, or a thread started for it."""
        is_thread = self.kind == CallerKind.UNKNOWN and not self.is_service
        return self.kind == CallerKind.LOCAL or is_thread


class _FrameOrigin(Enum):
    LIBRARY = 0
    LOCAL = 1
    PACKAGE = 2
    TRACER = 3
    TEXT = 4  # code that was executed from a text


_origins: dict[str, _FrameOrigin] = {}  # by file of the code


def find_caller(frame: FrameType | None = None) -> Caller:
    """Find whose code is being executed, from a frame upwards; from here on by default."""
    frame = frame or sys._getframe(1)
    libraries: set[str] = set()
    while frame is not None:
        filename = frame.f_code.co_filename
        origin = _origins.get(filename)
        if origin is None:
            origin = _origins[filename] = _determine_origin(filename)
        if origin == _FrameOrigin.TEXT and frame.f_globals.get("__name__") == "__main__":
            origin = _FrameOrigin.LOCAL
        if origin == _FrameOrigin.LOCAL:
            return Caller(CallerKind.LOCAL, libraries)
        if origin == _FrameOrigin.PACKAGE:
            return Caller(CallerKind.PACKAGE, libraries)
        if origin == _FrameOrigin.LIBRARY:
            libraries.add(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        frame = frame.f_back
    return Caller(CallerKind.UNKNOWN, libraries)


def _determine_origin(filename: str) -> _FrameOrigin:
    if filename.startswith("<frozen"):
        return _FrameOrigin.LIBRARY
    if filename.startswith("<ipython"):
        return _FrameOrigin.LOCAL
    if filename.startswith("<"):
        return _FrameOrigin.TEXT
    if filename in _TRACER_MODULES:
        return _FrameOrigin.TRACER
    if filename.startswith(_PACKAGE_FOLDER):
        return _FrameOrigin.PACKAGE
    is_local = is_local_module_file(filename)
    return _FrameOrigin.LOCAL if is_local else _FrameOrigin.LIBRARY


def find_running_cell() -> tuple[int, str]:
    """Return the number and the source of the cell that is being executed; 0 outside of one.

    The number is IPython's: it counts the cells that were executed.
    """
    # While IPython is being imported, it is there without its functions.
    get_shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell is not None else None
    if shell is None:
        return 0, ""
    sources = shell.user_ns.get("In") or [""]
    return len(sources) - 1, str(sources[-1])
