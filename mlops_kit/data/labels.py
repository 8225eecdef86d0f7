"""Labels: what came true of a prediction, from whomever it comes, joined once.

Three ways lead here: feedback by prediction id, a ``labels:`` table, the source itself. A message is
kept with the word that says what was made of it: joined; corrected (another value, known later than
the present one); repeated; outdated (a value known before the present one); unknown (no such
prediction yet: it is tried again at each import); refused (no value of the target). A table that is
read again and again leaves a row only where it says something new.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import pd
from mlops_kit.data import columns, readers, source
from mlops_kit.data.target import TargetEncoder
from mlops_kit.db.engine import database_exists, open_transaction
from mlops_kit.db.predictions import encode_row_key, select_with_labels, split_into_chunks
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project

_CURRENT_OUTCOMES = ("joined", "corrected")  # words of a label that counts
_LABEL_OUTCOMES = ("joined", "corrected", "repeated", "outdated", "unknown", "refused")
_PREDICTION_ID_COLUMN = "prediction_id"
_CORRECTION_PERIOD = timedelta(days=14)  # how long after its row a source may still mend a label


class LabelMessage(NamedTuple):
    """A message: of which prediction (its id, or its row's key), what value, known from when."""

    target_id: str
    value: Any
    known_at: str


def _record_messages(
    project: Project, messages: list[LabelMessage], origin: str, at: str, by_key: bool, again: bool
) -> list[str]:
    """File messages and say what was made of each, in their order.

    Parameters
    ----------
    origin : str
        Where they come from: ``feedback``, ``labels`` or ``source``.
    at : str
        The moment of the import.
    by_key : bool
        Whether they name the row's key (as ``predictions.named_row`` writes it) and not a prediction.
    again : bool
        Whether they come from a table that is read again and again: what it said before is not filed again.
    """
    try:
        return _record_messages_once(project, messages, origin, at, by_key, again)
    except (
        sa.exc.IntegrityError
    ):  # another process labelled one of these in between; this time it is seen
        return _record_messages_once(project, messages, origin, at, by_key, again)


def _record_messages_once(
    project: Project, messages: list[LabelMessage], origin: str, at: str, by_key: bool, again: bool
) -> list[str]:
    """``join`` in one transaction."""
    coder, words = TargetEncoder(project), []
    with open_transaction(project) as opened:
        found, present = _match_predictions(
            opened, project.config.name, [m.target_id for m in messages], by_key
        )
        lost = sa.select(LabelRecord.prediction_id, LabelRecord.raw_value).where(
            LabelRecord.model == project.config.name,
            LabelRecord.origin == origin,
            LabelRecord.outcome.in_(("unknown", "refused")),
        )
        told = set(map(tuple, opened.execute(lost))) if again else set()
        for message in messages:
            value = coder(message.value)
            made = (
                [
                    _classify_message(present, i, value, message.known_at)
                    for i in found.get(message.target_id, [])
                ]
                if value is not None
                else []
            )
            word = (
                "refused"
                if value is None
                else next((w for w in _LABEL_OUTCOMES if w in made), "unknown")
            )
            words.append(word)
            filed = [
                (i, w) for i, w in zip(found.get(message.target_id, []), made, strict=False)
            ] or [(message.target_id, word)]
            for name, made_of_it in filed:
                nothing_new = (
                    made_of_it in {"repeated", "outdated"}
                    or made_of_it not in _CURRENT_OUTCOMES
                    and (name, str(message.value)) in told
                )
                if not (again and nothing_new):
                    _store_message(
                        opened,
                        LabelRecord(
                            project.config.name,
                            name,
                            value,
                            str(message.value),
                            message.known_at,
                            origin,
                            made_of_it,
                            at,
                            made_of_it in _CURRENT_OUTCOMES,
                        ),
                    )
    return words


def _store_message(opened: Session, message: LabelRecord) -> None:
    """File a message; one that counts takes the place of the one before."""
    if message.outcome == "corrected":
        opened.flush()
        opened.execute(
            sa.update(LabelRecord)
            .where(LabelRecord.prediction_id == message.prediction_id, LabelRecord.is_current)
            .values(is_current=False)
        )
    opened.add(message)


def _classify_message(
    present: dict[str, tuple[float, str]], prediction: str, value: float, known: str
) -> str:
    """What is made of a value for a prediction; ``present`` is brought up to date."""
    held = present.get(prediction)
    if held is not None and held[0] == value:
        return "repeated"
    if held is not None and known < held[1]:
        return "outdated"
    present[prediction] = (value, known)
    return "joined" if held is None else "corrected"


def _match_predictions(
    opened: Session, model: str, names: list[str], by_key: bool
) -> tuple[dict[str, list[str]], dict[str, tuple[float, str]]]:
    """The predictions of each name (one by id, all of a row by key); and of each the label that counts, if there is one: value, known."""
    column, found, present = (
        (PredictionRecord.row_key if by_key else PredictionRecord.id),
        dict[str, list[str]](),
        dict[str, tuple[float, str]](),
    )
    for some in split_into_chunks(names):
        for name, prediction, value, known in opened.execute(
            select_with_labels(column, PredictionRecord.id, LabelRecord.value, LabelRecord.known_at)
            .where(PredictionRecord.model == model, column.in_(some))
            .order_by(PredictionRecord.id)
        ):
            found.setdefault(name, []).append(prediction)
            if known is not None:
                present[prediction] = (value, known)
    return found, present


def record_feedback(project: Project, messages: list[LabelMessage], at: str) -> list[str]:
    """Labels that came by prediction id; what was made of each."""
    return _record_messages(project, messages, "feedback", at, by_key=False, again=False)


def import_labels(project: Project, history: pd.DataFrame, at: Any) -> dict[str, int]:
    """Import what is known by a moment: from the ``labels:`` table, or the source; then retry what was unknown.

    Parameters
    ----------
    history : DataFrame
        The source as known at that moment (``sources.read``).

    Returns
    -------
    dict
        How many messages became what.
    """
    if not database_exists(project):
        return {}
    (messages, by_key), origin = (
        (_read_label_table(project, at), "labels")
        if project.config.labels
        else ((_read_source_labels(project, history), True), "source")
    )
    return dict(
        Counter(
            _record_messages(project, messages, origin, format_timestamp(at), by_key, again=True)
        )
        + _retry_unmatched(project, at)
    )


def _read_source_labels(project: Project, history: pd.DataFrame) -> list[LabelMessage]:
    """What the source says of rows that were scored and that is news: no label yet, or another one."""
    config, keys, coder = project.config, columns.list_key_columns(project), TargetEncoder(project)
    first = find_earliest_unlabeled(project)
    if config.time is None or first is None:
        return []
    seen = history[history[config.target].notna() & (history[config.time] >= first)]
    held = _load_labels_by_key(project, first)
    codes = {v: coder(v) for v in seen[config.target].unique()}
    named = zip(
        [encode_row_key(k) for k in seen[keys].itertuples(index=False, name=None)],
        seen[config.target],
        source.compute_known_times(project, seen, config.target),
        strict=True,
    )
    return [
        LabelMessage(n, v, format_timestamp(m))
        for n, v, m in named
        if n in held and held[n] != {codes[v]}
    ]


def _load_labels_by_key(project: Project, first: Any) -> dict[str, set[float | None]]:
    """The labels of the rows scored from a moment on, by key; None where an answer has none yet."""
    out = dict[str, set[float | None]]()
    with open_transaction(project) as opened:
        for key, value in opened.execute(
            select_with_labels(PredictionRecord.row_key, LabelRecord.value).where(
                PredictionRecord.model == project.config.name,
                PredictionRecord.event_time >= format_timestamp(first),
                PredictionRecord.row_key != "",
            )
        ):
            out.setdefault(key, set()).add(value)
    return out


def find_earliest_unlabeled(project: Project) -> Any:
    """The moment of the oldest row that was scored and has no label yet, less the time in which corrections come."""
    with open_transaction(project) as opened:
        open_rows = select_with_labels(sa.func.min(PredictionRecord.event_time)).where(
            PredictionRecord.model == project.config.name,
            LabelRecord.id.is_(None),
            PredictionRecord.row_key != "",
        )
        found = opened.scalar(open_rows) or opened.scalar(
            sa.select(sa.func.max(PredictionRecord.event_time)).where(
                PredictionRecord.model == project.config.name
            )
        )
    return None if found is None else pd.Timestamp(found) - _CORRECTION_PERIOD


def _read_label_table(project: Project, at: Any) -> tuple[list[LabelMessage], bool]:
    """What a ``labels:`` table says by a moment, and whether it names rows by key."""
    asked, config = project.config.labels, project.config
    assert asked is not None
    frame = (
        readers.read_query(asked.source, None)
        if not isinstance(asked.source, str)
        else readers.read_table(
            readers.resolve_location(project, asked.source),
            said=f"labels.source: {asked.source!r}",
            cure="edit 'labels' in mlops.yaml",
        )
    )
    keys, value = asked.key or columns.list_key_columns(project), asked.value or config.target
    if absent := [
        c for c in [*keys, value, *([asked.time] if asked.time else [])] if c not in frame
    ]:
        raise KitError(
            f"labels.source has no column {absent[0]!r}",
            f"one of {', '.join(map(str, frame.columns))}",
            "edit 'labels' in mlops.yaml",
        )
    moments = (
        columns.parse_timestamps(frame[asked.time], asked.time, config.timezone)
        if asked.time
        else pd.Series(at, frame.index)
    )
    said, by_key = frame[value].notna() & (moments <= at), keys != [_PREDICTION_ID_COLUMN]
    frame, known = frame[said], [format_timestamp(m) for m in moments[said]]
    names = [
        encode_row_key(k) if by_key else str(k[0])
        for k in frame[keys].itertuples(index=False, name=None)
    ]
    return list(map(LabelMessage, names, frame[value], known)), by_key


def _retry_unmatched(project: Project, at: Any) -> Counter[str]:
    """File anew the messages that named no prediction then, and do now."""
    model, counts = project.config.name, Counter[str]()
    with open_transaction(project) as opened:
        waiting = list(
            opened.scalars(
                sa.select(LabelRecord)
                .where(LabelRecord.model == model, LabelRecord.outcome == "unknown")
                .order_by(LabelRecord.id)
            )
        )
        for by_key in (False, True):
            tried = [
                w for w in waiting if not (by_key and w.origin == "feedback")
            ]  # feedback names predictions by id only
            found, present = _match_predictions(
                opened, model, [w.prediction_id for w in tried], by_key
            )
            for message in [w for w in tried if w.prediction_id in found]:
                assert message.value is not None  # else it had been refused
                for prediction in found[message.prediction_id]:
                    word = _classify_message(present, prediction, message.value, message.known_at)
                    _store_message(
                        opened,
                        LabelRecord(
                            model,
                            prediction,
                            message.value,
                            message.raw_value,
                            message.known_at,
                            message.origin,
                            word,
                            format_timestamp(at),
                            word in _CURRENT_OUTCOMES,
                        ),
                    )
                    counts[word] += 1
                opened.delete(message)
                waiting.remove(message)
    return counts
