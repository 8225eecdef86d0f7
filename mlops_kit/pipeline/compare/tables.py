"""Comparison of the tables that the stages of two runs wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, RunSide
from mlops_kit.pipeline.compare.values import compare_values
from mlops_kit.project.artifacts import Artifact, read_artifact
from mlops_kit.project.run_folder import list_artifacts

_MAX_COLUMN_ROWS = 12  # changed columns that are shown of each table
_MIN_MEAN_SHIFT_SD = 0.05  # standard deviations: a smaller change of the mean is not shown
_MIN_MISSING_SHARE_CHANGE = 0.001  # a smaller change of the share of missing values is not shown
_TABLE_KINDS = ("table", "tables")


def compare_tables(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield the tables whose size differs and the columns that changed, except records."""
    old_tables = _list_tables(old.folder)
    new_tables = _list_tables(new.folder)
    yield from compare_values(
        "data",
        {name: _describe_size(table) for name, table in old_tables.items()},
        {name: _describe_size(table) for name, table in new_tables.items()},
    )
    for name, old_table in old_tables.items():
        new_table = new_tables.get(name)
        if new_table is None or old_table.content == new_table.content:
            continue
        rows = list(
            _compare_columns(
                name,
                read_artifact(old.folder, old_table),
                read_artifact(new.folder, new_table),
            )
        )
        yield from _limit_rows(name, rows)


def _list_tables(run: Path) -> dict[str, Artifact]:
    """Return the tables of a run by name, except records, which have no content hash."""
    return {
        name: artifact
        for name, artifact in list_artifacts(run).items()
        if artifact.kind in _TABLE_KINDS and artifact.content
    }


def _describe_size(table: Artifact) -> str:
    return f"{table.rows:,} rows, {table.columns} columns"


def _limit_rows(table: str, rows: list[ComparisonRow]) -> Iterator[ComparisonRow]:
    """Yield the first rows and how many more there are; a row of its own if there are none."""
    if not rows:
        explanation = (
            "other values or another order; no column's mean moved by "
            f"{format_percent(_MIN_MEAN_SHIFT_SD)} of its standard deviation"
        )
        yield ComparisonRow(
            "data",
            f"{table}: values",
            "",
            "",
            explanation=explanation,
        )
        return
    yield from rows[:_MAX_COLUMN_ROWS]
    omitted = len(rows) - _MAX_COLUMN_ROWS
    if omitted > 0:
        name = f"{table}: other columns"
        yield ComparisonRow(
            "data",
            name,
            "",
            "",
            explanation=f"{omitted} more",
        )


def _compare_columns(
    table: str,
    old: pd.DataFrame,
    new: pd.DataFrame,
) -> Iterator[ComparisonRow]:
    """Yield the columns of a table that were added or removed or whose values changed."""
    for name in dict.fromkeys([*old.columns, *new.columns]):
        is_in_both = name in old and name in new
        if is_in_both and is_column_unchanged(old[name], new[name]):
            continue
        yield ComparisonRow(
            "data",
            f"{table}.{name}",
            _summarize_table_column(old, name),
            _summarize_table_column(new, name),
        )


def _summarize_table_column(table: pd.DataFrame, name: str) -> str:
    """Summarize a column of a table that may not have it."""
    if name not in table:
        return NOT_THERE
    return _summarize_column(table[name])


def is_column_unchanged(old: pd.Series, new: pd.Series) -> bool:
    """Return whether a column has the same type and about the same values.

    For numbers the mean decides, for other columns their summary, for both the share of missing
    values.
    """
    if old.dtype != new.dtype:
        return False
    old_missing_share = old.isna().mean()
    new_missing_share = new.isna().mean()
    missing_change = abs(old_missing_share - new_missing_share)
    if missing_change >= _MIN_MISSING_SHARE_CHANGE:
        return False
    if not pd.api.types.is_numeric_dtype(old):
        return _summarize_column(old) == _summarize_column(new)
    old_mean = float(old.mean())
    new_mean = float(new.mean())
    mean_shift = abs(old_mean - new_mean)
    standard_deviation = float(old.astype(float).std(ddof=0))
    # Not "<=": a column without a number has no mean, and NaN compares as unchanged here.
    return not mean_shift > _MIN_MEAN_SHIFT_SD * standard_deviation


def _summarize_column(column: pd.Series) -> str:
    """Return type, typical values and share of missing values of a column."""
    if not column.notna().any():
        return f"{column.dtype}, empty"
    if pd.api.types.is_numeric_dtype(column):
        values = f"mean {format_number(float(column.mean()))}"
    elif pd.api.types.is_datetime64_any_dtype(column):
        values = f"{column.min()} to {column.max()}"
    else:
        values = f"{column.astype(str).nunique():,} values"
    missing = format_percent(float(column.isna().mean()), 1)
    return f"{column.dtype}, {values}, {missing} missing"
