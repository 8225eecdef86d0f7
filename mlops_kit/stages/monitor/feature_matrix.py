"""Features as a matrix of numbers, whatever the types of their columns.

Both sides of a comparison may come from different places: a window from the prediction log, the
reference from a file. A column is encoded as its reference says, so that a number that has become
text, a pandas categorical or a value that is a list is a value like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.stages.monitor.column_values import to_categories, to_numbers

_MAX_CATEGORIES = 100  # more distinct texts are names, of which most windows have new ones


class FeatureEncoder(NamedTuple):
    """How the columns of the reference are encoded; see ``fit_feature_encoder``.

    Attributes
    ----------
    number_columns : tuple of str
        Columns of numbers and booleans.
    codes_by_column : dict
        The code of each category, by column.
    """

    number_columns: tuple[str, ...]
    codes_by_column: dict[str, dict[str, int]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns of the matrix."""
        return (*self.number_columns, *self.codes_by_column)

    @property
    def is_categorical(self) -> np.ndarray:
        """Whether each column of the matrix has codes of categories."""
        flags = [False] * len(self.number_columns) + [True] * len(self.codes_by_column)
        return np.array(flags, dtype=bool)

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """Encode rows; NaN where a value is missing, unknown, or its column is absent."""
        columns = []
        for name in self.number_columns:
            numbers = to_numbers(_get_column(frame, name))
            columns.append(np.where(np.isfinite(numbers), numbers, np.nan))
        for name, codes in self.codes_by_column.items():
            texts = _to_texts(_get_column(frame, name))
            columns.append(texts.map(codes).to_numpy(float))
        if not columns:
            return np.empty((len(frame), 0))
        return np.column_stack(columns)

    def measure_unseen_share(self, frame: pd.DataFrame) -> tuple[str, float]:
        """Find the column with the most values that the reference does not have, and their share.

        The column is empty if there is none.
        """
        column = ""
        largest = 0.0
        if frame.empty:
            return column, largest
        for name, codes in self.codes_by_column.items():
            texts = _to_texts(_get_column(frame, name))
            is_unseen = texts.notna() & ~texts.isin(list(codes))
            share = float(is_unseen.mean())
            if share > largest:
                column = name
                largest = share
        return column, largest


def fit_feature_encoder(reference: pd.DataFrame, names: Iterable[str]) -> FeatureEncoder:
    """Choose how columns are encoded from the values of the reference.

    Timestamps and columns with more than 100 distinct texts are left out: new rows always differ in
    them. So are columns without a value.
    """
    number_columns = []
    codes_by_column = {}
    for name in names:
        if name not in reference:
            continue
        column = reference[name]
        if pd.api.types.is_datetime64_any_dtype(column) or column.isna().all():
            continue
        if pd.api.types.is_numeric_dtype(column):
            number_columns.append(name)
            continue
        categories = sorted(to_categories(column).names)
        if len(categories) <= _MAX_CATEGORIES:
            codes_by_column[name] = {category: code for code, category in enumerate(categories)}
    return FeatureEncoder(tuple(number_columns), codes_by_column)


def _to_texts(column: pd.Series) -> pd.Series:
    """Convert the values of a column to text; None where one is missing."""
    codes, names = to_categories(column)
    texts = np.array([*names, None], dtype=object)
    return pd.Series(texts[codes], index=column.index)


def _get_column(frame: pd.DataFrame, name: str) -> pd.Series:
    """Return a column; without a value if it is absent."""
    if name in frame:
        return frame[name]
    return pd.Series([np.nan] * len(frame), index=frame.index, dtype=float)


def encode_columns(reference: pd.DataFrame, current: pd.DataFrame) -> np.ndarray:
    """Encode the columns of both sides as numbers; categories by their frequency in both."""
    encoded = []
    for name in reference:
        values = pd.concat([reference[name], current[name]], ignore_index=True)
        if pd.api.types.is_datetime64_any_dtype(values):
            numbers = values.astype("int64").to_numpy(dtype=float)
            encoded.append(np.where(values.isna(), np.nan, numbers))
        elif pd.api.types.is_numeric_dtype(values):
            encoded.append(to_numbers(values))
        else:
            codes, names = to_categories(values)
            frequencies = np.bincount(codes[codes >= 0], minlength=len(names))
            encoded.append(np.append(frequencies, np.nan)[codes])
    return np.column_stack(encoded)
