"""Retraining."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.db import approvals
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import RETRAINING_DUE, RetrainingRecord, WatchRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project import loader
from mlops_kit.project.run_manifest import RunStatus
from mlops_kit.watch.status import format_local_time


def request_retraining(project: loader.Project, by: str, why: str) -> RetrainingRecord:
    """Record that somebody wants a new model, as of where the watch stands; its next pass makes it.

    Raises
    ------
    KitError
        If there is no reason, the person may not, or nothing is watched yet.
    RunFailed
        If a retraining is on its way already.
    """
    if not why.strip():
        raise KitError(
            "a retraining needs a reason", "a sentence that others can read later", "say why"
        )
    approvals.check_permission(project.config.people, by, approves=False)
    state = query_records(
        project, sa.select(WatchRecord).where(WatchRecord.model == project.config.name)
    )
    if not state:
        raise KitError(
            "nothing is watched yet",
            "a pass of the watch",
            "mlops watch --once, or mlops run for a new model",
        )
    going = query_records(
        project,
        sa.select(RetrainingRecord).where(
            RetrainingRecord.model == project.config.name,
            RetrainingRecord.status.in_([RETRAINING_DUE, RunStatus.WAITING_FOR_APPROVAL]),
        ),
    )
    if going:
        raise RunFailedError(
            f"a retraining is on its way already, decided by {going[0].actor}",
            "one at a time",
            "wait for it; the page says what became of it",
        )
    made = RetrainingRecord(
        project.config.name,
        state[0].watched_until,
        "retrain",
        why.strip(),
        by,
        current_timestamp(),
        RETRAINING_DUE,
    )
    try:
        with open_transaction(project) as opened:
            opened.add(made)
    except sa.exc.IntegrityError as error:
        raise RunFailedError(
            f"{by} has asked for a retraining as of {format_local_time(project.config, datetime.fromisoformat(state[0].watched_until))} before",
            "a later moment",
            "mlops watch goes on to one",
        ) from error
    return made
