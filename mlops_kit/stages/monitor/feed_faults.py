"""Faults of an upstream feed, day by day.

A day is compared with the sixty days before it that have no fault. A fault is far outside what
those days show, as no gradual drift is: a share of missing values that jumps, a column that no
longer changes, values in another unit, rows that are copies of earlier days' rows.

To add a fault: 1. its value in ``FeedFaultKind``, 2. a function that finds it in a column of a day
(``_COLUMN_CHECKS``).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.project.config.root import ProjectConfig

MIN_DAY_ROWS = 30  # days with fewer rows are not compared
_MAX_REFERENCE_DAYS = 60
_MIN_REFERENCE_DAYS = 5
_MIN_MISSING_INCREASE = 0.2  # over the reference day with most missing values
_MIN_STALE_SHARE = 0.99  # of the rows that have the most frequent value
_MAX_USUAL_SHARE = 0.8  # of the most frequent value on any reference day
_MIN_UNIT_FACTOR = 5.0  # over the reference day with the largest, or below the smallest, median
_MAX_FACTOR_SPREAD = 1.5  # between the factors of the quartiles
_MIN_COPIED_SHARE = 0.5
_MIN_COPIED_INCREASE = 0.3  # over the reference day with most copied rows


class FeedFaultKind(StrEnum):
    """What is wrong with the rows of a day or window."""

    MISSING_VALUES = "missing values"
    STALE_COLUMN = "stale column"
    CHANGED_UNIT = "changed unit"
    DUPLICATED_DAY = "duplicated day"
    FLIPPED_LABELS = "flipped labels"
    SHIFTED_LABELS = "labels of other rows"


@dataclass(frozen=True)
class FeedFault:
    """A fault of the rows from ``start`` up to, but not including, ``end``."""

    kind: FeedFaultKind
    start: pd.Timestamp
    end: pd.Timestamp
    sentence: str


class _ColumnSummary(NamedTuple):
    """A column on one day: what is missing, how often its most frequent value occurs, its scale."""

    missing_share: float
    top_share: float
    top_value: Any
    quartiles: np.ndarray | None


def _check_missing_values(
    name: str,
    day: _ColumnSummary,
    earlier: Sequence[_ColumnSummary],
) -> tuple[FeedFaultKind, str] | None:
    usual = max(summary.missing_share for summary in earlier)
    if day.missing_share < usual + _MIN_MISSING_INCREASE:
        return None
    return (
        FeedFaultKind.MISSING_VALUES,
        f"{format_percent(day.missing_share)} of {name} is missing, at most "
        f"{format_percent(usual)} before",
    )


def _check_stale_column(
    name: str,
    day: _ColumnSummary,
    earlier: Sequence[_ColumnSummary],
) -> tuple[FeedFaultKind, str] | None:
    usual = max(summary.top_share for summary in earlier)
    if day.top_share < _MIN_STALE_SHARE or usual > _MAX_USUAL_SHARE:
        return None
    return (
        FeedFaultKind.STALE_COLUMN,
        f"{name} is {day.top_value} in {format_percent(day.top_share)} of the rows, one value in "
        f"at most {format_percent(usual)} before",
    )


def _check_unit(
    name: str,
    day: _ColumnSummary,
    earlier: Sequence[_ColumnSummary],
) -> tuple[FeedFaultKind, str] | None:
    known = [summary.quartiles for summary in earlier if summary.quartiles is not None]
    if day.quartiles is None or len(known) < _MIN_REFERENCE_DAYS:
        return None
    earlier_quartiles = np.array(known)
    factors = day.quartiles / np.median(earlier_quartiles, axis=0)
    is_larger = day.quartiles[1] > _MIN_UNIT_FACTOR * earlier_quartiles[:, 1].max()
    is_smaller = day.quartiles[1] * _MIN_UNIT_FACTOR < earlier_quartiles[:, 1].min()
    is_scaled = factors.max() / factors.min() <= _MAX_FACTOR_SPREAD
    if not is_scaled or not (is_larger or is_smaller):
        return None
    return (
        FeedFaultKind.CHANGED_UNIT,
        f"all quartiles of {name} are about {factors[1]:.3g} times what they were",
    )


_COLUMN_CHECKS: tuple[
    Callable[
        [str, _ColumnSummary, Sequence[_ColumnSummary]],
        tuple[FeedFaultKind, str] | None,
    ],
    ...,
] = (
    _check_missing_values,
    _check_stale_column,
    _check_unit,
)


class _DaySummary(NamedTuple):
    columns: dict[str, _ColumnSummary]
    copied_share: float


def find_day_faults(
    rows: pd.DataFrame,
    since: pd.Timestamp,
    config: ProjectConfig,
) -> list[FeedFault]:
    """Find the faults of the days from a time on.

    Parameters
    ----------
    rows : DataFrame
        The rows of the source, those of earlier days included.
    since : Timestamp
        Days that begin earlier have no fault; they are what the others are compared with.

    Returns
    -------
    list of FeedFault
        In the order of time. A day with fewer than thirty rows, or with fewer than five days
        before it, has none.
    """
    roles = {*config.role_columns, *config.excluded_columns}
    columns = [str(name) for name in rows.columns if name not in roles]
    local_days = rows[config.time].dt.tz_convert(config.timezone).dt.normalize()
    earlier: deque[_DaySummary] = deque(maxlen=_MAX_REFERENCE_DAYS)
    known_hashes: set[int] = set()
    faults = []
    for start, day in rows.groupby(local_days, sort=True):
        if len(day) < MIN_DAY_ROWS:
            continue
        hashes = pd.util.hash_pandas_object(day[columns].astype(str), index=False)
        copied_share = float(hashes.isin(known_hashes).mean()) if known_hashes else 0.0
        known_hashes.update(hashes.tolist())
        summaries = {name: _summarize_column(day[name]) for name in columns}
        summary = _DaySummary(summaries, copied_share)
        found = []
        if start >= since and len(earlier) >= _MIN_REFERENCE_DAYS:
            found = _find_faults(summary, earlier)
        end = start + pd.DateOffset(days=1)
        faults += [FeedFault(kind, start, end, sentence) for kind, sentence in found]
        if not found:
            earlier.append(summary)
    return faults


def _summarize_column(values: pd.Series) -> _ColumnSummary:
    counts = values.value_counts()
    top_share = float(counts.iloc[0] / counts.sum()) if len(counts) else 0.0
    top_value = counts.index[0] if len(counts) else None
    quartiles = None
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if is_number:
        numbers = values.to_numpy(dtype=float, na_value=math.nan)
        magnitudes = np.abs(numbers[np.isfinite(numbers) & (numbers != 0)])
        if len(magnitudes) >= MIN_DAY_ROWS / 2:
            quartiles = np.quantile(magnitudes, [0.25, 0.5, 0.75])
    return _ColumnSummary(float(values.isna().mean()), top_share, top_value, quartiles)


def _find_faults(
    day: _DaySummary, earlier: Sequence[_DaySummary]
) -> list[tuple[FeedFaultKind, str]]:
    """Find the faults of a day beside the days before it."""
    faults = []
    for name, summary in day.columns.items():
        earlier_summaries = [other.columns[name] for other in earlier]
        for check in _COLUMN_CHECKS:
            found = check(name, summary, earlier_summaries)
            if found is not None:
                faults.append(found)
    usual_share = max(other.copied_share for other in earlier)
    if day.copied_share >= max(_MIN_COPIED_SHARE, usual_share + _MIN_COPIED_INCREASE):
        sentence = (
            f"{format_percent(day.copied_share)} of the rows are copies of earlier days' rows, at "
            f"most {format_percent(usual_share)} before"
        )
        faults.append((FeedFaultKind.DUPLICATED_DAY, sentence))
    return faults
