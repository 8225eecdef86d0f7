"""Summaries of a table: its columns, and the values that are missing."""

from __future__ import annotations

from mlops_kit.core.formatting import format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.column_kinds import infer_display_kind
from mlops_kit.data.splitters import get_validation_scheme
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.explore.columns import get_column_role, make_hashable

_MISSING_UNIT = {"missing": "share of rows"}


def summarize_columns(frame: pd.DataFrame, config: ProjectConfig) -> Table:
    """Summarize every column: its role, kind, share of missing values, distinct values.

    Returns
    -------
    Table
        One row per column: ``column``, ``role``, ``kind``, ``missing``, ``distinct``.
    """
    frame = to_pandas(frame)
    rows = []
    for column in frame.columns:
        values = frame[column]
        role = get_column_role(column, config)
        kind = str(infer_display_kind(values))
        distinct = int(make_hashable(values).nunique())
        rows.append((column, role, kind, _compute_true_share(values.isna()), distinct))
    data = pd.DataFrame(rows, columns=["column", "role", "kind", "missing", "distinct"])
    kind_counts = data["kind"].value_counts().sort_index()
    kinds = ", ".join(f"{kind}: {count}" for kind, count in kind_counts.items())
    features = int((data["role"] == "feature").sum())
    sentence = (
        f"{len(frame):,} rows and {len(data)} columns ({kinds or 'none'}); "
        f"{features} of the columns can become features."
    )
    notes = (get_validation_scheme(config).describe(),)
    return Table("Columns", sentence, data, _MISSING_UNIT, notes)


def summarize_missing(frame: pd.DataFrame) -> Table:
    """Summarize the columns with missing values, those with the most first.

    Returns
    -------
    Table
        One row per column that has missing values: ``column``, ``rows``, ``missing``.
    """
    frame = to_pandas(frame)
    rows = []
    for column in frame.columns:
        is_missing = frame[column].isna()
        rows.append((str(column), int(is_missing.sum()), _compute_true_share(is_missing)))
    data = pd.DataFrame(rows, columns=["column", "rows", "missing"])
    data = data[data["rows"] > 0].sort_values(
        ["missing", "column"],
        ascending=[False, True],
        ignore_index=True,
    )
    columns = frame.shape[1]
    if data.empty:
        sentence = f"No values are missing in {columns} columns."
    else:
        worst = data.iloc[0]
        sentence = (
            f"{len(data)} of {columns} columns have missing values; {worst['column']} has the "
            f"most, in {format_percent(worst['missing'])} of the rows."
        )
    return Table("Missing values", sentence, data, _MISSING_UNIT)


def _compute_true_share(flags: pd.Series) -> float:
    """Compute the share of rows that are true; zero where there are no rows."""
    if len(flags):
        return float(flags.mean())
    return 0.0
