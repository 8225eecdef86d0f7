"""Value types."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
)

_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(value: Any) -> timedelta:
    """Read ``30d``, ``1h``, ``0d`` … into a timedelta.

    >>> duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", str(value).strip())
    if not match:
        raise ValueError("expected a number and a unit, such as 30d, 12h or 45m (s, m, h, d, w)")
    return timedelta(**{_DURATION_UNITS[match[2]]: float(match[1])})


def format_duration(value: timedelta) -> str:
    """Write a timedelta the way ``duration`` reads it, in its largest whole unit."""
    seconds = value.total_seconds()
    unit, size = next(
        (u, s)
        for u, s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
        if s == 1 or seconds % s == 0
    )
    return f"{seconds / size:g}{unit}"


def parse_timestamp(value: Any) -> datetime | None:
    """Read a date or a date with a time; the zone is the project's if none is given."""
    try:
        return None if value in (None, "") else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError("expected a date such as 2013-07-01, or 2013-07-01T06:00") from error


def parse_size(value: Any) -> int:
    """Read ``4GB``, ``512MB`` … into bytes.

    >>> size("1.5GB")
    1500000000
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?", str(value).strip())
    if not match:
        raise ValueError("expected a number and a unit, such as 4GB or 512MB")
    return int(float(match[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[match[2]])


Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(format_duration, return_type=str)
]
OptionalTimestamp = Annotated[datetime | None, BeforeValidator(parse_timestamp)]
NameList = Annotated[
    list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]  # one name stands for a list of one
ByteSize = Annotated[int, BeforeValidator(parse_size)]
Share = Annotated[float, Field(ge=0, le=1)]
