"""Whether rows and labels arrive as they usually do at this time of this weekday.

Each pass compares what has arrived with what had arrived at the same time of the same weekday in
the weeks before, as the prediction log has it. Two weeks of log are needed; eight are used.
Holidays are those of ``watch.holidays``: nothing is expected of them, and they say nothing about
other days. On any other day without rows on which rows are usual, an incident is open until rows
arrive again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import np
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.predictions import select_with_labels
from mlops_kit.db.tables import LabelRecord, PredictionRecord, WatchRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal
from mlops_kit.stats.arrivals import CountInterval, Dispersion, estimate_dispersion, predict_count
from mlops_kit.watch.alert_queue import update_incidents
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.signals import FEW_ROWS_SIGNAL, LATE_LABELS_SIGNAL, NO_ROWS_SIGNAL

HISTORY_WEEKS = 8
_EXPECTATION_WEEKS = 4  # the newest ones, because the number of rows may grow or fall
_MIN_HISTORY_WEEKS = 2
_DAYS_PER_WEEK = 7
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
# Of the prediction intervals: each of the periods below has about a false alarm in 100 years of
# daily passes, were the counts exactly as assumed.
COVERAGE = 0.99995
_VOLUME_DAYS = (1, 3, 7)  # a smaller reduction shows if it lasts
_MAX_VOLUME_SHARE = 0.8  # of the expected rows: a smaller reduction is no incident
_DELIVERY_SLACK = timedelta(hours=3)  # by which a delivery may be later than usual within a day
_HOUR_CHARACTERS = len("2024-03-04T05")
# How long after a label is due most labels may usually be there.
_LABEL_AGES = (timedelta(0), _DAY, 3 * _DAY, 7 * _DAY, 14 * _DAY)
_MIN_USUAL_LABELED_SHARE = 0.5
_MAX_LABELED_SHARE = 0.5  # of the expected labels: fewer are late


class ArrivalBatch(NamedTuple):
    """How many rows of an hour were scored by the same pass."""

    hour: datetime
    scored_at: datetime
    rows: int


class ArrivalLog:
    """The rows of the last weeks by hour and by the pass that scored them.

    Parameters
    ----------
    batches : sequence of ArrivalBatch
        The rows.
    logged_from : datetime
        Where the log begins.
    newest : datetime
        Event time of the newest row.
    config : ProjectConfig
        With the time zone, in which weekdays and hours are compared, the interval of passes, and
        the holidays.
    """

    def __init__(
        self,
        batches: Sequence[ArrivalBatch],
        logged_from: datetime,
        newest: datetime,
        config: ProjectConfig,
    ) -> None:
        self.batches_by_hour: dict[datetime, list[ArrivalBatch]] = defaultdict(list)
        for batch in batches:
            self.batches_by_hour[batch.hour].append(batch)
        self.logged_from = logged_from
        self.newest = newest
        self.zone = ZoneInfo(config.timezone)
        self.interval = config.watch.interval
        self.holidays = {date.fromisoformat(day) for day in config.watch.holidays}

    def find_end_of_holidays(self, start: datetime, end: datetime) -> datetime | None:
        """Find where the last holiday within a period ends; None if there is none."""
        if not self.holidays:
            return None
        day = (end - timedelta.resolution).astimezone(self.zone).date()
        while day >= start.astimezone(self.zone).date():
            if day in self.holidays:
                next_day = datetime.combine(day + _DAY, datetime.min.time(), self.zone)
                return next_day.astimezone(UTC)
            day -= _DAY
        return None

    def count(
        self,
        start: datetime,
        end: datetime,
        known_by: datetime,
    ) -> int:
        """Count the rows of whole hours that had been scored by a time."""
        total = 0
        hour = start
        while hour < end:
            for batch in self.batches_by_hour.get(hour, ()):
                if batch.scored_at <= known_by:
                    total += batch.rows
            hour += _HOUR
        return total

    def _shift(
        self,
        time: datetime,
        days: int,
    ) -> datetime:
        """Go back some days by the clock on the wall."""
        local = time.astimezone(self.zone).replace(tzinfo=None) - days * _DAY
        return local.replace(tzinfo=self.zone).astimezone(UTC)

    def predict(
        self,
        start: datetime,
        end: datetime,
        as_of: datetime,
    ) -> CountInterval | None:
        """Predict how many rows of a period are known by a time; None if the log is too short.

        The counts of the same weekday give the expectation, those of all weekdays the dispersion.
        """
        # Half an interval: passes are not made at the same second each day.
        known_by = as_of + self.interval / 2
        if self.interval < _DAY:
            known_by -= _DELIVERY_SLACK
        counts_by_phase = self._count_earlier_periods(start, end, known_by)
        counts = counts_by_phase[0]
        if len(counts) < _MIN_HISTORY_WEEKS:
            return None
        # One week without rows may have been a failure; more are usual.
        empty_weeks = sum(count == 0 for count in counts)
        if empty_weeks > (1 if len(counts) > _MIN_HISTORY_WEEKS + 1 else 0):
            return CountInterval(0, 0.0, 0)
        newest_counts = counts[:_EXPECTATION_WEEKS]
        dispersion = estimate_dispersion(counts_by_phase)
        days = round((end - start) / _DAY)
        if days <= 1:
            return predict_count(newest_counts, dispersion, COVERAGE)
        # Periods of several days overlap: their dispersion, which knows of the autocorrelation of
        # days, is uncertain. That of single days is not. The wider interval is valid.
        intervals = [
            predict_count(newest_counts, Dispersion(dispersion.value), COVERAGE),
            predict_count(newest_counts, self._sum_days(days, end, known_by), COVERAGE),
        ]
        return min(intervals, key=lambda interval: interval.low)

    def _count_earlier_periods(
        self, start: datetime, end: datetime, known_by: datetime
    ) -> list[list[int]]:
        """Count the rows of the period so many days earlier, by the days' remainder of a week."""
        counts_by_phase: list[list[int]] = [[] for _ in range(_DAYS_PER_WEEK)]
        for days in range(1, HISTORY_WEEKS * _DAYS_PER_WEEK + 1):
            shifted_start = self._shift(start, days)
            shifted_end = self._shift(end, days)
            is_logged = shifted_start >= self.logged_from
            has_holiday = self.find_end_of_holidays(shifted_start, shifted_end) is not None
            if shifted_end > start or not is_logged or has_holiday:
                continue
            count = self.count(shifted_start, shifted_end, self._shift(known_by, days))
            if shifted_start != start - days * _DAY:
                # The clocks were changed in between, which the source of the rows may ignore.
                back = days * _DAY
                count = min(count, self.count(start - back, end - back, known_by - back))
            counts_by_phase[days % _DAYS_PER_WEEK].append(count)
        return counts_by_phase

    def _sum_days(self, days: int, end: datetime, known_by: datetime) -> Dispersion:
        """Compute the dispersion of the sum of the last days, if these are independent."""
        dispersions = []
        medians = []
        for day in range(days):
            day_end = end - day * _DAY
            counts_by_phase = self._count_earlier_periods(day_end - _DAY, day_end, known_by)
            newest_counts = counts_by_phase[0][:_EXPECTATION_WEEKS] or [0]
            medians.append(float(np.median(newest_counts)))
            dispersions.append(estimate_dispersion(counts_by_phase))
        total = sum(medians)
        if total == 0:
            return dispersions[0]
        share = sum(median**2 for median in medians) / total**2
        return dispersions[0]._replace(value=dispersions[0].value * share)


