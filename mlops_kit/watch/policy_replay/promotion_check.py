"""Whether a new version of a replay is promoted, and whether it is rolled back later.

The check is that of the review against the champion, on the held-out rows of the new version, with
a model of the champion that has not learned from them. Approval is automatic.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlops_kit.core.lazy import np
from mlops_kit.core.results import CheckOutcome, Interval
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review.champion_comparison import (
    DifferenceOutcome,
    classify_difference,
    get_promotion_outcome,
)
from mlops_kit.stats.bootstrap import compute_paired_difference
from mlops_kit.stats.paired_gains import (
    PairedGain,
    ScoredRows,
    compute_sequential_interval,
    measure_paired_gain,
    shows_loss,
)
from mlops_kit.watch.policy_replay.fits import ReplayFit
from mlops_kit.watch.policy_replay.history import ReplayHistory


def is_promoted(
    history: ReplayHistory,
    challenger: ReplayFit,
    champion: ReplayFit,
    must_gain: bool,
) -> bool:
    """Whether a new version may replace the champion.

    Parameters
    ----------
    must_gain : bool
        ``review.require_gain``: whether it has to be better than the champion.
    """
    config = history.project.config
    gain = measure_gain_over_champion(history, challenger, champion, must_gain)
    difference = DifferenceOutcome.CANNOT_TELL
    if gain is not None:
        difference = classify_difference(gain, config.review.margin)
    return get_promotion_outcome(difference, must_gain) != CheckOutcome.FAILED


def measure_gain_over_champion(
    history: ReplayHistory,
    challenger: ReplayFit,
    champion: ReplayFit,
    must_gain: bool,
) -> Interval | None:
    """Measure the gain over the champion on the held-out rows; None if they cannot be compared."""
    config = history.project.config
    positions = challenger.held_out
    champion_scores = _select_comparable_scores(history, champion, positions, must_gain)
    if champion_scores is None:
        return None
    is_scored = np.isfinite(champion_scores).reshape(len(positions), -1).all(axis=1)
    positions = positions[is_scored]
    if not len(positions):
        return None
    rows = history.get_window_rows(positions, challenger.request.as_of)
    return compute_paired_difference(
        config.headline_metric,
        rows[config.target].to_numpy(float),
        (challenger.evaluation_scores[positions], champion_scores[is_scored]),
        get_sampling_design(rows, config),
        config.review.draws,
        config.seed,
    )


def _select_comparable_scores(
    history: ReplayHistory, champion: ReplayFit, positions: np.ndarray, must_gain: bool
) -> np.ndarray | None:
    """Select the scores of the champion's model that has not learned from the rows."""
    first_new_row = history.find_position(champion.request.as_of)
    if must_gain or positions.min() >= first_new_row:
        return np.asarray(champion.final_scores[positions])
    if positions.min() >= champion.held_out.min():
        return np.asarray(champion.evaluation_scores[positions])
    return None


def measure_window_gain(
    history: ReplayHistory,
    champion: ReplayFit,
    predecessor: ReplayFit,
    positions: np.ndarray,
    threshold: float | None,
) -> PairedGain | None:
    """Measure the champion's gain over the version that it replaced, on rows that it scored."""
    config = history.project.config
    rows = history.table.iloc[positions]
    return measure_paired_gain(
        config.headline_metric,
        ScoredRows(
            labels=rows[config.target].to_numpy(float),
            scores=champion.final_scores[positions],
            other_scores=predecessor.final_scores[positions],
            threshold=threshold,
            other_threshold=threshold,
        ),
        get_sampling_design(rows, config),
    )


def has_to_roll_back(gains: Sequence[PairedGain], config: ProjectConfig) -> bool:
    """Whether the gains of all windows since a promotion show that the champion is worse."""
    return shows_loss(compute_sequential_interval(gains), config.review.margin)
