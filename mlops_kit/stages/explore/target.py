"""The target: its mean over time, and in groups of rows.

Intervals treat rows as independent; where rows of one day resemble one another the correct interval
is wider, and each table says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.formatting import format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd, scipy_stats
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Table, Verdict
from mlops_kit.data.classes import resolve_column_coding
from mlops_kit.data.target import encode_target
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.explore.columns import assign_groups, select_grouping_columns
from mlops_kit.stats.proportions import compute_wilson_interval

_INDEPENDENCE_NOTE = (
    "The 95% intervals treat rows as independent; "
    "where rows of one day resemble one another they are too narrow."
)
_PARTIAL_PERIOD_NOTE = "The first and the last period may be incomplete."
_MAX_DAYS_BY_DAY = 120  # longest time span that is shown by day
_MAX_DAYS_BY_WEEK = 3 * 366  # longest time span that is shown by week


def estimate_mean(values: pd.Series, task: str) -> tuple[float, float, float]:
    """Estimate a mean with its 95% interval: Wilson's for a share, Student's for a mean.

    Returns
    -------
    mean, low, high : float
        NaN where there are too few rows.

    Notes
    -----
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    known = values.dropna().to_numpy(dtype="float64")
    nan = float("nan")
    if len(known) == 0:
        return nan, nan, nan
    mean = float(known.mean())
    if task != "regression":
        low, high = compute_wilson_interval(int(known.sum()), len(known))
        return mean, low, high
    if len(known) < 2:
        return mean, nan, nan
    quantile = scipy_stats.t.ppf(0.975, len(known) - 1)
    half_width = float(quantile * known.std(ddof=1) / len(known) ** 0.5)
    return mean, mean - half_width, mean + half_width


def _name_target_statistic(config: ProjectConfig) -> str:
    """Name the mean of the target: a share of rows, or a mean."""
    return "mean" if config.task == "regression" else "share"


def _describe_target_unit(frame: pd.DataFrame, config: ProjectConfig) -> dict[str, str]:
    """Return the unit of the target's mean, by column."""
    unit = config.target
    if config.task != "regression":
        unit = f"{_name_event(frame, config)} among rows"
    return {_name_target_statistic(config): unit}


def _find_event_class(frame: pd.DataFrame, config: ProjectConfig) -> Any:
    """Find the class whose share is shown: the positive class, or the most frequent of several."""
    coding = resolve_column_coding(frame[config.target], config)
    if config.task == "binary":
        return coding.positive
    counts = frame[config.target].value_counts()
    return min(coding.classes, key=lambda value: (-counts[value], str(value)), default=None)


def _name_event(frame: pd.DataFrame, config: ProjectConfig) -> str:
    """Name what is summarized: the target, of several classes the most frequent one."""
    if config.task == "regression":
        return config.target
    return f"{config.target} = {_find_event_class(frame, config)}"


def _encode_event(frame: pd.DataFrame, config: ProjectConfig) -> pd.Series:
    """Encode the target as a number; of several classes whether it is the most frequent one."""
    if config.task != "multiclass":
        encoded, _ = encode_target(frame, config)
        return pd.Series(encoded[config.target])
    target = frame[config.target]
    is_event = (target == _find_event_class(frame, config)).astype("float64")
    return pd.Series(is_event.where(target.notna()))


