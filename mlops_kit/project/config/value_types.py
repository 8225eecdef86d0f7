"""Types of settings that are written as text: durations, timestamps, sizes, lists of names."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PERCENTAGE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*%")
_DURATION_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_SECONDS_BY_UNIT = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SIZE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?")
_BYTES_BY_PREFIX = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}

# How these values are written in mlops.yaml, for the JSON Schema.
_DURATION_SCHEMA = {
    "title": "duration",
    "type": "string",
    "pattern": rf"^\s*{_DURATION_PATTERN.pattern}\s*$",
    "examples": ["30d", "12h", "45m"],
}
_TIMESTAMP_SCHEMA = {
    "title": "timestamp",
    "anyOf": [
        {
            "type": "string",
            "pattern": r"^(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
            r"([T ]([01]\d|2[0-3])(:[0-5]\d(:[0-5]\d([.,]\d+)?)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?)?$",
            "examples": ["2013-07-01", "2013-07-01T06:00"],
        },
        {"type": "null"},
    ],
}
_DAY_SCHEMA = {
    "title": "day",
    "type": "string",
    "pattern": r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$",
    "examples": ["2013-07-04"],
}
_NAME_LIST_SCHEMA = {
    "title": "list of names",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
_SIZE_SCHEMA = {
    "title": "size",
    "anyOf": [
        {
            "type": "string",
            "pattern": rf"^\s*{_SIZE_PATTERN.pattern}\s*$",
            "examples": ["4GB", "512MB"],
        },
        {"type": "number", "minimum": 0},
    ],
}


def parse_percentage(text: str) -> float:
    """Parse a percentage as a share.

    >>> parse_percentage("10%")
    0.1
    """
    match = _PERCENTAGE_PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a percentage such as 10%, or a number")
    return float(match[1]) / 100


def _check_drop(value: Any) -> Any:
    """Check a percentage or a number that is not negative."""
    if isinstance(value, str):
        text = value.strip()
        parse_percentage(text)
        return text
    number = float(value)
    if not number >= 0:
        raise ValueError(f"{value!r} is negative; expected a percentage such as 10%, or a number")
    return number


def parse_duration(value: Any) -> timedelta:
    """Parse a duration such as ``30d`` or ``1.5h``.

    >>> parse_duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION_PATTERN.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("expected a number and a unit, such as 30d, 12h or 45m (s, m, h, d, w)")
    number, unit = match.groups()
    return timedelta(**{_DURATION_UNITS[unit]: float(number)})


def is_duration(value: Any) -> bool:
    """Return whether a value is a duration.

    >>> is_duration("1d"), is_duration("departed")
    (True, False)
    """
    try:
        parse_duration(value)
    except ValueError:
        return False
    return True


def format_duration(value: timedelta) -> str:
    """Format a duration so that ``parse_duration`` reads it, in the largest whole unit.

    >>> format_duration(timedelta(hours=36)), format_duration(timedelta(days=2))
    ('36h', '2d')
    """
    seconds = value.total_seconds()
    for unit, unit_seconds in _SECONDS_BY_UNIT.items():
        if seconds % unit_seconds == 0:
            return f"{seconds / unit_seconds:g}{unit}"
    return f"{seconds:g}s"


def parse_timestamp(value: Any) -> datetime | None:
    """Parse a date or a timestamp; without a zone it is in the project's time zone.

    Empty text and None mean that there is none.
    """
    if value in (None, ""):
        return None
    try:
        return datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError("expected a date such as 2013-07-01, or 2013-07-01T06:00") from error


def _check_day(value: Any) -> str:
    """Check a day of the calendar."""
    text = str(value)
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a day of the calendar such as 2013-07-04") from error
    return day.isoformat()


def parse_size(value: Any) -> int:
    """Parse a size such as ``512MB`` into bytes.

    >>> parse_size("1.5GB")
    1500000000
    """
    match = _SIZE_PATTERN.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("expected a number and a unit, such as 4GB or 512MB")
    number, prefix = match.groups()
    return int(float(number) * _BYTES_BY_PREFIX[prefix])


def _to_list(value: Any) -> Any:
    """Turn one name into a list with this name."""
    return [value] if isinstance(value, str) else value


Day = Annotated[str, BeforeValidator(_check_day), WithJsonSchema(_DAY_SCHEMA)]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]
OptionalTimestamp = Annotated[
    datetime | None, BeforeValidator(parse_timestamp), WithJsonSchema(_TIMESTAMP_SCHEMA)
]
NameList = Annotated[list[str], BeforeValidator(_to_list), WithJsonSchema(_NAME_LIST_SCHEMA)]
ByteSize = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
Share = Annotated[float, Field(ge=0, le=1)]
Drop = Annotated[
    float | str,
    BeforeValidator(_check_drop),
    WithJsonSchema(
        {
            "title": "share or number",
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": rf"^{_PERCENTAGE_PATTERN.pattern}$"},
            ],
        }
    ),
]