def read_arrival_log(
    context: WatchContext,
    progress: WatchRecord,
    as_of: datetime,
) -> ArrivalLog | None:
    """Read the rows that the watch has scored in the last weeks; None if there are none."""
    first_time = as_of - (HISTORY_WEEKS + 1) * _DAYS_PER_WEEK * _DAY
    hour = sa.func.substr(PredictionRecord.event_time, 1, _HOUR_CHARACTERS)
    statement = (
        sa.select(
            hour,
            PredictionRecord.scored_at,
            sa.func.count(),
            sa.func.max(PredictionRecord.event_time),
        )
        .where(
            PredictionRecord.model == context.config.name,
            PredictionRecord.origin == "watch",
            PredictionRecord.event_time >= format_timestamp(first_time),
            PredictionRecord.event_time < format_timestamp(as_of),
        )
        .group_by(hour, PredictionRecord.scored_at)
    )
    batches = []
    newest_text = ""
    with open_transaction(context.project) as transaction:
        for hour_text, scored_at, rows, newest in transaction.execute(statement):
            start = datetime.fromisoformat(f"{hour_text}:00:00+00:00")
            batches.append(ArrivalBatch(start, datetime.fromisoformat(scored_at), rows))
            newest_text = max(newest_text, newest)
    if not batches:
        return None
    watched_from = datetime.fromisoformat(progress.watched_from)
    logged_from = max(watched_from, first_time)
    return ArrivalLog(batches, logged_from, datetime.fromisoformat(newest_text), context.config)


