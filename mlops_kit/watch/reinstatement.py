"""Reinstatement: an earlier champion serves again once the concept that it knew has returned.

When the daily losses of the champion show a change (``mlops_kit.watch.change_detection``), each of
the last versions that were in service scores the labeled rows since the change, from the features
that were logged. One that is better than the champion, with its whole interval and by more than
``review.margin``, and whose performance is within its own limit, becomes champion again in the same
pass. That takes fewer labels than a retraining, which also needs rows to train on, and a concept
that comes and goes is answered with the models that know it. The idea is that of a repository of
earlier models (Widmer & Kubat, "Learning in the presence of concept drift and hidden contexts",
Machine Learning 23 (1996)).

Days with faults do not count (``mlops_kit.watch.row_quarantine``); those of labels are known once
their window is over.

A champion that was never better than the version before it is left to the rollback, and for
``retrain.cooldown`` after the champion has changed nothing is reinstated.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import CheckOutcome, Interval
from mlops_kit.core.tasks import to_score_column
from mlops_kit.data.columns import format_local_days
from mlops_kit.db import approvals
from mlops_kit.db.approvals import REINSTATING_ACTOR
from mlops_kit.db.operator_decisions import list_earlier_versions
from mlops_kit.db.predictions import find_last_row_of_others
from mlops_kit.db.tables import PromotionRecord
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry import versions
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.monitor.alerts import check_realized_performance
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stages.monitor.incidents import (
    REINSTATEMENT_SIGNAL,
    IncidentSeverity,
    IncidentSignal,
)
from mlops_kit.stages.monitor.realized import measure_labeled_rows
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.paired_gains import compute_sequential_interval
from mlops_kit.watch.champion_change import change_champion
from mlops_kit.watch.change_detection import SuspectedChange, find_suspected_change
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.predecessor import MIN_LABELED_SHARE, list_comparisons_since
from mlops_kit.watch.row_quarantine import find_faulty_days_since
from mlops_kit.watch.version_scoring import (
    ComparedRows,
    measure_champion_gain,
    score_with_version,
)

_MAX_CANDIDATES = 3  # versions that were in service last
_MIN_ROWS = 100  # labeled since the change
# Of one look at one version; looks are taken only while the losses show a change.
_ERROR_RATE = 0.001


class _Candidate(NamedTuple):
    """An earlier version, and the champion's loss beside it since the change."""

    version: ModelVersion
    rows: int
    champion_gain: float
    interval: Interval


def reinstate_earlier_version(context: WatchContext, as_of: datetime) -> None:
    """Make an earlier champion serve again if it is better on the rows since a change."""
    promotions = approvals.list_promotions(context.project)
    earlier_versions = list_earlier_versions(promotions)[:_MAX_CANDIDATES]
    if not context.config.watch.reinstate or not earlier_versions:
        return
    if not _has_served_well(context, promotions, as_of):
        return
    change = find_suspected_change(context, as_of)
    if change is None:
        return
    best = _find_best_version(context, earlier_versions, change, as_of)
    if best is None:
        return
    faulty_days = find_faulty_days_since(context, change.time, as_of)
    if faulty_days:
        best = _find_best_version(context, earlier_versions, change, as_of, faulty_days)
    if best is None:
        days = ", ".join(faulty_days)
        context.report_lines(as_of, [f"no version is reinstated for rows with faults: {days}"])
        return
    _reinstate(context, best, change, as_of)


def _find_best_version(
    context: WatchContext,
    earlier_versions: list[str],
    change: SuspectedChange,
    as_of: datetime,
    faulty_days: Sequence[str] = (),
) -> _Candidate | None:
    """Find the earlier version that is most clearly better than the champion since a change."""
    best = None
    for name in earlier_versions:
        try:
            candidate = _compare_version(context, name, change, as_of, faulty_days)
        except RunFailedError as error:  # its run or its model is gone
            context.report_lines(as_of, [f"version {name} cannot be compared: {error}"])
            continue
        if candidate is not None and (best is None or candidate.champion_gain < best.champion_gain):
            best = candidate
    return best


