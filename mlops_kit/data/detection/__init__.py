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
    guesses = list(detect_target(frame, target, given.task, given.positive))
    id_guess = keys.detect_id(frame, target, given.id_columns)
    time_guesses = list(keys.detect_time(frame, target, given.time))
    guesses += [*time_guesses, id_guess]
    used = {target, *id_guess.columns}
    for guess in time_guesses:
        if guess.setting == "time":
            used.update(guess.columns)
    group_guesses = list(keys.detect_groups(frame, target, used))
    groups = {column for guess in group_guesses for column in guess.columns}
    guesses += group_guesses
    if read is not None:
        reading_guesses = list(detect_reading(read))
        guesses += reading_guesses
        used |= {column for guess in reading_guesses for column in guess.value or []}
    guesses += _detect_feature_guesses(frame, target, str(guesses[0].value), used, groups)
    return DetectionReport(rows=len(frame), target=target, guesses=guesses)


def _check_columns(frame: pd.DataFrame, target: str, given: GivenSettings) -> None:
    """Check that the columns that were named exist.

    Raises
    ------
    KitError
        With the most similar name.
    """
    named_columns = [target, *(given.id_columns or [])]
    if given.time:
        named_columns.append(given.time)
    for column in named_columns:
        if column not in frame.columns:
            raise KitError(
                f"the table has no column {column!r}",
                suggest_names(column, frame.columns),
                "name another column",
            )


def _detect_feature_guesses(
    frame: pd.DataFrame, target: str, task: str, used: set[str], groups: set[str]
) -> list[Guess]:
    """Return the guesses about features; a column that is excluded is not looked at again."""
    guesses: list[Guess] = []
    excluded = set(used)

    def add(new_guesses: list[Guess]) -> None:
        for guess in new_guesses:
            guesses.append(guess)
            excluded.update(guess.value or [])

    add(list(features.detect_constants(frame, target)))
    add(list(features.detect_leaks(frame, target, task, excluded)))
    add(list(features.detect_duplicates(frame, excluded)))
    add(list(features.detect_texts(frame, excluded | groups)))
    add(list(features.detect_sentinels(frame, excluded)))
    return guesses
