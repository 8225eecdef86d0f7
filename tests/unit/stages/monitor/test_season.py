"""Seasonal drift: the same phase of earlier years, and what a short history says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor import drift
from mlops_kit.stages.monitor.column_bins import make_column_bins
from mlops_kit.stages.monitor.drift_sides import DriftDesign, SideDays
from mlops_kit.stages.monitor.profiles import DriftProfile, profile_rows
from mlops_kit.stages.monitor.season import DriftHistory, mark_seasonal_drift, select_phase

LIMITS = MonitorConfig()
ROWS_PER_DAY = 60
AMPLITUDE = 1.0


def make_rows(start: str, days: int, shift: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Make a column that follows the season of the year, and one that does not."""
    rng = np.random.default_rng(0)
    dates = pd.date_range(start, periods=days).repeat(ROWS_PER_DAY)
    season = AMPLITUDE * np.cos(2 * np.pi * dates.dayofyear.to_numpy() / 365.25)
    rows = pd.DataFrame(
        {
            "seasonal": season + rng.normal(size=len(dates)) + shift,
            "steady": rng.normal(size=len(dates)),
        }
    )
    return rows, dates.strftime("%Y-%m-%d").to_numpy()


def mark_window(first_day: str, shift: float = 0.0) -> dict:
    """Compare a week of 2024 with a reference of December 2023."""
    rows, days = make_rows(first_day, 731 if first_day < "2023" else 366)
    reference = rows[days >= "2023-12-01"]
    bins = {name: make_column_bins(reference[name], "number") for name in rows}
    history = DriftHistory(bins, profile_rows(rows, bins, days))
    current, current_days = make_rows("2024-07-01", 7, shift)
    design = DriftDesign(SideDays(days[days >= "2023-12-01"], current_days))
    table = drift.measure_drift(reference, current, current.columns, LIMITS, 0, design)
    marked = mark_seasonal_drift(table, history, current, current_days, LIMITS)
    row = marked.data.set_index("column").loc["seasonal"]
    return {"before": table.data["status"].iloc[0], "note": marked.notes[-1], **row}


def test_season_of_two_earlier_years_is_no_drift() -> None:
    marked = mark_window("2022-01-01")
    assert marked["before"] == "alert"
    assert (marked["status"], marked["reason"]) == ("none", "seasonal")
    assert "the same weeks of 2 earlier years" in marked["explanation"]


def test_drift_beyond_the_season_stays_an_alert() -> None:
    marked = mark_window("2022-01-01", shift=0.5)
    assert (marked["status"], marked["reason"]) == ("alert", "effect")


def test_short_history_is_named() -> None:
    marked = mark_window("2023-01-01")
    assert marked["status"] == "alert"
    assert "fewer than two years" in marked["note"]


def make_profile(start: str, days: int) -> DriftProfile:
    rows = pd.DataFrame({"x": np.arange(days, dtype=float)})
    bins = {"x": make_column_bins(rows["x"], "number")}
    return profile_rows(rows, bins, pd.date_range(start, periods=days).strftime("%Y-%m-%d"))


def test_window_of_a_day_is_compared_with_its_weekday() -> None:
    phase = select_phase(make_profile("2024-01-01", 60), ["2024-03-11"])
    assert phase is not None
    assert phase.description == "the same weekdays"
    assert set(pd.DatetimeIndex(phase.profile.days).dayofweek) == {0}


@pytest.mark.parametrize(("start", "days"), [("2024-01-01", 60), ("2022-06-01", 500)])
def test_week_needs_two_years(start: str, days: int) -> None:
    window = pd.date_range("2024-04-01", periods=7).strftime("%Y-%m-%d").tolist()
    assert select_phase(make_profile(start, days), window) is None


def test_later_days_are_no_history() -> None:
    window = pd.date_range("2022-04-01", periods=7).strftime("%Y-%m-%d").tolist()
    assert select_phase(make_profile("2022-01-01", 1_000), window) is None
