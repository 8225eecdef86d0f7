"""Differences between two texts as lines, in the form of ``diff -u``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff

_CONTEXT_LINES = 2
_HEADER_LINES = 2  # of a unified diff: the names of both files


def diff_lines(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """Yield the hunks of a unified diff: ``@@ -1,2 +1,2 @@``, then lines with a sign or a space.

    >>> list(diff_lines(["a", "b"], ["a", "c"]))
    ['@@ -1,2 +1,2 @@', ' a', '-b', '+c']
    """
    lines = unified_diff(old, new, n=_CONTEXT_LINES, lineterm="")
    for number, line in enumerate(lines):
        if number >= _HEADER_LINES:
            yield line
