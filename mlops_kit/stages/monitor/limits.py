"""How much of the headline metric may be lost before it counts as a performance drop.

``monitor.max_drop`` is a share of what the model achieves, such as ``10%``, or an absolute number.
A share is taken of the metric's scale: the distance from a model without skill (``NoSkill``), or of
an error or a loss its own size. It is never below the noise of the reference, which is the distance
from its value to the worse end of its interval.
"""

from __future__ import annotations

from mlops_kit.core.results import Interval
from mlops_kit.project.config.value_types import parse_percentage
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stats.metrics import Metric


def compute_max_drop(
    setting: float | str,
    metric: Metric,
    reference: Interval,
) -> float:
    """Compute the largest drop below the reference performance that is accepted.

    Parameters
    ----------
    setting : float or str
        ``monitor.max_drop``: an absolute number, or a share such as ``10%``.
    metric : Metric
        The headline metric.
    reference : Interval
        The reference performance; without ends, its noise is not known and does not count. A
        ``ReferencePerformance`` has the value of a model without skill on the same rows.

    Examples
    --------
    >>> from mlops_kit.stats.metrics import METRICS
    >>> compute_max_drop("10%", METRICS["mae"], Interval(846.0, 800.0, 890.0))
    84.60000000000001
    >>> round(compute_max_drop("10%", METRICS["roc_auc"], Interval(0.75, 0.71, 0.79)), 3)
    0.04
    >>> compute_max_drop(0.03, METRICS["roc_auc"], Interval(0.75, 0.71, 0.79))
    0.03
    """
    if not isinstance(setting, str):
        return setting
    if reference.value is None:
        return 0.0
    no_skill = None
    if isinstance(reference, ReferencePerformance):
        no_skill = reference.no_skill
    share = parse_percentage(setting) * metric.compute_scale(reference.value, no_skill)
    worse_end = reference.low if metric.greater_is_better else reference.high
    if worse_end is None:
        return share
    return max(share, abs(reference.value - worse_end))


def compute_bound(
    setting: float | str,
    metric: Metric,
    reference: Interval,
) -> float | None:
    """Compute the worst value of a metric that is still accepted; None without a reference."""
    if reference.value is None:
        return None
    max_drop = compute_max_drop(setting, metric, reference)
    if metric.greater_is_better:
        return reference.value - max_drop
    return reference.value + max_drop


def describe_max_drop(setting: float | str) -> str:
    """Describe the setting, as the end of "a performance drop of more than …".

    >>> describe_max_drop("10%")
    "10% of the reference's skill or loss, and larger than its uncertainty"
    """
    if isinstance(setting, str):
        return f"{setting} of the reference's skill or loss, and larger than its uncertainty"
    return f"{setting:g}"
