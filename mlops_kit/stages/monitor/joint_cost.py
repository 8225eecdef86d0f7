"""Joint drift: what all features together cost, also where no single one has drifted.

A classifier that tells the rows of the window from those of the reference has learned how their
joint distribution differs. Its odds are the density ratio, by which the labeled reference is
weighted and the metric computed again. Where the two hardly overlap, few rows carry all of the
weight, and the cost is not known.

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
from mlops_kit.stages.monitor.column_values import to_categories, to_numbers
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.weights import compute_effective_rows

MAX_DOMAIN_AUC = 0.9  # above it the two overlap too little
_MIN_EFFECTIVE_ROWS = 100
_MIN_EFFECTIVE_SHARE = 0.1
_MAX_SIDE_ROWS = 10_000
_FOLDS = 2  # a row is weighted by a classifier that has not seen it
_MAX_TREES = 50
_MAX_LEAVES = 15


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
    current: pd.DataFrame,
    columns: list[str],
    config: ProjectConfig,
    reference_weights: np.ndarray | None = None,
    threshold: float | None = None,
) -> JointCost | None:
    """Estimate what the joint drift of some columns costs in the headline metric.

    Parameters
    ----------
    reference : DataFrame
        The rows that the model was evaluated on: features, ``score`` and the target as a number.
    current : DataFrame
        The features of the window.
    columns : list of str
        The features; those that either side lacks are left out.
    reference_weights : ndarray, optional
        The weights of the reference's rows.
    threshold : float, optional
        The decision threshold; 0.5 if there is none.

    Returns
    -------
    JointCost or None
        None if either side has too few rows, or the two have none of the columns in common.
    """
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(config.seed)
    if reference_weights is None:
        reference_weights = np.ones(len(reference))
    labeled_rows = np.flatnonzero(reference[config.target].notna())
    reference_rows = _sample_rows(labeled_rows, rng)
    current_rows = _sample_rows(np.arange(len(current)), rng)
    shared = [name for name in columns if name in reference and name in current]
    if min(len(reference_rows), len(current_rows)) < config.monitor.min_rows or not shared:
        return None
    labeled = reference.iloc[reference_rows]
    window = current.iloc[current_rows]
    features = encode_columns(labeled[shared], window[shared])
    is_current = np.repeat([0, 1], [len(labeled), len(window)])
    probabilities = _predict_domain(features, is_current, config.seed)
    domain_auc = float(roc_auc_score(is_current, probabilities))
    labeled_probabilities = probabilities[: len(labeled)]
    odds = labeled_probabilities / (1 - labeled_probabilities)
    base_weights = reference_weights[reference_rows]
    weights = odds * len(labeled) / len(window) * base_weights
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


def _sample_rows(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample the positions of rows, if there are more than the classifier needs."""
    if len(rows) <= _MAX_SIDE_ROWS:
        return rows
    return np.sort(rng.choice(rows, _MAX_SIDE_ROWS, replace=False))


def encode_columns(reference: pd.DataFrame, current: pd.DataFrame) -> np.ndarray:
    """Encode the columns of both sides as numbers; categories by their frequency in both."""
    encoded = []
    for name in reference:
        values = pd.concat([reference[name], current[name]], ignore_index=True)
        if pd.api.types.is_datetime64_any_dtype(values):
            numbers = values.astype("int64").to_numpy(dtype=float)
            encoded.append(np.where(values.isna(), np.nan, numbers))
        elif pd.api.types.is_numeric_dtype(values):
            encoded.append(to_numbers(values))
        else:
            codes, names = to_categories(values)
            frequencies = np.bincount(codes[codes >= 0], minlength=len(names))
            encoded.append(np.append(frequencies, np.nan)[codes])
    return np.column_stack(encoded)


def _predict_domain(
    features: np.ndarray,
    is_current: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Predict the probability that a row is of the window, by classifiers fitted without it."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    classifier = HistGradientBoostingClassifier(
        max_iter=_MAX_TREES,
        max_leaf_nodes=_MAX_LEAVES,
        learning_rate=0.1,
        early_stopping=False,
        random_state=seed,
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    probabilities = cross_val_predict(
        classifier,
        features,
        is_current,
        cv=folds,
        method="predict_proba",
    )
    return np.asarray(np.clip(probabilities[:, 1], 1e-6, 1 - 1e-6))
