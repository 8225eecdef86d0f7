"""Joint drift: whether a classifier tells the window from the reference, and by which features.

The dependence of features on one another may change while no single column does, and many columns
may change a little. The test statistic is the ROC-AUC of the domain classifier on days that it has
not seen. Its p-value is one more in the correction over the columns.

References
----------
Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017: the test. The null
distribution is that of the rank test (Hanley & McNeil, Radiology 143 (1982)), its variance that of
days (``day_effects``), as in Obuchowski, Biometrics 53 (1997), for clustered ROC curves, and of
folds that depend on one another (``run_joint_test``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Result, Table
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor.day_effects import estimate_design_effects, widen_p_value
from mlops_kit.stages.monitor.domain_classifier import (
    FOLDS,
    MIN_DOMAIN_ROWS,
    DomainClassifier,
    compute_auc_from_ranks,
    fit_domain_classifier,
    measure_domain_importance,
    rank_within_folds,
)
from mlops_kit.stages.monitor.drift_classification import adjust_p_values
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN, DriftDesign
from mlops_kit.stats.monitoring_tables import DriftReason, DriftStatus

_FOLD_VARIANCE_FACTOR = 2  # how much larger than that of independent folds; see run_joint_test
_RANK_BINS = 200  # in which ranks are counted by day
_MAX_LISTED_FEATURES = 3
_MIN_IMPORTANCE_SHARE = 0.1  # of the importance of all features, to be named
_MIN_SEASONAL_SHARE = 0.5  # of the importance, from which joint drift is seasonal


@dataclass(frozen=True, repr=False)
class JointDrift(Result):
    """The outcome of the test of joint drift.

    Attributes
    ----------
    status : str
        A ``DriftStatus``.
    sentence : str
        What the classifier can tell, by which features.
    domain_auc : float or None
        How well a classifier tells the window from the reference; 0.5 is no drift.
    p_value, adjusted_p : float or None
        The p-value as it is, and adjusted together with those of the columns.
    features : tuple of str
        The features by which the classifier tells them apart, the most important first.
    importances : tuple of float
        By how much the ROC-AUC falls without each of them.

    Examples
    --------
    >>> drift = JointDrift("alert", "A classifier tells the window from the reference.", 0.8)
    >>> drift.is_drifted
    True
    """

    title: ClassVar[str] = "Joint drift"

    status: str
    sentence: str
    domain_auc: float | None = None
    p_value: float | None = None
    adjusted_p: float | None = None
    features: tuple[str, ...] = ()
    importances: tuple[float, ...] = ()

    @property
    def is_drifted(self) -> bool:
        """Whether it is an alert or a warning."""
        return self.status in (DriftStatus.ALERT, DriftStatus.WARNING)

    def to_frame(self) -> pd.DataFrame:
        """Return the importance of each named feature."""
        return pd.DataFrame({"feature": self.features, "importance": self.importances})


class JointTest(NamedTuple):
    """The statistic of joint drift: ROC-AUC, the effect less its bias, and the p-value."""

    domain_auc: float
    effect: float
    p_value: float


def run_joint_test(
    domain: DomainClassifier,
    days: tuple[np.ndarray, np.ndarray] | None,
) -> JointTest | None:
    """Test whether the domain classifier does better than chance on days that it has not seen.

    Parameters
    ----------
    domain : DomainClassifier
        The classifiers of the window.
    days : tuple of two ndarray or None
        The day of each row of the reference and of the window, fitted or not.

    Returns
    -------
    JointTest or None
        None if a side has too few days: rows of a day resemble one another, so that a classifier
        that has seen a part of each day tells any two samples apart.

    Notes
    -----
    The ROC-AUCs of two folds are correlated, although no classifier has seen the rows that it
    predicts (Bengio & Grandvalet, "No unbiased estimator of the variance of k-fold
    cross-validation", JMLR 5 (2004)): where the window differs by chance in the same way in both
    folds, the classifier of either one does well on the other. Without drift, the correlation is
    1 / (k - 1) for linear classifiers, so that the variance of the mean of k folds is twice that of
    independent ones. In simulations, that of boosted trees is 1.6 to 1.9 times as large.
    """
    if days is not None and not domain.has_day_folds:
        return None
    ranks = rank_within_folds(domain.probability, domain.folds)
    is_window = domain.is_window
    counts = []
    for side, rows in enumerate((domain.reference, domain.window)):
        side_ranks = ranks[is_window == bool(side)]
        side_days = None if days is None else days[side][rows.positions]
        counts.append(_count_ranks(side_ranks, side_days))
    centers = (np.arange(_RANK_BINS) + 0.5) / _RANK_BINS
    effects = estimate_design_effects(counts[0], counts[1], centers[:, None])
    reference_part = float(effects.reference[0]) / counts[0].sum()
    current_part = float(effects.current[0]) / counts[1].sum()
    variance_of_independent_folds = float(ranks.var()) * (reference_part + current_part)
    variance = _FOLD_VARIANCE_FACTOR * variance_of_independent_folds
    domain_auc = compute_auc_from_ranks(ranks, is_window)
    shift = max(0.0, domain_auc - 0.5)
    if not shift or not variance:
        return JointTest(domain_auc, 0.0, 1.0)
    two_sided_p = math.erfc(shift / math.sqrt(2 * variance))
    # The classifier can only do better than chance: one side counts.
    p_value = float(widen_p_value(two_sided_p, effects.degrees_of_freedom)) / 2
    effect = math.sqrt(2 * max(0.0, shift**2 - variance))
    return JointTest(domain_auc, effect, p_value)


def _count_ranks(ranks: np.ndarray, days: np.ndarray | None) -> np.ndarray:
    """Count the ranks of each day in equal bins; rows without a day are left out."""
    bins = np.minimum((ranks * _RANK_BINS).astype(int), _RANK_BINS - 1)
    codes = np.zeros(len(ranks), dtype=int) if days is None else pd.factorize(days)[0]
    has_day = codes >= 0
    positions = codes[has_day] * _RANK_BINS + bins[has_day]
    counts = np.bincount(positions, minlength=(codes.max() + 1) * _RANK_BINS)
    return counts.reshape(-1, _RANK_BINS).astype(float)


def measure_joint_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    drift: Table,
    limits: MonitorConfig,
    seed: int = 0,
    design: DriftDesign | None = None,
) -> JointDrift:
    """Test the joint drift of all features of a drift table.

    Parameters
    ----------
    reference, current : DataFrame
        The rows that ``measure_drift`` compared.
    drift : Table
        What it returned.
    limits : MonitorConfig
        The project's limits of effect and significance.
    seed : int
        The random seed.
    design : DriftDesign, optional
        The days of the rows.
    """
    names = [name for name in drift.data["column"] if name != SCORE_COLUMN]
    shared = [name for name in names if name in reference and name in current]
    days = design.days if design is not None else None
    domain = fit_domain_classifier(reference, current, shared, days, seed)
    return judge_joint_drift(domain, days, drift, limits, seed)


def judge_joint_drift(
    domain: DomainClassifier | None,
    days: tuple[np.ndarray, np.ndarray] | None,
    drift: Table,
    limits: MonitorConfig,
    seed: int = 0,
) -> JointDrift:
    """Judge joint drift by the limits of effect and significance of a column.

    Where most of it is due to columns whose drift is seasonal, it is seasonal too.

    Parameters
    ----------
    domain : DomainClassifier or None
        The domain classifier of the window; None if it could not be fitted.
    days : tuple of two ndarray or None
        The day of each row of the reference and of the window.
    drift : Table
        The drift of the columns, whose p-values are adjusted together with this one.
    limits : MonitorConfig
        The project's limits.
    """
    if domain is None:
        sentence = (
            f"Joint drift is not tested: it needs {MIN_DOMAIN_ROWS} rows on either side, and a "
            "feature that can be compared."
        )
        return JointDrift(DriftStatus.NOT_TESTED.value, sentence)
    test = run_joint_test(domain, days)
    if test is None:
        sentence = (
            f"Joint drift is not tested: it needs {FOLDS} days on either side, because rows of one "
            "day resemble one another."
        )
        return JointDrift(DriftStatus.NOT_TESTED.value, sentence, domain.auc)
    column_p_values = drift.data["p_value"].dropna().astype(float).tolist()
    adjusted_p = adjust_p_values([*column_p_values, test.p_value])[-1]
    status = _classify_effect(test.effect, adjusted_p, limits)
    auc_text = f"ROC-AUC {format_number(test.domain_auc)}"
    joint = JointDrift(
        status=status.value,
        sentence=(
            f"No joint drift: a classifier hardly tells the window from the reference ({auc_text})."
        ),
        domain_auc=test.domain_auc,
        p_value=test.p_value,
        adjusted_p=adjusted_p,
    )
    if status is DriftStatus.NONE:
        return joint
    importance = measure_domain_importance(domain, seed)
    features = _select_responsible(importance)
    joint = replace(
        joint,
        features=tuple(features),
        importances=tuple(round(importance[name], 4) for name in features),
        sentence=(
            f"A classifier tells the window from the reference ({auc_text})"
            f"{_describe_features(features, importance)}."
        ),
    )
    seasonal = set(drift.data.loc[drift.data["reason"] == DriftReason.SEASONAL, "column"])
    if _compute_share(importance, seasonal) < _MIN_SEASONAL_SHARE:
        return joint
    return replace(
        joint,
        status=DriftStatus.NONE.value,
        sentence=f"Seasonal: {joint.sentence[0].lower()}{joint.sentence[1:]}",
    )


def _classify_effect(effect: float, adjusted_p: float, limits: MonitorConfig) -> DriftStatus:
    """Classify the effect as that of a column."""
    if adjusted_p < limits.alpha and effect >= limits.alert_effect:
        return DriftStatus.ALERT
    if adjusted_p < limits.warning_alpha and effect >= limits.warning_effect:
        return DriftStatus.WARNING
    return DriftStatus.NONE


def _select_responsible(importance: dict[str, float]) -> list[str]:
    """Select the features that have a noteworthy share of the importance."""
    positive = {name: value for name, value in importance.items() if value > 0}
    total = sum(positive.values())
    return [name for name, value in positive.items() if value >= _MIN_IMPORTANCE_SHARE * total]


def _compute_share(importance: dict[str, float], names: set[str]) -> float:
    """Compute the share that some features have in the importance of all."""
    total = sum(value for value in importance.values() if value > 0)
    if not total:
        return 0.0
    share = sum(value for name, value in importance.items() if name in names and value > 0)
    return share / total


def _describe_features(features: Sequence[str], importance: dict[str, float]) -> str:
    """Describe by which features the classifier tells the sides apart."""
    if not features:
        return ", by many features a little"
    listed = list(features[:_MAX_LISTED_FEATURES])
    share = format_percent(_compute_share(importance, set(listed)))
    return f", by {', '.join(listed)} ({share} of the permutation importance)"
