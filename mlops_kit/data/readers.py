"""Readers of tables: files by their ending, local or at any fsspec URL, and SQL queries.

The formats of the package are in ``mlops_kit.data.reading``. To add a file format, or to replace
one, in a plugin of a project: decorate a function ``(url, limit) -> DataFrame`` with
``@register_reader(".ending")``. ``limit`` is the number of rows to read, None for all; it lets the
columns be listed without reading the whole table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.data.datasets import DATASETS
from mlops_kit.data.reading.files import (
    FILE_ENDINGS,
    PARQUET_ENDINGS,
    find_file_ending,
    read_files,
)
from mlops_kit.data.reading.records import TableRead
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.storage import is_glob, is_url
from mlops_kit.project.config.data import QuerySource
from mlops_kit.project.loader import Project

TableReader = Callable[[str, "int | None"], "pd.DataFrame"]
READERS: ExtensionRegistry[TableReader] = ExtensionRegistry(ExtensionKind.READER)
_LIMITED_QUERY = "SELECT * FROM ({query}) AS q LIMIT {limit}"  # the query is the project's own
_DETECT_EVERYTHING = ReadSettings()


def register_reader(*endings: str) -> Callable[[TableReader], TableReader]:
    """Register the decorated function as the reader of files with these endings.

    Parameters
    ----------
    *endings : str
        Endings in lower case, such as ``.jsonl``.

    Examples
    --------
    >>> @register_reader(".fwf")
    ... def read_fixed_width(url, limit):
    ...     return pd.read_fwf(url, nrows=limit)
    >>> ".fwf" in READERS
    True
    >>> del READERS[".fwf"]
    """

    def register(function: TableReader) -> TableReader:
        for ending in endings:
            READERS.register(ending)(function)
        return function

    return register


def resolve_location(project: Project, location: str) -> str:
    """Resolve a path from the project's folder; URLs stay unchanged."""
    return location if is_url(location) else str(project.resolve_path(location))


def read_table(
    url: str,
    limit: int | None = None,
    description: str = "",
    hint: str = "set another file",
    settings: ReadSettings = _DETECT_EVERYTHING,
) -> TableRead:
    """Read a file, a folder of Parquet files or a glob pattern.

    Parameters
    ----------
    url : str
        A path, pattern or fsspec URL.
    limit : int, optional
        Number of rows to read; None for all.
    description, hint : str
        How errors name the table, and what they advise.
    settings : ReadSettings
        How the file is written; what is not set is detected.

    Returns
    -------
    TableRead
        The rows, and what was decided about the file.

    Raises
    ------
    KitError
        If the table is missing, has an unknown format or cannot be read.
    """
    from mlops_kit.data.reading.typed_table import describe_frame

    description = description or repr(url)
    plugin_ending = find_plugin_ending(url)
    ending = plugin_ending or _find_ending(url)
    if not ending:
        exists = os.path.exists(url)
        problem = "has a file ending that is not supported" if exists else "does not exist"
        endings = ", ".join([*FILE_ENDINGS, *READERS.list_names()])
        datasets = " or ".join(f"dataset:{name}" for name in DATASETS.list_names())
        raise KitError(
            f"{description} {problem}",
            f"a file ending in {endings}, a folder of Parquet files, or {datasets}",
            hint,
        )
    try:
        _record_dependency(url)
        if not plugin_ending:
            return read_files(url, ending, settings, limit)
        frame = to_pandas(READERS[ending](url, limit))
        return TableRead(frame, describe_frame(frame, url))
    except FileNotFoundError as error:
        raise KitError(
            f"{description} does not exist",
            f"a file at {url}",
            f"{hint}, or put the file there",
        ) from error
    except (ValueError, OSError) as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise KitError(
            f"{description} cannot be read: {first_line}",
            f"a {ending.lstrip('.')} file with a header",
            "inspect the file's first lines",
        ) from error


def find_plugin_ending(url: str) -> str:
    """Return the ending for which a plugin has registered a reader; empty if there is none."""
    name = url.lower()
    endings = [ending for ending in READERS.list_names() if name.endswith(ending)]
    return max(endings, key=len, default="")


def _find_ending(url: str) -> str:
    """Return the ending by which the package reads a table; empty if it does not."""
    ending = find_file_ending(url)
    is_folder = os.path.isdir(url)
    if is_folder or (is_url(url) and not ending):
        return PARQUET_ENDINGS[0]
    return ending


def _record_dependency(url: str) -> None:
    """Record that the running stage reads a table."""
    if is_url(url):
        dependencies.untracked_sources.add(url)
        return
    if not is_glob(url) and not os.path.exists(url):
        raise FileNotFoundError(url)
    dependencies.record_file_read(url)


def read_query(source: QuerySource, limit: int | None) -> pd.DataFrame:
    """Read the result of an SQL query.

    ``${NAME}`` in the URL is replaced by the environment variable of that name.

    Raises
    ------
    KitError
        If such a variable is not set, or the database rejects the query.
    """
    import sqlalchemy

    dependencies.untracked_sources.add("a query")
    variables = re.findall(r"\$\{(\w+)\}", source.url)
    missing = [name for name in variables if name not in os.environ]
    if missing:
        raise KitError(
            f"source.url needs the environment variable {missing[0]!r}, which is not set",
            "its value in the environment",
            f"export {missing[0]}=…",
        )
    sql = source.sql.rstrip("; \n")
    if limit is not None:
        sql = _LIMITED_QUERY.format(
            query=source.sql.rstrip("; "),
            limit=limit,
        )
    try:
        return pd.read_sql(sqlalchemy.text(sql), os.path.expandvars(source.url))
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise KitError(
            f"source.sql failed: {str(error).splitlines()[0]}",
            "a SELECT that the database accepts",
            "edit 'source' in mlops.yaml",
        ) from error
