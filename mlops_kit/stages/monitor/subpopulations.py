"""How much the calibration of subpopulations differs from that of all rows.

Where too little of the reference resembles a window, the window is a subpopulation that nobody has
seen. Its labels may be more or less frequent than those of all rows with the same scores, as those
of the subpopulations of the reference are: the rows with one category, or with a tenth of the
values of a number.
"""

from __future__ import annotations

from mlops_kit.core.lazy import np
from mlops_kit.stages.monitor.feature_matrix import FeatureEncoder
from mlops_kit.stages.monitor.label_model import LabelModel, estimate_label_effects
from mlops_kit.stats.block_effects import BlockEffects
from mlops_kit.stats.calibration import assign_quantile_bins

_NUMBER_SLICES = 10


def estimate_population_effects(
    model: LabelModel,
    scores: np.ndarray,
    labels: np.ndarray,
    features: np.ndarray,
    encoder: FeatureEncoder,
) -> BlockEffects:
    """Estimate what the labels of a subpopulation have in common, on the logits.

    Parameters
    ----------
    model : LabelModel
        The calibration of all rows of the reference.
    scores, labels : ndarray, shape (rows,)
        Of the reference; scores of shape (rows, classes) for several classes.
    features : ndarray, shape (rows, columns)
        Its features, as encoded by ``encoder``.

    Returns
    -------
    BlockEffects
        That of the feature whose slices differ most, since it is not known in which way a window
        is new; none if no feature has at least five slices.

    Notes
    -----
    A random effect of the population, as in the prediction interval of a new study: Higgins,
    Thompson & Spiegelhalter, "A re-evaluation of random-effects meta-analysis", Journal of the
    Royal Statistical Society A 172 (2009).
    """
    largest = model.population_effects
    for column, is_categorical in zip(features.T, encoder.is_categorical, strict=True):
        effects = estimate_label_effects(
            model,
            scores,
            labels,
            _slice_column(column, is_categorical),
        )
        if effects.variances.sum() > largest.variances.sum():
            largest = effects
    return largest


def _slice_column(values: np.ndarray, is_categorical: bool) -> np.ndarray:
    """Return the slice of each row: its category, or its tenth of the numbers; -1 if missing."""
    slices = np.full(len(values), -1.0)
    is_known = ~np.isnan(values)
    known_values = values[is_known]
    if not is_categorical and len(np.unique(known_values)) > _NUMBER_SLICES:
        known_values = assign_quantile_bins(known_values, _NUMBER_SLICES)
    slices[is_known] = known_values
    return slices
