"""Views: functions of the project that compute columns from ``rows`` and ``history`` in DuckDB.

``rows`` has an integer ``row``, ``moment`` (UTC, without a zone) and the columns known at the moment
of the prediction; ``history`` is the source with what became known later. A view returns
``db.sql(...)``: ``row`` and its columns, one line a row. DuckDB promises no order of summation, so
what a view adds up is an integer or DECIMAL.

To add a helper for views: a function here that returns SQL, and its name in ``features.__all__``.
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
from mlops_kit.core.lazy import pd
from mlops_kit.project.loader import Project

FeatureView = Callable[["FeatureDatabase"], Any]
_VIEW_MARKER = "__mlops_view__"


def view(function: FeatureView) -> FeatureView:
    """Mark a function of the project's file as a view; ``load`` registers it under its name."""
    setattr(function, _VIEW_MARKER, True)
    return function


def load_views(project: Project) -> dict[str, FeatureView]:
    """The views of a project's feature files, in the order in which they stand there.

    Raises
    ------
    KitError
        If a file is missing, cannot be run, or has no view; or two views have one name.
    """
    found: ExtensionRegistry[FeatureView] = ExtensionRegistry("view")
    for name in project.config.features:
        module = _import_feature_file(project.resolve_path(name), name)
        if not (mine := {k: v for k, v in vars(module).items() if getattr(v, _VIEW_MARKER, False)}):
            raise KitError(
                f"the feature file {name!r} has no view",
                "a function decorated with @features.view",
                f"edit {name}",
            )
        for key, function in mine.items():
            if key in found:
                raise KitError(
                    f"the view {key!r} of {name!r} stands in another feature file too",
                    "a name of its own",
                    "rename one of the two",
                )
            found.register(key)(function)
    return dict(found)


def _import_feature_file(path: Path, name: str) -> ModuleType:
    """A feature file's module, run anew when the file has changed; it is not put among Python's own."""
    if not path.is_file():
        raise KitError(
            f"features: the file {name!r} does not exist",
            f"a Python file at {path}",
            "edit 'features' in mlops.yaml",
        )
    dependencies.record_file_read(path)
    found = path.stat()
    return _execute_feature_file(path, name, found.st_mtime_ns, found.st_size)


@lru_cache(
    maxsize=16
)  # an endpoint builds features at each request, and a file may keep its tables
def _execute_feature_file(path: Path, name: str, changed: int, size: int) -> ModuleType:
    """Run a feature file as it is now."""
    spec = importlib.util.spec_from_file_location(f"project_features_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise KitError(
            f"features: {name!r} is no Python file",
            "a file ending in .py",
            "edit 'features' in mlops.yaml",
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (
        Exception
    ) as error:  # whatever a user's file raises, it is the file that has to be mended
        raise KitError(
            f"the feature file {name!r} cannot be run: {type(error).__name__}: {error}",
            "a file that Python runs",
            f"edit {name}",
        ) from error
    return module


class FeatureDatabase:
    """A DuckDB connection with the tables that a view reads."""

    def __init__(self) -> None:
        import duckdb

        # Nothing is fetched from the network in the middle of a run.
        self.connection = duckdb.connect(
            ":memory:",
            config={"autoinstall_known_extensions": False, "autoload_known_extensions": False},
        )

    def add_table(self, name: str, frame: pd.DataFrame) -> None:
        """Add a table; zoned moments become UTC without a zone."""
        import pyarrow as pa

        plain = frame.copy(deep=False)
        for column in plain.columns:
            if str(plain[column].dtype).startswith("datetime64"):
                plain[column] = convert_to_naive_utc(plain[column])
        try:
            self.connection.register(name, pa.Table.from_pandas(plain, preserve_index=False))
        except pa.ArrowInvalid as error:
            raise KitError(
                f"the table {name!r} has a column of mixed types: {error}",
                "one type a column",
                "mend the source",
            ) from error

    def sql(self, query: str) -> Any:
        """The answer to a query, computed when it is read."""
        return self.connection.sql(query)

    def close(self) -> None:
        """Give the memory back."""
        self.connection.close()


def convert_to_naive_utc(values: pd.Series) -> pd.Series:
    """Moments as UTC without a zone, in microseconds: DuckDB compares no zoned with naive ones."""
    utc = values.dt.tz_convert("UTC").dt.tz_localize(None) if values.dt.tz is not None else values
    return utc.astype("datetime64[us]")


def build_trailing_sql(
    events: str, by: Sequence[str], spans: Mapping[str, str], sums: Sequence[str] = ()
) -> str:
    """SQL for counts and sums of the events in the time before each row's moment.

    Parameters
    ----------
    events : str
        A SELECT with the columns of ``by``, ``seen`` (when the event became known) and the integer
        columns of ``sums``.
    by : sequence of str
        Columns on which an event and a row agree.
    spans : mapping of str to str
        A label to an interval: ``{"3h": "3 hours"}``.
    sums : sequence of str
        Integer columns to add up.

    Returns
    -------
    str
        A parenthesized SELECT, one line a row: ``row``, ``n_<label>`` and ``<sum>_<label>`` for the
        events with ``moment - span <= seen < moment``; 0 where there is none.

    Notes
    -----
    Two as-of joins on prefix sums, so the cost does not grow with the span; integers, so the answer
    is the same in every run.
    """
    keys = ", ".join(by)
    counted = ", ".join(["count(*) AS n", *(f"sum({s})::BIGINT AS {s}" for s in sums)])
    prefix = ", ".join(f"(sum({c}) OVER upto)::BIGINT AS {c}" for c in ("n", *sums))
    joins, columns = [_build_asof_join("now", by, "rows.moment")], ["rows.row"]
    for label, span in spans.items():
        joins.append(_build_asof_join(f"before_{label}", by, f"rows.moment - INTERVAL '{span}'"))
        columns += [
            f"coalesce(now.{c}, 0) - coalesce(before_{label}.{c}, 0) AS {c}_{label}"
            for c in ("n", *sums)
        ]
    return f"""(
        WITH moments AS (SELECT {keys}, seen, {counted} FROM ({events}) WHERE seen IS NOT NULL GROUP BY {keys}, seen),
        prefix AS (SELECT {keys}, seen, {prefix} FROM moments WINDOW upto AS (PARTITION BY {keys} ORDER BY seen ROWS UNBOUNDED PRECEDING))
        SELECT {", ".join(columns)} FROM rows {" ".join(joins)})"""


def _build_asof_join(name: str, by: Sequence[str], moment: str) -> str:
    """One as-of join of ``rows`` with the last prefix strictly before a moment."""
    agree = " AND ".join(f"rows.{key} = {name}.{key}" for key in by)
    return f"ASOF LEFT JOIN prefix AS {name} ON {agree} AND {moment} > {name}.seen"
