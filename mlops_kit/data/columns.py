"""Columns."""

from __future__ import annotations

from typing import Any, Literal

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.project.config import root
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project

pa = LazyModule("pandera.pandas")


fsspec = LazyModule("fsspec")
ColumnKind = Literal["number", "integer", "text", "boolean", "moment", "empty"]
# By pandas' word for what a column holds.
_KIND_BY_PANDAS_TYPE: dict[str, ColumnKind] = {
    "boolean": "boolean",
    "integer": "integer",
    "floating": "number",
    "decimal": "number",
    "mixed-integer-float": "number",
    "complex": "number",
    "date": "moment",
    "datetime": "moment",
    "datetime64": "moment",
}
KIND_DESCRIPTIONS = {
    "number": "a number",
    "integer": "a whole number",
    "text": "text",
    "boolean": "true or false",
    "moment": "a moment",
}
_MIN_NUMERIC_TEXT_SHARE = (
    0.95  # of a text column's values that are numbers: the rest are typing errors
)
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


def infer_kind(values: pd.Series) -> ColumnKind:
    """What a column holds: by its type, and by its values where the type does not tell."""
    filled = values.dropna()
    if filled.empty:
        return "empty"
    seen = (
        "boolean"
        if pd.api.types.is_bool_dtype(values.dtype)
        else pd.api.types.infer_dtype(filled, skipna=True)
    )
    if seen in _KIND_BY_PANDAS_TYPE:
        return _KIND_BY_PANDAS_TYPE[seen]
    text = filled.astype(str)
    # 01234 is a code, not a number: made a number it would lose its zero
    if (
        not text.str.match(r"0\d").any()
        and pd.to_numeric(text, errors="coerce").notna().mean() >= _MIN_NUMERIC_TEXT_SHARE
    ):
        return "number"
    dated = text.head(1000)
    return (
        "moment"
        if dated.str.match(r"\d{4}-\d\d-\d\d").all()
        and coerce_column(dated, "moment")[1].sum() == 0
        else "text"
    )


def coerce_column(values: pd.Series, held: ColumnKind) -> tuple[pd.Series, pd.Series]:
    """A column as its kind, and which of its values could not be made so (those are missing in it)."""
    none = pd.Series(False, index=values.index)
    types, dtype = pd.api.types, values.dtype
    fits = {
        "number": types.is_numeric_dtype,
        "integer": types.is_integer_dtype,
        "moment": types.is_datetime64_any_dtype,
        "boolean": types.is_bool_dtype,
    }
    if (
        held == "empty"
        or held in fits
        and fits[held](dtype)
        and not (held == "number" and types.is_bool_dtype(dtype))
    ):
        return values, none
    if held == "text":
        return (
            values
            if types.infer_dtype(values, skipna=True) in {"string", "empty", "categorical"}
            else values.map(_format_text, na_action="ignore")
        ), none
    made: Any
    if held == "moment":
        made = pd.to_datetime(values, errors="coerce", utc=True, format="mixed")
    elif held == "boolean":
        made = values.map(
            lambda v: BOOLEAN_BY_TEXT.get(str(v).strip().lower()), na_action="ignore"
        ).astype("boolean")
    else:
        made = pd.to_numeric(
            values.astype(float) if types.is_bool_dtype(dtype) else values, errors="coerce"
        )
        made = made.where(made % 1 == 0) if held == "integer" else made
    return made, made.isna() & values.notna()


def _format_text(value: Any) -> str:
    """A value as text; 1.0 is what a missing neighbour made of 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


ROW_ID = "row_id"  # the key of a table that names none


def parse_timestamps(values: pd.Series, name: str, zone: str) -> pd.Series:
    """A column of moments as UTC, microseconds; naive ones are read in the project's zone.

    Moments that the clock change makes doubtful are taken as the later (standard) ones.
    """
    if (
        pd.api.types.is_numeric_dtype(values) and values.notna().any()
    ):  # pandas would take them as nanoseconds since 1970
        raise RunFailedError(
            f"the time column {name!r} holds numbers: {values.dropna().iloc[0]!s}",
            "dates or ISO 8601 moments",
            "write them as moments in the source, or name another column under 'time'",
        )
    try:
        parsed = pd.to_datetime(
            values,
            format=None if pd.api.types.is_datetime64_any_dtype(values) else "ISO8601",
            errors="raise",
        )
    except (ValueError, TypeError):
        parsed = pd.to_datetime(values, errors="coerce", format="mixed")
        if parsed.isna().sum() > 0.5 * len(values):
            raise RunFailedError(
                f"the time column {name!r} does not hold moments: {values.dropna().iloc[0]!r}",
                "dates or ISO 8601 moments",
                "name another column under 'time'",
            ) from None
    if parsed.dt.tz is None:
        parsed = parsed.dt.tz_localize(zone, ambiguous=False, nonexistent="shift_forward")
    return parsed.dt.tz_convert("UTC").astype("datetime64[us, UTC]")


def list_key_columns(project: Project) -> list[str]:
    """The columns that name a row."""
    return list(project.config.id) or [ROW_ID]


def get_row_days(frame: pd.DataFrame, config: ProjectConfig) -> np.ndarray | None:
    """The day of each row in the project's zone; None for a table without time."""
    if config.time is None:
        return None
    moments = pd.to_datetime(frame[config.time], utc=True).dt.tz_convert(config.timezone)
    return moments.dt.strftime("%Y-%m-%d").to_numpy(dtype=object)


PART_COLUMN = "part"


def list_feature_columns(config: ProjectConfig, frame: pd.DataFrame) -> list[str]:
    """The columns of a table that a model may see, in their order."""
    return [
        str(c)
        for c in frame.columns
        if c not in config.non_feature_columns and c not in {PART_COLUMN, ROW_ID}
    ]


def format_local_days(moments: pd.Series, config: root.ProjectConfig) -> np.ndarray:
    """The day of each moment, in the project's zone."""
    return np.asarray(moments.dt.tz_convert(config.timezone).dt.strftime("%Y-%m-%d"))
