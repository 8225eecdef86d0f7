"""Who decided what: the one truth about which version serves, in a database of the project's own.

A promotion is a row, numbered without gaps for each model; of two that think of the same champion only
one can be written, for a number stands once. MLflow's alias only follows (its own write is
last-writer-wins, and anyone can move it in its UI). A version whose hash nobody approved is not served,
whatever the alias says.

To add a decision: 1. its word in ``Word``, 2. who may take it in ``config.People``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

import sqlalchemy as sa

from mlops_kit.core.errors import KitError, NotAllowedError, RunFailedError
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import ApprovalRecord, PromotionRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project.config.services import PeopleConfig
from mlops_kit.project.loader import Project

ApprovalOutcome = Literal[
    "approved", "rejected", "changes"
]  # changes: somebody asked for some before it may serve
AUTOMATIC_APPROVER = "mlops.yaml (approval: automatic)"  # who approves where no person has to


def get_current_promotion(project: Project) -> PromotionRecord | None:
    """The promotion that holds; None if nothing was ever promoted."""
    return next(iter(list_promotions(project, 1)), None)


def list_promotions(project: Project, most: int = 1000) -> list[PromotionRecord]:
    """The promotions of the project's model, the newest first."""
    return query_records(
        project,
        sa.select(PromotionRecord)
        .where(PromotionRecord.model == project.config.name)
        .order_by(PromotionRecord.number.desc())
        .limit(most),
    )


def find_approval(project: Project, facts: dict[str, Any]) -> ApprovalRecord | None:
    """The last word on a version as it is: its hash and its evidence are those that were looked at."""
    same = {
        "model": project.config.name,
        **{k: facts[k] for k in ("version", "model_hash", "evidence_hash")},
    }
    return next(
        iter(
            query_records(
                project,
                sa.select(ApprovalRecord)
                .filter_by(**same)
                .order_by(ApprovalRecord.id.desc())
                .limit(1),
            )
        ),
        None,
    )


def list_approvals(project: Project, most: int = 1000) -> list[ApprovalRecord]:
    """All that was said of the project's versions, the newest first."""
    return query_records(
        project,
        sa.select(ApprovalRecord)
        .where(ApprovalRecord.model == project.config.name)
        .order_by(ApprovalRecord.id.desc())
        .limit(most),
    )


def record_approval(
    project: Project,
    facts: dict[str, Any],
    word: ApprovalOutcome,
    by: str,
    why: str,
    seen: int | None = None,
) -> ApprovalRecord:
    """Record what somebody says of a reviewed version.

    Parameters
    ----------
    facts : dict
        ``version``, ``model_hash``, ``evidence_hash``, ``review``, ``sample`` and ``author``, as the registry holds them.
    seen : int, optional
        The number of the last opinion on this version that the person knew of, 0 for none; if another
        came since, theirs is not recorded. None: whatever was said before.

    Raises
    ------
    KitError
        If there is no reason.
    NotAllowed
        If the person may not decide, or the author may not approve its own work.
    RunFailed
        If a version whose review failed, or that was made from a sample, is to be approved; or somebody
        else has decided since.
    """
    if not why.strip():
        raise KitError(
            "a decision needs a reason", "a sentence that others can read later", '--reason "why"'
        )
    if by != AUTOMATIC_APPROVER:
        check_permission(project.config.people, by, facts.get("author", ""))
    if word == "approved":
        check_deployable(facts)
    made = ApprovalRecord(
        project.config.name,
        facts["version"],
        facts["model_hash"],
        facts["evidence_hash"],
        word,
        by,
        why.strip(),
        current_timestamp(),
    )
    return _insert_approval(project, made, seen)


