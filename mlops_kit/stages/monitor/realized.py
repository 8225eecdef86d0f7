"""Realized performance: how the model did on the scored rows whose label has arrived.

Only labels prove that a model still works. Rows without a label are counted, never estimated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.core.tasks import TASKS, to_score_array
from mlops_kit.data.columns import ROW_ID, format_local_days
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.data.target import encode_target
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.limits import compute_bound
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stats.bootstrap import bind_threshold, compute_function_intervals
from mlops_kit.stats.metrics import METRICS, compute_metric

REALIZED_COLUMNS = ["metric", "value", "low", "high", "rows", "reference", "limit"]
_TITLE = "Realized performance"
_TITLE_BY_DAY = "Realized performance by day"


def _join_labels(
    scores: pd.DataFrame,
    source_rows: pd.DataFrame,
    config: ProjectConfig,
    classes: Sequence[Any],
) -> pd.DataFrame:
    """Join the scored rows with their labels as numbers; NaN where a label is not known yet.

    The group and the weight of a row, where the project has them, are those of the source too.
    The target is encoded on the whole source, so that a short window is encoded as in training.
    """
    keys = config.id or [ROW_ID]
    encoded, _ = encode_target(source_rows, config, classes)
    roles = [config.target, config.validation.group, config.weight]
    label_columns = [name for name in roles if name in encoded and name not in keys]
    without_target = scores.drop(columns=label_columns, errors="ignore")
    is_repeated = encoded.duplicated(keys)
    if is_repeated.any():
        key = encoded.loc[is_repeated, keys].iloc[0].to_dict()
        raise RunFailedError(
            f"{int(is_repeated.sum()):,} labels have the key of another row, such as {key}",
            f"one row in the source for each key ({', '.join(keys)})",
            "remove the duplicates from the source, or correct 'id' in mlops.yaml",
        )
    return without_target.merge(
        encoded[[*keys, *label_columns]],
        on=keys,
        how="left",
        validate="m:1",
    )


def measure_realized_performance(
    scores: pd.DataFrame,
    source_rows: pd.DataFrame,
    config: ProjectConfig,
    reference: Interval | None,
    seed: int = 0,
    classes: Sequence[Any] = (),
) -> Table:
    """Measure the model on the scored rows whose label is known.

    Parameters
    ----------
    scores : DataFrame
        Scored rows with their keys, the time and ``score``.
    source_rows : DataFrame
        The source as known when the rows are evaluated: keys and target.
    reference : Interval or None
        The reference performance.
    classes : sequence
        The classes with which the model was trained, in the order of their codes; empty: those of
        the source.

    Returns
    -------
    Table
        One row per metric, with bootstrap intervals that draw whole days. Without scored rows, or
        for a table without time, it has no rows. Without labels, or with one class, the value is
        missing.
    """
    scores = to_pandas(scores)
    source_rows = to_pandas(source_rows)
    if config.time is None:
        reason = "the table has no time column, so no labels arrive later"
    elif scores.empty:
        reason = "no rows were scored"
    else:
        return measure_labeled_rows(
            _join_labels(scores, source_rows, config, classes),
            config,
            reference,
            seed,
        )
    return Table(_TITLE, f"Not applicable: {reason}.", pd.DataFrame(columns=REALIZED_COLUMNS))


def measure_labeled_rows(
    rows: pd.DataFrame,
    config: ProjectConfig,
    reference: Interval | None,
    seed: int = 0,
) -> Table:
    """Measure the model on scored rows whose label is a number, NaN where it is not known.

    Returns
    -------
    Table
        As of ``measure_realized_performance``.
    """
    labeled = rows[rows[config.target].notna()]
    threshold = reference.threshold if isinstance(reference, ReferencePerformance) else None
    intervals = _compute_metric_intervals(labeled, config, seed, threshold)
    table_rows = []
    for name, interval in intervals.items():
        reference_value = None
        limit = None
        if reference is not None and name == config.headline_metric:
            reference_value = reference.value
            limit = compute_bound(config.monitor.max_drop, METRICS[name], reference)
        table_rows.append(
            (
                name,
                interval.value,
                interval.low,
                interval.high,
                len(labeled),
                reference_value,
                limit,
            )
        )
    data = pd.DataFrame(table_rows, columns=REALIZED_COLUMNS)
    data = data.astype(dict.fromkeys(("value", "low", "high", "reference", "limit"), float))
    unlabeled = len(rows) - len(labeled)
    notes = [
        f"{format_number(unlabeled)} of {format_number(len(rows))} scored rows have no label yet; "
        "they are left out."
    ]
    if isinstance(reference, ReferencePerformance) and threshold is not None:
        notes.append(reference.describe_threshold())
    headline = intervals[config.headline_metric]
    sentence = _summarize_realized_performance(headline, len(labeled), config, reference)
    return Table(_TITLE, sentence, data, notes=tuple(notes))


def _compute_metric_intervals(
    labeled: pd.DataFrame,
    config: ProjectConfig,
    seed: int,
    threshold: float | None,
) -> dict[str, Interval]:
    """Compute the headline metric and the training loss, with intervals that draw days or groups.

    The values are None where nothing can be measured.
    """
    names = list(dict.fromkeys([config.headline_metric, TASKS[config.task].loss_metric]))
    has_one_class = config.task == "binary" and labeled[config.target].nunique() < 2
    if labeled.empty or has_one_class:
        return dict.fromkeys(names, Interval(None))
    return compute_function_intervals(
        bind_threshold(names, threshold),
        labeled[config.target].to_numpy(float),
        to_score_array(labeled["score"]),
        blocks=get_sampling_design(labeled, config),
        draws=config.review.draws,
        seed=seed,
    )


def _summarize_realized_performance(
    headline: Interval,
    labeled_rows: int,
    config: ProjectConfig,
    reference: Interval | None,
) -> str:
    """Summarize what was realized, on how many rows, beside the reference performance."""
    title = METRICS[config.headline_metric].title
    if not labeled_rows:
        return "Cannot tell: no scored row has a label yet."
    if headline.value is None or math.isnan(headline.value):
        return (
            f"Cannot tell: the {labeled_rows:,} labeled rows do not determine {title} "
            "(one class, or a constant target)."
        )
    comparison = "there is no reference performance"
    if reference is not None:
        comparison = f"reference performance {reference}"
    return f"Realized {title} {headline} on {labeled_rows:,} labeled rows; {comparison}."


def measure_performance_by_day(
    scores: pd.DataFrame,
    source_rows: pd.DataFrame,
    config: ProjectConfig,
    classes: Sequence[Any] = (),
    threshold: float | None = None,
) -> Table:
    """Measure the headline metric by day, in the project's time zone.

    A single day is noisy: the line shows a trend or a break, the interval over all days decides.
    Days on which the metric cannot be computed are left out. Rows count as predicted positive from
    the decision threshold on, or from a score of 0.5 on if there is none.
    """
    scores = to_pandas(scores)
    source_rows = to_pandas(source_rows)
    headline = config.headline_metric
    columns = ["day", headline, "rows"]
    if scores.empty or config.time is None:
        return Table(
            _TITLE_BY_DAY,
            "Not applicable: no rows were scored.",
            pd.DataFrame(columns=columns),
        )
    rows = _join_labels(scores, source_rows, config, classes)
    labeled = rows[rows[config.target].notna()]
    days = format_local_days(labeled[config.time], config)
    table_rows = []
    for day, day_rows in labeled.groupby(days):
        value = compute_metric(
            headline,
            day_rows[config.target].to_numpy(float),
            to_score_array(day_rows["score"]),
            threshold,
            weights=get_row_weights(day_rows, config),
        )
        table_rows.append((pd.Timestamp(str(day)), value, len(day_rows)))
    data = pd.DataFrame(table_rows, columns=columns)
    data = data.dropna(subset=[headline]).reset_index(drop=True)
    if data.empty:
        return Table(_TITLE_BY_DAY, "Cannot tell: no day has enough labels.", data)
    metric = METRICS[headline]
    worst = data.sort_values(headline, ascending=metric.greater_is_better, kind="stable").iloc[0]
    sentence = (
        f"The worst of {len(data)} days was {worst['day']:%Y-%m-%d}: {metric.title} "
        f"{format_number(float(worst[headline]))} on {int(worst['rows']):,} rows."
    )
    return Table(_TITLE_BY_DAY, sentence, data)
