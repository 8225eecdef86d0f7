"""How the pages write moments, stretches of time, lengths and amounts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from mlops_kit.core.formatting import format_money, format_number
from mlops_kit.core.results import Interval

FEW = 10  # of an amount that cents matter in
SHORT = 45  # days up to which a line of time has days below it, and not months


def local(when: datetime | str, zone: ZoneInfo) -> datetime:
    """A moment, be it as it is stored, in a zone."""
    return (datetime.fromisoformat(when) if isinstance(when, str) else when).astimezone(zone)


def day(when: datetime | str, zone: ZoneInfo) -> str:
    """A moment's day, short."""
    return f"{local(when, zone):%-d %b}"


def full(when: datetime | str, zone: ZoneInfo, year: bool = True) -> str:
    """A moment as a person writes it, without a clock at midnight."""
    at = local(when, zone)
    clock = "" if (at.hour, at.minute) == (0, 0) else f", {at:%H:%M}"
    return f"{at:%-d %B %Y}{clock}" if year else f"{at:%-d %b}{clock}"


def moment(when: datetime | str, zone: ZoneInfo) -> str:
    """A moment of our own time, with its clock."""
    return f"{local(when, zone):%-d %B %Y, %H:%M}"


def span(start: datetime | str, end: datetime | str, zone: ZoneInfo) -> str:
    """A stretch of time: whole days by their names, else with the clock.

    >>> span(datetime.fromisoformat("2013-09-16T04:00+00:00"), datetime.fromisoformat("2013-09-23T04:00+00:00"), ZoneInfo("America/New_York"))
    '16 – 22 Sep'
    """
    a, b = local(start, zone), local(end, zone)
    if (a.hour, a.minute, b.hour, b.minute) != (0, 0, 0, 0):
        return (
            f"{a:%-d %b, %H:%M} – {b:%H:%M}"
            if a.date() == b.date()
            else f"{a:%-d %b, %H:%M} – {b:%-d %b, %H:%M}"
        )
    last = b - timedelta(days=1)
    if last.date() <= a.date():
        return f"{a:%-d %b}"
    return (
        f"{a:%-d} – {last:%-d %b}"
        if (a.year, a.month) == (last.year, last.month)
        else f"{a:%-d %b} – {last:%-d %b}"
    )


def amount(value: float, unit: str) -> str:
    """Money; cents only where it is little.

    >>> amount(41230.4, "$"), amount(4.137, "$"), amount(-75.2, "EUR")
    ('$41,230', '$4.14', '-EUR 75')
    """
    return (
        format_money(value, unit)
        if abs(value) < FEW
        else format_money(float(round(value)), unit).removesuffix(".00")
    )


def duration(time: timedelta) -> str:
    """A length of time in words.

    >>> duration(timedelta(days=14)), duration(timedelta(days=1)), duration(timedelta(hours=6)), duration(timedelta(minutes=90))
    ('14 days', '1 day', '6 hours', '90 minutes')
    """
    size, noun = next(
        (
            (s, n)
            for s, n in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour"))
            if time and not time % s
        ),
        (timedelta(minutes=1), "minute"),
    )
    count = time / size
    return f"{count:g} {noun}{'' if count == 1 else 's'}"


def months(
    begin: datetime, until: datetime, zone: ZoneInfo, x: Callable[[datetime], float], most: int
) -> list[tuple[float, str]]:
    """The words below a line of time, its ends without a word: months, or days where it is short."""
    a, b = begin.astimezone(zone), until.astimezone(zone)
    if (length := (b - a).days) < SHORT:
        step = max(1, -(-length // most))
        inside = [a + timedelta(days=i * step) for i in range(length // step + 1)]
        named = [(x(m), f"{m:%-d %b}") for m in inside if m <= b]
    else:
        firsts = [
            datetime(y, m, 1, tzinfo=zone) for y in range(a.year, b.year + 1) for m in range(1, 13)
        ]
        inside = [f for f in firsts if a <= f <= b]
        named = [(x(f), f"{f:%b}") for f in inside[:: max(1, -(-len(inside) // most))]]
    return [(x(begin), ""), *named, (x(until), "")]


def between(found: Interval) -> str:
    """A value with its interval, as one reads it."""
    return (
        format_number(found.value)
        if found.low is None or found.high is None
        else f"{format_number(found.value)} ({format_number(found.low)} – {format_number(found.high)})"
    )


def ago(when: datetime) -> str:
    """How long ago a moment was, in one unit.

    >>> [ago(datetime.now(UTC) - timedelta(hours=hours)) for hours in (0.1, 30, 72)]
    ['6 min', '30 h', '3 days']
    """
    minutes = max(0, (datetime.now(UTC) - when) // timedelta(minutes=1))
    return (
        f"{minutes} min"
        if minutes < 120
        else f"{minutes // 60} h"
        if minutes < 2880
        else f"{minutes // 1440} days"
    )


def small(title: str) -> str:
    """A title within a sentence."""
    return f"{title[:1].lower()}{title[1:]}"


def reason(text: str) -> str:
    """A decision's reason without the word that stands beside it.

    >>> reason("No, and stop: Values went missing."), reason("No: no proof of a fall."), reason("a new airport opens")
    ('Values went missing.', 'No proof of a fall.', 'A new airport opens')
    """
    head, _, rest = text.partition(": ")
    return capital(rest if head in {"Yes", "No", "Not yet", "No, and stop"} else text)


def ended(text: str) -> str:
    """What ended an incident, without the moment, which stands beside it as a date.

    >>> ended("version 8 serves; over by 2013-07-15"), ended("over by 2013-07-15 04:00")
    ('version 8 serves', '')
    """
    return re.sub(r"(; )?over by [-\d]+( [\d:]+)?$", "", text)


def capital(said: str) -> str:
    """What begins a sentence."""
    return f"{said[:1].upper()}{said[1:]}"


def heading(name: str) -> str:
    """A name as the head of a column.

    >>> heading("false_alarms"), heading("ROC-AUC")
    ('False alarms', 'ROC-AUC')
    """
    return capital(name.replace("_", " "))


def words(count: int, noun: str) -> str:
    """A count with its noun.

    >>> words(1, "check"), words(12_000, "check"), words(0, "check")
    ('1 check', '12,000 checks', 'no checks')
    """
    return f"{f'{count:,}' if count else 'no'} {noun if count == 1 else noun + 's'}"
