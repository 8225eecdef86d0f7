"""Every shape keeps one contract: title, axes with units, nothing fetched, the same SVG each time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core import charts
from mlops_kit.core.errors import KitError
from mlops_kit.core.results import Figure, Table


def table(rows: int = 4) -> Table:
    n = range(rows)
    data = {
        "day": pd.date_range("2013-07-01", periods=rows, tz="UTC"),
        "of.what": [f"g{i}" for i in n],
        "mean": [0.1 * i for i in n],
    }
    data |= {
        "low": [0.1 * i - 0.05 for i in n],
        "high": [0.1 * i + 0.05 for i in n],
        "weight": [1 / (i + 1) for i in n],
    }
    return Table("Delay <by> day", "It rose.", pd.DataFrame(data), {"mean": "minutes"})


SHAPES: dict[str, Callable[[Table], Figure]] = {
    "line": lambda t: charts.plot_line(t, "day", "mean", "low", "high", y_title="Mean delay"),
    "coloured line": lambda t: charts.plot_line(t, "day", "mean", "low", "high", colour="of.what"),
    "bars": lambda t: charts.plot_bars(t, "of.what", "mean"),
    "intervals": lambda t: charts.plot_intervals(
        t, "of.what", "mean", "low", "high", reference=0.15
    ),
    "calibration": lambda t: charts.plot_calibration_curve(
        t, "mean", "high", "low", "high", "weight"
    ),
}


def words(figure: Figure) -> str:
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", figure.svg))


@pytest.mark.parametrize("shape", SHAPES)
class TestEveryShape:
    def test_has_its_title_and_its_axis_with_the_unit(self, shape: str) -> None:
        said = words(SHAPES[shape](table()))
        assert "Delay &lt;by&gt; day" in said
        assert "(minutes)" in said

    def test_brings_the_tables_sentence_and_numbers(self, shape: str) -> None:
        made = table()
        figure = SHAPES[shape](made)
        assert figure.sentence == made.sentence
        assert figure.data is made.data

    def test_is_the_same_svg_each_time(self, shape: str) -> None:
        assert SHAPES[shape](table()).svg == SHAPES[shape](table()).svg

    def test_loads_nothing(self, shape: str) -> None:
        svg = SHAPES[shape](table()).svg
        assert set(re.findall(r"https?://[^\"' ]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert "<script" not in svg
        assert "<image" not in svg

    def test_draws_a_table_without_rows(self, shape: str) -> None:
        assert SHAPES[shape](table(0)).svg.startswith("<svg")

    def test_draws_what_is_missing_or_infinite(self, shape: str) -> None:
        made = table()
        holed = made.data.assign(
            mean=[None, float("inf"), 0.2, 0.3], low=None, **{"of.what": [None, "a", "a", "b"]}
        )
        svg = SHAPES[shape](Table(made.title, made.sentence, holed, made.units)).svg
        assert "NaN" not in svg
        assert "Infinity" not in svg


def test_a_column_that_is_not_there_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(KitError, match="'mean'"):
        charts.plot_bars(table(), "of.what", "maen")


def test_bars_stand_in_the_order_of_the_table_and_equal_names_keep_a_bar_each() -> None:
    made = Table("t", "s", pd.DataFrame({"c": ["b", "a", "b"], "v": [1, 2, 3]}))
    found = [w for w in words(charts.plot_bars(made, "c", "v")).split() if w in {"a", "b"}]
    assert found == ["b", "a", "b"]
    assert (
        len(re.findall(r"<path[^>]*fill=\"var\(--chart-blue", charts.plot_bars(made, "c", "v").svg))
        == 3
    )


def test_a_long_line_is_thinned_and_says_so() -> None:
    frame, note = charts.thin_points(pd.DataFrame({"x": range(12_000)}))
    assert len(frame) == charts.MAX_LINE_POINTS
    assert (frame["x"].iloc[0], frame["x"].iloc[-1]) == (0, 11_999)
    assert note == "5,000 of 12,000 points are drawn, evenly spaced"
    assert charts.thin_points(frame)[1] == ""


def test_many_bars_are_cut_and_the_figure_says_so() -> None:
    made = Table("t", "s", pd.DataFrame({"c": range(100), "v": range(100)}))
    assert "the first 40 of 100 are drawn" in words(charts.plot_bars(made, "c", "v"))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.Series(["2013-07-01", None]), "temporal"),
        (pd.Series([1, 2]), "quantitative"),
        (pd.Series(["a", None]), "ordinal"),
        (pd.Series([True, False]), "ordinal"),
    ],
)
def test_what_lies_along_x_is_told_from_its_values(values: Any, kind: str) -> None:
    assert charts.detect_x_axis_type(values)[1] == kind


def test_a_moment_is_drawn_in_its_own_day_wherever_the_machine_stands() -> None:
    drawn, _ = charts.detect_x_axis_type(pd.Series(pd.to_datetime(["2013-07-01T23:30Z"])))
    assert list(drawn) == ["2013-07-01T23:30:00Z"]
