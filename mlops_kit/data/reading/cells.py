"""Which cells of a column are values, and which mean that there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops_kit.core.lazy import LazyModule, np
from mlops_kit.data.reading.texts import ColumnTexts, to_mask

pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")

# Compared in lower case and without surrounding spaces. "NA" may be a country, so in a column of
# text none of them counts.
MISSING_WORDS = frozenset(
    [
        "na",
        "n/a",
        "n.a.",
        "n.a",
        "#n/a",
        "#na",
        "<na>",
        "nan",
        "-nan",
        "#nan",
        "nat",
        "null",
        "(null)",
        "#null!",
        "none",
        "nil",
        r"\n",
        "missing",
        "(missing)",
        "not available",
        "unknown",
        "-",
        "--",
        "---",
        "\u2013",
        "\u2014",
        ".",
        "..",
        "...",
        "?",
        "??",
    ]
)
_LONGEST_WORD = max(map(len, MISSING_WORDS)) + 8  # with spaces around it


@dataclass(frozen=True)
class Cells:
    """Masks over the texts of a column.

    Parameters
    ----------
    is_absent, is_empty, is_listed, is_word : ndarray of bool
        Cells that are absent, empty, listed as missing, or words such as NA, which are missing
        only in a column that is not text.
    is_value : ndarray of bool
        All other cells.
    """

    is_absent: np.ndarray
    is_empty: np.ndarray
    is_listed: np.ndarray
    is_word: np.ndarray
    is_value: np.ndarray


def classify_cells(column: ColumnTexts, missing: tuple[str, ...]) -> Cells:
    """Find out which texts are values.

    Parameters
    ----------
    column : ColumnTexts
        The column.
    missing : tuple of str
        Words that are missing values in any column.
    """
    texts = column.texts
    is_absent = ~to_mask(texts.is_valid())
    lengths = pc.binary_length(texts).fill_null(0).to_numpy()
    is_empty = (lengths == 0) & ~is_absent
    is_listed = np.zeros(len(texts), dtype=bool)
    if missing:
        words = pa.array(missing, type=texts.type)
        is_listed = to_mask(pc.is_in(texts, words)) & ~is_empty
    is_word = np.zeros(len(texts), dtype=bool)
    short_positions = np.flatnonzero((lengths > 0) & (lengths <= _LONGEST_WORD) & ~is_listed)
    if len(short_positions):
        is_word[short_positions] = _match_missing_words(texts, short_positions)
    is_value = ~(is_absent | is_empty | is_listed | is_word)
    return Cells(is_absent, is_empty, is_listed, is_word, is_value)


def _match_missing_words(texts: Any, positions: np.ndarray) -> np.ndarray:
    """Return which of the texts at some positions are missing words, or spaces only."""
    selected = texts if len(positions) == len(texts) else texts.take(pa.array(positions))
    normalized = pc.utf8_lower(pc.utf8_trim_whitespace(selected))
    words = pa.array(["", *sorted(MISSING_WORDS)], type=normalized.type)
    return to_mask(pc.is_in(normalized, words))


def count_missing_words(
    column: ColumnTexts, cells: Cells, is_counted: np.ndarray
) -> dict[str, int]:
    """Count the rows of each word that is read as missing; an absent cell counts as empty."""
    counts: dict[str, int] = {}
    absent_rows = column.count_rows(cells.is_absent)
    if column.codes is not None:
        absent_rows += int(np.count_nonzero(column.codes < 0))
    empty_rows = column.count_rows(cells.is_empty) + absent_rows
    if empty_rows:
        counts[""] = empty_rows
    if not is_counted.any():
        return counts
    words = column.texts.filter(pa.array(is_counted))
    if column.counts is not None:
        rows_by_word = zip(words.to_pylist(), column.counts[is_counted].tolist(), strict=True)
        return counts | dict(rows_by_word)
    for entry in pc.value_counts(words).to_pylist():
        counts[entry["values"]] = entry["counts"]
    return counts
