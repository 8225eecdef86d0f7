"""The few numbers that a decision on the model hangs on, and the sentence that closes the stage.

Each number has its interval below it and, where there is a champion, what that has on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from timeit import timeit
from typing import Any

from mlops_kit.core.formatting import capitalize_first, format_money, format_number, format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval, KeyNumber, KeyNumbers, Table, Verdict, Verdicts
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stages.review.champion_comparison import (
    ScoredModel,
    describe_reduction,
    has_decision_cost,
)
from mlops_kit.stages.review.decision_costs import compute_decision_cost, compute_flagged_precision
from mlops_kit.stages.review.what_if import get_evenly_spaced_positions
from mlops_kit.stats import metrics, thresholds

_TIMED_CALLS = 40  # single rows that the time of an answer is measured on


def _format_interval_range(found: Interval, told: Callable[[Any], str]) -> str:
    """The ends of an interval as a line below its number."""
    return (
        "no interval"
        if found.low is None or found.high is None
        else f"{told(found.low)} to {told(found.high)}, 95 % interval"
    )


def _describe_champion_value(other: ScoredModel, told: Callable[[], str]) -> tuple[str, ...]:
    """What the champion has on the same rows, where there is one that may be compared."""
    return () if other.scores is None else (f"{other.name}: {told()}",)


def _make_cost_number(
    rows: pd.DataFrame, mine: ScoredModel, other: ScoredModel, config: ProjectConfig, seed: int
) -> tuple[KeyNumber, str]:
    """What a row costs with this model, and the sentence that says it."""
    unit = config.cost.unit
    cost, saved = compute_decision_cost(rows, mine.threshold or 0.0, config, seed)
    without = None if cost.value is None or saved.value is None else cost.value + saved.value
    told = partial(format_money, unit=unit)
    lines = (
        _format_interval_range(cost, told),
        f"without a model: {told(without)}",
        f"saved: {_format_interval_range(saved, told)}",
        *_describe_champion_value(other, lambda: told(_compute_champion_cost(rows, other, config))),
    )
    sentence = f"A {config.row_name} costs {told(cost.value)} with this model, {'as much as' if saved.value == 0 else f'{describe_reduction(saved.value, told)} than'} without one."
    return KeyNumber(f"Cost a {config.row_name}", told(cost.value), lines), sentence


def _compute_champion_cost(
    rows: pd.DataFrame, other: ScoredModel, config: ProjectConfig
) -> float | None:
    """What a row costs with the champion, at its own threshold."""
    labelled = rows[config.target].notna().to_numpy()
    if other.scores is None or other.threshold is None or not labelled.any():
        return None
    return float(
        thresholds.compute_row_costs(
            rows[config.target][labelled],
            other.scores[labelled],
            other.threshold,
            config.cost.false_alarm,
            config.cost.miss,
        ).mean()
    )


def _make_precision_number(
    rows: pd.DataFrame, mine: ScoredModel, other: ScoredModel, config: ProjectConfig, seed: int
) -> KeyNumber:
    """The share of positives among the rows that are flagged."""

    def share(found: Interval) -> str:
        return format_percent(math.nan if found.value is None else found.value)

    right = compute_flagged_precision(rows, mine.threshold or 0.0, config, seed)
    theirs = _describe_champion_value(
        other,
        lambda: share(
            compute_flagged_precision(
                rows.assign(score=other.scores), other.threshold or 0.0, config, draws=0
            )
        ),
    )
    lines = (
        _format_interval_range(right, format_percent),
        f"flagged from a score of {format_number(mine.threshold)}",
        *theirs,
    )
    return KeyNumber(f"{capitalize_first(config.target)} among flagged", share(right), lines)


def _make_metric_number(
    name: str, rows: pd.DataFrame, quality: Table, other: ScoredModel, config: ProjectConfig
) -> KeyNumber:
    """A metric, as ``quality`` has it."""
    found = quality.to_intervals()[name]
    linear = float(quality.to_frame().set_index("metric")["baseline_linear"].get(name, math.nan))
    lines = (
        _format_interval_range(found, format_number),
        f"a linear model: {format_number(linear)}",
        *_describe_champion_value(
            other,
            lambda: format_number(metrics.compute_metric(name, rows[config.target], other.scores)),
        ),
    )
    return KeyNumber(
        capitalize_first(metrics.METRICS[name].title), format_number(found.value), lines
    )


def measure_response_times(
    one: ScoredModel, rows: pd.DataFrame, config: ProjectConfig, calls: int = _TIMED_CALLS
) -> tuple[float, float]:
    """How long a single row's answer takes: median and 99 % point, in milliseconds, after a call that warms up."""
    asked = [
        rows.iloc[[i]][list(one.feature_names)]
        for i in get_evenly_spaced_positions(len(rows), calls + 1)
    ]
    taken = [
        1000 * timeit(partial(predict_scores, one.model, row, config), number=1) for row in asked
    ]
    return (
        (float(np.median(taken[1:])), float(np.quantile(taken[1:], 0.99)))
        if len(taken) > 1
        else (math.nan, math.nan)
    )


def _make_response_time_number(
    rows: pd.DataFrame, mine: ScoredModel, other: ScoredModel, config: ProjectConfig
) -> KeyNumber:
    """How long one answer takes, on this machine."""

    def told(milliseconds: float) -> str:
        return (
            "unknown"
            if math.isnan(milliseconds)
            else f"{milliseconds:.{1 if milliseconds < 10 else 0}f} ms"
        )

    usual, slow = measure_response_times(mine, rows, config)
    return KeyNumber(
        "One answer takes",
        told(usual),
        (
            f"p99 {told(slow)}",
            *_describe_champion_value(
                other, lambda: told(measure_response_times(other, rows, config)[0])
            ),
        ),
    )


def summarize_key_numbers(
    rows: pd.DataFrame,
    quality: Table,
    mine: ScoredModel,
    other: ScoredModel,
    config: ProjectConfig,
    seed: int = 0,
) -> KeyNumbers:
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
        [
            config.headline_metric,
            *(n for n in metrics.list_task_metrics(config.task) if n != config.headline_metric),
        ]
    )
    items, sentence = [], quality.sentence
    if has_decision_cost(config, mine.threshold):
        first, sentence = _make_cost_number(rows, mine, other, config, seed)
        items.append(first)
    else:
        items.append(_make_metric_number(next(names), rows, quality, other, config))
    if mine.threshold is not None:
        items.append(_make_precision_number(rows, mine, other, config, seed))
    items += [
        _make_metric_number(n, rows, quality, other, config)
        for n, _ in zip(names, range(3 - len(items)), strict=False)
    ]
    return KeyNumbers(
        "What the decision hangs on",
        sentence,
        (*items, _make_response_time_number(rows, mine, other, config)),
    )


def summarize_review(found: KeyNumbers, quality: Table, verdicts: Iterable[Verdict]) -> str:
    """The stage's sentence: what the model costs or how good it is, how it stands to the champion, what blocks it."""
    table = Verdicts.from_verdicts(verdicts)
    said = (
        [found.sentence]
        if found.sentence == quality.sentence
        else [found.sentence, quality.sentence]
    )
    said += [
        v.sentence
        for v in table
        if v.check == "no_worse_than_champion"
        and v.outcome != "not applicable"
        and not v.is_blocking
    ]
    blocking = next((v.sentence for v in table if v.is_blocking), None)
    return " ".join([*said, f"What blocks it: {blocking}" if blocking else "Nothing blocks it."])
