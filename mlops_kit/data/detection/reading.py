"""Guesses from the reader's report: how dates were read, and what it could not decide."""

from __future__ import annotations

from collections.abc import Iterator

from mlops_kit.core.formatting import format_percent
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.detection.records import Guess, GuessTopic
from mlops_kit.data.reading.date_problems import (
    AmbiguousDates,
    DateProblem,
    describe_date_problem,
)
from mlops_kit.data.reading.records import ColumnReading, TableRead

DATES_SETTING = "source.dates"


def detect_reading(read: TableRead) -> Iterator[Guess]:
    """Yield what the reader decided about columns, as far as a person should know it."""
    report = read.report
    if report.rejected_count:
        share = format_percent(report.rejected_count / max(1, report.rows_in_file))
        yield Guess(
            topic=GuessTopic.REJECTED_ROWS,
            reason=f"{report.rejected_count:,} of {report.rows_in_file:,} rows ({share}) cannot be "
            "read and are quarantined: mlops data show lists them.",
        )
    for column in sorted(read.nested_columns):
        yield Guess(
            topic=GuessTopic.NESTED,
            setting="excluded_columns",
            value=[column],
            reason=f"{column} has lists or objects, which no model can use as they are.",
            columns=[column],
        )
    for problem in read.date_problems.values():
        yield _describe_dates(problem)
    for reading in report.columns:
        yield from _describe_reading(reading)


def _describe_dates(problem: DateProblem) -> Guess:
    """Return the guess of a column of dates that has two readings or two formats.

    Of two readings the first is set, so that the project can run; it is never certain.
    """
    reason = f"{problem.column} holds dates as text: {describe_date_problem(problem)}."
    if not isinstance(problem, AmbiguousDates):
        return Guess(
            topic=GuessTopic.DATE_AS_TEXT,
            reason=f"{reason} It stays text.",
            is_certain=False,
            columns=[problem.column],
        )
    first, *others = problem.readings
    return Guess(
        topic=GuessTopic.DATE_AS_TEXT,
        setting=DATES_SETTING,
        value={problem.column: first.format},
        reason=reason,
        is_certain=False,
        alternatives=[reading.format for reading in others],
        columns=[problem.column],
    )


def _describe_reading(reading: ColumnReading) -> Iterator[Guess]:
    """Yield how the dates of a column were read, and the reader's notes about it."""
    if reading.type == ColumnKind.TIMESTAMP and reading.format:
        yield Guess(
            topic=GuessTopic.DATE_AS_TEXT,
            reason=f"{reading.column} holds dates as text, such as {reading.examples[0]}; they are "
            f"read as timestamps with the format {reading.format}.",
            columns=[reading.column],
        )
    for note in reading.notes:
        yield Guess(
            topic=GuessTopic.READING,
            reason=f"{reading.column}: {note}.",
            is_certain=False,
            columns=[reading.column],
        )
