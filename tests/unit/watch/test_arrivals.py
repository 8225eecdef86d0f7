"""A feed that stops is told of at the first pass that can know, and a regular one never is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.watch.arrivals import (
    ArrivalBatch,
    ArrivalLog,
    LabeledDay,
    detect_few_rows,
    detect_missing_rows,
    judge_labeled_day,
)

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
EVERY_DAY = (1.0, 1.05, 1.0, 0.95, 1.1, 0.6, 0.5)
WEEKDAYS = (1.0, 1.05, 1.0, 0.95, 1.1, 0.0, 0.0)


class Feed:
    """Rows by hour, with a weekly pattern and days that vary by a tenth.

    They are scored by the next pass; with a delay, those of a day are delivered together so many
    hours after its end.
    """

    def __init__(
        self,
        days: int,
        rows_per_day: float,
        week: Sequence[float] = EVERY_DAY,
        interval: timedelta = DAY,
        delay: timedelta | None = None,
    ) -> None:
        rng = np.random.default_rng(7)
        self.interval = interval
        self.batches = []
        for day in range(days):
            level = rows_per_day * week[day % 7] * rng.gamma(100, 0.01)
            for hour in range(24):
                rows = int(rng.poisson(level * (1.5 if 7 <= hour < 19 else 0.5) / 24))
                time = START + day * DAY + hour * HOUR
                known_at = time + HOUR if delay is None else START + (day + 1) * DAY + delay
                passes = -((START - known_at) // interval)
                if rows:
                    self.batches.append(ArrivalBatch(time, START + passes * interval, rows))

    def make_log(self, as_of: datetime, stop: datetime | None = None) -> ArrivalLog:
        known = []
        for batch in self.batches:
            if batch.scored_at <= as_of and (stop is None or batch.hour < stop):
                known.append(batch)
        config = ProjectConfig(
            name="t",
            source="t.csv",
            target="y",
            task="binary",
            time="at",
            watch={"interval": self.interval},
        )
        newest = max(batch.hour for batch in known) + timedelta(minutes=59)
        return ArrivalLog(known, START, newest, config)

    def find_first_alarm(self, stop: datetime) -> datetime:
        """Find the first pass that tells that the feed has stopped."""
        as_of = stop
        while not detect_missing_rows(self.make_log(as_of, stop), as_of):
            as_of += self.interval
        return as_of


def test_stopped_feed_is_told_of_at_the_next_pass() -> None:
    stop = START + 40 * DAY + 12 * HOUR
    feed = Feed(60, 300)
    as_of = START + 41 * DAY
    sentence = detect_missing_rows(feed.make_log(as_of, stop), as_of)
    assert sentence.startswith("No row since 2024-02-10 11:59. On this weekday ")
    assert "99.99% prediction interval of the last 8 weeks" in sentence


@pytest.mark.parametrize(
    ("feed", "stop", "first_alarm"),
    [
        # Saturday and Sunday never have rows: silence from Friday evening is told on Tuesday.
        (Feed(60, 300, WEEKDAYS), START + 40 * DAY, START + 43 * DAY),
        # Three rows a day: a day without one proves nothing.
        (Feed(80, 3), START + 60 * DAY, START + 65 * DAY),
        # Hourly passes: within the working day.
        (Feed(45, 300, interval=HOUR), START + 35 * DAY + 9 * HOUR, START + 35 * DAY + 13 * HOUR),
        # A delivery at six in the morning of the next day, and three hours of slack.
        (
            Feed(45, 300, interval=HOUR, delay=6 * HOUR),
            START + 35 * DAY,
            START + 36 * DAY + 9 * HOUR,
        ),
    ],
)
def test_first_alarm_comes_when_the_silence_is_clear(
    feed: Feed, stop: datetime, first_alarm: datetime
) -> None:
    assert abs(feed.find_first_alarm(stop) - first_alarm) <= max(feed.interval, 2 * HOUR)


@pytest.mark.parametrize("week", [EVERY_DAY, WEEKDAYS])
def test_regular_feed_is_quiet(week: Sequence[float]) -> None:
    feed = Feed(120, 300, week)
    for day in range(15, 120):
        as_of = START + day * DAY
        log = feed.make_log(as_of)
        assert detect_missing_rows(log, as_of) == ""
        assert detect_few_rows(log, as_of) == ""


def test_half_of_the_rows_of_a_weekday_are_few_although_a_sunday_has_no_more() -> None:
    feed = Feed(60, 1000)
    as_of = START + 51 * DAY  # after a Tuesday
    batches = []
    for batch in feed.make_log(as_of).batches_by_hour.values():
        for one in batch:
            is_last_day = one.hour >= as_of - DAY
            batches.append(one._replace(rows=one.rows // 2) if is_last_day else one)
    log = feed.make_log(as_of)
    reduced = ArrivalLog(
        batches,
        START,
        log.newest,
        ProjectConfig(name="t", source="t.csv", target="y", task="binary", time="at"),
    )
    assert detect_few_rows(log, as_of) == ""
    sentence = detect_few_rows(reduced, as_of)
    assert " rows in the last day. On this weekday " in sentence
    assert detect_missing_rows(reduced, as_of) == ""


def test_short_log_says_nothing() -> None:
    stop = START + 10 * DAY
    as_of = START + 12 * DAY
    assert detect_missing_rows(Feed(20, 300).make_log(as_of, stop), as_of) == ""


def test_labels_are_late_only_where_they_usually_are_there() -> None:
    usual = [LabeledDay(300, 290), LabeledDay(280, 270), LabeledDay(310, 305)]
    is_known, sentence = judge_labeled_day(LabeledDay(300, 20), usual)
    assert is_known
    assert sentence == ("7% of 300 rows have their label; usually 97% have it at this age.")
    assert judge_labeled_day(LabeledDay(300, 280), usual) == (True, "")
    assert judge_labeled_day(LabeledDay(2, 0), usual) == (True, "")
    assert judge_labeled_day(LabeledDay(0, 0), usual) == (True, "")
    rarely = [LabeledDay(300, 10), LabeledDay(300, 0)]
    assert judge_labeled_day(LabeledDay(300, 0), rarely) == (False, "")
    assert judge_labeled_day(LabeledDay(300, 0), usual[:1]) == (False, "")
