"""Columns of a source may have any name, also one of the chain's own columns."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_kit.project.config.reserved_names import (
    TABLE_COLUMNS,
    choose_source_names,
    name_beside_chain,
)
from mlops_kit.project.validation import validate_config


def make_config(**more: Any) -> Any:
    """Return a configuration with some settings."""
    settings = {"name": "p", "source": "x.csv", "target": "y", "task": "regression", **more}
    return validate_config(settings, "test")


@pytest.mark.parametrize("column", sorted({*TABLE_COLUMNS, "row_id"}))
def test_column_of_the_chain_gets_another_name(column: str) -> None:
    assert name_beside_chain(column) == f"{column}_1"
    assert name_beside_chain(column, [f"{column}_1"]) == f"{column}_2"


@pytest.mark.parametrize("column", ["row", "index", "age", "part_1"])
def test_any_other_column_keeps_its_name(column: str) -> None:
    assert name_beside_chain(column) == column


def test_roles_are_named_as_they_are_read() -> None:
    config = make_config(target="score", id=["prediction_id", "k"], time="day", weight="part")
    assert config.target == "score_1"
    assert config.id == ["prediction_id_1", "k"]
    columns = ["prediction_id", "k", "day", "part", "score", "decision"]
    names = choose_source_names(config.role_columns, columns)
    assert names == {
        "prediction_id": "prediction_id_1",
        "day": "day_1",
        "part": "part_1",
        "score": "score_1",
    }


def test_stored_configuration_is_read_unchanged() -> None:
    config = make_config(target="score", id="prediction_id")
    again = validate_config(config.model_dump(exclude_unset=True), "stored")
    assert again == config


def test_row_id_is_renamed_unless_it_is_the_id() -> None:
    assert choose_source_names({"y"}, ["row_id", "y"]) == {"row_id": "row_id_1"}
    config = make_config(id="row_id", excluded_columns=["x"])
    assert choose_source_names(config.role_columns, ["row_id", "y"]) == {}
    assert make_config(excluded_columns="row_id").excluded_columns == ["row_id_1"]
