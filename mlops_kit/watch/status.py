"""Status."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from mlops_kit.db import approvals
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import IncidentRecord, RetrainingRecord, WatchRecord, WindowRecord
from mlops_kit.project import loader
from mlops_kit.project.config import root


def format_local_time(config: root.ProjectConfig, moment: datetime) -> str:
    """A moment in the project's zone, without a clock at midnight."""
    return (
        moment.astimezone(ZoneInfo(config.timezone))
        .strftime("%Y-%m-%d %H:%M")
        .removesuffix(" 00:00")
    )


def summarize_watch(project: loader.Project) -> str:
    """How things stand, in a sentence."""
    made = query_records(
        project, sa.select(WindowRecord).where(WindowRecord.model == project.config.name)
    )
    runs = query_records(
        project,
        sa.select(RetrainingRecord).where(
            RetrainingRecord.model == project.config.name, RetrainingRecord.run_id != ""
        ),
    )
    still = query_records(
        project,
        sa.select(IncidentRecord).where(
            IncidentRecord.model == project.config.name, IncidentRecord.closed_at.is_(None)
        ),
    )
    present = approvals.get_current_promotion(project)
    upto = query_records(
        project,
        sa.select(WatchRecord.watched_until).where(WatchRecord.model == project.config.name),
    )[0]
    retrained = f"{len(runs)} retraining{'s' if len(runs) != 1 else ''}"
    return f"Up to {format_local_time(project.config, datetime.fromisoformat(upto))}: {len(made)} windows monitored, {retrained}, {len(still)} open incident{'s' if len(still) != 1 else ''}; version {present.version if present else 'none'} serves."
