"""The prediction log: every answer with the inputs it was made from, written once whoever asks again.

An answer stands under an id of its own. Written again it changes nothing: so a scorer that was killed
in the middle starts over without doubling a row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core.lazy import pd
from mlops_kit.db.engine import database_exists, open_transaction
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project

MAX_IN_LIST_VALUES = 500  # values of an IN list at most


def encode_row_key(values: Iterable[Any]) -> str:
    """A row's key as text: a JSON list. A whole number is one whatever type holds it.

    >>> named_row([1.0, "EWR"])
    '["1", "EWR"]'
    """
    return json.dumps(
        [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values],
        ensure_ascii=False,
    )


def encode_feature_values(values: Iterable[Any]) -> str:
    """A row's features as a JSON list; what is missing is null, what JSON does not know is text."""
    return orjson.dumps(
        [None if v is None or v != v else v for v in values],
        default=str,
        option=orjson.OPT_SERIALIZE_NUMPY,
    ).decode()


def insert_predictions(opened: Session, found: list[dict[str, Any]]) -> int:
    """Put rows into the log within a transaction; those whose id it has already stay as they are. How many are new."""
    if not found:
        return 0
    return len(
        opened.execute(
            _insert_or_ignore(opened, PredictionRecord).returning(PredictionRecord.__table__.c.id),
            found,
        ).all()
    )


def _insert_or_ignore(opened: Session, table: Any) -> Any:
    """An INSERT that leaves alone what is there; SQLite and PostgreSQL have it under one name."""
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if opened.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(table.__table__).on_conflict_do_nothing()


def select_with_labels(*columns: Any) -> sa.Select[Any]:
    """A query of the log with the label that counts beside each answer, where there is one."""
    return sa.select(*columns).outerjoin_from(
        PredictionRecord,
        LabelRecord,
        sa.and_(LabelRecord.prediction_id == PredictionRecord.id, LabelRecord.is_current),
    )


def load_labelled_predictions(project: Project, start: Any, end: Any) -> pd.DataFrame:
    """The answers for rows whose moment lies in ``[start, end)``, with their labels where they are in.

    A row that was asked for twice (by the endpoint and by the watch) counts once, as first answered.

    Returns
    -------
    DataFrame
        prediction_id, version, key, moment (UTC), score, decision, features (JSON text), at, label (NaN where none is in), known.
    """
    columns = [
        "prediction_id",
        "version",
        "key",
        "moment",
        "score",
        "decision",
        "features",
        "at",
        "label",
        "known",
    ]
    if not database_exists(project):
        return pd.DataFrame(columns=columns)
    p = PredictionRecord
    held = select_with_labels(
        p.id,
        p.version,
        p.row_key,
        p.event_time,
        p.score,
        p.predicted_class,
        p.features,
        p.scored_at,
        LabelRecord.value,
        LabelRecord.known_at,
    )
    with open_transaction(project) as opened:
        found = opened.execute(
            held.where(
                p.model == project.config.name,
                p.event_time >= format_timestamp(start),
                p.event_time < format_timestamp(end),
            ).order_by(p.event_time, p.id)
        ).all()
    made = pd.DataFrame(found, columns=columns).astype(
        {"score": float, "decision": float, "label": float}
    )
    made[["moment", "known"]] = made[["moment", "known"]].apply(
        pd.to_datetime, utc=True, format="ISO8601"
    )
    again = made["key"].ne("") & made.sort_values(["at", "prediction_id"]).duplicated("key")
    return made[~again].reset_index(drop=True)


def decode_feature_values(found: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The features of logged answers as a table, in the order of the rows.

    Parameters
    ----------
    found : DataFrame
        Rows of ``between`` that one version answered.
    columns : list of str
        That version's features, in its order.
    """
    made = pd.DataFrame(
        [orjson.loads(text) for text in found["features"]], columns=columns, index=found.index
    )
    return made.astype({c: float for c in columns if made[c].isna().all()})


def find_predictions(
    opened: Session, model: str, ids: Iterable[str]
) -> dict[str, PredictionRecord]:
    """Those of these ids that the log has."""
    return {
        p.id: p
        for some in split_into_chunks(ids)
        for p in opened.scalars(
            sa.select(PredictionRecord).where(
                PredictionRecord.model == model, PredictionRecord.id.in_(some)
            )
        )
    }


def split_into_chunks(names: Iterable[str]) -> list[list[str]]:
    """The names once each, in lists that a database takes."""
    once = list(dict.fromkeys(names))
    return [once[i : i + MAX_IN_LIST_VALUES] for i in range(0, len(once), MAX_IN_LIST_VALUES)]
