"""Groups: which columns, how good, and when one cannot tell."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlops_kit.core.errors import KitError
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review import evaluate_slices

Judged = Callable[..., pd.DataFrame]
Make = Callable[..., ProjectConfig]


def test_the_group_the_model_knows_nothing_of_lies_far_below(config: Make, judged: Judged) -> None:
    frame = judged()
    data = evaluate_slices(frame, config(), ["group"], draws=100).to_frame().set_index("group")
    assert data["word"].to_dict() == {"a": "fine", "b": "far below", "c": "fine"}
    inside = frame[frame["group"] == "b"]
    assert data.loc["b", "value"] == pytest.approx(roc_auc_score(inside["late"], inside["score"]))
    assert data.loc["b", "gap"] == pytest.approx(
        data.loc["b", "value"] - roc_auc_score(frame["late"], frame["score"])
    )
    assert data.loc["b", "lift"] == pytest.approx(inside["late"].mean() / frame["late"].mean())
    assert data["rows"].sum() == len(frame)


def test_a_small_group_cannot_tell(config: Make, judged: Judged) -> None:
    data = (
        evaluate_slices(judged(), config(review={"min_slice_rows": 1000}), ["group"], draws=100)
        .to_frame()
        .set_index("group")
    )
    assert data.loc["b", "word"] == data.loc["c", "word"] == "cannot tell"
    assert pd.isna(data.loc["b", "low"])


def test_coarse_categories_are_found_and_a_number_is_not(config: Make, judged: Judged) -> None:
    data = evaluate_slices(judged(), config(), draws=100).to_frame()
    assert set(data["column"]) == {"group"}


def test_the_configs_columns_are_taken_and_an_unknown_one_is_worded(
    config: Make, judged: Judged
) -> None:
    with pytest.raises(KitError, match=r"review.slices: unknown column 'grup'(.|\n)*'group'"):
        evaluate_slices(judged(), config(review={"slices": ["grup"]}))


def test_missing_values_are_a_group(config: Make, judged: Judged) -> None:
    frame = judged()
    frame.loc[frame["group"] == "b", "group"] = None
    assert set(evaluate_slices(frame, config(), ["group"], draws=100).to_frame()["group"]) == {
        "a",
        "missing",
        "c",
    }


def test_nothing_to_slice_by_says_so(config: Make, judged: Judged) -> None:
    found = evaluate_slices(judged().drop(columns="group"), config(), draws=100)
    assert found.to_frame().empty
    assert "no coarse category" in found.sentence


def test_a_group_of_one_class_cannot_tell(config: Make, judged: Judged) -> None:
    frame = judged()
    frame.loc[frame["group"] == "a", "late"] = 0.0
    assert (
        evaluate_slices(frame, config(), ["group"], draws=100)
        .to_frame()
        .set_index("group")
        .loc["a", "word"]
        == "cannot tell"
    )


def test_a_regression_is_sliced_too_and_less_error_is_better(config: Make, judged: Judged) -> None:
    made = config("regression", review={"metric": "rmse", "max_slice_gap": 0.5})
    data = (
        evaluate_slices(judged("regression"), made, ["group"], draws=100)
        .to_frame()
        .set_index("group")
    )
    assert data.loc["b", "gap"] < 0 < data.loc["a", "gap"]
    assert data.loc["b", "word"] == "far below"


def test_many_groups_are_cut_and_counted(config: Make, judged: Judged) -> None:
    found = evaluate_slices(
        judged().assign(code=lambda f: (f["id"] % 30).astype(str)), config(), ["code"], draws=100
    )
    assert len(found.to_frame()) == 20
    assert "code: 10 smaller groups are not shown." in found.notes
