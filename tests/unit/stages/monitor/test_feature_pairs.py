"""Pairs of features are selected where their dependence has changed, and only there."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mlops_kit.stages.monitor.feature_pairs import MAX_PAIRS, select_feature_pairs

ROWS = 3_000
COLUMNS = 12
NO_CODES = np.zeros(COLUMNS, dtype=bool)


def make_samples(rng: np.random.Generator, correlation: float) -> tuple[np.ndarray, np.ndarray]:
    features = rng.normal(size=(ROWS, COLUMNS))
    is_window = np.arange(ROWS) >= ROWS * 3 // 4
    own_part = np.sqrt(1 - correlation**2) * features[is_window, 1]
    features[is_window, 1] = correlation * features[is_window, 0] + own_part
    return features, is_window


@pytest.mark.parametrize("transform", [np.asarray, np.exp, np.sinh])
def test_pair_whose_dependence_changed_is_selected(transform: np.ufunc) -> None:
    features, is_window = make_samples(np.random.default_rng(0), 0.5)
    pairs = select_feature_pairs(transform(3 * features), is_window, NO_CODES)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(0, 1)]


def test_without_a_change_pairs_are_rarely_selected() -> None:
    selected = 0
    for seed in range(100):
        features, is_window = make_samples(np.random.default_rng(seed), 0.0)
        selected += len(select_feature_pairs(features, is_window, NO_CODES).first) > 0
    assert selected <= 5  # 1% is expected


def test_shift_of_single_features_selects_no_pair() -> None:
    features, is_window = make_samples(np.random.default_rng(1), 0.0)
    features[is_window, :2] += 0.2
    assert not len(select_feature_pairs(features, is_window, NO_CODES).first)


def test_products_are_those_of_normal_scores() -> None:
    features, is_window = make_samples(np.random.default_rng(2), 0.6)
    pairs = select_feature_pairs(features, is_window, NO_CODES)
    product = pairs.add_products(features)[:, COLUMNS]
    ranks = stats.rankdata(features[:, :2], axis=0)
    expected = stats.norm.ppf((ranks - 0.5) / ROWS).prod(axis=1)
    is_inner = np.abs(features[:, :2]).max(axis=1) < 1.5  # the outermost scores are bounded
    np.testing.assert_allclose(product[is_inner], expected[is_inner], atol=0.15)


def test_missing_values_constants_and_codes_are_no_obstacle() -> None:
    features, is_window = make_samples(np.random.default_rng(3), 0.5)
    features[::7, 0] = np.nan
    features[:, 5] = np.nan
    features[:, 6] = 1.0
    is_categorical = NO_CODES.copy()
    is_categorical[2] = True
    pairs = select_feature_pairs(features, is_window, is_categorical)
    assert (0, 1) in list(zip(pairs.first, pairs.second, strict=True))
    products = pairs.add_products(features)[:, COLUMNS:]
    assert np.isfinite(products).all()
    assert len(select_feature_pairs(features[:, :1], is_window, NO_CODES[:1]).first) == 0


def test_number_of_pairs_is_limited() -> None:
    rng = np.random.default_rng(4)
    features, is_window = make_samples(rng, 0.0)
    features[is_window] += 0.7 * rng.normal(size=(is_window.sum(), 1))
    assert len(select_feature_pairs(features, is_window, NO_CODES).first) == MAX_PAIRS
