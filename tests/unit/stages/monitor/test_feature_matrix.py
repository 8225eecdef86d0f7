"""Features as numbers, whatever the types of their columns."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlops_kit.stages.monitor.feature_matrix import fit_feature_encoder

REFERENCE = pd.DataFrame(
    {
        "number": [1.5, 2.5, None],
        "text": ["b", "a", None],
        "flag": [True, False, True],
        "time": pd.to_datetime(["2024-01-01"] * 3),
        "empty": [None, None, None],
    }
)


def test_columns_are_encoded_as_their_reference_says() -> None:
    encoder = fit_feature_encoder(REFERENCE, REFERENCE.columns)
    assert encoder.is_categorical.tolist() == [False, False, True]
    expected = [[1.5, 1, 1], [2.5, 0, 0], [np.nan, 1, np.nan]]
    np.testing.assert_array_equal(encoder.encode(REFERENCE), expected)


def test_number_that_has_become_text_an_infinity_and_an_absent_column() -> None:
    encoder = fit_feature_encoder(REFERENCE, ["number", "flag", "text"])
    window = pd.DataFrame({"number": ["2", "many", np.inf], "text": ["a", "new", "b"]})
    expected = [[2, np.nan, 0], [np.nan, np.nan, np.nan], [np.nan, np.nan, 1]]
    np.testing.assert_array_equal(encoder.encode(window), expected)


def test_share_of_values_that_the_reference_does_not_have() -> None:
    encoder = fit_feature_encoder(REFERENCE, ["text"])
    window = pd.DataFrame({"text": pd.Series(["a", "new", None, "b"], dtype="category")})
    assert encoder.measure_unseen_share(window) == ("text", 0.25)
    assert encoder.measure_unseen_share(REFERENCE) == ("", 0.0)


def test_names_with_many_values_are_left_out() -> None:
    names = pd.DataFrame({"name": [f"person {number}" for number in range(200)]})
    assert fit_feature_encoder(names, ["name"]).encode(names).shape == (200, 0)
