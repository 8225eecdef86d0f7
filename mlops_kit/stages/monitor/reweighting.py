"""Weights with which the reference resembles a window, if it can.

A classifier that tells rows of the window from rows of the reference gives the density ratio of
both. Where it can hardly tell them apart nothing needs a weight; where it always can, the reference
says nothing about the window.
"""

from __future__ import annotations

from typing import NamedTuple

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.stages.monitor.feature_matrix import fit_feature_encoder
from mlops_kit.stats.metrics import compute_metric
from mlops_kit.stats.weights import compute_effective_rows

_MIN_DOMAIN_AUC = 0.55  # below, the window does not differ from the reference
# Above, too few rows of the reference resemble the window. On the car loan data of
# bench/estimate.py (domain AUC 0.89) reweighting triples the error of the estimated ROC-AUC.
_MAX_DOMAIN_AUC = 0.85
_MIN_EFFECTIVE_SHARE = 0.1
_MAX_UNSEEN_SHARE = 0.01  # of rows with a category that the reference does not have
_MIN_ROWS = 200  # on either side, to fit a classifier
_MAX_FITTED_ROWS = 20_000  # on either side
_MAX_WEIGHT = 50.0  # times the mean weight
_FOLDS = 3


class Reweighting(NamedTuple):
    """The weights of the reference's rows, and a sentence about them.

    ``weights`` is None where the reference is not reweighted, and the sentence says why. It is
    outside the support where too little of the reference resembles the window.
    """

    weights: np.ndarray | None
    sentence: str
    is_outside_support: bool = False


def reweight_reference(
    reference: pd.DataFrame,
    window: pd.DataFrame,
    names: list[str],
    seed: int = 0,
) -> Reweighting:
    """Weight the rows of the reference so that they are distributed as those of the window.

    Parameters
    ----------
    reference, window : DataFrame
        Rows with the features.
    names : list of str
        The features to compare.
    seed : int
        The random seed.

    Notes
    -----
    Bickel, Brückner & Scheffer, "Discriminative learning under covariate shift", JMLR 10 (2009):
    the density ratio from a classifier. Białek, Kivimäki, Kuberski & Perrakis, "Estimating model
    performance under covariate shift without labels", arXiv 2401.08348 (2024): calibration with
    these weights (PAPE). Each row's weight is from classifiers that were fitted without it.
    """
    encoder = fit_feature_encoder(reference, names)
    column, unseen_share = encoder.measure_unseen_share(window)
    if unseen_share > _MAX_UNSEEN_SHARE:
        return _skip_outside_support(
            f"{unseen_share:.1%} of the rows have a value of {column!r} that the reference does "
            "not have"
        )
    if min(len(reference), len(window)) < _MIN_ROWS:
        return _skip(f"reference or window has fewer than {_MIN_ROWS} rows")
    reference_features = encoder.encode(reference)
    window_features = encoder.encode(window)
    if not reference_features.shape[1]:
        return _skip("no feature can be compared")
    rng = np.random.default_rng(seed)
    reference_rows = _draw_rows(len(reference), rng)
    window_rows = _draw_rows(len(window), rng)
    features = np.vstack([reference_features[reference_rows], window_features[window_rows]])
    is_window = np.r_[np.zeros(len(reference_rows)), np.ones(len(window_rows))]
    probability, reference_probability = _cross_fit_domains(
        features,
        is_window,
        encoder.is_categorical,
        reference_features,
        seed,
    )
    domain_auc = compute_metric("roc_auc", is_window, probability)
    auc_text = f"domain AUC {format_number(domain_auc)}"
    if domain_auc < _MIN_DOMAIN_AUC:
        return _skip(f"the window hardly differs from the reference ({auc_text})")
    if domain_auc > _MAX_DOMAIN_AUC:
        return _skip_outside_support(
            f"the window hardly overlaps with the reference ({auc_text}, limit {_MAX_DOMAIN_AUC:g})"
        )
    # A row that classifiers were fitted to counts with the prediction of the one fitted without it.
    reference_probability[reference_rows] = probability[: len(reference_rows)]
    ratio = reference_probability / (1 - reference_probability)
    weights = np.minimum(ratio / ratio.mean(), _MAX_WEIGHT)
    effective_share = compute_effective_rows(weights) / len(weights)
    share_text = f"effective sample share {effective_share:.0%}"
    if effective_share < _MIN_EFFECTIVE_SHARE:
        return _skip_outside_support(
            f"too few rows of the reference resemble the window ({share_text}, limit "
            f"{_MIN_EFFECTIVE_SHARE:.0%})"
        )
    return Reweighting(weights, f"reweighted for this window ({auc_text}, {share_text})")


def _skip(reason: str) -> Reweighting:
    return Reweighting(None, f"not reweighted: {reason}")


def _skip_outside_support(reason: str) -> Reweighting:
    return _skip(reason)._replace(is_outside_support=True)


def _draw_rows(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the rows that a classifier is fitted to."""
    if rows <= _MAX_FITTED_ROWS:
        return np.arange(rows)
    return rng.choice(rows, _MAX_FITTED_ROWS, replace=False)


def _cross_fit_domains(
    features: np.ndarray,
    is_window: np.ndarray,
    is_categorical: np.ndarray,
    reference_features: np.ndarray,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Predict whether each row is of the window, by a classifier that was fitted without it.

    Also return the mean prediction of all classifiers for each row of the reference.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    fold_of_row = np.random.default_rng(seed).permutation(len(features)) % _FOLDS
    predicted = np.empty(len(features))
    mean_predicted = np.zeros(len(reference_features))
    for fold in range(_FOLDS):
        is_inside = fold_of_row == fold
        classifier = HistGradientBoostingClassifier(
            learning_rate=0.1,
            max_iter=40,
            max_leaf_nodes=8,
            min_samples_leaf=50,
            l2_regularization=1.0,
            early_stopping=False,
            categorical_features=is_categorical,
            random_state=seed,
        )
        with threadpool_limits(1):  # more threads are slower on so few rows
            classifier.fit(features[~is_inside], is_window[~is_inside])
            predicted[is_inside] = classifier.predict_proba(features[is_inside])[:, 1]
            mean_predicted += classifier.predict_proba(reference_features)[:, 1] / _FOLDS
    return predicted, mean_predicted
