"""Rollback: a new champion whose labeled windows are worse than its predecessor's would have been.

Once the labels of a window are due, the version that the champion replaced scores the same rows,
from the features that were logged. The gain over it is combined over all windows since the
promotion (``mlops_kit.stats.paired_gains``), and the champion is rolled back as soon as the whole
interval is below zero and the loss exceeds ``review.margin``. The comparison of each window is
stored, and a comparison that says so is acted on in the same pass.

Only windows whose labels are mature count, because the rows whose labels arrive first are seldom
like the others: ``label_delay`` must have passed, and nearly all rows must have a label.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import Interval
from mlops_kit.db import approvals
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.operator_decisions import (
    DecisionKind,
    find_promotion_stop,
    list_operator_decisions,
)
from mlops_kit.db.tables import PredecessorComparisonRecord, PromotionRecord, WindowRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project
from mlops_kit.registry import versions
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.paired_gains import PairedGain, compute_sequential_interval, shows_loss
from mlops_kit.watch.alert_queue import update_incidents
from mlops_kit.watch.champion_change import change_champion
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.version_scoring import (
    ComparedRows,
    measure_champion_gain,
    score_with_version,
)

ROLLBACK_ACTOR = "mlops watch"  # who rolls back where no person does
_SCHEMA_VERSION = 1
MIN_LABELED_SHARE = 0.9
_LATE_LABELS_GRACE = timedelta(days=30)  # how long after they are due labels are waited for


@dataclass(frozen=True)
class PredecessorComparison:
    """What a window shows of the champion beside the version that it replaced.

    Attributes
    ----------
    version, predecessor : str
        The champion, and the version that it replaced.
    rows : int
        The rows that count: scored by the champion, labeled, and scored by the predecessor too.
    gain, variance : float or None
        The gain of the champion in the headline metric in this window, positive if it is better,
        and its sampling variance; None if the window could not be compared.
    degrees_of_freedom : int
        Of the variance.
    mean_gain, low, high : float or None
        The gain over all windows since the promotion, with the interval of this look.
    is_worse : bool
        Whether the champion is worse than its predecessor would have been.
    note : str
        Why the window could not be compared; else empty.
    """

    version: str
    predecessor: str
    rows: int = 0
    gain: float | None = None
    variance: float | None = None
    degrees_of_freedom: int = 0
    mean_gain: float | None = None
    low: float | None = None
    high: float | None = None
    is_worse: bool = False
    note: str = ""

    def to_json(self) -> str:
        """Convert to the JSON text that the database stores."""
        return json.dumps({"schema_version": _SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> PredecessorComparison:
        """Read the JSON text of a stored record."""
        stored = json.loads(text)
        stored.pop("schema_version")
        return cls(**stored)

    @property
    def interval(self) -> Interval:
        """The gain over all windows so far."""
        return Interval(self.mean_gain, self.low, self.high)

    @property
    def paired_gain(self) -> PairedGain | None:
        """The gain in this window; None if it could not be compared."""
        if self.gain is None or self.variance is None:
            return None
        return PairedGain(self.gain, self.variance, self.degrees_of_freedom, self.rows)


class _StoredComparison(NamedTuple):
    record: PredecessorComparisonRecord
    comparison: PredecessorComparison


def list_stored_comparisons(project: Project) -> list[_StoredComparison]:
    """List the comparisons of all champions, the newest first."""
    statement = (
        sa.select(PredecessorComparisonRecord)
        .where(PredecessorComparisonRecord.model == project.config.name)
        .order_by(PredecessorComparisonRecord.id.desc())
    )
    comparisons = []
    for record in query_records(project, statement):
        comparison = PredecessorComparison.from_json(record.comparison_json)
        comparisons.append(_StoredComparison(record, comparison))
    return comparisons


def list_comparisons_since(
    context: WatchContext, promotion: PromotionRecord
) -> list[_StoredComparison]:
    """List the comparisons since a promotion, the oldest first."""
    return [
        stored
        for stored in reversed(list_stored_comparisons(context.project))
        if stored.record.promotion_number == promotion.number
    ]


def roll_back_worse_champion(context: WatchContext, as_of: datetime) -> None:
    """Compare the champion with the version that it replaced, and roll it back if it is worse."""
    promotion = _find_new_champion(context)
    if promotion is not None:
        _compare_champion(context, promotion, as_of)
    _update_promotion_stop(context, as_of)


def _compare_champion(context: WatchContext, promotion: PromotionRecord, as_of: datetime) -> None:
    """Compare the champion on the windows whose labels are due, and roll it back if it is worse."""
    for window in _list_uncompared_windows(context, promotion, as_of):
        _compare_window(context, promotion, window, as_of)
    comparisons = list_comparisons_since(context, promotion)
    worse = [comparison for _, comparison in comparisons if comparison.is_worse]
    if worse:
        _roll_back(context, worse[0], as_of)


def _find_new_champion(context: WatchContext) -> PromotionRecord | None:
    """Find the promotion of a champion that can be rolled back: not one of a rollback itself."""
    promotions = approvals.list_promotions(context.project)
    if not context.config.watch.rollback or not promotions:
        return None
    current = promotions[0]
    was_champion_before = any(earlier.version == current.version for earlier in promotions[1:])
    if current.previous_version is None or was_champion_before:
        return None
    return current


def _list_uncompared_windows(
    context: WatchContext,
    promotion: PromotionRecord,
    as_of: datetime,
) -> list[WindowRecord]:
    """List the windows that may have rows of the champion, whose labels are due."""
    comparisons = list_comparisons_since(context, promotion)
    compared_starts = {record.window_start for record, _ in comparisons}
    made_as_of = datetime.fromisoformat(context.get_champion().version.as_of)
    windows = []
    for window in context.list_monitored_windows():
        end = datetime.fromisoformat(window.end)
        is_due = end + context.config.label_delay <= as_of
        if is_due and end > made_as_of and window.start not in compared_starts:
            windows.append(window)
    return windows[: context.config.watch.rollback_windows - len(comparisons)]


def _compare_window(
    context: WatchContext,
    promotion: PromotionRecord,
    window: WindowRecord,
    as_of: datetime,
) -> None:
    """Compare both versions on a window, and store the comparison once its labels are mature."""
    predecessor = versions.load_version(context.project, promotion.previous_version or "")
    scored = score_with_version(
        context,
        predecessor,
        datetime.fromisoformat(window.start),
        datetime.fromisoformat(window.end),
    )
    labeled_share = float(scored.rows["label"].notna().mean()) if len(scored.rows) else 1.0
    note = scored.note
    if labeled_share < MIN_LABELED_SHARE:
        due_at = datetime.fromisoformat(window.end) + context.config.label_delay
        if as_of < due_at + _LATE_LABELS_GRACE:
            return
        note = f"only {labeled_share:.0%} of the rows have a label"
    comparison = PredecessorComparison(promotion.version, predecessor.version, note=note)
    if not note:
        comparison = _measure_gain(context, promotion, predecessor, scored)
    record = PredecessorComparisonRecord(
        model=context.config.name,
        promotion_number=promotion.number,
        window_start=window.start,
        compared_at=format_timestamp(as_of),
        comparison_json=comparison.to_json(),
    )
    with open_transaction(context.project) as transaction:
        transaction.add(record)
    if comparison.gain is not None:
        title = METRICS[context.config.headline_metric].title
        sentence = (
            f"version {comparison.version} beside version {comparison.predecessor} on the same "
            f"{format_number(comparison.rows)} rows: gain in {title} "
            f"{format_number(comparison.gain)}, {comparison.interval} since its promotion"
        )
        context.report_lines(as_of, [sentence])


def _measure_gain(
    context: WatchContext,
    promotion: PromotionRecord,
    predecessor: ModelVersion,
    scored: ComparedRows,
) -> PredecessorComparison:
    """Measure the champion's gain in a window, and over all windows since its promotion."""
    config = context.config
    gain = measure_champion_gain(context, predecessor, scored)
    if gain is None:
        return PredecessorComparison(
            promotion.version,
            predecessor.version,
            note="the metric cannot be computed on its rows",
        )
    gains = [gain]
    for _, earlier in list_comparisons_since(context, promotion):
        if earlier.paired_gain is not None:
            gains.append(earlier.paired_gain)
    interval = compute_sequential_interval(gains)
    return PredecessorComparison(
        version=promotion.version,
        predecessor=predecessor.version,
        rows=gain.rows,
        gain=gain.value,
        variance=gain.variance,
        degrees_of_freedom=gain.degrees_of_freedom,
        mean_gain=interval.value,
        low=interval.low,
        high=interval.high,
        is_worse=shows_loss(interval, config.review.margin),
    )


