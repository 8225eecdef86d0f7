"""Labels from feedback, from a ``labels:`` table or from the source, and their import."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import list_key_columns
from mlops_kit.data.readers import read_query, read_table, resolve_location
from mlops_kit.data.reading.records import TableRead
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.typed_table import describe_frame
from mlops_kit.data.source import compute_known_times
from mlops_kit.data.target import TargetEncoder
from mlops_kit.data.timestamps import parse_timestamps
from mlops_kit.db.engine import database_exists
from mlops_kit.db.labels import (
    FEEDBACK_ORIGIN,
    EncodedLabel,
    LabelImport,
    find_earliest_unlabeled,
    load_labels_by_key,
    record_labels,
    retry_unknown_labels,
)
from mlops_kit.db.predictions import encode_row_key
from mlops_kit.db.tables import LabelOutcome
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.config.data import LabelsConfig, QuerySource, get_file_location
from mlops_kit.project.config.reserved_names import choose_source_names
from mlops_kit.project.loader import Project

__all__ = ["LabelMessage", "find_earliest_unlabeled", "import_labels", "record_feedback"]

_PREDICTION_ID_COLUMN = "prediction_id"


@dataclass(frozen=True)
class LabelMessage:
    """A label as it arrives.

    Parameters
    ----------
    target_id : str
        The id of a prediction, or the key of a row as ``encode_row_key`` writes it.
    value : object
        The value of the target, in any type.
    known_at : str
        From when it was known, as ``format_timestamp`` writes it.
    """

    target_id: str
    value: Any
    known_at: str


def record_feedback(
    project: Project,
    messages: list[LabelMessage],
    received_at: str,
    max_wait_seconds: float | None = None,
) -> list[LabelOutcome]:
    """Store labels that name predictions by id; return the outcome of each.

    Parameters
    ----------
    max_wait_seconds : float, optional
        How long to wait for the transactions of other processes.
    """
    batch = LabelImport(
        FEEDBACK_ORIGIN,
        received_at,
        by_key=False,
        is_reread=False,
        max_wait_seconds=max_wait_seconds,
    )
    return record_labels(project, _encode_labels(project, messages), batch)


def import_labels(project: Project, history: pd.DataFrame, as_of: datetime) -> dict[str, int]:
    """Import the labels known at a given time, then join those whose prediction was unknown.

    Parameters
    ----------
    history : DataFrame
        The source as known at that time; used if the project has no ``labels:`` table.

    Returns
    -------
    dict of str to int
        The number of messages by ``LabelOutcome``.
    """
    if not database_exists(project):
        return {}
    imported_at = format_timestamp(as_of)
    settings = project.config.labels
    rejected_count = 0
    if settings is None:
        messages = _read_source_labels(project, history)
        batch = LabelImport(
            "source",
            imported_at,
            by_key=True,
            is_reread=True,
        )
    else:
        keys = settings.key or list_key_columns(project)
        by_key = keys != [_PREDICTION_ID_COLUMN]
        table = _read_table_source(project, settings)
        rejected_count = table.report.rejected_count
        messages = _list_table_labels(
            project,
            settings,
            table.frame,
            keys,
            as_of,
        )
        batch = LabelImport(
            "labels",
            imported_at,
            by_key,
            is_reread=True,
        )
    outcomes = record_labels(project, _encode_labels(project, messages), batch)
    counts = Counter(outcomes) + retry_unknown_labels(project, imported_at)
    if rejected_count:
        counts[LabelOutcome.REFUSED] += rejected_count
    return {str(outcome): count for outcome, count in counts.items()}


def _encode_labels(project: Project, messages: list[LabelMessage]) -> list[EncodedLabel]:
    """Encode the values of label messages."""
    encode = TargetEncoder(project)
    return [
        EncodedLabel(
            target_id=message.target_id,
            value=encode(message.value),
            raw_value=str(message.value),
            known_at=message.known_at,
        )
        for message in messages
    ]


def _read_source_labels(project: Project, history: pd.DataFrame) -> list[LabelMessage]:
    """Return the labels of the source for rows whose predictions have none, or another one."""
    config = project.config
    since = find_earliest_unlabeled(project)
    if config.time is None or since is None:
        return []
    is_labeled = history[config.target].notna() & (history[config.time] >= since)
    rows = history[is_labeled]
    current_labels = load_labels_by_key(project, since)
    encode = TargetEncoder(project)
    code_by_value = {value: encode(value) for value in rows[config.target].unique()}
    keys = rows[list_key_columns(project)].itertuples(index=False, name=None)
    known_times = compute_known_times(project, rows, config.target)
    messages = []
    for key, value, known_at in zip(keys, rows[config.target], known_times, strict=True):
        row_key = encode_row_key(key)
        is_news = current_labels.get(row_key) != {code_by_value[value]}
        if row_key in current_labels and is_news:
            messages.append(LabelMessage(row_key, value, format_timestamp(known_at)))
    return messages


def _list_table_labels(
    project: Project,
    settings: LabelsConfig,
    frame: pd.DataFrame,
    keys: list[str],
    as_of: datetime,
) -> list[LabelMessage]:
    """Return the labels of a ``labels:`` table that were known at a given time."""
    config = project.config
    value_column = settings.value or config.target
    required_columns = [*keys, value_column]
    if settings.time:
        required_columns.append(settings.time)
    missing = [column for column in required_columns if column not in frame]
    if missing:
        raise KitError(
            f"labels.source has no column {missing[0]!r}",
            f"one of {', '.join(map(str, frame.columns))}",
            "edit 'labels' in mlops.yaml",
        )
    known_times = pd.Series(as_of, frame.index)
    if settings.time:
        date_format = ReadSettings.from_source(settings.source).find_date_format(settings.time)
        known_times = parse_timestamps(
            frame[settings.time], settings.time, config.timezone, date_format
        )
    is_known = frame[value_column].notna() & (known_times <= as_of)
    rows = frame[is_known]
    target_ids = _get_target_ids(rows, keys)
    columns = zip(target_ids, rows[value_column], known_times[is_known], strict=True)
    return [
        LabelMessage(target_id, value, format_timestamp(known_at))
        for target_id, value, known_at in columns
    ]


def _read_table_source(project: Project, settings: LabelsConfig) -> TableRead:
    """Read the file or query of a ``labels:`` table."""
    source = settings.source
    if isinstance(source, QuerySource):
        frame = read_query(source, None)
        return TableRead(frame, describe_frame(frame, "query"))
    location = get_file_location(source)
    table = read_table(
        resolve_location(project, location),
        description=f"labels.source: {location!r}",
        hint="edit 'labels' in mlops.yaml",
        settings=ReadSettings.from_source(source),
    )
    names = choose_source_names(project.config.role_columns, table.frame.columns)
    for column in (settings.value, settings.time, *settings.key):
        names.pop(column or "", None)
    return replace(table, frame=table.frame.rename(columns=names))


def _get_target_ids(rows: pd.DataFrame, keys: list[str]) -> list[str]:
    """Return the prediction id, or the encoded key, that each row names."""
    values = rows[keys].itertuples(index=False, name=None)
    if keys == [_PREDICTION_ID_COLUMN]:
        return [str(prediction_id) for (prediction_id,) in values]
    return [encode_row_key(key) for key in values]
