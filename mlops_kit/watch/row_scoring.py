"""Scoring the rows that are new in the source."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import list_key_columns
from mlops_kit.db import predictions
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import PredictionRecord, WatchRecord
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.registry import scoring
from mlops_kit.watch.context import WatchContext

_MAX_SCORING_BATCH_ROWS = 20_000  # rows scored in one transaction
_LATE_ROW_GRACE = timedelta(days=7)  # how late a row may appear in the source and still be scored
_UNLIMITED_LOOKBACK = timedelta(days=36500)


class ScoredRows(NamedTuple):
    """What became of the new rows of a pass.

    Attributes
    ----------
    scored : int
        Number of scored rows.
    rejected : int
        Number of rows that the data contract rejects, and that no earlier pass has seen.
    sentence : str
        What the contract rejects in them, or accepts although it is new; else empty.
    """

    scored: int
    rejected: int
    sentence: str


def score_new_rows(context: WatchContext, progress: WatchRecord, as_of: datetime) -> ScoredRows:
    """Score the rows that are new, late ones included, then move the progress mark.

    Rows that the data contract rejects are not scored.
    """
    champion = context.get_champion()
    watched_from = datetime.fromisoformat(progress.watched_from)
    watched_until = datetime.fromisoformat(progress.watched_until)
    first_row_time = max(watched_from, watched_until - _LATE_ROW_GRACE)
    lookback = context.config.lookback or _UNLIMITED_LOOKBACK
    history = context.history.read_until(as_of, first_row_time - lookback)
    unscored = select_unscored_rows(context, history, first_row_time)
    new_rows, sentence, rejected_count = _reject_rows(context, unscored, history, watched_until)
    for start in range(0, len(new_rows), _MAX_SCORING_BATCH_ROWS):
        batch = new_rows.iloc[start : start + _MAX_SCORING_BATCH_ROWS].reset_index(drop=True)
        scores, inputs = scoring.score_with_inputs(
            context.project, champion.model, champion.version, batch, history
        )
        records = scoring.build_prediction_records(
            context.project, champion.version, scores, inputs, "watch", format_timestamp(as_of)
        )
        with open_transaction(context.project) as transaction:
            predictions.insert_predictions(transaction, records)
    if format_timestamp(as_of) > progress.watched_until:
        _move_progress_mark(context, as_of)
    return ScoredRows(len(new_rows), rejected_count, sentence)


def _reject_rows(
    context: WatchContext, rows: pd.DataFrame, history: pd.DataFrame, watched_until: datetime
) -> tuple[pd.DataFrame, str, int]:
    """Return the accepted rows, and what the contract says of those that are new in this pass."""
    check = scoring.check_rows_to_score(context.project, rows, history)
    if not check.violations:
        return rows, "", 0
    # A rejected row is unscored in later passes as well; it is reported once.
    is_new = (rows[context.config.time] >= watched_until).to_numpy()
    new_check = scoring.check_rows_to_score(
        context.project, rows[is_new].reset_index(drop=True), history
    )
    sentence = new_check.table.sentence if new_check.violations else ""
    accepted = rows[~check.is_rejected].reset_index(drop=True)
    return accepted, sentence, new_check.rejected_count


def _move_progress_mark(context: WatchContext, as_of: datetime) -> None:
    statement = (
        sa.update(WatchRecord)
        .where(WatchRecord.model == context.config.name)
        .values(watched_until=format_timestamp(as_of), updated_at=current_timestamp())
    )
    with open_transaction(context.project) as transaction:
        transaction.execute(statement)


def select_unscored_rows(
    context: WatchContext, history: pd.DataFrame, first_row_time: datetime
) -> pd.DataFrame:
    """Select the rows from a time on that the watch has not scored."""
    recent_rows = history[history[context.config.time] >= first_row_time].reset_index(drop=True)
    statement = sa.select(PredictionRecord.row_key).where(
        PredictionRecord.model == context.config.name,
        PredictionRecord.origin == "watch",
        PredictionRecord.event_time >= format_timestamp(first_row_time),
    )
    scored_keys = set(query_records(context.project, statement))
    keys = recent_rows[list_key_columns(context.project)].itertuples(index=False, name=None)
    is_new = [predictions.encode_row_key(key) not in scored_keys for key in keys]
    return recent_rows[is_new].reset_index(drop=True)
