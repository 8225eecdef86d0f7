"""Guesses about rows: the columns that identify them, group them and date them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.data.columns import ColumnKind, infer_kind
from mlops_kit.data.detection.records import Guess, GuessTopic

_MAX_SPACED_SHARE = 0.5  # of the values of a column of codes; others are names or sentences
# Words of a column's name, see ``split_name``.
_ID_WORDS = {"id", "ids", "uuid", "guid", "key", "identifier", "pk"}
_ROW_NUMBER_NAMES = {
    "rownames",
    "row_names",
    "rowname",
    "index",
    "unnamed: 0",
    "row",
    "rownum",
    "x",
}
_GROUP_WORDS = {
    *_ID_WORDS,
    "account",
    "caseid",
    "client",
    "customer",
    "device",
    "household",
    "machine",
    "patient",
    "person",
    "store",
    "subject",
    "user",
}
_TIME_WORDS = {
    "at",
    "created",
    "date",
    "datetime",
    "day",
    "moment",
    "time",
    "timestamp",
    "ts",
    "when",
}
# Timestamps that do not say when a prediction is made.
_OTHER_TIME_WORDS = {
    "birth",
    "birthday",
    "birthdate",
    "closed",
    "deleted",
    "dob",
    "due",
    "end",
    "ended",
    "expires",
    "expiry",
    "modified",
    "updated",
}
_TIME_PART_WORDS = {"yr", "month", "day", "dow", "hour", "week", "weekday", "quarter", "period"}
_MIN_PERIODS = 5  # fewer distinct values by which a table is sorted are its classes
_MIN_TIMES = 20  # fewer distinct timestamps do not order a table
_MAX_MISSING_TIME_SHARE = 0.01
_MIN_GROUPS = 10  # fewer distinct values are categories
_MIN_ROWS_PER_GROUP = 1.02
_MAX_GROUP_SHARE = 0.1  # of the rows; a larger group is a category
_MIN_SPLIT_GROUPS = 50  # so many groups can be split without harm, should they be none


def split_name(name: str) -> set[str]:
    """Return the words of a column's name, in lower case.

    >>> sorted(split_name("customerID")), sorted(split_name("sample.yr"))
    (['customer', 'id'], ['sample', 'yr'])
    """
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return set(re.split(r"[^0-9a-z]+", spaced.lower())) - {""}


def detect_id(frame: pd.DataFrame, target: str, given: list[str] | None) -> Guess:
    """Guess the column that identifies a row.

    A unique column is certain if its name says so; a row number comes last, since it means nothing
    outside the file.
    """
    if given:
        reason = f"{', '.join(given)} was given."
        return Guess(topic=GuessTopic.ID, setting="id", value=given, reason=reason, columns=given)
    if given is not None:
        reason = "It was given that no column identifies a row."
        return Guess(topic=GuessTopic.ID, reason=reason)
    named = []
    row_numbers = []
    others = []
    for column in _list_unique_columns(frame, target):
        if split_name(column) & _ID_WORDS:
            named.append(column)
        elif column.lower() in _ROW_NUMBER_NAMES or _is_row_number(frame[column]):
            row_numbers.append(column)
        elif _holds_codes(frame[column]):
            others.append(column)
    candidates = [*named, *others, *row_numbers]
    if not candidates:
        reason = "No column is unique: a row is identified by its position in the file."
        return Guess(topic=GuessTopic.ID, reason=reason)
    column = candidates[0]
    meaning = "identifies a row" if named else "may identify a row"
    if column in row_numbers:
        meaning = "is a row number, which identifies a row as long as the file does not change"
    return Guess(
        topic=GuessTopic.ID,
        setting="id",
        value=[column],
        reason=f"{column} is unique in {len(frame):,} rows and never missing: it {meaning}.",
        is_certain=len(named) == 1 or (column in row_numbers and len(candidates) == 1),
        alternatives=[[other] for other in candidates[1:]],
        columns=[column],
    )


def _list_unique_columns(frame: pd.DataFrame, target: str) -> list[str]:
    """Return the columns of whole numbers or text without a repeated or missing value."""
    unique_columns = []
    for column in frame.columns:
        values = frame[column]
        types = pd.api.types
        is_key_type = types.is_integer_dtype(values) or not types.is_numeric_dtype(values)
        if column == target or not is_key_type or types.is_datetime64_any_dtype(values):
            continue
        if values.notna().all() and _is_unique(values):
            unique_columns.append(str(column))
    return unique_columns


def _is_unique(values: pd.Series) -> bool:
    """Return whether no value occurs twice; False for values that cannot be compared."""
    try:
        return bool(values.is_unique)
    except TypeError:  # lists, for example
        return False


def _holds_codes(values: pd.Series) -> bool:
    """Return whether a column holds text, mostly without spaces."""
    if infer_kind(values) != ColumnKind.TEXT:
        return False
    return bool(values.astype(str).str.contains(r"\s").mean() < _MAX_SPACED_SHARE)


def _is_row_number(values: pd.Series) -> bool:
    """Return whether a column counts the rows."""
    if not pd.api.types.is_integer_dtype(values):
        return False
    steps = np.diff(values.to_numpy(dtype="int64"))
    return bool((steps == 1).all())


def detect_groups(
    frame: pd.DataFrame, target: str, used: set[str], given: str | None
) -> Iterator[Guess]:
    """Yield the columns that name something which several rows belong to, such as a patient.

    Rows of one group resemble each other, so a split that puts them into training and test flatters
    the model. Only the name of a column tells a group from a category: this is never certain. The
    first column with many groups becomes the setting.
    """
    if given is not None:
        if given:
            yield Guess(
                topic=GuessTopic.GROUP,
                setting="validation.group",
                value=given,
                reason=f"{given} was given.",
                columns=[given],
            )
        return
    is_group_set = False
    for column in map(str, frame.columns):
        values = frame[column]
        if column == target or column in used or not _may_name_group(values, column):
            continue
        counts = values.value_counts()
        rows_per_group = len(values) / max(1, len(counts))
        is_group = len(counts) >= _MIN_GROUPS and rows_per_group >= _MIN_ROWS_PER_GROUP
        if not is_group or counts.iloc[0] > _MAX_GROUP_SHARE * len(values):
            continue
        can_split = len(counts) >= _MIN_SPLIT_GROUPS and not is_group_set
        is_group_set = is_group_set or can_split
        yield Guess(
            topic=GuessTopic.GROUP,
            setting="validation.group" if can_split else "",
            value=column if can_split else None,
            reason=f"{column} has {len(counts):,} distinct values in {len(values):,} rows "
            f"({format_number(rows_per_group, 1)} rows each): rows of one {column} resemble each "
            "other, and may have to stay on one side of a split (validation.group).",
            is_certain=False,
            alternatives=[None] if can_split else [],
            columns=[column],
        )


def _may_name_group(values: pd.Series, column: str) -> bool:
    """Return whether a column's name and type are those of a group."""
    if not split_name(column) & _GROUP_WORDS:
        return False
    types = pd.api.types
    if types.is_bool_dtype(values) or types.is_datetime64_any_dtype(values):
        return False
    return not types.is_float_dtype(values) or bool((values.dropna() % 1 == 0).all())


