"""The full profile of a table as one HTML document that loads nothing from anywhere.

The only door to the profiling library: ``data_profiling`` (distribution fg-data-profiling), or
``ydata_profiling``, its older name. It reports its use to its makers unless told not to, before the
import; that happens here.
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

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.lazy import pd

DEFAULT_PROFILE_ROWS = 10_000
_MAX_COLUMNS_FOR_CORRELATIONS = (
    15  # columns from which correlations take longer than the rest together
)
_MAX_ROWS_FOR_FULL_REPORT = 1_000  # rows up to which the full report stays quick
_DISABLED_SECTIONS = {
    "interactions": {"continuous": False, "targets": []}
}  # a picture for each pair of numbers: most of the time and of the bytes
_EXTERNAL_ATTRIBUTE_PATTERN = re.compile(
    r"""\s(?:src|href|action|poster|srcset)\s*=\s*(?:"\s*(?:https?:)?//[^"]*"|'\s*(?:https?:)?//[^']*'|(?:https?:)?//[^\s>]+)""",
    re.IGNORECASE,
)
_EXTERNAL_STYLE_PATTERN = re.compile(
    r"""@import[^;]*https?:[^;]*;|url\(\s*["']?https?:[^)]*\)""", re.IGNORECASE
)


def _import_profiling_library() -> Any:
    """The profiling library, its analytics off."""
    os.environ["YDATA_PROFILING_NO_ANALYTICS"] = "True"
    for name in ("data_profiling", "ydata_profiling"):
        with contextlib.suppress(ModuleNotFoundError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    raise KitError(
        "no profiling library: neither data_profiling nor ydata_profiling is installed",
        "the distribution fg-data-profiling",
        "pip install fg-data-profiling",
    )


def render_profile_html(
    frame: pd.DataFrame, title: str, seed: int, rows: int = DEFAULT_PROFILE_ROWS
) -> str:
    """A profile of a table, or of a seeded sample of it, as HTML.

    The document says how many rows it looked at, and whether it leaves out correlations, which a long
    or wide table is not worth waiting for. Pictures of pairs of columns are always left out.

    Raises
    ------
    RunFailed
        If the table has no row or no column.
    """
    if frame.empty:
        raise RunFailedError(
            f"a table of {len(frame):,} rows and {frame.shape[1]} columns has no profile",
            "at least one row and one column",
            "look at what fills the source",
        )
    sample = frame.sample(rows, random_state=seed).sort_index() if len(frame) > rows else frame
    brief = (
        len(frame) > rows
        or len(frame) > _MAX_ROWS_FOR_FULL_REPORT
        or frame.shape[1] > _MAX_COLUMNS_FOR_CORRELATIONS
    )
    return remove_external_links(
        _insert_note(
            _render_report(_prepare_for_profiling(sample), title, brief),
            _describe_scope(len(frame), len(sample), seed, brief),
        )
    )


def _prepare_for_profiling(frame: pd.DataFrame) -> pd.DataFrame:
    """The table in types the library can profile: plain column names, no lists, no nullable booleans."""
    out = frame.reset_index(drop=True)
    out.columns = pd.Index([str(c) for c in out.columns])
    for column in out.columns:
        values = out[column]
        if isinstance(values.dtype, pd.BooleanDtype) or (
            values.dtype == object and not values.dropna().map(lambda v: isinstance(v, str)).all()
        ):
            out[column] = (
                values.astype("object").map(str, na_action="ignore").where(values.notna(), None)
            )
    return out


def _render_report(frame: pd.DataFrame, title: str, brief: bool) -> str:
    """The library's own HTML: one file, styles and scripts inside, no progress bars."""
    module = _import_profiling_library()
    # One of its bars ignores progress_bar=False and writes to stderr; errors still come as exceptions.
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return str(
            module.ProfileReport(
                frame, title=title, minimal=brief, progress_bar=False, **_DISABLED_SECTIONS
            ).to_html()
        )


def _describe_scope(rows: int, used: int, seed: int, brief: bool) -> str:
    """What the profile looked at, in a sentence."""
    sampled = (
        f"Profile of a random sample: {used:,} of {rows:,} rows, seed {seed}."
        if used < rows
        else f"Profile of all {rows:,} rows."
    )
    return sampled + (" Short form: correlations are left out." if brief else "")


def _insert_note(document: str, sentence: str) -> str:
    """The document with the sentence above everything else in its body."""
    note = f'<p role="note" style="margin:0;padding:.6rem 1rem;background:#fdf3dc;color:#1a2028;position:relative;z-index:2000">{html.escape(sentence)}</p>'
    return re.sub(r"<body[^>]*>", lambda found: found.group(0) + note, document, count=1)


def remove_external_links(document: str) -> str:
    """The document without loads from, or links to, other hosts.

    >>> sealed('<a href="https://x.org/?utm=1">x</a><img src=//y.net/p.png>')
    '<a>x</a><img>'
    """
    return _EXTERNAL_STYLE_PATTERN.sub("", _EXTERNAL_ATTRIBUTE_PATTERN.sub("", document))
