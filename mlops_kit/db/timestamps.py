"""Timestamps."""

from __future__ import annotations

from datetime import UTC, datetime


def current_timestamp() -> str:
    """This moment, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def format_timestamp(moment: datetime) -> str:
    """A zoned moment as text of one width, UTC, to the microsecond: it sorts as the moments do.

    >>> stamp(datetime(2013, 7, 1, tzinfo=UTC))
    '2013-07-01T00:00:00.000000+00:00'
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