def _floor_hour(time: datetime) -> datetime:
    return time.replace(
        minute=0,
        second=0,
        microsecond=0,
    )


def detect_missing_rows(log: ArrivalLog, as_of: datetime) -> str:
    """Detect that no row has arrived although rows usually have by now."""
    start = _floor_hour(log.newest) + _HOUR
    end = min(_floor_hour(as_of), start + _DAYS_PER_WEEK * _DAY)
    start = log.find_end_of_holidays(start, end) or start
    if end <= start:
        return ""
    usual = log.predict(start, end, as_of)
    if usual is None or usual.low == 0:
        return ""
    newest = log.newest.astimezone(log.zone)
    return (
        f"No row since {newest:%Y-%m-%d %H:%M}. On this weekday {_format_interval(usual)} have "
        "usually arrived by now."
    )


def detect_few_rows(log: ArrivalLog, as_of: datetime) -> str:
    """Detect that fewer rows arrived in the last day, or in several, than usual on these weekdays.

    The last day has fewer than expected in any case, so that an incident ends with its cause.
    """
    end = _floor_hour(as_of)
    for days in _VOLUME_DAYS:
        start = end - days * _DAY
        if log.find_end_of_holidays(start, end) is not None:
            return ""
        usual = log.predict(start, end, as_of)
        if usual is None:
            return ""
        rows = log.count(start, end, as_of)
        is_reduced = rows < _MAX_VOLUME_SHARE * usual.expected
        if not is_reduced and days == 1:
            return ""
        if is_reduced and rows < usual.low:
            period = "day. On this weekday" if days == 1 else f"{days} days. On these weekdays"
            return (
                f"{format_number(rows)} rows in the last {period} {_format_interval(usual)} are "
                "usual."
            )
    return ""


def _format_interval(usual: CountInterval) -> str:
    return (
        f"{usual.low:,} to {usual.high:,} rows ({100 * COVERAGE:g}% prediction interval of the "
        f"last {HISTORY_WEEKS} weeks)"
    )


class LabeledDay(NamedTuple):
    """The rows of a day, and how many of them had a label by some time."""

    rows: int
    labeled: int

    @property
    def share(self) -> float:
        """The labeled share; 0 without rows."""
        return self.labeled / self.rows if self.rows else 0.0


def _select_labeled_day(
    context: WatchContext,
    week: int,
    end: datetime,
    as_of: datetime,
) -> sa.Select[tuple[int, int, int]]:
    """Select the number of rows and of labels of a day so many weeks ago, as it was known then.

    A label arrives when it is imported; in a replay of the past, when it was known.
    """
    shift = week * _DAYS_PER_WEEK * _DAY
    day_end = end - shift
    was_imported = LabelRecord.imported_at <= format_timestamp(as_of)
    arrival = sa.case((was_imported, LabelRecord.imported_at), else_=LabelRecord.known_at)
    has_label = sa.case((arrival <= format_timestamp(as_of - shift), 1), else_=0)
    return select_with_labels(
        sa.literal(week).label("week"),
        sa.func.count(),
        sa.func.coalesce(sa.func.sum(has_label), 0),
    ).where(
        PredictionRecord.model == context.config.name,
        PredictionRecord.origin == "watch",
        PredictionRecord.event_time >= format_timestamp(day_end - _DAY),
        PredictionRecord.event_time < format_timestamp(day_end),
    )