def detect_time(frame: pd.DataFrame, target: str, given: str | None) -> Iterator[Guess]:
    """Yield the column with the prediction time, and that the label delay is not known."""
    if given:
        yield Guess(
            topic=GuessTopic.TIME,
            setting="time",
            value=given,
            reason=f"{given} was given.",
            columns=[given],
        )
    elif given is not None:
        reason = "It was given that no column holds the prediction time: rows are split at random."
        yield Guess(topic=GuessTopic.TIME, reason=reason)
    else:
        guess = _guess_time(frame, target)
        yield guess
        if guess.setting:
            given = str(guess.value)
    if given:
        yield Guess(
            topic=GuessTopic.LABEL_DELAY,
            setting="label_delay",
            value="0s",
            reason=f"How long after {given} a value of {target} is known does not show in a table. "
            "With 0s the newest rows train a model as if their labels were known at once.",
            is_certain=False,
            alternatives=["1d", "30d"],
            columns=[target],
        )


def _guess_time(frame: pd.DataFrame, target: str) -> Guess:
    """Guess the column with the prediction time; without a setting if none orders the table."""
    candidates = {}
    for column in map(str, frame.columns):
        if column != target and _holds_timestamps(frame[column]):
            candidates[column] = _rate_time_column(frame[column], column)
    if not candidates:
        return _report_missing_time(frame, target)
    ordered = sorted(candidates, key=lambda column: -candidates[column])
    column = ordered[0]
    values = frame[column]
    distinct = int(values.nunique())
    missing_share = float(values.isna().mean())
    if distinct < _MIN_TIMES or missing_share > _MAX_MISSING_TIME_SHARE:
        return Guess(
            topic=GuessTopic.TIME,
            reason=f"{column} holds timestamps, but has {distinct:,} distinct values and "
            f"{int(values.isna().sum()):,} missing ones: the table is taken as one without time.",
            is_certain=False,
            alternatives=[*ordered],
            columns=[column],
        )
    words = split_name(column)
    is_named_so = bool(words & _TIME_WORDS) and not words & _OTHER_TIME_WORDS
    return Guess(
        topic=GuessTopic.TIME,
        setting="time",
        value=column,
        reason=f"{column} has {distinct:,} distinct timestamps in {len(frame):,} rows, from "
        f"{values.min()!s:.10} to {values.max()!s:.10}: the newest rows are kept for the review.",
        is_certain=is_named_so and len(ordered) == 1,
        alternatives=[None, *ordered[1:]],
        columns=[column],
    )


