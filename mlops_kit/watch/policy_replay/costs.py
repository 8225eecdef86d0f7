"""What each policy costs, at several ratios of the cost of a retraining to that of errors.

The cost of a policy is that of its retrainings and of its prediction errors. Errors are counted in
units of the headline metric: a row costs its loss (``losses``). The ratio says how much loss,
summed over rows, a retraining is worth: ``retrain.cost`` divided by ``retrain.value_per_decision``.

Two policies are compared window by window, so that what is difficult for both cancels out. The
interval of the difference draws blocks of consecutive windows; the number of retrainings counts as
it is.

References
----------
Künsch, "The jackknife and the bootstrap for general stationary observations", The Annals of
Statistics 17 (1989): blocks of consecutive observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from mlops_kit.core.formatting import format_money, format_number
from mlops_kit.core.lazy import np
from mlops_kit.core.results import Interval
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.limits import compute_max_drop
from mlops_kit.stats.bootstrap import MIN_BLOCKS, draw_row_counts
from mlops_kit.watch.policy_replay.fits import ReplayFit
from mlops_kit.watch.policy_replay.losses import WindowLosses
from mlops_kit.watch.policy_replay.policies import PRESENT_POLICY

_RATIO_FACTORS = (0.1, 1.0, 10.0)
_UNSTATED_RATIO_DAYS = 10
_DRAWS = 2000
_ERROR_RATE = 0.05  # shared by all policies that are compared with the present one


class CostRatio(NamedTuple):
    """What a retraining costs beside prediction errors.

    Attributes
    ----------
    factor : float
        1 for the ratio of the project, 0.1 and 10 beside it.
    retraining_cost : float
        The loss, summed over rows, that costs as much as a retraining.
    title : str
        The ratio in words.
    """

    factor: float
    retraining_cost: float
    title: str


class PolicyLoss(NamedTuple):
    """What a policy did, as far as it costs something.

    Attributes
    ----------
    name : str
        The policy.
    losses : ndarray
        The loss, summed over rows, in each window.
    retrainings : int
        How many retrainings it paid for.
    """

    name: str
    losses: np.ndarray
    retrainings: int

    def compute_cost(self, ratio: CostRatio) -> float:
        """Compute the cost in units of the loss of a row."""
        return float(self.losses.sum()) + self.retrainings * ratio.retraining_cost


class PolicyChoice(NamedTuple):
    """Which policy a ratio recommends.

    Attributes
    ----------
    ratio : CostRatio
        The ratio.
    cheapest : str
        The policy of least cost, the oracle aside.
    recommended : str
        The cheapest if it is certainly cheaper than the present one, else the present one.
    saving : Interval
        What the cheapest saves per prediction beside the present policy.
    """

    ratio: CostRatio
    cheapest: str
    recommended: str
    saving: Interval


def choose_cost_ratios(losses: WindowLosses, first_fit: ReplayFit) -> list[CostRatio]:
    """Choose three ratios: that of the project, a tenth and ten times of it.

    Without ``retrain.cost`` and ``retrain.value_per_decision``, a retraining costs as much as ten
    days at the limit of ``monitor.max_drop``.
    """
    config = losses.history.project.config
    policy = config.retrain
    ratios = []
    for factor in _RATIO_FACTORS:
        if policy.cost is not None and policy.value_per_decision is not None:
            unit = config.cost.unit
            title = f"a retraining costs {format_money(factor * policy.cost, unit)}"
            ratios.append(
                CostRatio(factor, factor * policy.cost / policy.value_per_decision, title)
            )
            continue
        days = factor * _UNSTATED_RATIO_DAYS
        period = "1 day" if days == 1 else f"{format_number(days)} days"
        title = f"a retraining costs as much as {period} at the limit of monitor.max_drop"
        ratios.append(CostRatio(factor, days * _compute_daily_drop(losses, first_fit), title))
    return ratios


def _compute_daily_drop(losses: WindowLosses, first_fit: ReplayFit) -> float:
    """Compute the loss of a day at the limit of ``monitor.max_drop``."""
    history = losses.history
    windows = history.windows
    days = (windows[-1].end - windows[0].start) / timedelta(days=1)
    rows_per_day = float(losses.row_counts.sum()) / days
    reference = first_fit.reference
    if reference is None:
        reference = Interval(float(np.nanmean(losses.get_scores(first_fit))))
    drop = compute_max_drop(history.project.config.monitor.max_drop, losses.metric, reference)
    return rows_per_day * drop


def choose_policy(
    policies: Sequence[PolicyLoss],
    ratio: CostRatio,
    row_counts: np.ndarray,
    config: ProjectConfig,
) -> PolicyChoice:
    """Choose a policy at a ratio: another one than the present one only if it is surely cheaper.

    Parameters
    ----------
    policies : sequence of PolicyLoss
        The policies without the oracle, the present one among them.
    """
    by_name = {policy.name: policy for policy in policies}
    present = by_name[PRESENT_POLICY]
    # Of policies that cost the same, the present one comes first.
    candidates = [present, *policies]
    cheapest = min(candidates, key=lambda policy: policy.compute_cost(ratio))
    saving = compute_saving(
        present, cheapest, ratio, row_counts, max(1, len(by_name) - 1), config.seed
    )
    is_certain = saving.low is not None and saving.low > 0
    recommended = cheapest.name if is_certain else PRESENT_POLICY
    return PolicyChoice(ratio, cheapest.name, recommended, saving)


def compute_saving(
    present: PolicyLoss,
    other: PolicyLoss,
    ratio: CostRatio,
    row_counts: np.ndarray,
    comparisons: int = 1,
    seed: int = 0,
) -> Interval:
    """Compute what another policy saves per prediction, with its interval.

    Parameters
    ----------
    comparisons : int
        Among how many policies the other one was chosen; they share the error rate of 5%
        (Bonferroni's inequality).

    Examples
    --------
    >>> rows = np.full(20, 100)
    >>> static = PolicyLoss("static", np.full(20, 30.0), 0)
    >>> better = PolicyLoss("better", np.full(20, 25.0), 1)
    >>> ratio = CostRatio(1.0, 20.0, "")
    >>> str(compute_saving(static, better, ratio, rows))
    '0.040 [0.040, 0.040]'
    """
    rows = np.asarray(row_counts, dtype=float)
    differences = present.losses - other.losses
    retrainings = present.retrainings - other.retrainings
    fixed = retrainings * ratio.retraining_cost / rows.sum()
    value = float(differences.sum() / rows.sum()) + fixed
    blocks = _number_blocks(len(rows))
    level = 1 - _ERROR_RATE / comparisons
    if blocks.max() + 1 < MIN_BLOCKS:
        return Interval(value, level=level)
    drawn = []
    for counts in draw_row_counts(len(rows), blocks, _DRAWS, seed):
        drawn_rows = float((counts * rows).sum())
        if drawn_rows:
            drawn.append(float((counts * differences).sum()) / drawn_rows + fixed)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(low), float(high), level)


def _number_blocks(windows: int) -> np.ndarray:
    """Return the block of each window; a block is about the cube root of their number long."""
    length = max(1, round(windows ** (1 / 3)))
    return np.asarray(np.arange(windows) // length)
