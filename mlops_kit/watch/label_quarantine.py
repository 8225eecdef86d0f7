"""Faults of the labels of a window, or of some of its days, found in the prediction log."""

from __future__ import annotations

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import to_score_array
from mlops_kit.db.predictions import decode_feature_values, load_labeled_predictions
from mlops_kit.db.tables import WindowRecord
from mlops_kit.stages.monitor.feed_faults import FeedFault, FeedFaultKind
from mlops_kit.stages.monitor.label_faults import (
    MIN_LABELED_ROWS,
    NEIGHBORING_ROWS,
    LabeledRows,
    Neighbors,
    agrees_with_scores,
    find_label_fault,
)
from mlops_kit.watch.change_detection import encode_version_labels
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.reference_data import ReferenceData


def find_label_faults(context: WatchContext, window: WindowRecord) -> list[FeedFault]:
    """Find a fault of the labels of a window: of all of it, else of days with enough rows.

    A change of the concept may look like labels of other rows for a day or two. Those of a day
    therefore count only if the labels just before and after it agree with the scores.
    """
    start = pd.Timestamp(window.start)
    end = pd.Timestamp(window.end)
    length = end - start
    rows = _load_rows(context, window.version, start - length, end + length)
    return _find_faults(context, window.version, rows, (start, end))


def _find_faults(
    context: WatchContext,
    version: str,
    rows: pd.DataFrame,
    period: tuple[pd.Timestamp, pd.Timestamp],
) -> list[FeedFault]:
    """Find a fault of the labels of all of a period, else of days with enough rows."""
    start, end = period
    whole = _find_fault(context, version, rows, period)
    if whole is not None:
        return [whole]
    local_days = rows["moment"].dt.tz_convert(context.config.timezone).dt.normalize()
    is_inside = (rows["moment"] >= start) & (rows["moment"] < end)
    faults = []
    for day, row_count in local_days[is_inside].value_counts().sort_index().items():
        if row_count < MIN_LABELED_ROWS:
            continue
        day_period = (day, day + pd.DateOffset(days=1))
        fault = _find_fault(context, version, rows, day_period)
        if fault is None:
            continue
        around = _select_neighbors(context, version, rows, day_period)
        is_usual_around = all(
            len(part.labels) == 0 or agrees_with_scores(part, context.config.task)
            for part in around
        )
        if fault.kind == FeedFaultKind.FLIPPED_LABELS or is_usual_around:
            faults.append(fault)
    return faults


def _load_rows(
    context: WatchContext, version: str, start: pd.Timestamp, end: pd.Timestamp
) -> pd.DataFrame:
    """Load the labeled predictions of a version in a period."""
    rows = load_labeled_predictions(context.project, start.to_pydatetime(), end.to_pydatetime())
    rows = rows[(rows["version"] == version) & rows["raw_label"].notna()].reset_index(drop=True)
    return encode_version_labels(context.project, rows, context.get_reference(version).classes)


def _find_fault(
    context: WatchContext,
    version: str,
    rows: pd.DataFrame,
    period: tuple[pd.Timestamp, pd.Timestamp],
) -> FeedFault | None:
    """Find a fault of the labels of a period."""
    start, end = period
    reference = context.get_reference(version)
    inside = rows[(rows["moment"] >= start) & (rows["moment"] < end)]
    found = find_label_fault(
        _make_labeled_rows(inside, reference),
        _make_reference_rows(context, reference),
        context.config.task,
        context.config.seed,
        _select_neighbors(context, version, rows, period),
    )
    if found is None:
        return None
    zone = context.config.timezone
    return FeedFault(found[0], start.tz_convert(zone), end.tz_convert(zone), found[1])


def _select_neighbors(
    context: WatchContext,
    version: str,
    rows: pd.DataFrame,
    period: tuple[pd.Timestamp, pd.Timestamp],
) -> Neighbors:
    """Select the labeled rows just before and after a period.

    The rows that the version was evaluated on stand for those before the first ones that it scored.
    """
    start, end = period
    reference = context.get_reference(version)
    before = _make_labeled_rows(rows[rows["moment"] < start].tail(NEIGHBORING_ROWS), reference)
    if len(before.labels) < NEIGHBORING_ROWS:
        before = _make_reference_rows(context, reference)
    after = rows[rows["moment"] >= end].head(NEIGHBORING_ROWS)
    return Neighbors(before, _make_labeled_rows(after, reference))


def _make_labeled_rows(rows: pd.DataFrame, reference: ReferenceData) -> LabeledRows:
    features = decode_feature_values(rows.reset_index(drop=True), reference.feature_names)
    return LabeledRows(rows["label"].to_numpy(float), to_score_array(rows["score"]), features)


def _make_reference_rows(context: WatchContext, reference: ReferenceData) -> LabeledRows:
    return LabeledRows(
        reference.rows[context.config.target].to_numpy(float),
        np.asarray(to_score_array(reference.rows["score"])),
        reference.rows[reference.feature_names],
    )
