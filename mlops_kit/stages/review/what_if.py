"""What if."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores

_MAX_ROWS, _MAX_COLUMNS, _MAX_VALUES_PER_COLUMN = (
    12,
    6,
    10,
)  # how many rows are asked about, in which columns, with how many values each
_WHAT_IF_COLUMNS = ("row", "score", "column", "is", "if", "then")


def run_what_if_analysis(
    model: Any,
    rows: pd.DataFrame,
    features: Sequence[str],
    importance: Table,
    config: ProjectConfig,
) -> Table:
    """The score of some judged rows as they are, and with another value in each of the columns that matter.

    Parameters
    ----------
    model : fitted scikit-learn estimator
        The judged model.
    rows : DataFrame
        Judged rows with their ``score``; those asked about are spread evenly over it.
    importance : Table
        Of ``permutation_importance``; the first columns of it are changed.

    Returns
    -------
    Table
        row (its id), score, column, is, if (values as text), then (the score with that value).
    """
    names, asked = list(features), select_rows_across_scores(rows, config)
    columns = [str(c) for c in importance.to_frame()["feature"][:_MAX_COLUMNS]] or names[
        :_MAX_COLUMNS
    ]
    made = [
        _make_changed_rows(asked, column, select_alternative_values(rows[column]), config)
        for column in columns
    ]
    told = pd.concat([m[0] for m in made], ignore_index=True)
    if told.empty:
        return Table(
            "What if?",
            "There is no judged row to ask about.",
            pd.DataFrame(columns=list(_WHAT_IF_COLUMNS)),
        )
    told["then"] = predict_scores(
        model, pd.concat([m[1][names] for m in made], ignore_index=True), config
    )
    most = told.iloc[int((told["then"] - told["score"]).abs().to_numpy().argmax())]
    sentence = f"Of {len(asked)} rows and {len(columns)} columns, {most['column']} moves one row the most: {most['row']} has {format_number(float(most['score']))} with {most['is']}, and would have {format_number(float(most['then']))} with {most['if']}."
    return Table(
        "What if?",
        sentence,
        told[list(_WHAT_IF_COLUMNS)],
        notes=(
            "Only one column is changed at a time, so a made row may be one that never occurs.",
        ),
    )


def select_rows_across_scores(rows: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """A few rows, evenly spread over the order of their scores."""
    held = rows[rows["score"].notna()].sort_values(
        ["score", *_get_key_columns(config)], kind="stable"
    )
    return held.iloc[get_evenly_spaced_positions(len(held), _MAX_ROWS)]


def get_evenly_spaced_positions(rows: int, count: int) -> np.ndarray:
    """Positions from the first to the last, evenly spaced, each once."""
    return np.unique(np.linspace(0, rows - 1, count).round().astype(int)) if rows else np.arange(0)


def select_alternative_values(column: pd.Series) -> pd.Series:
    """What a column may hold instead: ten quantiles of a number (each a value that occurs), else the commonest."""
    known = column.dropna()
    measured = pd.api.types.is_numeric_dtype(known) or pd.api.types.is_datetime64_any_dtype(known)
    if measured and not pd.api.types.is_bool_dtype(known):
        known = known.sort_values(kind="stable").iloc[
            get_evenly_spaced_positions(len(known), _MAX_VALUES_PER_COLUMN + 2)[1:-1]
        ]
        return known[~known.map(format_cell_value).duplicated()]
    counts = known.astype(str).value_counts()
    commonest = sorted(counts.index, key=lambda v: (-counts[v], v))[:_MAX_VALUES_PER_COLUMN]
    return (
        known[known.astype(str).isin(commonest)]
        .drop_duplicates()
        .sort_values(key=lambda s: s.astype(str).map(commonest.index))
    )


def _make_changed_rows(
    asked: pd.DataFrame, column: str, instead: pd.Series, config: ProjectConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each row once for each value: what was changed, and the made rows, with the columns' own types."""
    row, value = (
        np.repeat(np.arange(len(asked)), len(instead)),
        np.tile(np.arange(len(instead)), len(asked)),
    )
    made = asked.iloc[row].reset_index(drop=True)
    names = made[_get_key_columns(config)].astype(str).agg(" · ".join, axis=1) if len(made) else ""
    told = pd.DataFrame(
        {
            "row": names,
            "score": made["score"],
            "column": column,
            "is": [format_cell_value(v) for v in made[column]],
            "if": [format_cell_value(v) for v in instead.iloc[value]],
        }
    )
    made[column] = instead.iloc[value].reset_index(drop=True)
    return told, made


def _get_key_columns(config: ProjectConfig) -> list[str]:
    """The columns that name a row."""
    return config.id or ["row_id"]


def format_cell_value(value: Any) -> str:
    """A value as a reader sees it."""
    if value is None or value != value or str(value) in {"NaT", "<NA>"}:
        return "missing"
    if str(value) in {"True", "False"}:
        return "yes" if str(value) == "True" else "no"
    return format_number(value) if isinstance(value, float) else str(value)
