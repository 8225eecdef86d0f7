"""Reference performance: the headline metric as the review measured it.

Monitoring counts predicted classes as the serving version does, from its own decision threshold on.
The review counts them from a score of 0.5 on, so a metric that depends on the threshold is measured
again on the held-out rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.core.tasks import TASKS, is_finite_score, to_score_array
from mlops_kit.data.columns import ROW_ID, list_feature_columns
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stats.bootstrap import bind_threshold, compute_function_intervals
from mlops_kit.stats.metrics import METRICS, compute_metric


@dataclass(frozen=True)
class ReferencePerformance(Interval):
    """The headline metric with its interval, and what a drop is measured with.

    Attributes
    ----------
    no_skill : float or None
        The value of a model without skill on the same rows; None: not known.
    threshold : float or None
        The decision threshold of a metric that depends on it; else None.

    Examples
    --------
    >>> str(ReferencePerformance(0.91, 0.9, 0.92, no_skill=0.8, threshold=0.3))
    '0.910 [0.900, 0.920]'
    """

    no_skill: float | None = None
    threshold: float | None = None

    def describe_threshold(self) -> str:
        """Describe which rows count as predicted positive; empty if that does not matter.

        >>> ReferencePerformance(0.8, threshold=0.3).describe_threshold()
        'Rows count as predicted positive from a score of 0.300 on, the decision threshold.'
        """
        if self.threshold is None:
            return ""
        return (
            "Rows count as predicted positive from a score of "
            f"{format_number(self.threshold)} on, the decision threshold."
        )


def select_held_out_rows(
    table: pd.DataFrame,
    held_out_scores: pd.DataFrame,
    config: ProjectConfig,
) -> pd.DataFrame:
    """Select the rows that the model was evaluated on: features, roles, target and score.

    Parameters
    ----------
    table, held_out_scores : DataFrame
        The artifacts ``features`` and ``held_out_scores``.
    """
    keys = config.id or [ROW_ID]
    role_names = (config.time, config.validation.group, config.weight)
    roles = [name for name in role_names if name in table]
    columns = list(dict.fromkeys([*keys, *roles, *list_feature_columns(config, table)]))
    held_out_features = table.loc[table["part"] == "test", columns]
    return held_out_features.merge(held_out_scores[[*keys, config.target, "score"]], on=keys)


def get_reference_performance(
    evaluation: Table,
    config: ProjectConfig,
    held_out_rows: pd.DataFrame | None = None,
    threshold: float | None = None,
) -> ReferencePerformance | None:
    """Return the headline metric as the review measured it; None if it could not.

    Parameters
    ----------
    evaluation : Table
        The review's artifact ``metrics``.
    config : ProjectConfig
        The project's settings.
    held_out_rows : DataFrame, optional
        The rows it was measured on, see ``select_held_out_rows``. Without them the value of a model
        without skill is not known, and the threshold does not count.
    threshold : float, optional
        The decision threshold of the version. A metric that depends on it is measured again.
    """
    interval = evaluation.to_intervals().get(config.headline_metric)
    if interval is None or interval.value is None:
        return None
    reference = ReferencePerformance(interval.value, interval.low, interval.high, interval.level)
    if held_out_rows is None:
        return reference
    labels = held_out_rows[config.target].to_numpy(float)
    scores = to_score_array(held_out_rows["score"])
    design = get_sampling_design(held_out_rows, config)
    is_known = np.isfinite(labels) & is_finite_score(scores)
    if not is_known.any():
        return reference
    labels = labels[is_known]
    scores = scores[is_known]
    design = design.select(is_known)
    has_threshold = threshold is not None and _depends_on_threshold(config, labels, scores)
    if has_threshold:
        measured = compute_function_intervals(
            bind_threshold([config.headline_metric], threshold),
            labels,
            scores,
            design,
            config.review.draws,
            config.seed,
        )[config.headline_metric]
        reference = replace(
            reference,
            value=measured.value,
            low=measured.low,
            high=measured.high,
            threshold=threshold,
        )
    no_skill = METRICS[config.headline_metric].compute_no_skill(
        labels,
        scores,
        threshold,
        design.weights,
    )
    return replace(reference, no_skill=no_skill)


def accept_value(reference: ReferencePerformance, value: float) -> ReferencePerformance:
    """Replace the reviewed value by one that a person accepted, of which no interval is known."""
    return replace(reference, value=value, low=None, high=None)


def _depends_on_threshold(
    config: ProjectConfig,
    labels: np.ndarray,
    scores: np.ndarray,
) -> bool:
    """Whether it changes the headline metric to flag every row instead of none."""
    if not TASKS[config.task].has_threshold:
        return False
    flagging_all = compute_metric(config.headline_metric, labels, scores, -np.inf)
    flagging_none = compute_metric(config.headline_metric, labels, scores, np.inf)
    return bool(np.isfinite(flagging_all) and flagging_all != flagging_none)
