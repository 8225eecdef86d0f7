"""Realised performance: what the model did on the rows whose label has arrived, against what was promised.

The only proof that a model still works. Rows without a label yet are counted, never guessed at.
"""

from __future__ import annotations

import math

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.data import target
from mlops_kit.data.columns import format_local_days
from mlops_kit.project.config import root
from mlops_kit.stats import bootstrap, metrics

REALIZED_COLUMNS = ["metric", "value", "low", "high", "rows", "promised"]
_TITLE = "Realised performance"


def get_reference_performance(reviewed: Table, config: root.ProjectConfig) -> Interval | None:
    """What the review promised of the headline metric; None if it did not measure it."""
    found = reviewed.to_intervals().get(config.headline_metric)
    return found if found and found.value is not None else None


def _join_labels(
    scores: pd.DataFrame, labels: pd.DataFrame, config: root.ProjectConfig
) -> pd.DataFrame:
    """The scored rows with their labels as numbers; NaN where a label is not known yet.

    The target is coded on the whole source, so that a short window codes it as training did.
    """
    keys = config.id or ["row_id"]
    coded = target.encode_target(labels, config)[0][[*keys, config.target]]
    return scores.drop(columns=config.target, errors="ignore").merge(
        coded, on=keys, how="left", validate="m:1"
    )


def measure_realized_performance(
    scores: pd.DataFrame,
    labels: pd.DataFrame,
    config: root.ProjectConfig,
    promise: Interval | None,
    seed: int = 0,
) -> Table:
    """Measure the model on the scored rows whose label is known.

    Parameters
    ----------
    scores : DataFrame
        Scored rows with their keys, the time and ``score``.
    labels : DataFrame
        The source as known at the moment of looking: keys and target.
    promise : Interval or None
        What the review promised of the headline metric.

    Returns
    -------
    Table
        A row a metric, with bootstrap intervals in which whole days go together. No scored rows, or
        a table without time: no rows. No label yet, or one class: a row whose value is missing.
    """
    reason = (
        "the table has no time, so no label comes in later"
        if config.time is None
        else "no row was scored"
        if scores.empty
        else ""
    )
    if reason:
        return Table(_TITLE, f"Not applicable: {reason}.", pd.DataFrame(columns=REALIZED_COLUMNS))
    return measure_labeled_rows(_join_labels(scores, labels, config), config, promise, seed)


def measure_labeled_rows(
    rows: pd.DataFrame, config: root.ProjectConfig, promise: Interval | None, seed: int = 0
) -> Table:
    """As ``realised``, for scored rows that have their label beside them as a number, NaN where it is not known."""
    known = rows[rows[config.target].notna()]
    found = _compute_metric_intervals(known, config, seed)
    data = pd.DataFrame(
        [
            (
                n,
                i.value,
                i.low,
                i.high,
                len(known),
                promise.value if promise and n == config.headline_metric else None,
            )
            for n, i in found.items()
        ],
        columns=REALIZED_COLUMNS,
    )
    data = data.astype(dict.fromkeys(("value", "low", "high", "promised"), float))
    waiting = len(rows) - len(known)
    note = f"{format_number(waiting)} of {format_number(len(rows))} scored rows have no label yet; they are left out."
    return Table(
        _TITLE,
        _summarize_realized_performance(found[config.headline_metric], known, config, promise),
        data,
        notes=(note,),
    )


def _compute_metric_intervals(
    known: pd.DataFrame, config: root.ProjectConfig, seed: int
) -> dict[str, Interval]:
    """The headline, and the loss the model was fitted for, with intervals over whole days; values of None where nothing can be measured."""
    names = list(
        dict.fromkeys([config.headline_metric, "log_loss" if config.task == "binary" else "rmse"])
    )
    if known.empty or (config.task == "binary" and known[config.target].nunique() < 2):
        return {n: Interval(None) for n in names}
    return bootstrap.compute_metric_intervals(
        names,
        known[config.target].to_numpy(float),
        known["score"].to_numpy(float),
        blocks=format_local_days(known[config.time], config),
        draws=config.review.draws,
        seed=seed,
    )


def _summarize_realized_performance(
    headline: Interval, known: pd.DataFrame, config: root.ProjectConfig, promise: Interval | None
) -> str:
    """The take-away: what was realised, on how many rows, against what was promised."""
    if known.empty:
        return "Cannot tell: no scored row has its label yet."
    if headline.value is None or math.isnan(headline.value):
        return f"Cannot tell: the {len(known):,} labelled rows do not determine {metrics.METRICS[config.headline_metric].title} (one class, or a constant target)."
    against = (
        f"; the review promised {promise}"
        if promise
        else "; the review promised nothing to compare with"
    )
    return f"{metrics.METRICS[config.headline_metric].title} realised {headline} on {len(known):,} labelled rows{against}."


def measure_performance_by_day(
    scores: pd.DataFrame, labels: pd.DataFrame, config: root.ProjectConfig
) -> Table:
    """The headline metric day by day in the project's zone, for a line; days it cannot be measured on are left out.

    One day alone is noisy: the line shows a trend or a break, the interval of the whole decides.
    """
    columns, title = ["day", config.headline_metric, "rows"], "Realised performance by day"
    if scores.empty or config.time is None:
        return Table(title, "Not applicable: no row was scored.", pd.DataFrame(columns=columns))
    rows = _join_labels(scores, labels, config)
    known = rows[rows[config.target].notna()]
    found = [
        (
            pd.Timestamp(str(day)),
            metrics.compute_metric(
                config.headline_metric, g[config.target].to_numpy(float), g["score"].to_numpy(float)
            ),
            len(g),
        )
        for day, g in known.groupby(format_local_days(known[config.time], config))
    ]
    data = (
        pd.DataFrame(found, columns=columns)
        .dropna(subset=[config.headline_metric])
        .reset_index(drop=True)
    )
    if data.empty:
        return Table(title, "Cannot tell: there is no day with enough labels.", data)
    name, good = (
        metrics.METRICS[config.headline_metric].title,
        metrics.METRICS[config.headline_metric].greater_is_better,
    )
    worst = data.sort_values(config.headline_metric, ascending=good, kind="stable").iloc[0]
    return Table(
        title,
        f"The worst of {len(data)} days was {worst['day']:%Y-%m-%d}: {name} {format_number(float(worst[config.headline_metric]))} on {int(worst['rows']):,} rows.",
        data,
    )
