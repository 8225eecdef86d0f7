"""A table as text: what each kind of file is read into before column types are decided."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlops_kit.data.reading.names import ColumnName
from mlops_kit.data.reading.records import RejectedLine, UnreadableValue


@dataclass(frozen=True)
class RawTable:
    """The cells of one file as text.

    Parameters
    ----------
    file : str
        The file, as the report names it.
    names : list of ColumnName
        The columns.
    columns : list of pyarrow.ChunkedArray
        Their texts, of the kept records only; null where a cell is absent.
    record_count : int
        Number of records, rejected ones included.
    rejected_positions : list of int
        Positions of the rejected records, in rising order.
    rejected : list of RejectedLine
        The first of them.
    find_line : callable
        Returns the line, or the row of the sheet, of the record at a position.
    unreadable : list of UnreadableValue
        Cells that are no values, such as errors of a spreadsheet; ``row`` counts kept records.
    nested_columns : frozenset of str
        Columns that hold lists or objects, here as JSON.
    has_plain_numbers : bool
        Whether numbers are written as in programs, so that separators need not be detected.
    conversions : dict of str to list of str
        Sentences about what was changed, by column.
    """

    file: str
    names: list[ColumnName]
    columns: list[Any]
    record_count: int
    rejected_positions: list[int]
    rejected: list[RejectedLine]
    find_line: Callable[[int], int]
    encoding: str = ""
    separator: str = ""
    header_line: int = 0
    skipped_lines: int = 0
    notes: list[str] = field(default_factory=list)
    unreadable: list[UnreadableValue] = field(default_factory=list)
    nested_columns: frozenset[str] = frozenset()
    has_plain_numbers: bool = False
    conversions: dict[str, list[str]] = field(default_factory=dict)

    @property
    def row_count(self) -> int:
        """The number of kept records."""
        return self.record_count - len(self.rejected_positions)

    def find_record(self, row: int) -> int:
        """Return the position among all records of a kept record."""
        return find_record(row, self.rejected_positions)


def find_record(row: int, rejected_positions: Sequence[int]) -> int:
    """Return the position among all records of a kept one.

    >>> [find_record(row, [1, 2]) for row in range(3)]
    [0, 3, 4]
    """

    def count_kept_before(index: int) -> int:
        return rejected_positions[index] - index

    indices = range(len(rejected_positions))
    return row + bisect_right(indices, row, key=count_kept_before)
