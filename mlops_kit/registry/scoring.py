"""Scoring rows: the same computation for the batch, the endpoint and the watch.

Rows are converted to the types of the data contract, features are computed from the history the
rows can see, and the model is applied. The same model gives the same row the same prediction id,
whoever asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mlops_kit.core.errors import KitError
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import to_score_column
from mlops_kit.data import contract, features, source
from mlops_kit.data.columns import ROW_ID, list_key_columns
from mlops_kit.data.contract_rules import RowCheck, RowRules, check_rows, compile_rules
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.timestamps import parse_timestamps
from mlops_kit.db.predictions import encode_feature_values, encode_row_key
from mlops_kit.db.tables import PredictionRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.registry import versions
from mlops_kit.registry.batch_independence import make_batch_independent
from mlops_kit.registry.predicted_classes import name_classes, predict_classes

__all__ = [
    "RecordedModel",
    "predict_scores",
    "predict_with_champion",
    "score_rows",
]

_PREDICTION_ID_LENGTH = 20


class ScorableModel(Protocol):
    """What scoring must know about a model besides the fitted pipeline.

    ``ModelVersion`` provides it for registered models, ``RecordedModel`` for a model of a run.
    """

    @property
    def version(self) -> str:
        """The version's number."""

    @property
    def model_hash(self) -> str:
        """Hash of the model's content."""

    @property
    def features(self) -> Sequence[str]:
        """The model's inputs, in its order."""

    @property
    def threshold(self) -> float | None:
        """The decision threshold; None for a regression."""


@dataclass(frozen=True)
class RecordedModel:
    """A model as the artifact ``model`` of a run describes it; a ``ScorableModel``."""

    version: str
    model_hash: str
    features: tuple[str, ...]
    threshold: float | None

    @classmethod
    def from_record(cls, record: Mapping[str, Any], version: str | None) -> RecordedModel:
        """Read the artifact ``model``; ``version`` is None in a draft that was not registered."""
        return cls(
            version=str(version),
            model_hash=record["model_hash"],
            features=tuple(record["features"]),
            threshold=record["threshold"],
        )


def predict_scores(model: Any, frame: pd.DataFrame, config: ProjectConfig) -> np.ndarray:
    """Return a model's score for each row.

    It is the probability of the positive class, the probability of each class (shape
    (rows, classes), in the order of their codes), or the predicted value.

    Every score of the project comes from here. It does not depend on the batch that a row is scored
    in; ``mlops_kit.registry.batch_independence`` says for which models that holds exactly.
    """
    frame = to_pandas(frame)
    rowwise_model = make_batch_independent(model)
    if config.task == "binary":
        scores = rowwise_model.predict_proba(frame)[:, -1]
    elif config.task == "multiclass":
        scores = rowwise_model.predict_proba(frame)
    else:
        scores = rowwise_model.predict(frame)
    return np.asarray(scores, dtype=float)


def compute_prediction_id(project: Project, model_hash: str, key: tuple[Any, ...]) -> str:
    """Compute the id of a prediction, which depends on the model and the row's key only."""
    parts = [project.config.name, model_hash, *map(str, key)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_PREDICTION_ID_LENGTH]


def score_rows(
    project: Project,
    model: Any,
    description: ScorableModel,
    rows: pd.DataFrame,
    history: pd.DataFrame,
) -> pd.DataFrame:
    """Score raw rows.

    Parameters
    ----------
    model : object
        The fitted pipeline.
    description : ScorableModel
        Its version, features and threshold.
    rows : DataFrame
        The rows to score, as the source has them.
    history : DataFrame
        The source as known when they are scored.

    Returns
    -------
    DataFrame
        One row per input row: prediction_id, key columns, time, group and weight as far as the
        rows have them, score (of a multiclass task a list with the probability of each class),
        decision (the code of the predicted class), model_version, day, and the features.
    """
    rows = to_pandas(rows)
    history = to_pandas(history)
    scores, inputs = score_with_inputs(
        project,
        model,
        description,
        rows,
        history,
    )
    added_columns = [column for column in inputs.columns if column not in scores.columns]
    return scores.join(inputs[added_columns])


