"""Incomplete recoveries: a champion that was made during a change stays below an earlier version.

The labels that a retraining finds during a change are of the transition. The reference performance
of the version that it makes is as low as the transition was, so that version never drops below it,
and nothing would ask whether a model of the rows since is better. While the champion performs below
the limit of an earlier version, a retraining is due once ``retrain.min_labels`` rows were labeled
since its cut-off, and after each attempt once twice as many were: where the world has become less
predictable for good, the number of attempts grows with the logarithm of the number of labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import Table
from mlops_kit.db import approvals
from mlops_kit.db.operator_decisions import find_accepted_reference, list_earlier_versions
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.limits import compute_bound
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stats.metrics import METRICS
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.records import WindowPerformance
from mlops_kit.watch.retraining import count_new_labels, count_retrainings_since


def count_required_labels(min_labels: int, attempts: int) -> int:
    """Count the labels since the model's cut-off that another attempt needs.

    Parameters
    ----------
    min_labels : int
        As ``retrain.min_labels``.
    attempts : int
        Retrainings since the cut-off.

    Examples
    --------
    >>> [count_required_labels(500, attempts) for attempts in range(4)]
    [500, 1000, 2000, 4000]
    """
    return min_labels << attempts


def describe_incomplete_recovery(
    realized: Table,
    earlier_references: Mapping[str, ReferencePerformance],
    config: ProjectConfig,
) -> str:
    """Describe that a champion performs below the limit of the best earlier version.

    Parameters
    ----------
    realized : Table
        Realized performance of the champion in a window.
    earlier_references : mapping of str to ReferencePerformance
        The reference performance of the versions that were in service before, by version.
    config : ProjectConfig
        The project's settings.

    Returns
    -------
    str
        Empty unless the whole interval is beyond the limit.
    """
    metric = METRICS[config.headline_metric]
    interval = realized.to_intervals().get(config.headline_metric)
    if interval is None or interval.low is None or interval.high is None:
        return ""
    best = ""
    best_value = None
    for version, reference in earlier_references.items():
        if reference.value is None:
            continue
        if best_value is None or metric.compute_gain(reference.value, best_value) > 0:
            best = version
            best_value = reference.value
    if best_value is None:
        return ""
    limit = compute_bound(config.monitor.max_drop, metric, earlier_references[best])
    better_end = interval.high if metric.greater_is_better else interval.low
    if limit is None or metric.compute_gain(better_end, limit) >= 0:
        return ""
    return (
        f"The recovery from an earlier change is not complete: realized {metric.title} {interval}, "
        f"while version {best}, which was in service before, has a reference performance of "
        f"{format_number(best_value)}."
    )


def find_incomplete_recovery(
    context: WatchContext, performance: WindowPerformance, as_of: datetime
) -> str:
    """Find why another retraining may complete the recovery of the champion; empty if none may.

    Parameters
    ----------
    context : WatchContext
        The watched project.
    performance : WindowPerformance
        What the labels of a window of the champion show.
    as_of : datetime
        The time of the pass.
    """
    config = context.config
    champion = context.get_champion().version
    if find_accepted_reference(context.project, champion.version) is not None:
        return ""  # a person has accepted the performance as it is
    promotions = approvals.list_promotions(context.project)
    attempts = count_retrainings_since(context, datetime.fromisoformat(champion.as_of), as_of)
    labels = count_new_labels(context)
    if labels < count_required_labels(config.retrain.min_labels, attempts):
        return ""
    references = {}
    for name in list_earlier_versions(promotions):
        try:
            reference = context.get_reference(name).performance
        except RunFailedError:  # its run is gone
            continue
        if reference is not None:
            references[name] = reference
    sentence = describe_incomplete_recovery(performance.realized, references, config)
    if not sentence:
        return ""
    return f"{sentence} {format_number(labels)} rows were labeled since the cut-off."
