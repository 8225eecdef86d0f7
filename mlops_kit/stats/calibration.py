"""Bins of calibration curves and of the calibration error; splines that calibrate scores."""

from __future__ import annotations

from mlops_kit.core.lazy import np


def assign_quantile_bins(scores: np.ndarray, bins: int) -> np.ndarray:
    """Assign scores to bins of equally many rows, numbered from 0.

    Equal scores are in one bin, so there may be fewer bins.

    >>> assign_quantile_bins(np.array([0.1, 0.2, 0.3, 0.4]), 2).tolist()
    [0, 0, 1, 1]
    """
    shares = np.linspace(0, 1, bins + 1)
    inner_edges = np.quantile(scores, shares)[1:-1]
    return np.searchsorted(inner_edges, scores)


def choose_spline_knots(values: np.ndarray, quantiles: tuple[float, ...]) -> np.ndarray:
    """Choose knots at quantiles of the values; equal ones count once."""
    return np.unique(np.quantile(values, quantiles))


def make_spline_basis(values: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Evaluate the natural cubic splines of some knots: cubic between them, linear outside.

    Parameters
    ----------
    values : ndarray, shape (rows,)
        Where the splines are evaluated.
    knots : ndarray, shape (knots,)
        Distinct and ascending.

    Returns
    -------
    ndarray, shape (rows, max(knots, 2))
        A constant, the values themselves, and a column for each knot but two.

    References
    ----------
    Hastie, Tibshirani & Friedman, "The elements of statistical learning" (2009), equations 5.4 and
    5.5.

    Examples
    --------
    >>> make_spline_basis(np.array([0.0, 1.0]), np.array([0.0])).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    columns = [np.ones(len(values)), values]
    if len(knots) > 2:
        last_knot = knots[-1]
        subtracted = _compute_truncated_cubic(values, knots[-2], last_knot)
        for knot in knots[:-2]:
            cubic = _compute_truncated_cubic(values, knot, last_knot)
            columns.append(cubic - subtracted)
    return np.column_stack(columns)


def _compute_truncated_cubic(
    values: np.ndarray,
    knot: float,
    last_knot: float,
) -> np.ndarray:
    """Compute the scaled difference of two truncated cubics."""
    above_knot = np.maximum(values - knot, 0) ** 3
    above_last = np.maximum(values - last_knot, 0) ** 3
    return np.asarray((above_knot - above_last) / (last_knot - knot))
