"""What-if analysis: how the score of a row changes when one of its columns has another value.

The scores are computed and stored in the review, so that a page can answer without a model. Only
one column changes at a time, so a changed row may be one that never occurs: the analysis describes
the model, not the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.core.tasks import (
    is_finite_score,
    predict_codes,
    summarize_score,
    to_score_array,
)
from mlops_kit.data.columns import ROW_ID
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores

_MAX_ROWS = 12
_MAX_COLUMNS = 6
_MAX_VALUES_PER_COLUMN = 10
_WHAT_IF_COLUMNS = ("row", "score", "column", "value", "new_value", "new_score")
_TITLE = "What-if analysis"
# Columns of the rows of a multiclass task with the predicted class; no feature has such a name.
_CODE_COLUMN = "\0code"
_NAME_COLUMN = "\0class"
_NOTE = "Only one column changes at a time, so a changed row may be one that never occurs."


def run_what_if_analysis(
    model: Any,
    rows: pd.DataFrame,
    features: Sequence[str],
    importance: Table,
    config: ProjectConfig,
    classes: Sequence[Any] = (),
) -> Table:
    """Score a few held-out rows with other values in the most important columns.

    Of class probabilities, the score of a row is that of the class that is predicted for it.

    Parameters
    ----------
    model : fitted scikit-learn estimator
        The evaluation model.
    rows : DataFrame
        Held-out rows with their ``score``; the analyzed rows are spread evenly over it.
    importance : Table
        Result of `compute_permutation_importance`; its first columns are changed.
    classes : sequence
        The names of the classes of a multiclass task, in the order of their codes.

    Returns
    -------
    Table
        row (its id), score, column, value, new_value (both as text), new_score (with that value).
    """
    rows = to_pandas(rows)
    feature_names = list(features)
    rows = _select_predicted_class(rows, classes)
    selected_rows = select_rows_across_scores(rows, config)
    ranked_columns = [str(name) for name in importance.to_frame()["feature"]]
    columns = (ranked_columns or feature_names)[:_MAX_COLUMNS]
    descriptions = []
    inputs = []
    for column in columns:
        new_values = select_alternative_values(rows[column])
        description, changed_rows = _make_changed_rows(selected_rows, column, new_values, config)
        descriptions.append(description)
        inputs.append(changed_rows[feature_names])
    data = pd.concat(descriptions, ignore_index=True)
    if data.empty:
        return Table(
            _TITLE,
            "There is no scored row to analyze.",
            pd.DataFrame(columns=list(_WHAT_IF_COLUMNS)),
        )
    new_scores = predict_scores(model, pd.concat(inputs, ignore_index=True), config)
    if new_scores.ndim == 2:
        new_scores = new_scores[np.arange(len(data)), data["code"].astype(int)]
    data["new_score"] = new_scores
    largest_change = (data["new_score"] - data["score"]).abs().to_numpy().argmax()
    changed = data.iloc[int(largest_change)]
    score = format_number(float(changed["score"]))
    new_score = format_number(float(changed["new_score"]))
    sentence = (
        f"Among {len(selected_rows)} rows and {len(columns)} columns, {changed['column']} changes "
        f"a score the most: {changed['row']} has {score} with {changed['value']}, and {new_score} "
        f"with {changed['new_value']}."
    )
    return Table(
        _TITLE,
        sentence,
        data[list(_WHAT_IF_COLUMNS)],
        notes=(_NOTE,),
    )


def _select_predicted_class(rows: pd.DataFrame, classes: Sequence[Any]) -> pd.DataFrame:
    """Reduce class probabilities to that of the predicted class, whose code and name are added."""
    scores = to_score_array(rows["score"])
    if scores.ndim == 1:
        return rows
    scored_rows = rows[is_finite_score(scores)]
    scores = scores[is_finite_score(scores)]
    codes = predict_codes(scores)
    names = [str(classes[code]) if classes else str(code) for code in codes]
    predicted = scored_rows.assign(score=summarize_score(scores))
    predicted[_CODE_COLUMN] = codes
    predicted[_NAME_COLUMN] = names
    return predicted


def select_rows_across_scores(rows: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """Select a few rows, spread evenly over the order of their scores."""
    scored = rows[rows["score"].notna()]
    ordered = scored.sort_values(["score", *_get_key_columns(config)], kind="stable")
    return ordered.iloc[get_evenly_spaced_positions(len(ordered), _MAX_ROWS)]


def get_evenly_spaced_positions(rows: int, count: int) -> np.ndarray:
    """Get positions from the first to the last row, evenly spaced and without repetition."""
    if rows == 0:
        return np.arange(0)
    return np.unique(np.linspace(0, rows - 1, count).round().astype(int))


def select_alternative_values(column: pd.Series) -> pd.Series:
    """Select values that a column may have instead.

    Quantiles of a number or a timestamp (each of them a value that occurs), or the most frequent
    values of any other column.
    """
    known_values = column.dropna()
    types = pd.api.types
    is_ordered = types.is_numeric_dtype(known_values) or types.is_datetime64_any_dtype(known_values)
    if is_ordered and not types.is_bool_dtype(known_values):
        positions = get_evenly_spaced_positions(len(known_values), _MAX_VALUES_PER_COLUMN + 2)
        quantiles = known_values.sort_values(kind="stable").iloc[positions[1:-1]]
        return quantiles[~quantiles.map(format_cell_value).duplicated()]
    texts = known_values.astype(str)
    counts = texts.value_counts()
    by_frequency = sorted(counts.index, key=lambda text: (-counts[text], text))
    most_frequent = by_frequency[:_MAX_VALUES_PER_COLUMN]
    selected = known_values[texts.isin(most_frequent)].drop_duplicates()
    return selected.sort_values(key=lambda values: values.astype(str).map(most_frequent.index))


def _make_changed_rows(
    rows: pd.DataFrame, column: str, new_values: pd.Series, config: ProjectConfig
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Repeat each row once per new value.

    Returns
    -------
    DataFrame
        What was changed: row, score, column, value, new_value.
    DataFrame
        The changed rows, with the types of the columns kept.
    """
    row_positions = np.repeat(np.arange(len(rows)), len(new_values))
    value_positions = np.tile(np.arange(len(new_values)), len(rows))
    changed_rows = rows.iloc[row_positions].reset_index(drop=True)
    repeated_values = new_values.iloc[value_positions].reset_index(drop=True)
    row_names: Any = ""
    if len(changed_rows):
        row_names = changed_rows[_get_key_columns(config)].astype(str).agg(" · ".join, axis=1)
        if _NAME_COLUMN in changed_rows:
            row_names = row_names + " (" + changed_rows[_NAME_COLUMN] + ")"
    description = pd.DataFrame(
        {
            "row": row_names,
            "score": changed_rows["score"],
            "column": column,
            "value": [format_cell_value(value) for value in changed_rows[column]],
            "new_value": [format_cell_value(value) for value in repeated_values],
        }
    )
    if _CODE_COLUMN in changed_rows:
        description["code"] = changed_rows[_CODE_COLUMN]
    changed_rows[column] = repeated_values
    return description, changed_rows


def _get_key_columns(config: ProjectConfig) -> list[str]:
    return config.id or [ROW_ID]


def format_cell_value(value: Any) -> str:
    """Format a value of a table as text."""
    if pd.isna(value):
        return "missing"
    if str(value) in {"True", "False"}:
        return "yes" if str(value) == "True" else "no"
    return format_number(value) if isinstance(value, float) else str(value)
