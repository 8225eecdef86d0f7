"""Contract inference."""

from __future__ import annotations

import math
from typing import Any

from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.data.columns import ROW_ID, ColumnKind, coerce_column, infer_kind
from mlops_kit.data.contract import ColumnContract, DataContract
from mlops_kit.project.config.root import ProjectConfig

pa = LazyModule("pandera.pandas")
_MAX_CATEGORIES, _MIN_MEAN_CATEGORY_ROWS = (
    30,
    20,
)  # a text column with this many values at most, each seen this often on average, has allowed ones
_RANGE_MARGIN = 0.5  # of the range seen, added on either side
_MISSING_SHARE_MARGIN = 0.05
_MAX_TIME_CORRELATION = 0.9  # rank correlation with time above which a column is a counter or a calendar: it will leave any range


def infer_contract(frame: pd.DataFrame, config: ProjectConfig) -> DataContract:
    """The contract that these rows keep, with room for those to come.

    The target, and what is known later, may be missing altogether: it depends on when one looks.
    Identifiers, constants, and columns that move with time have no range: they will leave any.
    """
    late = {*config.known_later, *([config.target] if config.time else [])}
    columns = {}
    for name in (c for c in frame.columns if c != ROW_ID):
        values, named = frame[name], name in {*config.id, config.time}
        held = infer_kind(values)
        missing = (
            0.0
            if named
            else 1.0
            if name in late or held == "empty"
            else _compute_max_missing(values)
        )
        facts: dict[str, Any] = {}
        if (
            held in {"number", "integer"}
            and not named
            and not _moves_with_time(frame, name, config.time)
        ):
            facts = _infer_range(coerce_column(values, held)[0], held)
        if held == "text" and not named or name == config.target and config.task == "binary":
            facts = {"allowed": _infer_allowed_values(values, always=name == config.target)}
        columns[str(name)] = ColumnContract(type=held, missing=missing, **facts)
    return DataContract(unique=list(config.id), columns=columns)


def _compute_max_missing(values: pd.Series) -> float:
    """The largest share of missing values, with room above what was seen."""
    return min(
        1.0, math.ceil(100 * (1.5 * float(values.isna().mean()) + _MISSING_SHARE_MARGIN)) / 100
    )


def _moves_with_time(frame: pd.DataFrame, name: str, time: str | None) -> bool:
    """Whether a column moves with time, as counters and calendars do (Spearman's rank correlation)."""
    if time is None:
        return False
    some = frame.iloc[:: max(1, len(frame) // 20_000)]
    ranks = coerce_column(some[name], "number")[0].rank()
    return ranks.nunique() > 1 and abs(float(ranks.corr(some[time].rank()))) > _MAX_TIME_CORRELATION


def _infer_range(values: pd.Series, held: ColumnKind) -> dict[str, Any]:
    """Smallest and largest value with room of half the range; what was never negative stays so."""
    finite = values[values.abs() < math.inf].astype(float)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    if low == high:
        return {}
    room = _RANGE_MARGIN * (high - low)
    unit = 1.0 if held == "integer" else 10.0 ** max(0, 2 - math.floor(math.log10(high - low)))
    least, most = math.floor((low - room) * unit) / unit, math.ceil((high + room) * unit) / unit
    least, most = (0.0 if low >= 0 else least), (0.0 if high <= 0 else most)
    return (
        {"min": int(least), "max": int(most)} if held == "integer" else {"min": least, "max": most}
    )


def _infer_allowed_values(values: pd.Series, always: bool) -> list[Any] | None:
    """The values of a column with few of them; None where others are to be expected."""
    seen = values.dropna()
    found = sorted({v.item() if hasattr(v, "item") else v for v in seen.unique()}, key=str)
    return (
        found
        if always
        or 0 < len(found) <= _MAX_CATEGORIES
        and len(seen) >= _MIN_MEAN_CATEGORY_ROWS * len(found)
        else None
    )
