"""The few numbers that a decision on the model hangs on, and the sentence that closes the stage.

Each number has its interval below it and, where there is a champion, what that has on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from timeit import timeit
from typing import Any

from mlops_kit import metrics
from mlops_kit.config import Config
from mlops_kit.late import np, pd
from mlops_kit.results import (
    Interval,
    Number,
    Numbers,
    Table,
    Verdict,
    Verdicts,
    money,
    number,
    percent,
)
from mlops_kit.review.against import Contender, capital, less, priced
from mlops_kit.review.evidence import days
from mlops_kit.review.explain import evenly
from mlops_kit.tracking import answers

CALLS = 40  # single rows that the time of an answer is measured on


def spent(
    scores: pd.DataFrame, threshold: float, config: Config, seed: int = 0
) -> tuple[Interval, Interval]:
    """The mean cost of a row's decision, and how much less that is than by the cheaper blind rule.

    The blind rules flag every row or none; intervals are resampled by day where rows have a moment.
    """
    labelled = scores[scores[config.target].notna()]
    y, cost, blocks, draws = (
        labelled[config.target].to_numpy(dtype=float),
        config.cost,
        days(labelled, config),
        config.review.draws,
    )
    own = metrics.row_costs(y, labelled["score"], threshold, cost.false_alarm, cost.miss)
    blind = min(
        (
            metrics.row_costs(y, labelled["score"], t, cost.false_alarm, cost.miss)
            for t in (-np.inf, np.inf)
        ),
        key=lambda c: float(c.sum()),
    )
    ones = np.ones(len(y))
    return metrics.ratio(own, ones, blocks, draws, seed), metrics.ratio(
        blind - own, ones, blocks, draws, seed
    )


def caught(
    scores: pd.DataFrame, threshold: float, config: Config, seed: int = 0, draws: int | None = None
) -> Interval:
    """The share of flagged rows that deserve it (precision), with its interval."""
    labelled = scores[scores[config.target].notna()]
    flagged = (labelled["score"] >= threshold).to_numpy(dtype=float)
    return metrics.ratio(
        flagged * labelled[config.target].to_numpy(dtype=float),
        flagged,
        days(labelled, config),
        config.review.draws if draws is None else draws,
        seed,
    )


def between(found: Interval, told: Callable[[Any], str]) -> str:
    """The ends of an interval as a line below its number."""
    return (
        "no interval"
        if found.low is None or found.high is None
        else f"{told(found.low)} to {told(found.high)}, 95 % interval"
    )


def beside(other: Contender, told: Callable[[], str]) -> tuple[str, ...]:
    """What the champion has on the same rows, where there is one that may be compared."""
    return () if other.scores is None else (f"{other.name}: {told()}",)


def cost_number(
    rows: pd.DataFrame, mine: Contender, other: Contender, config: Config, seed: int
) -> tuple[Number, str]:
    """What a row costs with this model, and the sentence that says it."""
    unit = config.cost.unit
    cost, saved = spent(rows, mine.threshold or 0.0, config, seed)
    without = None if cost.value is None or saved.value is None else cost.value + saved.value
    told = partial(money, unit=unit)
    lines = (
        between(cost, told),
        f"without a model: {told(without)}",
        f"saved: {between(saved, told)}",
        *beside(other, lambda: told(mean_cost(rows, other, config))),
    )
    sentence = f"A {config.row} costs {told(cost.value)} with this model, {'as much as' if saved.value == 0 else f'{less(saved.value, told)} than'} without one."
    return Number(f"Cost a {config.row}", told(cost.value), lines), sentence


def mean_cost(rows: pd.DataFrame, other: Contender, config: Config) -> float | None:
    """What a row costs with the champion, at its own threshold."""
    labelled = rows[config.target].notna().to_numpy()
    if other.scores is None or other.threshold is None or not labelled.any():
        return None
    return float(
        metrics.row_costs(
            rows[config.target][labelled],
            other.scores[labelled],
            other.threshold,
            config.cost.false_alarm,
            config.cost.miss,
        ).mean()
    )


def flagged_number(
    rows: pd.DataFrame, mine: Contender, other: Contender, config: Config, seed: int
) -> Number:
    """The share of positives among the rows that are flagged."""

    def share(found: Interval) -> str:
        return percent(math.nan if found.value is None else found.value)

    right = caught(rows, mine.threshold or 0.0, config, seed)
    theirs = beside(
        other,
        lambda: share(
            caught(rows.assign(score=other.scores), other.threshold or 0.0, config, draws=0)
        ),
    )
    lines = (between(right, percent), f"flagged from a score of {number(mine.threshold)}", *theirs)
    return Number(f"{capital(config.target)} among flagged", share(right), lines)


def metric_number(
    name: str, rows: pd.DataFrame, quality: Table, other: Contender, config: Config
) -> Number:
    """A metric, as ``quality`` has it."""
    found = quality.intervals()[name]
    linear = float(quality.frame().set_index("metric")["baseline_linear"].get(name, math.nan))
    lines = (
        between(found, number),
        f"a linear model: {number(linear)}",
        *beside(other, lambda: number(metrics.value(name, rows[config.target], other.scores))),
    )
    return Number(capital(metrics.METRICS[name].title), number(found.value), lines)


def answer_times(
    one: Contender, rows: pd.DataFrame, config: Config, calls: int = CALLS
) -> tuple[float, float]:
    """How long a single row's answer takes: median and 99 % point, in milliseconds, after a call that warms up."""
    asked = [rows.iloc[[i]][list(one.columns)] for i in evenly(len(rows), calls + 1)]
    taken = [1000 * timeit(partial(answers, one.model, row, config), number=1) for row in asked]
    return (
        (float(np.median(taken[1:])), float(np.quantile(taken[1:], 0.99)))
        if len(taken) > 1
        else (math.nan, math.nan)
    )


