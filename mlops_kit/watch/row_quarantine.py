"""Quarantine of days with faults: no retraining of the watch trains or evaluates on them.

Before a retraining all days since the watch began are looked at again, so that rows which were
corrected in the source count once more. The days with faults are passed to the run as
``validation.excluded_days``, and an open incident names them with what is wrong. They are also
stored for the runs that a person starts (``mlops_kit.db.day_quarantine``), and as long as there are
any, they are looked at again with each window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome
from mlops_kit.db.day_quarantine import (
    QuarantinedDay,
    encode_quarantined_days,
    load_quarantined_days,
)
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import WatchRecord, WindowRecord
from mlops_kit.stages.monitor.feed_faults import FeedFault, FeedFaultKind, find_day_faults
from mlops_kit.stages.monitor.incidents import (
    FEED_FAULT_SIGNAL,
    IncidentSeverity,
    IncidentSignal,
)
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK
from mlops_kit.watch.alert_queue import update_incidents
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.label_quarantine import find_label_faults
from mlops_kit.watch.records import WindowPerformance

_REFERENCE_PERIOD = timedelta(days=90)  # before the watch began
_MAX_LISTED_FAULTS = 8


def quarantine_faulty_days(context: WatchContext, as_of: datetime) -> dict[str, Any]:
    """Find the days with faults, report them as an incident, and leave them out of a retraining.

    Returns
    -------
    dict
        The settings that the run of the retraining gets; empty if no day has a fault.
    """
    faults = find_feed_faults(context, as_of) if context.config.retrain.quarantine else []
    _report_faults(context, faults, as_of)
    if not faults:
        return {}
    validation = context.config.validation.model_dump(mode="json", exclude_unset=True)
    excluded_days = {*context.config.validation.excluded_days, *_list_days(faults)}
    return {"validation": {**validation, "excluded_days": sorted(excluded_days)}}


def check_window_for_faults(context: WatchContext, window: WindowRecord, as_of: datetime) -> str:
    """Look for faults because the performance of a window dropped, and report them.

    Returns
    -------
    str
        The faults of the window if most of its days have some: they explain the drop, and a
        retraining has to wait. Else empty.
    """
    if not context.config.retrain.quarantine:
        return ""
    faults = find_feed_faults(context, as_of, window)
    _report_faults(context, faults, as_of)
    start = pd.Timestamp(window.start)
    end = pd.Timestamp(window.end)
    inside = [fault for fault in faults if fault.start < end and fault.end > start]
    if len(_list_days(inside)) <= (end - start) / pd.Timedelta(days=1) / 2:
        return ""
    return f"Most days of the window have faults. {_describe_faults(inside)}"


def find_faulty_days_since(context: WatchContext, start: datetime, as_of: datetime) -> list[str]:
    """List the days with faults from a time on, for a comparison that a reinstatement makes.

    Labels are looked at in windows that are over: an earlier version that knows the concept of the
    labels is evidence against a fault, and waiting for the end of a window costs more.
    """
    if not context.config.retrain.quarantine:
        return []
    faults = find_feed_faults(context, as_of)
    first_day = f"{start:%Y-%m-%d}"
    return [day for day in _list_days(faults) if day >= first_day]


def check_quarantined_days(context: WatchContext, as_of: datetime) -> None:
    """Look for faults again if days are in quarantine: their rows may have been corrected."""
    if load_quarantined_days(context.project):
        quarantine_faulty_days(context, as_of)


def _report_faults(context: WatchContext, faults: list[FeedFault], as_of: datetime) -> None:
    """Open, update or close the incident of days with faults."""
    signals = []
    if faults:
        signals.append(
            IncidentSignal(
                FEED_FAULT_SIGNAL,
                IncidentSeverity.CRITICAL,
                "Rows with faults are left out of retraining",
                _describe_faults(faults),
            )
        )
    quarantine = (
        sa.update(WatchRecord)
        .where(WatchRecord.model == context.config.name)
        .values(quarantine_json=encode_quarantined_days(_list_quarantined_days(faults)))
    )
    with open_transaction(context.project) as transaction:
        transaction.execute(quarantine)
        lines = update_incidents(
            transaction,
            context.config,
            {FEED_FAULT_SIGNAL},
            signals,
            as_of,
            f"no day has a fault as of {context.format_time(as_of)}",
        )
    context.report_lines(as_of, lines)


def find_feed_faults(
    context: WatchContext, as_of: datetime, dropped_window: WindowRecord | None = None
) -> list[FeedFault]:
    """Find the faults of all days since the watch began, as far as they are known.

    Labels are looked at in the windows whose performance is below its limit, and in
    ``dropped_window``, whose evaluation need not be stored yet.
    """
    statement = sa.select(WatchRecord).where(WatchRecord.model == context.config.name)
    progress = query_records(context.project, statement)
    if not progress:
        return []
    watched_from = datetime.fromisoformat(progress[0].watched_from)
    rows = context.history.read_until(as_of, since=watched_from - _REFERENCE_PERIOD)
    faults = find_day_faults(rows, pd.Timestamp(watched_from), context.config)
    for window in context.list_monitored_windows():
        is_dropped = dropped_window is not None and window.id == dropped_window.id
        if is_dropped or _is_below_limit(window):
            faults += find_label_faults(context, window)
    return faults


def _is_below_limit(window: WindowRecord) -> bool:
    """Whether the realized performance of a window is below its limit, certainly or perhaps."""
    if window.realized_json is None:
        return False
    for verdict in WindowPerformance.from_json(window.realized_json).verdicts:
        if verdict.check == REALIZED_PERFORMANCE_CHECK:
            return verdict.outcome in (CheckOutcome.FAILED, CheckOutcome.CANNOT_TELL)
    return False


def _list_days(faults: Iterable[FeedFault]) -> list[str]:
    """List the local days that the faults touch."""
    days = set()
    for fault in faults:
        last = fault.end - pd.Timedelta(microseconds=1)
        for day in pd.date_range(fault.start.normalize(), last.normalize(), freq="D"):
            days.add(f"{day:%Y-%m-%d}")
    return sorted(days)


def _list_quarantined_days(faults: list[FeedFault]) -> list[QuarantinedDay]:
    """List the days that the faults touch, with the kinds of faults of each."""
    kinds_by_day: dict[str, set[str]] = {day: set() for day in _list_days(faults)}
    for fault in faults:
        for day in _list_days([fault]):
            kinds_by_day[day].add(str(fault.kind))
    return [QuarantinedDay(day, tuple(sorted(kinds))) for day, kinds in kinds_by_day.items()]


def _merge_days(faults: Iterable[FeedFault]) -> list[FeedFault]:
    """Merge faults of the same kind on days that follow one another, with the first sentence."""
    merged: list[FeedFault] = []
    newest_by_kind: dict[FeedFaultKind, int] = {}
    for fault in sorted(faults, key=lambda fault: fault.start):
        position = newest_by_kind.get(fault.kind)
        if position is not None and fault.start <= merged[position].end:
            end = max(fault.end, merged[position].end)
            merged[position] = replace(merged[position], end=end)
            continue
        newest_by_kind[fault.kind] = len(merged)
        merged.append(fault)
    return merged


def _describe_faults(faults: list[FeedFault]) -> str:
    """Describe the first faults, and what a person can do."""
    texts = []
    periods = _merge_days(faults)
    for fault in periods[:_MAX_LISTED_FAULTS]:
        last = fault.end - pd.Timedelta(microseconds=1)
        period = f"{fault.start:%Y-%m-%d}"
        if last.normalize() != fault.start.normalize():
            period = f"{period} to {last:%Y-%m-%d}"
        texts.append(f"{period}, {fault.kind}: {fault.sentence}")
    if len(periods) > _MAX_LISTED_FAULTS:
        texts.append(f"and {len(periods) - _MAX_LISTED_FAULTS} more")
    return (
        f"{'; '.join(texts)}. These days train no model until they are corrected in the source; "
        "retrain.quarantine: false trains on them."
    )
