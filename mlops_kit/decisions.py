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

from mlops_kit.config import People, Project
from mlops_kit.database import Opinion, Promotion, now, rows, session
from mlops_kit.errors import KitError, NotAllowed, RunFailed

Word = Literal[
    "approved", "rejected", "changes"
]  # changes: somebody asked for some before it may serve
RULE = "mlops.yaml (approval: automatic)"  # who approves where no person has to


def current(project: Project) -> Promotion | None:
    """The promotion that holds; None if nothing was ever promoted."""
    return next(iter(history(project, 1)), None)


def history(project: Project, most: int = 1000) -> list[Promotion]:
    """The promotions of the project's model, the newest first."""
    return rows(
        project,
        sa.select(Promotion)
        .where(Promotion.model == project.config.name)
        .order_by(Promotion.number.desc())
        .limit(most),
    )


def opinion(project: Project, facts: dict[str, Any]) -> Opinion | None:
    """The last word on a version as it is: its hash and its evidence are those that were looked at."""
    same = {
        "model": project.config.name,
        **{k: facts[k] for k in ("version", "model_hash", "evidence_hash")},
    }
    return next(
        iter(
            rows(project, sa.select(Opinion).filter_by(**same).order_by(Opinion.id.desc()).limit(1))
        ),
        None,
    )


def opinions(project: Project, most: int = 1000) -> list[Opinion]:
    """All that was said of the project's versions, the newest first."""
    return rows(
        project,
        sa.select(Opinion)
        .where(Opinion.model == project.config.name)
        .order_by(Opinion.id.desc())
        .limit(most),
    )


def say(
    project: Project, facts: dict[str, Any], word: Word, by: str, why: str, seen: int | None = None
) -> Opinion:
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
    if by != RULE:
        may(project.config.people, by, facts.get("author", ""))
    if word == "approved":
        fit(facts)
    made = Opinion(
        project.config.name,
        facts["version"],
        facts["model_hash"],
        facts["evidence_hash"],
        word,
        by,
        why.strip(),
        now(),
    )
    return alone(project, made, seen)


def alone(project: Project, made: Opinion, seen: int | None) -> Opinion:
    """Record an opinion, if ``seen`` is given only if nobody has said anything of the version since: of two at once one is written.

    One statement asks and writes, which SQLite does whole. PostgreSQL does so only if told to (SERIALIZABLE),
    and may then turn away all but one, or all; who was turned away asks again.
    """
    held = {c.name: getattr(made, c.name) for c in Opinion.__table__.columns if c.name != "id"}
    same = (Opinion.model == made.model, Opinion.version == made.version)
    last = sa.select(sa.func.coalesce(sa.func.max(Opinion.id), 0)).where(*same).scalar_subquery()
    unseen = sa.true() if seen is None else last == seen
    written = (
        sa.insert(Opinion)
        .from_select(list(held), sa.select(*(sa.literal(v) for v in held.values())).where(unseen))
        .returning(Opinion.id)
    )
    for _ in range(20):
        with suppress(sa.exc.OperationalError), session(project) as opened:
            number = (
                opened.connection(execution_options={"isolation_level": "SERIALIZABLE"})
                .execute(written)
                .scalar()
            )
            break
    else:
        raise RunFailed(
            "the database was too busy to record the decision",
            "a moment in which nobody else decides",
            "try again",
        )
    known = {o.id: o for o in opinions(project)}
    if number is None:
        other = next(o for o in known.values() if o.version == made.version)
        raise RunFailed(
            f"{other.by} has decided on version {made.version} in between ({other.word}: {other.why})",
            "what the page showed",
            "load the page again, then decide",
        )
    return known[number]


def may(people: People, by: str, author: str = "", approves: bool = True) -> None:
    """Refuse somebody who may not decide.

    Raises
    ------
    NotAllowed
        Naming who may.
    """
    allowed, key = (people.approvers, "approvers") if approves else (people.operators, "operators")
    if allowed and by not in allowed:
        raise NotAllowed(
            f"{by!r} may not decide this",
            f"one of: {', '.join(allowed)}",
            f"ask one of them; people.{key} in mlops.yaml names who may",
        )
    if approves and people.four_eyes and by == author:
        raise NotAllowed(
            f"{by!r} made this version and may not approve it",
            "another person",
            "ask somebody else; people.four_eyes in mlops.yaml asks for two",
        )


def fit(facts: dict[str, Any]) -> None:
    """Refuse to serve a version whose review failed, or that was made from a sample.

    Raises
    ------
    RunFailed
        Saying which.
    """
    if facts["review"] != "passed":
        raise RunFailed(
            f"version {facts['version']} did not pass its review",
            "a version whose review passed",
            "look at its model card; mend what blocks it",
        )
    if facts["sample"] != "0":
        raise RunFailed(
            f"version {facts['version']} was made from a sample of {facts['sample']} rows",
            "a model trained on all rows",
            "mlops run without --sample",
        )


def promote(
    project: Project, facts: dict[str, Any], before: Promotion | None, by: str, why: str
) -> Promotion:
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
    fit(facts)
    approved = opinion(project, facts)
    if approved is None or approved.word != "approved":
        raise RunFailed(
            f"version {facts['version']} as it is now ({facts['model_hash'][:12]}) has no approval",
            "an approval of this very model and evidence",
            'mlops approve --reason "why"',
        )
    number, stood = (before.number + 1, before.version) if before else (1, None)
    made = Promotion(
        project.config.name,
        number,
        facts["version"],
        facts["model_hash"],
        facts["evidence_hash"],
        stood,
        by,
        why,
        now(),
    )
    try:
        with session(project) as opened:
            opened.add(made)
    except sa.exc.IntegrityError as error:
        present = current(project)
        raise RunFailed(
            f"version {present.version if present else 'none'} was promoted in between by {present.by if present else 'nobody'}",
            f"version {stood or 'none'} as the champion",
            "look at it, then decide again",
        ) from error
    return made
