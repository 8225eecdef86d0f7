"""Target."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd, scipy_stats
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Table, Verdict
from mlops_kit.data.target import encode_target
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.explore.columns import assign_groups, select_grouping_columns

_INDEPENDENCE_NOTE = (
    "Intervals (95 %) take rows one by one; where rows of a day go together they are too narrow."
)


def estimate_mean(values: pd.Series, task: str) -> tuple[float, float, float]:
    """The mean with its 95 % interval: Wilson's for a share, Student's for a mean.

    Notes
    -----
    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927);
    Student, "The probable error of a mean", Biometrika 6 (1908). No rows give no mean, and one row,
    or rows without spread to go by, no interval of a mean.
    """
    known = values.dropna().to_numpy(dtype="float64")
    if len(known) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(known.mean())
    if task == "binary":
        held = scipy_stats.binomtest(int(known.sum()), len(known)).proportion_ci(method="wilson")
        return mean, float(held.low), float(held.high)
    if len(known) < 2:
        return mean, float("nan"), float("nan")
    half = float(scipy_stats.t.ppf(0.975, len(known) - 1) * known.std(ddof=1) / len(known) ** 0.5)
    return mean, mean - half, mean + half


def _name_target_statistic(config: ProjectConfig) -> str:
    """What the mean of the target is: a share of rows, or a mean."""
    return "share" if config.task == "binary" else "mean"


def _summarize_target_by_key(
    target: pd.Series, keys: pd.Series, config: ProjectConfig
) -> pd.DataFrame:
    """Rows and the mean of the target with its interval, for each key in order."""
    known = target.notna() & keys.notna()
    rows = [
        (k, len(part), *estimate_mean(part, config.task))
        for k, part in target[known].groupby(keys[known], sort=True, observed=True)
    ]
    return pd.DataFrame(
        rows, columns=[keys.name, "rows", _name_target_statistic(config), "low", "high"]
    )


def summarize_target_over_time(frame: pd.DataFrame, config: ProjectConfig) -> Table | Verdict:
    """The target's mean by day (up to four months), week (up to three years) or month.

    Periods are those of the project's time zone; rows without a label or a moment are left out.
    """
    title = f"How does {config.target} move with time?"
    if config.time is None:
        return Verdict(
            "target_over_time",
            title,
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.WARNS,
            "The table has no time column, so nothing moves with time.",
        )
    target = encode_target(frame, config)[0][config.target]
    moments = (
        pd.to_datetime(frame[config.time], utc=True, errors="coerce")
        .dt.tz_convert(config.timezone)
        .dt.tz_localize(None)
    )
    labelled = moments[target.notna()].dropna()
    if labelled.empty:
        return Verdict(
            "target_over_time",
            title,
            CheckOutcome.CANNOT_TELL,
            CheckSeverity.WARNS,
            f"No row has both a moment and a known {config.target}.",
        )
    days = (labelled.max() - labelled.min()).days
    word, code = (
        ("day", "D") if days <= 120 else ("week", "W") if days <= 3 * 366 else ("month", "M")
    )
    data = _summarize_target_by_key(
        target, moments.dt.to_period(code).dt.start_time.rename(word), config
    )
    what = _name_target_statistic(config)
    values = data[what].to_numpy()
    low, high = data.iloc[int(values.argmin())], data.iloc[int(values.argmax())]
    span = f"from {format_number(float(low[what]))} ({low[word]:%Y-%m-%d}) to {format_number(float(high[what]))} ({high[word]:%Y-%m-%d})"
    sentence = f"The {what} of {config.target} by {word} runs {span}, over {len(data)} {word}s; {format_number(float(target.mean()))} overall."
    return Table(
        title,
        sentence,
        data,
        _describe_target_unit(config),
        (_INDEPENDENCE_NOTE, "The first and the last period may be cut short."),
    )


def _describe_target_unit(config: ProjectConfig) -> dict[str, str]:
    """The unit of the target's mean."""
    return {
        _name_target_statistic(config): f"{config.target} among rows"
        if config.task == "binary"
        else config.target
    }


def summarize_target_by_group(
    frame: pd.DataFrame, config: ProjectConfig, columns: Sequence[str] | None = None
) -> Table:
    """The target's mean in the groups of some columns, each column's highest first.

    Parameters
    ----------
    columns : names, optional
        By default a few features with few values, then numbers cut into five quantile bins.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    chosen = select_grouping_columns(frame, config) if columns is None else list(columns)
    if absent := [c for c in chosen if c not in frame.columns]:
        raise KitError(
            f"the table has no column {absent[0]!r} to compare groups by",
            suggest_names(absent[0], frame.columns),
            "name columns of the table",
        )
    what, title = _name_target_statistic(config), f"Where is {config.target} high, where low?"
    target = encode_target(frame, config)[0][config.target]
    parts = [
        _summarize_target_by_key(target, assign_groups(frame[c]).rename("group"), config)
        .sort_values([what, "group"], ascending=[False, True])
        .assign(column=c)
        for c in chosen
    ]
    names = ["group", "column", "value", "rows", what, "low", "high"]
    if not any(len(p) for p in parts):
        return Table(
            title,
            "There are no groups to compare: no feature has few values, or no row has a label.",
            pd.DataFrame(columns=names),
            _describe_target_unit(config),
        )
    data = pd.concat([p for p in parts if len(p)], ignore_index=True).rename(
        columns={"group": "value"}
    )
    data = data.assign(group=data["column"] + " = " + data["value"])[names]
    mean = float(target.mean())
    clear = int(((data["low"] > mean) | (data["high"] < mean)).sum())
    values = data[what].to_numpy()
    top, low = data.iloc[int(values.argmax())], data.iloc[int(values.argmin())]
    ends = f"{top['group']} has the highest {what} of {config.target}, {format_number(float(top[what]))}; {low['group']} the lowest, {format_number(float(low[what]))}"
    return Table(
        title,
        f"{ends}. {clear} of {len(data)} groups lie clear of the {format_number(mean)} overall.",
        data,
        _describe_target_unit(config),
        (_INDEPENDENCE_NOTE,),
    )
