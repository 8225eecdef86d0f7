"""One type per column, decided from all its values.

A file has texts only. A column is read as booleans, numbers or timestamps only if all but a
tolerated share of its values can be, and more than half; otherwise it stays text as it is. What
was decided, converted and left open is reported, and nothing is changed that is not reported.

To add a type: 1. a module that tries it and returns a ``ParsedColumn``, 2. its call in
``_find_type``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.reading.cells import Cells, classify_cells, count_missing_words
from mlops_kit.data.reading.date_columns import can_be_dates, read_dates
from mlops_kit.data.reading.date_layouts import DATE_ORDERS
from mlops_kit.data.reading.date_problems import DateProblem
from mlops_kit.data.reading.number_columns import (
    collect_column_evidence,
    has_large_integers,
    is_likely_number,
    read_numbers,
)
from mlops_kit.data.reading.number_style import NumberStyle, combine_styles
from mlops_kit.data.reading.parsed_column import ParsedColumn, count_values
from mlops_kit.data.reading.records import ColumnReading, UnreadableValue
from mlops_kit.data.reading.sentinels import find_sentinel_dates, find_sentinel_numbers
from mlops_kit.data.reading.texts import ColumnTexts, build_column_texts, to_mask
from mlops_kit.project.config.data import DEFAULT_MAX_UNREADABLE_SHARE

pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")

_MAX_EXAMPLES = 3
_MIN_SAMPLE_ROWS = 1000
_LONGEST_BOOLEAN = 16  # with spaces around it
_MOSTLY = 0.5  # more values than this share must have the type


@dataclass(frozen=True)
class ColumnSettings:
    """What is set for a column, or known from the file as a whole.

    Parameters
    ----------
    decimal, thousands : str, optional
        Separators of numbers; None: decided from the column.
    missing : tuple of str
        Words that are missing values in every column, as they are written.
    date_format : str, optional
        A format in the notation of ``strptime``, ``day-first`` or ``month-first``; None: decided
        from the column.
    max_unreadable_share : float
        Share of the values that may have another type; at least one may, unless it is 0.
    is_inspected : bool
        Whether the column's type is decided; otherwise it stays text.
    """

    decimal: str | None = None
    thousands: str | None = None
    missing: tuple[str, ...] = ()
    date_format: str | None = None
    max_unreadable_share: float = DEFAULT_MAX_UNREADABLE_SHARE
    is_inspected: bool = True


@dataclass(frozen=True)
class ColumnDecision:
    """A column in its type, and what was decided about it.

    Parameters
    ----------
    values : Series
        The column. Rows listed in ``unreadable`` hold a placeholder, which keeps the type of the
        column: the caller leaves these rows out.
    reading : ColumnReading
        What was decided.
    unreadable : list of UnreadableValue
        Values that do not have the column's type; ``row`` is the position in the column.
    date_problem : AmbiguousDates or MixedDates, optional
        Why dates stay text; ``build_date_error`` turns it into an error for a column in use.
    """

    values: pd.Series
    reading: ColumnReading
    unreadable: list[UnreadableValue] = field(default_factory=list)
    date_problem: DateProblem | None = None


@dataclass(frozen=True)
class _TypeSearch:
    """The type of a column; ``parsed`` is None for text."""

    parsed: ParsedColumn | None = None
    problem: DateProblem | None = None
    notes: list[str] = field(default_factory=list)


def decide_column(name: str, values: Any, settings: ColumnSettings) -> ColumnDecision:
    """Decide the type of a column, and convert it.

    Parameters
    ----------
    name : str
        Name of the column.
    values : pyarrow.ChunkedArray of str
        The texts of the column; null only where a cell is known to be absent.
    settings : ColumnSettings
        What is set for the column.

    Raises
    ------
    KitError
        If the date format that is set is not supported.

    Examples
    --------
    >>> import pyarrow as pa
    >>> column = pa.chunked_array([["1", "NA", " 3"]])
    >>> decision = decide_column("visits", column, ColumnSettings())
    >>> decision.reading.type.value, decision.values.tolist(), decision.reading.missing_words
    ('integer', [1.0, nan, 3.0], {'NA': 1})
    """
    if pa.types.is_null(values.type):
        values = values.cast(pa.string())
    column = build_column_texts(values)
    cells = classify_cells(column, settings.missing)
    if not settings.is_inspected:
        search = _TypeSearch(notes=["left out, and not inspected"])
        return _build_text_column(name, column, cells, search)
    value_count = column.count_rows(cells.is_value)
    if not value_count:
        if column.count_rows(cells.is_word):
            return _build_text_column(name, column, cells, _TypeSearch())
        return _build_empty_column(name, column, cells)
    max_unreadable = _count_tolerated(value_count, settings.max_unreadable_share)
    search = _find_type(name, column, cells.is_value, settings, max_unreadable)
    if search.parsed is None:
        return _build_text_column(name, column, cells, search)
    return _build_typed_column(name, column, cells, search.parsed)


def _count_tolerated(value_count: int, max_unreadable_share: float) -> int:
    """Count how many values of a column may have another type."""
    if max_unreadable_share == 0:
        return 0
    return max(1, int(value_count * max_unreadable_share))


def detect_number_style(columns: Mapping[str, Any]) -> NumberStyle:
    """Detect the decimal and thousands separators of a file.

    Parameters
    ----------
    columns : mapping of str to pyarrow.ChunkedArray of str
        The texts of each column.

    Returns
    -------
    NumberStyle
        Open (None) where no number of the file decides, or columns contradict one another.

    Examples
    --------
    >>> import pyarrow as pa
    >>> columns = {"price": pa.chunked_array([["1,5", "2"]]), "sold": pa.chunked_array([["1.234"]])}
    >>> style = detect_number_style(columns)
    >>> style.decimal, style.thousands
    (',', '.')
    """
    evidence = []
    for values in columns.values():
        column_evidence = collect_column_evidence(values)
        if column_evidence is not None:
            evidence.append(column_evidence)
    return combine_styles(evidence)


def _find_type(
    name: str,
    column: ColumnTexts,
    is_value: np.ndarray,
    settings: ColumnSettings,
    max_unreadable: int,
) -> _TypeSearch:
    """Find the type of a column: the first of boolean, number and timestamp that fits."""
    sample = _take_sample(column, is_value, max_unreadable)
    is_format_set = settings.date_format is not None and settings.date_format not in DATE_ORDERS
    dates = _TypeSearch()
    if is_format_set:
        # A format may be set for all columns, so one that it does not fit is decided without it.
        dates = _find_dates(name, column, is_value, settings, max_unreadable)
        if dates.parsed is not None:
            return dates
    parsed = _read_booleans(column, is_value)
    if _is_accepted(column, is_value, parsed, max_unreadable):
        return _TypeSearch(parsed)
    notes: list[str] = []
    if _passes_sample(sample, is_likely_number, max_unreadable):
        style = NumberStyle(settings.decimal, settings.thousands)
        attempt = read_numbers(column, is_value, style, max_unreadable)
        if attempt.parsed and _is_accepted(column, is_value, attempt.parsed, max_unreadable):
            return _TypeSearch(attempt.parsed)
        notes += attempt.notes
        if attempt.parsed:
            notes += _describe_rejection(column, is_value, attempt.parsed)
    if not is_format_set and _passes_sample(sample, can_be_dates, max_unreadable):
        dates = _find_dates(name, column, is_value, settings, max_unreadable)
    if dates.parsed is not None:
        return dates
    return _TypeSearch(problem=dates.problem, notes=dates.notes or notes)


def _find_dates(
    name: str,
    column: ColumnTexts,
    is_value: np.ndarray,
    settings: ColumnSettings,
    max_unreadable: int,
) -> _TypeSearch:
    """Read a column as timestamps; ``parsed`` is None if too few values are."""
    attempt = read_dates(name, column, is_value, settings.date_format, max_unreadable)
    if attempt.parsed and _is_accepted(column, is_value, attempt.parsed, max_unreadable):
        return _TypeSearch(attempt.parsed)
    return _TypeSearch(problem=attempt.problem, notes=attempt.notes)


def _take_sample(column: ColumnTexts, is_value: np.ndarray, max_unreadable: int) -> Any:
    """Return so many values of a long column that other types can be excluded for good.

    If more values of the sample than may be unreadable in the whole column are not of a type, then
    the column is not of that type.
    """
    if column.codes is not None:
        return None
    size = max(_MIN_SAMPLE_ROWS, 2 * max_unreadable + 1)
    if 2 * size > len(is_value):
        return None
    sample_texts = column.texts.slice(0, size)
    return sample_texts.filter(pa.array(is_value[:size]))


def _passes_sample(sample: Any, can_be_of_type: Any, max_unreadable: int) -> bool:
    """Return whether a sample leaves open that a column is of a type."""
    if sample is None or not len(sample):
        return True
    return int(np.count_nonzero(~can_be_of_type(sample))) <= max_unreadable


def _is_accepted(
    column: ColumnTexts, is_value: np.ndarray, parsed: ParsedColumn, max_unreadable: int
) -> bool:
    """Return whether enough values of a column are of a type."""
    value_count = column.count_rows(is_value)
    read_count = column.count_rows(parsed.is_read & is_value)
    is_mostly_read = read_count > _MOSTLY * value_count
    return is_mostly_read and value_count - read_count <= max_unreadable


def _describe_rejection(
    column: ColumnTexts, is_value: np.ndarray, parsed: ParsedColumn
) -> list[str]:
    """Describe why a column that is mostly numbers stays text; empty for other columns."""
    is_other = is_value & ~parsed.is_read
    others = column.count_rows(is_other)
    value_count = column.count_rows(is_value)
    if 2 * others >= value_count:
        return []
    example = column.list_examples(is_other, 1)[0]
    counted = count_values(others, "is not a number", "are not numbers")
    share = format_percent(others / value_count)
    return [f"left as text: {counted} ({share}), such as {example!r}"]


def _read_booleans(column: ColumnTexts, is_value: np.ndarray) -> ParsedColumn:
    """Read a column as booleans; only true and false are, in any case."""
    candidates = column.keep_only(is_value)
    is_short = to_mask(pc.less_equal(pc.binary_length(candidates), _LONGEST_BOOLEAN))
    is_true = np.zeros(len(is_value), dtype=bool)
    is_false = np.zeros(len(is_value), dtype=bool)
    first_texts = candidates.slice(0, _MIN_SAMPLE_ROWS)
    if is_short.any() and _count_booleans(first_texts) * 2 >= len(first_texts.drop_null()):
        normalized = pc.utf8_lower(pc.utf8_trim_whitespace(candidates))
        is_true = to_mask(pc.equal(normalized, "true"))
        is_false = to_mask(pc.equal(normalized, "false"))
    return ParsedColumn(ColumnKind.BOOLEAN, is_true, is_true | is_false, "true/false")


def _count_booleans(texts: Any) -> int:
    """Count the texts that are true or false."""
    normalized = pc.utf8_lower(pc.utf8_trim_whitespace(texts))
    words = pa.array(["true", "false"], type=normalized.type)
    return int(np.count_nonzero(to_mask(pc.is_in(normalized, words))))


def _build_typed_column(
    name: str, column: ColumnTexts, cells: Cells, parsed: ParsedColumn
) -> ColumnDecision:
    """Build the decision for a column of booleans, numbers or timestamps."""
    is_read = parsed.is_read & cells.is_value
    is_unreadable = cells.is_value & ~parsed.is_read
    is_missing = ~cells.is_value
    missing_count = column.row_count - column.count_rows(cells.is_value)
    is_integer = parsed.kind == ColumnKind.INTEGER
    is_beyond_floats = is_integer and has_large_integers(parsed.values[is_read])
    if is_beyond_floats and missing_count:
        note = (
            "left as text: whole numbers beyond 2**53 beside missing values, which would turn them "
            "into floating-point numbers"
        )
        return _build_text_column(name, column, cells, _TypeSearch(notes=[note]))
    unreadable = _list_unreadable(name, column, is_unreadable, parsed.kind)
    notes = list(parsed.notes)
    if unreadable:
        counted = count_values(len(unreadable), "cannot be read", "cannot be read")
        example = column.list_examples(is_unreadable, 1)[0]
        notes.append(f"{counted}, such as {example!r}: the rows are quarantined")
    reading = ColumnReading(
        column=name,
        name_in_file=name,
        type=parsed.kind,
        format=parsed.format,
        missing_words=count_missing_words(column, cells, cells.is_word | cells.is_listed),
        missing_share=missing_count / column.row_count,
        sentinels=_find_sentinels(column, parsed, is_read),
        examples=column.list_examples(is_read, _MAX_EXAMPLES),
        conversions=parsed.conversions,
        notes=notes,
    )
    values = _build_series(name, column, parsed, is_missing, missing_count)
    return ColumnDecision(values, reading, unreadable)


def _find_sentinels(column: ColumnTexts, parsed: ParsedColumn, is_read: np.ndarray) -> list[str]:
    """Find values that probably stand for a missing one."""
    values = parsed.values[is_read]
    counts = None if column.counts is None else column.counts[is_read]
    if parsed.kind == ColumnKind.BOOLEAN:
        return []
    if parsed.kind == ColumnKind.TIMESTAMP:
        return find_sentinel_dates(values, counts)
    return find_sentinel_numbers(values, counts)


def _list_unreadable(
    name: str, column: ColumnTexts, is_unreadable: np.ndarray, kind: ColumnKind
) -> list[UnreadableValue]:
    """List the values that are not of the column's type."""
    if not is_unreadable.any():
        return []
    reasons = {
        ColumnKind.BOOLEAN: "is not true or false",
        ColumnKind.TIMESTAMP: "is not a timestamp in the column's format",
    }
    reason = reasons.get(kind, "is not a number")
    unreadable = []
    for row in column.find_rows(is_unreadable):
        position = int(row if column.codes is None else column.codes[row])
        value = column.get_text(position)
        unreadable.append(UnreadableValue(row=int(row), column=name, value=value, reason=reason))
    return unreadable


