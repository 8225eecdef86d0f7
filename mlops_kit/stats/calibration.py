"""Bins for calibration curves and the expected calibration error."""

from __future__ import annotations

from mlops_kit.core.lazy import np


def assign_quantile_bins(scores: np.ndarray, bins: int) -> np.ndarray:
    """Assign scores to bins of equally many rows, numbered from 0.

    Equal scores are in one bin, so there may be fewer bins.

    >>> assign_quantile_bins(np.array([0.1, 0.2, 0.3, 0.4]), 2).tolist()
    [0, 0, 1, 1]
    """
    inner_edges = np.quantile(scores, np.linspace(0, 1, bins + 1))[1:-1]
    return np.searchsorted(inner_edges, scores)
