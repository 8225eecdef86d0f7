"""The explorer's pictures are those of its tables, and one of them stands in where no kernel answers."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.project import validation
from mlops_kit.project.config import root
from mlops_kit.stages.explore import widgets


def config(**given: Any) -> root.ProjectConfig:
    return validation.validate_config(
        {"name": "t", "source": "t.csv", "target": "y", "task": "binary", **given}, "test"
    )


def rows() -> pd.DataFrame:
    return pd.DataFrame(
        {"k": range(60), "g": ["a", "a", "b"] * 20, "v": range(60), "y": [0, 1] * 30}
    )


def test_bins_hold_every_row_once() -> None:
    found = widgets.summarize_distribution(rows(), "v")
    assert len(found.data) == widgets._HISTOGRAM_BINS
    assert found.data["rows"].tolist() == [3] * 20
    assert found.data["share"].sum() == pytest.approx(1)


def test_the_commonest_value_is_the_sentence() -> None:
    assert (
        widgets.summarize_distribution(rows(), "g").sentence
        == "g is most often a: 67 % of the rows that have a value."
    )


def test_shares_are_of_the_group() -> None:
    data = widgets.summarize_distribution(rows().assign(y=[0] * 30 + [1] * 30), "y", "g").data
    assert data.groupby("group")["share"].sum().tolist() == pytest.approx([1, 1])


def test_where_groups_differ_most_is_the_sentence() -> None:
    frame = pd.DataFrame({"c": ["x", "x", "y", "y", "z", "z"], "g": ["a", "a", "a", "b", "b", "a"]})
    assert (
        widgets.summarize_distribution(frame, "c", "g").sentence
        == "The groups of g differ most at c = x: 50 % of a, 0 % of b."
    )


def test_a_column_without_values_is_said_not_raised() -> None:
    assert (
        widgets.summarize_distribution(pd.DataFrame({"e": [None, None]}), "e").sentence
        == "e has no values."
    )
    assert widgets.plot_distribution(pd.DataFrame({"e": [None, None]}), "e").svg.startswith("<svg")


def test_missing_values_are_counted_in_words() -> None:
    assert widgets.summarize_distribution(pd.DataFrame({"e": ["x", None]}), "e").sentence.endswith(
        "1 rows have no value."
    )


def test_an_unknown_column_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(KitError, match="'v'"):
        widgets.summarize_distribution(rows(), "vv")


def test_the_menus_draw_and_the_target_stands_first() -> None:
    made = widgets.create_explorer(rows(), config(id="k"))
    assert made.column_menu.options == ("y", "g", "v")
    before = made.output.value
    made.column_menu.value = "v"
    assert made.output.value != before
    assert "v is most often" in made.sentence
    made.group_menu.value = "g"
    assert made.sentence.startswith("The groups of g differ most")


def test_where_no_kernel_answers_the_first_picture_stands() -> None:
    made = widgets.create_explorer(rows(), config(id="k"))
    made.column_menu.value = "v"
    data, _ = made._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert made.initial_figure.svg in data["text/html"]
    assert "How is y spread?" in data["text/html"]


def test_a_table_of_ids_only_has_nothing_to_explore() -> None:
    with pytest.raises(KitError, match="none to explore"):
        widgets.create_explorer(pd.DataFrame({"k": [1]}), config(id="k"))
