"""Who decided what: the one truth about which version serves, in a database of the project's own.

A promotion is a row, numbered without gaps for each model; of two that think of the same champion only
one can be written, for a number stands once. MLflow's alias only follows (its own write is
last-writer-wins, and anyone can move it in its UI). A version whose hash nobody approved is not served,
whatever the alias says.

To add a decision: 1. its word in ``Word``, 2. who may take it in ``config.People``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column

from mlops_kit.config import People, Project
from mlops_kit.errors import KitError, RunFailed

Word = Literal["approved", "rejected"]
RULE = "mlops.yaml (approval: automatic)"  # who approves where no person has to


class Base(MappedAsDataclass, DeclarativeBase):
    """The tables of a project."""


class Opinion(Base):
    """What a person, or the rule of ``approval: automatic``, said of a reviewed version."""

    __tablename__ = "opinions"
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    model: Mapped[str]
    version: Mapped[str]
    model_hash: Mapped[str]
    evidence_hash: Mapped[str]
    word: Mapped[str]
    by: Mapped[str]
    why: Mapped[str]
    at: Mapped[str]


class Promotion(Base):
    """A version that began to serve, and the one before."""

    __tablename__ = "promotions"
    __table_args__ = (sa.UniqueConstraint("model", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    model: Mapped[str]
    number: Mapped[int]
    version: Mapped[str]
    model_hash: Mapped[str]
    evidence_hash: Mapped[str]
    before: Mapped[str | None]
    by: Mapped[str]
    why: Mapped[str]
    at: Mapped[str]


def now() -> str:
    """This moment, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def database(project: Project) -> tuple[str, Path | None]:
    """The database's URL, and its file if it is SQLite's."""
    url = os.path.expandvars(project.config.database)
    if not url.startswith("sqlite:///"):
        return url, None
    file = project.path(url.removeprefix("sqlite:///"))
    return f"sqlite:///{file}", file


@lru_cache(maxsize=8)
def engine(url: str, file: Path | None) -> sa.Engine:
    """The engine of a database whose tables are there; one process at a time makes them."""
    made = sa.create_engine(url, connect_args={"timeout": 30} if file else {})
    if file is None:
        Base.metadata.create_all(made)
        return made
    file.parent.mkdir(parents=True, exist_ok=True)
    sa.event.listen(made, "connect", durable)
    with FileLock(f"{file}.lock"):
        Base.metadata.create_all(made)
    return made


def durable(connection: Any, record: Any) -> None:
    """A committed row survives a power cut, and readers do not wait for the writer."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


@contextmanager
def session(project: Project) -> Iterator[Session]:
    """One transaction."""
    with Session(engine(*database(project)), expire_on_commit=False) as opened, opened.begin():
        yield opened


def current(project: Project) -> Promotion | None:
    """The promotion that holds; None if nothing was ever promoted."""
    return next(iter(history(project, 1)), None)


def history(project: Project, most: int = 1000) -> list[Promotion]:
    """The promotions of the project's model, the newest first."""
    _, file = database(project)
    if file is not None and not file.exists():
        return []
    with session(project) as opened:
        asked = sa.select(Promotion).where(Promotion.model == project.config.name).order_by(Promotion.number.desc()).limit(most)
        return list(opened.scalars(asked))


def opinion(project: Project, facts: dict[str, Any]) -> Opinion | None:
    """The last word on a version as it is: its hash and its evidence are those that were looked at."""
    _, file = database(project)
    if file is not None and not file.exists():
        return None
    same = {"model": project.config.name, **{k: facts[k] for k in ("version", "model_hash", "evidence_hash")}}
    with session(project) as opened:
        return opened.scalars(sa.select(Opinion).filter_by(**same).order_by(Opinion.id.desc()).limit(1)).first()


def say(project: Project, facts: dict[str, Any], word: Word, by: str, why: str) -> Opinion:
    """Record what somebody says of a reviewed version.

    Parameters
    ----------
    facts : dict
        ``version``, ``model_hash``, ``evidence_hash``, ``review``, ``sample`` and ``author``, as the registry holds them.

    Raises
    ------
    KitError
        If there is no reason, the person may not decide, or the author may not approve its own work.
    RunFailed
        If a version whose review failed, or that was made from a sample, is to be approved.
    """
    if not why.strip():
        raise KitError("a decision needs a reason", "a sentence that others can read later", '--reason "why"')
    if by != RULE:
        may(project.config.people, by, facts.get("author", ""))
    if word == "approved":
        fit(facts)
    made = Opinion(project.config.name, facts["version"], facts["model_hash"], facts["evidence_hash"], word, by, why.strip(), now())
    with session(project) as opened:
        opened.add(made)
    return made


def may(people: People, by: str, author: str = "", approves: bool = True) -> None:
    """Refuse somebody who may not decide.

    Raises
    ------
    KitError
        Naming who may.
    """
    allowed, key = (people.approvers, "approvers") if approves else (people.operators, "operators")
    if allowed and by not in allowed:
        raise KitError(f"{by!r} may not decide this", f"one of: {', '.join(allowed)}", f"ask one of them; people.{key} in mlops.yaml names who may")
    if approves and people.four_eyes and by == author:
        raise KitError(f"{by!r} made this version and may not approve it", "another person", "ask somebody else; people.four_eyes in mlops.yaml asks for two")


def fit(facts: dict[str, Any]) -> None:
    """Refuse to serve a version whose review failed, or that was made from a sample.

    Raises
    ------
    RunFailed
        Saying which.
    """
    if facts["review"] != "passed":
        raise RunFailed(f"version {facts['version']} did not pass its review", "a version whose review passed", "look at its model card; mend what blocks it")
    if facts["sample"] != "0":
        raise RunFailed(f"version {facts['version']} was made from a sample of {facts['sample']} rows", "a model trained on all rows", "mlops run without --sample")


def promote(project: Project, facts: dict[str, Any], before: Promotion | None, by: str, why: str) -> Promotion:
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
        raise RunFailed(f"version {facts['version']} as it is now ({facts['model_hash'][:12]}) has no approval", "an approval of this very model and evidence", 'mlops approve --reason "why"')
    held = (project.config.name, (before.number if before else 0) + 1, facts["version"], facts["model_hash"], facts["evidence_hash"], before.version if before else None)
    made = Promotion(*held, by, why, now())
    try:
        with session(project) as opened:
            opened.add(made)
    except sa.exc.IntegrityError as error:
        present = current(project)
        raise RunFailed(f"version {present.version if present else 'none'} was promoted in between by {present.by if present else 'nobody'}", f"version {held[-1] or 'none'} as the champion", "look at it, then decide again") from error
    return made
