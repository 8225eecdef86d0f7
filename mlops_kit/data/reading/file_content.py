"""What a file contains that its ending promises to be a table of text, but is not."""

from __future__ import annotations

import re

from mlops_kit.core.errors import KitError
from mlops_kit.data.reading.encoding import find_byte_order_mark

# How files of other formats begin.
_FORMATS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "give it the ending .zip or .xlsx"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook of before 2007", "save it as .xlsx"),
    (b"\x1f\x8b", "compressed by gzip", "give it the ending .gz"),
    (b"BZh", "compressed by bzip2", "give it the ending .bz2"),
    (b"\xfd7zXZ", "compressed by xz", "give it the ending .xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "give it the ending .zst"),
    (b"PAR1", "a Parquet file", "give it the ending .parquet"),
    (b"%PDF", "a PDF document", "export the table as text"),
    (b"SQLite format 3", "an SQLite database", "set source: {sql, url}"),
)
_HTML_START = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)
_JSON_START = re.compile(rb"\s*(?:\[\s*)?\{\s*\"[^\"]*\"\s*:")
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\r\f\0\x1b\x1f"))
_MAX_CONTROL_SHARE = 0.05


def check_is_table(sample: bytes, file: str) -> None:
    """Check that the beginning of a file may be a table of text.

    Raises
    ------
    KitError
        If it is another kind of file.
    """
    for start, description, hint in _FORMATS:
        if sample.startswith(start):
            raise _content_error(file, description, hint)
    if _HTML_START.match(sample):
        hint = "download the file itself; a page is often a message or a login"
        raise _content_error(file, "an HTML or XML document", hint)
    if _JSON_START.match(sample):
        raise _content_error(file, "JSON", "give it the ending .jsonl or .json")
    if find_byte_order_mark(sample):
        return  # a character of UTF-16 may contain any byte
    control_count = len(sample) - len(sample.translate(None, _CONTROL_BYTES))
    if control_count > _MAX_CONTROL_SHARE * len(sample):
        raise _content_error(file, "not text", "check what wrote the file")


def _content_error(file: str, description: str, hint: str) -> KitError:
    """Build the error for a file of another kind."""
    return KitError(f"{file} is {description}", "a table of text", hint)