def _build_series(
    name: str,
    column: ColumnTexts,
    parsed: ParsedColumn,
    is_missing: np.ndarray,
    missing_count: int,
) -> pd.Series:
    """Build the column of a table from its parsed values."""
    values = parsed.values
    if parsed.kind == ColumnKind.TIMESTAMP:
        dates = np.where(parsed.is_read & ~is_missing, values, np.datetime64("NaT", "us"))
        series = pd.Series(column.expand(dates, np.datetime64("NaT", "us")), name=name)
        return series.dt.tz_localize("UTC") if parsed.is_utc else series
    if parsed.kind == ColumnKind.NUMBER:
        values = np.where(parsed.is_read & ~is_missing, values, np.nan)
        return pd.Series(column.expand(values, np.nan), name=name)
    if not missing_count:
        return pd.Series(column.expand(values, 0), name=name)
    if parsed.kind == ColumnKind.INTEGER:
        floats = np.where(is_missing, np.nan, values)
        return pd.Series(column.expand(floats, np.nan), name=name)
    objects = values.astype(object)
    objects[is_missing] = np.nan
    return pd.Series(column.expand(objects, np.nan), name=name, dtype=object)


def _build_empty_column(name: str, column: ColumnTexts, cells: Cells) -> ColumnDecision:
    """Build the decision for a column without values."""
    reading = ColumnReading(
        column=name,
        name_in_file=name,
        type=ColumnKind.EMPTY,
        missing_words=count_missing_words(column, cells, cells.is_listed),
        missing_share=1.0 if column.row_count else 0.0,
    )
    return ColumnDecision(pd.Series(np.full(column.row_count, np.nan), name=name), reading)


