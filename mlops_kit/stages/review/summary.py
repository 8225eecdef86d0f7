"""The key numbers of a review, and the sentence that closes the stage.

Each number has its interval below it and, where there is a champion, the champion's value on the
same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from timeit import timeit
from typing import Any, NamedTuple

from mlops_kit.core.formatting import capitalize_first, format_money, format_number, format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import (
    CheckOutcome,
    Interval,
    KeyNumber,
    KeyNumbers,
    Table,
    Verdict,
    Verdicts,
)
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stages.review.champion_comparison import (
    ScoredModel,
    describe_reduction,
    has_decision_cost,
)
from mlops_kit.stages.review.decision_costs import compute_decision_cost, compute_flagged_precision
from mlops_kit.stages.review.stored_tables import COST_KEY, PRECISION_KEY, RESPONSE_TIME_KEY
from mlops_kit.stages.review.what_if import get_evenly_spaced_positions
from mlops_kit.stats import metrics, thresholds

_TIMED_CALLS = 40  # single rows on which the response time is measured
_KEY_NUMBERS_BEFORE_TIME = 3


class _ReviewedModels(NamedTuple):
    """The held-out rows and both models, from which the key numbers are made."""

    rows: pd.DataFrame
    challenger: ScoredModel
    champion: ScoredModel
    config: ProjectConfig
    seed: int


def _format_interval_range(interval: Interval, format_value: Callable[[Any], str]) -> str:
    """Format the ends of an interval as a line below its number."""
    if interval.low is None or interval.high is None:
        return "no interval"
    return f"{format_value(interval.low)} to {format_value(interval.high)}, 95% interval"


def _make_number(
    key: str,
    title: str,
    value: str,
    details: list[str],
    champion: ScoredModel,
    make_champion_text: Callable[[ScoredModel], str],
) -> KeyNumber:
    """Make a key number, with the value of a comparable champion on the same rows."""
    if champion.scores is None:
        return KeyNumber(title, value, tuple(details), key)
    champion_value = make_champion_text(champion)
    all_details = (*details, f"{champion.name}: {champion_value}")
    return KeyNumber(title, value, all_details, key, champion_value)


def _make_cost_number(models: _ReviewedModels) -> tuple[KeyNumber, str]:
    """Make the number of the cost per row, and the sentence that words it."""
    config = models.config
    format_cost = partial(format_money, unit=config.cost.unit)
    cost, saving = compute_decision_cost(
        models.rows, models.challenger.threshold or 0.0, config, models.seed
    )
    cost_without_model = None
    if cost.value is not None and saving.value is not None:
        cost_without_model = cost.value + saving.value

    def describe_champion_cost(champion: ScoredModel) -> str:
        return format_cost(_compute_champion_cost(models.rows, champion, config))

    details = [
        _format_interval_range(cost, format_cost),
        f"without a model: {format_cost(cost_without_model)}",
        f"saved: {_format_interval_range(saving, format_cost)}",
    ]
    comparison = "as much as without one"
    if saving.value != 0:
        comparison = f"{describe_reduction(saving.value, format_cost)} than without one"
    sentence = (
        f"Errors cost {format_cost(cost.value)} per {config.row_name} with this model, "
        f"{comparison}."
    )
    title = f"Cost per {config.row_name}"
    value = format_cost(cost.value)
    number = _make_number(COST_KEY, title, value, details, models.champion, describe_champion_cost)
    return number, sentence


def _compute_champion_cost(
    rows: pd.DataFrame, champion: ScoredModel, config: ProjectConfig
) -> float | None:
    """Compute the mean cost per row of the champion at its own threshold."""
    is_labeled = rows[config.target].notna().to_numpy()
    if champion.scores is None or champion.threshold is None or not is_labeled.any():
        return None
    row_costs = thresholds.compute_row_costs(
        rows[config.target][is_labeled],
        champion.scores[is_labeled],
        champion.threshold,
        config.cost.false_alarm,
        config.cost.miss,
    )
    weights = get_row_weights(rows[is_labeled], config)
    return float(np.average(row_costs, weights=weights))


def _make_precision_number(models: _ReviewedModels) -> KeyNumber:
    """Make the number of the share of positives among the flagged rows."""
    config = models.config

    def format_share(interval: Interval) -> str:
        return format_percent(math.nan if interval.value is None else interval.value)

    def describe_champion_precision(champion: ScoredModel) -> str:
        champion_rows = models.rows.assign(score=champion.scores)
        threshold = champion.threshold or 0.0
        return format_share(compute_flagged_precision(champion_rows, threshold, config, draws=0))

    precision = compute_flagged_precision(
        models.rows, models.challenger.threshold or 0.0, config, models.seed
    )
    details = [
        _format_interval_range(precision, format_percent),
        f"flagged from a score of {format_number(models.challenger.threshold)}",
    ]
    title = f"{capitalize_first(config.event or config.target)} among flagged"
    value = format_share(precision)
    return _make_number(
        PRECISION_KEY, title, value, details, models.champion, describe_champion_precision
    )


def _make_metric_number(name: str, quality: Table, models: _ReviewedModels) -> KeyNumber:
    """Make the number of a metric that `evaluate_performance` measured."""
    measured = quality.to_intervals()[name]
    linear_values = quality.to_frame().set_index("metric")["baseline_linear"]
    linear_value = float(linear_values.get(name, math.nan))
    labels = models.rows[models.config.target]
    weights = get_row_weights(models.rows, models.config)

    def describe_champion_metric(champion: ScoredModel) -> str:
        value = metrics.compute_metric(name, labels, champion.scores, weights=weights)
        return format_number(value)

    details = [
        _format_interval_range(measured, format_number),
        f"a linear model: {format_number(linear_value)}",
    ]
    title = capitalize_first(metrics.METRICS[name].title)
    value = format_number(measured.value)
    return _make_number(name, title, value, details, models.champion, describe_champion_metric)


def measure_response_times(
    scored_model: ScoredModel,
    rows: pd.DataFrame,
    config: ProjectConfig,
    calls: int = _TIMED_CALLS,
) -> tuple[float, float]:
    """Measure how long scoring a single row takes, after one call that warms up.

    Returns
    -------
    tuple of float
        Median and 99th percentile in milliseconds; NaN if there are no rows.
    """
    milliseconds = []
    for position in get_evenly_spaced_positions(len(rows), calls + 1):
        row = rows.iloc[[position]][list(scored_model.feature_names)]
        seconds = timeit(partial(predict_scores, scored_model.model, row, config), number=1)
        milliseconds.append(1000 * seconds)
    timed = milliseconds[1:]
    if not timed:
        return math.nan, math.nan
    return float(np.median(timed)), float(np.quantile(timed, 0.99))


def _make_response_time_number(models: _ReviewedModels) -> KeyNumber:
    """Make the number of the response time on this machine."""

    def format_milliseconds(milliseconds: float) -> str:
        if math.isnan(milliseconds):
            return "unknown"
        digits = 1 if milliseconds < 10 else 0
        return f"{milliseconds:.{digits}f} ms"

    def describe_champion_time(champion: ScoredModel) -> str:
        champion_median, _ = measure_response_times(champion, models.rows, models.config)
        return format_milliseconds(champion_median)

    median, percentile_99 = measure_response_times(models.challenger, models.rows, models.config)
    details = [f"p99 {format_milliseconds(percentile_99)}"]
    value = format_milliseconds(median)
    return _make_number(
        RESPONSE_TIME_KEY,
        "Response time",
        value,
        details,
        models.champion,
        describe_champion_time,
    )


def summarize_key_numbers(
    rows: pd.DataFrame,
    quality: Table,
    challenger: ScoredModel,
    champion: ScoredModel,
    config: ProjectConfig,
    seed: int = 0,
) -> KeyNumbers:
    """Make four key numbers: cost (or the headline metric), precision, performance, response time.

    Parameters
    ----------
    rows : DataFrame
        Held-out rows with the columns of both models.
    quality : Table
        Result of `evaluate_performance`.
    challenger, champion : ScoredModel
        The model under review, and the champion.
    """
    rows = to_pandas(rows)
    models = _ReviewedModels(rows, challenger, champion, config, seed)
    metric_names = [config.headline_metric]
    for name in metrics.list_task_metrics(config.task):
        if name != config.headline_metric:
            metric_names.append(name)
    if has_decision_cost(config, challenger.threshold):
        first_number, sentence = _make_cost_number(models)
    else:
        first_number = _make_metric_number(metric_names.pop(0), quality, models)
        sentence = quality.sentence
    items = [first_number]
    if challenger.threshold is not None:
        items.append(_make_precision_number(models))
    for name in metric_names[: _KEY_NUMBERS_BEFORE_TIME - len(items)]:
        items.append(_make_metric_number(name, quality, models))
    items.append(_make_response_time_number(models))
    return KeyNumbers("Key numbers", sentence, tuple(items))


def summarize_review(numbers: KeyNumbers, quality: Table, verdicts: Iterable[Verdict]) -> str:
    """Summarize the stage: cost or performance, the champion, and the worst finding.

    The worst finding is what blocks the version; if nothing does, the most serious check that did
    not pass.
    """
    all_verdicts = Verdicts.from_verdicts(verdicts)
    sentences = [numbers.sentence]
    if quality.sentence != numbers.sentence:
        sentences.append(quality.sentence)
    blocking_sentences = []
    for verdict in all_verdicts:
        if verdict.is_blocking:
            blocking_sentences.append(verdict.sentence)
        elif (
            verdict.check == "no_worse_than_champion"
            and verdict.outcome != CheckOutcome.NOT_APPLICABLE
        ):
            sentences.append(verdict.sentence)
    reservations = [
        verdict.sentence
        for verdict in all_verdicts.reservations
        if verdict.sentence not in sentences
    ]
    if blocking_sentences:
        sentences.append(f"Blocked by: {blocking_sentences[0]}")
    elif reservations:
        sentences.append(f"No check blocks it, with reservations: {reservations[0]}")
    else:
        sentences.append("No check blocks it.")
    return " ".join(sentences)
