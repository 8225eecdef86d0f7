"""Guesses about the target: task, positive class, rows without a label."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.data.classes import (
    KNOWN_PAIRS,
    count_classes,
    normalize_class,
    refuse_spelling_variants,
)
from mlops_kit.data.columns import ColumnKind, coerce_column, infer_kind
from mlops_kit.data.detection.records import Guess, GuessTopic

_NUMERIC_KINDS = {ColumnKind.NUMBER, ColumnKind.INTEGER}
_MAX_INTEGER_CLASSES = 20  # whole numbers with more distinct values are amounts
_MIN_AMOUNT_VALUES = 50  # whole numbers with so many distinct values are amounts for certain
_MIN_BALANCED_SHARE = 0.25  # of an even share: classes are rarely rarer, counts often are
_MAX_CLASS_SHARE = 0.2  # of the rows: text with more distinct values names rows, not classes
_MAX_LISTED_CLASSES = 6
# Classes that may stand for an unknown label.
_UNKNOWN_WORDS = {"unknown", "invalid", "missing", "none", "na", "n/a", "nan", "null", "?", "other"}

Task = Literal["binary", "multiclass", "regression"]


def detect_target(
    frame: pd.DataFrame, target: str, task: str | None = None, positive: str | None = None
) -> Iterator[Guess]:
    """Yield the guesses about the target.

    Parameters
    ----------
    frame : DataFrame
        The table.
    target : str
        Its column to predict.
    task, positive : str, optional
        The task and the positive class, if they are known already.

    Raises
    ------
    KitError
        If the column cannot be a target, or has several spellings of one class.
    """
    values = frame[target]
    present = values.dropna()
    _check_target(present, target)
    task_guess = guess_task(values, target)
    if task:
        reason = f"The task was given as {task}."
        task_guess = Guess(topic=GuessTopic.TASK, setting="task", value=task, reason=reason)
    yield task_guess
    if task_guess.value != "regression":
        refuse_spelling_variants(count_classes(present), target)
    if task_guess.value == "binary":
        yield _guess_positive_class(present, target, positive)
    if task_guess.value != "regression":
        yield from _find_unknown_classes(present, target)
    missing_rows = len(values) - len(present)
    if missing_rows:
        share = format_percent(missing_rows / len(values))
        yield Guess(
            topic=GuessTopic.UNLABELED,
            reason=f"{missing_rows:,} of {len(values):,} rows ({share}) have no {target}: "
            "they are scored, but neither trained on nor evaluated.",
            columns=[target],
        )


def _check_target(present: pd.Series, target: str) -> None:
    """Refuse a column that cannot be predicted.

    Raises
    ------
    KitError
        If the column is empty, constant or holds timestamps.
    """
    problem = ""
    if present.empty:
        problem = "is empty"
    elif present.nunique() == 1:
        problem = f"has only the value {present.iloc[0]}"
    elif pd.api.types.is_datetime64_any_dtype(present):
        problem = "holds timestamps"
    if problem:
        raise KitError(
            f"the target {target!r} {problem}",
            "a column with at least two classes, or with numbers",
            "name another column with --target",
        )


def guess_task(values: pd.Series, target: str) -> Guess:
    """Guess whether a target has classes or amounts.

    Two values are two classes. Other text has classes. Numbers with decimals, or with many
    distinct values, are amounts. A few whole numbers may be either: this is never certain.
    """
    present = values.dropna()
    distinct = int(present.nunique())
    kind = infer_kind(values)
    if distinct == 2:
        first, second = sorted(present.unique(), key=str)
        reason = f"{target} has the two values {first} and {second}."
        return _make_task_guess("binary", reason)
    if kind not in _NUMERIC_KINDS:
        return _guess_text_task(present, target)
    numbers, _ = coerce_column(present, ColumnKind.NUMBER)
    numbers = numbers.dropna().astype(float)
    if not bool((numbers % 1 == 0).all()):
        low = format_number(float(numbers.min()))
        high = format_number(float(numbers.max()))
        reason = f"{target} has {distinct:,} distinct numbers with decimals, from {low} to {high}."
        return _make_task_guess("regression", reason)
    return _guess_integer_task(numbers, target)


def _make_task_guess(task: Task, reason: str, *alternatives: Task) -> Guess:
    """Return the guess of a task; it is uncertain if there are alternatives."""
    return Guess(
        topic=GuessTopic.TASK,
        setting="task",
        value=task,
        reason=reason,
        is_certain=not alternatives,
        alternatives=list(alternatives),
    )


def _guess_text_task(present: pd.Series, target: str) -> Guess:
    """Guess the task of a target of text.

    Raises
    ------
    KitError
        If the text names rows.
    """
    counts = present.value_counts()
    if len(counts) > _MAX_CLASS_SHARE * len(present):
        raise KitError(
            f"the target {target!r} has {len(counts):,} different texts in {len(present):,} rows",
            "a few classes, or numbers",
            "name another column with --target",
        )
    names = [str(name) for name in counts.index[:_MAX_LISTED_CLASSES]]
    more = ", …" if len(counts) > len(names) else ""
    rarest = int(counts.iloc[-1])
    reason = (
        f"{target} has {len(counts)} classes: {', '.join(names)}{more}; "
        f"the rarest, {counts.index[-1]}, has {_count_rows(rarest)}."
    )
    return _make_task_guess("multiclass", reason)


def _guess_integer_task(numbers: pd.Series, target: str) -> Guess:
    """Guess whether whole numbers are classes or counts."""
    counts = numbers.value_counts()
    distinct = len(counts)
    low = int(numbers.min())
    high = int(numbers.max())
    description = f"{target} has {distinct:,} distinct whole numbers from {low:,} to {high:,}"
    if distinct > _MAX_INTEGER_CLASSES:
        if distinct >= _MIN_AMOUNT_VALUES:
            return _make_task_guess("regression", f"{description}.")
        reason = f"{description}: they look like counts, but could be codes of classes."
        return _make_task_guess("regression", reason, "multiclass")
    smallest_share = float(counts.min() / counts.sum())
    is_balanced = smallest_share >= _MIN_BALANCED_SHARE / distinct
    is_coded = low in (0, 1) and high - low + 1 == distinct
    shares = f"the rarest has {format_percent(smallest_share)} of the rows"
    if is_balanced and is_coded:
        reason = f"{description}, and {shares}: they look like codes of classes."
        return _make_task_guess("multiclass", reason, "regression")
    reason = f"{description}, and {shares}: they look like counts or grades."
    return _make_task_guess("regression", reason, "multiclass")


def _guess_positive_class(present: pd.Series, target: str, given: str | None) -> Guess:
    """Guess the positive class: by a known pair, else the rarer class, which is not certain.

    Raises
    ------
    KitError
        If a class was given that the target does not have.
    """
    counts = count_classes(present)
    class_by_text = {normalize_class(value): value for value in counts}
    if given is not None:
        if normalize_class(given) not in class_by_text:
            raise KitError(
                f"{given!r} is not a class of {target!r}",
                suggest_names(given, counts),
                "name another class with --positive",
            )
        return Guess(
            topic=GuessTopic.POSITIVE_CLASS,
            setting="positive",
            value=class_by_text[normalize_class(given)],
            reason=f"{given} was given.",
            columns=[target],
        )
    for negative, positive in KNOWN_PAIRS:
        if set(class_by_text) == {negative, positive}:
            value = class_by_text[positive]
            return Guess(
                topic=GuessTopic.POSITIVE_CLASS,
                setting="positive",
                value=value,
                reason=f"Of {class_by_text[negative]} and {value}, {value} is the positive class.",
                columns=[target],
            )
    common, rare = sorted(counts, key=lambda value: (-counts[value], str(value)))
    return Guess(
        topic=GuessTopic.POSITIVE_CLASS,
        setting="positive",
        value=rare,
        reason=f"{rare} has {counts[rare]:,} rows and {common} has {counts[common]:,}: the rarer "
        "class is usually the event to predict.",
        is_certain=False,
        alternatives=[common],
        columns=[target],
    )


def _find_unknown_classes(present: pd.Series, target: str) -> Iterator[Guess]:
    """Find classes whose name says that the label is not known."""
    counts = count_classes(present)
    if len(counts) < 3:
        return
    for value, count in counts.items():
        if normalize_class(value) in _UNKNOWN_WORDS:
            yield Guess(
                topic=GuessTopic.UNLABELED,
                reason=f"The class {value} of {target} ({_count_rows(count)}) may stand for a "
                "label that is not known; if so, leave the value empty in the source.",
                is_certain=False,
                columns=[target],
            )


def _count_rows(count: int) -> str:
    """Return a number of rows in words."""
    return "1 row" if count == 1 else f"{count:,} rows"
