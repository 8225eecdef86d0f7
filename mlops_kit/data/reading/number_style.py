"""Decimal and thousands separators: what the numbers of a column or a file say about them.

``1,5`` and ``1.234,5`` can only be read with a decimal comma, ``1.5`` and ``1,234,567`` only with
a decimal point. ``1,234`` alone says nothing. A file has one style, so evidence from one column
decides about the ambiguous numbers of another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlops_kit.core.lazy import LazyModule

pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")

POINT = "."
COMMA = ","
GROUP_CHARACTERS = (" ", "'")  # they separate thousands, never decimals
_SIGN = "^[+-]?"
_AMBIGUOUS = _SIGN + r"[1-9][0-9]{{0,2}}{0}[0-9]{{3}}$"
_SINGLE = _SIGN + r"[0-9]*{0}[0-9]*(?:[eE][+-]?[0-9]+)?$"
_GROUPED = _SIGN + r"[1-9][0-9]{{0,2}}(?:{0}[0-9]{{2,3}})*{0}[0-9]{{3}}$"
_GROUPED_WITH_DECIMALS = _SIGN + r"[1-9][0-9]{{0,2}}(?:{0}[0-9]{{2,3}})*{0}[0-9]{{3}}{1}[0-9]*$"
_GROUPED_BY_CHARACTER = _SIGN + r"[1-9][0-9]{{0,2}}(?:{0}[0-9]{{3}})+(?:[.,][0-9]*)?$"
_WHOLE = _SIGN + "[0-9]+$"


@dataclass(frozen=True)
class NumberStyle:
    """The decimal and thousands separators of a file.

    Parameters
    ----------
    decimal : str, optional
        ``.`` or ``,``; None if the numbers do not say, or columns contradict one another.
    thousands : str, optional
        The character between groups of three digits; None if there is none.
    notes : tuple of str
        What is uncertain.
    """

    decimal: str | None = None
    thousands: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StyleEvidence:
    """How many numbers of a column can be read in one style only.

    Parameters
    ----------
    point_count, comma_count : int
        Numbers that need a decimal point, or a decimal comma.
    ambiguous_points, ambiguous_commas : int
        Numbers such as ``1.234``, or ``1,234``.
    point_groups, comma_groups : int
        Numbers in which this character certainly separates thousands.
    whole_count : int
        Numbers of digits only.
    group_character : str
        A space or an apostrophe between thousands; empty if there is none.
    """

    point_count: int = 0
    comma_count: int = 0
    ambiguous_points: int = 0
    ambiguous_commas: int = 0
    point_groups: int = 0
    comma_groups: int = 0
    whole_count: int = 0
    group_character: str = ""

    @property
    def decimal(self) -> str | None:
        """The separator that the majority of the evidence needs; None without evidence."""
        if self.point_count == self.comma_count:
            return None
        return POINT if self.point_count > self.comma_count else COMMA

    @property
    def has_groups_of_three_only(self) -> bool:
        """Whether points may well separate thousands: ``1.234`` beside ``999``, never ``1.5``."""
        return self.whole_count > 0 and self.ambiguous_points > 0


def collect_style_evidence(texts: Any) -> StyleEvidence:
    """Count what the numbers of a column say about the separators.

    Parameters
    ----------
    texts : pyarrow.ChunkedArray of str
        Numbers without surrounding spaces and units; other texts and null are ignored.

    Examples
    --------
    >>> import pyarrow as pa
    >>> collect_style_evidence(pa.chunked_array([["1,5", "1,234"]])).decimal
    ','
    """
    point_count = 0
    comma_count = 0
    ambiguous_points = 0
    ambiguous_commas = 0
    point_groups = 0
    comma_groups = 0
    group_character = _find_group_character(texts)
    if group_character:
        texts = pc.replace_substring(texts, group_character, "")
    with_points = _select(texts, pc.match_substring(texts, POINT))
    with_commas = _select(texts, pc.match_substring(texts, COMMA))
    if len(with_points):
        ambiguous_points = _count(with_points, _AMBIGUOUS.format(r"\."))
        point_count += _count(with_points, _SINGLE.format(r"\.")) - ambiguous_points
        point_groups += _count(with_points, _GROUPED.format(r"\.")) - ambiguous_points
        point_groups += _count(with_points, _GROUPED_WITH_DECIMALS.format(r"\.", ","))
    if len(with_commas):
        ambiguous_commas = _count(with_commas, _AMBIGUOUS.format(","))
        comma_count += _count(with_commas, _SINGLE.format(",")) - ambiguous_commas
        comma_groups += _count(with_commas, _GROUPED.format(",")) - ambiguous_commas
        comma_groups += _count(with_commas, _GROUPED_WITH_DECIMALS.format(",", r"\."))
    return StyleEvidence(
        point_count=point_count + comma_groups,
        comma_count=comma_count + point_groups,
        ambiguous_points=ambiguous_points,
        ambiguous_commas=ambiguous_commas,
        point_groups=point_groups,
        comma_groups=comma_groups,
        whole_count=_count(texts, _WHOLE),
        group_character=group_character,
    )


def _select(texts: Any, mask: Any) -> Any:
    """Return the texts that a mask selects, null left out."""
    return texts.filter(mask)


def _count(texts: Any, pattern: str) -> int:
    """Return how many texts match a pattern."""
    return int(pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0)


def _find_group_character(texts: Any) -> str:
    """Return the space or apostrophe that most numbers have between thousands."""
    best_character = ""
    best_count = 0
    for character in GROUP_CHARACTERS:
        candidates = _select(texts, pc.match_substring(texts, character))
        count = (
            _count(candidates, _GROUPED_BY_CHARACTER.format(character)) if len(candidates) else 0
        )
        if count > best_count:
            best_count = count
            best_character = character
    return best_character


def choose_style(
    evidence: StyleEvidence,
    decimal: str | None,
    thousands: str | None,
) -> NumberStyle:
    """Choose the separators of a column.

    Parameters
    ----------
    evidence : StyleEvidence
        What its numbers say.
    decimal, thousands : str, optional
        What is set, or what the file as a whole says; it takes precedence.

    Returns
    -------
    NumberStyle
        Without a decimal separator, and with a note, if the column has two readings.
    """
    has_separators = evidence.ambiguous_commas + evidence.ambiguous_points > 0
    chosen = decimal or evidence.decimal
    if chosen is None and not has_separators:
        chosen = POINT
    if chosen is None and thousands in {POINT, COMMA}:
        chosen = COMMA if thousands == POINT else POINT
    if chosen is None and thousands == "" and not evidence.ambiguous_points:
        chosen = COMMA
    notes: list[str] = []
    if chosen is None:
        if evidence.ambiguous_commas or evidence.has_groups_of_three_only:
            character = COMMA if evidence.ambiguous_commas else POINT
            return NumberStyle(notes=(_describe_ambiguity(character),))
        chosen = POINT
        notes.append(
            "'1.234' is read with a decimal point; if the point separates thousands, "
            "set source.decimal to ','"
        )
    if thousands is None:
        other = POINT if chosen == COMMA else COMMA
        thousands = evidence.group_character or other
    return NumberStyle(chosen, thousands, tuple(notes))


def _describe_ambiguity(character: str) -> str:
    """Describe that a separator has two readings."""
    name = "comma" if character == COMMA else "point"
    other = POINT if character == COMMA else COMMA
    return (
        f"left as text: '1{character}234' is 1.234 if the {name} is a decimal {name}, and 1234 if "
        f"it separates thousands; set source.decimal to '{character}' or '{other}'"
    )


def combine_styles(evidence_by_column: Iterable[StyleEvidence]) -> NumberStyle:
    """Combine the evidence of all columns of a file into its style.

    Columns that contradict one another leave the decimal separator open: each is then read by its
    own evidence.
    """
    decimals: set[str] = set()
    group_characters: set[str] = set()
    has_points = False
    has_commas = False
    for evidence in evidence_by_column:
        if evidence.decimal is not None:
            decimals.add(evidence.decimal)
        if evidence.group_character:
            group_characters.add(evidence.group_character)
        has_points = has_points or evidence.ambiguous_points + evidence.point_groups > 0
        has_commas = has_commas or evidence.ambiguous_commas + evidence.comma_groups > 0
    if len(decimals) > 1:
        note = (
            "some columns have a decimal point and others a decimal comma; each is read by itself"
        )
        return NumberStyle(notes=(note,))
    if not decimals:
        return NumberStyle()
    decimal = decimals.pop()
    thousands = None
    if len(group_characters) == 1:
        thousands = group_characters.pop()
    elif decimal == COMMA and has_points:
        thousands = POINT
    elif decimal == POINT and has_commas:
        thousands = COMMA
    return NumberStyle(decimal, thousands)


def build_number_pattern(style: NumberStyle) -> str:
    """Build the regular expression of a number in a style.

    >>> import re
    >>> pattern = build_number_pattern(NumberStyle(",", "."))
    >>> [bool(re.match(pattern, text)) for text in ("1.234,5", "12", "1.5", "1,5e3")]
    [True, True, False, True]
    """
    decimal = _escape(style.decimal or POINT)
    digits = "[0-9]+"
    if style.thousands:
        character = _escape(style.thousands)
        # 12,34,567 is how India writes 1,234,567.
        middle = "{2,3}" if style.thousands == COMMA else "{3}"
        grouped = f"[0-9]{{1,3}}(?:{character}[0-9]{middle})*{character}[0-9]{{3}}"
        digits = f"(?:{digits}|{grouped})"
    mantissa = f"(?:{digits}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)"
    return f"^[+-]?{mantissa}(?:[eE][+-]?[0-9]+)?$"


def _escape(character: str) -> str:
    """Escape a separator for a regular expression."""
    return r"\." if character == POINT else character
