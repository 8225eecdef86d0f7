"""The explorer shows the figures of its tables, and its initial figure without a kernel."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_percent
from mlops_kit.project import validation
from mlops_kit.project.config import root
from mlops_kit.stages.explore import widgets


def make_config(**values: Any) -> root.ProjectConfig:
    return validation.validate_config(
        {"name": "t", "source": "t.csv", "target": "y", "task": "binary", **values}, "test"
    )


def make_rows() -> pd.DataFrame:
    return pd.DataFrame(
        {"k": range(60), "g": ["a", "a", "b"] * 20, "v": range(60), "y": [0, 1] * 30}
    )


def test_bins_contain_every_row_once() -> None:
    found = widgets.summarize_distribution(make_rows(), "v")
    assert len(found.data) == widgets._HISTOGRAM_BINS
    assert found.data["rows"].tolist() == [3] * 20
    assert found.data["share"].sum() == pytest.approx(1)


def test_sentence_names_the_most_frequent_value() -> None:
    share = format_percent(2 / 3)
    assert widgets.summarize_distribution(make_rows(), "g").sentence == (
        f"The most frequent value of g is a, in {share} of the rows that have a value."
    )


def test_shares_sum_to_one_per_group() -> None:
    data = widgets.summarize_distribution(make_rows().assign(y=[0] * 30 + [1] * 30), "y", "g").data
    assert data.groupby("group")["share"].sum().tolist() == pytest.approx([1, 1])


def test_sentence_names_the_largest_group_difference() -> None:
    frame = pd.DataFrame({"c": ["x", "x", "y", "y", "z", "z"], "g": ["a", "a", "a", "b", "b", "a"]})
    sentence = widgets.summarize_distribution(frame, "c", "g").sentence
    shares = f"{format_percent(0.5)} of a, {format_percent(0)} of b"
    assert sentence == f"The groups of g differ most at c = x: {shares}."


def test_column_without_values_has_a_sentence() -> None:
    assert (
        widgets.summarize_distribution(pd.DataFrame({"e": [None, None]}), "e").sentence
        == "e has no values."
    )
    assert widgets.plot_distribution(pd.DataFrame({"e": [None, None]}), "e").svg.startswith("<svg")


def test_missing_values_are_counted_in_sentence() -> None:
    assert widgets.summarize_distribution(pd.DataFrame({"e": ["x", None]}), "e").sentence.endswith(
        "1 rows have no value."
    )


def test_unknown_column_error_suggests_nearest() -> None:
    with pytest.raises(KitError, match="'v'"):
        widgets.summarize_distribution(make_rows(), "vv")


def test_menus_update_the_figure_and_target_is_first() -> None:
    explorer = widgets.create_explorer(make_rows(), make_config(id="k"))
    assert explorer.column_menu.options == ("y", "g", "v")
    before = explorer.output.value
    explorer.column_menu.value = "v"
    assert explorer.output.value != before
    assert "The most frequent value of v is" in explorer.sentence
    explorer.group_menu.value = "g"
    assert explorer.sentence.startswith("The groups of g differ most")


def test_initial_figure_is_shown_without_a_kernel() -> None:
    explorer = widgets.create_explorer(make_rows(), make_config(id="k"))
    explorer.column_menu.value = "v"
    data, _ = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert explorer.initial_figure.svg in data["text/html"]
    assert "Distribution of y" in data["text/html"]


def test_table_with_only_ids_is_rejected() -> None:
    with pytest.raises(KitError, match="none to explore"):
        widgets.create_explorer(pd.DataFrame({"k": [1]}), make_config(id="k"))
