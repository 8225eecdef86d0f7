"""Columns of a table: which ones are keys or features, what kind they are, and their days."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.project.config.reserved_names import ROW_ID_NAME
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project

ROW_ID = ROW_ID_NAME  # key column of a table for which mlops.yaml names no id
PART_COLUMN = "part"  # which part of the split a row belongs to


class ColumnKind(StrEnum):
    """What a column holds, as a data contract states it."""

    NUMBER = "number"
    INTEGER = "integer"
    TEXT = "text"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    EMPTY = "empty"


KIND_DESCRIPTIONS: dict[str, str] = {
    ColumnKind.NUMBER: "a number",
    ColumnKind.INTEGER: "a whole number",
    ColumnKind.TEXT: "text",
    ColumnKind.BOOLEAN: "true or false",
    ColumnKind.TIMESTAMP: "a timestamp",
}
BOOLEAN_BY_TEXT = {
    "true": True,
    "yes": True,
    "1": True,
    "1.0": True,
    "false": False,
    "no": False,
    "0": False,
    "0.0": False,
}

# Kinds by the names of pandas.api.types.infer_dtype.
_KIND_BY_PANDAS_TYPE = {
    "boolean": ColumnKind.BOOLEAN,
    "integer": ColumnKind.INTEGER,
    "floating": ColumnKind.NUMBER,
    "decimal": ColumnKind.NUMBER,
    "mixed-integer-float": ColumnKind.NUMBER,
    "complex": ColumnKind.NUMBER,
    "date": ColumnKind.TIMESTAMP,
    "datetime": ColumnKind.TIMESTAMP,
    "datetime64": ColumnKind.TIMESTAMP,
}
_MIN_NUMERIC_TEXT_SHARE = 0.95  # a text column with more non-numbers than 5% is not numeric
_MAX_CHECKED_DATES = 1000


def list_key_columns(project: Project) -> list[str]:
    """Return the columns that together identify a row."""
    return list(project.config.id) or [ROW_ID]


def list_feature_columns(config: ProjectConfig, frame: pd.DataFrame) -> list[str]:
    """Return the columns of a table that a model may use, in the table's order.

    Parameters
    ----------
    config : ProjectConfig
        The project's settings: target, keys, time and excluded columns are no features.
    frame : DataFrame
        The table.

    Examples
    --------
    >>> import mlops_kit
    >>> config = mlops_kit.open("examples/diabetes").project.config
    >>> list_feature_columns(config, pd.DataFrame(columns=["age", "bmi", config.target]))
    ['age', 'bmi']
    """
    frame = to_pandas(frame)
    return [column for column in list_source_features(config, frame) if column != PART_COLUMN]


def list_source_features(config: ProjectConfig, rows: pd.DataFrame) -> list[str]:
    """Return the columns of the source that a model may use, in the source's order.

    Unlike in a table of the chain, a column ``part`` is one of them.
    """
    excluded = {*config.non_feature_columns, ROW_ID}
    return [str(column) for column in rows.columns if column not in excluded]


def infer_kind(values: pd.Series) -> ColumnKind:
    """Infer the kind of a column from its type, and from its values if the type is ambiguous."""
    present = values.dropna()
    if present.empty:
        return ColumnKind.EMPTY
    if pd.api.types.is_bool_dtype(values.dtype):
        return ColumnKind.BOOLEAN
    pandas_type = pd.api.types.infer_dtype(present, skipna=True)
    if pandas_type in _KIND_BY_PANDAS_TYPE:
        return _KIND_BY_PANDAS_TYPE[pandas_type]
    texts = present.astype(str)
    if _is_numeric_text(texts):
        return ColumnKind.NUMBER
    if _is_date_text(texts.head(_MAX_CHECKED_DATES)):
        return ColumnKind.TIMESTAMP
    return ColumnKind.TEXT


def _is_numeric_text(texts: pd.Series) -> bool:
    """Return whether a text column holds numbers, a few typing errors aside."""
    # "01234" is a code: as a number it would lose its leading zero.
    if texts.str.match(r"0\d").any():
        return False
    numbers = pd.to_numeric(texts, errors="coerce")
    return bool(numbers.notna().mean() >= _MIN_NUMERIC_TEXT_SHARE)


def _is_date_text(texts: pd.Series) -> bool:
    """Return whether all texts are ISO dates or timestamps."""
    if not texts.str.match(r"\d{4}-\d\d-\d\d").all():
        return False
    _, is_invalid = coerce_column(texts, ColumnKind.TIMESTAMP)
    return not is_invalid.any()


def coerce_column(values: pd.Series, kind: ColumnKind) -> tuple[pd.Series, pd.Series]:
    """Convert a column to a kind.

    Returns
    -------
    converted : Series
        The column; values that cannot be converted are missing.
    is_invalid : Series of bool
        Which values could not be converted.
    """
    all_valid = pd.Series(False, index=values.index)
    if kind == ColumnKind.EMPTY or _is_of_kind(values, kind):
        return values, all_valid
    if kind == ColumnKind.TEXT:
        pandas_type = pd.api.types.infer_dtype(values, skipna=True)
        is_text = pandas_type in {"string", "empty", "categorical"}
        if is_text:
            return values, all_valid
        return values.map(_format_text, na_action="ignore"), all_valid
    converted: pd.Series
    if kind == ColumnKind.TIMESTAMP:
        converted = pd.to_datetime(
            values,
            errors="coerce",
            utc=True,
            format="ISO8601",
        )
    elif kind == ColumnKind.BOOLEAN:
        converted = values.map(_parse_boolean, na_action="ignore").astype("boolean")
    else:
        converted = _coerce_to_number(values, must_be_whole=kind == ColumnKind.INTEGER)
    return converted, converted.isna() & values.notna()


def _is_of_kind(values: pd.Series, kind: ColumnKind) -> bool:
    """Return whether a column's type already is the one of a kind."""
    types = pd.api.types
    dtype = values.dtype
    if kind == ColumnKind.NUMBER:
        return types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype)
    if kind == ColumnKind.INTEGER:
        return types.is_integer_dtype(dtype)
    if kind == ColumnKind.TIMESTAMP:
        # Without a zone it is converted to UTC, as the endpoint reads a timestamp.
        return isinstance(dtype, pd.DatetimeTZDtype)
    if kind == ColumnKind.BOOLEAN:
        return types.is_bool_dtype(dtype)
    return False


