"""Columns of dates that cannot be read without a setting: two readings, or two formats."""

from __future__ import annotations

from pydantic import BaseModel

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_number

_DIRECTIVE_NAMES = (
    ("%d", "day"),
    ("%m", "month"),
    ("%b", "month"),
    ("%B", "month"),
    ("%Y", "year"),
    ("%y", "year"),
)


class DateReading(BaseModel, frozen=True):
    """One way to read the dates of a column.

    Attributes
    ----------
    format : str
        The format in the notation of ``strptime``.
    rows : int
        Rows that can be read in this way.
    text : str
        An example from the data.
    timestamp : str
        What the example means in this format.
    """

    format: str
    rows: int
    text: str
    timestamp: str


class AmbiguousDates(BaseModel, frozen=True):
    """A column whose dates can all be read in two ways, such as day first and month first."""

    column: str
    readings: list[DateReading]


class MixedDates(BaseModel, frozen=True):
    """A column with dates of several formats, or with and without an offset."""

    column: str
    readings: list[DateReading]


DateProblem = AmbiguousDates | MixedDates


def describe_order(date_format: str) -> str:
    """Describe the order of day, month and year.

    >>> describe_order("%d/%m/%Y %H:%M")
    'day, month, year'
    """
    fields = [
        (date_format.index(directive), name)
        for directive, name in _DIRECTIVE_NAMES
        if directive in date_format
    ]
    return ", ".join(name for _, name in sorted(fields))


def describe_date_problem(problem: DateProblem) -> str:
    """Describe why a column of dates cannot be read."""
    if isinstance(problem, AmbiguousDates):
        readings = " or ".join(
            f"{reading.timestamp} ({describe_order(reading.format)})"
            for reading in problem.readings
        )
        return f"its dates have two readings: {problem.readings[0].text!r} is {readings}"
    formats = ", ".join(
        f"{reading.text!r} in {format_number(reading.rows)} rows" for reading in problem.readings
    )
    return f"its dates have several formats: {formats}"


def build_date_error(problem: DateProblem) -> KitError:
    """Build the error for a column of dates that a project needs."""
    message = f"the column {problem.column!r} cannot be read: {describe_date_problem(problem)}"
    if isinstance(problem, AmbiguousDates):
        formats = " or ".join(f"{reading.format!r}" for reading in problem.readings)
        setting = f"dates: {{{problem.column}: '{problem.readings[0].format}'}}"
        return KitError(
            message,
            f"the format of the column: {formats}",
            f"set it in mlops.yaml, such as source: {{file: …, {setting}}}",
        )
    return KitError(
        message,
        "one format in all rows, either with or without an offset from UTC",
        "write all rows in one format, such as 2024-02-27T14:30:00+01:00",
    )
