"""The domain classifier of a window: what tells its rows from those of the reference.

It is fitted once per window and used three times: its ROC-AUC is the test of joint drift
(``joint_drift``), its odds are the weights with which the reference resembles the window
(``reweighting``) and those of the joint cost (``joint_cost``).

Every row is predicted by a classifier that was fitted without it. Where both sides have several
days, whole days are left out: a classifier that knows a day from its other rows recognizes it, and
would tell any two samples of days apart.

The classifiers are gradient-boosted trees over the features and over products of pairs of features
whose dependence has changed (``feature_pairs``), which are selected without the rows left out too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.threads import limit_threads
from mlops_kit.stages.monitor.feature_matrix import FeatureEncoder, fit_feature_encoder
from mlops_kit.stages.monitor.feature_pairs import FeaturePairs, select_feature_pairs

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingClassifier

FOLDS = 3
MIN_DOMAIN_ROWS = 200  # on either side, to fit a classifier
_MAX_FITTED_ROWS = 10_000  # on either side
_MAX_IMPORTANCE_ROWS = 2_000  # of either side, whose columns are permuted
_MIN_PROBABILITY = 1e-6


class DomainRows(NamedTuple):
    """The rows of one side that classifiers were fitted to.

    Attributes
    ----------
    positions : ndarray
        Their positions in the side.
    folds : ndarray
        The fold of each, in which no classifier has seen it.
    """

    positions: np.ndarray
    folds: np.ndarray


class FoldClassifier(NamedTuple):
    """The classifier of one fold: trees over the features and the products of some pairs."""

    pairs: FeaturePairs
    trees: HistGradientBoostingClassifier


class DomainClassifier(NamedTuple):
    """What a window's domain classifiers predict.

    Attributes
    ----------
    encoder : FeatureEncoder
        How features become numbers.
    reference, window : DomainRows
        The fitted rows of each side.
    features : ndarray, shape (rows, features)
        The encoded features of the fitted rows: the reference's, then the window's.
    probability : ndarray
        Probability of each fitted row to be of the window, from a classifier fitted without it.
    reference_probability : ndarray
        The same of all rows of the reference, fitted or not.
    has_day_folds : bool
        Whether whole days were left out.
    classifiers : list of FoldClassifier
        The classifier of each fold.
    """

    encoder: FeatureEncoder
    reference: DomainRows
    window: DomainRows
    features: np.ndarray
    probability: np.ndarray
    reference_probability: np.ndarray
    has_day_folds: bool
    classifiers: list[FoldClassifier]

    @property
    def is_window(self) -> np.ndarray:
        """Whether each fitted row is of the window."""
        sizes = [len(self.reference.positions), len(self.window.positions)]
        return np.repeat([False, True], sizes)

    @property
    def folds(self) -> np.ndarray:
        """The fold of each fitted row."""
        return np.concatenate([self.reference.folds, self.window.folds])

    @property
    def odds(self) -> np.ndarray:
        """The density ratio of window and reference at each reference row, up to a factor."""
        return np.asarray(self.reference_probability / (1 - self.reference_probability))

    @property
    def auc(self) -> float:
        """The ROC-AUC of the classifier, the mean of the folds; 0.5 if nothing tells them apart."""
        ranks = rank_within_folds(self.probability, self.folds)
        return compute_auc_from_ranks(ranks, self.is_window)


def fit_domain_classifier(
    reference: pd.DataFrame,
    window: pd.DataFrame,
    names: Sequence[str],
    days: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
) -> DomainClassifier | None:
    """Fit classifiers that tell the rows of a window from those of the reference.

    Parameters
    ----------
    reference, window : DataFrame
        Rows with the features.
    names : sequence of str
        The features to compare; timestamps and texts that identify rows are left out.
    days : tuple of two ndarray, optional
        The day of each row on either side.
    seed : int
        The random seed.

    Returns
    -------
    DomainClassifier or None
        None if either side has fewer than 200 rows, or no feature can be compared.
    """
    if min(len(reference), len(window)) < MIN_DOMAIN_ROWS:
        return None
    shared_names = [name for name in names if name in window]
    encoder = fit_feature_encoder(reference, shared_names)
    reference_features = encoder.encode(reference)
    if not reference_features.shape[1]:
        return None
    window_features = encoder.encode(window)
    rng = np.random.default_rng(seed)
    drawn = [_draw_rows(len(side), rng) for side in (reference, window)]
    folds, has_day_folds = _assign_folds(drawn, days, rng)
    features = np.vstack([reference_features[drawn[0]], window_features[drawn[1]]])
    is_window = np.repeat([False, True], [len(drawn[0]), len(drawn[1])])
    fold_of_row = np.concatenate(folds)
    probability = np.empty(len(features))
    mean_probability = np.zeros(len(reference_features))
    has_more_rows = len(drawn[0]) < len(reference_features)
    classifiers = []
    for fold in range(FOLDS):
        is_inside = fold_of_row == fold
        classifier = _fit_classifier(
            features[~is_inside],
            is_window[~is_inside],
            encoder.is_categorical,
            seed,
        )
        classifiers.append(classifier)
        probability[is_inside] = _predict(classifier, features[is_inside])
        if has_more_rows:
            mean_probability += _predict(classifier, reference_features) / FOLDS
    mean_probability[drawn[0]] = probability[: len(drawn[0])]
    return DomainClassifier(
        encoder=encoder,
        reference=DomainRows(drawn[0], folds[0]),
        window=DomainRows(drawn[1], folds[1]),
        features=features,
        probability=probability,
        reference_probability=mean_probability,
        has_day_folds=has_day_folds,
        classifiers=classifiers,
    )


def _draw_rows(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the positions of the rows that classifiers are fitted to."""
    if rows <= _MAX_FITTED_ROWS:
        return np.arange(rows)
    return np.sort(rng.choice(rows, _MAX_FITTED_ROWS, replace=False))


