"""What the windows of a version are compared with."""

from __future__ import annotations

from typing import Any, NamedTuple

from mlops_kit.core.lazy import pd
from mlops_kit.stages.monitor.performance_estimate import OutcomeModel
from mlops_kit.stages.monitor.profile_records import ReferenceProfile
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stages.monitor.season import DriftHistory


class ReferenceData(NamedTuple):
    """What a version was evaluated on.

    Attributes
    ----------
    rows : DataFrame
        The held-out rows: features, target and score.
    performance : ReferencePerformance or None
        Reference performance: the headline metric that the review measured.
    outcomes : OutcomeModel
        What the labels of new rows are drawn from, fitted on the held-out rows.
    classes : tuple
        The classes in the order of the version's codes; empty for a regression.
    threshold : float or None
        The decision threshold of the version.
    profile : ReferenceProfile or None
        The bins in which windows are compared, the profile of the rows in them, and that of all
        rows that the version was made from; None where windows are not profiled.
    """

    feature_names: list[str]
    rows: pd.DataFrame
    performance: ReferencePerformance | None
    outcomes: OutcomeModel
    classes: tuple[Any, ...] = ()
    threshold: float | None = None
    profile: ReferenceProfile | None = None

    @property
    def history(self) -> DriftHistory | None:
        """The profile of the rows that the version was made from; None if there is none."""
        if self.profile is None or self.profile.history is None:
            return None
        history = self.profile.history
        bins = {name: self.profile.bins[name] for name in history.counts}
        return DriftHistory(bins, history)
