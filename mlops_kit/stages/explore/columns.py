"""Columns as groups: what role a column has, and how its values are grouped for comparison."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.lazy import pd
from mlops_kit.data.column_kinds import DisplayKind, infer_display_kind
from mlops_kit.data.columns import ROW_ID, list_source_features
from mlops_kit.project.config.root import ProjectConfig

MAX_GROUPS = 12  # most frequent values that are groups of their own; the rest are "other"
MAX_CATEGORY_VALUES = 20  # distinct values up to which a number is treated as a category
_QUANTILE_BINS = 5  # groups of a number with more distinct values than that
_MAX_GROUPING_COLUMNS = 4  # columns compared when none are named


def make_hashable(values: pd.Series) -> pd.Series:
    """Return the column with lists and the like as text, so that its values can be counted."""
    if infer_display_kind(values) is DisplayKind.OTHER:
        return values.map(str, na_action="ignore")
    return values


def get_column_role(column: str, config: ProjectConfig) -> str:
    """Return a column's role, such as target, id, group, known later, excluded or feature."""
    columns_by_role: dict[str, Any] = {
        "target": [config.target],
        "id": [*config.id, ROW_ID],
        "time": [config.time],
        "group": [config.validation.group],
        "weight": [config.weight],
        "known later": config.known_later,
        "excluded": config.excluded_columns,
    }
    for role, columns in columns_by_role.items():
        if column in columns:
            return role
    return "feature"


def assign_groups(values: pd.Series) -> pd.Series:
    """Assign each row of a column to a group.

    A number with many distinct values is cut into quantile bins; of anything else the most
    frequent values are groups of their own and the rest are "other". Missing values are a group.
    """
    values = make_hashable(values)
    kind = infer_display_kind(values)
    is_continuous = kind in {DisplayKind.NUMBER, DisplayKind.TIMESTAMP}
    if is_continuous and values.nunique() > MAX_CATEGORY_VALUES:
        return _assign_quantile_bins(values, kind)
    max_groups = MAX_CATEGORY_VALUES if kind is DisplayKind.NUMBER else MAX_GROUPS
    is_frequent = values.isin(list_most_common_values(values, max_groups))
    labels = values.astype("object").map(str, na_action="ignore")
    labels = labels.where(is_frequent | values.isna(), "other")
    return labels.where(values.notna(), "missing")


def _assign_quantile_bins(values: pd.Series, kind: DisplayKind) -> pd.Series:
    """Cut numbers or timestamps into quantile bins, labelled by their limits."""
    finite = values
    if kind is DisplayKind.NUMBER:
        numbers = values.astype("float64")
        # Infinities have no quantile; they are grouped with the missing values.
        finite = numbers.mask(numbers.isin([float("inf"), float("-inf")]))
    bins = pd.qcut(finite, _QUANTILE_BINS, duplicates="drop", precision=3)
    labels = {interval: f"{interval.left} to {interval.right}" for interval in bins.cat.categories}
    return bins.astype("object").map(labels).fillna("missing")


def list_most_common_values(values: pd.Series, count: int) -> list[Any]:
    """List the most frequent values; equally frequent ones are in alphabetical order."""
    counts = values.value_counts().sort_index(key=lambda index: index.map(str))
    return list(counts.sort_values(ascending=False, kind="stable").index[:count])


def select_grouping_columns(frame: pd.DataFrame, config: ProjectConfig) -> list[str]:
    """Select a few features by which groups can be compared: categories first, then numbers."""
    categories = []
    numbers = []
    for column in list_source_features(config, frame):
        distinct = make_hashable(frame[column]).nunique()
        if 2 <= distinct <= MAX_CATEGORY_VALUES:
            categories.append(column)
            continue
        is_number = infer_display_kind(frame[column]) is DisplayKind.NUMBER
        if is_number and distinct > MAX_CATEGORY_VALUES:
            numbers.append(column)
    return (categories + numbers)[:_MAX_GROUPING_COLUMNS]