def _has_served_well(
    context: WatchContext, promotions: list[PromotionRecord], as_of: datetime
) -> bool:
    """Whether the champion has served for long enough, and was better than the one before it."""
    champion = promotions[0].version
    replaced_at = find_last_row_of_others(context.project, champion)
    if replaced_at is not None and as_of - replaced_at < context.config.retrain.cooldown:
        return False
    if any(promotion.version == champion for promotion in promotions[1:]):
        return True  # it was reinstated itself, or a rollback led back to it
    comparisons = list_comparisons_since(context, promotions[0])
    gains = [comparison.mean_gain for _, comparison in comparisons]
    measured_gains = [gain for gain in gains if gain is not None]
    return bool(measured_gains) and measured_gains[-1] > 0


def _compare_version(
    context: WatchContext,
    name: str,
    change: SuspectedChange,
    as_of: datetime,
    faulty_days: Sequence[str],
) -> _Candidate | None:
    """Compare an earlier version with the champion since the change; None if it is not better."""
    config = context.config
    version = versions.load_version(context.project, name)
    end = as_of - config.label_delay
    compared = score_with_version(context, version, change.time, end)
    compared = _leave_out_days(compared, faulty_days, config)
    if compared.other_scores is None or len(compared.rows) < _MIN_ROWS:
        return None
    if float(compared.rows["label"].notna().mean()) < MIN_LABELED_SHARE:
        return None
    gain = measure_champion_gain(context, version, compared)
    if gain is None:
        return None
    interval = compute_sequential_interval([gain], 2 * _ERROR_RATE)
    if interval.value is None or interval.high is None:
        return None
    is_better = interval.high < 0 and interval.value < -config.review.margin
    if not is_better or not _is_within_limit(context, version, compared):
        return None
    return _Candidate(version, gain.rows, interval.value, interval)


def _leave_out_days(
    compared: ComparedRows, days: Sequence[str], config: ProjectConfig
) -> ComparedRows:
    """Leave the rows of some days out of a comparison."""
    if compared.other_scores is None or not days:
        return compared
    row_days = pd.Series(format_local_days(compared.rows["moment"], config))
    is_kept = ~row_days.isin(days).to_numpy()
    return ComparedRows(
        compared.rows[is_kept].reset_index(drop=True),
        compared.sampling[is_kept].reset_index(drop=True),
        np.asarray(compared.other_scores)[is_kept],
    )


def _is_within_limit(context: WatchContext, version: ModelVersion, compared: ComparedRows) -> bool:
    """Whether an earlier version performs on these rows as well as it should."""
    config = context.config
    scored = compared.sampling.assign(
        **{
            config.target: compared.rows["label"],
            SCORE_COLUMN: to_score_column(np.asarray(compared.other_scores)),
        }
    )
    performance = context.get_reference(version.version).performance
    realized = measure_labeled_rows(scored, config, performance, config.seed)
    return check_realized_performance(realized, config).outcome == CheckOutcome.PASSED


def _reinstate(
    context: WatchContext, candidate: _Candidate, change: SuspectedChange, as_of: datetime
) -> None:
    """Promote an earlier version again."""
    champion = context.get_champion().version.version
    name = candidate.version.version
    title = METRICS[context.config.headline_metric].title
    sentence = (
        f"{change.sentence} On the {format_number(candidate.rows)} labeled rows since then version "
        f"{champion} is worse than version {name}: gain in {title} {candidate.interval}."
    )
    signal = IncidentSignal(
        REINSTATEMENT_SIGNAL,
        IncidentSeverity.WARNING,
        f"Version {name} serves again in place of version {champion}",
        sentence,
    )
    change_champion(context, name, REINSTATING_ACTOR, sentence, signal, as_of)
