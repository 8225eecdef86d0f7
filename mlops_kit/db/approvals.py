"""Approvals and promotions: the record of which version is champion, and who decided it.

A promotion is a row whose number has no gaps within a model. Two people who replace the same
champion at once compute the same number, so the database accepts one of them only. MLflow's alias
merely follows this record (its own writes are last-writer-wins, and anyone can move it in its
user interface). A version is never served unless its model hash and evidence hash were approved.

To add an outcome: 1. its value in ``ApprovalOutcome``, 2. who may decide it in
``check_permission``.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from mlops_kit.core.errors import KitError, NotAllowedError, RunFailedError
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import ApprovalOutcome, ApprovalRecord, PromotionRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project.config.services import PeopleConfig
from mlops_kit.project.identity import TOKEN_VARIABLE, is_identified
from mlops_kit.project.loader import Project

AUTOMATIC_APPROVER = "mlops.yaml (approval: automatic)"  # the actor where no person has to decide
REINSTATING_ACTOR = (
    "mlops watch (reinstatement)"  # who promotes an earlier version of a known concept
)
_MAX_INSERT_ATTEMPTS = 20


@dataclass(frozen=True)
class ReviewedVersion:
    """The facts about a registered version that approving and promoting it depend on.

    Parameters
    ----------
    version : str
        The version's number in the registry.
    model_hash, evidence_hash : str
        Hashes of the model and of the artifacts the review looked at.
    review : str
        ``passed`` or ``failed``.
    sample_rows : int
        Number of rows if the model was trained on a sample, otherwise 0.
    author : str
        Who ran the training.
    """

    version: str
    model_hash: str
    evidence_hash: str
    review: str
    sample_rows: int
    author: str


def get_current_promotion(project: Project) -> PromotionRecord | None:
    """Return the promotion in force, or None if nothing was ever promoted."""
    promotions = list_promotions(project, limit=1)
    return promotions[0] if promotions else None


def describe_champion(project: Project) -> str:
    """Describe which version stays in service after a decision that promotes none."""
    current = get_current_promotion(project)
    if current is None:
        return "no version is in service"
    return f"version {current.version} stays in service"


def list_promotions(project: Project, limit: int = 1000) -> list[PromotionRecord]:
    """Return the promotions of the project's model, newest first."""
    statement = (
        sa.select(PromotionRecord)
        .where(PromotionRecord.model == project.config.name)
        .order_by(PromotionRecord.number.desc())
        .limit(limit)
    )
    return query_records(project, statement)


def find_approval(project: Project, version: ReviewedVersion) -> ApprovalRecord | None:
    """Return the last decision on a version with exactly this model and evidence."""
    return find_approval_by_hashes(
        project,
        version.version,
        version.model_hash,
        version.evidence_hash,
    )


def find_approval_by_hashes(
    project: Project,
    version: str,
    model_hash: str,
    evidence_hash: str,
) -> ApprovalRecord | None:
    """Return the last decision on a version whose model and evidence have these hashes."""
    statement = (
        sa.select(ApprovalRecord)
        .filter_by(
            model=project.config.name,
            version=version,
            model_hash=model_hash,
            evidence_hash=evidence_hash,
        )
        .order_by(ApprovalRecord.id.desc())
        .limit(1)
    )
    approvals = query_records(project, statement)
    return approvals[0] if approvals else None


def list_approvals(project: Project, limit: int = 1000) -> list[ApprovalRecord]:
    """Return all decisions on the project's versions, newest first."""
    statement = (
        sa.select(ApprovalRecord)
        .where(ApprovalRecord.model == project.config.name)
        .order_by(ApprovalRecord.id.desc())
        .limit(limit)
    )
    return query_records(project, statement)


def record_approval(
    project: Project,
    version: ReviewedVersion,
    outcome: ApprovalOutcome,
    actor: str,
    reason: str,
    last_seen_id: int | None = None,
) -> ApprovalRecord:
    """Record a decision on a reviewed version.

    Parameters
    ----------
    last_seen_id : int, optional
        The id of the last decision on this version that the person had seen, 0 for none. If
        another decision was recorded since, this one is refused. None skips the check.

    Raises
    ------
    KitError
        If the reason is empty.
    NotAllowedError
        If the person may not decide, or is the author and may not approve their own work.
    RunFailedError
        If a version that failed its review or was trained on a sample is to be approved, or
        somebody else has decided since.
    """
    if not reason.strip():
        raise KitError(
            f"a decision needs a reason, got {reason!r}",
            "a sentence that others can read later",
            '--reason "why"',
        )
    if actor != AUTOMATIC_APPROVER:
        check_permission(project.config.people, actor, version.author)
    if outcome == ApprovalOutcome.APPROVED:
        check_deployable(version)
    approval = ApprovalRecord(
        model=project.config.name,
        version=version.version,
        model_hash=version.model_hash,
        evidence_hash=version.evidence_hash,
        outcome=str(outcome),
        actor=actor,
        reason=reason.strip(),
        decided_at=current_timestamp(),
    )
    return _insert_approval(project, approval, last_seen_id)


def _insert_approval(
    project: Project,
    approval: ApprovalRecord,
    last_seen_id: int | None,
) -> ApprovalRecord:
    """Insert a decision unless another one on the version was recorded since ``last_seen_id``."""
    statement = _build_approval_insert(approval, last_seen_id)
    inserted_id = _execute_serialized(project, statement)
    approvals = list_approvals(project)
    if inserted_id is None:
        latest = next(a for a in approvals if a.version == approval.version)
        decision = f"{latest.outcome}: {latest.reason}"
        raise RunFailedError(
            f"{latest.actor} has decided on version {approval.version} in between ({decision})",
            "the state that the page showed",
            "reload the page, then decide again",
        )
    return next(a for a in approvals if a.id == inserted_id)


