"""Readers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.data.datasets import DATASETS
from mlops_kit.project.config.data import QuerySource
from mlops_kit.project.loader import Project

fsspec = LazyModule("fsspec")


def read_csv(url: str, limit: int | None) -> pd.DataFrame:
    """A CSV file, or all that match a glob."""
    files = fsspec.open_files(url, "rb", compression="infer")
    if not files:
        raise FileNotFoundError(url)
    parts: list[pd.DataFrame] = []
    for item in files:
        with item as stream:
            parts.append(
                pd.read_csv(
                    stream, nrows=limit, sep="\t" if item.path.lower().endswith(".tsv") else ","
                )
            )
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def read_parquet(url: str, limit: int | None) -> pd.DataFrame:
    """A Parquet file, a folder of them, or a glob."""
    import pyarrow.dataset as ds

    fs, path = fsspec.core.url_to_fs(url)
    found = sorted(fs.glob(path)) if any(c in path for c in "*?[") else path
    if not found:
        raise FileNotFoundError(url)
    table = ds.dataset(found, filesystem=fs, partitioning="hive")
    frame: pd.DataFrame = (table.to_table() if limit is None else table.head(limit)).to_pandas(
        ignore_metadata=False
    )
    return frame


READERS: dict[str, Callable[[str, int | None], pd.DataFrame]] = {
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".csv.zip": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".pq": read_parquet,
    ".xlsx": lambda url, limit: pd.read_excel(url, nrows=limit),
}


def resolve_location(project: Project, source: str) -> str:
    """A source's path from the project's folder; URLs stay as they are."""
    return source if "://" in source else str(project.resolve_path(source))


def read_table(
    url: str, limit: int | None = None, said: str = "", cure: str = "name another file"
) -> pd.DataFrame:
    """The rows of a file, a folder of Parquet files or a glob; ``said`` is how errors call it.

    Raises
    ------
    KitError
        If it is missing, is of no kind that is known, or cannot be read.
    """
    said = said or repr(url)
    ending = next(
        (e for e in READERS if url.lower().endswith(e)),
        ".parquet" if "://" in url or os.path.isdir(url) else "",
    )
    if not ending:
        problem = "has an ending that is not known" if os.path.exists(url) else "does not exist"
        raise KitError(
            f"{said} {problem}",
            f"a file ending in {', '.join(READERS)}, a folder of Parquet files, or dataset:{' or dataset:'.join(DATASETS)}",
            cure,
        )
    try:
        if "://" in url:
            dependencies.untracked_sources.add(url)
        elif not any(c in url for c in "*?[") and not os.path.exists(url):
            raise FileNotFoundError(url)
        else:
            dependencies.record_file_read(url)
        return READERS[ending](url, limit)
    except FileNotFoundError as error:
        raise KitError(
            f"{said} does not exist", f"a file at {url}", f"{cure}, or put the file there"
        ) from error
    except (ValueError, OSError) as error:
        raise KitError(
            f"{said} cannot be read: {str(error).splitlines()[0]}",
            f"a {ending.lstrip('.')} file with a header",
            "look at the file's first lines",
        ) from error


def read_query(source: QuerySource, limit: int | None) -> pd.DataFrame:
    """The rows of a SQL query; ``${NAME}`` in the URL comes from the environment."""
    import sqlalchemy

    dependencies.untracked_sources.add("a query")
    missing = [n for n in re.findall(r"\$\{(\w+)\}", source.url) if n not in os.environ]
    if missing:
        raise KitError(
            f"source.url needs the environment variable {missing[0]!r}, which is not set",
            "its value in the environment",
            f"export {missing[0]}=…",
        )
    sql = (
        source.sql.rstrip("; \n")
        if limit is None
        else f"SELECT * FROM ({source.sql.rstrip('; ')}) AS q LIMIT {limit}"
    )
    try:
        return pd.read_sql(sqlalchemy.text(sql), os.path.expandvars(source.url))
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise KitError(
            f"source.sql failed: {str(error).splitlines()[0]}",
            "a SELECT that the database answers",
            "edit 'source' in mlops.yaml",
        ) from error
