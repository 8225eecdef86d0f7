"""The values of a column as monitoring compares them: numbers, or categories as text.

Every comparison of monitoring (drift tests, profiles, charts, estimated costs) takes values from
here, so that a pandas categorical, an extension type, a decimal, or a number that became text means
the same everywhere. No Python code runs per row: categories are formatted once per distinct value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mlops_kit.core.lazy import np, pd

_MISSING_CODE = -1


class CategoryCodes(NamedTuple):
    """Categories as text, and for each row the position of its category, -1 where it is missing."""

    codes: np.ndarray
    names: list[str]


def to_numbers(values: pd.Series) -> np.ndarray:
    """Convert a column to numbers; NaN where a value is missing or is not a number.

    >>> to_numbers(pd.Series(["1.5", None, "n/a"])).tolist()
    [1.5, nan, nan]
    """
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iufb":
        return values.to_numpy(dtype=float)
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy()  # -1, the last one, where a value is missing
        category_numbers = to_numbers(pd.Series(values.cat.categories))
        return np.append(category_numbers, np.nan)[codes]
    plain = values
    if not pd.api.types.is_numeric_dtype(values):
        plain = pd.to_numeric(values.astype(object), errors="coerce")
    return plain.to_numpy(dtype=float, na_value=np.nan)


def to_categories(values: pd.Series) -> CategoryCodes:
    """Convert a column to categories; 1, 1.0 and True are the same one.

    >>> codes, names = to_categories(pd.Series([1.0, True, "b", None], dtype=object))
    >>> codes.tolist(), names
    ([0, 0, 1, -1], ['1', 'b'])
    """
    try:
        codes, distinct = pd.factorize(values)
    except TypeError:  # lists and other values that cannot be hashed
        texts = values.astype(str).where(values.notna())
        codes, distinct = pd.factorize(texts)
    # Distinct values may have the same text: 1 and "1".
    distinct_texts = np.array(format_categories(distinct), dtype=object)
    text_codes, names = pd.factorize(distinct_texts)
    codes_of_rows = np.append(text_codes, _MISSING_CODE)[codes]
    return CategoryCodes(codes_of_rows, names.tolist())


def format_categories(values: Any) -> list[str]:
    """Format categories as text; 1, 1.0 and True are the same one."""
    as_list = values.tolist() if hasattr(values, "tolist") else values
    return [_format_category(value) for value in as_list]


def _format_category(value: Any) -> str:
    is_boolean = isinstance(value, (bool, np.bool_))
    is_whole = isinstance(value, float) and value.is_integer()
    if is_boolean or is_whole:
        return str(int(value))
    return str(value)


def format_day_codes(days: Any) -> CategoryCodes:
    """Convert the days of rows to codes and the days in their order, without those missing."""
    codes, distinct = pd.factorize(pd.Series(days), sort=True)
    names = [str(day) for day in distinct]
    return CategoryCodes(codes, names)
