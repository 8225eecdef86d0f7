"""Row weights: which are valid, and what happens to the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.data import row_weights, splits
from mlops_kit.data.columns import list_feature_columns
from mlops_kit.data.contract_inference import infer_contract
from mlops_kit.data.contract_validation import validate_rows_against_contract
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.validation import validate_config


def make_config(**settings: Any) -> ProjectConfig:
    base = {"name": "p", "source": "x.csv", "target": "y", "task": "binary", "weight": "w"}
    return validate_config({**base, **settings}, "test")


def make_rows(weights: Any, labels: Any = None) -> pd.DataFrame:
    rows = len(weights)
    y = np.arange(rows) % 2 * 1.0 if labels is None else labels
    return pd.DataFrame({"row_id": range(rows), "w": weights, "y": y, "x": np.arange(rows) * 1.0})


def test_weights_are_the_columns_values() -> None:
    assert row_weights.get_row_weights(make_rows([1, 2, 0]), make_config()).tolist() == [1, 2, 0]
    assert row_weights.get_row_weights(make_rows([1, 2]), make_config(weight=None)) is None
    without_column = make_rows([1, 2]).drop(columns="w")
    assert row_weights.get_row_weights(without_column, make_config()) is None


def test_unknown_weight_counts_with_the_mean_of_the_others() -> None:
    weights = row_weights.get_row_weights(make_rows([1.0, np.nan, 5.0, -3.0]), make_config())
    assert weights.tolist() == [1, 3, 5, 3]
    assert row_weights.get_row_weights(make_rows([np.nan, np.nan]), make_config()) is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -2.0, -3.0, 1.0], "of 4 labeled rows 2 have a negative weight"),
        ([1.0, np.nan, 1.0, 1.0], "1 have no weight"),
        ([1.0, np.inf, 1.0, 1.0], "1 have an infinite weight"),
        (["1", "heavy", "2", "3"], "1 have a weight that is not a number"),
        ([0.0, 0.0, 0.0, 0.0], "all 4 have the weight 0"),
        ([np.nan, -1.0, 0.0, 0.0], "1 have no weight, 1 have a negative weight"),
    ],
)
def test_unusable_weights_are_rejected_with_counts(weights: list[Any], message: str) -> None:
    with pytest.raises(RunFailedError, match=message):
        row_weights.check_row_weights(make_rows(weights), make_config())


def test_unlabeled_rows_need_no_weight() -> None:
    rows = make_rows([1.0, 2.0, np.nan], labels=[0.0, 1.0, np.nan])
    row_weights.check_row_weights(rows, make_config())


def test_split_rejects_unusable_weights() -> None:
    with pytest.raises(RunFailedError, match="100 have a negative weight"):
        splits.split_rows(make_rows([-1.0] * 100), make_config(), 0)


def test_weight_is_no_feature() -> None:
    assert list_feature_columns(make_config(), make_rows([1.0])) == ["x"]


def test_inferred_contract_quarantines_rows_without_a_usable_weight() -> None:
    config = make_config()
    contract = infer_contract(make_rows([1.0, 2.0] * 50), config)
    new_rows = make_rows([*[3.0] * 97, np.nan, -1.0, 1e9])
    report, accepted, quarantined = validate_rows_against_contract(new_rows, contract, 0.05)
    assert not report.is_broken
    assert quarantined["row_id"].tolist() == [97, 98]
    assert len(accepted) == 98
