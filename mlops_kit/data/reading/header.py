"""Whether the first row of a table holds column names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

NUMBER_TEXT = re.compile(r"[+-]?[\d.,' \u00a0\u202f]*\d[\d.,]*(?:[eE][+-]?\d+)?\s*%?")
_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?|\d{1,2}:\d{2}(?::\d{2}.*)?")
_YEAR = re.compile(r"(?:19|20)\d{2}")
_MISSING_WORDS = {"", "na", "n/a", "nan", "null", "none", "-", ".", "?", "missing"}
_MIN_TYPED_SHARE = 0.8  # of a column's values that are numbers or dates
_MAX_COMPARED_ROWS = 200


def is_header(first: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row of a table holds column names.

    It does if it has text where the rows have numbers or dates. In a table of text only, it does
    unless its values occur again below.

    Examples
    --------
    >>> is_header(["city", "people"], [["Rome", "2800000"], ["Oslo", "700000"]])
    True
    >>> is_header(["Oslo", "700000"], [["Rome", "2800000"]])
    False
    """
    cells = [cell.strip() for cell in first]
    rows = [row for row in rows if list(row) != list(first)]  # a header may be repeated
    if not rows:
        return not any(map(_is_typed, cells))
    if _are_years(cells):
        return True
    supporting = 0
    contradicting = 0
    repeated = 0
    for position, cell in enumerate(cells):
        values = _list_values(rows, position)
        if cell.lower() in _MISSING_WORDS or not values:
            continue
        typed_share = sum(map(_is_typed, values)) / len(values)
        is_typed_column = typed_share >= _MIN_TYPED_SHARE
        if _is_typed(cell):
            contradicting += 1
        elif is_typed_column:
            supporting += 1
        elif cell in values:
            repeated += 1
    if supporting or contradicting:
        return supporting > contradicting
    return repeated < len(cells) / 2 and any(cells)


def _list_values(rows: Sequence[Sequence[str]], position: int) -> list[str]:
    """Return a column's values that are not missing."""
    values = []
    for row in rows[:_MAX_COMPARED_ROWS]:
        if position < len(row):
            value = row[position].strip()
            if value.lower() not in _MISSING_WORDS:
                values.append(value)
    return values


def _is_typed(cell: str) -> bool:
    """Return whether a cell is a number or a date."""
    return NUMBER_TEXT.fullmatch(cell) is not None or _DATE.fullmatch(cell) is not None


def _are_years(cells: Sequence[str]) -> bool:
    """Return whether cells are names followed by rising years, as in wide tables."""
    numbers = [cell for cell in cells if _is_typed(cell)]
    is_rising = all(left < right for left, right in pairwise(numbers))
    has_names = any(cell and not _is_typed(cell) for cell in cells)
    all_years = all(_YEAR.fullmatch(number) for number in numbers)
    return has_names and len(numbers) > 1 and all_years and is_rising
