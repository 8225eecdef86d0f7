"""Guesses about features: constants, duplicates, leaks, text, dates and sentinels."""

from __future__ import annotations

from collections.abc import Iterator

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.data.detection.records import Guess, GuessTopic
from mlops_kit.data.reading.sentinels import find_sentinel_numbers
from mlops_kit.stats.association import (
    find_outstanding_columns,
    measure_association,
    measure_mean_class_association,
)

_EXCLUDED_COLUMNS = "excluded_columns"
_MAX_COMPARED_ROWS = 20_000  # evenly spread; they tell as much as all
_MIN_SCALED_CORRELATION = 0.999
_MAX_RECODED_SHARE = 0.5  # distinct values in the rows of a column that may be recoded
_MIN_COMMON_ROWS = 20  # with fewer rows two columns cannot be compared
# A run stops at a column that ranks the target as well as review.leakage_threshold says.
_LEAKAGE_THRESHOLD = 0.98
# A column that stands out is excluded below that: the run measures it on the training rows only.
_MIN_EXCLUDED_ASSOCIATION = 0.96
_MIN_TEXT_WORDS = 1.5  # on average; values of one word are codes or names
_MIN_CERTAIN_TEXT_WORDS = 4.0
_MIN_DISTINCT_TEXT_SHARE = 0.2
_MIN_TEXT_VALUES = 50
_DATE_FORMATS = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d.%m.%y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b-%Y",
    "%b %Y",
    "%B %Y",
    "%Y-%m",
    "%m/%Y",
)


def detect_constants(frame: pd.DataFrame, target: str) -> Iterator[Guess]:
    """Yield the columns with one value at most."""
    for column in map(str, frame.columns):
        present = frame[column].dropna()
        if column == target or _count_distinct(present) > 1:
            continue
        missing_rows = len(frame) - len(present)
        if present.empty:
            reason = f"{column} is empty in all {len(frame):,} rows."
        elif missing_rows:
            reason = f"{column} is {present.iloc[0]} or missing ({missing_rows:,} rows)."
        else:
            reason = f"{column} is {present.iloc[0]} in all {len(frame):,} rows."
        yield Guess(
            topic=GuessTopic.CONSTANT,
            setting=_EXCLUDED_COLUMNS,
            value=[column],
            reason=reason,
            is_certain=not missing_rows or present.empty,
            columns=[column],
        )


def _count_distinct(values: pd.Series) -> int:
    """Return the number of distinct values; of values that cannot be compared, all count."""
    try:
        return int(values.nunique())
    except TypeError:  # lists, for example
        return len(values)


def detect_duplicates(frame: pd.DataFrame, used: set[str]) -> Iterator[Guess]:
    """Yield the columns that repeat an earlier one: equal, recoded or scaled.

    Two columns are recoded if the values of one stand for those of the other, one to one. They are
    scaled if their correlation exceeds 0.999 in absolute value.

    Parameters
    ----------
    used : set of str
        Columns that are not compared: the target and those that are excluded already.
    """
    rows = take_evenly(frame[[column for column in frame.columns if column not in used]])
    first_by_codes: dict[bytes, str] = {}
    unmatched = []
    for column in map(str, rows.columns):
        codes = _encode_by_appearance(rows[column])
        if codes is None:
            continue
        original = first_by_codes.setdefault(codes, column)
        if original == column:
            unmatched.append(column)
            continue
        is_equal = bool(frame[column].equals(frame[original]))
        relation = "equals" if is_equal else "stands one to one for"
        yield _make_duplicate_guess(frame, column, original, relation, is_equal)
    yield from _find_scaled_columns(rows, unmatched)


