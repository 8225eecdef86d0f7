"""Seasonal drift: what differs from the reference, and not from the same phase of earlier years.

The reference of a version is a few weeks; half a year later every seasonal column has drifted. With
two or more yearly cycles of history, a window is also compared with the same weeks of the years
before. A window shorter than a week is compared with the same weekdays. Only what differs from both
is drift; what differs from the reference alone is seasonal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor.column_bins import ColumnBins
from mlops_kit.stages.monitor.drift import compare_profiles
from mlops_kit.stages.monitor.profiles import DriftProfile, profile_rows
from mlops_kit.stats.monitoring_tables import DriftReason, DriftStatus

MIN_YEARS = 2
_PHASE_TOLERANCE_DAYS = 15  # on either side of a window, a year and more before
_MIN_COVERED_SHARE = 0.5  # of the days of the phase that a year of history must have
_DAYS_PER_YEAR = 365.25
_WEEKDAYS = 7
_DRIFTED_STATUSES = (DriftStatus.ALERT, DriftStatus.WARNING)
_TOO_SHORT_NOTE = (
    "The history has fewer than two years before this window: seasonal drift cannot be told from "
    "other drift, and its estimated cost decides whether it is an incident."
)


@dataclass(frozen=True)
class DriftHistory:
    """The profile of all rows that a version was made from, in the bins of its reference."""

    bins: Mapping[str, ColumnBins]
    profile: DriftProfile


@dataclass(frozen=True)
class SeasonalPhase:
    """The days of a history that are in the same phase as a window.

    Attributes
    ----------
    profile : DriftProfile
        The profile of these days.
    description : str
        What they are.
    """

    profile: DriftProfile
    description: str


def select_phase(profile: DriftProfile, window_days: list[str]) -> SeasonalPhase | None:
    """Select the days of a history in the same phase as a window.

    Returns
    -------
    SeasonalPhase or None
        The same weeks of earlier years, if there are at least two; of a window shorter than a week
        only the same weekdays. None if the history is too short for either.
    """
    window = pd.DatetimeIndex(window_days)
    history = pd.DatetimeIndex(profile.days)
    if not len(window) or not len(history):
        return None
    is_before = np.asarray(history < window.min())
    is_weekday = np.ones(len(history), dtype=bool)
    names = []
    weekdays = set(window.dayofweek)
    if len(weekdays) < _WEEKDAYS:
        is_weekday = np.isin(history.dayofweek, list(weekdays))
        names.append("the same weekdays")
    is_selected = is_before & is_weekday
    is_in_year, years = _select_yearly_phase(history, window)
    if years >= MIN_YEARS:
        is_selected &= is_in_year
        names.insert(0, f"the same weeks of {years} earlier years")
    elif not names or (is_selected.sum() < MIN_YEARS * len(weekdays)):
        return None
    return SeasonalPhase(profile.select_days(is_selected), " and ".join(names))


def _select_yearly_phase(
    history: pd.DatetimeIndex, window: pd.DatetimeIndex
) -> tuple[np.ndarray, int]:
    """Select the same weeks of earlier years; return how many years have enough days of them."""
    length = (window.max() - window.min()).days + 1 + 2 * _PHASE_TOLERANCE_DAYS
    first = window.min() - pd.Timedelta(days=_PHASE_TOLERANCE_DAYS)
    days_after_first = np.asarray((history - first).days)
    history_length = max(0, -days_after_first.min())
    year_count = int(history_length // _DAYS_PER_YEAR) + 1
    is_selected = np.zeros(len(history), dtype=bool)
    years = 0
    for year in range(1, year_count + 1):
        position = days_after_first + round(year * _DAYS_PER_YEAR)
        is_year = (position >= 0) & (position < length)
        if is_year.sum() >= _MIN_COVERED_SHARE * length:
            is_selected |= is_year
            years += 1
    return is_selected, years


def mark_seasonal_drift(
    table: Table,
    history: DriftHistory,
    current: pd.DataFrame,
    days: np.ndarray,
    limits: MonitorConfig,
) -> Table:
    """Mark the drift of a window that is seasonal, and say on what the answer rests.

    Parameters
    ----------
    table : Table
        The drift of the window against the reference.
    current : DataFrame
        The rows of the window.
    days : array-like
        The day of each row.
    """
    bins = {name: column for name, column in history.bins.items() if name in current}
    profile = profile_rows(current, bins, days)
    return mark_seasonal_profile(table, replace(history, bins=bins), profile, limits)


def mark_seasonal_profile(
    table: Table,
    history: DriftHistory,
    current: DriftProfile,
    limits: MonitorConfig,
) -> Table:
    """Mark the drift of a window that is seasonal, given the profile of the window.

    Parameters
    ----------
    table : Table
        The drift of the window against the reference.
    history : DriftHistory
        Its bins are those of the columns to compare.
    current : DriftProfile
        The profile of the window, in the same bins.
    limits : MonitorConfig
        The project's limits.
    """
    phase = select_phase(history.profile, list(current.days))
    if phase is None:
        return replace(table, notes=(*table.notes, _TOO_SHORT_NOTE))
    compared = compare_profiles(history.bins, phase.profile, current, limits).data
    rows_by_column = compared.set_index("column")
    data = table.data.copy()
    for position, row in table.data.iterrows():
        if row["status"] not in _DRIFTED_STATUSES or row["column"] not in rows_by_column.index:
            continue
        in_phase = rows_by_column.loc[row["column"]]
        if in_phase["status"] in (DriftStatus.ALERT, row["status"], DriftStatus.NOT_TESTED):
            continue
        data.loc[position, "status"] = str(in_phase["status"])
        data.loc[position, "reason"] = str(DriftReason.SEASONAL)
        data.loc[position, "explanation"] = (
            f"seasonal: {row['explanation']}; against {phase.description}: "
            f"{in_phase['explanation']}"
        )
    note = (
        "Drift against the reference counts only if the window has also drifted against "
        f"{phase.description}."
    )
    return replace(table, data=data, notes=(*table.notes, note))
