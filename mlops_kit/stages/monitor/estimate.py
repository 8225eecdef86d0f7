"""Performance without labels, and what a column's drift costs.

Both hold only while the target depends on the features as it did: when the labels are in, realised
below estimated is the sign that it does not any more.
"""

from __future__ import annotations

import math
from typing import Any

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval
from mlops_kit.project.config import root
from mlops_kit.stats import bootstrap, metrics

REFERENCE_BINS = 10  # of a number's reference values, beside the missing ones
_METRICS_NOT_ESTIMATED = (
    "calibration_error",
)  # zero by construction once the probabilities are calibrated
_MIN_EFFECTIVE_SHARE = 0.1  # of the reference's rows that must still count after reweighting


def fit_calibrator(score: Any, y: Any) -> Any:
    """Probabilities of a reference made true by isotonic regression (Zadrozny & Elkan 2002); None for one class."""
    from sklearn.isotonic import IsotonicRegression

    score, y = np.asarray(score, dtype=float), np.asarray(y, dtype=float)
    known = ~(np.isnan(score) | np.isnan(y))
    if len(np.unique(y[known])) < 2:
        return None
    return IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score[known], y[known])


def estimate_performance(
    score: Any, days: Any, calibrated: Any, config: root.ProjectConfig, seed: int = 0
) -> Interval:
    """The headline metric expected from the probabilities alone (CBPE).

    Each row counts as a positive with its calibrated probability and as a negative with the rest, which
    gives the expected confusion at every threshold (NannyML's confidence-based performance estimation).
    The interval draws whole days. None for a regression, and for a metric that calibration fixes.
    """
    score = np.asarray(score, dtype=float)
    if (
        config.task != "binary"
        or config.headline_metric in _METRICS_NOT_ESTIMATED
        or calibrated is None
        or not len(score)
    ):
        return Interval(None)
    order = np.argsort(score, kind="stable")  # each draw's sort is then cheap
    score, blocks = score[order], np.asarray(days)[order]
    chance, function = calibrated.predict(score), metrics.METRICS[config.headline_metric].function
    y, both = np.tile([1.0, 0.0], len(score)), np.repeat(score, 2)

    def expected(weights: np.ndarray) -> dict[str, float]:
        return {
            "": function(
                y, both, None, np.column_stack([chance * weights, (1 - chance) * weights]).ravel()
            )
        }

    return bootstrap.bootstrap_statistics(expected, len(score), blocks, config.review.draws, seed)[
        ""
    ]


def _assign_reference_bins(
    reference: pd.Series, current: pd.Series
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Both sides of a column as numbers of bins, and the bins' names.

    A number is cut at the reference's deciles, a category is itself; rare and new ones are one, missing is one.
    """
    if (
        pd.api.types.is_numeric_dtype(reference)
        and not pd.api.types.is_bool_dtype(reference)
        and reference.nunique() > REFERENCE_BINS
    ):
        cuts = np.unique(
            np.quantile(
                reference.dropna().astype(float), np.linspace(0, 1, REFERENCE_BINS + 1)[1:-1]
            )
        )
        ends = [f"{c:.3g}" for c in cuts]
        names = [
            f"< {ends[0]}",
            *(f"{a} – {b}" for a, b in zip(ends, ends[1:], strict=False)),
            f"≥ {ends[-1]}",
            "missing",
        ]
        codes = [
            np.where(
                s.isna(),
                len(cuts) + 1,
                np.searchsorted(cuts, s.astype(float).fillna(0), side="right"),
            )
            for s in (reference, current)
        ]
        return codes[0], codes[1], names
    texts = [
        s.map(
            lambda v: (
                str(int(v))
                if isinstance(v, (bool, np.bool_)) or (isinstance(v, float) and v.is_integer())
                else str(v)
            ),
            na_action="ignore",
        )
        for s in (reference, current)
    ]
    top = texts[0].value_counts().head(REFERENCE_BINS).index.tolist()
    place = {v: i for i, v in enumerate(sorted(top))}
    codes = [
        np.where(t.isna(), len(top) + 1, t.map(place).fillna(len(top)).astype(int)) for t in texts
    ]
    return codes[0], codes[1], [*sorted(top), "others", "missing"]


def _compute_bin_shares(
    reference: pd.Series, current: pd.Series
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """A column's bins, their shares on either side, and the reference's bin by row; bins that hold nothing are left out."""
    before, now, names = _assign_reference_bins(reference, current)
    counted = [
        np.bincount(side, minlength=len(names)) / max(len(side), 1) for side in (before, now)
    ]
    return names, counted[0], counted[1], before


def estimate_drift_cost(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    column: str,
    config: root.ProjectConfig,
    whole: float,
) -> tuple[float, float]:
    """What the drift of one column costs in the headline metric, and the share of rows that the answer rests on.

    The labelled reference is weighted by the column's density ratio over bins, and the metric computed
    again; no model is asked. Positive: the metric becomes worse. The share is the effective sample
    size (Σw)²/(n Σw²); below a tenth, or with a bin that the reference never had, the cost is not known.
    """
    _, before, now, rows = _compute_bin_shares(reference[column], current[column])
    unseen = float(now[before == 0].sum())
    ratio = np.divide(now, before, out=np.zeros_like(now), where=before > 0)
    weights = ratio[rows]
    effective = (
        float(weights.sum() ** 2 / (len(weights) * (weights**2).sum())) if weights.any() else 0.0
    )
    if effective < _MIN_EFFECTIVE_SHARE or unseen > _MIN_EFFECTIVE_SHARE:
        return math.nan, effective
    found = metrics.METRICS[config.headline_metric]
    changed = found.function(
        reference[config.target].to_numpy(float), reference["score"].to_numpy(float), None, weights
    )
    return -found.compute_gain(changed, whole), effective


def estimate_drift_costs(
    reference: pd.DataFrame, current: pd.DataFrame, columns: list[str], config: root.ProjectConfig
) -> dict[str, float]:
    """``column_cost`` of some columns; NaN where it is not known.

    Parameters
    ----------
    reference : DataFrame
        The rows that the model was judged on: features, ``score`` and the target as a number.
    current : DataFrame
        The features of the window.
    """
    known = reference[reference[config.target].notna()].reset_index(drop=True)
    whole = (
        metrics.compute_metric(config.headline_metric, known[config.target], known["score"])
        if len(known)
        else math.nan
    )
    there = [c for c in columns if c in known and c in current]
    return {c: estimate_drift_cost(known, current, c, config, whole)[0] for c in there}


def compare_distributions(reference: pd.Series, current: pd.Series) -> dict[str, Any]:
    """Both distributions of a column in a few bins, for a picture."""
    names, before, now, _ = _compute_bin_shares(reference, current)
    kept = [i for i in range(len(names)) if before[i] or now[i]]
    return {
        "bins": [names[i] for i in kept],
        "reference": [round(float(before[i]), 4) for i in kept],
        "current": [round(float(now[i]), 4) for i in kept],
    }