def _build_approval_insert(approval: ApprovalRecord, last_seen_id: int | None) -> sa.Insert:
    """Build one statement that checks for newer decisions and inserts this one."""
    mapper = sa.inspect(ApprovalRecord)
    values = {
        column.name: getattr(approval, mapper.get_property_by_column(column).key)
        for column in ApprovalRecord.__table__.columns
        if not column.primary_key
    }
    latest_id = (
        sa.select(sa.func.coalesce(sa.func.max(ApprovalRecord.id), 0))
        .where(
            ApprovalRecord.model == approval.model,
            ApprovalRecord.version == approval.version,
        )
        .scalar_subquery()
    )
    is_unchanged = sa.true() if last_seen_id is None else latest_id == last_seen_id
    literals = [sa.literal(value) for value in values.values()]
    row = sa.select(*literals).where(is_unchanged)
    return sa.insert(ApprovalRecord).from_select(list(values), row)


def _execute_serialized(project: Project, statement: sa.Insert) -> int | None:
    """Execute an approval's insert as if alone; return the new id, or None if it was refused.

    SQLite executes a single statement atomically. PostgreSQL does so at the isolation level
    SERIALIZABLE, where it may reject one or all of several concurrent transactions, so a rejected
    transaction is tried again.
    """
    returning = statement.returning(ApprovalRecord.id)
    for _ in range(_MAX_INSERT_ATTEMPTS):
        with suppress(sa.exc.OperationalError), open_transaction(project) as session:
            connection = session.connection(execution_options={"isolation_level": "SERIALIZABLE"})
            inserted_id: int | None = connection.execute(returning).scalar()
            return inserted_id
    raise RunFailedError(
        f"the database was too busy to record the decision in {_MAX_INSERT_ATTEMPTS} attempts",
        "a time at which nobody else decides",
        "try again",
    )


def check_permission(
    people: PeopleConfig,
    actor: str,
    author: str = "",
    approves: bool = True,
) -> None:
    """Check that a person may approve, or operate, the project's model.

    Parameters
    ----------
    author : str
        Who made the version; may not approve it where ``people.four_eyes`` is set.
    approves : bool
        True for approvals (``people.approvers``), False for operations such as a rollback
        (``people.operators``).

    Raises
    ------
    NotAllowedError
        Naming who may.
    """
    if approves:
        allowed = people.approvers
        setting = "people.approvers"
    else:
        allowed = people.operators
        setting = "people.operators"
    if allowed and actor not in allowed:
        raise NotAllowedError(
            f"{actor!r} may not decide this",
            f"one of: {', '.join(allowed)}",
            f"ask one of them; {setting} in mlops.yaml lists who may",
        )
    if approves and people.four_eyes and not is_identified(people, author):
        raise NotAllowedError(
            f"the author of this version is {author}, so that nobody can be told apart from them",
            "a version whose author is known",
            f"train it again with the author's token in {TOKEN_VARIABLE}",
        )
    if approves and people.four_eyes and actor == author:
        raise NotAllowedError(
            f"{actor!r} made this version and may not approve it",
            "another person",
            "ask someone else; people.four_eyes in mlops.yaml requires two people",
        )


def check_deployable(version: ReviewedVersion) -> None:
    """Check that a version passed its review and was not trained on a sample.

    Raises
    ------
    RunFailedError
        Saying which condition fails.
    """
    if version.review != "passed":
        raise RunFailedError(
            f"version {version.version} did not pass its review",
            "a version whose review passed",
            "read its model card and fix what blocks it",
        )
    if version.sample_rows:
        raise RunFailedError(
            f"version {version.version} was trained on a sample of {version.sample_rows} rows",
            "a model trained on all rows",
            "mlops run without --sample",
        )


def record_promotion(
    project: Project,
    version: ReviewedVersion,
    previous: PromotionRecord | None,
    actor: str,
    reason: str,
) -> PromotionRecord:
    """Make an approved version champion, unless the champion changed in the meantime.

    Parameters
    ----------
    previous : PromotionRecord or None
        What ``get_current_promotion`` returned when the decision was taken.

    Raises
    ------
    RunFailedError
        If nobody approved this version with this model and evidence, or another promotion was
        recorded in between.
    """
    check_deployable(version)
    approval = find_approval(project, version)
    if approval is None or approval.outcome != ApprovalOutcome.APPROVED:
        raise RunFailedError(
            f"version {version.version} as it is now ({version.model_hash[:12]}) has no approval",
            "an approval of exactly this model and evidence",
            'mlops approve --reason "why"',
        )
    promotion = PromotionRecord(
        model=project.config.name,
        number=previous.number + 1 if previous else 1,
        version=version.version,
        model_hash=version.model_hash,
        evidence_hash=version.evidence_hash,
        previous_version=previous.version if previous else None,
        actor=actor,
        reason=reason,
        promoted_at=current_timestamp(),
    )
    try:
        with open_transaction(project) as session:
            session.add(promotion)
    except sa.exc.IntegrityError as error:
        raise _promoted_in_between_error(project, promotion.previous_version) from error
    return promotion


def _promoted_in_between_error(project: Project, expected_champion: str | None) -> RunFailedError:
    """Build the error for a champion that changed while a promotion was decided."""
    current = get_current_promotion(project)
    version = current.version if current else "none"
    actor = current.actor if current else "nobody"
    return RunFailedError(
        f"version {version} was promoted in between by {actor}",
        f"version {expected_champion or 'none'} as the champion",
        "review the new champion, then decide again",
    )
