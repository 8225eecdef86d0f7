"""Labels of columns: shown by tables, charts and cards, with the name on hover."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest

from mlops_kit.core import chart_elements, column_labels
from mlops_kit.core.column_labels import ColumnLabel, get_column_label
from mlops_kit.core.formatting import render_table_html
from mlops_kit.core.results import Table
from mlops_kit.dashboards import strip_charts, view_models

DELAY = ColumnLabel("dep_delay", "Departure <delay>", "min", 'Minutes "late"')


@pytest.fixture(autouse=True)
def labels() -> Iterator[None]:
    column_labels.use_column_labels({"dep_delay": DELAY, "a": ColumnLabel("a", unit="kg")})
    yield
    column_labels.use_column_labels({})


@pytest.mark.parametrize(
    ("name", "text", "tooltip"),
    [
        ("dep_delay", "Departure <delay> (min)", 'dep_delay: Minutes "late"'),
        ("a", "a (kg)", "a"),
        ("unknown", "unknown", ""),
    ],
)
def test_label_has_its_unit_and_the_name_on_hover(name: str, text: str, tooltip: str) -> None:
    label = get_column_label(name)
    assert (label.text, label.tooltip) == (text, tooltip)


def test_table_shows_labels_of_columns_and_no_others() -> None:
    frame = pd.DataFrame({"column": ["dep_delay", "b<"], "value": ["dep_delay", "x"]})
    page = render_table_html(frame)
    cell = '<span title="dep_delay: Minutes &quot;late&quot;">Departure &lt;delay&gt; (min)</span>'
    assert page.count(cell) == 1
    assert "<td>b&lt;</td>" in page
    assert "<td>dep_delay</td>" in page


def test_chart_shows_labels_on_its_axis() -> None:
    frame = pd.DataFrame({"feature": ["dep_delay"], "importance": [1.0]})
    axis = chart_elements.build_label_axis(Table("T", "S.", frame), "feature")
    assert "Departure <delay> (min)" in str(axis.to_dict())
    assert "dep_delay" not in str(axis.to_dict())


def test_dashboard_shows_labels_with_the_name_on_hover() -> None:
    frame = pd.DataFrame({"column": ["dep_delay"], "effect": [0.5]})
    [table] = view_models.make_frame_table(frame)
    page = str(view_models.Html(table))
    assert 'title="dep_delay: Minutes &quot;late&quot;"' in page
    assert "Departure &lt;delay&gt; (min)" in page
    name = view_models.make_column_name("dep_delay")
    bars = str(view_models.Html(strip_charts.make_bar_strips([(name, 1.0, "1")], "Importance")))
    assert 'title="dep_delay' in bars
    assert "&amp;lt;" not in bars.split("aria-label")[0]


def test_slice_is_shown_by_the_label_of_its_column() -> None:
    label = get_column_label("dep_delay = 5")
    assert label.text == "Departure <delay> (min) = 5"
    assert label.tooltip == 'dep_delay = 5: Minutes "late"'
    assert get_column_label("other = 5").text == "other = 5"
    frame = pd.DataFrame({"slice": ["dep_delay = 5"], "rows": [3]})
    assert "<td>" in render_table_html(frame)
    assert ">Departure &lt;delay&gt; (min) = 5</span>" in render_table_html(frame)


def test_sentence_is_shown_with_labels_and_stored_with_names() -> None:
    frame = pd.DataFrame({"feature": ["dep_delay", "b"], "importance": [1.0, 0.0]})
    sentence = "dep_delay matters most, dep_delay_2 & b not at all."
    table = Table("Importance", sentence, frame)
    page = table._repr_html_()
    assert 'title="dep_delay: Minutes' in page
    assert "(min)</span> matters most, dep_delay_2 &amp; b not at all." in page
    assert (str(table), table.sentence) == (sentence, sentence)
    shown = str(view_models.make_sentence(table))
    assert shown in page
    # A word is a column only where the table has it as one.
    unrelated = Table("T", "dep_delay", pd.DataFrame({"value": ["dep_delay"]}))
    assert "<b>dep_delay</b>" in unrelated._repr_html_()


def test_slice_in_a_sentence_comes_before_its_column() -> None:
    text = column_labels.label_names("Weakest: dep_delay = 5.", ["dep_delay", "dep_delay = 5"])
    assert text == "Weakest: Departure <delay> (min) = 5."
