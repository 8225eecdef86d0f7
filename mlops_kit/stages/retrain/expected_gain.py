"""What a retraining is expected to gain, beside its cost."""

from __future__ import annotations

import math

from mlops_kit.core.formatting import format_money, format_number
from mlops_kit.core.results import Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stats.metrics import METRICS


def describe_expected_gain(
    realized: Table, decisions_per_day: float | None, config: ProjectConfig
) -> str:
    """Describe what a model that is as good as at its review would gain, and when it pays.

    Parameters
    ----------
    realized : Table
        Realized performance, beside the reference performance.
    decisions_per_day : float or None
        Rows that are scored per day.

    Returns
    -------
    str
        Empty without ``retrain.value_per_decision``, if it is not known how many rows are scored,
        or if realized performance has not dropped.
    """
    policy = config.retrain
    headline = config.headline_metric
    data = realized.data
    if policy.value_per_decision is None or not {"metric", "value", "reference"} <= set(data):
        return ""
    measured = data[data["metric"] == headline].dropna(subset=["value", "reference"])
    if measured.empty or not decisions_per_day:
        return ""
    metric = METRICS[headline]
    row = measured.iloc[0]
    drop = metric.compute_gain(float(row["reference"]), float(row["value"]))
    if drop <= 0:
        return ""
    unit = config.cost.unit
    gain_per_day = drop * policy.value_per_decision * decisions_per_day
    sentence = (
        f" Expected gain: {format_number(drop)} of {metric.title}, about "
        f"{format_money(gain_per_day, unit)} per day"
    )
    if policy.cost is None:
        return f"{sentence}."
    days = math.ceil(policy.cost / gain_per_day)
    period = "1 day" if days == 1 else f"{days:,} days"
    return (
        f"{sentence}; a retraining costs {format_money(policy.cost, unit)} and pays back after "
        f"{period}."
    )
