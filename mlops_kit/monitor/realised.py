"""Realised performance: what the model did on the rows whose label has arrived, against what was promised.

The only proof that a model still works. Rows without a label yet are counted, never guessed at.
"""

from __future__ import annotations

import math

from mlops_kit import config as configs
from mlops_kit import features, metrics
from mlops_kit.late import np, pd
from mlops_kit.results import Interval, Table, number

COLUMNS = ["metric", "value", "low", "high", "rows", "promised"]
TITLE = "Realised performance"


def promised(reviewed: Table, config: configs.Config) -> Interval | None:
    """What the review promised of the headline metric; None if it did not measure it."""
    found = reviewed.intervals().get(config.headline)
    return found if found and found.value is not None else None


def joined(scores: pd.DataFrame, labels: pd.DataFrame, config: configs.Config) -> pd.DataFrame:
    """The scored rows with their labels as numbers; NaN where a label is not known yet.

    The target is coded on the whole source, so that a short window codes it as training did.
    """
    keys = config.id or ["row_id"]
    coded = features.encode(labels, config)[0][[*keys, config.target]]
    return scores.drop(columns=config.target, errors="ignore").merge(
        coded, on=keys, how="left", validate="m:1"
    )


def realised(
    scores: pd.DataFrame,
    labels: pd.DataFrame,
    config: configs.Config,
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
        return Table(TITLE, f"Not applicable: {reason}.", pd.DataFrame(columns=COLUMNS))
    return measured(joined(scores, labels, config), config, promise, seed)


def measured(
    rows: pd.DataFrame, config: configs.Config, promise: Interval | None, seed: int = 0
) -> Table:
    """As ``realised``, for scored rows that have their label beside them as a number, NaN where it is not known."""
    known = rows[rows[config.target].notna()]
    found = intervals(known, config, seed)
    data = pd.DataFrame(
        [
            (
                n,
                i.value,
                i.low,
                i.high,
                len(known),
                promise.value if promise and n == config.headline else None,
            )
            for n, i in found.items()
        ],
        columns=COLUMNS,
    )
    data = data.astype(dict.fromkeys(("value", "low", "high", "promised"), float))
    waiting = len(rows) - len(known)
    note = f"{number(waiting)} of {number(len(rows))} scored rows have no label yet; they are left out."
    return Table(
        TITLE, sentence(found[config.headline], known, config, promise), data, notes=(note,)
    )


def intervals(known: pd.DataFrame, config: configs.Config, seed: int) -> dict[str, Interval]:
    """The headline, and the loss the model was fitted for, with intervals over whole days; values of None where nothing can be measured."""
    names = list(
        dict.fromkeys([config.headline, "log_loss" if config.task == "binary" else "rmse"])
    )
    if known.empty or (config.task == "binary" and known[config.target].nunique() < 2):
        return {n: Interval(None) for n in names}
    return metrics.intervals(
        names,
        known[config.target].to_numpy(float),
        known["score"].to_numpy(float),
        blocks=days(known[config.time], config),
        draws=config.review.draws,
        seed=seed,
    )


def days(moments: pd.Series, config: configs.Config) -> np.ndarray:
    """The day of each moment, in the project's zone."""
    return np.asarray(moments.dt.tz_convert(config.timezone).dt.strftime("%Y-%m-%d"))


def sentence(
    headline: Interval, known: pd.DataFrame, config: configs.Config, promise: Interval | None
) -> str:
    """The take-away: what was realised, on how many rows, against what was promised."""
    if known.empty:
        return "Cannot tell: no scored row has its label yet."
    if headline.value is None or math.isnan(headline.value):
        return f"Cannot tell: the {len(known):,} labelled rows do not determine {metrics.METRICS[config.headline].title} (one class, or a constant target)."
    against = (
        f"; the review promised {promise}"
        if promise
        else "; the review promised nothing to compare with"
    )
    return f"{metrics.METRICS[config.headline].title} realised {headline} on {len(known):,} labelled rows{against}."


def by_day(scores: pd.DataFrame, labels: pd.DataFrame, config: configs.Config) -> Table:
    """The headline metric day by day in the project's zone, for a line; days it cannot be measured on are left out.

    One day alone is noisy: the line shows a trend or a break, the interval of the whole decides.
    """
    columns, title = ["day", config.headline, "rows"], "Realised performance by day"
    if scores.empty or config.time is None:
        return Table(title, "Not applicable: no row was scored.", pd.DataFrame(columns=columns))
    rows = joined(scores, labels, config)
    known = rows[rows[config.target].notna()]
    found = [
        (
            pd.Timestamp(str(day)),
            metrics.value(
                config.headline, g[config.target].to_numpy(float), g["score"].to_numpy(float)
            ),
            len(g),
        )
        for day, g in known.groupby(days(known[config.time], config))
    ]
    data = (
        pd.DataFrame(found, columns=columns).dropna(subset=[config.headline]).reset_index(drop=True)
    )
    if data.empty:
        return Table(title, "Cannot tell: there is no day with enough labels.", data)
    name, good = (
        metrics.METRICS[config.headline].title,
        metrics.METRICS[config.headline].greater_is_better,
    )
    worst = data.sort_values(config.headline, ascending=good, kind="stable").iloc[0]
    return Table(
        title,
        f"The worst of {len(data)} days was {worst['day']:%Y-%m-%d}: {name} {number(float(worst[config.headline]))} on {int(worst['rows']):,} rows.",
        data,
    )
