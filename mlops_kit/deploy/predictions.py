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

from mlops_kit import sources
from mlops_kit.config import Project
from mlops_kit.database import Label, Prediction, exists, session, stamp
from mlops_kit.late import pd

MANY = 500  # values of an IN list at most


def listed(
    project: Project,
    facts: dict[str, Any],
    out: pd.DataFrame,
    inputs: pd.DataFrame,
    origin: str,
    at: str,
) -> list[dict[str, Any]]:
    """Answers of ``batch.answer`` as rows of the log.

    Parameters
    ----------
    origin : str
        Who asked: ``watch`` or ``endpoint``.
    at : str
        The moment at which they were scored, as ``database.stamp`` writes it.
    """
    config, keys = project.config, sources.keys(project)
    same = {
        "model": config.name,
        "version": str(facts["version"]),
        "model_hash": facts["model_hash"],
        "origin": origin,
        "at": at,
        "request": "",
        "body": "",
    }
    moments = [stamp(m) for m in out[config.time]] if config.time else [None] * len(out)
    given = out[keys].notna().all(axis=1) if set(keys) <= set(out) else [False] * len(out)
    named = [
        named_row(k) if g else ""
        for k, g in zip(
            out.reindex(columns=keys).itertuples(index=False, name=None), given, strict=True
        )
    ]
    inside = [packed(row) for row in inputs.itertuples(index=False, name=None)]
    found = zip(
        out["prediction_id"], out["score"], out["decision"], moments, named, inside, strict=True
    )
    return [
        {
            **same,
            "id": i,
            "score": float(s),
            "decision": None if d != d else float(d),
            "moment": m,
            "key": k,
            "features": f,
        }
        for i, s, d, m, k, f in found
    ]


def named_row(values: Iterable[Any]) -> str:
    """A row's key as text: a JSON list. A whole number is one whatever type holds it.

    >>> named_row([1.0, "EWR"])
    '["1", "EWR"]'
    """
    return json.dumps(
        [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values],
        ensure_ascii=False,
    )


def packed(values: Iterable[Any]) -> str:
    """A row's features as a JSON list; what is missing is null, what JSON does not know is text."""
    return orjson.dumps(
        [None if v is None or v != v else v for v in values],
        default=str,
        option=orjson.OPT_SERIALIZE_NUMPY,
    ).decode()


def write(opened: Session, found: list[dict[str, Any]]) -> int:
    """Put rows into the log within a transaction; those whose id it has already stay as they are. How many are new."""
    if not found:
        return 0
    return len(
        opened.execute(fresh(opened, Prediction).returning(Prediction.__table__.c.id), found).all()
    )


def fresh(opened: Session, table: Any) -> Any:
    """An INSERT that leaves alone what is there; SQLite and PostgreSQL have it under one name."""
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = postgresql if opened.get_bind().dialect.name == "postgresql" else sqlite
    return dialect.insert(table.__table__).on_conflict_do_nothing()


def with_labels(*columns: Any) -> sa.Select[Any]:
    """A query of the log with the label that counts beside each answer, where there is one."""
    return sa.select(*columns).outerjoin_from(
        Prediction, Label, sa.and_(Label.prediction == Prediction.id, Label.counts)
    )


def between(project: Project, start: Any, end: Any) -> pd.DataFrame:
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
    if not exists(project):
        return pd.DataFrame(columns=columns)
    p = Prediction
    held = with_labels(
        p.id,
        p.version,
        p.key,
        p.moment,
        p.score,
        p.decision,
        p.features,
        p.at,
        Label.value,
        Label.known,
    )
    with session(project) as opened:
        found = opened.execute(
            held.where(
                p.model == project.config.name, p.moment >= stamp(start), p.moment < stamp(end)
            ).order_by(p.moment, p.id)
        ).all()
    made = pd.DataFrame(found, columns=columns).astype(
        {"score": float, "decision": float, "label": float}
    )
    made[["moment", "known"]] = made[["moment", "known"]].apply(
        pd.to_datetime, utc=True, format="ISO8601"
    )
    again = made["key"].ne("") & made.sort_values(["at", "prediction_id"]).duplicated("key")
    return made[~again].reset_index(drop=True)


def unpacked(found: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
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


def known(opened: Session, model: str, ids: Iterable[str]) -> dict[str, Prediction]:
    """Those of these ids that the log has."""
    return {
        p.id: p
        for some in chunks(ids)
        for p in opened.scalars(
            sa.select(Prediction).where(Prediction.model == model, Prediction.id.in_(some))
        )
    }


def chunks(names: Iterable[str]) -> list[list[str]]:
    """The names once each, in lists that a database takes."""
    once = list(dict.fromkeys(names))
    return [once[i : i + MANY] for i in range(0, len(once), MANY)]
