"""Tables of reviews made by earlier versions are read in the columns of today."""

from __future__ import annotations

import pandas as pd
import pytest

from mlops_kit.core.results import Table
from mlops_kit.stages.review.stored_tables import translate_old_columns


@pytest.mark.parametrize(
    ("artifact_name", "old_columns", "new_columns"),
    [
        (
            "calibration",
            ["model", "said", "seen", "low"],
            ["model", "predicted", "observed", "low"],
        ),
        ("changes", ["what", "said"], ["aspect", "change"]),
        ("importance", ["feature", "fall", "spread"], ["feature", "importance", "spread"]),
        ("slices", ["slice", "gap", "word"], ["slice", "gap", "status"]),
        (
            "what_if",
            ["row", "score", "column", "is", "if", "then"],
            ["row", "score", "column", "value", "new_value", "new_score"],
        ),
        ("metrics", ["metric", "value"], ["metric", "value"]),
    ],
)
def test_old_columns_are_translated(
    artifact_name: str, old_columns: list[str], new_columns: list[str]
) -> None:
    data = pd.DataFrame([range(len(old_columns))], columns=old_columns)
    units = dict.fromkeys(old_columns, "unit")
    table = Table("t", "s", data, units, visible_columns=tuple(old_columns))
    translated = translate_old_columns(artifact_name, table)
    assert list(translated.data.columns) == new_columns
    assert list(translated.units) == new_columns
    assert list(translated.visible_columns) == new_columns


def test_current_table_is_left_alone() -> None:
    table = Table("t", "s", pd.DataFrame({"feature": ["a"], "importance": [1.0]}))
    assert translate_old_columns("importance", table) is table