def _count_labeled_days(
    context: WatchContext,
    end: datetime,
    logged_from: datetime,
    as_of: datetime,
) -> list[LabeledDay]:
    """Count the rows and labels of the day before a time, and of that day in earlier weeks."""
    selects = []
    for week in range(HISTORY_WEEKS + 1):
        is_logged = end - week * _DAYS_PER_WEEK * _DAY - _DAY >= logged_from
        if week == 0 or is_logged:
            selects.append(_select_labeled_day(context, week, end, as_of))
    statement: sa.CompoundSelect[Any] = sa.union_all(*selects).order_by("week")
    with open_transaction(context.project) as transaction:
        counts = transaction.execute(statement).all()
    return [LabeledDay(int(rows), int(labeled)) for _, rows, labeled in counts]


def _detect_late_labels(
    context: WatchContext,
    logged_from: datetime,
    as_of: datetime,
) -> str:
    """Detect that labels have not arrived although most usually have by now."""
    for age in _LABEL_AGES:
        end = _floor_hour(as_of - context.config.label_delay - age)
        today, *earlier_days = _count_labeled_days(context, end, logged_from, as_of)
        is_known, sentence = judge_labeled_day(today, earlier_days)
        if sentence:
            period = f"the 24 hours before {context.format_time(end)}"
            return f"{sentence} Their rows are from {period}."
        if is_known:
            return ""
    return ""


def judge_labeled_day(today: LabeledDay, earlier_days: Sequence[LabeledDay]) -> tuple[bool, str]:
    """Judge whether a day has fewer labels than usual at this age.

    Returns
    -------
    is_known : bool
        Whether most labels are usually there at this age, so that their absence says something.
    sentence : str
        What is wrong; empty if nothing is.
    """
    days = [day for day in earlier_days if day.rows]
    if len(days) < _MIN_HISTORY_WEEKS:
        return False, ""
    # Of 1,000 rows, so that days of different sizes can be compared.
    shares = [round(1000 * day.share) for day in days]
    usual = predict_count(shares, estimate_dispersion([shares]), COVERAGE)
    if usual.expected < 1000 * _MIN_USUAL_LABELED_SHARE:
        return False, ""
    expected_labels = today.rows * usual.expected / 1000
    if today.rows == 0 or today.labeled >= _MAX_LABELED_SHARE * expected_labels:
        return True, ""
    chance = predict_count([round(expected_labels)], Dispersion(), COVERAGE)
    if 1000 * today.share >= usual.low or today.labeled >= chance.low:
        return True, ""
    return True, (
        f"{format_percent(today.share)} of {format_number(today.rows)} rows have their label; "
        f"usually {format_percent(usual.expected / 1000)} have it at this age."
    )


def check_arrivals(
    context: WatchContext,
    progress: WatchRecord,
    as_of: datetime,
) -> list[str]:
    """Check whether rows and labels arrive as usual; return a line per incident that changes."""
    log = read_arrival_log(context, progress, as_of)
    if log is None:
        return []
    sentences = {
        NO_ROWS_SIGNAL: ("No rows arrive", detect_missing_rows(log, as_of)),
        FEW_ROWS_SIGNAL: ("Fewer rows than usual on this weekday", detect_few_rows(log, as_of)),
        LATE_LABELS_SIGNAL: (
            "Labels are late",
            _detect_late_labels(context, log.logged_from, as_of),
        ),
    }
    if sentences[NO_ROWS_SIGNAL][1]:  # the cause of the reduction
        del sentences[FEW_ROWS_SIGNAL]
    signals = []
    for name, (title, sentence) in sentences.items():
        if sentence:
            signals.append(IncidentSignal(name, IncidentSeverity.WARNING, title, sentence))
    with open_transaction(context.project) as transaction:
        return update_incidents(
            transaction,
            context.config,
            set(sentences),
            signals,
            as_of,
            f"no longer observed as of {context.format_time(as_of)}",
        )
