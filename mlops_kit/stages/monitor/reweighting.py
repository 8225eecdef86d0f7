"""Weights with which the reference resembles a window, if it can.

A classifier that tells rows of the window from rows of the reference gives the density ratio of
both. Where it can hardly tell them apart nothing needs a weight; where it always can, the reference
says nothing about the window.
"""

from __future__ import annotations

from typing import NamedTuple

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.stages.monitor.domain_classifier import (
    MIN_DOMAIN_ROWS,
    DomainClassifier,
    fit_domain_classifier,
)
from mlops_kit.stages.monitor.feature_matrix import fit_feature_encoder
from mlops_kit.stats.weights import compute_effective_rows

_MIN_DOMAIN_AUC = 0.55  # below, the window does not differ from the reference
# Above, too few rows of the reference resemble the window. On the car loan data of
# bench/estimate.py (domain AUC 0.89) reweighting triples the error of the estimated ROC-AUC.
_MAX_DOMAIN_AUC = 0.85
_MIN_EFFECTIVE_SHARE = 0.1
_MAX_UNSEEN_SHARE = 0.01  # of rows with a category that the reference does not have
_MAX_WEIGHT = 50.0  # times the mean weight


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
    domain: DomainClassifier | None = None,
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
    domain : DomainClassifier, optional
        The domain classifier of the two, if it was fitted already.

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
    if min(len(reference), len(window)) < MIN_DOMAIN_ROWS:
        return _skip(f"reference or window has fewer than {MIN_DOMAIN_ROWS} rows")
    if domain is None:
        domain = fit_domain_classifier(reference, window, names, seed=seed)
    if domain is None:
        return _skip("no feature can be compared")
    domain_auc = domain.auc
    auc_text = f"domain AUC {format_number(domain_auc)}"
    if domain_auc < _MIN_DOMAIN_AUC:
        return _skip(f"the window hardly differs from the reference ({auc_text})")
    if domain_auc > _MAX_DOMAIN_AUC:
        return _skip_outside_support(
            f"the window hardly overlaps with the reference ({auc_text}, limit {_MAX_DOMAIN_AUC:g})"
        )
    ratio = domain.odds
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
