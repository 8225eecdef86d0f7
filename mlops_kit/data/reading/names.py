"""Column names: how a name in a file becomes the name of a column.

Spaces around a name are removed, and line breaks and control characters inside it become one
space. A name of more than 100 characters is cut off. An empty name becomes ``column_3`` by its
position, and a repeated one gets a number: ``name``, ``name_2``. Any other name is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_NAME_CHARACTERS = 100
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]*[\x00-\x1f\x7f-\x9f\u2028\u2029]\s*")


@dataclass(frozen=True)
class ColumnName:
    """The name of a column.

    Attributes
    ----------
    column : str
        The name used from here on.
    name_in_file : str
        The name as the file has it.
    note : str
        Why they differ; empty if they do not.
    """

    column: str
    name_in_file: str
    note: str = ""


def choose_names(names_in_file: Sequence[str]) -> list[ColumnName]:
    """Choose the names of columns.

    Examples
    --------
    >>> [name.column for name in choose_names([" a", "", "b", "b"])]
    ['a', 'column_2', 'b', 'b_2']
    """
    cleaned = [_clean_name(name) for name in names_in_file]
    taken: set[str] = set()
    chosen = []
    for position, (name_in_file, (name, note)) in enumerate(
        zip(names_in_file, cleaned, strict=True), start=1
    ):
        column = name
        if not column:
            column = f"column_{position}"
            note = "The column has no name in the file."
        base = column
        others = {other for other, _ in cleaned[position:]}
        number = 2
        while column in taken or (column != name and column in others):
            column = f"{base}_{number}"
            number += 1
        if column != base:
            note = f"The name {base!r} occurs more than once."
        taken.add(column)
        chosen.append(ColumnName(column, name_in_file, note))
    return chosen


def _clean_name(name: str) -> tuple[str, str]:
    """Return a name without what cannot be seen, and why it was changed."""
    cleaned = _BREAKS.sub(" ", name.strip().strip(_INVISIBLE)).strip()
    note = ""
    if cleaned != name:
        note = "Spaces, line breaks or invisible characters were removed from the name."
    if len(cleaned) > MAX_NAME_CHARACTERS:
        cleaned = cleaned[: MAX_NAME_CHARACTERS - 1].rstrip() + "…"
        note = f"The name has {len(name)} characters and was cut off."
    return cleaned, note
