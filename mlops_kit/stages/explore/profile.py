"""The full profile of a table as one HTML document that loads nothing from other hosts.

Only this module uses the profiling library: ``data_profiling`` (distribution fg-data-profiling), or
``ydata_profiling``, its older name. The library sends usage data unless it is switched off before
the import, which happens here.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import io
import os
import re
import warnings
from typing import Any

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd

DEFAULT_PROFILE_ROWS = 10_000
_MAX_COLUMNS_FOR_CORRELATIONS = 15  # with more columns, correlations take longer than all the rest
_MAX_ROWS_FOR_FULL_REPORT = 1_000  # up to which the full report stays quick
# A chart for each pair of numbers takes most of the time and of the bytes.
_DISABLED_SECTIONS = {"interactions": {"continuous": False, "targets": []}}
_EXTERNAL_ATTRIBUTE_PATTERN = re.compile(
    r"""\s(?:src|href|action|poster|srcset)\s*=\s*"""
    r"""(?:"\s*(?:https?:)?//[^"]*"|'\s*(?:https?:)?//[^']*'|(?:https?:)?//[^\s>]+)""",
    re.IGNORECASE,
)
_EXTERNAL_STYLE_PATTERN = re.compile(
    r"""@import[^;]*https?:[^;]*;|url\(\s*["']?https?:[^)]*\)""",
    re.IGNORECASE,
)
_OFF_NOTE = "No rows were profiled, because profile_rows is 0."
_NOTE_STYLE = (
    "margin:0;padding:.6rem 1rem;background:#fdf3dc;color:#1a2028;position:relative;z-index:2000"
)


def render_profile_html(
    frame: pd.DataFrame,
    title: str,
    seed: int,
    rows: int = DEFAULT_PROFILE_ROWS,
) -> str:
    """Render the profile of a table, or of a random sample of it, as HTML.

    The document says how many rows it describes, and whether correlations are left out, as they
    are for a long or wide table. Charts of pairs of columns are always left out.

    Parameters
    ----------
    rows : int
        Largest number of rows that are profiled; they are drawn with the seed. With 0 nothing is
        profiled, and the document says so.

    Raises
    ------
    RunFailedError
        If the table has no row or no column.
    """
    frame = to_pandas(frame)
    if frame.empty:
        raise RunFailedError(
            f"a table of {len(frame):,} rows and {frame.shape[1]} columns has no profile",
            "at least one row and one column",
            "check the source's rows",
        )
    if rows == 0:
        return _insert_note(_format_empty_document(title), _OFF_NOTE)
    sample = frame
    if len(frame) > rows:
        sample = frame.sample(rows, random_state=seed).sort_index()
    is_long = len(frame) > min(rows, _MAX_ROWS_FOR_FULL_REPORT)
    is_brief = is_long or frame.shape[1] > _MAX_COLUMNS_FOR_CORRELATIONS
    document = _render_report(_prepare_for_profiling(sample), title, is_brief)
    note = _describe_scope(len(frame), len(sample), seed, is_brief)
    return remove_external_links(_insert_note(document, note))


def _format_empty_document(title: str) -> str:
    """Format an HTML document with a title and an empty body."""
    return f"<!doctype html><title>{html.escape(title)}</title><body></body>"


def _import_profiling_library() -> Any:
    """Import the profiling library with its analytics switched off.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    os.environ["YDATA_PROFILING_NO_ANALYTICS"] = "True"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with import_from_extra("profile"):
            return importlib.import_module("data_profiling")


def _prepare_for_profiling(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table in types that the library accepts.

    It needs text as column names, and it accepts neither lists nor nullable booleans.
    """
    prepared = frame.reset_index(drop=True)
    prepared.columns = pd.Index([str(column) for column in prepared.columns])
    for column in prepared.columns:
        values = prepared[column]
        if isinstance(values.dtype, pd.BooleanDtype) or _holds_non_text_objects(values):
            text = values.astype("object").map(str, na_action="ignore")
            prepared[column] = text.where(values.notna(), None)
    return prepared


def _holds_non_text_objects(values: pd.Series) -> bool:
    """Whether a column holds objects other than text."""
    if values.dtype != object:
        return False
    return not values.dropna().map(lambda value: isinstance(value, str)).all()


def _render_report(
    frame: pd.DataFrame,
    title: str,
    is_brief: bool,
) -> str:
    """Render the library's own HTML: one file with its styles and scripts, no progress bars."""
    library = _import_profiling_library()
    # One of its bars ignores progress_bar=False and writes to stderr; errors still raise.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        report = library.ProfileReport(
            frame,
            title=title,
            minimal=is_brief,
            progress_bar=False,
            **_DISABLED_SECTIONS,
        )
        return str(report.to_html())


def _describe_scope(
    rows: int,
    profiled_rows: int,
    seed: int,
    is_brief: bool,
) -> str:
    """Describe which rows the profile covers, and what it leaves out."""
    if profiled_rows < rows:
        scope = f"Profile of a random sample: {profiled_rows:,} of {rows:,} rows, seed {seed}."
    else:
        scope = f"Profile of all {rows:,} rows."
    if is_brief:
        scope += " Short form: correlations are left out."
    return scope


def _insert_note(document: str, sentence: str) -> str:
    """Insert a sentence above everything else in the document's body."""
    note = f'<p role="note" style="{_NOTE_STYLE}">{html.escape(sentence)}</p>'
    return re.sub(r"<body[^>]*>", lambda body: body.group(0) + note, document, count=1)


def remove_external_links(document: str) -> str:
    """Remove everything that loads from, or links to, other hosts.

    >>> remove_external_links('<a href="https://x.org/?utm=1">x</a><img src=//y.net/p.png>')
    '<a>x</a><img>'
    """
    return _EXTERNAL_STYLE_PATTERN.sub("", _EXTERNAL_ATTRIBUTE_PATTERN.sub("", document))
