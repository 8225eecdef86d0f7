"""What the model would say of a row if one of its columns held another value.

All made rows are scored at once and filed, so that a page can answer without a model. Only one column
moves at a time, so a made row may be one that never occurs: it tells of the model, not of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops_kit.config import Config
from mlops_kit.late import np, pd
from mlops_kit.results import Table, number
from mlops_kit.tracking import answers

ROWS, COLUMNS, VALUES = 12, 6, 10  # how many rows are asked about, in which columns, with how many values each
SEEN = ("row", "score", "column", "is", "if", "then")


def what_if(model: Any, rows: pd.DataFrame, features: Sequence[str], importance: Table, config: Config) -> Table:
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
    names, asked = list(features), spread(rows, config)
    columns = [str(c) for c in importance.frame()["feature"][:COLUMNS]] or names[:COLUMNS]
    made = [changed(asked, column, values(rows[column]), config) for column in columns]
    told = pd.concat([m[0] for m in made], ignore_index=True)
    if told.empty:
        return Table("What if?", "There is no judged row to ask about.", pd.DataFrame(columns=list(SEEN)))
    told["then"] = answers(model, pd.concat([m[1][names] for m in made], ignore_index=True), config)
    most = told.iloc[int((told["then"] - told["score"]).abs().to_numpy().argmax())]
    sentence = f"Of {len(asked)} rows and {len(columns)} columns, {most['column']} moves one row the most: {most['row']} has {number(float(most['score']))} with {most['is']}, and would have {number(float(most['then']))} with {most['if']}."
    return Table("What if?", sentence, told[list(SEEN)], notes=("Only one column is changed at a time, so a made row may be one that never occurs.",))


def spread(rows: pd.DataFrame, config: Config) -> pd.DataFrame:
    """A few rows, evenly spread over the order of their scores."""
    held = rows[rows["score"].notna()].sort_values(["score", *keys(config)], kind="stable")
    return held.iloc[evenly(len(held), ROWS)]


def evenly(rows: int, count: int) -> np.ndarray:
    """Positions from the first to the last, evenly spaced, each once."""
    return np.unique(np.linspace(0, rows - 1, count).round().astype(int)) if rows else np.arange(0)


def values(column: pd.Series) -> pd.Series:
    """What a column may hold instead: ten quantiles of a number (each a value that occurs), else the commonest."""
    known = column.dropna()
    measured = pd.api.types.is_numeric_dtype(known) or pd.api.types.is_datetime64_any_dtype(known)
    if measured and not pd.api.types.is_bool_dtype(known):
        known = known.sort_values(kind="stable").iloc[evenly(len(known), VALUES + 2)[1:-1]]
        return known[~known.map(text).duplicated()]
    counts = known.astype(str).value_counts()
    commonest = sorted(counts.index, key=lambda v: (-counts[v], v))[:VALUES]
    return known[known.astype(str).isin(commonest)].drop_duplicates().sort_values(key=lambda s: s.astype(str).map(commonest.index))


def changed(asked: pd.DataFrame, column: str, instead: pd.Series, config: Config) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each row once for each value: what was changed, and the made rows, with the columns' own types."""
    row, value = np.repeat(np.arange(len(asked)), len(instead)), np.tile(np.arange(len(instead)), len(asked))
    made = asked.iloc[row].reset_index(drop=True)
    names = made[keys(config)].astype(str).agg(" · ".join, axis=1) if len(made) else ""
    told = pd.DataFrame({"row": names, "score": made["score"], "column": column, "is": [text(v) for v in made[column]], "if": [text(v) for v in instead.iloc[value]]})
    made[column] = instead.iloc[value].reset_index(drop=True)
    return told, made


def keys(config: Config) -> list[str]:
    """The columns that name a row."""
    return config.id or ["row_id"]


def text(value: Any) -> str:
    """A value as a reader sees it."""
    if value is None or value != value or str(value) in {"NaT", "<NA>"}:
        return "missing"
    if str(value) in {"True", "False"}:
        return "yes" if str(value) == "True" else "no"
    return number(value) if isinstance(value, float) else str(value)
