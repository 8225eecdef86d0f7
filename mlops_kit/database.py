"""The project's database: decisions, predictions, labels, watched windows, incidents.

SQLite by default (WAL, so that readers do not wait; synchronous=FULL, so that a committed row survives
a power cut), any SQLAlchemy URL by one setting. Moments are text in UTC, fixed in width, so that they
sort and compare as text; documents are JSON text.

To add a table: a class that ends in ``Base``'s; the next command makes it where it is missing.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    mapped_column,
    sessionmaker,
)

from mlops_kit.config import Project
from mlops_kit.errors import KitError, RunFailed


class Base(MappedAsDataclass, DeclarativeBase):
    """The tables of a project."""


class Numbered(MappedAsDataclass):
    """A row with a number of its own, about a project's model."""

    id: Mapped[int] = mapped_column(primary_key=True, init=False, sort_order=-2)
    model: Mapped[str] = mapped_column(sort_order=-1)


class Opinion(Numbered, Base):
    """What a person, or the rule of ``approval: automatic``, said of a reviewed version."""

    __tablename__ = "opinions"
    version: Mapped[str]
    model_hash: Mapped[str]
    evidence_hash: Mapped[str]
    word: Mapped[str]
    by: Mapped[str]
    why: Mapped[str]
    at: Mapped[str]


class Promotion(Numbered, Base):
    """A version that began to serve, and the one before."""

    __tablename__ = "promotions"
    __table_args__ = (sa.UniqueConstraint("model", "number"),)
    number: Mapped[int]
    version: Mapped[str]
    model_hash: Mapped[str]
    evidence_hash: Mapped[str]
    before: Mapped[str | None]
    by: Mapped[str]
    why: Mapped[str]
    at: Mapped[str]


class Prediction(Base):
    """An answer that was given; ``features`` are the model's inputs in the order in which it takes them.

    ``key`` names the row in the source (a JSON list, empty text if the asker gave none), ``moment`` is
    the row's own, ``at`` the one at which it was scored.
    """

    __tablename__ = "predictions"
    __table_args__ = (
        sa.Index("predictions_by_moment", "model", "moment"),
        sa.Index("predictions_by_key", "model", "key"),
    )
    id: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str]
    version: Mapped[str]
    model_hash: Mapped[str]
    request: Mapped[str]
    body: Mapped[str]
    key: Mapped[str]
    moment: Mapped[str | None]
    score: Mapped[float]
    decision: Mapped[float | None]
    features: Mapped[str]
    origin: Mapped[str]
    at: Mapped[str]


class Label(Numbered, Base):
    """What became known of a prediction: each message is kept, and of each prediction at most one ``counts``.

    ``word`` says what was made of it: joined, corrected, repeated, unknown (no such prediction yet),
    refused (no value of the target). ``known`` is the moment from which it was known.
    """

    __tablename__ = "labels"
    __table_args__ = (
        sa.Index(
            "one_label_counts",
            "prediction",
            unique=True,
            sqlite_where=sa.text("counts = 1"),
            postgresql_where=sa.text("counts"),
        ),
        sa.Index("labels_by_word", "model", "word"),
    )
    prediction: Mapped[str]
    value: Mapped[float | None]
    said: Mapped[str]
    known: Mapped[str]
    origin: Mapped[str]
    word: Mapped[str]
    at: Mapped[str]
    counts: Mapped[bool] = mapped_column(default=False)


class Window(Numbered, Base):
    """A stretch of time that was monitored: looked at once when it ended, settled once when its labels were due."""

    __tablename__ = "windows"
    __table_args__ = (sa.UniqueConstraint("model", "start"),)
    start: Mapped[str]
    end: Mapped[str]
    version: Mapped[str]
    looked_at: Mapped[str]
    looked: Mapped[str]
    settled_at: Mapped[str | None] = mapped_column(default=None)
    settled: Mapped[str | None] = mapped_column(default=None)


class Incident(Numbered, Base):
    """Something that somebody should know: opened, updated while it lasts, closed. One open for each model and cause."""

    __tablename__ = "incidents"
    __table_args__ = (
        sa.Index(
            "one_open_incident",
            "model",
            "cause",
            unique=True,
            sqlite_where=sa.text("closed IS NULL"),
            postgresql_where=sa.text("closed IS NULL"),
        ),
    )
    cause: Mapped[str]
    severity: Mapped[str]
    title: Mapped[str]
    sentence: Mapped[str]
    opened: Mapped[str]
    updated: Mapped[str]
    windows: Mapped[int] = mapped_column(default=1)
    closed: Mapped[str | None] = mapped_column(default=None)
    ended: Mapped[str] = mapped_column(default="")
    seen_by: Mapped[str | None] = mapped_column(default=None)
    seen_at: Mapped[str | None] = mapped_column(default=None)
    seen_why: Mapped[str | None] = mapped_column(default=None)


