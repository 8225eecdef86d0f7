"""Stored profiles: the rows of each day in the bins of a version's reference, window by window.

The watch stores them with each window, in the same transaction. A window of any other length is a
sum of them: comparing a year anew reads neither predictions nor features.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.formatting import format_names
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import DriftProfileRecord, WindowRecord
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.project.config.value_types import parse_duration
from mlops_kit.project.loader import Project
from mlops_kit.stages.monitor.drift import compare_profiles
from mlops_kit.stages.monitor.profile_records import (
    ReferenceProfile,
    profile_from_json,
    profile_to_json,
    sum_profiles,
)
from mlops_kit.stages.monitor.profiles import DriftProfile
from mlops_kit.stages.monitor.season import DriftHistory, mark_seasonal_profile
from mlops_kit.stats.monitoring_tables import DriftStatus

REFERENCE_START = ""  # the start of the record that has a version's reference instead of a window
DEFAULT_WINDOW = "30d"
_DAY = timedelta(days=1)
_MAX_LISTED_COLUMNS = 5


class StoredProfiles(NamedTuple):
    """What is stored of a version: its reference, and the days that the watch has monitored."""

    version: str
    reference: ReferenceProfile
    monitored: DriftProfile


def load_reference_profile(project: Project, version: str) -> ReferenceProfile | None:
    """Load the stored reference of a version; None if no window of it was monitored yet."""
    statement = sa.select(DriftProfileRecord.profile_json).where(
        DriftProfileRecord.model == project.config.name,
        DriftProfileRecord.version == version,
        DriftProfileRecord.window_start == REFERENCE_START,
    )
    for text in query_records(project, statement):
        return ReferenceProfile.from_json(str(text))
    return None


def add_window_profile(
    transaction: Session,
    window: WindowRecord,
    profile: DriftProfile,
    reference: ReferenceProfile,
) -> None:
    """Add the profile of a window, and with the first one of a version that of its reference.

    Parameters
    ----------
    transaction : Session
        The transaction that stores the window.
    window : WindowRecord
        The window.
    profile : DriftProfile
        Its predictions by day.
    reference : ReferenceProfile
        The reference of the version.
    """
    if not profile.row_count:
        return
    model = window.model
    is_reference = sa.select(DriftProfileRecord.id).where(
        DriftProfileRecord.model == model,
        DriftProfileRecord.version == window.version,
        DriftProfileRecord.window_start == REFERENCE_START,
    )
    texts = {window.start: profile_to_json(profile)}
    if transaction.scalar(is_reference) is None:
        texts[REFERENCE_START] = reference.to_json()
    for window_start, text in texts.items():
        transaction.add(
            DriftProfileRecord(
                model=model,
                version=window.version,
                window_start=window_start,
                profile_json=text,
            )
        )


def load_stored_profiles(project: Project, version: str = "") -> StoredProfiles:
    """Load the reference and all monitored days of a version, by default that watched last.

    Raises
    ------
    RunFailedError
        If no profile is stored.
    """
    model = project.config.name
    is_window = sa.and_(
        DriftProfileRecord.model == model,
        DriftProfileRecord.window_start != REFERENCE_START,
    )
    newest_first = DriftProfileRecord.window_start.desc()
    versions = sa.select(DriftProfileRecord.version).where(is_window).order_by(newest_first)
    if version:
        versions = versions.where(DriftProfileRecord.version == version)
    watched_versions = query_records(project, versions.limit(1))
    if not watched_versions:
        subject = f"version {version}" if version else "any version"
        raise RunFailedError(
            f"no profile of {subject} of {model} is stored",
            "a window that mlops watch has monitored",
            "mlops watch --once",
        )
    watched_version = watched_versions[0]
    reference = load_reference_profile(project, watched_version)
    if reference is None:
        raise RunFailedError(
            f"the profile of the reference of version {watched_version} is not stored",
            "the record that mlops watch stores with the first window",
            "mlops watch --once",
        )
    texts = (
        sa.select(DriftProfileRecord.profile_json)
        .where(is_window, DriftProfileRecord.version == watched_version)
        .order_by(DriftProfileRecord.window_start)
    )
    profiles = [profile_from_json(text) for text in query_records(project, texts)]
    return StoredProfiles(watched_version, reference, sum_profiles(profiles))


def measure_window_drifts(
    project: Project,
    length: str = DEFAULT_WINDOW,
    version: str = "",
) -> Table:
    """Compare the monitored days with the reference again, in windows of another length.

    Only stored profiles are read. Predictions of the days count by which the watch compared its
    windows; the last window may have fewer days than the others.

    Parameters
    ----------
    project : Project
        The project.
    length : str
        The length of a window in whole days, such as ``30d`` or ``2w``.
    version : str
        A version; by default that of the last monitored window.

    Returns
    -------
    Table
        One row per window: its first and last day, rows, the number of columns with an alert and a
        warning, and their names.

    Raises
    ------
    KitError
        If the length is not a number of whole days.
    RunFailedError
        If no profile is stored.
    """
    days = _parse_days(length)
    stored = load_stored_profiles(project, version)
    rows = []
    for first, window in _split_days(stored.monitored, days):
        table = _compare_window(stored.reference, window, project.config.monitor)
        alerts = table.data.loc[table.data["status"] == DriftStatus.ALERT, "column"].tolist()
        warnings = table.data.loc[table.data["status"] == DriftStatus.WARNING, "column"].tolist()
        rows.append(
            {
                "from": first.isoformat(),
                "to": window.days[-1],
                "rows": window.row_count,
                "alerts": len(alerts),
                "warnings": len(warnings),
                "columns": format_names([*alerts, *warnings], _MAX_LISTED_COLUMNS),
            }
        )
    data = pd.DataFrame(rows)
    drifted = int((data["alerts"] > 0).sum())
    return Table(
        "Drift by window",
        f"A column raises an alert in {drifted} of {len(data)} windows of "
        f"{days} {'day' if days == 1 else 'days'} (version {stored.version}).",
        data,
        notes=(
            "From stored profiles of the monitored windows. Drift alone is no reason to retrain.",
        ),
    )


def _parse_days(length: str) -> int:
    """Parse a length in whole days."""
    try:
        duration = parse_duration(length)
    except ValueError as error:
        raise KitError(f"{length!r} is not a duration", str(error), "--window 30d") from error
    if duration < _DAY or duration % _DAY:
        raise KitError(
            f"a window of {length!r} cannot be made from profiles of days",
            "a number of whole days",
            "--window 30d",
        )
    return duration // _DAY


def _split_days(profile: DriftProfile, days: int) -> Iterator[tuple[date, DriftProfile]]:
    """Split a profile into windows of some days from its first one, without the empty ones."""
    dates = np.array(profile.days, dtype="datetime64[D]")
    windows = (dates - dates[0]).astype(int) // days
    for window in np.unique(windows):
        first = dates[0] + np.timedelta64(int(window) * days, "D")
        yield first.astype(date), profile.select_days(windows == window)


def _compare_window(
    reference: ReferenceProfile,
    window: DriftProfile,
    limits: MonitorConfig,
) -> Table:
    """Compare a window with the reference and, where the history suffices, with its season."""
    table = compare_profiles(reference.bins, reference.reference, window, limits)
    if reference.history is None or not len(table.data):
        return table
    bins = {name: reference.bins[name] for name in reference.history.counts}
    return mark_seasonal_profile(table, DriftHistory(bins, reference.history), window, limits)
