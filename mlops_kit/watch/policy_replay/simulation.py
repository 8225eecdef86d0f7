"""One policy on the replayed history: what it would have decided in each window, and served.

The decisions are those of ``mlops_kit.stages.retrain`` on the monitoring of ``mlops_kit.watch``,
with what was known at each pass. Every retraining makes a version at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stages.retrain import RetrainingEvidence, decide_retraining
from mlops_kit.stages.retrain.policy import (
    PERFORMANCE_REASONS,
    RECOVERY_REASON,
    SUPERSEDED_RULE,
    RetrainingAction,
    RetrainingDecision,
    RuleRole,
)
from mlops_kit.stats.monitoring_tables import (
    CONCEPT_DRIFT_CHECK,
    CONFIRMED_DRIFT_CHECK,
    REALIZED_PERFORMANCE_CHECK,
)
from mlops_kit.stats.paired_gains import PairedGain
from mlops_kit.watch.change_detection import (
    MAX_CHANGE_PERIOD,
    SuspectedChange,
    locate_change,
    make_losses,
)
from mlops_kit.watch.incomplete_recovery import (
    count_required_labels,
    describe_incomplete_recovery,
)
from mlops_kit.watch.policy_replay.fits import FitRequest
from mlops_kit.watch.policy_replay.history import ReplayWindow
from mlops_kit.watch.policy_replay.policies import ReplayPolicy
from mlops_kit.watch.policy_replay.promotion_check import (
    has_to_roll_back,
    is_promoted,
    measure_window_gain,
)
from mlops_kit.watch.policy_replay.store import ReplayStore
from mlops_kit.watch.predecessor import MIN_LABELED_SHARE
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance, is_drop_growing

_PERFORMANCE_CHECKS = (
    REALIZED_PERFORMANCE_CHECK,
    CONCEPT_DRIFT_CHECK,
    CONFIRMED_DRIFT_CHECK,
)
_MAX_ROLLBACKS_IN_A_ROW = 2
_DUE_LATER_REASON = "A later window is evaluated in the same pass, and decides."


class ServingPeriod(NamedTuple):
    """From when on a model serves."""

    request: FitRequest
    start: datetime


class ReplayDecision(NamedTuple):
    """What a policy decided when the labels of a window were due.

    Attributes
    ----------
    window : int
        The number of the window.
    as_of : datetime
        When the decision was made.
    champion : FitRequest
        The model that served.
    action : str
        A ``RetrainingAction``.
    reason : str
        Why, in a sentence.
    is_alert : bool
        Whether the policy had a reason to retrain.
    outcome : str
        What became of a retraining: ``promoted``, ``not promoted`` or why there is no model; of a
        rollback ``rolled back``; else empty.
    """

    window: int
    as_of: datetime
    champion: FitRequest
    action: str
    reason: str
    is_alert: bool
    outcome: str = ""


class PolicyTimeline(NamedTuple):
    """What a policy would have done.

    Attributes
    ----------
    name : str
        The policy.
    periods : list of ServingPeriod
        Which models would have served, in the order of time.
    decisions : list of ReplayDecision
        The decision of each window.
    retrained_at : list of datetime
        When it would have retrained, the retrainings without a promotion included.
    requests : list of FitRequest
        The models that its retrainings made.
    """

    name: str
    periods: list[ServingPeriod]
    decisions: list[ReplayDecision]
    retrained_at: list[datetime]
    requests: list[FitRequest]


class _EvaluatedWindow(NamedTuple):
    window: ReplayWindow
    request: FitRequest
    performance: WindowPerformance


@dataclass
class _Rollbacks:
    """What the comparison with the replaced version has found since the last promotion."""

    gains: list[PairedGain] = field(default_factory=list)
    waiting: list[ReplayWindow] = field(default_factory=list)  # for labels
    is_over: bool = False
    in_a_row: int = 0


class _WindowFindings(NamedTuple):
    """A window with what its monitoring and its labels show."""

    window: ReplayWindow
    request: FitRequest
    positions: np.ndarray
    monitoring: WindowMonitoring
    performance: WindowPerformance


class PolicySimulation:
    """The simulation of one policy.

    Parameters
    ----------
    store : ReplayStore
        Fits and windows.
    policy : ReplayPolicy
        The policy.
    """

    def __init__(self, store: ReplayStore, policy: ReplayPolicy) -> None:
        self.store = store
        self.history = store.history
        self.policy = policy
        self.config = policy.project.config
        first = FitRequest(self.history.start)
        self.timeline = PolicyTimeline(
            policy.name, [ServingPeriod(first, self.history.start)], [], [], []
        )
        self._evaluated: list[_EvaluatedWindow] = []
        self._decided_at: list[datetime] = []
        self._replaced: FitRequest | None = None
        self._rolled_back: set[FitRequest] = set()
        self._rollbacks = _Rollbacks()

    @property
    def champion(self) -> FitRequest:
        """The model that serves."""
        return self.timeline.periods[-1].request

    def run(self) -> PolicyTimeline:
        """Replay all windows."""
        windows = self.history.windows
        for as_of, due in groupby(windows, key=lambda window: window.evaluated_at):
            self._run_pass(as_of, list(due))
        return self.timeline

    def _run_pass(self, as_of: datetime, due_windows: list[ReplayWindow]) -> None:
        """Evaluate the windows whose labels are due, roll back, and retrain."""
        decision = None
        findings = None
        for window in due_windows:
            later_window_reason = "" if window is due_windows[-1] else _DUE_LATER_REASON
            findings = self._evaluate_window(window, as_of)
            if findings is None:
                continue
            decision = self._decide(findings, as_of, later_window_reason)
            self._record_decision(findings, as_of, decision)
            self._compare_with_replaced(window, as_of)
        if decision is not None and findings is not None and decision.should_retrain:
            self._retrain(findings, as_of, decision)

    def _evaluate_window(self, window: ReplayWindow, as_of: datetime) -> _WindowFindings | None:
        """Evaluate the rows of one version in a window, as the watch selects them."""
        positions_by_request = self._list_served_positions(window)
        if not positions_by_request:
            return None
        request = self._choose_version(positions_by_request)
        positions = positions_by_request[request]
        rows_by_version = {}
        for served, rows in positions_by_request.items():
            rows_by_version[served.key] = len(rows)
        first = self.history.find_position(window.start)
        last = self.history.find_position(window.end)
        monitoring = replace(
            self.store.get_monitoring(request, positions),
            rows_by_version=rows_by_version,
            rejected_rows=int(self.history.rejected[first:last].sum()),
        )
        performance = self.store.get_performance(
            request, positions, as_of, self._count_windows_below(request)
        )
        return _WindowFindings(window, request, positions, monitoring, performance)

    def _list_served_positions(self, window: ReplayWindow) -> dict[FitRequest, np.ndarray]:
        """List the rows of a window that each model scored."""
        positions_by_request: dict[FitRequest, np.ndarray] = {}
        periods = self.timeline.periods
        ends = [period.start for period in periods[1:]] + [window.end]
        for period, end in zip(periods, ends, strict=True):
            start = max(period.start, window.start)
            positions = self.history.list_positions(start, min(end, window.end))
            if not len(positions):
                continue
            earlier = positions_by_request.get(period.request, positions[:0])
            positions_by_request[period.request] = np.concatenate([earlier, positions])
        return positions_by_request

    def _choose_version(self, positions_by_request: dict[FitRequest, np.ndarray]) -> FitRequest:
        """Choose the last model with enough rows, else the one with the most."""
        for request in reversed(positions_by_request):
            if len(positions_by_request[request]) >= self.config.monitor.min_rows:
                return request
        return max(positions_by_request, key=lambda request: len(positions_by_request[request]))

    def _count_windows_below(self, request: FitRequest) -> int:
        """Count the consecutive earlier windows of a model that are below the estimate."""
        count = 0
        for earlier in reversed(self._evaluated):
            if earlier.request != request:
                continue
            if not earlier.performance.is_below_estimate:
                break
            count += 1
        return count

    def _find_earlier_performance(self, request: FitRequest) -> WindowPerformance | None:
        """Find what the labels of the window before show of the same model; None: there is none."""
        for earlier in reversed(self._evaluated):
            if earlier.request == request:
                return earlier.performance
        return None

    def _decide(
        self, findings: _WindowFindings, as_of: datetime, later_window_reason: str
    ) -> RetrainingDecision:
        """Decide by the rules of the package and of plugins, on what is known at a pass."""
        monitoring = findings.monitoring
        performance = findings.performance
        superseded_reason = later_window_reason
        if not superseded_reason and findings.request != self.champion:
            superseded_reason = "The window is of a version that another one has replaced."
        change = None
        if any(performance.has_failed(check) for check in _PERFORMANCE_CHECKS):
            change = self._find_change(as_of)
        scored_rows = sum(monitoring.rows_by_version.values())
        rows = scored_rows + monitoring.rejected_rows
        days = self.config.watch.window / timedelta(days=1)
        last_retraining = self._decided_at[-1] if self._decided_at else None
        budget_start = as_of - self.config.retrain.budget_period
        earlier = self._find_earlier_performance(findings.request)
        has_earlier_drop = earlier is not None and earlier.has_failed(REALIZED_PERFORMANCE_CHECK)
        is_drop_confirmed = change is not None or has_earlier_drop
        recovery_reason = ""
        if not superseded_reason:
            recovery_reason = self._find_incomplete_recovery(performance, as_of)
        pending_reason = ""
        if self._rollbacks.in_a_row >= _MAX_ROLLBACKS_IN_A_ROW:
            pending_reason = "Two rollbacks in a row have stopped automatic promotion."
        return decide_retraining(
            RetrainingEvidence(
                drift=monitoring.drift,
                realized=performance.realized,
                alerts=performance.verdicts,
                config=self.config,
                labeled_rows=self._count_new_labels(as_of),
                model_age=as_of - self.champion.as_of,
                time_since_last=as_of - last_retraining if last_retraining else None,
                pending_reason=pending_reason,
                superseded_reason=superseded_reason,
                rejected_share=monitoring.rejected_rows / rows if rows else 0.0,
                recent_retrainings=sum(time > budget_start for time in self._decided_at),
                change_reason=change.describe_missing_rows() if change else "",
                decisions_per_day=scored_rows / days,
                is_drop_confirmed=is_drop_confirmed,
                is_drop_growing=is_drop_confirmed
                and is_drop_growing(performance, earlier, self.config.headline_metric),
                recovery_reason=recovery_reason,
            )
        )

    def _find_incomplete_recovery(self, performance: WindowPerformance, as_of: datetime) -> str:
        """Find why another retraining may complete the recovery of the champion; empty: none may.

        The watch does the same in ``mlops_kit.watch.incomplete_recovery``.
        """
        attempts = sum(self.champion.as_of < time < as_of for time in self._decided_at)
        required_labels = count_required_labels(self.config.retrain.min_labels, attempts)
        if self._count_new_labels(as_of) < required_labels:
            return ""
        references = {}
        for period in self.timeline.periods[-2::-1]:
            model = period.request
            if model == self.champion or model in self._rolled_back:
                continue
            reference = self.store.get_reference_performance(model)
            if reference is not None:
                references[f"as of {model.as_of:%Y-%m-%d}"] = reference
        return describe_incomplete_recovery(performance.realized, references, self.config)

    def _count_new_labels(self, as_of: datetime) -> int:
        """Count the scored rows whose label was not known yet when the champion was made."""
        since = max(self.champion.as_of - self.config.label_delay, self.history.start)
        rows = self.history.get_window_rows(self.history.list_positions(since, as_of), as_of)
        return int(rows[self.config.target].notna().sum())

    def _find_change(self, as_of: datetime) -> SuspectedChange | None:
        """Find since when the losses of the champion are higher, by the labels known at a pass."""
        config = self.config
        champion = self.store.get_fit(self.champion)
        reference = self.store.get_reference_rows(self.champion)
        since = max(self.champion.as_of, as_of - MAX_CHANGE_PERIOD)
        positions = self._list_champion_positions(since, as_of)
        served = self.history.get_window_rows(positions, as_of)
        scores = self.store.make_predictions(champion.request, positions)[SCORE_COLUMN]
        losses = [
            make_losses(
                config, reference[config.time], reference[config.target], reference[SCORE_COLUMN]
            ),
            make_losses(config, served[config.time], served[config.target], scores),
        ]
        return locate_change(pd.concat(losses), config)

    def _list_champion_positions(self, start: datetime, end: datetime) -> np.ndarray:
        """List the rows that the champion scored."""
        periods = self.timeline.periods
        ends = [period.start for period in periods[1:]] + [end]
        positions = [self.history.list_positions(end, end)]
        for period, period_end in zip(periods, ends, strict=True):
            if period.request == self.champion:
                first = max(start, period.start)
                positions.append(self.history.list_positions(first, min(period_end, end)))
        return np.concatenate(positions)

    def _record_decision(
        self, findings: _WindowFindings, as_of: datetime, decision: RetrainingDecision
    ) -> None:
        applying = {result.rule for result in decision.list_applying(RuleRole.GUARD)}
        has_reason = decision.action in (RetrainingAction.RETRAIN, RetrainingAction.WAIT)
        self._evaluated.append(
            _EvaluatedWindow(findings.window, findings.request, findings.performance)
        )
        self.timeline.decisions.append(
            ReplayDecision(
                window=findings.window.number,
                as_of=as_of,
                champion=self.champion,
                action=decision.action.value,
                reason=decision.reason,
                is_alert=has_reason and SUPERSEDED_RULE not in applying,
            )
        )

    def _set_outcome(self, outcome: str) -> None:
        self.timeline.decisions[-1] = self.timeline.decisions[-1]._replace(outcome=outcome)

    def _retrain(
        self, findings: _WindowFindings, as_of: datetime, decision: RetrainingDecision
    ) -> None:
        """Make a version as of a pass, and promote it if the review lets it."""
        reasons = {result.rule for result in decision.list_applying(RuleRole.REASON)}
        request = FitRequest(as_of, self._find_change_time(reasons, as_of))
        self.timeline.retrained_at.append(as_of)
        self.timeline.requests.append(request)
        self._decided_at.append(findings.window.labels_due_at)
        challenger = self.store.get_fit(request)
        if not challenger.is_usable:
            self._set_outcome(f"no version: {challenger.summary.note}")
            return
        must_gain = self.config.review.require_gain or not reasons.isdisjoint(PERFORMANCE_REASONS)
        champion = self.store.get_fit(self.champion)
        if not is_promoted(self.history, challenger, champion, must_gain):
            self._set_outcome("not promoted")
            return
        self._set_outcome("promoted")
        self._replaced = self.champion
        # A version that was not rolled back ends a series of rollbacks.
        rollbacks_in_a_row = self._rollbacks.in_a_row if self._rollbacks.is_over else 0
        self._rollbacks = _Rollbacks(in_a_row=rollbacks_in_a_row)
        self.timeline.periods.append(ServingPeriod(request, as_of))

    def _find_change_time(self, reasons: set[str], as_of: datetime) -> datetime | None:
        """Find since when the concept differs from the one before; None if it does not."""
        change = self._find_change(as_of)
        if change is not None:
            return change.time
        if RECOVERY_REASON not in reasons:
            return None
        return self.champion.as_of - self.config.label_delay

    def _compare_with_replaced(self, window: ReplayWindow, as_of: datetime) -> None:
        """Compare the champion with the version that it replaced; roll it back if it is worse.

        A window waits until nearly all of its rows have a label, as it does in the watch.
        """
        watch = self.config.watch
        rollbacks = self._rollbacks
        replaced = self._replaced
        if not watch.rollback or rollbacks.is_over or replaced is None:
            return
        if window.end > self.champion.as_of:
            rollbacks.waiting.append(window)
        for waiting in rollbacks.waiting.copy():
            if len(rollbacks.gains) >= watch.rollback_windows:
                return
            start = max(waiting.start, self.timeline.periods[-1].start)
            positions = self.history.list_positions(start, waiting.end)
            labeled_positions = self._keep_labeled(positions, as_of)
            if len(labeled_positions) < MIN_LABELED_SHARE * len(positions):
                continue
            rollbacks.waiting.remove(waiting)
            if not len(positions):
                continue
            gain = measure_window_gain(
                self.history,
                self.store.get_fit(self.champion),
                self.store.get_fit(replaced),
                labeled_positions,
                self.store.recipe.threshold,
            )
            if gain is None:
                continue
            rollbacks.gains.append(gain)
            if has_to_roll_back(rollbacks.gains, self.config):
                self._set_outcome("rolled back")
                self._rolled_back.add(self.champion)
                self.timeline.periods.append(ServingPeriod(replaced, as_of))
                self._rollbacks = _Rollbacks(is_over=True, in_a_row=rollbacks.in_a_row + 1)
                return

    def _keep_labeled(self, positions: np.ndarray, as_of: datetime) -> np.ndarray:
        rows = self.history.get_window_rows(positions, as_of)
        return positions[rows[self.config.target].notna().to_numpy()]
