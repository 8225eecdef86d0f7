"""Tables."""

from __future__ import annotations

from collections.abc import Iterator

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, RunSide
from mlops_kit.pipeline.compare.values import compare_values
from mlops_kit.project import artifacts, run_folder

_MAX_COLUMN_ROWS = 12  # columns of a table that are told of at most
_MIN_MEAN_SHIFT_SD = 0.05  # standard deviations by which a column's mean has to move to be told of
_MIN_MISSING_SHARE_CHANGE = 0.001  # the same for the share that is missing


def compare_tables(a: RunSide, b: RunSide) -> Iterator[ComparisonRow]:
    """Tables that the stages handed on: rows, columns, and of each column what moved; records are not compared."""
    old, new = (
        {
            n: k
            for n, k in run_folder.list_artifacts(f).items()
            if k.kind in {"table", "tables"} and k.content
        }
        for f, _, _ in (a, b)
    )
    yield from compare_values(
        "data",
        *(
            {n: f"{k.rows:,} rows, {k.columns} columns" for n, k in side.items()}
            for side in (old, new)
        ),
    )
    for name in [n for n in old if n in new and old[n].content != new[n].content]:
        told = [
            *_compare_columns(
                name,
                artifacts.read_artifact(a[0], old[name]),
                artifacts.read_artifact(b[0], new[name]),
            )
        ]
        yield from told[:_MAX_COLUMN_ROWS] or [
            ComparisonRow(
                "data",
                f"{name}: values",
                "",
                "",
                False,
                f"other values or another order; no column's mean moved by {format_percent(_MIN_MEAN_SHIFT_SD)} of its standard deviation",
            )
        ]
        if len(told) > _MAX_COLUMN_ROWS:
            yield ComparisonRow(
                "data",
                f"{name}: other columns",
                "",
                "",
                False,
                f"{len(told) - _MAX_COLUMN_ROWS} more",
            )


def _compare_columns(table: str, old: pd.DataFrame, new: pd.DataFrame) -> Iterator[ComparisonRow]:
    """Columns of a table that came, went, changed their type or moved by more than a trifle."""
    for name in dict.fromkeys([*old.columns, *new.columns]):
        if name not in old or name not in new or not is_column_unchanged(old[name], new[name]):
            before, now = (
                _summarize_column(f[name]) if name in f else NOT_THERE for f in (old, new)
            )
            yield ComparisonRow("data", f"{table}.{name}", before, now)


def is_column_unchanged(old: pd.Series, new: pd.Series) -> bool:
    """Whether a column has the type it had, and has moved by no more than a trifle."""
    if (
        old.dtype != new.dtype
        or abs(old.isna().mean() - new.isna().mean()) >= _MIN_MISSING_SHARE_CHANGE
    ):
        return False
    if not pd.api.types.is_numeric_dtype(old):
        return _summarize_column(old) == _summarize_column(new)
    return not abs(float(old.mean()) - float(new.mean())) > _MIN_MEAN_SHIFT_SD * float(
        old.astype(float).std(ddof=0)
    )


def _summarize_column(column: pd.Series) -> str:
    """A column in a few figures: its type, its mean or span or the number of its values, what is missing."""
    if not column.notna().any():
        return f"{column.dtype}, empty"
    if pd.api.types.is_numeric_dtype(column):
        middle = f"mean {format_number(float(column.mean()))}"
    else:
        middle = (
            f"{column.min()} to {column.max()}"
            if pd.api.types.is_datetime64_any_dtype(column)
            else f"{column.astype(str).nunique():,} values"
        )
    return f"{column.dtype}, {middle}, {format_percent(float(column.isna().mean()), 1)} missing"
