"""Tables of the project's database: approvals, promotions, predictions, labels and monitoring.

Timestamps are UTC text of fixed width (see ``mlops_kit.db.timestamps``) and documents are JSON
text. Python attributes follow the glossary; where a column of an existing database has another
name, ``mapped_column`` states it, so older databases open unchanged.

To add or change a table, edit the class (each derives from ``Base``) and write a migration:
``mlops_kit.db.migrations`` says how. The next command that opens a database runs it.
"""

from __future__ import annotations

from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column


class ApprovalOutcome(StrEnum):
    """What a person decided about a reviewed version."""

    APPROVED = "approved"
    REJECTED = "rejected"
    CHANGES_REQUESTED = "changes"


class LabelOutcome(StrEnum):
    """What the import did with a label message.

    The order is the order of precedence when one message reaches several predictions.
    """

    JOINED = "joined"
    CORRECTED = "corrected"
    REPEATED = "repeated"
    OUTDATED = "outdated"
    UNKNOWN = "unknown"
    REFUSED = "refused"


RETRAINING_DUE = "due"  # status of a retraining that the next pass of `mlops watch` starts
RETRAINING_REJECTED = "rejected"  # status of a retraining whose version a person rejected


class Base(MappedAsDataclass, DeclarativeBase):
    """Base class of all tables."""


class _NumberedRow(MappedAsDataclass):
    """A numbered row that belongs to one model of the project."""

    id: Mapped[int] = mapped_column(
        primary_key=True,
        init=False,
        sort_order=-2,
    )
    model: Mapped[str] = mapped_column(sort_order=-1)


class ApprovalRecord(_NumberedRow, Base):
    """A decision on a reviewed version, by a person or by the rule ``approval: automatic``.

    ``outcome`` is a value of ``ApprovalOutcome``.
    """

    __tablename__ = "opinions"
    version: Mapped[str]
    model_hash: Mapped[str]
    evidence_hash: Mapped[str]
    outcome: Mapped[str] = mapped_column("word")
    actor: Mapped[str] = mapped_column("by")
    reason: Mapped[str] = mapped_column("why")
    decided_at: Mapped[str] = mapped_column("at")


class PromotionRecord(_NumberedRow, Base):
    """A version that became champion, and the champion it replaced."""

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
    """One prediction with the inputs it was computed from.

    ``row_key`` identifies the row in the source (a JSON list; empty if the request gave no key).
    ``event_time`` is the row's own timestamp, ``scored_at`` the time of scoring. ``features``
    lists the model's inputs in the order in which the model takes them. ``probabilities`` lists the
    probability of each class of a multiclass task (a JSON list in the order of the codes), and
    ``score`` is the greatest of them.
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
    probabilities: Mapped[str | None] = mapped_column(default=None)


class LabelRecord(_NumberedRow, Base):
    """A label message for a prediction.

    Every message is kept; at most one per prediction ``is_current``. ``outcome`` is a value of
    ``LabelOutcome``, and ``known_at`` the time from which the value was known.
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
    """A monitored period: evaluated when it ends, and again when its labels are due.

    ``monitoring_json`` holds drift and estimated performance, ``realized_json`` the realized
    performance.
    """

    __tablename__ = "windows"
    __table_args__ = (sa.UniqueConstraint("model", "start"),)
    start: Mapped[str]
    end: Mapped[str]
    version: Mapped[str]
    monitored_at: Mapped[str] = mapped_column("looked_at")
    monitoring_json: Mapped[str] = mapped_column("looked")
    realized_at: Mapped[str | None] = mapped_column("settled_at", default=None)
    realized_json: Mapped[str | None] = mapped_column("settled", default=None)


class DriftProfileRecord(_NumberedRow, Base):
    """The rows of a window by day, in the bins of a version's reference.

    The record with an empty ``window_start`` has the bins and the reference itself.
    """

    __tablename__ = "drift_profiles"
    __table_args__ = (sa.UniqueConstraint("model", "version", "window_start"),)
    version: Mapped[str]
    window_start: Mapped[str]
    profile_json: Mapped[str]


class IncidentRecord(_NumberedRow, Base):
    """A problem that someone should know about; at most one is open per model and signal."""

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


class AlertRecord(_NumberedRow, Base):
    """Word of an incident that an alert sink is to get, with its text as it was then.

    ``created_at`` and ``due_at``, before which it is not sent, are times of the watch; ``sent_at``
    and ``retry_at`` are times of the clock. ``withheld`` says why it is never sent.
    """

    __tablename__ = "alerts"
    __table_args__ = (sa.Index("unsent_alerts", "model", "sent_at"),)
    incident_id: Mapped[int]
    sink: Mapped[str]
    event: Mapped[str]
    signal: Mapped[str]
    severity: Mapped[str]
    title: Mapped[str]
    message: Mapped[str]
    created_at: Mapped[str]
    sent_at: Mapped[str | None] = mapped_column(default=None)
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str] = mapped_column(default="")
    due_at: Mapped[str | None] = mapped_column(default=None)
    retry_at: Mapped[str | None] = mapped_column(default=None)
    withheld: Mapped[str | None] = mapped_column(default=None)


class AlertMuteRecord(_NumberedRow, Base):
    """A person's decision that nobody is told of a signal until a time; of any if it is empty."""

    __tablename__ = "alert_mutes"
    signal: Mapped[str]
    muted_until: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str]
    muted_at: Mapped[str]


class RetrainingRecord(_NumberedRow, Base):
    """A retraining decision with its reason.

    ``status`` is empty if the decision was not to retrain, then ``RETRAINING_DUE``, then the
    status of the run, or ``RETRAINING_REJECTED``; ``run_id`` names that run.
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


class PredecessorComparisonRecord(_NumberedRow, Base):
    """What a window shows of a new champion beside the version that it replaced."""

    __tablename__ = "predecessor_comparisons"
    __table_args__ = (sa.UniqueConstraint("model", "promotion_number", "window_start"),)
    promotion_number: Mapped[int]
    window_start: Mapped[str]
    compared_at: Mapped[str]
    comparison_json: Mapped[str]


class OperatorDecisionRecord(_NumberedRow, Base):
    """A decision of a person about the watch of a model; ``kind`` is a ``DecisionKind``."""

    __tablename__ = "operator_decisions"
    kind: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str]
    decided_at: Mapped[str]
    value_json: Mapped[str]


class WatchRecord(Base):
    """How far ``mlops watch`` has processed a model's data, and the days that it quarantined.

    ``mlops_kit.db.day_quarantine`` encodes and reads the days.
    """

    __tablename__ = "watch"
    model: Mapped[str] = mapped_column(primary_key=True)
    watched_from: Mapped[str] = mapped_column("since")
    watched_until: Mapped[str] = mapped_column("upto")
    updated_at: Mapped[str] = mapped_column("at")
    quarantine_json: Mapped[str] = mapped_column(default="", server_default="")


class WatchLeaseRecord(Base):
    """The process that watches a model, or did so last.

    ``holder`` is empty if it ended in order; ``process_json`` is a ``ProcessIdentity``, empty in
    records of earlier versions. The times are those of the database's clock.
    """

    __tablename__ = "watch_leases"
    model: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    host: Mapped[str]
    process_id: Mapped[int]
    lock_identity: Mapped[str]
    acquired_at: Mapped[str]
    seen_at: Mapped[str]
    pass_ended_at: Mapped[str | None] = mapped_column(default=None)
    pass_error: Mapped[str] = mapped_column(default="")
    process_json: Mapped[str] = mapped_column(default="", server_default="")
