"""Weighted means, shares and the effective number of weighted rows."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.lazy import np


def compute_effective_rows(weights: Any) -> float:
    """Compute how many rows of equal weight tell as much; 0 if all weights are 0.

    References
    ----------
    Kish, "Survey sampling" (1965), section 11.7: (Σw)² / Σw².

    Examples
    --------
    >>> compute_effective_rows([1, 1, 1, 1]), compute_effective_rows([3, 1])
    (4.0, 1.6)
    """
    weights = np.asarray(weights, dtype=float)
    total = float(weights.sum())
    if total <= 0:
        return 0.0
    return total**2 / float((weights**2).sum())


def compute_weighted_mean(values: Any, weights: np.ndarray | None) -> float:
    """Compute the mean of the known values, weighted if there are weights; NaN if there is none."""
    values = np.asarray(values, dtype=float)
    is_known = ~np.isnan(values)
    if not is_known.any():
        return float("nan")
    if weights is None:
        return float(values[is_known].mean())
    known_weights = weights[is_known]
    total = float(known_weights.sum())
    if total <= 0:
        return float("nan")
    return float((values[is_known] * known_weights).sum()) / total
