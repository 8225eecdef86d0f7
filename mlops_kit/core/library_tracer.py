"""Record the files that libraries open by themselves, without Python seeing it.

The functions of such a library that take paths are wrapped when it is imported. What they are given
is recorded: files, folders, patterns; of SQL, the text in quotes that names files.

To add a function: its name in the table of its library, which ``_FUNCTIONS`` lists.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import re
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from types import FrameType, ModuleType
from typing import Any

from mlops_kit.core import callers, file_tracer
from mlops_kit.core.file_log import file_log
from mlops_kit.core.traced_paths import has_pattern


class _Use(Enum):
    """What a function does with the paths that it is given."""

    READ = "reads them"
    WRITE = "writes them"
    BY_MODE = "reads them, or writes them if its second argument says so"
    QUERY = "its first argument is SQL"
    ENGINE = "its first argument is the URL of a database"
    SERVER = "it connects to a database server"


_Functions = dict[_Use, tuple[str, ...]]  # functions of a module, or Class.method

_DUCKDB_READERS = (
    "read_csv",
    "from_csv_auto",
    "read_parquet",
    "from_parquet",
    "read_json",
    "parquet_schema",
    "parquet_metadata",
)
_DUCKDB_QUERIES = (
    "sql",
    "query",
    "execute",
    "executemany",
    "from_query",
)
_DUCKDB: _Functions = {
    _Use.READ: (
        "connect",
        *_DUCKDB_READERS,
        *(f"DuckDBPyConnection.{name}" for name in _DUCKDB_READERS),
    ),
    _Use.QUERY: (
        *_DUCKDB_QUERIES,
        *(f"DuckDBPyConnection.{name}" for name in _DUCKDB_QUERIES),
    ),
    _Use.WRITE: (
        "DuckDBPyRelation.to_csv",
        "DuckDBPyRelation.write_csv",
        "DuckDBPyRelation.to_parquet",
        "DuckDBPyRelation.write_parquet",
    ),
}
_POLARS: _Functions = {
    _Use.READ: (
        "read_csv",
        "scan_csv",
        "read_csv_batched",
        "read_parquet",
        "scan_parquet",
        "read_ipc",
        "scan_ipc",
        "read_ipc_stream",
        "read_json",
        "read_ndjson",
        "scan_ndjson",
        "read_avro",
        "read_excel",
        "read_ods",
        "read_delta",
        "scan_delta",
        "read_parquet_schema",
    ),
    _Use.WRITE: (
        "DataFrame.write_csv",
        "DataFrame.write_parquet",
        "DataFrame.write_ipc",
        "LazyFrame.sink_csv",
        "LazyFrame.sink_parquet",
        "LazyFrame.sink_ipc",
    ),
    _Use.ENGINE: ("read_database_uri",),
}
_PYARROW: dict[str, _Functions] = {
    "pyarrow": {_Use.READ: ("memory_map",)},
    "pyarrow.csv": {_Use.READ: ("read_csv", "open_csv"), _Use.WRITE: ("write_csv",)},
    "pyarrow.json": {_Use.READ: ("read_json", "open_json")},
    "pyarrow.orc": {_Use.READ: ("read_table", "ORCFile.__init__")},
    "pyarrow.feather": {
        _Use.READ: ("read_table", "read_feather"),
        _Use.WRITE: ("write_feather",),
    },
    "pyarrow.parquet": {
        _Use.READ: (
            "read_table",
            "read_pandas",
            "read_metadata",
            "read_schema",
            "ParquetFile.__init__",
            "ParquetDataset.__init__",
        ),
        _Use.WRITE: ("write_table", "ParquetWriter.__init__", "write_to_dataset"),
    },
    "pyarrow.dataset": {_Use.READ: ("dataset",), _Use.WRITE: ("write_dataset",)},
}
_FUNCTIONS: dict[str, _Functions] = {  # by module
    "duckdb": _DUCKDB,
    "polars": _POLARS,
    **_PYARROW,
    "h5py": {_Use.BY_MODE: ("File.__init__",)},
    "tables": {_Use.BY_MODE: ("open_file",)},
    "sqlalchemy": {_Use.ENGINE: ("create_engine",)},
    "psycopg": {_Use.SERVER: ("connect",)},
    "psycopg2": {_Use.SERVER: ("connect",)},
}
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_COPY_TARGET = re.compile(r"\bTO\s+'((?:[^']|'')*)'", re.IGNORECASE)
_DATABASE_SCHEME = re.compile(r"([a-z0-9]+)[a-z0-9+_]*://")
_REMOTE_ADDRESS = re.compile(r"([a-z][a-z0-9+.]*)://(?:[^/?#]*@)?([^/?#]*)")  # without a password
_QUERY_NAME = "__mlops_kit_query__"
_EMBEDDED_DATABASES = {"sqlite", "duckdb"}  # files, recorded when they are opened
_MAX_PATH_CHARACTERS = 4_096
_MAX_QUERY_CHARACTERS = 100_000


def watch_libraries() -> None:
    """Wrap the functions of the libraries that are loaded, and of others when they are imported."""
    for name in _FUNCTIONS:
        module = sys.modules.get(name)
        if module is not None:
            _wrap_functions(module)
    if not any(isinstance(finder, _WrappingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WrappingFinder())


class _WrappingFinder(importlib.abc.MetaPathFinder):
    """Finds the libraries as usual, and wraps their functions after they were loaded."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec that the other finders find, with a loader that wraps functions."""
        if fullname not in _FUNCTIONS:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is None or spec.loader is None:
                continue
            _wrap_after_loading(spec.loader)
            return spec
        return None


