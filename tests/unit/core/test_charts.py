"""Charts: every type has a title, axes with units, loads nothing, and gives the same SVG again."""

from __future__ import annotations

import re
from collections.abc import Callable

import pandas as pd
import pytest

from mlops_kit.core import chart_elements, charts
from mlops_kit.core.errors import KitError
from mlops_kit.core.results import Figure, Table


def make_table(rows: int = 4) -> Table:
    """Make a table whose title and column names have special characters."""
    numbers = range(rows)
    data = {
        "day": pd.date_range("2013-07-01", periods=rows, tz="UTC"),
        "of.what": [f"g{i}" for i in numbers],
        "mean": [0.1 * i for i in numbers],
        "low": [0.1 * i - 0.05 for i in numbers],
        "high": [0.1 * i + 0.05 for i in numbers],
        "weight": [1 / (i + 1) for i in numbers],
    }
    return Table("Delay <by> day", "It rose.", pd.DataFrame(data), {"mean": "minutes"})


def plot_line(table: Table) -> Figure:
    titles = {"mean": "Mean delay"}
    return charts.plot_line(table, "day", "mean", ("low", "high"), titles=titles)


def plot_colored_lines(table: Table) -> Figure:
    return charts.plot_line(table, "day", "mean", ("low", "high"), color="of.what")


def plot_bars(table: Table) -> Figure:
    return charts.plot_bars(table, "of.what", "mean")


def plot_intervals(table: Table) -> Figure:
    return charts.plot_intervals(table, "of.what", "mean", "low", "high", reference=0.15)


def plot_calibration_curve(table: Table) -> Figure:
    return charts.plot_calibration_curve(table, "mean", "high", "low", "high", "weight")


def plot_matrix(table: Table) -> Figure:
    return charts.plot_matrix(table, "of.what", "of.what", "mean")


CHART_TYPES = [
    plot_line,
    plot_colored_lines,
    plot_bars,
    plot_intervals,
    plot_calibration_curve,
    plot_matrix,
]


def read_text(figure: Figure) -> str:
    """Return the text in the SVG of a figure."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", figure.svg))


@pytest.mark.parametrize("plot", CHART_TYPES)
class TestEveryChartType:
    def test_has_its_title_and_its_axis_with_the_unit(
        self, plot: Callable[[Table], Figure]
    ) -> None:
        text = read_text(plot(make_table()))
        assert "Delay &lt;by&gt; day" in text
        assert "(minutes)" in text

    def test_has_the_sentence_and_the_numbers_of_the_table(
        self, plot: Callable[[Table], Figure]
    ) -> None:
        table = make_table()
        figure = plot(table)
        assert figure.sentence == table.sentence
        assert figure.data is table.data

    def test_gives_the_same_svg_again(self, plot: Callable[[Table], Figure]) -> None:
        assert plot(make_table()).svg == plot(make_table()).svg

    def test_loads_nothing(self, plot: Callable[[Table], Figure]) -> None:
        svg = plot(make_table()).svg
        assert set(re.findall(r"https?://[^\"' ]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert "<script" not in svg
        assert "<image" not in svg

    def test_draws_a_table_without_rows(self, plot: Callable[[Table], Figure]) -> None:
        assert plot(make_table(0)).svg.startswith("<svg")

    def test_draws_missing_and_infinite_values(self, plot: Callable[[Table], Figure]) -> None:
        table = make_table()
        incomplete = table.data.assign(
            mean=[None, float("inf"), 0.2, 0.3], low=None, **{"of.what": [None, "a", "a", "b"]}
        )
        svg = plot(Table(table.title, table.sentence, incomplete, table.units)).svg
        assert "NaN" not in svg
        assert "Infinity" not in svg


def test_axis_title_can_be_set() -> None:
    assert "Mean delay (minutes)" in read_text(plot_line(make_table()))
    bars = charts.plot_bars(make_table(), "of.what", "mean", {"of.what": "Group"})
    assert "Group" in read_text(bars)


def test_unknown_column_is_an_error_that_suggests_a_name() -> None:
    with pytest.raises(KitError, match="'mean'"):
        charts.plot_bars(make_table(), "of.what", "maen")


def test_bars_are_in_the_order_of_the_table_and_equal_names_keep_a_bar_each() -> None:
    table = Table("t", "s", pd.DataFrame({"c": ["b", "a", "b"], "v": [1, 2, 3]}))
    figure = charts.plot_bars(table, "c", "v")
    labels = [word for word in read_text(figure).split() if word in {"a", "b"}]
    assert labels == ["b", "a", "b"]
    assert len(re.findall(r"<path[^>]*fill=\"var\(--chart-blue", figure.svg)) == 3


def test_long_line_is_thinned_with_a_note() -> None:
    frame, note = chart_elements.thin_points(pd.DataFrame({"x": range(12_000)}))
    assert len(frame) == chart_elements.MAX_LINE_POINTS
    assert (frame["x"].iloc[0], frame["x"].iloc[-1]) == (0, 11_999)
    assert note == "5,000 of 12,000 points are drawn, evenly spaced"
    assert chart_elements.thin_points(frame)[1] == ""


def test_chart_with_many_bars_shows_the_first_with_a_note() -> None:
    table = Table("t", "s", pd.DataFrame({"c": range(100), "v": range(100)}))
    assert "the first 40 of 100 are drawn" in read_text(charts.plot_bars(table, "c", "v"))


@pytest.mark.parametrize(
    ("values", "axis_type"),
    [
        (pd.Series(["2013-07-01", None]), "temporal"),
        (pd.Series([1, 2]), "quantitative"),
        (pd.Series(["a", None]), "ordinal"),
        (pd.Series([True, False]), "ordinal"),
    ],
)
def test_type_of_the_x_axis_is_detected_from_its_values(values: pd.Series, axis_type: str) -> None:
    assert chart_elements.detect_x_axis_type(values).axis_type == axis_type


def test_timestamp_is_drawn_in_utc_on_every_machine() -> None:
    timestamps = pd.Series(pd.to_datetime(["2013-07-01T23:30Z"]))
    assert list(chart_elements.detect_x_axis_type(timestamps).values) == ["2013-07-01T23:30:00Z"]