def _holds_timestamps(values: pd.Series) -> bool:
    """Return whether a column holds timestamps, also as text that the source converts."""
    types = pd.api.types
    if types.is_datetime64_any_dtype(values):
        return True
    if types.is_numeric_dtype(values) or types.is_bool_dtype(values):
        return False
    return infer_kind(values) == ColumnKind.TIMESTAMP


def _rate_time_column(values: pd.Series, column: str) -> float:
    """Rate how likely a column of timestamps is the prediction time; more is likelier."""
    words = split_name(column)
    rating = float(values.notna().mean())
    rating += bool(words & _TIME_WORDS)
    rating -= 2 * bool(words & _OTHER_TIME_WORDS)
    return rating + min(1.0, values.nunique() / _MIN_TIMES)


def _report_missing_time(frame: pd.DataFrame, target: str) -> Guess:
    """Report that no column holds timestamps, and which columns may say when a row was recorded."""
    parts = []
    for column in map(str, frame.columns):
        if column != target and _may_tell_time(frame[column], column):
            parts.append(column)
    if not parts:
        reason = "No column holds timestamps: rows are split at random."
        return Guess(topic=GuessTopic.TIME, reason=reason)
    return Guess(
        topic=GuessTopic.TIME,
        reason=f"No column holds timestamps, but {', '.join(parts)} may say when a row was "
        "recorded. To split by time, build a column of timestamps from it and name it under time.",
        is_certain=False,
        columns=parts,
    )


def _may_tell_time(values: pd.Series, column: str) -> bool:
    """Return whether a column is named like a part of a date, or the table is sorted by it."""
    words = split_name(column)
    is_named_so = bool(words & _TIME_PART_WORDS) or any(word.startswith("year") for word in words)
    if is_named_so:
        return values.nunique() > 1
    if not pd.api.types.is_integer_dtype(values) or values.is_unique:
        return False
    return values.nunique() >= _MIN_PERIODS and bool(values.is_monotonic_increasing)
