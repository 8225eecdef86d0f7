"""How many threads the native libraries of a process (BLAS, OpenMP) use."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


class _LoadedLibraries(NamedTuple):
    """The native libraries that were found when so many modules were imported."""

    controller: ThreadpoolController
    module_count: int


_loaded: _LoadedLibraries | None = None


def limit_threads(count: int) -> AbstractContextManager[object]:
    """Return a context in which native libraries use at most so many threads.

    It is ``threadpoolctl.threadpool_limits``, except that the loaded libraries are looked up again
    only after further modules were imported, as a library is loaded by the import of a module. The
    look-up takes about as long as fitting a small model.

    Examples
    --------
    >>> with limit_threads(1):
    ...     pass
    """
    global _loaded
    from threadpoolctl import ThreadpoolController

    module_count = len(sys.modules)
    if _loaded is None or _loaded.module_count != module_count:
        _loaded = _LoadedLibraries(ThreadpoolController(), module_count)
    limited: AbstractContextManager[object] = _loaded.controller.limit(limits=count)
    return limited
