"""Values that probably stand for a missing one, such as -999 or 1900-01-01.

They are reported and never changed: a value is suspected only if it lies far outside the others
and occurs repeatedly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np

_NUMBERS = frozenset(
    [
        -1,
        *(
            sign * int(digit * count)
            for sign in (1, -1)
            for digit in "98"
            for count in range(1, 10)
        ),
    ]
)
_DATES = frozenset(
    [
        "0001-01-01",
        "1753-01-01",
        "1899-12-30",
        "1899-12-31",
        "1900-01-01",
        "1901-01-01",
        "1970-01-01",
        "2099-12-31",
        "2999-12-31",
        "9999-12-31",
    ]
)
_MIN_ROWS = 3
_MAX_SENTINELS = 3
_MIN_GAP = 0.5  # distance from the nearest other value, as a share of the others' range
_MIN_GAP_DAYS = 365
_MAX_COMPARED_VALUES = 1000
_MIN_DISTINCT_BESIDE_MINUS_ONE = 5  # -1 beside a few other numbers is a code


def find_sentinel_numbers(values: np.ndarray, counts: np.ndarray | None = None) -> list[str]:
    """Find numbers that probably stand for a missing one.

    Parameters
    ----------
    values : ndarray of number
        The values of a column, without missing ones.
    counts : ndarray of int, optional
        How often each value occurs; None: once.

    Examples
    --------
    >>> import numpy as np
    >>> find_sentinel_numbers(np.array([3, 5, 4, -999, -999, 7, -999]))
    ['-999 in 3 rows']
    """
    return _find_sentinels(values, counts, _is_suspicious_number)


def find_sentinel_dates(values: np.ndarray, counts: np.ndarray | None = None) -> list[str]:
    """Find dates that probably stand for a missing one.

    Parameters
    ----------
    values : ndarray of datetime64
        The values of a column, without missing ones.
    counts : ndarray of int, optional
        How often each value occurs; None: once.
    """
    return _find_sentinels(values, counts, _is_suspicious_date)


def _find_sentinels(
    values: np.ndarray,
    counts: np.ndarray | None,
    is_suspicious: Callable[[Any, np.ndarray], bool],
) -> list[str]:
    """Find repeated extreme values that are suspicious beside the others."""
    sentinels: list[str] = []
    rest = values
    while len(rest) and len(sentinels) < _MAX_SENTINELS:
        found = None
        for extreme in (rest.min(), rest.max()):
            others = rest[rest != extreme]
            if len(others) and is_suspicious(extreme, others):
                found = extreme
                break
        if found is None:
            break
        rest = rest[rest != found]
        rows = _count_rows(values == found, counts)
        if rows >= _MIN_ROWS:
            sentinels.append(f"{_format_value(found)} in {format_number(rows)} rows")
    return sentinels


def _count_rows(mask: np.ndarray, counts: np.ndarray | None) -> int:
    """Count the rows whose value is selected by a mask."""
    if counts is None:
        return int(np.count_nonzero(mask))
    return int(counts[mask].sum())


def _format_value(value: Any) -> str:
    """Format a sentinel."""
    if isinstance(value, np.datetime64):
        return str(value.astype("datetime64[D]"))
    return str(int(value))


def _is_suspicious_number(extreme: Any, others: np.ndarray) -> bool:
    """Return whether a number is a usual sentinel and lies far outside the others."""
    value = float(extreme)
    if value not in _NUMBERS:
        return False
    low = float(others.min())
    high = float(others.max())
    if value == -1:
        return low >= 0 and _has_many_values(others)
    gap = low - value if value < low else value - high
    return gap > max(_MIN_GAP * (high - low), 1)


def _has_many_values(values: np.ndarray) -> bool:
    """Return whether numbers are more than a few codes."""
    return len(np.unique(values[:_MAX_COMPARED_VALUES])) >= _MIN_DISTINCT_BESIDE_MINUS_ONE


def _is_suspicious_date(extreme: Any, others: np.ndarray) -> bool:
    """Return whether a date is a usual sentinel and at least a year away from the others."""
    if str(extreme.astype("datetime64[D]")) not in _DATES:
        return False
    gap = min(abs(others.min() - extreme), abs(others.max() - extreme))
    return bool(gap > np.timedelta64(_MIN_GAP_DAYS, "D"))
