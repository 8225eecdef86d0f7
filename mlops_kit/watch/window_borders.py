"""Where the windows of the watch begin and end: after a time, or after a number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import PredictionRecord, WatchRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.watch.context import WatchContext


def list_ended_windows(
    start: datetime,
    until: datetime,
    length: timedelta,
) -> list[tuple[datetime, datetime]]:
    """List the windows from ``start`` that have ended by ``until``; they leave no gap."""
    count = max(0, (until - start) // length)
    return [(start + i * length, start + (i + 1) * length) for i in range(count)]


def list_filled_windows(
    start: datetime, row_times: Sequence[datetime], rows: int
) -> list[tuple[datetime, datetime]]:
    """List the windows from ``start`` that have their number of rows; they leave no gap.

    Rows of the same time are in one window, which may then have more.

    Parameters
    ----------
    start : datetime
        Where the first window begins.
    row_times : sequence of datetime
        The times of the rows from ``start`` on, in order.
    rows : int
        Number of rows after which a window ends.
    """
    windows = []
    counted = 0
    for position, row_time in enumerate(row_times):
        counted += 1
        is_last_of_its_time = position + 1 == len(row_times) or row_times[position + 1] > row_time
        if counted >= rows and is_last_of_its_time:
            end = row_time + timedelta(microseconds=1)
            windows.append((start, end))
            start = end
            counted = 0
    return windows


def list_unmonitored_windows(
    context: WatchContext, progress: WatchRecord, as_of: datetime
) -> list[tuple[datetime, datetime]]:
    """List the windows that have ended and are not monitored; none is after the newest row."""
    if context.config.watch.window_rows is not None:
        return _list_filled_windows(context, progress, as_of, context.config.watch.window_rows)
    statement = sa.select(sa.func.max(PredictionRecord.event_time)).where(
        PredictionRecord.model == context.config.name
    )
    newest_row_time = query_records(context.project, statement)[0] or ""
    monitored_starts = {window.start for window in context.list_monitored_windows()}
    ended_windows = list_ended_windows(
        datetime.fromisoformat(progress.watched_from), as_of, context.config.watch.window
    )
    unmonitored = []
    for start, end in ended_windows:
        start_text = format_timestamp(start)
        if start_text not in monitored_starts and start_text <= newest_row_time:
            unmonitored.append((start, end))
    return unmonitored


def _list_filled_windows(
    context: WatchContext, progress: WatchRecord, as_of: datetime, rows: int
) -> list[tuple[datetime, datetime]]:
    """List the windows of a number of rows that follow the last monitored one."""
    start = progress.watched_from
    for window in context.list_monitored_windows():
        start = max(start, window.end)
    statement = (
        sa.select(PredictionRecord.event_time)
        .where(
            PredictionRecord.model == context.config.name,
            PredictionRecord.event_time >= start,
            PredictionRecord.event_time < format_timestamp(as_of),
        )
        .order_by(PredictionRecord.event_time)
    )
    row_times = [
        datetime.fromisoformat(str(text)) for text in query_records(context.project, statement)
    ]
    return list_filled_windows(datetime.fromisoformat(start), row_times, rows)
