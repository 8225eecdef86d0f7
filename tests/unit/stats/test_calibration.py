"""Natural cubic splines."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from mlops_kit.stats.calibration import choose_spline_knots, make_spline_basis


def test_basis_spans_scipys_natural_spline() -> None:
    knots = np.array([-1.0, 0.0, 0.7, 2.0])
    grid = np.linspace(-1, 2, 50)
    natural = CubicSpline(knots, [0.3, -1.0, 2.0, 0.5], bc_type="natural")(grid)
    basis = make_spline_basis(grid, knots)
    coefficients, *_ = np.linalg.lstsq(basis, natural, rcond=None)
    assert basis @ coefficients == pytest.approx(natural, abs=1e-8)


def test_basis_is_linear_outside_the_knots() -> None:
    basis = make_spline_basis(np.array([3.0, 4.0, 5.0]), np.array([0.0, 1.0, 2.0]))
    assert np.diff(basis, n=2, axis=0) == pytest.approx(np.zeros((1, 3)), abs=1e-9)


def test_equal_quantiles_are_one_knot() -> None:
    assert choose_spline_knots(np.array([1.0, 1.0, 1.0]), (0.1, 0.5, 0.9)).tolist() == [1.0]
