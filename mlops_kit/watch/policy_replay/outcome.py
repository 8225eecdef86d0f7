"""What the policies of a replay did and what they cost."""

from __future__ import annotations

from typing import NamedTuple

from mlops_kit.watch.policy_replay.alarms import AlarmCounts
from mlops_kit.watch.policy_replay.costs import CostRatio, PolicyChoice, PolicyLoss
from mlops_kit.watch.policy_replay.losses import WindowLosses
from mlops_kit.watch.policy_replay.simulation import PolicyTimeline


class ReplayedPolicy(NamedTuple):
    """What a policy did and what it cost, the oracle's at one ratio of costs.

    Attributes
    ----------
    loss : PolicyLoss
        Its losses and retrainings.
    promotions : int
        How many versions it promoted.
    alarms : AlarmCounts
        Its alerts.
    """

    loss: PolicyLoss
    promotions: int
    alarms: AlarmCounts


class ReplayOutcome(NamedTuple):
    """All policies of a replay.

    Attributes
    ----------
    policies : list of ReplayedPolicy
        The policies without the oracle.
    oracles : list of ReplayedPolicy
        The oracle at each ratio of costs.
    ratios : list of CostRatio
        The ratios.
    choices : list of PolicyChoice
        The recommendation at each ratio.
    timelines : list of PolicyTimeline
        What each policy decided.
    losses : WindowLosses
        The losses of all models.
    """

    policies: list[ReplayedPolicy]
    oracles: list[ReplayedPolicy]
    ratios: list[CostRatio]
    choices: list[PolicyChoice]
    timelines: list[PolicyTimeline]
    losses: WindowLosses
