"""The project's database: decisions, predictions, labels, watched windows, incidents.

SQLite by default (WAL, so that readers do not wait; synchronous=FULL, so that a committed row survives
a power cut), any SQLAlchemy URL by one setting. Moments are text in UTC, fixed in width, so that they
sort and compare as text; documents are JSON text.

To add a table: a class that ends in ``Base``'s; the next command makes it where it is missing.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
)


class Base(MappedAsDataclass, DeclarativeBase):
    """The tables of a project."""


class _NumberedRow(MappedAsDataclass):
    """A row with a number of its own, about a project's model."""

    id: Mapped[int] = mapped_column(primary_key=True, init=False, sort_order=-2)
    model: Mapped[str] = mapped_column(sort_order=-1)


class ApprovalRecord(_NumberedRow, Base):
    """What a person, or the rule of ``approval: automatic``, said of a reviewed version."""

    __tablename__ = "opinions"
    version: Mapped[str]
    model_hash: Mapped[str]
    evidence_hash: Mapped[str]
    outcome: Mapped[str] = mapped_column("word")
    actor: Mapped[str] = mapped_column("by")
    reason: Mapped[str] = mapped_column("why")
    decided_at: Mapped[str] = mapped_column("at")


class PromotionRecord(_NumberedRow, Base):
    """A version that began to serve, and the one before."""

    __tablename__ = "promotions"
    __table_args__ = (sa.UniqueConstraint("model", "number"),)
    number: Mapped[int]
    version: Mapped[str]
    model_hash: Mapped[str]
    evidence_hash: Mapped[str]
    previous_version: Mapped[str | None] = mapped_column("before")
    actor: Mapped[str] = mapped_column("by")
    reason: Mapped[str] = mapped_column("why")
    promoted_at: Mapped[str] = mapped_column("at")


class PredictionRecord(Base):
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
    request_id: Mapped[str] = mapped_column("request")
    request_hash: Mapped[str] = mapped_column("body")
    row_key: Mapped[str] = mapped_column("key")
    event_time: Mapped[str | None] = mapped_column("moment")
    score: Mapped[float]
    predicted_class: Mapped[float | None] = mapped_column("decision")
    features: Mapped[str]
    origin: Mapped[str]
    scored_at: Mapped[str] = mapped_column("at")


class LabelRecord(_NumberedRow, Base):
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
    prediction_id: Mapped[str] = mapped_column("prediction")
    value: Mapped[float | None]
    raw_value: Mapped[str] = mapped_column("said")
    known_at: Mapped[str] = mapped_column("known")
    origin: Mapped[str]
    outcome: Mapped[str] = mapped_column("word")
    imported_at: Mapped[str] = mapped_column("at")
    is_current: Mapped[bool] = mapped_column("counts", default=False)


class WindowRecord(_NumberedRow, Base):
    """A stretch of time that was monitored: looked at once when it ended, settled once when its labels were due."""

    __tablename__ = "windows"
    __table_args__ = (sa.UniqueConstraint("model", "start"),)
    start: Mapped[str]
    end: Mapped[str]
    version: Mapped[str]
    monitored_at: Mapped[str] = mapped_column("looked_at")
    monitoring_json: Mapped[str] = mapped_column("looked")
    realized_at: Mapped[str | None] = mapped_column("settled_at", default=None)
    realized_json: Mapped[str | None] = mapped_column("settled", default=None)


class IncidentRecord(_NumberedRow, Base):
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
    signal: Mapped[str] = mapped_column("cause")
    severity: Mapped[str]
    title: Mapped[str]
    message: Mapped[str] = mapped_column("sentence")
    opened_at: Mapped[str] = mapped_column("opened")
    updated_at: Mapped[str] = mapped_column("updated")
    window_count: Mapped[int] = mapped_column("windows", default=1)
    closed_at: Mapped[str | None] = mapped_column("closed", default=None)
    close_reason: Mapped[str] = mapped_column("ended", default="")
    acknowledged_by: Mapped[str | None] = mapped_column("seen_by", default=None)
    acknowledged_at: Mapped[str | None] = mapped_column("seen_at", default=None)
    acknowledge_reason: Mapped[str | None] = mapped_column("seen_why", default=None)


class RetrainingRecord(_NumberedRow, Base):
    """A decision on retraining, yes or no, with its reason; ``run`` is what came of a yes.

    ``state`` is empty for a no, then ``due``, then the status of the run.
    """

    __tablename__ = "retrainings"
    __table_args__ = (sa.UniqueConstraint("model", "moment", "by"),)
    as_of: Mapped[str] = mapped_column("moment")
    action: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str] = mapped_column("by")
    decided_at: Mapped[str] = mapped_column("at")
    status: Mapped[str] = mapped_column("state", default="")
    run_id: Mapped[str] = mapped_column("run", default="")


RETRAINING_DUE = "due"  # state of a retraining that the next pass of the watch makes


class WatchRecord(Base):
    """How far ``mlops watch`` has come with a model."""

    __tablename__ = "watch"
    model: Mapped[str] = mapped_column(primary_key=True)
    watched_from: Mapped[str] = mapped_column("since")
    watched_until: Mapped[str] = mapped_column("upto")
    updated_at: Mapped[str] = mapped_column("at")
