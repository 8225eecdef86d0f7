"""Readers of tables: files by their ending, local or at any fsspec URL, and SQL queries.

To add a file format, in the package or in a plugin of a project, decorate a function
``(url, limit) -> DataFrame`` with ``@register_reader(".ending")``. ``limit`` is the number of rows
to read, None for all; it lets the columns be listed without reading the whole table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.data.datasets import DATASETS
from mlops_kit.project.config.data import QuerySource
from mlops_kit.project.loader import Project

fsspec = LazyModule("fsspec")

TableReader = Callable[[str, "int | None"], "pd.DataFrame"]
READERS: ExtensionRegistry[TableReader] = ExtensionRegistry(ExtensionKind.READER)
_LIMITED_QUERY = "SELECT * FROM ({query}) AS q LIMIT {limit}"  # the query is the project's own
_GLOB_CHARACTERS = "*?["


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


@register_reader(".csv", ".csv.gz", ".csv.zip", ".tsv")
def read_csv(url: str, limit: int | None) -> pd.DataFrame:
    """Read a CSV file, or all files that match a glob pattern."""
    files = fsspec.open_files(url, "rb", compression="infer")
    if not files:
        raise FileNotFoundError(url)
    parts: list[pd.DataFrame] = []
    for file in files:
        separator = "\t" if file.path.lower().endswith(".tsv") else ","
        with file as stream:
            parts.append(
                pd.read_csv(
                    stream,
                    nrows=limit,
                    sep=separator,
                )
            )
    if len(parts) == 1:
        return parts[0]
    return pd.concat(parts, ignore_index=True)


@register_reader(".parquet", ".pq")
def read_parquet(url: str, limit: int | None) -> pd.DataFrame:
    """Read a Parquet file, a folder of them, or all that match a glob pattern."""
    import pyarrow.dataset as ds

    filesystem, path = fsspec.core.url_to_fs(url)
    paths = sorted(filesystem.glob(path)) if _is_glob(path) else path
    if not paths:
        raise FileNotFoundError(url)
    dataset = ds.dataset(
        paths,
        filesystem=filesystem,
        partitioning="hive",
    )
    table = dataset.to_table() if limit is None else dataset.head(limit)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=False)
    return frame


@register_reader(".xlsx")
def read_excel(url: str, limit: int | None) -> pd.DataFrame:
    """Read the first sheet of an Excel file."""
    return pd.read_excel(url, nrows=limit)


def _is_glob(path: str) -> bool:
    """Return whether a path is a glob pattern."""
    return any(character in path for character in _GLOB_CHARACTERS)


def resolve_location(project: Project, location: str) -> str:
    """Resolve a path from the project's folder; URLs stay unchanged."""
    return location if "://" in location else str(project.resolve_path(location))


def read_table(
    url: str,
    limit: int | None = None,
    description: str = "",
    hint: str = "set another file",
) -> pd.DataFrame:
    """Read a file, a folder of Parquet files or a glob pattern.

    Parameters
    ----------
    url : str
        A path, pattern or fsspec URL.
    limit : int, optional
        Number of rows to read; None for all.
    description, hint : str
        How errors name the table, and what they advise.

    Raises
    ------
    KitError
        If the table is missing, has an unknown format or cannot be read.
    """
    description = description or repr(url)
    ending = _find_ending(url)
    if not ending:
        exists = os.path.exists(url)
        problem = "has a file ending that is not supported" if exists else "does not exist"
        endings = ", ".join(READERS.list_names())
        datasets = " or ".join(f"dataset:{name}" for name in DATASETS.list_names())
        raise KitError(
            f"{description} {problem}",
            f"a file ending in {endings}, a folder of Parquet files, or {datasets}",
            hint,
        )
    try:
        _record_dependency(url)
        return READERS[ending](url, limit)
    except FileNotFoundError as error:
        raise KitError(
            f"{description} does not exist",
            f"a file at {url}",
            f"{hint}, or put the file there",
        ) from error
    except (ValueError, OSError) as error:
        raise KitError(
            f"{description} cannot be read: {str(error).splitlines()[0]}",
            f"a {ending.lstrip('.')} file with a header",
            "inspect the file's first lines",
        ) from error


def _find_ending(url: str) -> str:
    """Return the ending whose reader reads a table; empty if there is none."""
    for ending in READERS.list_names():
        if url.lower().endswith(ending):
            return ending
    is_folder = "://" in url or os.path.isdir(url)
    return ".parquet" if is_folder else ""


def _record_dependency(url: str) -> None:
    """Record that the running stage reads a table."""
    if "://" in url:
        dependencies.untracked_sources.add(url)
        return
    if not _is_glob(url) and not os.path.exists(url):
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
