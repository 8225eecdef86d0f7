"""Slices: which columns, which performance, and when a slice cannot be decided."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlops_kit.core.errors import KitError
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review import evaluate_slices

MakeRows = Callable[..., pd.DataFrame]
MakeConfig = Callable[..., ProjectConfig]


def test_group_without_information_is_far_below(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame = make_rows()
    data = evaluate_slices(frame, make_config(), ["group"], draws=100).to_frame().set_index("group")
    assert data["status"].to_dict() == {"a": "fine", "b": "far below", "c": "fine"}
    inside = frame[frame["group"] == "b"]
    assert data.loc["b", "value"] == pytest.approx(roc_auc_score(inside["late"], inside["score"]))
    assert data.loc["b", "gap"] == pytest.approx(
        data.loc["b", "value"] - roc_auc_score(frame["late"], frame["score"])
    )
    assert data.loc["b", "lift"] == pytest.approx(inside["late"].mean() / frame["late"].mean())
    assert data["rows"].sum() == len(frame)


def test_small_group_cannot_be_decided(make_config: MakeConfig, make_rows: MakeRows) -> None:
    data = (
        evaluate_slices(
            make_rows(), make_config(review={"min_slice_rows": 1000}), ["group"], draws=100
        )
        .to_frame()
        .set_index("group")
    )
    assert data.loc["b", "status"] == data.loc["c", "status"] == "cannot tell"
    assert pd.isna(data.loc["b", "low"])


def test_categorical_features_are_selected_and_numbers_are_not(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    data = evaluate_slices(make_rows(), make_config(), draws=100).to_frame()
    assert set(data["column"]) == {"group"}


def test_unknown_configured_column_is_an_error(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    with pytest.raises(KitError, match=r"review.slices: unknown column 'grup'(.|\n)*'group'"):
        evaluate_slices(make_rows(), make_config(review={"slices": ["grup"]}))


def test_missing_values_are_a_group_of_their_own(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame = make_rows()
    frame.loc[frame["group"] == "b", "group"] = None
    assert set(evaluate_slices(frame, make_config(), ["group"], draws=100).to_frame()["group"]) == {
        "a",
        "missing",
        "c",
    }


def test_sentence_says_that_there_is_nothing_to_slice_by(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    found = evaluate_slices(make_rows().drop(columns="group"), make_config(), draws=100)
    assert found.to_frame().empty
    assert "no categorical feature" in found.sentence


def test_group_of_one_class_cannot_be_decided(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame = make_rows()
    frame.loc[frame["group"] == "a", "late"] = 0.0
    assert (
        evaluate_slices(frame, make_config(), ["group"], draws=100)
        .to_frame()
        .set_index("group")
        .loc["a", "status"]
        == "cannot tell"
    )


def test_regression_slices_with_smaller_is_better_metric(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    made = make_config("regression", review={"metric": "rmse", "max_slice_gap": 0.5})
    data = (
        evaluate_slices(make_rows("regression"), made, ["group"], draws=100)
        .to_frame()
        .set_index("group")
    )
    assert data.loc["b", "gap"] < 0 < data.loc["a", "gap"]
    assert data.loc["b", "status"] == "far below"


def test_only_the_largest_groups_are_shown(make_config: MakeConfig, make_rows: MakeRows) -> None:
    found = evaluate_slices(
        make_rows().assign(code=lambda f: (f["id"] % 30).astype(str)),
        make_config(),
        ["code"],
        draws=100,
    )
    assert len(found.to_frame()) == 20
    assert "code: 10 smaller groups are not shown." in found.notes