class Retraining(Numbered, Base):
    """A decision on retraining, yes or no, with its reason; ``run`` is what came of a yes.

    ``state`` is empty for a no, then ``due``, then the status of the run.
    """

    __tablename__ = "retrainings"
    __table_args__ = (sa.UniqueConstraint("model", "moment", "by"),)
    moment: Mapped[str]
    action: Mapped[str]
    reason: Mapped[str]
    by: Mapped[str]
    at: Mapped[str]
    state: Mapped[str] = mapped_column(default="")
    run: Mapped[str] = mapped_column(default="")


DUE = "due"  # state of a retraining that the next pass of the watch makes


class Watch(Base):
    """How far ``mlops watch`` has come with a model."""

    __tablename__ = "watch"
    model: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[str]
    upto: Mapped[str]
    at: Mapped[str]


def now() -> str:
    """This moment, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def stamp(moment: datetime) -> str:
    """A zoned moment as text of one width, UTC, to the microsecond: it sorts as the moments do.

    >>> stamp(datetime(2013, 7, 1, tzinfo=UTC))
    '2013-07-01T00:00:00.000000+00:00'
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def place(project: Project) -> tuple[str, Path | None]:
    """The database's URL, and its file if it is SQLite's."""
    url = os.path.expandvars(project.config.database)
    if not url.startswith("sqlite:///"):
        return url, None
    file = project.path(url.removeprefix("sqlite:///"))
    return f"sqlite:///{file}", file


def exists(project: Project) -> bool:
    """Whether there is a database to read; a file that nobody has written yet is none."""
    file = place(project)[1]
    return file is None or file.exists()


@lru_cache(maxsize=8)
def engine(url: str, file: Path | None) -> sa.Engine:
    """The engine of a database whose tables are there; one process at a time makes them.

    Raises
    ------
    KitError
        If the URL names no database that can be spoken to.
    RunFailed
        If the database does not answer.
    """
    try:
        made = sa.create_engine(
            url, connect_args={"timeout": 30} if file else {}, pool_pre_ping=file is None
        )
        if file is None:
            ready(made)
            return made
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as error:
        raise KitError(
            f"database: {str(error).splitlines()[0]}",
            "a SQLAlchemy URL and the driver it names, such as postgresql+psycopg://…",
            "edit 'database' in mlops.yaml, or pip install the driver",
        ) from error
    except sa.exc.OperationalError as error:
        raise RunFailed(
            f"the database does not answer: {str(error.orig).splitlines()[0]}",
            "a server at the address named under 'database'",
            "start it, or edit 'database' in mlops.yaml",
        ) from error
    sa.event.listen(made, "connect", durable)
    with FileLock(f"{file}.lock"):  # makes the folder too
        ready(made)
    return made


def ready(made: sa.Engine) -> None:
    """Make the tables that are missing, and see that the others have all their columns.

    Raises
    ------
    KitError
        If a table was made by another version of this package.
    """
    Base.metadata.create_all(made)
    known = sa.inspect(made)
    for name, table in Base.metadata.tables.items():
        absent = sorted(
            {c.name for c in table.columns} - {c["name"] for c in known.get_columns(name)}
        )
        if absent:
            raise KitError(
                f"the table {name!r} of the database has no column {absent[0]!r}",
                "a database made by this version of mlops-kit",
                f"ALTER TABLE {name} ADD COLUMN …, or name another under 'database'",
            )


def durable(connection: Any, record: Any) -> None:
    """A committed row survives a power cut, and readers do not wait for the writer."""
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")


def session(project: Project) -> AbstractContextManager[Session]:
    """One transaction."""
    return sessionmaker(engine(*place(project)), expire_on_commit=False).begin()


def rows(project: Project, asked: sa.Select[Any]) -> list[Any]:
    """The answer to a query of whole objects; nothing where there is no database yet."""
    if not exists(project):
        return []
    with session(project) as opened:
        return list(opened.scalars(asked))
