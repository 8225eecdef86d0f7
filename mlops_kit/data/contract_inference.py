"""Inferring a data contract from rows, with a margin for rows to come."""

from __future__ import annotations

import math
from typing import Any

from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import ROW_ID, ColumnKind, coerce_column, infer_kind
from mlops_kit.data.contract import ColumnContract, DataContract, NewValues
from mlops_kit.project.config.root import ProjectConfig

# A text column lists its allowed values if it has few, and each occurs often on average.
_MAX_CATEGORIES = 30
_MIN_MEAN_CATEGORY_ROWS = 20
_RANGE_MARGIN = 0.5  # added on either side, as a share of the observed range
_MISSING_SHARE_FACTOR = 1.5
_MISSING_SHARE_MARGIN = 0.05
# A column whose rank correlation with time is higher is a counter or a calendar, and will leave
# any range.
_MAX_TIME_CORRELATION = 0.9
_MAX_CORRELATION_ROWS = 20_000
_NUMERIC_KINDS = {ColumnKind.NUMBER, ColumnKind.INTEGER}


def infer_contract(frame: pd.DataFrame, config: ProjectConfig) -> DataContract:
    """Infer the contract that these rows satisfy, with a margin for rows to come.

    A column without a missing value is required. The target and the columns of ``known_later`` may
    be missing altogether, since that depends on when the table is read. Identifiers, constants and
    columns that move with time get no range. New categories are accepted and counted.
    """
    columns = {
        str(name): _infer_column(frame, name, config) for name in frame.columns if name != ROW_ID
    }
    return DataContract(
        unique=list(config.id),
        columns=columns,
    )


def _infer_column(frame: pd.DataFrame, name: str, config: ProjectConfig) -> ColumnContract:
    """Infer the constraints on one column."""
    values = frame[name]
    kind = infer_kind(values)
    if name == config.weight:
        return ColumnContract(type=kind, missing=0.0, min=0)
    is_key = name in {*config.id, config.time}
    is_class = name == config.target and config.task != "regression"
    constraints: dict[str, Any] = {}
    if kind in _NUMERIC_KINDS and not is_key and not _moves_with_time(frame, name, config.time):
        numbers, _ = coerce_column(values, kind)
        constraints = _infer_range(numbers, kind)
    if is_class or (kind == ColumnKind.TEXT and not is_key):
        allowed = _infer_allowed_values(values, always=name == config.target)
        constraints = {"allowed": allowed}
        if allowed is not None and name != config.target:
            # Categories come and go; another class of the target needs another model.
            constraints["new_values"] = NewValues.ACCEPT
    return ColumnContract(
        type=kind,
        missing=_infer_max_missing(
            values,
            name,
            kind,
            config,
        ),
        **constraints,
    )


def _infer_max_missing(
    values: pd.Series,
    name: str,
    kind: ColumnKind,
    config: ProjectConfig,
) -> float:
    """Infer the maximum share of missing values of a column."""
    if name in {*config.id, config.time}:
        return 0.0
    known_later = set(config.known_later)
    if config.time:
        known_later.add(config.target)
    if name in known_later or kind == ColumnKind.EMPTY:
        return 1.0
    if name != config.target and values.notna().all():
        # Whoever sends a row without the value has forgotten it.
        return 0.0
    return _compute_max_missing(values)


def _compute_max_missing(values: pd.Series) -> float:
    """Compute the observed share of missing values with a margin, rounded up to a percent."""
    share = _MISSING_SHARE_FACTOR * float(values.isna().mean()) + _MISSING_SHARE_MARGIN
    return min(1.0, math.ceil(100 * share) / 100)


def _moves_with_time(frame: pd.DataFrame, name: str, time: str | None) -> bool:
    """Return whether a column follows time, as counters and calendars do.

    This is judged by Spearman's rank correlation on a sample of the rows.
    """
    if time is None:
        return False
    step = max(1, len(frame) // _MAX_CORRELATION_ROWS)
    sample = frame.iloc[::step]
    numbers, _ = coerce_column(sample[name], ColumnKind.NUMBER)
    ranks = numbers.rank()
    if ranks.nunique() <= 1:
        return False
    correlation = float(ranks.corr(sample[time].rank()))
    return abs(correlation) > _MAX_TIME_CORRELATION


def _infer_range(values: pd.Series, kind: ColumnKind) -> dict[str, float]:
    """Infer the smallest and largest allowed value; empty for a constant.

    The margin is half the observed range on either side. A column without negative (or positive)
    values is not allowed any.
    """
    finite = values[values.abs() < math.inf].astype(float)
    if finite.empty:
        return {}
    lowest = float(finite.min())
    highest = float(finite.max())
    if lowest == highest:
        return {}
    observed_range = highest - lowest
    margin = _RANGE_MARGIN * observed_range
    # Bounds of other numbers than integers keep two significant digits of the range.
    unit = 1.0
    if kind != ColumnKind.INTEGER:
        unit = 10.0 ** max(0, 2 - math.floor(math.log10(observed_range)))
    minimum = 0.0
    maximum = 0.0
    if lowest < 0:
        minimum = math.floor((lowest - margin) * unit) / unit
    if highest > 0:
        maximum = math.ceil((highest + margin) * unit) / unit
    if kind == ColumnKind.INTEGER:
        return {"min": int(minimum), "max": int(maximum)}
    return {"min": minimum, "max": maximum}


def _infer_allowed_values(values: pd.Series, always: bool) -> list[Any] | None:
    """Return the values of a column that has few; None if other values are to be expected.

    Parameters
    ----------
    always : bool
        Return them however many there are.
    """
    present = values.dropna()
    distinct = {_to_python_value(value) for value in present.unique()}
    allowed = sorted(distinct, key=str)
    is_categorical = 0 < len(allowed) <= _MAX_CATEGORIES and len(
        present
    ) >= _MIN_MEAN_CATEGORY_ROWS * len(allowed)
    if always or is_categorical:
        return allowed
    return None


def _to_python_value(value: Any) -> Any:
    """Convert a NumPy scalar to the Python value that YAML can store."""
    return value.item() if hasattr(value, "item") else value
