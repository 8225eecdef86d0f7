"""Columns of numbers: which texts are numbers, and whether they can be read without loss.

Rules
-----
- A value with a leading zero (``007``) or a telephone number (``+4917612345``) keeps the whole
  column text: as numbers they would lose characters.
- Signs, exponents and surrounding spaces are read; what is removed is counted.
- A percent sign or a currency that all values have is removed and reported: ``12%`` is read as 12.
- ``1_000``, ``0x1F``, ``(5)``, ``inf`` and numbers beyond a double, such as ``1e400``, are not
  numbers.
- Whole numbers beyond 64 bits stay text; so do those beyond 2**53 if the column has missing
  values, since the column would become one of floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mlops_kit.core.lazy import LazyModule, np
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.reading.number_style import (
    COMMA,
    GROUP_CHARACTERS,
    POINT,
    NumberStyle,
    StyleEvidence,
    build_number_pattern,
    choose_style,
    collect_style_evidence,
)
from mlops_kit.data.reading.parsed_column import ParseAttempt, ParsedColumn, count_values
from mlops_kit.data.reading.texts import ColumnTexts, build_column_texts, to_mask

pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")

_LIKELY_NUMBER = (
    r"^[^0-9]{0,6}[0-9][0-9.,' \x{A0}\x{202F}\x{2019}]*(?:[eE][+-]?[0-9]+)?[^0-9]{0,5}$"
)
_LEADING_ZERO = "^[+-]?0[0-9]"
_PHONE_NUMBER = r"^\+[0-9]{7,}$"
_IP_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9])"
_IP_ADDRESS = rf"^{_IP_OCTET}(?:\.{_IP_OCTET}){{3}}$"
_UNIT_BEFORE = r"^[+-]?(?P<unit>[^0-9\s.,'+-]{1,3}) ?[+-]?[0-9.,]"
_UNIT_AFTER = r"[0-9.,] ?(?P<unit>[^0-9\s.,'+-]{1,3})$"
_CURRENCY_SIGNS = frozenset("$€£¥₹₩₽₺฿₴₪₫")
_CURRENCY_WORDS = frozenset({"US$", "A$", "C$", "R$", "kr", "zł", "Kč", "Ft", "Fr"})
_CURRENCY_CODES = frozenset({"EUR", "USD", "GBP", "CHF", "JPY", "CNY", "INR", "CAD", "AUD", "BRL"})
_UNITS = {"%"} | _CURRENCY_SIGNS | _CURRENCY_WORDS | _CURRENCY_CODES
_CONTRADICTION = "left as text: some values need a decimal point, and others a decimal comma"
_MINUS_SIGN = "\u2212"
_REPLACED_CHARACTERS = {"\u00a0": " ", "\u202f": " ", "\u2019": "'", _MINUS_SIGN: "-"}
_STYLE_SAMPLE_ROWS = 4096
_MAX_EXACT_FLOAT_INTEGER = 2**53
_MAX_SAFE_CHARACTERS = 16  # a decimal number with at most 15 digits survives a double
_MAX_COMPARED_DIGITS = 17  # every double is written exactly enough with so many digits
_MAX_EXACT_COMPARISONS = 20_000


def is_likely_number(texts: Any) -> np.ndarray:
    """Return which texts may be numbers in some style; what is not, is in none."""
    return to_mask(pc.match_substring_regex(texts, _LIKELY_NUMBER))


def collect_column_evidence(values: Any) -> StyleEvidence | None:
    """Collect what a column says about the separators of a file; None if it is not of numbers.

    Parameters
    ----------
    values : pyarrow.ChunkedArray of str
        The texts of the column.
    """
    sample = values.slice(0, _STYLE_SAMPLE_ROWS)
    sample = sample.filter(pc.greater(pc.binary_length(sample), 0))
    if not len(sample) or np.count_nonzero(is_likely_number(sample)) * 2 < len(sample):
        return None
    if not _contains(values, COMMA):
        evidence = collect_style_evidence(_normalize_characters(sample))
        is_plain = not any(_contains(values, character) for character in (POINT, *GROUP_CHARACTERS))
        is_ascii = bool(pc.all(pc.string_is_ascii(values)).as_py())
        if evidence.point_count or (is_plain and is_ascii):
            return evidence
    column = build_column_texts(values)
    texts = _normalize_characters(column.texts)
    bare, _, _ = _remove_unit(column, texts, column.row_count)
    evidence = collect_style_evidence(bare)
    style = choose_style(evidence, None, None)
    pattern = build_number_pattern(style)
    number_count = int(pc.sum(pc.match_substring_regex(bare, pattern)).as_py() or 0)
    is_mostly_numbers = 2 * number_count > len(bare.drop_null())
    return evidence if is_mostly_numbers or style.decimal is None else None


def read_numbers(
    column: ColumnTexts,
    is_present: np.ndarray,
    style: NumberStyle,
    max_unreadable: int,
) -> ParseAttempt:
    """Read a column as numbers.

    Parameters
    ----------
    column : ColumnTexts
        The column.
    is_present : ndarray of bool
        Which texts are values, not missing words.
    style : NumberStyle
        The separators, as far as they are known.
    max_unreadable : int
        So many rows may have another type.
    """
    present = column.keep_only(is_present)
    integers = _cast(present, pa.int64())
    if integers is not None and _is_written_as(integers, present):
        # Digits only, so that the separators do not matter.
        numbers = integers.cast(pa.float64(), safe=False)
        return _convert_exactly(_WrittenNumbers(column, present, numbers, integers))
    if style.decimal in {None, POINT}:
        numbers = _cast(present, pa.float64())
        has_plus = pc.any(pc.starts_with(present, "+")).as_py()
        if numbers is not None and not has_plus:
            plain = _WrittenNumbers(column, present, numbers, integers)
            return _read_plain_numbers(plain, style, max_unreadable)
    return _read_styled_numbers(column, present, style, max_unreadable)


def _is_written_as(integers: Any, texts: Any) -> bool:
    """Return whether every whole number is written in the shortest way."""
    return bool(pc.all(pc.equal(integers.cast(pa.string()), texts)).as_py())


def _cast(texts: Any, arrow_type: Any) -> Any:
    """Convert texts to an Arrow type; None if one of them is not of it."""
    try:
        return pc.cast(texts, arrow_type)
    except pa.ArrowInvalid:
        return None


def _read_plain_numbers(
    written: _WrittenNumbers, style: NumberStyle, max_unreadable: int
) -> ParseAttempt:
    """Read a column in which every value is a plain number such as ``-1.5e3``."""
    column = written.column
    reasons = _find_reasons_for_text(column, written.plain)
    if reasons:
        return ParseAttempt(notes=reasons)
    if written.integers is not None:
        return _convert_exactly(written)
    chosen = _choose_point_style(written.plain, style)
    if chosen.decimal is None:
        return ParseAttempt(notes=list(chosen.notes))
    if chosen.decimal == COMMA:
        return _read_styled_numbers(column, written.plain, chosen, max_unreadable)
    return _convert_exactly(written, notes=chosen.notes)


def _choose_point_style(present: Any, style: NumberStyle) -> NumberStyle:
    """Choose the style of numbers without commas, from a sample if that says enough."""
    if style.decimal is not None:
        return style
    evidence = collect_style_evidence(present.slice(0, _STYLE_SAMPLE_ROWS))
    if evidence.decimal is None:
        evidence = collect_style_evidence(present)
    return choose_style(evidence, style.decimal, style.thousands)


def _read_styled_numbers(
    column: ColumnTexts,
    present: Any,
    style: NumberStyle,
    max_unreadable: int,
) -> ParseAttempt:
    """Read a column of numbers with separators, units, signs or surrounding spaces."""
    trimmed = _normalize_characters(present)
    bare, unit, unit_notes = _remove_unit(column, trimmed, max_unreadable)
    evidence = StyleEvidence()
    if style.decimal is None or style.thousands is None:
        evidence = collect_style_evidence(bare)
    chosen = choose_style(evidence, style.decimal, style.thousands)
    if chosen.decimal is None:
        return ParseAttempt(notes=[*unit_notes, *chosen.notes])
    is_number = to_mask(pc.match_substring_regex(bare, build_number_pattern(chosen)))
    is_mostly_numbers = 2 * column.count_rows(is_number) > column.count_rows(
        to_mask(bare.is_valid())
    )
    if not is_mostly_numbers:
        if evidence.point_count and evidence.comma_count:
            unit_notes.append(_CONTRADICTION)
        return ParseAttempt(notes=unit_notes)
    numeric_texts = pc.if_else(pa.array(is_number), bare, pa.scalar(None, bare.type))
    reasons = _find_reasons_for_text(column, numeric_texts)
    if reasons:
        return ParseAttempt(notes=reasons)
    has_plus = to_mask(pc.starts_with(numeric_texts, "+"))
    plain = _write_plainly(numeric_texts, chosen, bool(has_plus.any()))
    conversions = _describe_conversions(column, present, trimmed, is_number)
    conversions += _describe_removed_parts(column, is_number, has_plus, unit)
    written = _WrittenNumbers(
        column,
        plain,
        pc.cast(plain, pa.float64()),
        _cast(plain, pa.int64()),
    )
    return _convert_exactly(
        written,
        _describe_format(chosen, numeric_texts, unit),
        conversions,
        [*unit_notes, *chosen.notes],
    )


def _contains(texts: Any, character: str) -> bool:
    """Return whether one of the texts contains a character."""
    return bool(pc.any(pc.match_substring(texts, character)).as_py())


def _normalize_characters(texts: Any) -> Any:
    """Remove surrounding spaces, and write signs and group characters in one way."""
    trimmed = pc.utf8_trim_whitespace(texts)
    if pc.all(pc.string_is_ascii(trimmed)).as_py() is not False:
        return trimmed
    for character, replacement in _REPLACED_CHARACTERS.items():
        trimmed = pc.replace_substring(trimmed, character, replacement)
    return trimmed


def _remove_unit(
    column: ColumnTexts, texts: Any, max_unreadable: int
) -> tuple[Any, str, list[str]]:
    """Remove a percent sign or currency if all values have the same one.

    Returns
    -------
    texts : pyarrow.ChunkedArray
        The numbers, without the unit if it was removed.
    unit : str
        The removed unit; empty if none was.
    notes : list of str
        Why a unit was not removed.
    """
    for pattern in (_UNIT_BEFORE, _UNIT_AFTER):
        sample = texts.drop_null().slice(0, _STYLE_SAMPLE_ROWS)
        units = pc.struct_field(pc.extract_regex(sample, pattern), "unit").drop_null()
        if not len(units):
            continue
        unit = str(units[0].as_py())
        if unit not in _UNITS:
            return texts, "", []
        has_unit = to_mask(pc.match_substring(texts, unit))
        without_unit = column.count_rows(~has_unit & to_mask(texts.is_valid()))
        if without_unit > max_unreadable:
            has_count = count_values(column.count_rows(has_unit), "has", "have")
            note = f"left as text: {has_count} the unit '{unit}', and {without_unit} do not"
            return texts, "", [note]
        # A value without the unit is another quantity: 0.5 beside 50%.
        only_with_unit = pc.if_else(pa.array(has_unit), texts, pa.scalar(None, pa.string()))
        bare = pc.replace_substring(only_with_unit, unit, "", max_replacements=1)
        return pc.utf8_trim_whitespace(_move_sign(bare)), unit, []
    return texts, "", []


def _move_sign(texts: Any) -> Any:
    """Remove the space that a removed unit leaves behind a sign."""
    return pc.replace_substring_regex(texts, r"^([+-]) ", r"\1")


def _write_plainly(texts: Any, style: NumberStyle, has_plus: bool) -> Any:
    """Write numbers with a decimal point, and without groups and plus signs."""
    if style.thousands:
        texts = pc.replace_substring(texts, style.thousands, "")
    if style.decimal == COMMA:
        texts = pc.replace_substring(texts, COMMA, POINT)
    if has_plus:
        texts = pc.replace_substring_regex(texts, r"^\+", "")
    return texts


def _find_reasons_for_text(column: ColumnTexts, texts: Any) -> list[str]:
    """Return why a column of numbers has to stay text; empty if nothing speaks against numbers."""
    for pattern, description in (
        (_LEADING_ZERO, "leading zeros"),
        (_PHONE_NUMBER, "a plus sign like telephone numbers"),
    ):
        mask = to_mask(pc.match_substring_regex(texts, pattern))
        if mask.any():
            example = column.list_examples(mask, 1)[0]
            count = count_values(column.count_rows(mask), "has", "have")
            return [f"left as text: {count} {description}, such as {example!r}"]
    are_addresses = pc.all(pc.match_substring_regex(texts, _IP_ADDRESS)).as_py()
    if are_addresses and texts.null_count < len(texts):
        return ["left as text: the values look like IP addresses"]
    return []


def _describe_conversions(
    column: ColumnTexts,
    present: Any,
    trimmed: Any,
    is_number: np.ndarray,
) -> list[str]:
    """Describe the spaces and signs that were written in another way."""
    conversions = []
    lengths_before = pc.utf8_length(present).fill_null(0).to_numpy()
    lengths_after = pc.utf8_length(trimmed).fill_null(0).to_numpy()
    spaces = column.count_rows((lengths_before != lengths_after) & is_number)
    if spaces:
        spaces_text = count_values(spaces, "had spaces around it", "had spaces around them")
        conversions.append(f"{spaces_text}, which were removed")
    minus_signs = column.count_rows(to_mask(pc.match_substring(present, _MINUS_SIGN)) & is_number)
    if minus_signs:
        minus_text = count_values(minus_signs, "has", "have")
        conversions.append(f"{minus_text} the character '{_MINUS_SIGN}', which was read as '-'")
    return conversions


def _describe_removed_parts(
    column: ColumnTexts, is_number: np.ndarray, has_plus: np.ndarray, unit: str
) -> list[str]:
    """Describe the plus signs and the unit that were removed."""
    conversions = []
    signs = column.count_rows(has_plus)
    if signs:
        conversions.append(f"{count_values(signs, 'has', 'have')} a plus sign, which was removed")
    if unit:
        counted = count_values(column.count_rows(is_number), "has", "have")
        conversions.append(f"{counted} the unit '{unit}', which was removed")
    return conversions


def _describe_format(style: NumberStyle, texts: Any, unit: str) -> str:
    """Describe how numbers are written; empty for a decimal point without groups."""
    names = {" ": "spaces", "'": "apostrophes", POINT: "points", COMMA: "commas"}
    parts = []
    if style.decimal == COMMA and _contains(texts, COMMA):
        parts.append("decimal comma")
    if style.thousands and _contains(texts, style.thousands):
        parts.append(f"{names.get(style.thousands, style.thousands)} between thousands")
    if unit:
        parts.append(f"with {unit}")
    return ", ".join(parts)


@dataclass(frozen=True)
class _WrittenNumbers:
    """The numbers of a column, with a decimal point and nothing else; null where there is none."""

    column: ColumnTexts
    plain: Any
    numbers: Any
    integers: Any


def _convert_exactly(
    written: _WrittenNumbers,
    number_format: str = "",
    conversions: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> ParseAttempt:
    """Choose between whole numbers and floats, and look for what a float would lose."""
    column = written.column
    plain = written.plain
    all_conversions = list(conversions)
    all_notes = list(notes)
    is_number = to_mask(written.numbers.is_valid())
    if written.integers is not None:
        negative_zeros = column.count_rows(to_mask(pc.equal(plain, "-0")))
        if negative_zeros:
            counted = count_values(negative_zeros, "is", "are")
            all_conversions.append(f"{counted} '-0' and read as 0")
        return ParseAttempt(
            ParsedColumn(
                ColumnKind.INTEGER,
                written.integers.fill_null(0).to_numpy(),
                is_number,
                number_format,
                all_conversions,
                all_notes,
            )
        )
    is_whole = pc.match_substring_regex(plain, "^[+-]?[0-9]+$")
    if pc.all(is_whole).as_py():
        examples = column.list_examples(to_mask(pc.greater(pc.binary_length(plain), 18)), 1)
        listed = f", such as {examples[0]}" if examples else ""
        return ParseAttempt(notes=[f"left as text: whole numbers beyond 64 bits{listed}"])
    values = written.numbers.fill_null(np.nan).to_numpy()
    is_read = is_number & np.isfinite(values)
    inexact = _count_inexact(written, is_read)
    if inexact:
        counted = count_values(inexact, "has", "have")
        all_notes.append(f"{counted} more digits than a floating-point number holds")
    return ParseAttempt(
        ParsedColumn(
            ColumnKind.NUMBER,
            values,
            is_read,
            number_format,
            all_conversions,
            all_notes,
        )
    )


def _count_inexact(written: _WrittenNumbers, is_read: np.ndarray) -> int:
    """Count the rows whose number differs from the floating-point number read for it."""
    column = written.column
    plain = written.plain
    numbers = written.numbers
    is_long = to_mask(pc.greater(pc.binary_length(plain), _MAX_SAFE_CHARACTERS)) & is_read
    if not is_long.any():
        return 0
    positions = np.flatnonzero(is_long)
    long_texts = plain.filter(pa.array(is_long))
    read = pc.cast(numbers.filter(pa.array(is_long)), pa.string())
    differs = ~to_mask(pc.equal(long_texts, read))
    suspects = positions[differs]
    digits = pc.replace_substring_regex(long_texts.filter(pa.array(differs)), "[eE].*$|[^0-9]", "")
    digit_counts = pc.utf8_length(pc.utf8_ltrim(digits, "0")).to_numpy()
    is_inexact = np.zeros(len(is_read), dtype=bool)
    if len(suspects) > _MAX_EXACT_COMPARISONS:
        is_inexact[suspects[digit_counts > _MAX_COMPARED_DIGITS]] = True
        return column.count_rows(is_inexact)
    values = numbers.take(pa.array(suspects)).to_pylist()
    texts = plain.take(pa.array(suspects)).to_pylist()
    for position, text, value in zip(suspects, texts, values, strict=True):
        is_inexact[position] = Decimal(text) != Decimal(repr(value))
    return column.count_rows(is_inexact)


def has_large_integers(values: np.ndarray) -> bool:
    """Return whether whole numbers would change as floating-point numbers."""
    if not len(values):
        return False
    limit = _MAX_EXACT_FLOAT_INTEGER
    return bool(values.max() > limit or values.min() < -limit)