def _insert_approval(project: Project, made: ApprovalRecord, seen: int | None) -> ApprovalRecord:
    """Record an opinion, if ``seen`` is given only if nobody has said anything of the version since: of two at once one is written.

    One statement asks and writes, which SQLite does whole. PostgreSQL does so only if told to (SERIALIZABLE),
    and may then turn away all but one, or all; who was turned away asks again.
    """
    held = {
        c.name: getattr(made, c.name) for c in ApprovalRecord.__table__.columns if c.name != "id"
    }
    same = (ApprovalRecord.model == made.model, ApprovalRecord.version == made.version)
    last = (
        sa.select(sa.func.coalesce(sa.func.max(ApprovalRecord.id), 0))
        .where(*same)
        .scalar_subquery()
    )
    unseen = sa.true() if seen is None else last == seen
    written = (
        sa.insert(ApprovalRecord)
        .from_select(list(held), sa.select(*(sa.literal(v) for v in held.values())).where(unseen))
        .returning(ApprovalRecord.id)
    )
    for _ in range(20):
        with suppress(sa.exc.OperationalError), open_transaction(project) as opened:
            number = (
                opened.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                .execute(written)
                .scalar()
            )
            break
    else:
        raise RunFailedError(
            "the database was too busy to record the decision",
            "a moment in which nobody else decides",
            "try again",
        )
    known = {o.id: o for o in list_approvals(project)}
    if number is None:
        other = next(o for o in known.values() if o.version == made.version)
        raise RunFailedError(
            f"{other.actor} has decided on version {made.version} in between ({other.outcome}: {other.reason})",
            "what the page showed",
            "load the page again, then decide",
        )
    return known[number]


def check_permission(
    people: PeopleConfig, by: str, author: str = "", approves: bool = True
) -> None:
    """Refuse somebody who may not decide.

    Raises
    ------
    NotAllowed
        Naming who may.
    """
    allowed, key = (people.approvers, "approvers") if approves else (people.operators, "operators")
    if allowed and by not in allowed:
        raise NotAllowedError(
            f"{by!r} may not decide this",
            f"one of: {', '.join(allowed)}",
            f"ask one of them; people.{key} in mlops.yaml names who may",
        )
    if approves and people.four_eyes and by == author:
        raise NotAllowedError(
            f"{by!r} made this version and may not approve it",
            "another person",
            "ask somebody else; people.four_eyes in mlops.yaml asks for two",
        )


def check_deployable(facts: dict[str, Any]) -> None:
    """Refuse to serve a version whose review failed, or that was made from a sample.

    Raises
    ------
    RunFailed
        Saying which.
    """
    if facts["review"] != "passed":
        raise RunFailedError(
            f"version {facts['version']} did not pass its review",
            "a version whose review passed",
            "look at its model card; mend what blocks it",
        )
    if facts["sample"] != "0":
        raise RunFailedError(
            f"version {facts['version']} was made from a sample of {facts['sample']} rows",
            "a model trained on all rows",
            "mlops run without --sample",
        )


def record_promotion(
    project: Project, facts: dict[str, Any], before: PromotionRecord | None, by: str, why: str
) -> PromotionRecord:
    """Let a version serve, if the champion is still the one that was thought of and the version is approved.

    Parameters
    ----------
    facts : dict
        As of ``say``.
    before : Promotion or None
        What ``current`` gave when the decision was taken.

    Raises
    ------
    RunFailed
        If nobody approved this version with this hash and this evidence, or another promotion came in between.
    """
    check_deployable(facts)
    approved = find_approval(project, facts)
    if approved is None or approved.outcome != "approved":
        raise RunFailedError(
            f"version {facts['version']} as it is now ({facts['model_hash'][:12]}) has no approval",
            "an approval of this very model and evidence",
            'mlops approve --reason "why"',
        )
    number, stood = (before.number + 1, before.version) if before else (1, None)
    made = PromotionRecord(
        project.config.name,
        number,
        facts["version"],
        facts["model_hash"],
        facts["evidence_hash"],
        stood,
        by,
        why,
        current_timestamp(),
    )
    try:
        with open_transaction(project) as opened:
            opened.add(made)
    except sa.exc.IntegrityError as error:
        present = get_current_promotion(project)
        raise RunFailedError(
            f"version {present.version if present else 'none'} was promoted in between by {present.actor if present else 'nobody'}",
            f"version {stood or 'none'} as the champion",
            "look at it, then decide again",
        ) from error
    return made