def _roll_back(
    context: WatchContext,
    comparison: PredecessorComparison,
    as_of: datetime,
) -> None:
    """Roll the champion back to the version that it replaced."""
    title = METRICS[context.config.headline_metric].title
    sentence = (
        f"On the same rows version {comparison.version} was worse than version "
        f"{comparison.predecessor} would have been: gain in {title} {comparison.interval}."
    )
    signal = IncidentSignal(
        incidents.ROLLBACK_SIGNAL,
        IncidentSeverity.CRITICAL,
        f"Version {comparison.version} was rolled back to version {comparison.predecessor}",
        sentence,
    )
    reason = f"rollback: {sentence}"
    change_champion(context, comparison.predecessor, ROLLBACK_ACTOR, reason, signal, as_of)


def _update_promotion_stop(context: WatchContext, as_of: datetime) -> None:
    """Open an incident while automatic promotion is stopped; a person's decision closes it."""
    stop = find_promotion_stop(context.project)
    signals = []
    close_reason = ""
    if stop is not None:
        signals.append(
            IncidentSignal(
                incidents.PROMOTION_STOP_SIGNAL,
                IncidentSeverity.CRITICAL,
                "Automatic promotion is stopped",
                stop.sentence,
            )
        )
    decisions = list_operator_decisions(context.project, DecisionKind.PROMOTION_ENABLED)
    if decisions:
        close_reason = f"enabled again by {decisions[0].actor}: {decisions[0].reason}"
    with open_transaction(context.project) as transaction:
        lines = update_incidents(
            transaction,
            context.config,
            {incidents.PROMOTION_STOP_SIGNAL},
            signals,
            as_of,
            close_reason,
        )
    context.report_lines(as_of, lines)
