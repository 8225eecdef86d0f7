"""The two sides of a drift comparison: their rows, and how these were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import is_finite_score, predict_codes, to_score_array
from mlops_kit.data.columns import PART_COLUMN, ROW_ID, get_row_days, list_feature_columns
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.drift_tests import SideWeights, make_side_weights

SCORE_COLUMN = "score"
# Columns of scored rows that are neither features nor the score.
_SCORING_COLUMNS = {"prediction_id", "decision", "model_version", "day"}


class SideDays(NamedTuple):
    """The days of the reference's and of the current rows."""

    reference: np.ndarray
    current: np.ndarray


class DriftDesign(NamedTuple):
    """How the rows of both sides were sampled, and how much is tested on them.

    Attributes
    ----------
    days : SideDays or None
        The day of each row; None: rows count as independent of one another.
    weights : SideWeights or None
        The weight of each row; None: all rows count the same.
    other_tests : int
        Number of tests beside those of the columns, such as 1 for that of joint drift; p-values are
        adjusted for them too.
    """

    days: SideDays | None = None
    weights: SideWeights | None = None
    other_tests: int = 0

    def select(self, in_reference: np.ndarray, in_current: np.ndarray) -> DriftDesign:
        """Return the design of some of the rows, given by a mask of each side."""
        days = self.days
        if days is not None:
            days = SideDays(days.reference[in_reference], days.current[in_current])
        weights = self.weights
        if weights is not None:
            weights = SideWeights(weights.reference[in_reference], weights.current[in_current])
        return self._replace(days=days, weights=weights)


@dataclass(frozen=True)
class DriftSides:
    """The rows that are compared, and how they were sampled."""

    reference: pd.DataFrame
    current: pd.DataFrame
    days: SideDays | None
    weights: SideWeights | None
    other_tests: int = 0


def make_drift_sides(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    design: DriftDesign | SideWeights | None,
) -> DriftSides:
    """Make the two sides without the rows whose weight is zero."""
    if isinstance(design, SideWeights):
        design = DriftDesign(weights=design)
    design = design or DriftDesign()
    reference = to_pandas(reference)
    current = to_pandas(current)
    if design.weights is not None:
        counts_reference = design.weights.reference > 0
        counts_current = design.weights.current > 0
        reference = reference[counts_reference]
        current = current[counts_current]
        design = design.select(counts_reference, counts_current)
    # Rows are addressed by position, because an index may have the same label twice.
    return DriftSides(
        reference.reset_index(drop=True),
        current.reset_index(drop=True),
        design.days,
        design.weights,
        design.other_tests,
    )


def select_reference_and_current(
    config: ProjectConfig,
    table: pd.DataFrame,
    held_out: pd.DataFrame,
    scored: pd.DataFrame,
    classes: Sequence[Any] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Select the two sides to compare: the held-out rows, and the rows scored since.

    Instead of class probabilities, the predicted classes are compared.

    Parameters
    ----------
    table : DataFrame
        The feature table with ``part``; its part ``test`` is the reference.
    held_out, scored : DataFrame
        The evaluation model's scores of the test rows, and the scores of the period.
    classes : sequence
        The names of the classes of a multiclass task, in the order of their codes.

    Returns
    -------
    reference, current : DataFrame
        The features and ``score``, nothing else.
    """
    table = to_pandas(table)
    held_out = to_pandas(held_out)
    scored = to_pandas(scored)
    feature_columns = [
        column for column in list_feature_columns(config, table) if column != SCORE_COLUMN
    ]
    keys = config.id or [ROW_ID]
    test_columns = list(dict.fromkeys([*keys, *feature_columns]))
    test_rows = table.loc[table[PART_COLUMN] == "test", test_columns]
    reference = test_rows.merge(
        held_out[[*keys, SCORE_COLUMN]],
        on=keys,
        how="left",
    )
    roles = {config.time, config.validation.group, config.weight, config.target}
    other_columns = {*keys, *roles, *_SCORING_COLUMNS} - set(feature_columns)
    current_columns = [column for column in scored.columns if column not in other_columns]
    reference = replace_class_probabilities(reference[[*feature_columns, SCORE_COLUMN]], classes)
    return reference, replace_class_probabilities(scored[current_columns], classes)


def replace_class_probabilities(rows: pd.DataFrame, classes: Sequence[Any]) -> pd.DataFrame:
    """Replace the class probabilities in ``score`` by the name of the predicted class.

    Other scores stay as they are.
    """
    scores = to_score_array(rows[SCORE_COLUMN])
    if scores.ndim == 1:
        return rows
    names = np.array([*map(str, classes or range(scores.shape[1])), None], dtype=object)
    codes = np.full(len(rows), len(names) - 1)  # no score: the last name, which is None
    is_scored = is_finite_score(scores)
    codes[is_scored] = predict_codes(scores[is_scored])
    return rows.assign(**{SCORE_COLUMN: names[codes]})


def get_drift_weights(
    config: ProjectConfig,
    table: pd.DataFrame,
    scored: pd.DataFrame,
) -> SideWeights | None:
    """Return the weights of the rows of ``select_reference_and_current``, in their order.

    None if the project has no weights, or they are not known for one of the sides.
    """
    table = to_pandas(table)
    scored = to_pandas(scored)
    return make_side_weights(
        get_row_weights(table[table[PART_COLUMN] == "test"], config),
        get_row_weights(scored, config),
    )


def get_drift_design(
    config: ProjectConfig,
    table: pd.DataFrame,
    scored: pd.DataFrame,
) -> DriftDesign:
    """Return days and weights of the rows of ``select_reference_and_current``, in their order.

    The correction for many tests includes that of joint drift.
    """
    table = to_pandas(table)
    test_rows = table[table[PART_COLUMN] == "test"]
    scored = to_pandas(scored)
    return DriftDesign(
        days=make_side_days(test_rows, scored, config),
        weights=get_drift_weights(config, table, scored),
        other_tests=1,
    )


def make_side_days(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    config: ProjectConfig,
) -> SideDays | None:
    """Return the days of both sides; None if they are not known for one of them."""
    sides = []
    for rows in (reference, current):
        days = get_row_days(rows, config) if config.time in rows else None
        if days is None:
            return None
        sides.append(days)
    return SideDays(*sides)
