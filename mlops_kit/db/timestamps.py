"""Timestamps as the database stores them: UTC text of fixed width, which sorts in time order."""

from __future__ import annotations

from datetime import UTC, datetime


def current_timestamp() -> str:
    """Return the current time as UTC text, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def format_timestamp(timestamp: datetime) -> str:
    """Format a timezone-aware timestamp as UTC text, to the microsecond.

    All results have the same width, so comparing them as text compares them in time.

    >>> format_timestamp(datetime(2013, 7, 1, tzinfo=UTC))
    '2013-07-01T00:00:00.000000+00:00'
    """
    return timestamp.astimezone(UTC).isoformat(timespec="microseconds")
