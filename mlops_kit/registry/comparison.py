"""Which model stands for the champion when a challenger is compared with it.

The final model of the champion was refitted on all rows known then, so it may have been trained on
the rows of the comparison, which would favor it. The champion's evaluation model stands in for it
if those rows were held out from it. With ``review.require_gain`` the final model itself is
compared, on the rows that are newer than its training rows.
"""

from __future__ import annotations

from typing import Any

from mlops_kit.core.files import hash_table
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import list_key_columns
from mlops_kit.data.target import require_coding
from mlops_kit.project.loader import Project
from mlops_kit.registry.models import ModelLocation, load_model
from mlops_kit.registry.versions import ModelVersion

__all__ = [
    "hash_row_keys",
    "load_comparison_model",
    "select_comparison_model",
]


def load_comparison_model(
    project: Project,
    champion: ModelVersion | None,
    rows: pd.DataFrame,
) -> tuple[Any, list[str], str]:
    """Load the model that stands for the champion on held-out rows.

    Returns
    -------
    model : object or None
        The fitted model; None if no model of the champion can be compared on these rows.
    columns : list of str
        Its features.
    sentence : str
        Which model it is, or why there is none.
    """
    rows = to_pandas(rows)
    if champion is None:
        return None, [], "There was no champion to compare with."
    name = f"Version {champion.version}"
    columns = list(champion.features)
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        sentence = f"{name} needs the column {missing[0]!r}, which these rows do not have."
        return None, columns, sentence
    if project.config.task == "multiclass" and champion.classes != require_coding(project).classes:
        listed = ", ".join(map(str, champion.classes))
        sentence = f"{name} predicts other classes ({listed}), so the two cannot be compared."
        return None, columns, sentence
    location, explanation = select_comparison_model(project, champion, rows)
    model = None if location is None else load_model(project, location)
    return model, columns, f"{name} {explanation}"


def select_comparison_model(
    project: Project,
    champion: ModelVersion,
    rows: pd.DataFrame,
) -> tuple[ModelLocation | None, str]:
    """Select a model of the champion that was not trained on these rows.

    Returns
    -------
    location : ModelLocation or None
        The final model, the evaluation model, or None if both may have been trained on the rows.
    explanation : str
        Why, to follow the champion's name.
    """
    rows = to_pandas(rows)
    evaluation = champion.evaluation
    time = project.config.time
    if time is not None:
        first_time = rows[time].min()
        if first_time >= pd.Timestamp(champion.as_of):
            return champion, "was trained on none of these rows."
        if project.config.review.require_gain:
            return champion, "is compared on the rows that are newer than its training rows only."
        is_held_out = first_time >= pd.Timestamp(evaluation.first_time)
    else:
        is_held_out = evaluation.row_key_hash == hash_row_keys(project, rows)
    if not is_held_out:
        explanation = "was trained on some of these rows, so the two cannot be compared on them."
        return None, explanation
    if evaluation.uri == champion.uri:
        return evaluation, "was trained on none of these rows."
    explanation = (
        "is represented by its evaluation model, "
        "because its final model was trained on these rows too."
    )
    return evaluation, explanation


def hash_row_keys(project: Project, rows: pd.DataFrame) -> str:
    """Hash which rows these are, regardless of their order."""
    rows = to_pandas(rows)
    keys = list_key_columns(project)
    return hash_table(rows[keys].sort_values(keys, ignore_index=True))
