"""The classes of a target, and the code of each: the one definition that every stage uses.

The codes of a binary task are 0 for the negative and 1 for the positive class. ``positive`` in
``mlops.yaml`` names the positive class; without it a known pair such as no and yes decides. Any
other pair is an error, because an alphabetical order would give costs, threshold and flags to
either class by chance. The codes of a multiclass task number the classes from 0, in ascending
order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import yaml

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.lazy import np, pd
from mlops_kit.data.columns import BOOLEAN_BY_TEXT, ColumnKind, infer_kind
from mlops_kit.project.config.root import ProjectConfig

# Negative and positive class of the pairs that need no `positive`, normalized.
KNOWN_PAIRS = (("0", "1"), ("false", "true"), ("no", "yes"), ("n", "y"))
# YAML reads these words as true or false where they are not quoted.
_WORDS_BY_BOOLEAN = {
    True: {"true", "yes", "y", "on", "1"},
    False: {"false", "no", "n", "off", "0"},
}
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0*")
_MAX_LISTED_CLASSES = 5


@dataclass(frozen=True)
class ClassCoding:
    """The classes of a target in the order of their codes.

    Parameters
    ----------
    classes : tuple
        For a binary task the negative and the positive class; None for one that is not known.
    kind : ColumnKind
        What the target's column holds; labels of other types are converted accordingly.

    Examples
    --------
    >>> coding = ClassCoding(("good", "bad"))
    >>> coding.encode("bad"), coding.encode(" good "), coding.encode("Good")
    (1.0, 0.0, None)
    """

    classes: tuple[Any, ...]
    kind: ColumnKind = ColumnKind.TEXT

    @property
    def positive(self) -> Any:
        """The class with the greatest code: of a binary task, the positive class."""
        return self.classes[-1]

    def encode(self, value: Any) -> float | None:
        """Return the code of a class in whatever type it comes; None if it is not a class."""
        return self._code_by_text.get(self._normalize(value))

    def encode_column(self, values: pd.Series) -> pd.Series:
        """Encode a column as float64; what is missing or not a class is NaN."""
        positions, distinct_values = pd.factorize(values)
        codes = [self.encode(value) for value in distinct_values]
        lookup = np.array([*codes, None], dtype="float64")  # position -1, a missing value, is last
        return pd.Series(lookup[positions], index=values.index, name=values.name)

    @cached_property
    def _code_by_text(self) -> dict[str, float]:
        """The code of each class, by its normalized text."""
        return {self._normalize(value): float(code) for code, value in enumerate(self.classes)}

    def _normalize(self, value: Any) -> str:
        """Return a text that is the same for a class in whatever type it comes.

        Text is taken literally, surrounding spaces aside: another spelling is not a class.
        """
        is_numpy_value = hasattr(value, "dtype")
        if isinstance(value, bool) or (is_numpy_value and value.dtype == bool):
            if self.kind == ColumnKind.TEXT:
                return str(bool(value)).lower()
            return str(int(value))
        if isinstance(value, (int, float)) or is_numpy_value:
            is_whole = float(value).is_integer()
            return str(int(value)) if is_whole else str(value)
        text = str(value).strip()
        if self.kind == ColumnKind.BOOLEAN:
            is_true = BOOLEAN_BY_TEXT.get(text.lower())
            return text if is_true is None else str(int(is_true))
        if self.kind in {ColumnKind.INTEGER, ColumnKind.NUMBER}:
            return text.removesuffix(".0")
        return text


def normalize_class(value: Any) -> str:
    """Return a class as text, without differences of case, spaces and number format.

    Examples
    --------
    >>> normalize_class(" Yes"), normalize_class(1.0), normalize_class("1.0"), normalize_class(True)
    ('yes', '1', '1', 'true')
    >>> normalize_class("01")
    '01'
    """
    text = str(value).strip().casefold()
    whole_number = _WHOLE_NUMBER.fullmatch(text)
    return whole_number[1] if whole_number else text


def count_classes(values: pd.Series) -> dict[Any, int]:
    """Count the rows of each value of a target; missing values are left out."""
    counts = values.value_counts(dropna=True)
    return {_to_python_value(value): int(count) for value, count in counts.items() if count}


def _to_python_value(value: Any) -> Any:
    """Convert a NumPy scalar to a Python value."""
    return value.item() if hasattr(value, "item") else value


def resolve_coding(
    counts: Mapping[Any, int],
    config: ProjectConfig,
    kind: ColumnKind = ColumnKind.TEXT,
) -> ClassCoding:
    """Decide the code of each class.

    Parameters
    ----------
    counts : mapping
        The rows of each class.
    config : ProjectConfig
        ``positive`` names the positive class.

    Raises
    ------
    KitError
        If classes differ in spelling only or, for a binary task, there are more than two,
        ``positive`` is not one of them, or the positive class of two is not known.
    """
    refuse_spelling_variants(counts, config.target)
    classes = sort_classes(counts)
    if config.task == "multiclass":
        return ClassCoding(tuple(classes), kind)
    if len(classes) > 2:
        raise KitError(
            f"the target {config.target!r} has {len(classes)} classes: {describe_counts(counts)}",
            "two classes for a binary task",
            "set task: multiclass (or regression), or another target, in mlops.yaml",
        )
    if config.positive is None:
        return ClassCoding(_order_known_pair(counts, config.target), kind)
    positive = _find_class(config.positive, classes)
    if positive is None:
        if len(classes) == 2:
            raise KitError(
                f"positive: {config.positive!r} is not a class of {config.target!r}",
                f"{suggest_names(str(config.positive), classes)}; {describe_counts(counts)}",
                "edit 'positive' in mlops.yaml",
            )
        # The rows known by then need not contain the positive class.
        return ClassCoding((*classes, config.positive), kind)
    others = [value for value in classes if value is not positive]
    return ClassCoding((*(others or [None]), positive), kind)


def resolve_column_coding(
    values: pd.Series, config: ProjectConfig, classes: Sequence[Any] = ()
) -> ClassCoding:
    """Decide the code of each class in a column of the target.

    Parameters
    ----------
    classes : sequence
        The classes in the order of their codes, if they are decided already.

    Raises
    ------
    KitError
        See ``resolve_coding``.
    """
    if classes:
        return ClassCoding(tuple(classes), infer_kind(values))
    return resolve_coding(count_classes(values), config, infer_kind(values))


def refuse_spelling_variants(counts: Mapping[Any, int], target: str) -> None:
    """Refuse classes that differ only in case, spaces or number format.

    Raises
    ------
    KitError
        With the variants of each class and their rows.
    """
    spellings = defaultdict(list)
    for value in counts:
        spellings[normalize_class(value)].append(value)
    variants = []
    for values in spellings.values():
        if len(values) > 1:
            variants.append(describe_counts({value: counts[value] for value in values}))
    if variants:
        raise KitError(
            f"the target {target!r} has spelling variants of one class: {'; '.join(variants)}",
            "one spelling of each class",
            "write each class in one way in the source",
        )


def _find_class(wanted: Any, classes: Iterable[Any]) -> Any:
    """Return the class that a setting names; None if there is none.

    YAML reads an unquoted yes as true, so true also names a class that is written yes.
    """
    spellings = {normalize_class(wanted)}
    if isinstance(wanted, bool):
        spellings |= _WORDS_BY_BOOLEAN[wanted]
    for value in classes:
        if normalize_class(value) in spellings:
            return value
    return None


def _order_known_pair(counts: Mapping[Any, int], target: str) -> tuple[Any, Any]:
    """Return the negative and the positive class of a known pair.

    A short period may contain only one of the two.

    Raises
    ------
    KitError
        If the classes are another pair.
    """
    class_by_text = {normalize_class(value): value for value in counts}
    for negative, positive in KNOWN_PAIRS:
        if set(class_by_text) <= {negative, positive}:
            return class_by_text.get(negative), class_by_text.get(positive)
    rarest = min(counts, key=lambda value: (counts[value], str(value)))
    raise KitError(
        f"it is not known which class of {target!r} is positive: {describe_counts(counts)}",
        "the class that is to be predicted, such as the rarer one",
        f"add to mlops.yaml: positive: {_format_yaml(rarest)}",
    )


def sort_classes(classes: Iterable[Any]) -> list[Any]:
    """Sort classes in ascending order; as text if their types cannot be compared."""
    listed = list(classes)
    try:
        return sorted(listed)
    except TypeError:
        return sorted(listed, key=str)


def describe_counts(counts: Mapping[Any, int]) -> str:
    """List classes with their rows, the most frequent first; 0 rows means not counted.

    >>> describe_counts({"good": 1220, "bad": 180})
    "'good' (1,220 rows), 'bad' (180 rows)"
    """
    ordered = sorted(counts, key=lambda value: (-counts[value], str(value)))
    texts = []
    for value in ordered[:_MAX_LISTED_CLASSES]:
        count = counts[value]
        unit = "row" if count == 1 else "rows"
        texts.append(f"{value!r} ({count:,} {unit})" if count else repr(value))
    if len(ordered) > _MAX_LISTED_CLASSES:
        texts.append("…")
    return ", ".join(texts)


def _format_yaml(value: Any) -> str:
    """Format a value as it is written in ``mlops.yaml``."""
    return str(yaml.safe_dump(value)).removesuffix("...\n").strip()
