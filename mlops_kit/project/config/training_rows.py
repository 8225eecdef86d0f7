"""Which rows a model is fitted on, as ``train.rows`` states it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from mlops_kit.project.config.value_types import format_duration, parse_duration, parse_timestamp

_PATTERN = re.compile(r"(recent|weighted|since)\((.+)\)")
_EXPECTED = (
    "expected auto, all, recent(90d) (rows of the newest 90 days), weighted(60d) (a row that is 60 "
    "days older counts half) or since(2013-09-01)"
)


class RowSelection(StrEnum):
    """How training rows are selected or weighted."""

    AUTO = "auto"
    ALL = "all"
    RECENT = "recent"
    WEIGHTED = "weighted"
    SINCE = "since"


@dataclass(frozen=True)
class TrainingRows:
    """A selection of training rows.

    Attributes
    ----------
    selection : RowSelection
        The kind of selection.
    duration : timedelta or None
        The length of the window of ``recent``, the half-life of ``weighted``.
    start : datetime or None
        The time of the oldest row of ``since``; without a zone it is in the project's time zone.
    """

    selection: RowSelection
    duration: timedelta | None = None
    start: datetime | None = None

    def __str__(self) -> str:
        if self.duration is not None:
            return f"{self.selection}({format_duration(self.duration)})"
        if self.start is not None:
            return f"{self.selection}({self.start.isoformat()})"
        return str(self.selection)


ALL_ROWS = TrainingRows(RowSelection.ALL)


def parse_training_rows(value: Any) -> TrainingRows:
    """Parse a selection of training rows.

    >>> str(parse_training_rows("recent(2w)"))
    'recent(14d)'
    >>> parse_training_rows("since(2013-09-01)").start
    datetime.datetime(2013, 9, 1, 0, 0)
    """
    if isinstance(value, TrainingRows):
        return value
    text = str(value).strip()
    if text in {RowSelection.AUTO, RowSelection.ALL}:
        return TrainingRows(RowSelection(text))
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(_EXPECTED)
    selection, argument = RowSelection(match.group(1)), match.group(2)
    if selection == RowSelection.SINCE:
        return TrainingRows(selection, start=parse_timestamp(argument))
    duration = parse_duration(argument)
    if not duration:
        raise ValueError(_EXPECTED)
    return TrainingRows(selection, duration)


TrainingRowsSetting = Annotated[
    TrainingRows,
    BeforeValidator(parse_training_rows),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "title": "training rows",
            "type": "string",
            "pattern": r"^\s*(auto|all|(recent|weighted|since)\(.+\))\s*$",
            "examples": ["auto", "all", "recent(90d)", "weighted(60d)", "since(2013-09-01)"],
        }
    ),
]
