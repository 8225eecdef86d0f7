"""A feed that stops is told of at the first pass that can know, and a regular one never is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import (
    IncidentRecord,
    LabelOutcome,
    LabelRecord,
    PredictionRecord,
    WatchRecord,
)
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project, load_project
from mlops_kit.watch.arrivals import (
    ArrivalBatch,
    ArrivalLog,
    LabeledDay,
    check_arrivals,
    detect_few_rows,
    detect_missing_rows,
    judge_labeled_day,
)
from mlops_kit.watch.context import WatchContext

START = datetime(2024, 1, 1, tzinfo=UTC)  # a Monday
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
EVERY_DAY = (1.0, 1.05, 1.0, 0.95, 1.1, 0.6, 0.5)
WEEKDAYS = (1.0, 1.05, 1.0, 0.95, 1.1, 0.0, 0.0)


class Feed:
    """Rows by hour, with a weekly pattern and days that vary, by a tenth unless told otherwise.

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
        day_effect: float = 0.1,
    ) -> None:
        shape = day_effect**-2
        rng = np.random.default_rng(7)
        self.interval = interval
        self.batches = []
        for day in range(days):
            level = rows_per_day * week[day % 7] * rng.gamma(shape, 1 / shape)
            for hour in range(24):
                rows = int(rng.poisson(level * (1.5 if 7 <= hour < 19 else 0.5) / 24))
                time = START + day * DAY + hour * HOUR
                known_at = time + HOUR if delay is None else START + (day + 1) * DAY + delay
                passes = -((START - known_at) // interval)
                if rows:
                    self.batches.append(ArrivalBatch(time, START + passes * interval, rows))

    def make_log(
        self,
        as_of: datetime,
        stop: datetime | None = None,
        holidays: Sequence[str] = (),
    ) -> ArrivalLog:
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
            watch={"interval": self.interval, "holidays": list(holidays)},
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
    assert "99.995% prediction interval of the last 8 weeks" in sentence


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


def make_reduced_log(feed: Feed, as_of: datetime, start: datetime) -> ArrivalLog:
    """Make the log of a feed of which every second row is missing from some time on."""
    log = feed.make_log(as_of)
    for hour, batches in log.batches_by_hour.items():
        if hour >= start:
            log.batches_by_hour[hour] = [b._replace(rows=b.rows // 2) for b in batches]
    return log


def test_half_of_the_rows_of_a_weekday_are_few_although_a_sunday_has_no_more() -> None:
    feed = Feed(60, 1000)
    as_of = START + 51 * DAY  # after a Tuesday
    assert detect_few_rows(feed.make_log(as_of), as_of) == ""
    reduced = make_reduced_log(feed, as_of, as_of - DAY)
    sentence = detect_few_rows(reduced, as_of)
    assert " rows in the last day. On this weekday " in sentence
    assert detect_missing_rows(reduced, as_of) == ""


def test_half_of_the_rows_of_a_feed_that_varies_much_show_when_it_lasts() -> None:
    feed = Feed(80, 1000, day_effect=0.2)
    stop = START + 65 * DAY
    sentences = []
    for day in range(1, 8):
        as_of = stop + day * DAY
        sentences.append(detect_few_rows(make_reduced_log(feed, as_of, stop), as_of))
    assert sentences[0] == ""  # a day may have half of the rows by chance
    assert " days. On these weekdays " in sentences[-1]
    recovered = make_reduced_log(feed, stop + 8 * DAY, stop)
    back_to_normal = feed.make_log(stop + 8 * DAY)
    for hour in recovered.batches_by_hour:
        if hour >= stop + 7 * DAY:
            recovered.batches_by_hour[hour] = back_to_normal.batches_by_hour[hour]
    assert detect_few_rows(recovered, stop + 8 * DAY) == ""  # at once, although the week has few


@pytest.mark.slow
def test_feed_that_varies_by_a_fifth_from_day_to_day_is_quiet() -> None:
    feed = Feed(160, 300, day_effect=0.2)
    for day in range(15, 160):
        as_of = START + day * DAY
        assert detect_few_rows(feed.make_log(as_of), as_of) == ""


def test_nothing_is_expected_of_a_holiday() -> None:
    feed = Feed(60, 1000)
    holiday = START + 50 * DAY
    as_of = holiday + DAY
    log = feed.make_log(as_of, holiday)
    assert detect_missing_rows(log, as_of) != ""
    assert detect_few_rows(log, as_of) != ""
    log = feed.make_log(as_of, holiday, holidays=("2024-02-20",))
    assert detect_missing_rows(log, as_of) == ""
    assert detect_few_rows(log, as_of) == ""
    later = as_of + DAY  # the day after the holiday counts again
    assert detect_missing_rows(feed.make_log(later, holiday, ("2024-02-20",)), later) != ""
    # A holiday says nothing about the same weekday later.
    start = holiday + 7 * DAY
    usual = [
        feed.make_log(start + DAY, holidays=days).predict(start, start + DAY, start + DAY)
        for days in ((), ("2024-02-20",))
    ]
    assert usual[0] != usual[1]


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


LABEL_DELAY = 3 * DAY
SETTINGS = "name: t\nsource: t.csv\ntarget: y\ntask: binary\ntime: at\nlabel_delay: 3d\n"


def write_log(project: Project, days: int, last_label: datetime, import_lag: timedelta) -> None:
    """Write three rows an hour, with labels known after the delay, up to the last one that came.

    Labels are imported so long after they were known: a little in service, years in a replay.
    """
    with open_transaction(project) as transaction:
        for number in range(days * 24 * 3):
            event_time = START + number * HOUR / 3
            transaction.add(
                PredictionRecord(
                    id=f"p{number}",
                    model="t",
                    version="1",
                    model_hash="m",
                    request_id="",
                    request_hash="",
                    row_key="",
                    event_time=format_timestamp(event_time),
                    score=0.5,
                    predicted_class=0.0,
                    features="[]",
                    origin="watch",
                    scored_at=format_timestamp(event_time + HOUR),
                )
            )
            known_at = event_time + LABEL_DELAY
            if known_at > last_label:
                continue
            transaction.add(
                LabelRecord(
                    model="t",
                    prediction_id=f"p{number}",
                    value=0.0,
                    raw_value="0",
                    known_at=format_timestamp(known_at),
                    origin="source",
                    outcome=LabelOutcome.JOINED,
                    imported_at=format_timestamp(known_at + import_lag),
                    is_current=True,
                )
            )


@pytest.mark.parametrize(
    ("import_lag", "first_alarm"),
    [
        (timedelta(minutes=1), 29),
        (4000 * DAY, 29),
        # Labels that are usually imported two days late are missed when they are three days late.
        (2 * DAY, 32),
    ],
)
@pytest.mark.slow
def test_labels_that_stop_are_told_of_when_they_usually_are_there(
    tmp_path: Path, import_lag: timedelta, first_alarm: int
) -> None:
    (tmp_path / "mlops.yaml").write_text(f"{SETTINGS}timezone: Asia/Tokyo\n")
    project = load_project(tmp_path)
    write_log(project, 33, START + 27 * DAY, import_lag)
    start = format_timestamp(START)
    progress = WatchRecord(model="t", watched_from=start, watched_until=start, updated_at=start)
    context = WatchContext(project, lambda *_arguments, **_options: None)
    for day in (14, 20, 27, first_alarm - 3):
        assert check_arrivals(context, progress, START + day * DAY + 2 * HOUR) == []
    (line,) = check_arrivals(context, progress, START + first_alarm * DAY + 2 * HOUR)
    assert "Labels are late" in line
    with open_transaction(project) as transaction:
        (incident,) = transaction.query(IncidentRecord).all()
    assert incident.signal == "late_labels"
    assert incident.message == (
        "0% of 72 rows have their label; usually 100% have it at this age. Their rows are from the "
        "24 hours before 2024-01-27 11:00."
    )
