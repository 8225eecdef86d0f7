"""Times, periods, durations, amounts and counts as the pages write them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

from mlops_kit.core.formatting import capitalize_first, format_money, format_number
from mlops_kit.core.results import Interval
from mlops_kit.project.config.monitoring import WatchConfig
from mlops_kit.stats.metrics import METRICS

_T = TypeVar("_T")

_MIN_WHOLE_AMOUNT = 10  # from this amount on, cents are left out
_MAX_DAYS_WITH_DAY_TICKS = 45  # a longer time axis is labeled by months
_MAX_AGE_IN_MINUTES = 120
_MAX_AGE_IN_HOURS = 48


def to_local_time(time: datetime | str, zone: ZoneInfo) -> datetime:
    """Convert a timestamp, also one as it is stored, to a time zone."""
    if isinstance(time, str):
        time = datetime.fromisoformat(time)
    return time.astimezone(zone)


def format_day(time: datetime | str, zone: ZoneInfo) -> str:
    """Format the day of a timestamp: ``16 Jul``."""
    return f"{to_local_time(time, zone):%-d %b}"


def format_event_time(time: datetime | str, zone: ZoneInfo) -> str:
    """Format a timestamp with its year: ``16 July 2013, 04:00``; midnight has no time of day."""
    local = to_local_time(time, zone)
    return f"{local:%-d %B %Y}{_format_clock(local)}"


def format_short_time(time: datetime | str, zone: ZoneInfo) -> str:
    """Format a timestamp without its year: ``16 Jul, 04:00``; midnight has no time of day."""
    local = to_local_time(time, zone)
    return f"{local:%-d %b}{_format_clock(local)}"


def _format_clock(local: datetime) -> str:
    return "" if (local.hour, local.minute) == (0, 0) else f", {local:%H:%M}"


def format_clock_time(time: datetime | str, zone: ZoneInfo) -> str:
    """Format when something was done or recorded, always with the time of day."""
    return f"{to_local_time(time, zone):%-d %B %Y, %H:%M}"


def format_period(
    start: datetime | str,
    end: datetime | str,
    zone: ZoneInfo,
) -> str:
    """Format a period; whole days are written as the first and the last day.

    >>> zone = ZoneInfo("America/New_York")
    >>> format_period("2013-09-16T04:00+00:00", "2013-09-23T04:00+00:00", zone)
    '16 – 22 Sep'
    """
    first = to_local_time(start, zone)
    end_local = to_local_time(end, zone)
    if (first.hour, first.minute, end_local.hour, end_local.minute) != (0, 0, 0, 0):
        if first.date() == end_local.date():
            return f"{first:%-d %b, %H:%M} – {end_local:%H:%M}"
        return f"{first:%-d %b, %H:%M} – {end_local:%-d %b, %H:%M}"
    last = end_local - timedelta(days=1)
    if last.date() <= first.date():
        return f"{first:%-d %b}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{first:%-d} – {last:%-d %b}"
    return f"{first:%-d %b} – {last:%-d %b}"


def format_rounded_money(value: float, unit: str) -> str:
    """Format an amount of money, with cents only if it is small.

    >>> format_rounded_money(41230.4, "$"), format_rounded_money(4.137, "$")
    ('$41,230', '$4.14')
    >>> format_rounded_money(-75.2, "EUR")
    '-EUR 75'
    """
    if abs(value) < _MIN_WHOLE_AMOUNT:
        return format_money(value, unit)
    return format_money(float(round(value)), unit).removesuffix(".00")


def describe_duration(duration: timedelta) -> str:
    """Describe a duration in its largest whole unit.

    >>> [describe_duration(timedelta(hours=hours)) for hours in (336, 24, 6, 1.5)]
    ['14 days', '1 day', '6 hours', '90 minutes']
    """
    size = timedelta(minutes=1)
    noun = "minute"
    for larger_size, larger_noun in ((timedelta(days=1), "day"), (timedelta(hours=1), "hour")):
        if duration and not duration % larger_size:
            size = larger_size
            noun = larger_noun
            break
    count = duration / size
    return f"{count:g} {noun}{'' if count == 1 else 's'}"


def describe_window(watch: WatchConfig) -> str:
    """Describe the length of a monitoring window: a duration, or a number of rows.

    >>> describe_window(WatchConfig()), describe_window(WatchConfig(window_rows=5_000))
    ('7 days', '5,000 rows')
    """
    if watch.window_rows is not None:
        return f"{watch.window_rows:,} rows"
    return describe_duration(watch.window)


def describe_interval(duration: timedelta) -> str:
    """Describe how often something happens.

    >>> describe_interval(timedelta(days=1)), describe_interval(timedelta(hours=6))
    ('every day', 'every 6 hours')
    """
    return f"every {describe_duration(duration).removeprefix('1 ')}"


def make_time_ticks(
    start: datetime,
    end: datetime,
    zone: ZoneInfo,
    to_x: Callable[[datetime], float],
    max_ticks: int,
) -> list[tuple[float, str]]:
    """Make the ticks of a time axis: months, or days if it is short; its ends have no text."""
    first = start.astimezone(zone)
    last = end.astimezone(zone)
    day_count = (last - first).days
    ticks = [(to_x(start), "")]
    if day_count < _MAX_DAYS_WITH_DAY_TICKS:
        step = max(1, -(-day_count // max_ticks))
        for days in range(0, day_count + 1, step):
            day = first + timedelta(days=days)
            if day <= last:
                ticks.append((to_x(day), f"{day:%-d %b}"))
    else:
        months = _list_month_starts(first, last, zone)
        for month in months[:: max(1, -(-len(months) // max_ticks))]:
            ticks.append((to_x(month), f"{month:%b}"))
    return [*ticks, (to_x(end), "")]


def _list_month_starts(
    first: datetime,
    last: datetime,
    zone: ZoneInfo,
) -> list[datetime]:
    """List the starts of months in a period."""
    starts = []
    for year in range(first.year, last.year + 1):
        for month in range(1, 13):
            start = datetime(year, month, 1, tzinfo=zone)
            if first <= start <= last:
                starts.append(start)
    return starts


def format_interval_in_sentence(interval: Interval) -> str:
    """Format a value with its interval in round brackets, as in a sentence."""
    value = format_number(interval.value)
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({format_number(interval.low)} – {format_number(interval.high)})"


def format_interval_cell(interval: Interval) -> str:
    """Format a value with its interval for a table; empty if there is no value."""
    return "" if interval.value is None else str(interval)


def format_age(time: datetime) -> str:
    """Format the time since a timestamp in one unit.

    >>> [format_age(datetime.now(UTC) - timedelta(hours=hours)) for hours in (0.1, 30, 72)]
    ['6 min', '30 h', '3 days']
    """
    minutes = max(0, (datetime.now(UTC) - time) // timedelta(minutes=1))
    if minutes < _MAX_AGE_IN_MINUTES:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < _MAX_AGE_IN_HOURS else f"{hours // 24} days"


def format_optional(value: _T | None, format_value: Callable[[_T], str]) -> str:
    """Format a value that may be missing; then it is empty."""
    return "" if value is None else format_value(value)


def get_metric_title(metric: str) -> str:
    """Return a metric's title; of one that is not registered its name."""
    return METRICS[metric].title if metric in METRICS else metric