def _encode_by_appearance(values: pd.Series) -> bytes | None:
    """Encode the values of a column by the order in which they appear.

    Two columns with the same code are equal up to a recoding; if most values are unique, any two
    columns would be, so these are compared by their values. None if the values cannot be compared,
    or all are the same.
    """
    try:
        codes, distinct = pd.factorize(values)
    except TypeError:  # lists, for example
        return None
    if len(distinct) < 2:
        return None
    if len(distinct) > _MAX_RECODED_SHARE * len(values):
        return bytes(pd.util.hash_pandas_object(values, index=False).to_numpy())
    return codes.astype("int32").tobytes()


def _make_duplicate_guess(
    frame: pd.DataFrame, column: str, original: str, relation: str, is_certain: bool
) -> Guess:
    """Return the guess of a column that repeats an earlier one."""
    return Guess(
        topic=GuessTopic.DUPLICATE,
        setting=_EXCLUDED_COLUMNS,
        value=[column],
        reason=f"{column} {relation} {original} in {len(frame):,} rows.",
        is_certain=is_certain,
        columns=[column, original],
    )


def _find_scaled_columns(rows: pd.DataFrame, columns: list[str]) -> Iterator[Guess]:
    """Yield the numeric columns that are another one on a different scale."""
    numeric = []
    for column in columns:
        types = pd.api.types
        is_number = types.is_numeric_dtype(rows[column]) and not types.is_bool_dtype(rows[column])
        if is_number:
            numeric.append(column)
    if len(numeric) < 2:
        return
    numbers = rows[numeric].astype("float64").replace([np.inf, -np.inf], np.nan)
    correlations = numbers.corr(min_periods=_MIN_COMMON_ROWS).abs().to_numpy()
    repeated: set[int] = set()
    for position, column in enumerate(numeric):
        for earlier in range(position):
            correlation = float(correlations[position, earlier])
            if earlier in repeated or not correlation > _MIN_SCALED_CORRELATION:
                continue
            repeated.add(position)
            relation = f"is {numeric[earlier]} on another scale (|r| = {correlation:.4f})"
            yield Guess(
                topic=GuessTopic.DUPLICATE,
                setting=_EXCLUDED_COLUMNS,
                value=[column],
                reason=f"{column} {relation}.",
                is_certain=False,
                columns=[column, numeric[earlier]],
            )
            break