def _wrap_after_loading(loader: Any) -> None:
    """Let a loader of one module wrap the functions of the module that it has executed."""
    execute = loader.exec_module

    def execute_and_wrap(module: ModuleType) -> None:
        execute(module)
        _wrap_functions(module)

    loader.exec_module = execute_and_wrap


def _wrap_functions(module: ModuleType) -> None:
    for use, names in _FUNCTIONS[module.__name__].items():
        for name in names:
            _wrap_function(module, name, use)


def _wrap_function(
    module: ModuleType,
    name: str,
    use: _Use,
) -> None:
    """Replace a function of a module, or a method of a class in it, by one that records."""
    owner: Any = module
    class_name, _, attribute = name.rpartition(".")
    if class_name:
        owner = getattr(module, class_name, None)
    original = getattr(owner, attribute, None)
    if original is None or hasattr(original, "__mlops_kit_use__"):
        return
    is_method = bool(class_name)

    @functools.wraps(original)
    def call_and_record(*args: Any, **kwargs: Any) -> Any:
        values = args[1:] if is_method else args
        _record_call(use, values, kwargs)
        if use is _Use.QUERY:
            return _call_for(sys._getframe(1), functools.partial(original, *args, **kwargs))
        return original(*args, **kwargs)

    call_and_record.__mlops_kit_use__ = use  # type: ignore[attr-defined]
    try:
        setattr(owner, attribute, call_and_record)
    except (AttributeError, TypeError):  # a class of an extension module that cannot be changed
        return


def _call_for(frame: FrameType, query: functools.partial[Any]) -> Any:
    """Run a query where its caller's variables are: DuckDB takes tables from the calling frame."""
    scope = {**frame.f_locals, _QUERY_NAME: query}
    return eval(f"{_QUERY_NAME}()", frame.f_globals, scope)  # noqa: S307 - our own text


def _record_call(
    use: _Use,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Record what a call of a library is given, unless this package or a service makes it."""
    if file_tracer.tracer_state.paths is None:
        return
    if callers.find_caller(sys._getframe(2)).is_service:
        return
    file_tracer.run_untraced(lambda: _RECORDERS[use](args, kwargs))


def _record_reading(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    if args:
        paths = _list_paths(args[:1])
    else:  # keywords only, of which any may be the path
        paths = [text for text in _list_paths([*options.values()]) if _names_file(text)]
    for path in paths:
        if path != ":memory:":
            _record_path(path)


def _record_path(text: str) -> None:
    """Record a path, or a remote address, which cannot be followed."""
    path = text.removeprefix("file://")
    address = _REMOTE_ADDRESS.match(path)
    if address:
        file_tracer.add_untraced_use(f"{address[1]}://{address[2]}")
    else:
        file_tracer.add_path_use(os.path.abspath(path))


def _record_writing(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    for path in _list_paths([*args, *options.values()]):
        if not _REMOTE_ADDRESS.match(path):
            file_log.add("written", os.path.abspath(path))


def _record_by_mode(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    values = (*args, *options.values())
    mode = options.get("mode", values[1] if len(values) > 1 else "r")
    is_reading = str(mode).startswith("r")
    record = _record_reading if is_reading else _record_writing
    record(values[:1], {})


def _record_query(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    query = next(iter((*args, *options.values())), "")
    if not isinstance(query, str):
        return
    if len(query) > _MAX_QUERY_CHARACTERS:
        file_tracer.add_untraced_use(f"a query of more than {_MAX_QUERY_CHARACTERS:,} characters")
        return
    targets = _list_literals(_COPY_TARGET, query)
    for target in targets:
        file_log.add("written", os.path.abspath(target))
    for text in _list_literals(_LITERAL, query):
        if text not in targets and _may_be_path(text) and _names_file(text):
            _record_path(text)


def _list_literals(pattern: re.Pattern[str], query: str) -> list[str]:
    """List the texts in quotes that a pattern finds, with a doubled quote as one."""
    return [match[1].replace("''", "'") for match in pattern.finditer(query)]


def _names_file(text: str) -> bool:
    """Return whether a text names what exists, is a pattern of files or an address."""
    is_pattern = has_pattern(text) and (os.sep in text or "." in text)
    is_address = _REMOTE_ADDRESS.match(text) is not None
    return is_pattern or is_address or os.path.exists(os.path.abspath(text))


def _may_be_path(text: str) -> bool:
    is_short = 0 < len(text) < _MAX_PATH_CHARACTERS
    return is_short and "\0" not in text and "\n" not in text


def _record_engine(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    for value in (*args, *options.values()):
        match = _DATABASE_SCHEME.match(str(value))
        if match and match[1] not in _EMBEDDED_DATABASES:
            file_tracer.add_untraced_use(f"{match[1]} database")


def _record_server(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    del args, options
    file_tracer.add_untraced_use("postgresql database")


_RECORDERS: dict[_Use, Callable[[tuple[Any, ...], dict[str, Any]], None]] = {
    _Use.READ: _record_reading,
    _Use.WRITE: _record_writing,
    _Use.BY_MODE: _record_by_mode,
    _Use.QUERY: _record_query,
    _Use.ENGINE: _record_engine,
    _Use.SERVER: _record_server,
}


def _list_paths(values: Sequence[Any]) -> list[str]:
    """Return the paths among values, and in lists among them."""
    paths: list[str] = []
    for value in values:
        if isinstance(value, (list, tuple, set)):
            paths += _list_paths(list(value))
        elif isinstance(value, (str, os.PathLike)):
            text = os.fsdecode(value)
            if _may_be_path(text):
                paths.append(text)
    return paths
