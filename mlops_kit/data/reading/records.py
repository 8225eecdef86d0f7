"""What a reader decided about a file: its dialect, its column types, and what was rejected."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel

from mlops_kit.data.columns import ColumnKind

if TYPE_CHECKING:
    import pandas as pd

    from mlops_kit.data.reading.date_problems import DateProblem

REPORT_SCHEMA_VERSION = 1
MAX_STORED_LINES = 1000  # of the rejected lines; all of them are counted


class ColumnReading(BaseModel, frozen=True):
    """What was decided about a column.

    Attributes
    ----------
    column : str
        The name used from here on.
    name_in_file : str
        The name as the file has it.
    type : ColumnKind
        The type of its values.
    format : str
        How values are written, such as ``%d/%m/%Y`` or "decimal comma"; empty: plainly.
    missing_words : dict of str to int
        Words read as missing, with their counts; ``""`` is an empty field.
    missing_share : float
        Share of missing values.
    sentinels : list of str
        Values that probably stand for a missing one, such as "-999 in 31 rows".
    examples : list of str
        Up to three values as written in the file.
    conversions : list of str
        Sentences about what was changed.
    notes : list of str
        Sentences about what is uncertain, and what was left as text.
    """

    column: str
    name_in_file: str
    type: ColumnKind
    format: str = ""
    missing_words: dict[str, int] = {}
    missing_share: float = 0.0
    sentinels: list[str] = []
    examples: list[str] = []
    conversions: list[str] = []
    notes: list[str] = []


class UnreadableValue(BaseModel, frozen=True):
    """A value that is not of its column's type.

    Attributes
    ----------
    row : int
        Position of its record in the file, from 0, rejected records included.
    column : str
        Name of the column.
    value : str
        The value as written.
    reason : str
        Why it cannot be read.
    """

    row: int
    column: str
    value: str
    reason: str


class RejectedLine(BaseModel, frozen=True):
    """A line of a file that is not a row of the table.

    Attributes
    ----------
    file : str
        The file.
    line : int
        Number of the line in the file, from 1; 0 if it is not known.
    text : str
        The line, cut off if it is long.
    reason : str
        Why it was rejected.
    row : int, optional
        Position among the rows of the table, from 0, if only some of its values are unreadable.
    """

    file: str
    line: int
    text: str
    reason: str
    row: int | None = None


class ReadReport(BaseModel, frozen=True):
    """What was read from one or more files.

    Attributes
    ----------
    files : list of str
        The files.
    encoding, separator, decimal, thousands : str
        How the text is written; empty if it does not apply.
    header_line : int
        Number of the line with the column names, from 1; 0 if there is none.
    skipped_lines : int
        Lines before the table: titles and comments.
    rows_in_file, rows_kept : int
        Records of the table, and those without a rejection.
    columns : list of ColumnReading
        What was decided about each column.
    rejected : list of RejectedLine
        The first rejected records.
    rejected_count : int
        Number of all rejected records.
    known_by : datetime, optional
        The time as of which the table was read; None: all of it.
    rows_known : int, optional
        Rows that were known by then. Columns are described over all rows.
    notes : list of str
        Sentences about the file as a whole.
    """

    schema_version: int = REPORT_SCHEMA_VERSION
    files: list[str] = []
    encoding: str = ""
    separator: str = ""
    decimal: str = ""
    thousands: str = ""
    header_line: int = 0
    skipped_lines: int = 0
    rows_in_file: int = 0
    rows_kept: int = 0
    columns: list[ColumnReading] = []
    rejected: list[RejectedLine] = []
    rejected_count: int = 0
    known_by: datetime | None = None
    rows_known: int | None = None
    notes: list[str] = []


@dataclass(frozen=True)
class TableRead:
    """A table with the report on how it was read.

    ``nested_columns`` hold lists or objects, as JSON text. ``date_problems`` says, by column, why
    dates stay text. ``unreadable_rows`` are those of which only some values could not be read, by
    their position among all rows.
    """

    frame: pd.DataFrame
    report: ReadReport
    nested_columns: frozenset[str] = frozenset()
    date_problems: dict[str, DateProblem] = field(default_factory=dict)
    unreadable_rows: pd.DataFrame | None = None
