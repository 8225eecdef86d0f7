"""What a column holds: as a reader is told, and as a statistical test takes it.

The kinds of a data contract are in ``mlops_kit.data.columns``; they say how a value is stored.
"""

from __future__ import annotations

from enum import StrEnum

from mlops_kit.core.lazy import np, pd

_MAX_CODE_VALUES = 10  # whole numbers with at most so many distinct values are compared as codes
_FIRST_LOOK_ROWS = 1_000


class DisplayKind(StrEnum):
    """What a column holds, for a reader."""

    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    OTHER = "other"
    EMPTY = "empty"


class StatisticalKind(StrEnum):
    """What a column holds, for the choice of a statistical test."""

    NUMBER = "number"
    CODE = "code"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    DATE = "date"
    EMPTY = "empty"


def infer_display_kind(values: pd.Series) -> DisplayKind:
    """Infer what a column holds from its type, and from its values where it is of objects."""
    types = pd.api.types
    if values.notna().sum() == 0:
        return DisplayKind.EMPTY
    if types.is_bool_dtype(values):
        return DisplayKind.BOOLEAN
    if types.is_numeric_dtype(values):
        return DisplayKind.NUMBER
    if types.is_datetime64_any_dtype(values):
        return DisplayKind.TIMESTAMP
    if types.infer_dtype(values, skipna=True) in {"string", "categorical"}:
        return DisplayKind.TEXT
    return DisplayKind.OTHER


def infer_statistical_kind(values: pd.Series) -> StatisticalKind:
    """Infer the kind by which a column is tested.

    >>> import pandas as pd
    >>> columns = ([1.5, 2.5], [1, 2, 2], [True, None], ["a", "b"], [None, None])
    >>> [str(infer_statistical_kind(pd.Series(column))) for column in columns]
    ['number', 'code', 'boolean', 'category', 'empty']
    """
    known = values.dropna()
    types = pd.api.types
    if known.empty:
        return StatisticalKind.EMPTY
    if types.is_datetime64_any_dtype(known) or types.is_timedelta64_dtype(known):
        return StatisticalKind.DATE
    if _is_boolean(known):
        return StatisticalKind.BOOLEAN
    if isinstance(known.dtype, pd.CategoricalDtype) or not types.is_numeric_dtype(known):
        return StatisticalKind.CATEGORY
    if _holds_codes(known):
        return StatisticalKind.CODE
    return StatisticalKind.NUMBER


def _is_boolean(known: pd.Series) -> bool:
    """Whether known values are booleans, also where missing values made the column objects."""
    if pd.api.types.is_bool_dtype(known):
        return True
    if known.dtype != object:
        return False
    return pd.api.types.infer_dtype(known, skipna=True) == "boolean"


def _holds_codes(known: pd.Series) -> bool:
    """Whether numbers are a few whole numbers, which stand for categories."""
    for part in (known.head(_FIRST_LOOK_ROWS), known):  # most numbers show in their first rows
        numbers = part.to_numpy(dtype=float)
        is_whole = np.isfinite(numbers).all() and np.array_equal(np.rint(numbers), numbers)
        if not is_whole or part.nunique() > _MAX_CODE_VALUES:
            return False
    return True
