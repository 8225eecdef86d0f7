"""Copies of columns, and how well one column ranks a target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from mlops_kit.stats import association


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.3).astype(float)
    return pd.DataFrame(
        {
            "y": y,
            "good": y + rng.normal(size=600),
            "noise": rng.normal(size=600),
            "name": [f"n{i}" for i in range(600)],
        }
    )


def test_constants_are_not_copies() -> None:
    assert not association.are_copies(pd.Series([1.0] * 50), pd.Series([1.0] * 50))
    assert not association.are_copies(pd.Series([np.nan] * 50), pd.Series(range(50)))


def test_unique_name_per_row_is_not_a_leak(table: pd.DataFrame) -> None:
    assert association.measure_association(table["name"], table["y"].to_numpy(), binary=True) == 0.5


def test_associations_match_scikit_learn_and_scipy(table: pd.DataFrame) -> None:
    good, y = table["good"], table["y"].to_numpy()
    assert association.compute_rank_auc(good.to_numpy(), y) == pytest.approx(roc_auc_score(y, good))
    assert association.compute_rank_auc(-good.to_numpy(), y) == pytest.approx(
        roc_auc_score(y, good)
    )
    assert association.compute_rank_correlation(
        good.to_numpy(), -table["noise"].to_numpy()
    ) == pytest.approx(abs(spearmanr(good, table["noise"])[0]))
    assert association.compute_rank_correlation(np.ones(9), np.arange(9.0)) == 0.0
    assert association.compute_rank_auc(np.arange(9.0), np.ones(9)) == 0.5


def test_copy_of_several_classes_is_found_whatever_its_order(table: pd.DataFrame) -> None:
    codes = np.random.default_rng(1).integers(0, 5, 600)
    shuffled_numbers = pd.Series(np.array([3.0, 1.0, 4.0, 0.0, 2.0])[codes])
    names = pd.Series(np.array(list("abcde"))[codes])
    assert association.measure_class_association(shuffled_numbers, codes) > 0.999
    assert association.measure_class_association(names, codes) > 0.999
    assert association.measure_class_association(table["noise"], codes) < 0.65
    assert association.measure_class_association(table["name"], codes) == 0.5


def test_column_that_tells_one_class_apart_is_no_copy() -> None:
    codes = np.arange(600) % 3
    is_first = pd.Series((codes == 0).astype(float))
    assert association.measure_class_association(is_first, codes) < 0.9
