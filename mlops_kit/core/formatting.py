"""Formatting."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from mlops_kit.core.lazy import pd


def format_number(value: Any, digits: int = 3) -> str:
    """Write a number for a sentence: thousands separated, no false precision.

    >>> number(336776), number(0.75213), number(float("nan")), number(12.0), number(1234.5)
    ('336,776', '0.752', 'unknown', '12', '1,234')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "unknown"
    if isinstance(value, float):
        if math.isinf(value):
            return "infinite"
        if value.is_integer() or abs(value) >= 1000:
            return f"{value:,.0f}"
        return f"{value:.{digits}f}" if abs(value) >= 10**-digits else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def format_money(value: Any, unit: str) -> str:
    """Write an amount with its unit; a currency's sign or code stands before it.

    >>> money(4.1372, "$"), money(-0.5, "EUR"), money(12, "hours"), money(3.5, ""), money(None, "$")
    ('$ 4.14', 'EUR -0.50', '12 hours', '3.500', 'unknown')
    """
    if value is None or math.isnan(value) or not unit:
        return format_number(value)
    currency = len(unit) == 1 and not unit.isalnum() or (len(unit) == 3 and unit.isupper())
    return f"{unit} {value:,.2f}" if currency else f"{format_number(value)} {unit}"


def format_percent(share: float, digits: int = 0) -> str:
    """Write a share as a percentage.

    >>> percent(0.2345), percent(0.004), percent(0.0)
    ('23 %', '0.4 %', '0 %')
    """
    if share is None or math.isnan(share):
        return "unknown"
    if 0 < abs(share) < 0.01 and digits == 0:
        digits = 1 if abs(share) >= 0.001 else 2
    return f"{100 * share:.{digits}f} %"


def format_cell_html(value: Any) -> str:
    """One value of a table, escaped; numbers short, days without a clock."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or str(value) in {"NaT", "<NA>", "nan"}:
        return ""
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= 10_000):
        return format_number(value)
    return html.escape(str(value).removesuffix(" 00:00:00"))


def render_table_html(frame: pd.DataFrame, limit: int = 40) -> str:
    """A small table as HTML without styles of its own; values are escaped, the rest is counted.

    Numbers stand to the right, under a head that does too.
    """
    marks = [
        " class=num"
        if pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t)
        else ""
        for t in frame.dtypes
    ]
    heads = "".join(
        f"<th{m}>{html.escape(str(c).replace('_', ' '))}</th>"
        for c, m in zip(frame.columns, marks, strict=True)
    )
    rows = [
        f"<tr>{''.join(f'<td{m}>{format_cell_html(v)}</td>' for v, m in zip(row, marks, strict=True))}</tr>"
        for row in frame.head(limit).itertuples(index=False, name=None)
    ]
    more = f"<p class=note>… and {len(frame) - limit:,} more rows</p>" if len(frame) > limit else ""
    body = (
        f"<div class=wide tabindex=0><table class=kit><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        if rows
        else ""
    )
    return body + more


def capitalize_first(title: str) -> str:
    """A title as it begins a line."""
    return title[0].upper() + title[1:]


def align_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
