"""What prediction errors cost: the loss of each model in each window, by row.

The loss of a row is that of its window: 1 minus the headline metric, or the metric itself where
less is better, on the rows of the window that the model did not learn from. A window in which the
model changes counts each model by its rows. So the loss of a period is a sum over its rows, which
the oracle's dynamic programming needs, although the metric is one of whole windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cached_property

from mlops_kit.core.lazy import np
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.stats.metrics import METRICS, compute_metric
from mlops_kit.watch.policy_replay.fits import FitRequest, ReplayFit
from mlops_kit.watch.policy_replay.history import ReplayHistory, ReplayWindow
from mlops_kit.watch.policy_replay.simulation import ServingPeriod


class WindowLosses:
    """The losses of models in the windows of a replay.

    Parameters
    ----------
    history : ReplayHistory
        The rows and windows; all labels are used, since losses are measured in hindsight.
    first_fit : ReplayFit
        The model at the start, which has a score in every window.
    threshold : float or None
        The decision threshold, from which on monitoring counts a row as predicted positive.
    """

    def __init__(
        self, history: ReplayHistory, first_fit: ReplayFit, threshold: float | None = None
    ) -> None:
        self.history = history
        self.threshold = threshold
        self.metric = METRICS[history.project.config.headline_metric]
        self._losses: dict[FitRequest, np.ndarray] = {}
        self._period_sums: dict[tuple[FitRequest, datetime, datetime], float] = {}
        # While these are NaN, no gap is filled: those of the first model stay.
        self._first_losses = np.full(len(history.windows), np.nan)
        self._first_losses = self.get_losses(first_fit)

    @cached_property
    def row_counts(self) -> np.ndarray:
        """The rows of each window that count; none where the metric cannot be computed."""
        counts = []
        for window, loss in zip(self.history.windows, self._first_losses, strict=True):
            rows = len(self.history.list_positions(window.start, window.end))
            counts.append(rows if np.isfinite(loss) else 0)
        return np.array(counts)

    def get_losses(self, fit: ReplayFit) -> np.ndarray:
        """Get the loss per row of a model in each window; NaN before it was made."""
        if fit.request not in self._losses:
            losses = np.array([self._measure(fit, window) for window in self.history.windows])
            self._losses[fit.request] = self._fill_gaps(fit, losses)
        return self._losses[fit.request]

    def get_scores(self, fit: ReplayFit) -> np.ndarray:
        """Get the headline metric of a model in each window."""
        losses = self.get_losses(fit)
        return 1 - losses if self.metric.greater_is_better else losses

    def _measure(self, fit: ReplayFit, window: ReplayWindow) -> float:
        """Measure the loss of a model on the rows of a window from when it was made."""
        start = max(window.start, fit.request.as_of)
        positions = self.history.list_positions(start, window.end)
        if not len(positions) or not fit.is_usable:
            return float("nan")
        config = self.history.project.config
        rows = self.history.table.iloc[positions]
        value = compute_metric(
            config.headline_metric,
            rows[config.target].to_numpy(float),
            fit.final_scores[positions],
            self.threshold,
            get_row_weights(rows, config),
        )
        return 1 - value if self.metric.greater_is_better else value

    def _fill_gaps(self, fit: ReplayFit, losses: np.ndarray) -> np.ndarray:
        """Fill the part of the first window, if it is too small, with the loss of the next one."""
        filled = losses.copy()
        following = np.nan
        for window in reversed(self.history.windows):
            number = window.number
            is_gap = np.isnan(filled[number]) and np.isfinite(self._first_losses[number])
            if is_gap and window.end > fit.request.as_of:
                is_known = np.isfinite(following)
                filled[number] = following if is_known else self._first_losses[number]
            following = filled[number]
        return filled

    def sum_losses(self, fit: ReplayFit, start: datetime, end: datetime) -> np.ndarray:
        """Sum the loss of a model over the rows of a period, by window."""
        losses = self.get_losses(fit)
        sums = np.zeros(len(losses))
        for window, count in zip(self.history.windows, self.row_counts, strict=True):
            first = max(start, window.start)
            last = min(end, window.end)
            if first >= last or not count:
                continue
            rows = len(self.history.list_positions(first, last))
            if rows:
                sums[window.number] = rows * losses[window.number]
        return sums

    def sum_period(self, fit: ReplayFit, start: datetime, end: datetime) -> float:
        """Sum the loss of a model over all rows of a period; each sum is computed once."""
        key = (fit.request, start, end)
        if key not in self._period_sums:
            self._period_sums[key] = float(self.sum_losses(fit, start, end).sum())
        return self._period_sums[key]

    def sum_timeline(
        self, periods: Sequence[ServingPeriod], fits: dict[FitRequest, ReplayFit]
    ) -> np.ndarray:
        """Sum the losses of the models that served, by window."""
        sums = np.zeros(len(self.history.windows))
        ends = [period.start for period in periods[1:]] + [self.history.end]
        for period, end in zip(periods, ends, strict=True):
            sums += self.sum_losses(fits[period.request], period.start, end)
        return sums
