"""Retrainings of the watch: requested or decided, run, and followed up.

A retraining is a run of the pipeline's notebooks; one that was killed continues where it stopped,
as every run does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.db import approvals
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.predictions import count_labeled_rows
from mlops_kit.db.tables import (
    RETRAINING_DUE,
    RETRAINING_REJECTED,
    ApprovalOutcome,
    RetrainingRecord,
    WatchRecord,
)
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.project import run_manifest
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import RunStatus
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.retrain.policy import (
    PERFORMANCE_REASONS,
    POLICY_ACTOR,
    RECOVERY_REASON,
    RetrainingAction,
    RuleRole,
)
from mlops_kit.watch.alert_queue import update_incidents
from mlops_kit.watch.change_detection import find_suspected_change
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.records import WindowPerformance
from mlops_kit.watch.row_quarantine import quarantine_faulty_days
from mlops_kit.watch.signals import RETRAINING_SIGNAL
from mlops_kit.watch.status import format_local_time

_OPEN_STATUSES = (RETRAINING_DUE, RunStatus.WAITING_FOR_APPROVAL)


def list_open_retrainings(project: Project) -> list[RetrainingRecord]:
    """List the retrainings that are due or wait for an approval, the oldest first."""
    statement = (
        sa.select(RetrainingRecord)
        .where(
            RetrainingRecord.model == project.config.name,
            RetrainingRecord.status.in_(_OPEN_STATUSES),
        )
        .order_by(RetrainingRecord.id)
    )
    return query_records(project, statement)


def _list_retrainings(context: WatchContext) -> list[RetrainingRecord]:
    """List the decisions for a retraining, the newest first."""
    statement = (
        sa.select(RetrainingRecord)
        .where(
            RetrainingRecord.model == context.config.name,
            RetrainingRecord.action == RetrainingAction.RETRAIN,
        )
        .order_by(RetrainingRecord.as_of.desc())
    )
    return query_records(context.project, statement)


def settle_rejected_retrainings(project: Project) -> None:
    """Close the retrainings whose version waited for an approval and was rejected."""
    rejected_ids = []
    last_outcomes: dict[str, str] = {}
    for approval in approvals.list_approvals(project):
        last_outcomes.setdefault(approval.version, approval.outcome)
    for retraining in list_open_retrainings(project):
        file = project.reports_folder / retraining.run_id / "artifacts" / "version.json"
        if retraining.status == RETRAINING_DUE or not file.exists():
            continue
        version = str(files.read_json(file)["version"])
        if last_outcomes.get(version) == ApprovalOutcome.REJECTED:
            rejected_ids.append(retraining.id)
    if not rejected_ids:
        return
    statement = (
        sa.update(RetrainingRecord)
        .where(RetrainingRecord.id.in_(rejected_ids))
        .values(status=RETRAINING_REJECTED)
    )
    with open_transaction(project) as transaction:
        transaction.execute(statement)


def get_pending_reason(context: WatchContext) -> str:
    """Say what a further retraining would have to wait for; empty if nothing."""
    for retraining in _list_retrainings(context):
        if retraining.status in _OPEN_STATUSES:
            run = retraining.run_id or "a retraining"
            return f"The new version of {run} waits for an approval."
    return ""


def get_last_retraining_time(context: WatchContext) -> datetime | None:
    """Get the time as of which the last retraining was decided; None if there was none."""
    retrainings = _list_retrainings(context)
    return datetime.fromisoformat(retrainings[0].as_of) if retrainings else None


def count_recent_retrainings(context: WatchContext, as_of: datetime) -> int:
    """Count the retrainings within the budget period."""
    start = format_timestamp(as_of - context.config.retrain.budget_period)
    return sum(retraining.as_of > start for retraining in _list_retrainings(context))


def count_retrainings_since(context: WatchContext, start: datetime, end: datetime) -> int:
    """Count the retrainings that were decided after a time and before another one."""
    first = format_timestamp(start)
    last = format_timestamp(end)
    return sum(first < retraining.as_of < last for retraining in _list_retrainings(context))


def count_new_labels(context: WatchContext) -> int:
    """Count the scored rows whose label was not known yet when the champion was made."""
    champion = context.get_champion()
    cutoff = datetime.fromisoformat(champion.version.as_of)
    return count_labeled_rows(context.project, cutoff - context.config.label_delay)


def follow_up_retrainings(context: WatchContext, as_of: datetime) -> None:
    """Run the retrainings that are due, and record what became of those that waited."""
    settle_rejected_retrainings(context.project)
    for retraining in list_open_retrainings(context.project):
        if retraining.status == RETRAINING_DUE:
            _run_retraining(context, retraining, as_of)
            continue
        run = context.project.reports_folder / retraining.run_id
        if not (run / run_manifest.MANIFEST_FILE).exists():
            continue
        manifest = run_manifest.read_manifest(run)
        if manifest.status != RunStatus.WAITING_FOR_APPROVAL and not manifest.is_running:
            _record_outcome(context, retraining, manifest.status, retraining.run_id, as_of)


def _run_retraining(context: WatchContext, retraining: RetrainingRecord, as_of: datetime) -> None:
    """Run the pipeline up to deploy, as of this pass."""
    from mlops_kit.pipeline import runner

    context.report_lines(as_of, [f"retraining, decided by {retraining.actor}"])
    settings = _make_run_settings(context, retraining, as_of)
    settings.update(quarantine_faulty_days(context, as_of))
    project = context.project.with_values("the watch", as_of=as_of, until=as_of, **settings)
    manifest = runner.run_pipeline(
        project,
        runner.select_stages(project, first="prepare", last="deploy"),
        {},
        context.report,
        runner.RunOptions(note=f"retraining decided by {retraining.actor}: {retraining.reason}"),
    )
    _record_outcome(context, retraining, manifest.status, manifest.run, as_of)
    outcome = manifest.get_stage("deploy").sentence or runner.find_run_error(manifest) or ""
    context.report_lines(as_of, [f"retraining {manifest.run}: {manifest.status}. {outcome}"])


def _make_run_settings(
    context: WatchContext, retraining: RetrainingRecord, as_of: datetime
) -> dict[str, Any]:
    """Make the settings of a retraining's run: since when the concept is suspected to differ.

    After a performance drop the new version also has to be better than the champion.
    """
    config = context.config
    settings: dict[str, Any] = {}
    reasons = _list_reasons(context, retraining)
    change_time = _find_change_time(context, reasons, as_of)
    if change_time is not None:
        train = config.train.model_dump(mode="json", exclude_unset=True)
        settings["train"] = {**train, "change_point": change_time.isoformat()}
    if not reasons.isdisjoint(PERFORMANCE_REASONS):
        review = config.review.model_dump(mode="json", exclude_unset=True)
        settings["review"] = {**review, "require_gain": True}
    return settings


def _find_change_time(context: WatchContext, reasons: set[str], as_of: datetime) -> datetime | None:
    """Find since when the concept differs from the one before; None if it does not.

    If a recovery is not complete, the champion's own rows are of the transition: the rows that were
    labeled since are of a concept of their own.
    """
    change = find_suspected_change(context, as_of)
    if change is not None:
        context.report_lines(as_of, [change.sentence])
        return change.time
    if RECOVERY_REASON not in reasons:
        return None
    champion = context.get_champion().version
    return datetime.fromisoformat(champion.as_of) - context.config.label_delay


def _list_reasons(context: WatchContext, retraining: RetrainingRecord) -> set[str]:
    """List the reasons of the decision for a retraining; none if a person asked for it."""
    if retraining.actor != POLICY_ACTOR:
        return set()
    for window in context.list_monitored_windows():
        labels_due_at = datetime.fromisoformat(window.end) + context.config.label_delay
        if window.realized_json is None or format_timestamp(labels_due_at) != retraining.as_of:
            continue
        decision = WindowPerformance.from_json(window.realized_json).decision
        if decision is not None:
            return {result.rule for result in decision.list_applying(RuleRole.REASON)}
    return set()


def _record_outcome(
    context: WatchContext,
    retraining: RetrainingRecord,
    status: RunStatus,
    run_id: str,
    as_of: datetime,
) -> None:
    """Record how the run of a retraining ended.

    A retraining without a new version is an incident, which the next successful one closes.
    """
    signal = incidents.IncidentSignal(
        RETRAINING_SIGNAL,
        incidents.IncidentSeverity.WARNING,
        "A retraining made no new version",
        f"Run {run_id}: {status}.",
    )
    statement = (
        sa.update(RetrainingRecord)
        .where(RetrainingRecord.id == retraining.id)
        .values(status=status, run_id=run_id)
    )
    with open_transaction(context.project) as transaction:
        transaction.execute(statement)
        if status == RunStatus.WAITING_FOR_APPROVAL:
            return
        update_incidents(
            transaction,
            context.config,
            {RETRAINING_SIGNAL},
            [] if status == RunStatus.SUCCEEDED else [signal],
            as_of,
            f"run {run_id}",
        )


def request_retraining(project: Project, actor: str, reason: str) -> RetrainingRecord:
    """Record that a person wants a new model, as of where the watch is; its next pass makes it.

    Raises
    ------
    KitError
        If there is no reason, the person may not, or nothing is watched yet.
    RunFailedError
        If another retraining is due or waits for an approval.
    """
    config = project.config
    if not reason.strip():
        raise KitError(
            "a retraining needs a reason",
            "a sentence that others can read later",
            "state the reason",
        )
    approvals.check_permission(config.people, actor, approves=False)
    statement = sa.select(WatchRecord).where(WatchRecord.model == config.name)
    progress_records = query_records(project, statement)
    if not progress_records:
        raise KitError(
            "nothing is watched yet",
            "a pass of the watch",
            "mlops watch --once, or mlops run for a new model",
        )
    settle_rejected_retrainings(project)
    open_retrainings = list_open_retrainings(project)
    if open_retrainings:
        raise RunFailedError(
            f"a retraining decided by {open_retrainings[0].actor} is already pending",
            "one retraining at a time",
            "wait for it; the monitoring dashboard shows its outcome",
        )
    watched_until = progress_records[0].watched_until
    retraining = RetrainingRecord(
        model=config.name,
        as_of=watched_until,
        action=RetrainingAction.RETRAIN.value,
        reason=reason.strip(),
        actor=actor,
        decided_at=current_timestamp(),
        status=RETRAINING_DUE,
    )
    try:
        with open_transaction(project) as transaction:
            transaction.add(retraining)
    except sa.exc.IntegrityError as error:
        as_of = format_local_time(config, datetime.fromisoformat(watched_until))
        raise RunFailedError(
            f"{actor} has already requested a retraining as of {as_of}",
            "one request per person and time",
            "mlops watch --once moves on to a later time",
        ) from error
    return retraining