def take_evenly(frame: pd.DataFrame) -> pd.DataFrame:
    """Return at most 20,000 rows, spread evenly over the table."""
    step = -(-len(frame) // _MAX_COMPARED_ROWS)
    return frame.iloc[:: max(1, step)]


def detect_leaks(frame: pd.DataFrame, target: str, task: str, used: set[str]) -> Iterator[Guess]:
    """Yield the columns that rank the target suspiciously well, on their own.

    A run would stop at a column that ranks it almost perfectly, so this is excluded. Below that, a
    strong column is suspicious only if it stands out from the others: many tables have several good
    features, which are no leak. Whether a value is known at prediction time does not show in a
    table: a leak is never certain.
    """
    rows = take_evenly(frame[frame[target].notna()])
    if len(rows) < _MIN_COMMON_ROWS:
        return
    measure = "|rank correlation|" if task == "regression" else "AUC"
    associations = {}
    for column in map(str, frame.columns):
        if column not in used:
            associations[column] = _associate_with_target(rows[column], rows[target], task)
    outstanding = find_outstanding_columns(associations, _LEAKAGE_THRESHOLD)
    for column, association in associations.items():
        if association < _LEAKAGE_THRESHOLD and column not in outstanding:
            continue
        is_excluded = association >= _MIN_EXCLUDED_ASSOCIATION
        advice = "It is excluded; include it only if it is known when a prediction is made."
        if not is_excluded:
            advice = (
                f"It is still a feature: if it is known only later, add it to {_EXCLUDED_COLUMNS} "
                "or known_later, otherwise to review.confirmed_features."
            )
        yield Guess(
            topic=GuessTopic.LEAK,
            setting=_EXCLUDED_COLUMNS if is_excluded else "",
            value=[column] if is_excluded else None,
            reason=f"{column} alone ranks {target} with {measure} {format_number(association)}: it "
            f"may contain what is to be predicted. {advice}",
            is_certain=False,
            columns=[column],
        )


def _associate_with_target(values: pd.Series, target: pd.Series, task: str) -> float:
    """Measure how well a column ranks the target, of several classes the mean over these."""
    try:
        if task == "regression":
            numbers = pd.to_numeric(target, errors="coerce").to_numpy(dtype=float)
            return measure_association(values, numbers, binary=False)
        return measure_mean_class_association(values, target)
    except (TypeError, ValueError):  # values that cannot be ranked
        return 0.0


def detect_texts(frame: pd.DataFrame, used: set[str]) -> Iterator[Guess]:
    """Yield columns of free text, and columns of dates that are stored as text."""
    for column in map(str, frame.columns):
        if column in used or not _holds_text(frame[column]):
            continue
        present = take_evenly(frame[[column]])[column].dropna().astype(str)
        date_formats = find_date_formats(present.drop_duplicates())
        if date_formats:
            yield _make_date_guess(frame, column, date_formats, present.iloc[0])
            continue
        distinct = int(present.nunique())
        distinct_share = distinct / max(1, len(present))
        if distinct < _MIN_TEXT_VALUES or distinct_share < _MIN_DISTINCT_TEXT_SHARE:
            continue
        words = float(present.str.count(r"\S+").mean())
        if words < _MIN_TEXT_WORDS:
            continue
        yield Guess(
            topic=GuessTopic.FREE_TEXT,
            reason=f"{column} has {distinct:,} different texts in {len(present):,} rows, of "
            f"{format_number(words, 1)} words on average.",
            is_certain=words >= _MIN_CERTAIN_TEXT_WORDS,
            columns=[column],
        )


def _holds_text(values: pd.Series) -> bool:
    """Return whether a column holds text."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return False
    return pd.api.types.infer_dtype(values, skipna=True) == "string"


def find_date_formats(texts: pd.Series) -> list[str]:
    """Return the date formats that all texts have; several if day and month can be confused.

    >>> find_date_formats(pd.Series(["Mar-2018", "Feb-2018"]))
    ['%b-%Y']
    >>> find_date_formats(pd.Series(["03/04/2018", "05/06/2018"]))
    ['%d/%m/%Y', '%m/%d/%Y']
    """
    if texts.empty or not texts.iloc[0].strip() or not any(map(str.isdigit, texts.iloc[0])):
        return []
    formats = []
    for date_format in _DATE_FORMATS:
        if pd.isna(pd.to_datetime(texts.iloc[0], format=date_format, errors="coerce")):
            continue
        parsed = pd.to_datetime(texts, format=date_format, errors="coerce")
        if parsed.notna().all():
            formats.append(date_format)
    return formats


def _make_date_guess(frame: pd.DataFrame, column: str, formats: list[str], example: str) -> Guess:
    """Return the guess of a column of dates that are stored as text."""
    rows = int(frame[column].notna().sum())
    return Guess(
        topic=GuessTopic.DATE_AS_TEXT,
        reason=f"{column} holds dates as text in {rows:,} rows, such as {example} "
        f"(format {' or '.join(formats)}).",
        is_certain=len(formats) == 1,
        alternatives=formats[1:],
        columns=[column],
    )


def detect_sentinels(frame: pd.DataFrame, used: set[str]) -> Iterator[Guess]:
    """Yield numbers that may stand for a missing value, such as -999. This is never certain."""
    for column in map(str, frame.columns):
        values = frame[column]
        types = pd.api.types
        if column in used or types.is_bool_dtype(values) or not types.is_numeric_dtype(values):
            continue
        numbers, counts = np.unique(values.dropna().to_numpy("float64"), return_counts=True)
        for sentinel in find_sentinel_numbers(numbers, counts):
            yield Guess(
                topic=GuessTopic.SENTINEL,
                reason=f"{column} is {sentinel}, far from its other values: it may stand for a "
                "missing value.",
                is_certain=False,
                columns=[column],
            )
