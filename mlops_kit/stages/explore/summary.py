"""Summary."""

from __future__ import annotations

from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.columns import infer_display_kind
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.explore.columns import get_column_role, make_hashable


def summarize_columns(frame: pd.DataFrame, config: ProjectConfig) -> Table:
    """Every column: its role, kind, share missing, distinct values."""
    rows = [
        (
            c,
            get_column_role(c, config),
            infer_display_kind(frame[c]),
            _compute_true_share(frame[c].isna()),
            int(make_hashable(frame[c]).nunique()),
        )
        for c in frame.columns
    ]
    data = pd.DataFrame(rows, columns=["column", "role", "kind", "missing", "distinct"])
    counts = ", ".join(f"{k}: {n}" for k, n in data["kind"].value_counts().sort_index().items())
    used = int((data["role"] == "feature").sum())
    sentence = f"{len(frame):,} rows and {len(data)} columns ({counts or 'none'}); {used} of them may become features."
    return Table("What is in the table?", sentence, data, {"missing": "share of rows"})


def _compute_true_share(flags: pd.Series) -> float:
    """The share that is true; of no rows it is zero."""
    return float(flags.mean()) if len(flags) else 0.0


def summarize_missing(frame: pd.DataFrame) -> Table:
    """The columns that lack values, the emptiest first."""
    rows = [
        (str(c), int(frame[c].isna().sum()), _compute_true_share(frame[c].isna()))
        for c in frame.columns
    ]
    data = pd.DataFrame(rows, columns=["column", "rows", "missing"])
    data = data[data["rows"] > 0].sort_values(
        ["missing", "column"], ascending=[False, True], ignore_index=True
    )
    if data.empty:
        return Table(
            "What is missing?",
            f"No value is missing in {frame.shape[1]} columns.",
            data,
            {"missing": "share of rows"},
        )
    worst = data.iloc[0]
    sentence = f"{len(data)} of {frame.shape[1]} columns lack values; {worst['column']} lacks most, {format_percent(worst['missing'])} of the rows."
    return Table("What is missing?", sentence, data, {"missing": "share of rows"})
