"""The prediction log: every prediction with its inputs, written once however often it is repeated.

Each prediction has an id that depends on the model and the row only. Writing the same prediction
again changes nothing, so a scorer that was killed halfway starts over without duplicate rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core.lazy import pd
from mlops_kit.db.engine import database_exists, open_transaction
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project

MAX_IN_LIST_VALUES = 500  # number of values in an SQL IN list

# Inserting through the table instead of the class is twice as fast, but needs column names.
_COLUMN_BY_ATTRIBUTE = [
    (attribute.key, attribute.columns[0].name)
    for attribute in sa.inspect(PredictionRecord).column_attrs
]
_LOG_COLUMNS = [
    "prediction_id",
    "version",
    "key",
    "moment",
    "score",
    "decision",
    "features",
    "at",
    "label",
    "raw_label",
    "known",
    "probabilities",
]


def encode_row_key(values: Iterable[Any]) -> str:
    """Encode a row's key as a JSON list of strings.

    A whole number has one encoding, whether it is stored as an integer or as a float.

    >>> encode_row_key([1.0, "EWR"])
    '["1", "EWR"]'
    """
    texts = [_format_key_value(value) for value in values]
    return json.dumps(texts, ensure_ascii=False)


def _format_key_value(value: Any) -> str:
    """Format one value of a key as text."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def encode_feature_values(values: Iterable[Any]) -> str:
    """Encode a row's feature values as a JSON list.

    Missing values become null; values of types that JSON lacks become text.
    """
    encoded = [None if _is_missing(value) else value for value in values]
    return orjson.dumps(
        encoded,
        default=str,
        option=orjson.OPT_SERIALIZE_NUMPY,
    ).decode()


def _is_missing(value: Any) -> bool:
    """Return whether a scalar is None, NA, NaN or NaT; the latter two differ from themselves."""
    return value is None or value is pd.NA or value != value