def score_with_inputs(
    project: Project,
    model: Any,
    description: ScorableModel,
    rows: pd.DataFrame,
    history: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score raw rows; see ``score_rows``.

    Returns
    -------
    scores : DataFrame
        The columns of ``score_rows`` without the features.
    inputs : DataFrame
        The model's inputs, in its order.
    """
    inputs = _build_inputs(
        project,
        description,
        rows,
        history,
    )
    scores = np.array([])
    if len(rows):
        scores = predict_scores(model, inputs, project.config)
    table = _build_score_table(
        project,
        description,
        rows,
        scores,
    )
    return table, inputs


def _build_inputs(
    project: Project,
    description: ScorableModel,
    rows: pd.DataFrame,
    history: pd.DataFrame,
) -> pd.DataFrame:
    """Compute the model's inputs for raw rows."""
    visible_history = select_visible_history(project, rows, history)
    typed_rows, _ = convert_to_contract_types(project, rows)
    typed_history, _ = convert_to_contract_types(project, visible_history)
    table = features.build_features(project, typed_rows, typed_history)
    return features.select_model_inputs(table, description.features).reset_index(drop=True)


def _build_score_table(
    project: Project,
    description: ScorableModel,
    rows: pd.DataFrame,
    scores: np.ndarray,
) -> pd.DataFrame:
    """Build the table of predictions without the features."""
    config = project.config
    keys = list_key_columns(project)
    roles = [config.time, config.validation.group, config.weight]
    known_roles = [name for name in roles if name in rows]
    table = rows[list(dict.fromkeys([*keys, *known_roles]))].reset_index(drop=True)
    prediction_ids = [
        compute_prediction_id(project, description.model_hash, key)
        for key in table[keys].itertuples(index=False, name=None)
    ]
    table.insert(
        0,
        "prediction_id",
        np.array(prediction_ids, dtype=object),
    )
    table["score"] = to_score_column(scores)
    table["decision"] = predict_classes(scores, description.threshold)
    table["model_version"] = description.version
    table["day"] = "all"
    if config.time:
        local_times = table[config.time].dt.tz_convert(config.timezone)
        table["day"] = local_times.dt.strftime("%Y-%m-%d")
    return table


def build_prediction_records(
    project: Project,
    description: ScorableModel,
    scores: pd.DataFrame,
    inputs: pd.DataFrame,
    origin: str,
    scored_at: str,
) -> list[PredictionRecord]:
    """Convert scores into records for the prediction log.

    Parameters
    ----------
    scores, inputs : DataFrame
        As ``score_with_inputs`` returns them. Rows without a complete key get an empty one.
    origin : str
        Who asked: ``watch`` or ``endpoint``.
    scored_at : str
        When the rows were scored, as ``format_timestamp`` writes it.
    """
    event_times: list[str | None] = [None] * len(scores)
    if project.config.time:
        event_times = [format_timestamp(time) for time in scores[project.config.time]]
    row_keys = _encode_row_keys(scores, list_key_columns(project))
    input_rows = inputs.itertuples(index=False, name=None)
    columns = zip(
        scores["prediction_id"],
        scores["score"],
        scores["decision"],
        event_times,
        row_keys,
        input_rows,
        strict=True,
    )
    records = []
    for prediction_id, score, decision, event_time, row_key, values in columns:
        probabilities = list(score) if isinstance(score, list) else None
        record = PredictionRecord(
            id=prediction_id,
            model=project.config.name,
            version=description.version,
            model_hash=description.model_hash,
            request_id="",
            request_hash="",
            row_key=row_key,
            event_time=event_time,
            score=float(score) if probabilities is None else max(probabilities),
            predicted_class=None if pd.isna(decision) else float(decision),
            features=encode_feature_values(values),
            origin=origin,
            scored_at=scored_at,
            probabilities=None if probabilities is None else json.dumps(probabilities),
        )
        records.append(record)
    return records


def _encode_row_keys(scores: pd.DataFrame, keys: list[str]) -> list[str]:
    """Encode each row's key; empty where a key column or value is missing."""
    if not set(keys) <= set(scores):
        return [""] * len(scores)
    row_keys = []
    has_key = scores[keys].notna().all(axis=1)
    values_by_row = scores[keys].itertuples(index=False, name=None)
    for values, is_complete in zip(values_by_row, has_key, strict=True):
        row_keys.append(encode_row_key(values) if is_complete else "")
    return row_keys


def select_visible_history(
    project: Project, rows: pd.DataFrame, history: pd.DataFrame
) -> pd.DataFrame:
    """Select the part of the history that the rows' features can see.

    This is ``lookback`` before the oldest row up to the newest; without ``lookback``, all of it.
    """
    config = project.config
    if config.time is None or config.lookback is None or rows.empty:
        return history
    times = history[config.time]
    is_visible = times.between(
        rows[config.time].min() - config.lookback,
        rows[config.time].max(),
    )
    visible_history: pd.DataFrame = history[is_visible]
    return visible_history


def convert_to_contract_types(
    project: Project, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Convert rows to the types in which training saw them.

    Returns
    -------
    converted : DataFrame
        The rows; values of another type are missing.
    invalid_values : dict of str to Series
        Those values, by column.
    """
    file = project.resolve_path(project.config.contract.file)
    if not file.exists():
        return rows, {}
    return contract.coerce_types(rows, contract.load_contract(file))


def compile_scoring_rules(project: Project, history: pd.DataFrame) -> RowRules:
    """Compile the rules for rows to score: the same for a file, a request, the batch and the watch.

    Parameters
    ----------
    history : DataFrame
        The source.
    """
    file = project.resolve_path(project.config.contract.file)
    rules = contract.DataContract(columns={})
    if file.exists():
        rules = contract.load_contract(file)
    source_columns = [str(name) for name in history.columns if name != ROW_ID]
    return compile_rules(
        rules,
        list_required_columns(project, source_columns),
        history,
        project.config.time,
    )


def check_rows_to_score(project: Project, rows: pd.DataFrame, history: pd.DataFrame) -> RowCheck:
    """Decide by the data contract which rows are not scored.

    Parameters
    ----------
    rows : DataFrame
        The rows to score.
    history : DataFrame
        The source.
    """
    return check_rows(rows, compile_scoring_rules(project, history))


@dataclass(frozen=True)
class TablePrediction:
    """The predictions for a table.

    Attributes
    ----------
    scores : DataFrame
        One row per input row, in its order; see ``predict_with_champion``.
    check : RowCheck
        What the data contract decided.
    """

    scores: pd.DataFrame
    check: RowCheck


def predict_with_champion(project: Project, frame: pd.DataFrame) -> pd.DataFrame:
    """Score raw rows by the champion, with the source as history.

    Returns
    -------
    DataFrame
        One row per input row, with prediction_id, key columns, time, score, decision,
        model_version. A row that the data contract rejects has no score; if there is one, the
        column ``problems`` says why each was rejected.

    Raises
    ------
    KitError
        If there is no champion, there are no rows, a required column is missing, or every row is
        rejected.
    """
    frame = to_pandas(frame)
    return predict_table(project, frame).scores


def predict_table(project: Project, frame: pd.DataFrame) -> TablePrediction:
    """Score raw rows by the champion; this is ``mlops predict``.

    Raises
    ------
    KitError
        As ``predict_with_champion``.
    """
    config = project.config
    champion, model = versions.load_champion(project)
    history = source.read_source(project)
    rules = compile_scoring_rules(project, history)
    rows = _complete_columns(project, frame.reset_index(drop=True), rules)
    check = check_rows(rows, rules)
    if check.is_rejected.all():
        raise KitError(
            check.table.sentence,
            f"rows that satisfy {config.contract.file}",
            "correct the values, or edit the contract",
        )
    if not config.id and ROW_ID not in rows:
        rows.insert(0, ROW_ID, range(len(rows)))
    accepted = rows[~check.is_rejected]
    if config.time:
        date_format = ReadSettings.from_source(config.source).find_date_format(config.time)
        times = parse_timestamps(accepted[config.time], config.time, config.timezone, date_format)
        accepted = accepted.assign(**{config.time: times})
    scores = score_rows(
        project,
        model,
        champion,
        accepted.reset_index(drop=True),
        history,
    )
    keys = list_key_columns(project)
    roles = {config.validation.group, config.weight}
    hidden_columns = {"day"} | ((set(champion.features) | roles) - set(keys))
    shown = scores[[column for column in scores.columns if column not in hidden_columns]]
    if config.task == "multiclass":
        shown = name_classes(shown, champion.classes)
    if check.rejected_count:
        shown = shown.set_index(accepted.index).reindex(rows.index)
        shown[keys] = rows[keys]
        shown["problems"] = check.describe_rows()
    return TablePrediction(shown, check)


def _complete_columns(project: Project, frame: pd.DataFrame, rules: RowRules) -> pd.DataFrame:
    """Return rows with all columns; one that may be missing is added where it is not there.

    Raises
    ------
    KitError
        If there are no rows, or a column is missing that each row must have.
    """
    keys = set(project.config.id)
    absent = [name for name in rules.columns if name not in frame]
    missing = [name for name in absent if rules.columns[name].required or name in keys]
    if missing:
        others = f" (nor {', '.join(missing[1:4])})" if missing[1:] else ""
        raise KitError(
            f"the rows have no column {missing[0]!r}{others}",
            f"the source's columns: {', '.join(rules.columns)}",
            "add it to the file",
        )
    if frame.empty:
        raise KitError(
            "there are no rows to score", "a header and at least one row", "add rows to the file"
        )
    return frame.assign(**dict.fromkeys(absent))


def list_required_columns(project: Project, columns: Iterable[str]) -> list[str]:
    """Return those of the source's columns that a row must have to be scored.

    These are the columns known at prediction time, without the weight. Excluded columns and the
    group count only if the project has feature views, which may use them.
    """
    config = project.config
    hidden = {config.target, config.weight, *config.known_later}
    if not config.features:
        hidden.update(config.excluded_columns)
        hidden.update({config.validation.group} - set(config.id))
    return [column for column in columns if column not in hidden]