def _build_text_column(
    name: str, column: ColumnTexts, cells: Cells, search: _TypeSearch
) -> ColumnDecision:
    """Build the decision for a column that stays text: only empty and listed cells are missing."""
    is_missing = cells.is_absent | cells.is_empty | cells.is_listed
    missing_count = column.row_count - column.count_rows(~is_missing)
    notes = list(search.notes)
    word_rows = column.count_rows(cells.is_word)
    if word_rows:
        word = column.list_examples(cells.is_word, 1)[0]
        counted = count_values(
            word_rows, "may stand for a missing one", "may stand for missing ones"
        )
        notes.append(
            f"{counted}, such as {word!r}; a column of text keeps such words unless source.missing "
            "lists them"
        )
    notes += _describe_spaces(column, ~is_missing & ~cells.is_word)
    reading = ColumnReading(
        column=name,
        name_in_file=name,
        type=ColumnKind.TEXT,
        missing_words=count_missing_words(column, cells, cells.is_listed),
        missing_share=missing_count / max(column.row_count, 1),
        examples=column.list_examples(~is_missing, _MAX_EXAMPLES),
        notes=notes,
    )
    values = _build_text_series(name, column, is_missing)
    return ColumnDecision(values, reading, date_problem=search.problem)


def _describe_spaces(column: ColumnTexts, is_value: np.ndarray) -> list[str]:
    """Describe that texts have spaces around them, which are kept."""
    lengths = pc.binary_length(column.texts)
    trimmed_lengths = pc.binary_length(pc.utf8_trim_whitespace(column.texts))
    has_spaces = to_mask(pc.not_equal(lengths, trimmed_lengths)) & is_value
    rows = column.count_rows(has_spaces)
    if not rows:
        return []
    example = column.list_examples(has_spaces, 1)[0]
    counted = count_values(rows, "has spaces around it", "have spaces around them")
    return [f"{counted}, such as {example!r}, which are kept"]


def _build_text_series(name: str, column: ColumnTexts, is_missing: np.ndarray) -> pd.Series:
    """Build a column of texts, with NaN for a missing one as in a table that pandas reads."""
    texts = column.texts.to_pandas().to_numpy(dtype=object)
    if is_missing.any():
        texts = np.where(is_missing, np.nan, texts)
    return pd.Series(column.expand(texts, np.nan), name=name, dtype=object)