def decode_feature_values(predictions: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Decode the features of logged predictions into a table, in the order of the rows.

    Parameters
    ----------
    predictions : DataFrame
        Rows of ``load_labeled_predictions`` that one version predicted.
    columns : list of str
        That version's features, in its order.

    Returns
    -------
    DataFrame
        One row per prediction; a column without any value is float.
    """
    rows = [orjson.loads(text) for text in predictions["features"]]
    features = pd.DataFrame(
        rows,
        columns=columns,
        index=predictions.index,
    )
    empty_columns = [column for column in columns if features[column].isna().all()]
    return features.astype(dict.fromkeys(empty_columns, float))


def insert_predictions(session: Session, records: Sequence[PredictionRecord]) -> int:
    """Insert predictions whose id is not in the log yet.

    Parameters
    ----------
    session : Session
        The transaction to write in.
    records : sequence of PredictionRecord
        Any mix of new and known predictions.

    Returns
    -------
    int
        How many predictions were new.
    """
    if not records:
        return 0
    table = PredictionRecord.__table__
    rows = [_to_row(record) for record in records]
    statement = _insert_or_ignore(session).returning(table.c.id)
    return len(session.execute(statement, rows).all())


def _to_row(record: PredictionRecord) -> dict[str, Any]:
    """Return a record's values by column name."""
    return {column: getattr(record, attribute) for attribute, column in _COLUMN_BY_ATTRIBUTE}


def _insert_or_ignore(session: Session) -> Any:
    """Build an INSERT that skips ids already in the log, for SQLite or PostgreSQL."""
    from sqlalchemy.dialects import postgresql, sqlite

    is_postgresql = session.get_bind().dialect.name == "postgresql"
    dialect = postgresql if is_postgresql else sqlite
    return dialect.insert(PredictionRecord.__table__).on_conflict_do_nothing()


def select_with_labels(*columns: Any) -> sa.Select[Any]:
    """Build a query of the log, joined with each prediction's current label if it has one."""
    is_current_label = sa.and_(
        LabelRecord.prediction_id == PredictionRecord.id,
        LabelRecord.is_current,
    )
    return sa.select(*columns).outerjoin_from(
        PredictionRecord,
        LabelRecord,
        is_current_label,
    )


def load_labeled_predictions(project: Project, start: datetime, end: datetime) -> pd.DataFrame:
    """Load the predictions for rows with a timestamp in ``[start, end)``, with their labels.

    A row that was scored twice, by the endpoint and by the watch, counts once, as scored first.

    Returns
    -------
    DataFrame
        prediction_id, version, key, moment (UTC), score (of a multiclass task a list with the
        probability of each class), decision, features (JSON text), at, label (NaN while unknown),
        raw_label (the label as it came), known.
    """
    if not database_exists(project):
        return pd.DataFrame(columns=_LOG_COLUMNS).drop(columns="probabilities")
    statement = (
        select_with_labels(
            PredictionRecord.id,
            PredictionRecord.version,
            PredictionRecord.row_key,
            PredictionRecord.event_time,
            PredictionRecord.score,
            PredictionRecord.predicted_class,
            PredictionRecord.features,
            PredictionRecord.scored_at,
            LabelRecord.value,
            LabelRecord.raw_value,
            LabelRecord.known_at,
            PredictionRecord.probabilities,
        )
        .where(
            PredictionRecord.model == project.config.name,
            PredictionRecord.event_time >= format_timestamp(start),
            PredictionRecord.event_time < format_timestamp(end),
        )
        .order_by(PredictionRecord.event_time, PredictionRecord.id)
    )
    with open_transaction(project) as session:
        rows = session.execute(statement).all()
    predictions = pd.DataFrame(rows, columns=_LOG_COLUMNS)
    predictions = predictions.astype(
        {
            "score": float,
            "decision": float,
            "label": float,
        }
    )
    for column in ("moment", "known"):
        predictions[column] = pd.to_datetime(
            predictions[column],
            utc=True,
            format="ISO8601",
        )
    probabilities = predictions.pop("probabilities")
    if probabilities.notna().any():
        decoded = probabilities.map(orjson.loads, na_action="ignore")
        predictions["score"] = decoded.where(probabilities.notna(), predictions["score"])
    in_scoring_order = predictions.sort_values(["at", "prediction_id"])
    is_repeated = predictions["key"].ne("") & in_scoring_order.duplicated("key")
    return predictions[~is_repeated].reset_index(drop=True)


def count_labeled_rows(project: Project, since: datetime) -> int:
    """Count the rows with a timestamp from a time on whose prediction has a label.

    A row that was scored twice counts once.
    """
    if not database_exists(project):
        return 0
    identity = sa.case(
        (PredictionRecord.row_key == "", PredictionRecord.id),
        else_=PredictionRecord.row_key,
    )
    statement = select_with_labels(sa.func.count(sa.distinct(identity))).where(
        PredictionRecord.model == project.config.name,
        PredictionRecord.event_time >= format_timestamp(since),
        LabelRecord.value.is_not(None),
    )
    with open_transaction(project) as session:
        return int(session.scalar(statement) or 0)


def find_last_row_of_others(project: Project, version: str) -> datetime | None:
    """Return the time of the newest row that another version scored; None if there is none."""
    if not database_exists(project):
        return None
    statement = sa.select(sa.func.max(PredictionRecord.event_time)).where(
        PredictionRecord.model == project.config.name,
        PredictionRecord.version != version,
    )
    with open_transaction(project) as session:
        newest = session.scalar(statement)
    return None if newest is None else datetime.fromisoformat(newest)


def find_predictions(
    session: Session, model: str, ids: Iterable[str]
) -> dict[str, PredictionRecord]:
    """Return the predictions with these ids that are in the log, by id."""
    predictions = {}
    for chunk in split_into_chunks(ids):
        statement = sa.select(PredictionRecord).where(
            PredictionRecord.model == model,
            PredictionRecord.id.in_(chunk),
        )
        for prediction in session.scalars(statement):
            predictions[prediction.id] = prediction
    return predictions


def split_into_chunks(values: Iterable[str]) -> list[list[str]]:
    """Split the distinct values into lists that fit into an SQL IN list."""
    distinct = list(dict.fromkeys(values))
    starts = range(0, len(distinct), MAX_IN_LIST_VALUES)
    return [distinct[start : start + MAX_IN_LIST_VALUES] for start in starts]
