"""Columns."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import ROW_ID, infer_display_kind, list_feature_columns
from mlops_kit.project.config.root import ProjectConfig

MAX_GROUPS = 12  # values of a column that are told apart; the rest are "other"
MAX_CATEGORY_VALUES = 20  # distinct values up to which a number is taken as a category
_QUANTILE_BINS = 5  # quantile bins of a number with more values than that
_MAX_GROUPING_COLUMNS = 4  # columns compared when none are named


def make_hashable(values: pd.Series) -> pd.Series:
    """The column with lists and the like as text, so that its values can be counted."""
    return values.map(str, na_action="ignore") if infer_display_kind(values) == "other" else values


def get_column_role(column: str, config: ProjectConfig) -> str:
    """What the project does with a column: target, id, time, left out, known later, or feature."""
    named: dict[str, Any] = {
        "target": [config.target],
        "id": [*config.id, ROW_ID],
        "time": [config.time],
        "known later": config.known_later,
        "left out": config.excluded_columns,
    }
    return next((word for word, columns in named.items() if column in columns), "feature")


def assign_groups(values: pd.Series) -> pd.Series:
    """A column as groups: its commonest values, quantile bins of a number, "missing" as its own."""
    values = make_hashable(values)
    if (
        infer_display_kind(values) in {"number", "moment"}
        and values.nunique() > MAX_CATEGORY_VALUES
    ):
        numbers = values.astype("float64") if infer_display_kind(values) == "number" else values
        # -inf and inf have no quantile; they stand with the missing ones, not in a bin.
        finite = (
            numbers.mask(numbers.isin([float("inf"), float("-inf")]))
            if infer_display_kind(values) == "number"
            else numbers
        )
        cut = pd.qcut(finite, _QUANTILE_BINS, duplicates="drop", precision=3)
        spans = {i: f"{i.left} to {i.right}" for i in cut.cat.categories}
        return cut.astype("object").map(spans).fillna("missing")
    common = list_most_common_values(
        values, MAX_CATEGORY_VALUES if infer_display_kind(values) == "number" else MAX_GROUPS
    )
    words = values.astype("object").map(str, na_action="ignore")
    return words.where(values.isin(common) | values.isna(), "other").where(
        values.notna(), "missing"
    )


def list_most_common_values(values: pd.Series, count: int) -> list[Any]:
    """The values that occur most; of two alike the first by name."""
    return list(
        values.value_counts()
        .sort_index(key=lambda i: i.map(str))
        .sort_values(ascending=False, kind="stable")
        .index[:count]
    )


def select_grouping_columns(frame: pd.DataFrame, config: ProjectConfig) -> list[str]:
    """The features that part the rows into groups: categories first, then numbers; a few of them."""
    names = list_feature_columns(config, frame)
    counts = {c: make_hashable(frame[c]).nunique() for c in names}
    few = [c for c in names if 2 <= counts[c] <= MAX_CATEGORY_VALUES]
    return (
        few
        + [
            c
            for c in names
            if counts[c] > MAX_CATEGORY_VALUES and infer_display_kind(frame[c]) == "number"
        ]
    )[:_MAX_GROUPING_COLUMNS]
