"""The oracle: the retraining days of least cost, chosen in hindsight with all labels.

It has the same recipe and pays the same cost. Its candidates are a retraining at each pass at
which labels were due, and every model that a policy made, so that no policy without a rollback
costs less. The days are found by dynamic programming over which model serves from when.

References
----------
Mahadevan & Mathioudakis, "Cost-effective retraining of machine learning models" (CARA),
arXiv:2310.04216 (2023).
"""

from __future__ import annotations

from collections.abc import Sequence

from mlops_kit.core.lazy import np
from mlops_kit.watch.policy_replay.fits import ReplayFit
from mlops_kit.watch.policy_replay.losses import WindowLosses
from mlops_kit.watch.policy_replay.simulation import ServingPeriod


def find_best_periods(
    losses: WindowLosses, fits: Sequence[ReplayFit], retraining_cost: float
) -> list[ServingPeriod]:
    """Find which models should have served from when.

    Parameters
    ----------
    losses : WindowLosses
        The loss of each model.
    fits : sequence of ReplayFit
        The model at the start, then the candidates.
    retraining_cost : float
        The cost of a retraining, in units of the loss of a row.
    """
    history = losses.history
    first, *others = fits
    candidates = [first]
    for fit in sorted(others, key=lambda fit: fit.request.as_of):
        if fit.is_usable and fit.request.as_of > history.start:
            candidates.append(fit)
    starts = [fit.request.as_of for fit in candidates]
    best_costs = np.full(len(candidates), np.inf)
    best_costs[0] = 0.0
    predecessors = [-1] * len(candidates)
    for number in range(1, len(candidates)):
        for earlier in range(number):
            if starts[earlier] >= starts[number]:
                continue
            served = losses.sum_period(candidates[earlier], starts[earlier], starts[number])
            cost = best_costs[earlier] + served + retraining_cost
            if cost < best_costs[number]:
                best_costs[number] = cost
                predecessors[number] = earlier
    total_costs = []
    for number, start in enumerate(starts):
        served = losses.sum_period(candidates[number], start, history.end)
        total_costs.append(best_costs[number] + served)
    chosen = int(np.argmin(total_costs))
    periods = []
    while chosen >= 0:
        periods.append(ServingPeriod(candidates[chosen].request, starts[chosen]))
        chosen = predecessors[chosen]
    return periods[::-1]
