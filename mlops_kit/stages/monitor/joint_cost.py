"""Joint drift: what all features together cost, also where no single one has drifted.

The domain classifier of a window (``domain_classifier``) has learned how the joint distribution of
its rows differs from that of the reference. Its odds are the density ratio, by which the labeled
reference is weighted and the metric computed again. Where the two hardly overlap, few rows carry
all of the weight, and the cost is not known.

References
----------
Bickel, Brückner & Scheffer, "Discriminative learning under covariate shift", JMLR 10 (2009): the
density ratio from a classifier. Kish, "Survey sampling" (1965): the effective sample size.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.serialization import Serializable
from mlops_kit.core.tasks import to_score_array
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.domain_classifier import DomainClassifier
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.weights import compute_effective_rows

MAX_DOMAIN_AUC = 0.9  # above it the two overlap too little
_MIN_EFFECTIVE_ROWS = 100
_MIN_EFFECTIVE_SHARE = 0.1


@dataclass(frozen=True)
class JointCost(Serializable):
    """What the joint drift of all features costs.

    Attributes
    ----------
    cost : float or None
        Of the headline metric, positive if it becomes worse; None where it is not known.
    effective_rows : int
        Labeled reference rows that the cost rests on, (Σw)² / Σw².
    domain_auc : float
        How well a classifier tells the window from the reference; 0.5 is no drift.
    """

    cost: float | None
    effective_rows: int
    domain_auc: float


def estimate_joint_cost(
    reference: pd.DataFrame,
    domain: DomainClassifier | None,
    config: ProjectConfig,
    reference_weights: np.ndarray | None = None,
    threshold: float | None = None,
) -> JointCost | None:
    """Estimate what the joint drift of all features costs in the headline metric.

    Parameters
    ----------
    reference : DataFrame
        The rows of the reference that ``domain`` was fitted to: ``score``, and the target as a
        number.
    domain : DomainClassifier or None
        The domain classifier of the window.
    config : ProjectConfig
        The project's settings.
    reference_weights : ndarray, optional
        The weights of the reference's rows.
    threshold : float, optional
        The decision threshold; 0.5 if there is none.

    Returns
    -------
    JointCost or None
        None if there is no classifier, or too few rows have a label.
    """
    if domain is None:
        return None
    if reference_weights is None:
        reference_weights = np.ones(len(reference))
    labeled_rows = np.flatnonzero(reference[config.target].notna())
    if len(labeled_rows) < config.monitor.min_rows:
        return None
    labeled = reference.iloc[labeled_rows]
    base_weights = reference_weights[labeled_rows]
    weights = domain.odds[labeled_rows] * base_weights
    domain_auc = domain.auc
    effective_rows = int(compute_effective_rows(weights))
    has_overlap = (
        domain_auc <= MAX_DOMAIN_AUC
        and effective_rows >= _MIN_EFFECTIVE_ROWS
        and effective_rows >= _MIN_EFFECTIVE_SHARE * len(labeled)
    )
    if not has_overlap:
        return JointCost(None, effective_rows, domain_auc)
    metric = METRICS[config.headline_metric]
    labels = labeled[config.target].to_numpy(float)
    scores = to_score_array(labeled["score"])
    weighted_value = metric.function(labels, scores, threshold, weights)
    reference_value = metric.function(labels, scores, threshold, base_weights)
    cost = -metric.compute_gain(weighted_value, reference_value)
    return JointCost(float(cost) if np.isfinite(cost) else None, effective_rows, domain_auc)
