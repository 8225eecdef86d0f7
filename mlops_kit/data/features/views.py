"""Feature views: a project's own functions that compute columns in DuckDB.

A view reads two tables. ``rows`` has an integer ``row``, ``moment`` (prediction time: UTC, without
a time zone) and the columns known at prediction time. ``history`` is the source with the values
that became known later. A view returns ``db.sql(...)``: ``row`` and its feature columns, one line
per row. DuckDB does not guarantee the order of a summation, so views add up integers or DECIMAL
only.

To add a helper for views: 1. a function here that returns SQL, 2. its name in
``mlops_kit.data.features.__all__``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.project.loader import Project

FeatureView = Callable[["FeatureDatabase"], Any]
_VIEW_MARKER = "__mlops_view__"
_TRAILING_SQL = """(
    WITH moments AS (
        SELECT {keys}, seen, {totals} FROM ({events})
        WHERE seen IS NOT NULL GROUP BY {keys}, seen
    ), prefix AS (
        SELECT {keys}, seen, {prefix_sums} FROM moments
        WINDOW upto AS (PARTITION BY {keys} ORDER BY seen ROWS UNBOUNDED PRECEDING)
    )
    SELECT {columns} FROM rows {joins})"""


def view(function: FeatureView) -> FeatureView:
    """Mark a function of a feature file as a view, named like the function."""
    setattr(function, _VIEW_MARKER, True)
    return function


def load_views(project: Project) -> dict[str, FeatureView]:
    """Load the views of a project's feature files, in the order of the files.

    Raises
    ------
    KitError
        If a file is missing, fails, or has no view; or two views have the same name.
    """
    views: ExtensionRegistry[FeatureView] = ExtensionRegistry("view")
    for file_name in project.config.features:
        module = _import_feature_file(project.resolve_path(file_name), file_name)
        file_views = {
            name: value for name, value in vars(module).items() if hasattr(value, _VIEW_MARKER)
        }
        if not file_views:
            raise KitError(
                f"the feature file {file_name!r} has no view",
                "a function decorated with @features.view",
                f"edit {file_name}",
            )
        for name, function in file_views.items():
            if name in views:
                raise KitError(
                    f"the view {name!r} of {file_name!r} exists in another feature file too",
                    "a unique name",
                    "rename one of the two",
                )
            views.register(name)(function)
    return dict(views)


def _import_feature_file(path: Path, name: str) -> ModuleType:
    """Import a feature file, again if it changed; it is not added to ``sys.modules``."""
    if not path.is_file():
        raise KitError(
            f"features: the file {name!r} does not exist",
            f"a Python file at {path}",
            "edit 'features' in mlops.yaml",
        )
    dependencies.record_file_read(path)
    status = path.stat()
    return _execute_feature_file(
        path,
        name,
        status.st_mtime_ns,
        status.st_size,
    )


# Cached, because an endpoint builds features at each request and a file may keep its own tables.
@lru_cache(maxsize=16)
def _execute_feature_file(
    path: Path,
    name: str,
    _modified_ns: int,
    _size: int,
) -> ModuleType:
    """Execute a feature file; it is executed again when its time or size changes."""
    spec = importlib.util.spec_from_file_location(f"project_features_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise KitError(
            f"features: {name!r} is not a Python file",
            "a file ending in .py",
            "edit 'features' in mlops.yaml",
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # anything a user's file raises is an error in that file
        raise KitError(
            f"the feature file {name!r} fails: {type(error).__name__}: {error}",
            "a file that Python executes without an error",
            f"edit {name}",
        ) from error
    return module


class FeatureDatabase:
    """An in-memory DuckDB database with the tables that views read."""

    def __init__(self) -> None:
        import duckdb

        # No extension is downloaded during a run.
        self.connection = duckdb.connect(
            ":memory:",
            config={"autoinstall_known_extensions": False, "autoload_known_extensions": False},
        )

    def add_table(self, name: str, frame: pd.DataFrame) -> None:
        """Add a table; timestamps become UTC without a time zone.

        Raises
        ------
        KitError
            If a column mixes types.
        """
        frame = to_pandas(frame)
        import pyarrow as pa

        table = frame.copy(deep=False)
        for column in table.columns:
            if str(table[column].dtype).startswith("datetime64"):
                table[column] = convert_to_naive_utc(table[column])
        try:
            self.connection.register(name, pa.Table.from_pandas(table, preserve_index=False))
        except pa.ArrowInvalid as error:
            raise KitError(
                f"the table {name!r} has a column of mixed types: {error}",
                "one type per column",
                "fix the source",
            ) from error

    def sql(self, query: str) -> Any:
        """Return the result of a query, computed when it is read."""
        return self.connection.sql(query)

    def close(self) -> None:
        """Close the database and free its memory."""
        self.connection.close()


def convert_to_naive_utc(values: pd.Series) -> pd.Series:
    """Convert timestamps to UTC without a time zone, in microseconds.

    DuckDB does not compare timestamps that have a time zone with those that have none.
    """
    utc = values
    if values.dt.tz is not None:
        utc = values.dt.tz_convert("UTC").dt.tz_localize(None)
    return utc.astype("datetime64[us]")


def build_trailing_sql(
    events: str,
    by: Sequence[str],
    spans: Mapping[str, str],
    sums: Sequence[str] = (),
) -> str:
    """Build SQL for counts and sums of the events in a period before each row's timestamp.

    Parameters
    ----------
    events : str
        A SELECT with the columns of ``by``, ``seen`` (when the event became known) and the integer
        columns of ``sums``.
    by : sequence of str
        Columns on which an event and a row agree.
    spans : mapping of str to str
        Intervals by label: ``{"3h": "3 hours"}``.
    sums : sequence of str
        Integer columns to sum.

    Returns
    -------
    str
        A parenthesized SELECT, one line per row: ``row``, ``n_<label>`` and ``<sum>_<label>`` for
        the events with ``moment - span <= seen < moment``; 0 if there are none.

    Notes
    -----
    Prefix sums and two as-of joins per span: the cost does not grow with the length of the span,
    and integer sums give the same result in every run.

    Examples
    --------
    >>> sql = build_trailing_sql("SELECT k, seen FROM history", ["k"], {"3h": "3 hours"})
    >>> "coalesce(now.n, 0) - coalesce(before_3h.n, 0) AS n_3h" in sql
    True
    """
    keys = ", ".join(by)
    totals = ["count(*) AS n"]
    totals += [f"sum({column})::BIGINT AS {column}" for column in sums]
    measures = ["n", *sums]
    prefix_sums = [f"(sum({column}) OVER upto)::BIGINT AS {column}" for column in measures]
    joins = [_build_asof_join("now", by, "rows.moment")]
    columns = ["rows.row"]
    for label, span in spans.items():
        before = f"before_{label}"
        joins.append(_build_asof_join(before, by, f"rows.moment - INTERVAL '{span}'"))
        for measure in measures:
            difference = f"coalesce(now.{measure}, 0) - coalesce({before}.{measure}, 0)"
            columns.append(f"{difference} AS {measure}_{label}")
    return _TRAILING_SQL.format(
        keys=keys,
        totals=", ".join(totals),
        events=events,
        prefix_sums=", ".join(prefix_sums),
        columns=", ".join(columns),
        joins=" ".join(joins),
    )


def _build_asof_join(name: str, by: Sequence[str], timestamp: str) -> str:
    """Build an as-of join of ``rows`` with the last prefix sum strictly before a timestamp."""
    conditions = [f"rows.{key} = {name}.{key}" for key in by]
    conditions.append(f"{timestamp} > {name}.seen")
    return f"ASOF LEFT JOIN prefix AS {name} ON {' AND '.join(conditions)}"
