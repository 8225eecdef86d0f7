"""The result of trying to read a column as one type."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np
from mlops_kit.data.columns import ColumnKind


@dataclass(frozen=True)
class ParsedColumn:
    """A column read as one type.

    Parameters
    ----------
    kind : ColumnKind
        The type.
    values : ndarray
        One value per text of the column; arbitrary where ``is_read`` is False.
    is_read : ndarray of bool
        Which texts have this type.
    format : str
        How values are written; empty: plainly.
    conversions, notes : list of str
        Sentences for the report.
    is_utc : bool
        Whether timestamps stated their offset, so that ``values`` are in UTC.
    """

    kind: ColumnKind
    values: np.ndarray
    is_read: np.ndarray
    format: str = ""
    conversions: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_utc: bool = False


@dataclass(frozen=True)
class ParseAttempt:
    """A column read as one type, or the reasons why it is not of that type."""

    parsed: ParsedColumn | None = None
    notes: list[str] = field(default_factory=list)


def count_values(count: int, singular: str, plural: str) -> str:
    """Format a number of values with the verb that follows it.

    >>> count_values(1, "has a sign", "have a sign")
    '1 value has a sign'
    """
    if count == 1:
        return f"1 value {singular}"
    return f"{format_number(count)} values {plural}"
