"""Changes of small shares: missing values, rare categories and extreme values.

A category that doubles from 0.2% to 0.4% of the rows, or missing values that rise from none to 4%,
move no statistic of the whole distribution. They are compared by their ratio to the reference.

References
----------
Przyborowski & Wilenski, Biometrika 31 (1940): the conditional binomial test of two rates; the mid-p
value is that of Lancaster, JASA 56 (1961). With days, counts are divided by their design effect.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import np
from mlops_kit.stages.monitor.binned_tests import CountedColumn
from mlops_kit.stages.monitor.day_effects import estimate_design_effects, widen_p_value

MIN_SHARE_CHANGE = 0.001  # smaller changes are not reported, however large their ratio
MIN_ALERT_SHARE_CHANGE = 0.01
_MAX_RARE_SHARE = 0.05  # of a category in the reference; larger ones are seen by the drift test
_MIN_RARE_ROWS = 10  # on both sides together, below which a rare category is not tested


class RateChange(NamedTuple):
    """The share of some values on either side, and the p-value of their difference."""

    reference_share: float
    current_share: float
    p_value: float
    name: str = ""

    @property
    def change(self) -> float:
        """The current share less that of the reference."""
        return self.current_share - self.reference_share

    def compute_ratio(self, reference_rows: float) -> float:
        """Compute the ratio of the shares, as if the reference had half a row more.

        It is below one if the share fell.
        """
        return self.current_share / (self.reference_share + 0.5 / max(reference_rows, 1.0))

    def describe(self, subject: str) -> str:
        """Describe the change in a phrase."""
        verb = "rose" if self.change > 0 else "fell"
        shares = [format_percent(share) for share in (self.reference_share, self.current_share)]
        return f"{subject} {verb} from {shares[0]} to {shares[1]}"


def measure_missing_change(column: CountedColumn) -> RateChange:
    """Measure how the share of missing values has changed."""
    is_missing = np.zeros(column.bins.size)
    is_missing[column.bins.missing_bin] = 1
    return _measure_changes(column.reference, column.current, is_missing[:, None])[0]


def measure_extreme_change(column: CountedColumn) -> RateChange | None:
    """Measure how the share of values in the reference's tails has changed."""
    if not column.bins.is_number:
        return None
    is_tail = column.bins.select_tail_bins()
    if not is_tail.any():
        return None
    values = column.select_values()
    selected = is_tail[: column.bins.missing_bin, None].astype(float)
    return _measure_changes(values.reference, values.current, selected)[0]


def measure_rare_change(column: CountedColumn) -> RateChange | None:
    """Measure the rare category whose share has changed most; None if there is none to test.

    The p-value is corrected for the number of rare categories (Bonferroni).
    """
    if column.bins.is_number:
        return None
    values = column.select_values()
    reference = values.reference.sum(axis=0)
    together = reference + values.current.sum(axis=0)
    is_rare = (reference < _MAX_RARE_SHARE * reference.sum()) & (together >= _MIN_RARE_ROWS)
    is_rare[column.bins.unseen_bin] &= column.bins.has_others
    positions = np.flatnonzero(is_rare)
    if not len(positions):
        return None
    selected = np.zeros((len(reference), len(positions)))
    selected[positions, np.arange(len(positions))] = 1
    changes = _measure_changes(values.reference, values.current, selected)
    best = min(range(len(changes)), key=lambda index: changes[index].p_value)
    names = [*column.bins.categories, "other values"]
    return changes[best]._replace(
        p_value=min(1.0, changes[best].p_value * len(changes)),
        name=names[positions[best]],
    )


def _measure_changes(
    reference: np.ndarray,
    current: np.ndarray,
    selected: np.ndarray,
) -> list[RateChange]:
    """Measure the change of the share of rows in some bins, for each column of ``selected``."""
    reference_total = float(reference.sum())
    current_total = float(current.sum())
    if not reference_total or not current_total:
        return [RateChange(math.nan, math.nan, 1.0)] * selected.shape[1]
    reference_rows = reference.sum(axis=0) @ selected
    current_rows = current.sum(axis=0) @ selected
    if not reference_rows.any() and not current_rows.any():
        return [RateChange(0.0, 0.0, 1.0)] * selected.shape[1]
    effects = estimate_design_effects(reference, current, selected)
    effective_reference = reference_total / effects.reference
    effective_current = current_total / effects.current
    p_values = compute_rate_p_values(
        reference_rows / effects.reference,
        current_rows / effects.current,
        effective_current / (effective_current + effective_reference),
    )
    p_values = widen_p_value(p_values, effects.degrees_of_freedom)
    changes = []
    for before, now, p_value in zip(reference_rows, current_rows, p_values, strict=True):
        shares = (float(before) / reference_total, float(now) / current_total)
        changes.append(RateChange(*shares, float(p_value)))
    return changes


def compute_rate_p_values(
    reference_rows: np.ndarray,
    current_rows: np.ndarray,
    current_part: np.ndarray,
) -> np.ndarray:
    """Compute two-sided mid-p values of rates, given how many events there are on both sides.

    Parameters
    ----------
    reference_rows, current_rows : ndarray
        Events on either side; effective numbers need not be whole.
    current_part : ndarray
        The current side's part of all rows.

    Examples
    --------
    >>> compute_rate_p_values(np.array([0.0]), np.array([6.0]), np.array([0.5])).tolist()
    [0.015625]
    """
    from scipy.special import betainc

    before = np.asarray(reference_rows, dtype=float)
    now = np.asarray(current_rows, dtype=float)

    def compute_tail(
        events: np.ndarray,
        others: np.ndarray,
        part: np.ndarray,
    ) -> np.ndarray:
        """P(X > events) + P(X = events) / 2 of a binomial with events + others trials."""
        at_least = np.where(events > 0, betainc(np.maximum(events, 1e-9), others + 1, part), 1.0)
        more = np.where(others > 0, betainc(events + 1, np.maximum(others, 1e-9), part), 0.0)
        return np.asarray((at_least + more) / 2)

    upper = compute_tail(now, before, np.asarray(current_part))
    lower = compute_tail(before, now, 1 - np.asarray(current_part))
    return np.asarray(np.minimum(1.0, 2 * np.minimum(upper, lower)))
