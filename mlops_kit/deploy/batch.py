"""Batch scores: the rows between the two moments, and files that people bring."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, cast

from mlops_kit import contract, features, sources, tracking
from mlops_kit.config import Project
from mlops_kit.errors import KitError
from mlops_kit.late import np, pd
from mlops_kit.results import Table, number, percent
from mlops_kit.stage import Stage


def period(stage: Stage) -> pd.DataFrame:
    """The rows to score: those between ``as_of`` and ``until``; without time, those without a label."""
    rows, config = stage.source(stage.until), stage.config
    due = rows[config.target].isna() if config.time is None else rows[config.time] >= stage.as_of
    return rows[due].reset_index(drop=True)


def prediction_id(project: Project, model_hash: str, key: tuple[Any, ...]) -> str:
    """A name for a prediction that is the same whenever the same model scores the same row."""
    return hashlib.sha256(
        json.dumps([project.config.name, model_hash, *map(str, key)]).encode()
    ).hexdigest()[:20]


def score(
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
    out, inputs = answer(project, model, facts, rows, history)
    return out.join(inputs[[c for c in inputs.columns if c not in out.columns]])


def answer(
    project: Project, model: Any, facts: dict[str, Any], rows: pd.DataFrame, history: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As ``score``, in two tables: the answers, and the features that the model was given, in its own order."""
    config, keys = project.config, sources.keys(project)
    built = features.build(
        project,
        as_trained(project, rows)[0],
        as_trained(project, recent(project, rows, history))[0],
    )
    inputs = built[list(facts["features"])].reset_index(drop=True)
    answers = tracking.answers(model, inputs, config) if len(rows) else np.array([], dtype=float)
    out = rows[[*keys, *([config.time] if config.time else [])]].reset_index(drop=True)
    named = [
        prediction_id(project, facts["model_hash"], key)
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


def recent(project: Project, rows: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The part of the history that the rows' features can see, by ``look_back``; all of it where none is set."""
    config = project.config
    if config.time is None or config.look_back is None or rows.empty:
        return history
    moments = history[config.time]
    return cast(
        "pd.DataFrame",
        history[
            (moments >= rows[config.time].min() - config.look_back)
            & (moments <= rows[config.time].max())
        ],
    )


def as_trained(project: Project, rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Rows in the types in which training saw them, and the values that are of no such type: missing for the model."""
    file = project.path(project.config.contract.file)
    return contract.typed(rows, contract.load(file)) if file.exists() else (rows, {})


def by_day(scored: pd.DataFrame, config: Any) -> Table:
    """How many rows were scored each day, and how many of them were flagged."""
    if scored.empty:
        reason = (
            "the table has no time and no row without a label"
            if config.time is None
            else "no row lies between as_of and until"
        )
        return Table(
            "Scored by day",
            f"Nothing to score: {reason}.",
            pd.DataFrame(columns=["day", "rows", "mean score", "flagged"]),
        )
    data = (
        scored.groupby("day", sort=True)
        .agg(
            **{
                "rows": ("score", "size"),
                "mean score": ("score", "mean"),
                "flagged": ("decision", "mean"),
            }
        )
        .reset_index()
    )
    data["day"] = pd.to_datetime(data["day"]) if config.time else data["day"]
    flagged = scored["decision"].mean()
    tail = "" if pd.isna(flagged) else f"; {percent(float(flagged))} of them are flagged"
    return Table(
        "Scored by day",
        f"{number(len(scored))} rows were scored over {len(data)} days{tail}.",
        data,
    )


def predict(project: Project, frame: pd.DataFrame) -> pd.DataFrame:
    """Score raw rows by the champion, with the source as history: ``mlops predict``'s work.

    Raises
    ------
    KitError
        If there is no champion, there is no row, or the rows lack a column or hold values of another type.
    """
    config, (facts, model) = project.config, tracking.serving(project)
    fits(project, frame, wanted(project, sources.columns(project)))
    rows = frame.copy()
    if config.time:
        rows[config.time] = sources.moments(rows[config.time], config.time, config.timezone)
    if not config.id and sources.ROW not in rows:
        rows.insert(0, sources.ROW, range(len(rows)))
    out = score(project, model, facts, rows, sources.read(project))
    return out[
        [c for c in out.columns if c not in facts["features"] or c in sources.keys(project)]
    ].drop(columns="day")


def wanted(project: Project, columns: Iterable[str]) -> list[str]:
    """Those of the source's columns that a row brings: known at the moment of a prediction, and looked at by model or views."""
    config = project.config
    known = {config.target, *config.known_later}
    return [c for c in columns if c not in known and (c not in config.leave_out or config.features)]


def fits(project: Project, frame: pd.DataFrame, wanted: list[str]) -> None:
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
    _, odd = as_trained(project, frame[wanted])
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
