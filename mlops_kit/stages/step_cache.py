"""Keep the results of expensive steps on disk, so that a notebook that failed resumes quickly."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops_kit.core import dependencies, import_tracer
from mlops_kit.core.files import hash_file


def cache_function(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """Return the function with its results kept on disk by its code and its arguments.

    The project's own loaded modules count as the function's code, all of them. What a call used
    (files, settings, imports) is stored with its result and recorded again when it is reused.

    Parameters
    ----------
    folder : Path
        Where joblib's ``Memory`` keeps the results; a subfolder is made for each code version.
    """
    from joblib import Memory

    @functools.wraps(function)
    def call_and_record(*args: Any, **kwargs: Any) -> Any:
        return dependencies.record_dependencies(lambda: function(*args, **kwargs))

    memory = Memory(folder / _hash_code_of(function), verbose=0)
    cached = memory.cache(call_and_record)

    def call_cached(*args: Any, **kwargs: Any) -> Any:
        result, used = cached(*args, **kwargs)
        dependencies.restore_dependencies(used)
        return result

    return call_cached


def _hash_code_of(function: Callable[..., Any]) -> str:
    """Hash a function's source and the files of all loaded modules of the project."""
    local_files = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and import_tracer.is_local_module_file(file) and os.path.exists(file):
            local_files.add(file)
    file_hashes = [hash_file(Path(file)) for file in sorted(local_files)]
    return dependencies.hash_code(inspect.getsource(function) + "".join(file_hashes))
