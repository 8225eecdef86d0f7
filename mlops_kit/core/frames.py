"""Data frames of other libraries: a public function that takes a table converts it first.

Inside the package every table is a pandas data frame.
"""

from __future__ import annotations

from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import pd

# Libraries whose tables are converted where a value may also be something else.
_FRAME_LIBRARIES = frozenset({"cudf", "dask", "duckdb", "ibis", "modin", "polars", "pyarrow"})


def to_pandas(frame: Any) -> pd.DataFrame:
    """Return a table as a pandas data frame: one of Polars, Arrow, or another that Narwhals knows.

    A lazy frame is computed. A pandas data frame is returned as it is.

    Raises
    ------
    KitError
        If it is not a table.
    """
    if isinstance(frame, pd.DataFrame):
        return frame
    import narwhals

    try:
        table = narwhals.from_native(frame)
    except TypeError as error:
        raise KitError(
            f"a {type(frame).__module__}.{type(frame).__name__} is not a table",
            "a data frame of pandas or Polars, or an Arrow table",
            "pandas.DataFrame(…) makes one from rows or columns",
        ) from error
    if isinstance(table, narwhals.LazyFrame):
        table = table.collect()
    converted: pd.DataFrame = table.to_pandas()
    return converted


def convert_foreign_frame(value: Any) -> Any:
    """Return a table of another library as a pandas data frame, and any other value as it is."""
    library = type(value).__module__.partition(".")[0]
    if library in _FRAME_LIBRARIES and hasattr(value, "columns"):
        return to_pandas(value)
    return value
