"""The texts of a column, each distinct text once if the column repeats its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlops_kit.core.lazy import LazyModule, np

pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")

_SAMPLE_ROWS = 4096
_MAX_EXAMPLE_CHARACTERS = 100
_MAX_DISTINCT_SHARE = 0.2  # above it, looking at every row is cheaper than encoding the column


@dataclass(frozen=True)
class ColumnTexts:
    """The texts of a column.

    Parameters
    ----------
    texts : pyarrow.ChunkedArray
        Every row's text, or each distinct text once.
    codes : ndarray of int, optional
        Each row's position in ``texts``, -1 for an absent cell; None if ``texts`` has all rows.
    counts : ndarray of int, optional
        How many rows have each text; None if ``texts`` has all rows.
    row_count : int
        Number of rows.

    Examples
    --------
    >>> import pyarrow as pa
    >>> column = build_column_texts(pa.chunked_array([["b", "a", "b", None]]))
    >>> column.count_rows(column.equal_to("b"))
    2
    >>> column.find_rows(column.equal_to("b")).tolist()
    [0, 2]
    """

    texts: Any
    codes: np.ndarray | None
    counts: np.ndarray | None
    row_count: int

    def equal_to(self, text: str) -> np.ndarray:
        """Return which texts equal a text."""
        return to_mask(pc.equal(self.texts, text))

    def count_rows(self, mask: np.ndarray) -> int:
        """Return the number of rows whose text is selected by a mask over the texts."""
        if self.counts is None:
            return int(np.count_nonzero(mask))
        return int(self.counts[mask].sum())

    def find_rows(self, mask: np.ndarray) -> np.ndarray:
        """Return the positions of the rows whose text is selected by a mask over the texts."""
        if self.codes is None:
            return np.flatnonzero(mask)
        selected_codes = np.flatnonzero(mask)
        return np.flatnonzero(np.isin(self.codes, selected_codes))

    def expand(
        self,
        values: np.ndarray,
        missing: Any,
    ) -> np.ndarray:
        """Return one value per row from one value per text; ``missing`` stands for absent cells."""
        if self.codes is None:
            return values
        padded = np.append(values, np.asarray([missing], dtype=values.dtype))
        expanded: np.ndarray = padded[self.codes]
        return expanded

    def keep_only(self, mask: np.ndarray) -> Any:
        """Return the texts with those that a mask does not select set to null."""
        if mask.all():
            return self.texts
        return pc.if_else(pa.array(mask), self.texts, pa.scalar(None, self.texts.type))

    def get_text(self, position: int) -> str:
        """Return the text at a position of ``texts``."""
        return str(self.texts[position].as_py())

    def list_examples(
        self,
        mask: np.ndarray,
        limit: int,
    ) -> list[str]:
        """Return the first distinct texts that a mask selects; long ones are cut off."""
        examples: list[str] = []
        for position in np.flatnonzero(mask)[:_SAMPLE_ROWS]:
            text = self.get_text(int(position))
            if len(text) > _MAX_EXAMPLE_CHARACTERS:
                text = f"{text[:_MAX_EXAMPLE_CHARACTERS]}…"
            if text not in examples:
                examples.append(text)
            if len(examples) == limit:
                break
        return examples


def build_column_texts(values: Any) -> ColumnTexts:
    """Build the texts of a column, encoded if a sample repeats its values.

    Parameters
    ----------
    values : pyarrow.ChunkedArray of str
        The column; null where a cell is absent.
    """
    row_count = len(values)
    sample = values.slice(0, _SAMPLE_ROWS)
    distinct_count = len(pc.unique(sample))
    if not row_count or distinct_count > _MAX_DISTINCT_SHARE * len(sample):
        return ColumnTexts(values, None, None, row_count)
    encoded = values.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    texts = pa.chunked_array([encoded.dictionary])
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    return ColumnTexts(texts, codes, counts, row_count)


def to_mask(array: Any) -> np.ndarray:
    """Return a boolean Arrow array as a NumPy mask; null is False."""
    if array.null_count:
        array = array.fill_null(False)
    mask: np.ndarray = array.to_numpy(zero_copy_only=False).astype(bool)
    return mask
