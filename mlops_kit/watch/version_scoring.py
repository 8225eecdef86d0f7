"""Scores of another version on the rows that a version has scored, and the gain between the two.

The other version gets the features that were logged; where the log does not have all of them, or
they do not give the logged scores again, the rows are read from the source.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import to_score_array
from mlops_kit.data.columns import list_key_columns
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.db.predictions import encode_row_key
from mlops_kit.registry import scoring
from mlops_kit.registry.models import load_model
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stats.paired_gains import PairedGain, ScoredRows, measure_paired_gain
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.monitoring import decode_features, select_window_predictions

_MAX_SCORE_DIFFERENCE = 1e-6  # of scores computed again from the logged features


class ComparedRows(NamedTuple):
    """The rows of a period that the champion scored, with another version's scores.

    ``note`` says why there are no scores; else it is empty.
    """

    rows: pd.DataFrame
    sampling: pd.DataFrame
    other_scores: np.ndarray | None
    note: str = ""


def score_with_version(
    context: WatchContext,
    other: ModelVersion,
    start: datetime,
    end: datetime,
) -> ComparedRows:
    """Score the rows of a period that the champion has scored with another version."""
    champion = context.get_champion()
    selected = select_window_predictions(context, start, end, champion.version.version)
    rows = selected.rows
    if rows.empty:
        return ComparedRows(rows, selected.sampling, None, "the champion scored no rows in it")
    if other.classes != champion.version.classes:
        note = f"version {other.version} predicts other classes"
        return ComparedRows(rows, selected.sampling, None, note)
    features = decode_features(rows, context.get_reference(champion.version.version))
    missing = [name for name in other.features if name not in features]
    if missing:
        return _score_source_rows(context, other, selected.sampling, rows, (start, end))
    repeated_scores = scoring.predict_scores(
        champion.model, features[list(champion.version.features)], context.config
    )
    logged_scores = to_score_array(rows["score"])
    if float(np.abs(repeated_scores - logged_scores).max()) > _MAX_SCORE_DIFFERENCE:
        return _score_source_rows(context, other, selected.sampling, rows, (start, end))
    model = load_model(context.project, other)
    scores = scoring.predict_scores(model, features[list(other.features)], context.config)
    return ComparedRows(rows, selected.sampling, scores)


def _score_source_rows(
    context: WatchContext,
    other: ModelVersion,
    sampling: pd.DataFrame,
    rows: pd.DataFrame,
    period: tuple[datetime, datetime],
) -> ComparedRows:
    """Score the rows of a window from the source, where the log does not have all features."""
    start, end = period
    lookback = context.config.lookback or start - datetime.fromisoformat(other.as_of)
    history = context.history.read_until(end, since=start - max(lookback, timedelta(0)))
    source_rows = history[history[context.config.time] >= start].reset_index(drop=True)
    model = load_model(context.project, other)
    scored, _ = scoring.score_with_inputs(
        context.project,
        model,
        other,
        source_rows,
        history,
    )
    row_keys = scored[list_key_columns(context.project)].itertuples(index=False, name=None)
    keys = [encode_row_key(key) for key in row_keys]
    score_by_key = dict(zip(keys, scored["score"], strict=True))
    is_found = rows["key"].isin(score_by_key)
    found = rows[is_found].reset_index(drop=True)
    if found.empty:
        note = f"the source no longer has the rows that version {other.version} needs"
        return ComparedRows(rows, sampling, None, note)
    scores = to_score_array(found["key"].map(score_by_key))
    return ComparedRows(found, sampling[is_found.to_numpy()].reset_index(drop=True), scores)


def measure_champion_gain(
    context: WatchContext, other: ModelVersion, compared: ComparedRows
) -> PairedGain | None:
    """Measure the champion's gain over another version; None if it cannot be computed."""
    if compared.other_scores is None:
        return None
    return measure_paired_gain(
        context.config.headline_metric,
        ScoredRows(
            labels=compared.rows["label"].to_numpy(float),
            scores=to_score_array(compared.rows["score"]),
            other_scores=np.asarray(compared.other_scores),
            threshold=context.get_champion().version.threshold,
            other_threshold=other.threshold,
        ),
        get_sampling_design(compared.sampling, context.config),
    )
