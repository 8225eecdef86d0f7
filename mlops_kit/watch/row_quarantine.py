"""Quarantine of days with faults: no retraining of the watch trains or evaluates on them.

Before a retraining all days since the watch began are looked at again, so that rows which were
corrected in the source count once more. The days with faults are passed to the run as
``validation.excluded_days``, and an open incident names them with what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import to_score_array
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.predictions import decode_feature_values, load_labeled_predictions
from mlops_kit.db.tables import WatchRecord, WindowRecord
from mlops_kit.stages.monitor.feed_faults import FeedFault, find_day_faults
from mlops_kit.stages.monitor.incidents import (
    FEED_FAULT_SIGNAL,
    IncidentSeverity,
    IncidentSignal,
)
from mlops_kit.stages.monitor.label_faults import LabeledRows, find_label_fault
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK
from mlops_kit.watch.alert_queue import update_incidents
from mlops_kit.watch.change_detection import encode_version_labels
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.records import WindowPerformance

_REFERENCE_PERIOD = timedelta(days=90)  # before the watch began
_MAX_LISTED_FAULTS = 5


def quarantine_faulty_days(context: WatchContext, as_of: datetime) -> dict[str, Any]:
    """Find the days with faults, report them as an incident, and leave them out of a retraining.

    Returns
    -------
    dict
        The settings that the run of the retraining gets; empty if no day has a fault.
    """
    faults = find_feed_faults(context, as_of) if context.config.retrain.quarantine else []
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
    with open_transaction(context.project) as transaction:
        lines = update_incidents(
            transaction,
            context.config,
            {FEED_FAULT_SIGNAL},
            signals,
            as_of,
            f"no day has a fault as of {context.format_time(as_of)}",
        )
    context.report_lines(as_of, lines)
    if not faults:
        return {}
    validation = context.config.validation.model_dump(mode="json", exclude_unset=True)
    excluded_days = {*context.config.validation.excluded_days, *_list_days(faults)}
    return {"validation": {**validation, "excluded_days": sorted(excluded_days)}}


def find_feed_faults(context: WatchContext, as_of: datetime) -> list[FeedFault]:
    """Find the faults of all days since the watch began, as far as they are known."""
    statement = sa.select(WatchRecord).where(WatchRecord.model == context.config.name)
    progress = query_records(context.project, statement)
    if not progress:
        return []
    watched_from = datetime.fromisoformat(progress[0].watched_from)
    rows = context.history.read_until(as_of, since=watched_from - _REFERENCE_PERIOD)
    faults = find_day_faults(rows, pd.Timestamp(watched_from), context.config)
    for window in context.list_monitored_windows():
        faults += _find_label_faults(context, window)
    return faults


def _find_label_faults(context: WatchContext, window: WindowRecord) -> list[FeedFault]:
    """Find a fault of the labels of a window whose performance dropped."""
    if window.realized_json is None:
        return []
    performance = WindowPerformance.from_json(window.realized_json)
    if not performance.has_failed(REALIZED_PERFORMANCE_CHECK):
        return []
    start = datetime.fromisoformat(window.start)
    end = datetime.fromisoformat(window.end)
    reference = context.get_reference(window.version)
    all_rows = load_labeled_predictions(context.project, start, end)
    rows = all_rows[all_rows["version"] == window.version].reset_index(drop=True)
    rows = encode_version_labels(context, rows, reference.classes)
    target = context.config.target
    found = find_label_fault(
        LabeledRows(
            rows["label"].to_numpy(float),
            to_score_array(rows["score"]),
            decode_feature_values(rows, reference.feature_names),
        ),
        LabeledRows(
            reference.rows[target].to_numpy(float),
            np.asarray(to_score_array(reference.rows["score"])),
            reference.rows[reference.feature_names],
        ),
        context.config.task,
        context.config.seed,
    )
    if found is None:
        return []
    zone = context.config.timezone
    local_start = pd.Timestamp(start).tz_convert(zone)
    return [FeedFault(found[0], local_start, pd.Timestamp(end).tz_convert(zone), found[1])]


def _list_days(faults: Iterable[FeedFault]) -> list[str]:
    """List the local days that the faults touch."""
    days = set()
    for fault in faults:
        last = fault.end - pd.Timedelta(microseconds=1)
        for day in pd.date_range(fault.start.normalize(), last.normalize(), freq="D"):
            days.add(f"{day:%Y-%m-%d}")
    return sorted(days)


def _describe_faults(faults: list[FeedFault]) -> str:
    """Describe the first faults, and what a person can do."""
    texts = []
    for fault in faults[:_MAX_LISTED_FAULTS]:
        last = fault.end - pd.Timedelta(microseconds=1)
        period = f"{fault.start:%Y-%m-%d}"
        if last.normalize() != fault.start.normalize():
            period = f"{period} to {last:%Y-%m-%d}"
        texts.append(f"{period}, {fault.kind}: {fault.sentence}")
    if len(faults) > _MAX_LISTED_FAULTS:
        texts.append(f"and {len(faults) - _MAX_LISTED_FAULTS} more")
    return (
        f"{'; '.join(texts)}. These days train no model until they are corrected in the source; "
        "retrain.quarantine: false trains on them."
    )