def _coerce_to_number(values: pd.Series, must_be_whole: bool) -> pd.Series:
    """Convert a column to numbers; what is not a number, or not whole, becomes missing."""
    if pd.api.types.is_bool_dtype(values.dtype):
        values = values.astype(float)
    numbers = pd.to_numeric(values, errors="coerce")
    if must_be_whole:
        return numbers.where(numbers % 1 == 0)
    return numbers


def _parse_boolean(value: Any) -> bool | None:
    """Parse a boolean from text; None if it is not one."""
    return BOOLEAN_BY_TEXT.get(str(value).strip().lower())


def _format_text(value: Any) -> str:
    """Format a value as text; ``1.0`` reads ``1``, since missing neighbors turn 1 into a float."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def format_local_days(timestamps: pd.Series, config: ProjectConfig) -> np.ndarray:
    """Format each timestamp as its day in the project's time zone; one without a zone is in UTC."""
    local = pd.to_datetime(timestamps, utc=True).dt.tz_convert(config.timezone)
    codes, days = pd.factorize(local.dt.tz_localize(None).dt.normalize())  # a text per day, not row
    texts = pd.DatetimeIndex(days).strftime("%Y-%m-%d").to_numpy(dtype=object)
    return np.append(texts, np.nan)[codes]  # the code -1, of a missing timestamp, is the last


def find_excluded_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.Series:
    """Find the rows of the days that neither train nor evaluate a model."""
    if config.time is None or not config.validation.excluded_days:
        return pd.Series(False, index=frame.index)
    days = pd.Series(format_local_days(frame[config.time], config), index=frame.index)
    return days.isin(config.validation.excluded_days)


def get_row_days(frame: pd.DataFrame, config: ProjectConfig) -> np.ndarray | None:
    """Return each row's day in the project's time zone; None for a table without time."""
    if config.time is None:
        return None
    return format_local_days(frame[config.time], config)
