"""How dates and times are written: formats, and where their fields are in a text.

A text is matched by its shape: every digit as ``9``, every letter as ``a`` (other letters than
those of ASCII by each byte of their UTF-8), all else unchanged.
Texts of one shape have their fields in the same places, so a shape is matched once, and its texts
are parsed together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from mlops_kit.core.errors import KitError

DAY_FIRST = "day-first"
MONTH_FIRST = "month-first"
DATE_ORDERS = (DAY_FIRST, MONTH_FIRST)
ISO_DATE = "%Y-%m-%d"

_SEPARATORS = ("-", "/", ".", " ")
_NUMERIC_FORMATS = (
    "%Y{0}%m{0}%d",
    "%d{0}%m{0}%Y",
    "%m{0}%d{0}%Y",
    "%d{0}%m{0}%y",
    "%m{0}%d{0}%y",
    "%y{0}%m{0}%d",
)
_NAMED_FORMATS = (
    *(f"%d{separator}%b{separator}%Y" for separator in ("-", "/", ".", " ", "")),
    *(f"%d{separator}%b{separator}%y" for separator in ("-", "/", " ", "")),
    *(f"%Y{separator}%b{separator}%d" for separator in ("-", "/", " ")),
    "%d. %m. %Y",
    "%d. %b %Y",
    "%d %b, %Y",
    "%b %d, %Y",
    "%b %d %Y",
    "%b-%d-%Y",
    "%b/%d/%Y",
    "%a, %d %b %Y",
    "%a %d %b %Y",
    "%a, %b %d, %Y",
    "%a %b %d %Y",
    "%a, %d/%m/%Y",
    "%a, %m/%d/%Y",
    "%a, %d.%m.%Y",
    "%a, %Y-%m-%d",
    "%a, %d. %b %Y",
    "%a %d. %b %Y",
    "%d de %b de %Y",
    "%d de %b %Y",
    "%a, %d de %b de %Y",
    "%Y. %b %d.",
    "%Y年%m月%d日",
)
_LITERAL = re.compile(r"(?<!%)[^\W\d_]")  # a letter that belongs to no directive
_ABBREVIATION_LENGTH = 3  # of a month or weekday
_COMPACT_DATE = "%Y%m%d"  # only with a time; alone it is a whole number
_DATES_AROUND_A_TIME = ("%a %b %d {} %Y",)

_FIELDS = {
    "%Y": "(?P<Y>9{4})",
    "%y": "(?P<y>99)",
    "%m": "(?P<m>9{1,2})",
    "%d": "(?P<d>9{1,2})",
    "%b": r"(?P<b>a{3,22})\.?",
    "%a": r"(?P<a>a{3,22})\.?",
    "%H": "(?P<H>9{1,2})",
    "%I": "(?P<H>9{1,2})",
    "%M": "(?P<M>9{1,2})",
    "%S": "(?P<S>9{1,2})",
    "%f": "(?P<f>9{1,9})",
    "%p": r"(?P<p>aa|a\.a\.)",
    "%z": "(?P<z>a|aaa|[+-]99(?::?99)?)",
}
_SYNONYMS = {
    "%B": "%b",
    "%A": "%a",
    "%h": "%b",
    "%e": "%d",
    "%T": "%H:%M:%S",
    "%F": "%Y-%m-%d",
    "%D": "%m/%d/%y",
    "%R": "%H:%M",
}
_ZONE = "(?: ?(?P<z>a|aaa|[+-]99(?::?99)?))?"
_TIMES = (
    r"(?P<H>9{1,2})(?P<c>[:.])(?P<M>99)(?:(?P=c)(?P<S>99)(?:[.,](?P<f>9{1,9}))?)?"
    r"(?: ?(?P<p>aa(?!a)|a\.a\.))?" + _ZONE,
    "(?P<H>99)(?P<M>99)(?P<S>99)?(?:[.,](?P<f>9{1,9}))?" + _ZONE,
    r"(?P<H>9{1,2}) ?(?P<p>aa(?!a)|a\.a\.)" + _ZONE,
)
_ISO_HOUR = "(?P<H>99)" + _ZONE
_BEFORE_TIME = "(?P<t>a| {1,3}|, ?|-| - |:)"
_AFTER_TIME = "(?: {1,3}|, ?)"


@dataclass(frozen=True)
class DateFormat:
    """What all values of a column have in common: the order of the fields, the clock, the zone.

    Seconds and their fraction may be absent, as in what ``datetime.isoformat`` writes, and so may
    the whole time, which is then midnight.

    Parameters
    ----------
    date : str
        The date in the notation of ``strptime``; the whole format if it was set.
    clock : str
        ``24``, ``12``, or empty for a date without time.
    has_offset : bool
        Whether values state their offset from UTC.
    """

    date: str
    clock: str
    has_offset: bool


@dataclass(frozen=True)
class DateLayout:
    """A format, and where a shape has its fields.

    Parameters
    ----------
    format : DateFormat
        The format.
    spans : dict of str to (int, int)
        Start and end of each field, by the letter of its directive; ``t`` is the letter before
        the time.
    literals : dict of int to int
        Letters and digits that a format demands, as bytes by position; in lower case.
    notation : str
        The format in the notation of ``strptime``.
    """

    format: DateFormat
    spans: dict[str, tuple[int, int]]
    literals: dict[int, int]
    notation: str


@dataclass(frozen=True)
class _Pattern:
    """A regular expression over shapes; compiled when a shape may match, since there are many."""

    date: str
    expression: str
    time_position: str

    def match(self, shape: str) -> re.Match[str] | None:
        """Match a shape."""
        separator = self.date[len("%Y")]
        has_name = "%b" in self.date
        may_match = "aaa" in shape
        if not has_name:
            may_match = separator not in _SEPARATORS or shape.count(separator) > 1
        if not may_match:
            return None
        return _compile_expression(self.expression).fullmatch(shape)


@cache
def _compile_expression(expression: str) -> re.Pattern[str]:
    """Compile a regular expression over shapes."""
    return re.compile(expression)


def find_layouts(shape: str, date_format: str | None) -> tuple[DateLayout, ...]:
    """Find the layouts of a shape.

    Parameters
    ----------
    shape : str
        A text with ``9`` for every digit and ``a`` for every letter.
    date_format : str, optional
        A format in the notation of ``strptime``, ``day-first`` or ``month-first``.

    Raises
    ------
    KitError
        If the format has a directive that is not supported.

    Examples
    --------
    >>> [layout.notation for layout in find_layouts("99/99/9999 9:99", None)]
    ['%d/%m/%Y %H:%M', '%m/%d/%Y %H:%M']
    """
    if date_format is None or date_format in DATE_ORDERS:
        return _find_known_layouts(shape, date_format)
    return _find_set_layouts(shape, date_format)


@cache
def _find_known_layouts(shape: str, order: str | None) -> tuple[DateLayout, ...]:
    """Find the layouts of a shape among the known formats, at most one per format."""
    layouts: dict[DateFormat, DateLayout] = {}
    for pattern in _list_patterns():
        if not _has_order(pattern.date, order):
            continue
        match = pattern.match(shape)
        if match is None:
            continue
        layout = _build_layout(pattern, match, shape)
        layouts.setdefault(layout.format, layout)
    return tuple(layouts.values())


def _has_order(date: str, order: str | None) -> bool:
    """Return whether a format is possible if days or months come first."""
    if order is None or "%b" in date or "%Y" in date[:2]:
        return True
    is_year_first = date.startswith("%y")
    is_day_first = date.index("%d") < date.index("%m")
    return not is_year_first and is_day_first == (order == DAY_FIRST)


@cache
def _list_patterns() -> tuple[_Pattern, ...]:
    """Return the patterns of all known formats."""
    patterns: list[_Pattern] = []
    for date in list_date_formats():
        expression = _compile_fields(date)
        patterns.append(_Pattern(date, expression, ""))
        for time in _TIMES:
            patterns.append(_Pattern(date, expression + _BEFORE_TIME + time, "after"))
            patterns.append(_Pattern(date, time + _AFTER_TIME + expression, "before"))
    hour_only = _compile_fields(ISO_DATE) + _BEFORE_TIME + _ISO_HOUR
    patterns.append(_Pattern(ISO_DATE, hour_only, "after"))
    compact = _compile_fields(_COMPACT_DATE)
    for time in _TIMES:
        expression = compact + _BEFORE_TIME + time
        patterns.append(_Pattern(_COMPACT_DATE, expression, "after"))
    for date in _DATES_AROUND_A_TIME:
        start, end = date.split("{}")
        expression = _compile_fields(start) + _TIMES[0] + _compile_fields(end)
        patterns.append(_Pattern(date.replace("{} ", ""), expression, "inside"))
    return tuple(patterns)


@cache
def list_date_formats() -> tuple[str, ...]:
    """Return the known formats of dates; each may have a time before or after it."""
    numeric = [
        date_format.format(separator)
        for date_format in _NUMERIC_FORMATS
        for separator in _SEPARATORS
    ]
    return (*numeric, *_NAMED_FORMATS)


def _compile_fields(date_format: str) -> str:
    """Compile a format to a regular expression over shapes."""
    expression = ""
    pieces = list(_split_format(date_format))
    for position, piece in enumerate(pieces):
        if piece not in _FIELDS:
            expression += _shape_of_literal(piece)
            continue
        neighbours = pieces[max(position - 1, 0) : position] + pieces[position + 1 : position + 2]
        is_adjacent = any(piece_beside in _FIELDS for piece_beside in neighbours)
        has_fixed_width = is_adjacent and "%b" not in [piece, *neighbours]
        field = _FIELDS[piece]
        expression += field.replace("9{1,2}", "99") if has_fixed_width else field
    return expression


def _split_format(date_format: str) -> Iterator[str]:
    """Yield the directives and the text between them."""
    for synonym, directives in _SYNONYMS.items():
        date_format = date_format.replace(synonym, directives)
    # Whoever writes Z after a time means UTC.
    date_format = re.sub("(%[SfM])Z$", "\\1%z", date_format)
    for piece in re.split("(%.)", date_format):
        if not piece:
            continue
        if piece == "%%":
            yield "%"
            continue
        if piece.startswith("%") and piece not in _FIELDS:
            raise KitError(
                f"the date format {date_format!r} has the directive {piece!r}",
                f"directives among {', '.join(sorted({*_FIELDS, '%B', '%A'}))}",
                "edit source.dates in mlops.yaml",
            )
        yield piece


def _shape_of_literal(text: str) -> str:
    """Return the regular expression of the shape of text between directives."""
    shape = ""
    for character in text:
        if character == " ":
            shape += " {1,3}"
        elif character.isalpha() or not character.isascii():
            shape += "a" * len(character.encode())
        elif character.isdigit():
            shape += "9"
        else:
            shape += re.escape(character)
    return shape


def _build_layout(pattern: _Pattern, match: re.Match[str], shape: str) -> DateLayout:
    """Build the layout of a shape that matches a known format."""
    fields = {name: match.span(name) for name in match.re.groupindex if match.span(name)[0] >= 0}
    fields.pop("c", None)
    clock = ""
    if "H" in fields:
        clock = "12" if "p" in fields else "24"
    date_format = DateFormat(pattern.date, clock, "z" in fields)
    notation = _write_notation(pattern, fields, shape)
    literals = {}
    if _LITERAL.search(pattern.date):
        literals = _find_literals(pattern.date, shape, fields)
    separator = fields.get("t")
    is_letter = separator is not None and shape[separator[0]] == "a"
    if not is_letter:
        fields.pop("t", None)
    return DateLayout(date_format, fields, literals, notation)


def _write_notation(pattern: _Pattern, fields: dict[str, tuple[int, int]], shape: str) -> str:
    """Write a layout in the notation of ``strptime``."""
    date = _write_date(pattern.date, fields)
    time = _write_time(fields, shape)
    if not time:
        return date
    if pattern.time_position == "before":
        return f"{time} {date}"
    if pattern.time_position == "inside":
        start, _, end = date.rpartition(" ")
        return f"{start} {time} {end}"
    time_start, time_end = fields["t"]
    separator = "T" if shape[time_start] == "a" else shape[time_start:time_end]
    return f"{date}{separator}{time}"


def _write_date(date_format: str, fields: dict[str, tuple[int, int]]) -> str:
    """Write the date of a layout in the notation of ``strptime``: %B for a name in full."""
    for name in ("a", "b"):
        start, end = fields.get(name, (0, 0))
        if end - start > _ABBREVIATION_LENGTH:
            date_format = date_format.replace(f"%{name}", f"%{name.upper()}")
    return date_format


def _write_time(fields: dict[str, tuple[int, int]], shape: str) -> str:
    """Write the time of a layout in the notation of ``strptime``."""
    directives = [
        ("H", "%I" if "p" in fields else "%H"),
        ("M", "%M"),
        ("S", "%S"),
        ("f", "%f"),
        ("p", "%p"),
        ("z", "%z"),
    ]
    notation = ""
    previous_end = -1
    for name, directive in directives:
        if name not in fields:
            continue
        start, end = fields[name]
        if previous_end >= 0:
            notation += shape[previous_end:start]
        notation += directive
        previous_end = end
    return notation


@cache
def _find_set_layouts(shape: str, date_format: str) -> tuple[DateLayout, ...]:
    """Find the layout of a shape in a format that was set."""
    match = re.fullmatch(_compile_fields(date_format), shape)
    if match is None:
        return ()
    fields = {name: match.span(name) for name in match.re.groupindex}
    literals = _find_literals(date_format, shape, fields)
    clock = "24" if "H" in fields else ""
    if "p" in fields:
        clock = "12"
    common = DateFormat(date_format, clock, "z" in fields)
    return (DateLayout(common, fields, literals, date_format),)


def _find_literals(
    date_format: str, shape: str, fields: dict[str, tuple[int, int]]
) -> dict[int, int]:
    """Return the letters and digits that stand between the fields of a format, by position."""
    literal_text = "".join(
        character
        for piece in _split_format(date_format)
        if piece not in _FIELDS
        for character in piece
        if character.isalnum() or not character.isascii()
    )
    is_field = [False] * len(shape)
    for start, end in fields.values():
        is_field[start:end] = [True] * (end - start)
    positions = [
        position
        for position, character in enumerate(shape)
        if not is_field[position] and character in "a9"
    ]
    return dict(zip(positions, literal_text.encode().lower(), strict=True))


def check_date_format(date_format: str) -> None:
    """Check a format that was set.

    Raises
    ------
    KitError
        If it has a directive that is not supported, or no year, month and day.
    """
    if date_format in DATE_ORDERS:
        return
    pieces = set(_split_format(date_format))
    has_date = bool(pieces & {"%Y", "%y"}) and bool(pieces & {"%m", "%b"})
    if not has_date:
        raise KitError(
            f"the date format {date_format!r} has no year and month",
            "a format such as %d/%m/%Y %H:%M, or day-first or month-first",
            "edit source.dates in mlops.yaml",
        )