def _assign_folds(
    drawn: list[np.ndarray],
    days: tuple[np.ndarray, np.ndarray] | None,
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], bool]:
    """Assign the days of each side to folds in turn; single rows if a side has too few days."""
    if days is not None:
        codes = [
            pd.factorize(side_days[rows], sort=True)[0]
            for side_days, rows in zip(days, drawn, strict=True)
        ]
        if all(side.max() + 1 >= FOLDS for side in codes):
            return [side % FOLDS for side in codes], True
    return [rng.permutation(len(rows)) % FOLDS for rows in drawn], False


def _fit_classifier(
    features: np.ndarray,
    is_window: np.ndarray,
    is_categorical: np.ndarray,
    seed: int,
) -> FoldClassifier:
    """Fit gradient-boosted trees to the features and the products of some pairs of them."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    pairs = select_feature_pairs(features, is_window, is_categorical)
    is_code = np.append(is_categorical, np.zeros(len(pairs.first), dtype=bool))
    trees = HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=40,
        max_leaf_nodes=8,
        min_samples_leaf=50,
        l2_regularization=1.0,
        early_stopping=False,
        categorical_features=is_code,
        random_state=seed,
    )
    with limit_threads(1):  # more threads are slower on so few rows
        trees.fit(pairs.add_products(features), is_window)
    return FoldClassifier(pairs, trees)


def _predict(classifier: FoldClassifier, features: np.ndarray) -> np.ndarray:
    """Predict the probability that a row is of the window."""
    if not len(features):
        return np.empty(0)
    with limit_threads(1):
        probability = classifier.trees.predict_proba(classifier.pairs.add_products(features))[:, 1]
    return np.asarray(np.clip(probability, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY))


def rank_within_folds(values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the relative rank, from 0 to 1, of each value within its fold; ties share theirs."""
    from scipy import stats

    ranks = np.empty(len(values))
    for fold in range(FOLDS):
        is_inside = folds == fold
        count = int(is_inside.sum())
        if count:
            ranks[is_inside] = (stats.rankdata(values[is_inside]) - 0.5) / count
    return ranks


def compute_auc_from_ranks(ranks: np.ndarray, is_window: np.ndarray) -> float:
    """Compute the ROC-AUC from relative ranks (Hanley & McNeil, Radiology 143 (1982))."""
    return float(0.5 + ranks[is_window].mean() - ranks[~is_window].mean())


def measure_domain_importance(domain: DomainClassifier, seed: int = 0) -> dict[str, float]:
    """Measure by how much the ROC-AUC falls when the values of one feature are permuted.

    Permutation importance (Breiman, Machine Learning 45 (2001)) on rows that the classifier has
    not seen.

    Returns
    -------
    dict of str to float
        The fall of the ROC-AUC by feature, the largest first.
    """
    rng = np.random.default_rng(seed)
    is_window = domain.is_window
    rows = np.concatenate(
        [_sample_side(is_window == side, rng) for side in (False, True)],
    )
    folds = domain.folds[rows]
    features = domain.features[rows]
    base_ranks = rank_within_folds(domain.probability[rows], folds)
    base_auc = compute_auc_from_ranks(base_ranks, is_window[rows])
    falls = {}
    for column, name in enumerate(domain.encoder.names):
        permuted = features.copy()
        permuted[:, column] = rng.permutation(permuted[:, column])
        probability = np.empty(len(rows))
        for fold, classifier in enumerate(domain.classifiers):
            is_inside = folds == fold
            probability[is_inside] = _predict(classifier, permuted[is_inside])
        ranks = rank_within_folds(probability, folds)
        falls[name] = base_auc - compute_auc_from_ranks(ranks, is_window[rows])
    return dict(sorted(falls.items(), key=lambda item: -item[1]))


def _sample_side(is_of_side: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample the positions of rows of one side."""
    positions = np.flatnonzero(is_of_side)
    if len(positions) <= _MAX_IMPORTANCE_ROWS:
        return positions
    return np.sort(rng.choice(positions, _MAX_IMPORTANCE_ROWS, replace=False))
