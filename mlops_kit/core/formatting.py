"""Numbers, amounts and small tables as a reader sees them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from mlops_kit.core.column_labels import NAME_COLUMNS, get_column_label, label_names_html
from mlops_kit.core.lazy import pd

UNKNOWN_TEXT = "unknown"
_MIN_SHOWN_NUMBER = 1e-4  # a smaller size is written as "< 0.0001", not in scientific notation
_MIN_NUMBER_WITHOUT_DECIMALS = 1000  # from here on decimals are false precision
_MIN_SHORTENED_INTEGER = 10_000  # integers in tables get separators from here on, years do not
_MIN_SHOWN_AMOUNT = 0.005  # a smaller amount is rounded to 0.00
_MISSING_TEXTS = {"NaT", "<NA>", "nan"}


def format_number(value: Any, digits: int = 3) -> str:
    """Format a number for a sentence: thousands separated, no false precision.

    >>> [format_number(value) for value in (336776, 0.75213, float("nan"), 12.0, 1234.5)]
    ['336,776', '0.752', 'unknown', '12', '1,234']
    >>> [format_number(value) for value in (0.00012, 7.6e-06, -7.6e-06, -0.0)]
    ['0.00012', '< 0.0001', '> -0.0001', '0']
    """
    if value is None:
        return UNKNOWN_TEXT
    if isinstance(value, float):
        return _format_float(value, digits)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _format_float(value: float, digits: int) -> str:
    if math.isnan(value):
        return UNKNOWN_TEXT
    if math.isinf(value):
        return "infinite"
    if value == 0:
        return "0"  # also for -0.0
    magnitude = abs(value)
    if value.is_integer() or magnitude >= _MIN_NUMBER_WITHOUT_DECIMALS:
        return f"{value:,.0f}"
    if magnitude >= 10**-digits:
        return f"{value:.{digits}f}"
    if magnitude >= _MIN_SHOWN_NUMBER:
        return f"{value:.2g}"
    return f"< {_MIN_SHOWN_NUMBER}" if value > 0 else f"> -{_MIN_SHOWN_NUMBER}"


def format_money(value: Any, unit: str) -> str:
    """Format an amount with its unit; the sign or code of a currency comes first.

    >>> format_money(4.1372, "$"), format_money(-0.5, "$"), format_money(-0.5, "EUR")
    ('$4.14', '-$0.50', '-EUR 0.50')
    >>> format_money(12, "hours"), format_money(3.5, ""), format_money(None, "$")
    ('12 hours', '3.500', 'unknown')
    """
    if value is None or math.isnan(value) or not unit:
        return format_number(value)
    is_currency_sign = len(unit) == 1 and not unit.isalnum()
    is_currency_code = len(unit) == 3 and unit.isupper()
    if not is_currency_sign and not is_currency_code:
        return f"{format_number(value)} {unit}"
    amount = f"{abs(value):,.2f}"
    if is_currency_code:
        amount = f" {amount}"
    is_rounded_to_zero = abs(value) < _MIN_SHOWN_AMOUNT
    if value < 0 and not is_rounded_to_zero:
        return f"-{unit}{amount}"
    return f"{unit}{amount}"


def format_percent(share: float, digits: int = 0) -> str:
    """Format a share as a percentage; a share below 1% gets more digits.

    >>> format_percent(0.2345), format_percent(0.004), format_percent(0.0), format_percent(1e-6)
    ('23%', '0.4%', '0%', '< 0.01%')
    """
    if share is None or math.isnan(share):
        return UNKNOWN_TEXT
    if share == 0:
        return f"{0:.{digits}f}%"  # also for -0.0
    magnitude = abs(share)
    if digits == 0 and magnitude < 0.001:
        digits = 2
    elif digits == 0 and magnitude < 0.01:
        digits = 1
    percentage = round(100 * share, digits)
    if percentage != 0:
        return f"{percentage:.{digits}f}%"
    smallest = f"{10**-digits:.{digits}f}%"
    return f"< {smallest}" if share > 0 else f"> -{smallest}"


def format_cell_html(value: Any) -> str:
    """Format one value of a table as escaped HTML: short numbers, days without a time of day."""
    is_numpy_scalar = hasattr(value, "item") and getattr(value, "ndim", None) == 0
    if is_numpy_scalar:
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or str(value) in _MISSING_TEXTS:
        return ""
    if isinstance(value, float):
        return html.escape(format_number(value))
    if isinstance(value, int) and abs(value) >= _MIN_SHORTENED_INTEGER:
        return format_number(value)
    return html.escape(str(value).removesuffix(" 00:00:00"))


def render_table_html(frame: pd.DataFrame, limit: int = 40) -> str:
    """Render a small table as HTML without styles; values are escaped, omitted rows are counted.

    Numeric columns and their headings get the class ``num``, which aligns them to the right. Names
    of columns are shown by their labels.
    """
    cell_classes = [_get_cell_class(dtype) for dtype in frame.dtypes]
    rows = frame.head(limit).itertuples(
        index=False,
        name=None,
    )
    name_positions = find_name_columns(frame)
    row_html = [_render_row_html(row, cell_classes, name_positions) for row in rows]
    table = ""
    if row_html:
        head = _render_head_html(frame, cell_classes)
        table = (
            "<div class=wide tabindex=0><table class=kit>"
            f"<thead>{head}</thead><tbody>{''.join(row_html)}</tbody>"
            "</table></div>"
        )
    if len(frame) > limit:
        table += f"<p class=note>… and {len(frame) - limit:,} more rows</p>"
    return table


def find_name_columns(frame: pd.DataFrame) -> set[int]:
    """Return the positions of the columns whose values are names of columns."""
    return {position for position, name in enumerate(frame.columns) if name in NAME_COLUMNS}


def label_sentence_html(sentence: str, frame: pd.DataFrame) -> str:
    """Return the sentence of a result as escaped HTML, with the columns of its table labeled."""
    names: list[str] = []
    for position in sorted(find_name_columns(frame)):
        names += frame.iloc[:, position].dropna().astype(str).tolist()
    return label_names_html(sentence, names)


def _get_cell_class(dtype: Any) -> str:
    is_numeric = pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)
    return " class=num" if is_numeric else ""


def _render_head_html(frame: pd.DataFrame, cell_classes: list[str]) -> str:
    cells = []
    for column, cell_class in zip(frame.columns, cell_classes, strict=True):
        heading = html.escape(str(column).replace("_", " "))
        cells.append(f"<th{cell_class}>{heading}</th>")
    return f"<tr>{''.join(cells)}</tr>"


def _render_row_html(
    row: tuple[Any, ...],
    cell_classes: list[str],
    name_positions: set[int],
) -> str:
    cells = []
    for position, (value, cell_class) in enumerate(zip(row, cell_classes, strict=True)):
        text = format_cell_html(value)
        if position in name_positions:
            text = get_column_label(str(value)).to_html()
        cells.append(f"<td{cell_class}>{text}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def capitalize_first(text: str) -> str:
    """Capitalize only the first character of a text.

    >>> capitalize_first("loss on AUC")
    'Loss on AUC'
    """
    return text[0].upper() + text[1:]


def format_names(names: Sequence[str], max_count: int) -> str:
    """Format the first names, and how many more there are.

    >>> format_names(["age", "dose", "sex"], 2)
    'age, dose and 1 more'
    """
    listed = ", ".join(names[:max_count])
    hidden_count = len(names) - max_count
    return f"{listed} and {hidden_count} more" if hidden_count > 0 else listed


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    r"""Align rows of text in columns, as for a terminal.

    >>> align_columns([("a", "1"), ("long", "22")])
    'a     1\nlong  22'
    """
    widths = [max(len(text) for text in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)
