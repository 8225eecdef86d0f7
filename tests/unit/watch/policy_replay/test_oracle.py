"""Losses are summed by rows, and the oracle finds the days that brute force finds."""

from __future__ import annotations

from datetime import timedelta
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_kit.watch.policy_replay.fits import FitRequest, FitSummary, ReplayFit
from mlops_kit.watch.policy_replay.history import ReplayHistory
from mlops_kit.watch.policy_replay.losses import WindowLosses
from mlops_kit.watch.policy_replay.oracle import find_best_periods
from mlops_kit.watch.policy_replay.simulation import ServingPeriod
from tests.support.replayed_history import START, make_history

DAYS = 60
ROWS_PER_DAY = 4


@pytest.fixture
def history(tmp_path: Path) -> ReplayHistory:
    """Sixty days of four rows whose target is zero."""
    return make_history(tmp_path, DAYS, ROWS_PER_DAY)


def make_fit(history: ReplayHistory, day: int, errors: np.ndarray) -> ReplayFit:
    """Make a fit as of a day whose error of each row is given."""
    as_of = START + timedelta(days=day)
    scores = np.where(np.arange(len(errors)) >= history.find_position(as_of), errors, np.nan)
    summary = FitSummary("all", 10, (1.0, 0.9, 1.1))
    return ReplayFit(FitRequest(as_of), summary, np.array([0]), scores, scores)


def make_fits(history: ReplayHistory, seed: int) -> list[ReplayFit]:
    """Make a first fit and one for each pass, with errors that drift at random."""
    rng = np.random.default_rng(seed)
    count = len(history.table)
    days = [0, *((window.evaluated_at - START).days for window in history.windows)]
    fits = []
    for day in days:
        age = np.maximum(0, np.arange(count) / ROWS_PER_DAY - day)
        errors = 1 + rng.uniform(0, 0.05) * age + rng.uniform(-0.3, 0.3, count)
        fits.append(make_fit(history, day, errors))
    return fits


def test_windows_end_when_their_labels_are_due(history: ReplayHistory) -> None:
    assert len(history.windows) == 8
    assert history.windows[0].evaluated_at == START + timedelta(days=9)
    assert history.windows[-1].labels_due_at <= history.end


def test_a_window_with_a_change_counts_each_model_by_its_rows(history: ReplayHistory) -> None:
    count = len(history.table)
    first = make_fit(history, 0, np.full(count, 3.0))
    second = make_fit(history, 9, np.full(count, 1.0))
    losses = WindowLosses(history, first)
    periods = [
        ServingPeriod(first.request, START),
        ServingPeriod(second.request, second.request[0]),
    ]
    fits = {fit.request: fit for fit in (first, second)}
    sums = losses.sum_timeline(periods, fits)
    assert sums[0] == pytest.approx(7 * 4 * 3.0)
    assert sums[1] == pytest.approx(2 * 4 * 3.0 + 5 * 4 * 1.0)
    assert sums[2:] == pytest.approx(7 * 4 * 1.0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("retraining_cost", [0.0, 5.0, 40.0, 1000.0])
def test_the_oracle_finds_the_best_days(
    history: ReplayHistory, seed: int, retraining_cost: float
) -> None:
    fits = make_fits(history, seed)
    first, *others = fits
    losses = WindowLosses(history, first)
    by_request = {fit.request: fit for fit in fits}

    def compute_cost(chosen: tuple[ReplayFit, ...]) -> float:
        periods = [ServingPeriod(fit.request, fit.request.as_of) for fit in (first, *chosen)]
        served = losses.sum_timeline(periods, by_request).sum()
        return float(served) + retraining_cost * len(chosen)

    subsets = [s for size in range(len(others) + 1) for s in combinations(others, size)]
    best = min(compute_cost(subset) for subset in subsets)
    periods = find_best_periods(losses, fits, retraining_cost)
    found = tuple(by_request[period.request] for period in periods[1:])
    assert compute_cost(found) == pytest.approx(best)
    if retraining_cost == 1000.0:
        assert not found


def test_labels_and_rows_are_hidden_until_they_are_known(history: ReplayHistory) -> None:
    known = history.get_rows_known_at(START + timedelta(days=10))
    assert known["at"].max() < pd.Timestamp(START + timedelta(days=10))
    newest_labeled = known.loc[known["y"].notna(), "at"].max()
    assert newest_labeled == pd.Timestamp(START + timedelta(days=8))
