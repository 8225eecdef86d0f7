"""Batch scores: the rows between the two moments, and files that people bring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.data import contract, features, source
from mlops_kit.data.columns import ROW_ID, list_key_columns, parse_timestamps
from mlops_kit.db.predictions import encode_feature_values, encode_row_key
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.registry import versions
from mlops_kit.registry.batch_independence import make_batch_independent

if TYPE_CHECKING:
    import mlflow
    import skops.io as skops
else:
    mlflow, skops = (LazyModule("mlflow"), LazyModule("skops.io"))


def predict_scores(model: Any, frame: pd.DataFrame, config: ProjectConfig) -> np.ndarray:
    """Return a model's score for each row: the probability of class 1, or the predicted value.

    Every score of the project comes from here. It does not depend on the batch that a row is scored
    in; ``mlops_kit.registry.batch_independence`` says for which models that holds exactly.
    """
    rowwise_model = make_batch_independent(model)
    if config.task == "binary":
        scores = rowwise_model.predict_proba(frame)[:, -1]
    else:
        scores = rowwise_model.predict(frame)
    return np.asarray(scores, dtype=float)


def build_prediction_rows(
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
    config, keys = project.config, list_key_columns(project)
    same = {
        "model": config.name,
        "version": str(facts["version"]),
        "model_hash": facts["model_hash"],
        "origin": origin,
        "at": at,
        "request": "",
        "body": "",
    }
    moments = [format_timestamp(m) for m in out[config.time]] if config.time else [None] * len(out)
    given = out[keys].notna().all(axis=1) if set(keys) <= set(out) else [False] * len(out)
    named = [
        encode_row_key(k) if g else ""
        for k, g in zip(
            out.reindex(columns=keys).itertuples(index=False, name=None), given, strict=True
        )
    ]
    inside = [encode_feature_values(row) for row in inputs.itertuples(index=False, name=None)]
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


def compute_prediction_id(project: Project, model_hash: str, key: tuple[Any, ...]) -> str:
    """A name for a prediction that is the same whenever the same model scores the same row."""
    return hashlib.sha256(
        json.dumps([project.config.name, model_hash, *map(str, key)]).encode()
    ).hexdigest()[:20]


def score_rows(
    project: Project, model: Any, facts: dict[str, Any], rows: pd.DataFrame, history: pd.DataFrame
) -> pd.DataFrame:
    """Score raw rows by a model.

    Parameters
    ----------
    facts : dict
        ``features``, ``threshold``, ``model_hash`` and ``version`` of the model.
    rows, history : DataFrame
        The rows to score, and the source as known when they are scored.

    Returns
    -------
    DataFrame
        prediction_id, keys, time, score, decision, model_version, then the features; a row a row.
    """
    out, inputs = score_with_inputs(project, model, facts, rows, history)
    return out.join(inputs[[c for c in inputs.columns if c not in out.columns]])


def score_with_inputs(
    project: Project, model: Any, facts: dict[str, Any], rows: pd.DataFrame, history: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As ``score``, in two tables: the answers, and the features that the model was given, in its own order."""
    config, keys = project.config, list_key_columns(project)
    built = features.build_features(
        project,
        convert_to_contract_types(project, rows)[0],
        convert_to_contract_types(project, select_visible_history(project, rows, history))[0],
    )
    inputs = built[list(facts["features"])].reset_index(drop=True)
    answers = predict_scores(model, inputs, config) if len(rows) else np.array([], dtype=float)
    out = rows[[*keys, *([config.time] if config.time else [])]].reset_index(drop=True)
    named = [
        compute_prediction_id(project, facts["model_hash"], key)
        for key in out[keys].itertuples(index=False, name=None)
    ]
    out.insert(0, "prediction_id", np.array(named, dtype=object))
    decision = (
        (answers >= facts["threshold"]).astype(float)
        if facts["threshold"] is not None
        else np.full(len(out), np.nan)
    )
    out = out.assign(score=answers, decision=decision, model_version=str(facts.get("version")))
    out["day"] = (
        out[config.time].dt.tz_convert(config.timezone).dt.strftime("%Y-%m-%d")
        if config.time
        else "all"
    )
    return out, inputs


def select_visible_history(
    project: Project, rows: pd.DataFrame, history: pd.DataFrame
) -> pd.DataFrame:
    """The part of the history that the rows' features can see, by ``lookback``; all of it where none is set."""
    config = project.config
    if config.time is None or config.lookback is None or rows.empty:
        return history
    moments = history[config.time]
    return cast(
        "pd.DataFrame",
        history[
            (moments >= rows[config.time].min() - config.lookback)
            & (moments <= rows[config.time].max())
        ],
    )


def convert_to_contract_types(
    project: Project, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Rows in the types in which training saw them, and the values that are of no such type: missing for the model."""
    file = project.resolve_path(project.config.contract.file)
    return (
        contract.coerce_types(rows, contract.load_contract(file)) if file.exists() else (rows, {})
    )


def predict_with_champion(project: Project, frame: pd.DataFrame) -> pd.DataFrame:
    """Score raw rows by the champion, with the source as history: ``mlops predict``'s work.

    Raises
    ------
    KitError
        If there is no champion, there is no row, or the rows lack a column or hold values of another type.
    """
    config, (facts, model) = project.config, versions.load_champion(project)
    validate_rows(
        project, frame, list_required_columns(project, source.list_source_columns(project))
    )
    rows = frame.copy()
    if config.time:
        rows[config.time] = parse_timestamps(rows[config.time], config.time, config.timezone)
    if not config.id and ROW_ID not in rows:
        rows.insert(0, ROW_ID, range(len(rows)))
    out = score_rows(project, model, facts, rows, source.read_source(project))
    return out[
        [c for c in out.columns if c not in facts["features"] or c in list_key_columns(project)]
    ].drop(columns="day")


def list_required_columns(project: Project, columns: Iterable[str]) -> list[str]:
    """Those of the source's columns that a row brings: known at the moment of a prediction, and looked at by model or views."""
    config = project.config
    known = {config.target, *config.known_later}
    return [
        c
        for c in columns
        if c not in known and (c not in config.excluded_columns or config.features)
    ]


def validate_rows(project: Project, frame: pd.DataFrame, wanted: list[str]) -> None:
    """Refuse rows that a person brings if they are none, lack a column or hold values of another type.

    The batch scores such rows with the value missing, and monitoring tells of them; here somebody is
    there to mend the file.
    """
    if absent := [c for c in wanted if c not in frame.columns]:
        raise KitError(
            f"the rows have no column {absent[0]!r}"
            + (f" (nor {', '.join(absent[1:4])})" if absent[1:] else ""),
            f"the source's columns: {', '.join(wanted)}",
            "add it to the file",
        )
    if frame.empty:
        raise KitError(
            "there are no rows to score", "a header and at least one row", "fill the file"
        )
    _, odd = convert_to_contract_types(project, frame[wanted])
    if odd:
        said = [
            f"{name}: {len(values):,} values are of another type, such as {values.iloc[0]!r}"
            for name, values in odd.items()
        ]
        raise KitError(
            "the rows do not keep to the contract's types:\n  " + "\n  ".join(said),
            f"the types in {project.config.contract.file}",
            "mend these values, or leave them empty",
        )