def lowercase_first(text: str) -> str:
    """Lowercase the first letter of a text within a sentence, but not of an acronym or a symbol.

    >>> lowercase_first("Fewer rows than usual"), lowercase_first("A drop")
    ('fewer rows than usual', 'a drop')
    >>> lowercase_first("ROC-AUC dropped"), lowercase_first("R² dropped")
    ('ROC-AUC dropped', 'R² dropped')
    """
    begins_word = text[1:2].islower() or text[1:2] == " "
    if not begins_word or not text[:1].isalpha():
        return text
    return f"{text[:1].lower()}{text[1:]}"


def capitalize_sentence(text: str) -> str:
    """Capitalize the first letter of a text, which may be empty."""
    return capitalize_first(text) if text else ""


def take_first_sentence(text: str) -> str:
    """Take the first of several sentences, without its full stop.

    >>> take_first_sentence("On the same rows, 95% intervals. Better: cost.")
    'On the same rows, 95% intervals'
    """
    return text.partition(". ")[0].removesuffix(".")


def format_heading(name: str) -> str:
    """Format a name as the heading of a column.

    >>> format_heading("false_alarms"), format_heading("ROC-AUC")
    ('False alarms', 'ROC-AUC')
    """
    return capitalize_sentence(name.replace("_", " "))


def choose_verb(
    count: int,
    singular: str,
    plural: str,
) -> str:
    """Choose the form of a verb that agrees with a count."""
    return singular if count == 1 else plural


def describe_listing(count: int, noun: str, order: str) -> str:
    """Describe how many things are listed, and in which order if there are several.

    >>> describe_listing(3, "promotion", "the newest first")
    '3 promotions, the newest first.'
    >>> describe_listing(1, "promotion", "the newest first"), describe_listing(0, "incident", "")
    ('1 promotion.', 'No incidents yet.')
    """
    if not count:
        return f"No {noun}s yet."
    counted = format_count(count, noun)
    return f"{counted}, {order}." if count > 1 else f"{counted}."


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun.

    >>> format_count(1, "check"), format_count(12_000, "check"), format_count(0, "check")
    ('1 check', '12,000 checks', 'no checks')
    """
    number = f"{count:,}" if count else "no"
    return f"{number} {noun if count == 1 else noun + 's'}"
