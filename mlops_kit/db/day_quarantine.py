"""Days that ``mlops watch`` found to have faults: no run trains or evaluates a model on them.

The watch replaces them whenever it looks for faults, and passes them to its own retrainings. Runs
that a person starts, and drafts of notebooks, read them here.

A run with nothing to do should not have to import SQLAlchemy, so a SQLite file is read with
Python's own driver.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import date, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from mlops_kit.db.location import resolve_database_url
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project

QUARANTINE_ORIGIN = "the days that mlops watch quarantined"  # as ``mlops config`` names it
_SCHEMA_VERSION = 1
_QUERY = "SELECT quarantine_json FROM watch WHERE model = ?"
_MAX_LOCK_SECONDS = 30.0
_NO_LAST_DAY = "9999-12-31"
_MISSING_COLUMN_WORDS = ("no such table", "no such column")  # of a database not migrated yet


class QuarantinedDay(NamedTuple):
    """A day with faults.

    Attributes
    ----------
    day : str
        The day in the project's time zone, such as ``2024-03-08``.
    faults : tuple of str
        What is wrong with its rows.
    """

    day: str
    faults: tuple[str, ...]


def encode_quarantined_days(days: Iterable[QuarantinedDay]) -> str:
    """Encode days as the JSON text that the database stores; empty without a day."""
    records = [quarantined._asdict() for quarantined in days]
    if not records:
        return ""
    return json.dumps({"schema_version": _SCHEMA_VERSION, "days": records})


def decode_quarantined_days(text: str) -> tuple[QuarantinedDay, ...]:
    """Decode the JSON text of the database."""
    if not text:
        return ()
    return tuple(
        QuarantinedDay(record["day"], tuple(record["faults"]))
        for record in json.loads(text)["days"]
    )


def load_quarantined_days(project: Project) -> tuple[QuarantinedDay, ...]:
    """Load the days that the watch has quarantined, in the order of time."""
    _, file = resolve_database_url(project)
    if file is None:
        return decode_quarantined_days(_read_with_sqlalchemy(project))
    if not file.exists():
        return ()
    try:
        with closing(sqlite3.connect(file, timeout=_MAX_LOCK_SECONDS)) as connection:
            found = connection.execute(_QUERY, (project.config.name,)).fetchone()
    except sqlite3.DatabaseError as error:
        if any(words in str(error) for words in _MISSING_COLUMN_WORDS):
            return ()
        return decode_quarantined_days(_read_with_sqlalchemy(project))  # it explains the error
    return decode_quarantined_days(found[0] if found else "")


def _read_with_sqlalchemy(project: Project) -> str:
    import sqlalchemy as sa

    from mlops_kit.db.engine import query_records
    from mlops_kit.db.tables import WatchRecord

    statement = sa.select(WatchRecord).where(WatchRecord.model == project.config.name)
    progress = query_records(project, statement)
    return progress[0].quarantine_json if progress else ""


def leave_out_quarantined_days(project: Project) -> tuple[Project, str]:
    """Exclude the days that the watch has quarantined, unless ``retrain.quarantine`` is off.

    Days from ``as_of`` on have no rows in the run and are not named.

    Returns
    -------
    project : Project
        The project with these days among ``validation.excluded_days``.
    note : str
        Which days are left out and why; empty if there are none.
    """
    config = project.config
    if config.time is None or not config.retrain.quarantine:
        return project, ""
    excluded_days = config.validation.excluded_days
    last_day = _find_last_day(config)
    added = [
        quarantined
        for quarantined in load_quarantined_days(project)
        if quarantined.day <= last_day and quarantined.day not in excluded_days
    ]
    if not added:
        return project, ""
    days = sorted({*excluded_days, *(quarantined.day for quarantined in added)})
    validation = config.validation.model_dump(mode="json", exclude_unset=True)
    validation["excluded_days"] = days
    project = project.with_values(QUARANTINE_ORIGIN, validation=validation)
    return project, _describe_days(added)


def _find_last_day(config: ProjectConfig) -> str:
    """Find the last day before ``as_of``; later than any day if that is not set."""
    if config.as_of is None:
        return _NO_LAST_DAY
    last = config.to_utc(config.as_of) - timedelta.resolution
    return f"{last.astimezone(ZoneInfo(config.timezone)):%Y-%m-%d}"


def _describe_days(days: Iterable[QuarantinedDay]) -> str:
    """Describe the days that are left out, by their faults."""
    days_by_faults: dict[str, list[str]] = {}
    for quarantined in days:
        days_by_faults.setdefault(", ".join(quarantined.faults), []).append(quarantined.day)
    texts = []
    for faults, listed in days_by_faults.items():
        texts.append(f"{faults} on {', '.join(_format_periods(listed))}")
    return (
        f"mlops watch found faults, and the rows of these days train and evaluate no model: "
        f"{'; '.join(texts)} (retrain.quarantine: false uses them)"
    )


def _format_periods(days: list[str]) -> list[str]:
    """Format days, those that follow one another as a period."""
    periods: list[list[date]] = []
    for day in sorted(date.fromisoformat(text) for text in days):
        if periods and day - periods[-1][-1] == timedelta(days=1):
            periods[-1].append(day)
            continue
        periods.append([day])
    texts = []
    for period in periods:
        text = str(period[0])
        texts.append(text if len(period) == 1 else f"{text} to {period[-1]}")
    return texts