def answer_number(rows: pd.DataFrame, mine: Contender, other: Contender, config: Config) -> Number:
    """How long one answer takes, on this machine."""

    def told(milliseconds: float) -> str:
        return (
            "unknown"
            if math.isnan(milliseconds)
            else f"{milliseconds:.{1 if milliseconds < 10 else 0}f} ms"
        )

    usual, slow = answer_times(mine, rows, config)
    return Number(
        "One answer takes",
        told(usual),
        (f"p99 {told(slow)}", *beside(other, lambda: told(answer_times(other, rows, config)[0]))),
    )


def numbers(
    rows: pd.DataFrame,
    quality: Table,
    mine: Contender,
    other: Contender,
    config: Config,
    seed: int = 0,
) -> Numbers:
    """Four numbers: what a row costs (or the headline metric), what is flagged, how good it is, how quick.

    Parameters
    ----------
    rows : DataFrame
        Judged rows with the columns of both models.
    quality : Table
        Of ``quality``.
    mine, other : Contender
        The model under review, and the champion.
    """
    names = iter(
        [config.headline, *(n for n in metrics.for_task(config.task) if n != config.headline)]
    )
    items, sentence = [], quality.sentence
    if priced(config, mine.threshold):
        first, sentence = cost_number(rows, mine, other, config, seed)
        items.append(first)
    else:
        items.append(metric_number(next(names), rows, quality, other, config))
    if mine.threshold is not None:
        items.append(flagged_number(rows, mine, other, config, seed))
    items += [
        metric_number(n, rows, quality, other, config)
        for n, _ in zip(names, range(3 - len(items)), strict=False)
    ]
    return Numbers(
        "What the decision hangs on", sentence, (*items, answer_number(rows, mine, other, config))
    )


def conclusion(found: Numbers, quality: Table, verdicts: Iterable[Verdict]) -> str:
    """The stage's sentence: what the model costs or how good it is, how it stands to the champion, what blocks it."""
    table = Verdicts.of(verdicts)
    said = (
        [found.sentence]
        if found.sentence == quality.sentence
        else [found.sentence, quality.sentence]
    )
    said += [
        v.sentence
        for v in table
        if v.check == "no_worse_than_champion" and v.outcome != "not applicable" and not v.blocks
    ]
    blocking = next((v.sentence for v in table if v.blocks), None)
    return " ".join([*said, f"What blocks it: {blocking}" if blocking else "Nothing blocks it."])
