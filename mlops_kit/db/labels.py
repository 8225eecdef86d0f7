"""Labels of logged predictions: each message is stored with its outcome, and one label is current.

A label is *joined* to a prediction that has none. Another value that was known later *corrects* it.
The same value again is *repeated*, and a value known earlier than the current one is *outdated*. A
label for a prediction that is not in the log is *unknown* and tried again at each import. What is
not a value of the target is *refused*.

A source that is read again and again would repeat its messages, so those without news are not
stored again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.db.engine import open_transaction
from mlops_kit.db.predictions import select_with_labels, split_into_chunks
from mlops_kit.db.tables import LabelOutcome, LabelRecord, PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project

FEEDBACK_ORIGIN = "feedback"
_CORRECTION_PERIOD = timedelta(days=14)  # how long after its row a source may correct a label
_CURRENT_OUTCOMES = {LabelOutcome.JOINED, LabelOutcome.CORRECTED}
_UNMATCHED_OUTCOMES = (LabelOutcome.UNKNOWN, LabelOutcome.REFUSED)


@dataclass(frozen=True)
class EncodedLabel:
    """A label message whose value was encoded.

    Parameters
    ----------
    target_id : str
        The id of a prediction, or the key of a row as ``encode_row_key`` writes it.
    value : float or None
        The encoded value; None if it is not a value of the target.
    raw_value : str
        The value as it came.
    known_at : str
        From when it was known, as ``format_timestamp`` writes it.
    """

    target_id: str
    value: float | None
    raw_value: str
    known_at: str


@dataclass(frozen=True)
class LabelImport:
    """Where a batch of labels comes from.

    Parameters
    ----------
    origin : str
        ``feedback``, ``labels`` or ``source``.
    imported_at : str
        Time of the import.
    by_key : bool
        Whether the labels name rows by key, not predictions by id.
    is_reread : bool
        Whether the origin is read again and again; messages without news are not stored then.
    max_wait_seconds : float, optional
        How long to wait for the transactions of other processes, as in ``open_transaction``.
    """

    origin: str
    imported_at: str
    by_key: bool
    is_reread: bool
    max_wait_seconds: float | None = None


class _CurrentLabel(NamedTuple):
    """The current label of a prediction."""

    value: float
    known_at: str


@dataclass(frozen=True)
class _Matches:
    """Predictions by the id or key that labels name, and their current labels."""

    prediction_ids: dict[str, list[str]]
    current_labels: dict[str, _CurrentLabel]


def record_labels(
    project: Project,
    labels: Sequence[EncodedLabel],
    batch: LabelImport,
) -> list[LabelOutcome]:
    """Store labels; return the outcome of each, in order."""
    try:
        return _record_labels_once(project, labels, batch)
    except sa.exc.IntegrityError:
        # Another process labeled one of these predictions in the meantime; now its label is seen.
        return _record_labels_once(project, labels, batch)


def _record_labels_once(
    project: Project,
    labels: Sequence[EncodedLabel],
    batch: LabelImport,
) -> list[LabelOutcome]:
    """Store labels in one transaction."""
    model = project.config.name
    outcomes = []
    with open_transaction(project, batch.max_wait_seconds) as session:
        target_ids = [label.target_id for label in labels]
        matches = _match_predictions(
            session,
            model,
            target_ids,
            batch.by_key,
        )
        stored_before = set()
        if batch.is_reread:
            stored_before = _load_unmatched(session, model, batch.origin)
        for label in labels:
            outcome_by_id = _classify_label(label, matches)
            for target_id, outcome in outcome_by_id.items():
                is_known = (target_id, label.raw_value) in stored_before
                if not (batch.is_reread and _is_without_news(outcome, is_known)):
                    record = _make_record(
                        model,
                        label,
                        target_id,
                        outcome,
                        batch,
                    )
                    _store_label(session, record)
            outcomes.append(min(outcome_by_id.values(), key=list(LabelOutcome).index))
    return outcomes


def _load_unmatched(session: Session, model: str, origin: str) -> set[tuple[str, str]]:
    """Load ids and values of the messages of an origin that could not be joined."""
    statement = sa.select(LabelRecord.prediction_id, LabelRecord.raw_value).where(
        LabelRecord.model == model,
        LabelRecord.origin == origin,
        LabelRecord.outcome.in_(_UNMATCHED_OUTCOMES),
    )
    return {(prediction_id, raw) for prediction_id, raw in session.execute(statement)}


def _classify_label(label: EncodedLabel, matches: _Matches) -> dict[str, LabelOutcome]:
    """Return the outcome of a label for each of its predictions; update their current labels."""
    if label.value is None:
        return {label.target_id: LabelOutcome.REFUSED}
    prediction_ids = matches.prediction_ids.get(label.target_id, [])
    if not prediction_ids:
        return {label.target_id: LabelOutcome.UNKNOWN}
    new_label = _CurrentLabel(label.value, label.known_at)
    return {
        prediction_id: _update_current_label(
            matches.current_labels,
            prediction_id,
            new_label,
        )
        for prediction_id in prediction_ids
    }


def _update_current_label(
    current_labels: dict[str, _CurrentLabel],
    prediction_id: str,
    new_label: _CurrentLabel,
) -> LabelOutcome:
    """Return the outcome of a label for a prediction; make it current if it is."""
    current = current_labels.get(prediction_id)
    if current is not None and current.value == new_label.value:
        return LabelOutcome.REPEATED
    if current is not None and new_label.known_at < current.known_at:
        return LabelOutcome.OUTDATED
    current_labels[prediction_id] = new_label
    return LabelOutcome.JOINED if current is None else LabelOutcome.CORRECTED


def _is_without_news(outcome: LabelOutcome, is_known: bool) -> bool:
    """Return whether a message tells nothing that is not stored already."""
    if outcome in {LabelOutcome.REPEATED, LabelOutcome.OUTDATED}:
        return True
    return outcome not in _CURRENT_OUTCOMES and is_known


def _make_record(
    model: str,
    label: EncodedLabel,
    target_id: str,
    outcome: LabelOutcome,
    batch: LabelImport,
) -> LabelRecord:
    """Make the record of a label for one prediction, or for an id that matches none."""
    return LabelRecord(
        model=model,
        prediction_id=target_id,
        value=label.value,
        raw_value=label.raw_value,
        known_at=label.known_at,
        origin=batch.origin,
        outcome=str(outcome),
        imported_at=batch.imported_at,
        is_current=outcome in _CURRENT_OUTCOMES,
    )


def _store_label(session: Session, record: LabelRecord) -> None:
    """Store a record; a correction replaces the current label."""
    if record.outcome == LabelOutcome.CORRECTED:
        session.flush()
        session.execute(
            sa.update(LabelRecord)
            .where(LabelRecord.prediction_id == record.prediction_id, LabelRecord.is_current)
            .values(is_current=False)
        )
    session.add(record)


def _match_predictions(
    session: Session,
    model: str,
    target_ids: Iterable[str],
    by_key: bool,
) -> _Matches:
    """Match labels with predictions: one by id, or all predictions of a row by its key."""
    column = PredictionRecord.row_key if by_key else PredictionRecord.id
    matches = _Matches({}, {})
    for chunk in split_into_chunks(target_ids):
        statement = (
            select_with_labels(
                column,
                PredictionRecord.id,
                LabelRecord.value,
                LabelRecord.known_at,
            )
            .where(PredictionRecord.model == model, column.in_(chunk))
            .order_by(PredictionRecord.id)
        )
        for target_id, prediction_id, value, known_at in session.execute(statement):
            matches.prediction_ids.setdefault(target_id, []).append(prediction_id)
            if known_at is not None:
                matches.current_labels[prediction_id] = _CurrentLabel(value, known_at)
    return matches


def retry_unknown_labels(project: Project, imported_at: str) -> Counter[LabelOutcome]:
    """Join stored labels whose prediction was unknown, if it is in the log now.

    Feedback names predictions by id only; other labels may name rows by key.
    """
    model = project.config.name
    counts: Counter[LabelOutcome] = Counter()
    with open_transaction(project) as session:
        statement = (
            sa.select(LabelRecord)
            .where(LabelRecord.model == model, LabelRecord.outcome == LabelOutcome.UNKNOWN)
            .order_by(LabelRecord.id)
        )
        waiting = list(session.scalars(statement))
        for by_key in (False, True):
            candidates = [
                record for record in waiting if not (by_key and record.origin == FEEDBACK_ORIGIN)
            ]
            target_ids = [record.prediction_id for record in candidates]
            matches = _match_predictions(
                session,
                model,
                target_ids,
                by_key,
            )
            for record in candidates:
                if record.prediction_id in matches.prediction_ids:
                    batch = LabelImport(
                        record.origin,
                        imported_at,
                        by_key,
                        is_reread=False,
                    )
                    counts.update(
                        _join_waiting_label(
                            session,
                            record,
                            matches,
                            batch,
                        )
                    )
                    waiting.remove(record)
    return counts


def _join_waiting_label(
    session: Session,
    waiting: LabelRecord,
    matches: _Matches,
    batch: LabelImport,
) -> list[LabelOutcome]:
    """Replace a stored label of unknown prediction by records for its predictions."""
    label = EncodedLabel(
        target_id=waiting.prediction_id,
        value=waiting.value,
        raw_value=waiting.raw_value,
        known_at=waiting.known_at,
    )
    outcome_by_id = _classify_label(label, matches)
    for prediction_id, outcome in outcome_by_id.items():
        record = _make_record(
            waiting.model,
            label,
            prediction_id,
            outcome,
            batch,
        )
        _store_label(session, record)
    session.delete(waiting)
    return list(outcome_by_id.values())


def load_labels_by_key(project: Project, since: datetime) -> dict[str, set[float | None]]:
    """Load the labels of the rows from a time on, by key; None for predictions without one."""
    statement = select_with_labels(PredictionRecord.row_key, LabelRecord.value).where(
        PredictionRecord.model == project.config.name,
        PredictionRecord.event_time >= format_timestamp(since),
        PredictionRecord.row_key != "",
    )
    labels: dict[str, set[float | None]] = {}
    with open_transaction(project) as session:
        for row_key, value in session.execute(statement):
            labels.setdefault(row_key, set()).add(value)
    return labels


def find_earliest_unlabeled(project: Project) -> datetime | None:
    """Return from when on rows may get a label or a correction; None without predictions.

    This is the time of the oldest prediction without a label (of the newest prediction, if all have
    one), minus the period in which sources correct labels.
    """
    model = project.config.name
    oldest_unlabeled = select_with_labels(sa.func.min(PredictionRecord.event_time)).where(
        PredictionRecord.model == model,
        LabelRecord.id.is_(None),
        PredictionRecord.row_key != "",
    )
    newest = sa.select(sa.func.max(PredictionRecord.event_time)).where(
        PredictionRecord.model == model
    )
    with open_transaction(project) as session:
        event_time = session.scalar(oldest_unlabeled) or session.scalar(newest)
    if event_time is None:
        return None
    return datetime.fromisoformat(event_time) - _CORRECTION_PERIOD