def _summarize_target_by_key(
    target: pd.Series,
    keys: pd.Series,
    config: ProjectConfig,
) -> pd.DataFrame:
    """Count the labeled rows and estimate the target's mean for each key, in the keys' order."""
    known = target.notna() & keys.notna()
    rows = []
    for key, values in target[known].groupby(keys[known], sort=True, observed=True):
        rows.append((key, len(values), *estimate_mean(values, config.task)))
    columns = [keys.name, "rows", _name_target_statistic(config), "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def summarize_target_over_time(frame: pd.DataFrame, config: ProjectConfig) -> Table | Verdict:
    """Summarize the target's mean by day (up to four months), week (up to three years) or month.

    Periods are those of the project's time zone; rows without a label or a timestamp are left out.

    Returns
    -------
    Table or Verdict
        One row per period, or the reason why there are none.
    """
    frame = to_pandas(frame)
    title = "Target over time"
    if config.time is None:
        return Verdict(
            "target_over_time",
            title,
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.WARNS,
            "The table has no time column, so the target has no course over time.",
        )
    target = _encode_event(frame, config)
    timestamps = pd.to_datetime(frame[config.time], utc=True, errors="coerce")
    local_times = timestamps.dt.tz_convert(config.timezone).dt.tz_localize(None)
    labeled_times = local_times[target.notna()].dropna()
    if labeled_times.empty:
        return Verdict(
            "target_over_time",
            title,
            CheckOutcome.CANNOT_TELL,
            CheckSeverity.WARNS,
            f"No row has both a timestamp and a known {config.target}.",
        )
    period, period_code = _choose_period((labeled_times.max() - labeled_times.min()).days)
    periods = local_times.dt.to_period(period_code).dt.start_time.rename(period)
    data = _summarize_target_by_key(target, periods, config)
    return Table(
        title,
        _describe_course(data, period, target, _name_event(frame, config), config),
        data,
        _describe_target_unit(frame, config),
        (_INDEPENDENCE_NOTE, _PARTIAL_PERIOD_NOTE),
    )


def _choose_period(days: int) -> tuple[str, str]:
    """Choose the period for a time span: its name and pandas' code."""
    if days <= _MAX_DAYS_BY_DAY:
        return "day", "D"
    if days <= _MAX_DAYS_BY_WEEK:
        return "week", "W"
    return "month", "M"


def _describe_course(
    data: pd.DataFrame,
    period: str,
    target: pd.Series,
    event: str,
    config: ProjectConfig,
) -> str:
    """Describe the lowest and the highest period in a sentence."""
    statistic = _name_target_statistic(config)
    values = data[statistic].to_numpy()
    lowest = data.iloc[int(values.argmin())]
    highest = data.iloc[int(values.argmax())]
    return (
        f"The {statistic} of {event} by {period} ranges "
        f"from {format_number(float(lowest[statistic]))} ({lowest[period]:%Y-%m-%d}) "
        f"to {format_number(float(highest[statistic]))} ({highest[period]:%Y-%m-%d}) "
        f"over {len(data)} {period}s; overall it is {format_number(float(target.mean()))}."
    )


def summarize_target_by_group(
    frame: pd.DataFrame,
    config: ProjectConfig,
    columns: Sequence[str] | None = None,
) -> Table:
    """Summarize the target's mean in the groups of some columns, each column's highest first.

    Parameters
    ----------
    columns : sequence of str, optional
        By default a few features with few values, then numbers cut into five quantile bins.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    frame = to_pandas(frame)
    chosen = select_grouping_columns(frame, config) if columns is None else list(columns)
    for column in chosen:
        if column not in frame.columns:
            raise KitError(
                f"the table has no column {column!r} to compare groups by",
                suggest_names(column, frame.columns),
                "name columns of the table",
            )
    statistic = _name_target_statistic(config)
    title = "Target by group"
    target = _encode_event(frame, config)
    parts = []
    for column in chosen:
        groups = assign_groups(frame[column]).rename("group")
        part = _summarize_target_by_key(target, groups, config)
        part = part.sort_values([statistic, "group"], ascending=[False, True])
        if len(part):
            parts.append(part.assign(column=column))
    table_columns = ["group", "column", "value", "rows", statistic, "low", "high"]
    if not parts:
        return Table(
            title,
            "There are no groups to compare: no feature has few values, or no row has a label.",
            pd.DataFrame(columns=table_columns),
            _describe_target_unit(frame, config),
        )
    data = pd.concat(parts, ignore_index=True).rename(columns={"group": "value"})
    data = data.assign(group=data["column"] + " = " + data["value"])[table_columns]
    return Table(
        title,
        _describe_extreme_groups(data, target, _name_event(frame, config), config),
        data,
        _describe_target_unit(frame, config),
        (_INDEPENDENCE_NOTE,),
    )


def _describe_extreme_groups(
    data: pd.DataFrame,
    target: pd.Series,
    event: str,
    config: ProjectConfig,
) -> str:
    """Describe the groups with the highest and the lowest mean in a sentence."""
    statistic = _name_target_statistic(config)
    overall = float(target.mean())
    is_clear = (data["low"] > overall) | (data["high"] < overall)
    values = data[statistic].to_numpy()
    highest = data.iloc[int(values.argmax())]
    lowest = data.iloc[int(values.argmin())]
    return (
        f"{highest['group']} has the highest {statistic} of {event}: "
        f"{format_number(float(highest[statistic]))}; {lowest['group']} the lowest: "
        f"{format_number(float(lowest[statistic]))}. {int(is_clear.sum())} of {len(data)} groups "
        f"differ clearly from the {format_number(overall)} overall."
    )
