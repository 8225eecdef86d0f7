"""The state of the watch in one sentence."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from mlops_kit.db import approvals
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import IncidentRecord, RetrainingRecord, WatchRecord, WindowRecord
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.watch.records import WindowMonitoring


def format_local_time(config: ProjectConfig, time: datetime) -> str:
    """Format a time in the project's time zone; midnight is shown as the day alone."""
    local_time = time.astimezone(ZoneInfo(config.timezone))
    return local_time.strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")


def summarize_watch(project: Project) -> str:
    """Summarize how far the watch has come, and what it has found."""
    config = project.config
    statement = sa.select(WatchRecord).where(WatchRecord.model == config.name)
    progress = query_records(project, statement)[0]
    watched_until = datetime.fromisoformat(progress.watched_until)
    windows = _count_records(project, WindowRecord)
    retrainings = _count_records(project, RetrainingRecord, RetrainingRecord.run_id != "")
    open_incidents = _count_records(project, IncidentRecord, IncidentRecord.closed_at.is_(None))
    promotion = approvals.get_current_promotion(project)
    champion = promotion.version if promotion else "none"
    monitored = query_records(
        project, sa.select(WindowRecord.monitoring_json).where(WindowRecord.model == config.name)
    )
    rejected_rows = sum(WindowMonitoring.read_rejected_rows(text) for text in monitored)
    counts = [
        f"{_format_count(windows, 'window')} monitored",
        _format_count(retrainings, "retraining"),
        _format_count(open_incidents, "open incident"),
    ]
    if rejected_rows:
        counts.append(f"{_format_count(rejected_rows, 'row')} rejected by the data contract")
    return (
        f"Up to {format_local_time(config, watched_until)}: {', '.join(counts)}; "
        f"version {champion} is in service."
    )


def _count_records(project: Project, table: Any, *conditions: sa.ColumnElement[bool]) -> int:
    statement = sa.select(table).where(table.model == project.config.name, *conditions)
    return len(query_records(project, statement))


def _format_count(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
