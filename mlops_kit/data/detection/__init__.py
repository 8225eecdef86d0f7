"""Detection: what a table shows about the settings of its project.

Each guess is a typed record: setting, value, the evidence in a sentence, and whether it is certain.
A guess that the table alone cannot confirm is marked as uncertain, with its alternatives.

To add a guess: 1. a topic in ``records.GuessTopic``, 2. a function in one of the modules that
yields it, 3. its call in ``detect_settings``.
"""

from __future__ import annotations

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.lazy import pd
from mlops_kit.data.detection import features, keys
from mlops_kit.data.detection.reading import detect_reading
from mlops_kit.data.detection.records import DetectionReport, GivenSettings, Guess, GuessTopic
from mlops_kit.data.detection.target import detect_target
from mlops_kit.data.reading.records import TableRead

__all__ = ["DetectionReport", "GivenSettings", "Guess", "GuessTopic", "detect_settings"]

_NOTHING_GIVEN = GivenSettings()


def detect_settings(
    frame: pd.DataFrame,
    target: str,
    given: GivenSettings = _NOTHING_GIVEN,
    read: TableRead | None = None,
) -> DetectionReport:
    """Detect the settings of a project from its table.

    Parameters
    ----------
    frame : DataFrame
        The table, as the source is read.
    target : str
        The column to predict.
    given : GivenSettings
        What is known already.
    read : TableRead, optional
        What the reader decided about the file.

    Raises
    ------
    KitError
        If a column does not exist, or the target cannot be predicted.

    Examples
    --------
    >>> frame = pd.DataFrame({"plot": range(40), "wet": ["yes", "no"] * 20})
    >>> detect_settings(frame, "wet").get_value("task")
    'binary'
    """
    _check_columns(frame, target, given)
    target_guesses = list(detect_target(frame, target, given.task, given.positive))
    time_guesses = list(keys.detect_time(frame, target, given.time))
    id_guess = keys.detect_id(frame, target, given.id_columns)
    used = {target, *id_guess.columns}
    for guess in time_guesses:
        if guess.setting == "time":
            used.update(guess.columns)
    group_guesses = list(keys.detect_groups(frame, target, used, given.group))
    reading_guesses = list(detect_reading(read)) if read is not None else []
    used |= _list_excluded_columns(reading_guesses)
    if read is not None:
        time_guesses = [_doubt_ambiguous_time(guess, read) for guess in time_guesses]
    groups = set()
    for guess in group_guesses:
        groups.update(guess.columns)
    task = str(target_guesses[0].value)
    guesses = [
        *target_guesses,
        *time_guesses,
        id_guess,
        *group_guesses,
        *reading_guesses,
        *_detect_feature_guesses(frame, target, task, used, groups),
    ]
    return DetectionReport(rows=len(frame), target=target, guesses=guesses)


def _doubt_ambiguous_time(guess: Guess, read: TableRead) -> Guess:
    """Return a guess; it is uncertain if it is about dates that have two readings."""
    if any(column in read.date_problems for column in guess.columns):
        return guess.model_copy(update={"is_certain": False})
    return guess


def _list_excluded_columns(guesses: list[Guess]) -> set[str]:
    """Return the columns that guesses exclude."""
    excluded: set[str] = set()
    for guess in guesses:
        if guess.setting == "excluded_columns":
            excluded.update(guess.value)
    return excluded


def _check_columns(frame: pd.DataFrame, target: str, given: GivenSettings) -> None:
    """Check that the columns that were named exist.

    Raises
    ------
    KitError
        With the most similar name.
    """
    named_columns = [target, given.time, given.group, *(given.id_columns or [])]
    for column in named_columns:
        if column and column not in frame.columns:
            raise KitError(
                f"the table has no column {column!r}",
                suggest_names(column, frame.columns),
                "name another column",
            )


def _detect_feature_guesses(
    frame: pd.DataFrame, target: str, task: str, used: set[str], groups: set[str]
) -> list[Guess]:
    """Return the guesses about features; a column that is excluded is not looked at again."""
    constants = list(features.detect_constants(frame, target))
    excluded = used | _list_excluded_columns(constants)
    leaks = list(features.detect_leaks(frame, target, task, excluded))
    excluded |= _list_excluded_columns(leaks)
    duplicates = list(features.detect_duplicates(frame, excluded))
    excluded |= _list_excluded_columns(duplicates)
    texts = features.detect_texts(frame, excluded | groups)
    # A sentinel among the values of the target would be trained on.
    sentinels = features.detect_sentinels(frame, excluded - {target})
    return [*constants, *leaks, *duplicates, *texts, *sentinels]
