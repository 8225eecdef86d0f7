"""Charts with two axes: what their SVG shows, and that it follows the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from mlops_kit.dashboards import vega_charts
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.vega_charts import (
    BarChart,
    BarChartBar,
    ChartEvent,
    ChartLine,
    LineChart,
    draw_bar_chart,
    draw_line_chart,
)

BAD = "<img src=x onerror=alert(1)>\"'"
FULL_CHART = LineChart(
    lines=[
        ChartLine([(0, 0.2), (10, 0.4)], "soft", (5, 4), "estimated"),
        ChartLine([(0, 0.3), (5, None), (10, 0.5)], name="realized", has_dots=True),
    ],
    label="Realized and estimated",
    x_ticks=[(0, ""), (0, "Jul"), (5, "Aug"), (10, "")],
    y_ticks=[0, 0.5, 1],
    format_value="{:.0%}".format,
    band=[(0, 0.1, 0.3), (10, 0.3, 0.5)],
    events=[ChartEvent(2, "version 2"), ChartEvent(9.9, "version 3")],
    histogram=[(2, 1.0), (4, 0.5)],
    has_diagonal=True,
)
BAR_CHART = BarChart(
    [BarChartBar(0.5, 100, "1 Jul"), BarChartBar(1.5, 40, "2 Jul"), BarChartBar(2.5, 105, "3 Jul")],
    "Rows by day",
    [(0, ""), (1, "2 Jul"), (3, "")],
    (95, 105),
)


def draw_lines(*lines: ChartLine) -> Html:
    return draw_line_chart(LineChart(lines, "A label", [(0, ""), (10, "")], [0, 2], str))


def list_texts(rendered: Html) -> list[ElementTree.Element]:
    return [element for element in ElementTree.fromstring(rendered).iter("text") if element.text]


def get_text(rendered: Html, text: str) -> ElementTree.Element:
    [element] = [element for element in list_texts(rendered) if element.text == text]
    return element


def get_position(element: ElementTree.Element) -> tuple[float, float]:
    """Return where the element is, within the plot."""
    found = re.fullmatch(r"translate\((.+),(.+)\)", element.get("transform", ""))
    assert found
    return float(found[1]), float(found[2])


def list_data_paths(rendered: Html, mark: str) -> list[ElementTree.Element]:
    """List the paths of the layers of one kind of mark."""
    paths = []
    for group in ElementTree.fromstring(rendered).iter("g"):
        if f"mark-{mark} role-mark" in group.get("class", ""):
            paths.extend(group.iter("path"))
    return paths


@pytest.fixture(params=["lines", "bars"])
def rendered(request: pytest.FixtureRequest) -> Html:
    """A chart of each type."""
    if request.param == "lines":
        return draw_line_chart(FULL_CHART)
    return draw_bar_chart(BAR_CHART)


class TestEveryChart:
    def test_is_an_image_with_a_label_that_scales(self, rendered: Html) -> None:
        root = ElementTree.fromstring(rendered)
        assert root.get("role") == "img"
        assert root.get("aria-label") in {"Realized and estimated", "Rows by day"}
        assert root.get("viewBox") in {"0 0 520 230", "0 0 1120 190"}
        assert root.get("width") is None

    def test_has_only_colors_of_the_page(self, rendered: Html) -> None:
        colors = re.findall(r'(?:fill|stroke)="([^"]*)"', rendered)
        assert {"var(--soft)", "var(--line)"} < set(colors)
        assert all(re.fullmatch(r"var\(--\w+\)|none", color) for color in colors)

    def test_loads_nothing(self, rendered: Html) -> None:
        assert "http" not in rendered
        assert "<image" not in rendered
        assert "<script" not in rendered


def test_texts_of_the_axes_are_those_of_the_ticks_and_a_named_tick_counts() -> None:
    texts = [element.text for element in list_texts(draw_line_chart(FULL_CHART))]
    assert texts[:5] == ["Jul", "Aug", "0%", "50%", "100%"]


def test_lines_are_dashed_named_and_marked_as_they_are_declared() -> None:
    rendered = draw_line_chart(FULL_CHART)
    _, estimated, realized = list_data_paths(rendered, "line")
    assert estimated.get("stroke-dasharray") == "5,4"
    assert estimated.get("stroke") == "var(--soft)"
    assert not realized.get("stroke-dasharray")
    assert len(list_data_paths(rendered, "symbol")) == 2
    assert get_text(rendered, "estimated").get("fill") == "var(--soft)"
    assert get_text(rendered, "realized").get("fill") == "var(--blue)"


def test_a_line_breaks_where_a_value_is_missing() -> None:
    points = [(0, 1.0), (1, 1.5), (2, None), (3, float("nan")), (4, 2.0), (5, 1.0)]
    rendered = draw_lines(ChartLine(points))
    [path] = list_data_paths(rendered, "line")
    assert path.get("d", "").count("M") == 2
    assert "NaN" not in rendered


def test_a_name_is_at_its_point_and_on_its_side() -> None:
    points = [(0, 1.0), (5, None), (10, 2.0)]
    plot_width = 520 - 44 - 14
    for line, expected_x, anchor in (
        (ChartLine(points, name="n"), plot_width, "middle"),
        (ChartLine(points, name="n", name_index=0), 0, "middle"),
        (ChartLine(points, name="n", name_index=9, name_align="right"), plot_width, "end"),
        (ChartLine(points, name="n", name_index=-9, name_align="left"), 8, "start"),
    ):
        name = get_text(draw_lines(line), "n")
        assert get_position(name)[0] == pytest.approx(expected_x, abs=1)
        assert name.get("text-anchor") == anchor
    assert not list_texts(draw_lines(ChartLine([(0, None)], name="n")))[2:]


def test_name_offset_moves_the_name_down() -> None:
    above, below = (
        get_position(get_text(draw_lines(ChartLine([(0, 1.0)], name="n", name_offset=y)), "n"))[1]
        for y in (-12, 20)
    )
    assert below - above == pytest.approx(32)


def test_a_chart_of_a_single_point_in_time_is_drawn() -> None:
    chart = LineChart(
        [ChartLine([(0, 1.0)], has_dots=True)],
        "One point",
        [(0, "Jul"), (0, "")],
        [1, 1],
        str,
        events=[ChartEvent(0, "version 2")],
        histogram=[(0, 1.0), (0, 0.5)],
    )
    rendered = draw_line_chart(chart)
    assert len(list_data_paths(rendered, "symbol")) == 1
    assert "NaN" not in rendered


def test_the_text_of_an_event_stays_within_the_chart() -> None:
    rendered = draw_line_chart(FULL_CHART)
    assert get_text(rendered, "version 2").get("text-anchor") == "start"
    assert get_text(rendered, "version 3").get("text-anchor") == "end"


def test_histogram_stands_on_the_axis_and_its_largest_bar_has_the_full_height() -> None:
    heights = []
    for path in list_data_paths(draw_line_chart(FULL_CHART), "rect"):
        _, height = re.findall(r"[hv](-?[\d.]+)", path.get("d", ""))[:2]
        heights.append(float(height))
    assert heights == pytest.approx([46, 23])


def test_bars_outside_of_the_usual_range_stand_out_and_say_their_day() -> None:
    _, *bars = list_data_paths(draw_bar_chart(BAR_CHART), "rect")
    assert [bar.findtext("title") for bar in bars] == ["1 Jul", "2 Jul", "3 Jul"]
    assert [bar.get("fill") for bar in bars] == ["var(--blue)", "var(--watch)", "var(--blue)"]


def test_a_usual_range_of_one_value_is_visible() -> None:
    chart = BarChart(BAR_CHART.bars, "Rows by day", BAR_CHART.x_ticks, (100, 100))
    usual_range, *_ = list_data_paths(draw_bar_chart(chart), "rect")
    [height] = re.findall(r"v([\d.]+)", usual_range.get("d", ""))
    assert float(height) == pytest.approx(1)


def test_text_from_outside_adds_no_element_and_no_attribute() -> None:
    line_chart = LineChart(
        [ChartLine([(0, 0), (1, 1)], name=BAD)],
        BAD,
        [(0, BAD), (3, BAD)],
        [0, 2],
        lambda value: BAD,
        events=[ChartEvent(0.5, BAD)],
    )
    bar_chart = BarChart([BarChartBar(0.5, 1, BAD)], BAD, [(0, BAD), (1, BAD)], (0, 1))
    for rendered in (draw_line_chart(line_chart), draw_bar_chart(bar_chart)):
        root = ElementTree.fromstring(rendered)
        assert root.get("aria-label") == BAD
        assert {element.tag for element in root.iter()} <= {
            *("svg", "g", "path", "line", "text", "title")
        }
        assert BAD in {element.text for element in root.iter()}
        assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)


def test_an_equal_chart_is_rendered_once() -> None:
    hits = vega_charts.render_declaration.cache_info().hits
    points = [(0, 1.0), (1, 1.0 + hits)]
    first = draw_lines(ChartLine(points))
    assert vega_charts.render_declaration.cache_info().hits == hits
    assert draw_lines(ChartLine(points)) == first
    assert vega_charts.render_declaration.cache_info().hits == hits + 1
