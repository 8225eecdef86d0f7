"""Alerts of a policy, and how many of them were false.

An alert is a window in which the policy has a reason to retrain, whether a guard blocked it or not.
It was false if a retraining then would not have helped: no model made as of that pass is better
than the one that served, by at least ``review.margin``, in the windows that follow (up to four).
"""

from __future__ import annotations

from typing import NamedTuple

from mlops_kit.core.lazy import np
from mlops_kit.watch.policy_replay.fits import FitRequest, ReplayFit
from mlops_kit.watch.policy_replay.losses import WindowLosses
from mlops_kit.watch.policy_replay.simulation import PolicyTimeline, ReplayDecision

_FOLLOWED_WINDOWS = 4


class AlarmCounts(NamedTuple):
    """How many alerts there were, and how many of them were false."""

    alerts: int
    false_alarms: int


def count_alarms(
    timeline: PolicyTimeline, losses: WindowLosses, fits: dict[FitRequest, ReplayFit]
) -> AlarmCounts:
    """Count the alerts of a policy; those without a following window are not counted as false."""
    alerts = [decision for decision in timeline.decisions if decision.is_alert]
    gains = [_measure_gain_of_retraining(decision, losses, fits) for decision in alerts]
    margin = losses.history.project.config.review.margin
    false_alarms = sum(gain is not None and gain < margin for gain in gains)
    return AlarmCounts(len(alerts), false_alarms)


def _measure_gain_of_retraining(
    decision: ReplayDecision, losses: WindowLosses, fits: dict[FitRequest, ReplayFit]
) -> float | None:
    """Measure by how much the best model made at a decision is better afterwards."""
    following = []
    for window in losses.history.windows:
        if window.end > decision.as_of and losses.row_counts[window.number]:
            following.append(window.number)
    numbers = following[:_FOLLOWED_WINDOWS]
    candidates = []
    for fit in fits.values():
        if fit.request.as_of == decision.as_of and fit.is_usable:
            candidates.append(fit)
    if not numbers or not candidates:
        return None
    weights = losses.row_counts[numbers]
    champion = losses.get_losses(fits[decision.champion])[numbers]
    gains = []
    for fit in candidates:
        saved = champion - losses.get_losses(fit)[numbers]
        gains.append(float(np.average(saved, weights=weights)))
    return max(gains)
