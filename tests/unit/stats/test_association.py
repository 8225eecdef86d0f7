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
    for copy in (shuffled_numbers, names):
        areas = association.measure_class_associations(copy, codes)
        assert sorted(areas) == [0, 1, 2, 3, 4]
        assert min(areas.values()) > 0.999
    noise = association.measure_class_associations(table["noise"], codes)
    assert max(noise.values()) < 0.7
    unique_names = association.measure_class_associations(table["name"], codes)
    assert set(unique_names.values()) == {0.5}


def test_column_that_tells_one_class_apart_gives_away_only_this_one() -> None:
    codes = np.repeat(np.arange(3), 200)
    is_first = pd.Series((codes == 0).astype(float))
    areas = association.measure_class_associations(is_first, codes)
    assert areas[0] == 1
    # Of the other classes it says that they are not the first: 200 of 400 rows are ranked below.
    assert areas[1] == areas[2] == pytest.approx(0.75)


def test_class_with_few_rows_is_left_out() -> None:
    codes = np.array([0] * 18 + [1] * 100 + [2] * 100)
    areas = association.measure_class_associations(pd.Series(codes == 0), codes)
    assert sorted(areas) == [1, 2]
