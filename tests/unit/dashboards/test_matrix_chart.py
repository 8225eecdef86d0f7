"""The chart of a confusion matrix: each pair of classes with share and count, in page colors."""

from __future__ import annotations

import re
from itertools import product
from xml.etree import ElementTree

import pytest

from mlops_kit.dashboards.matrix_chart import (
    MatrixCell,
    MatrixChart,
    choose_drawn_classes,
    draw_matrix_chart,
)
from mlops_kit.dashboards.rendering import Html

BAD = "<img src=x onerror=alert(1)>\"'"
MAX_CARD_PIXELS = 1090


def make_cells(names: list[str], hits: int = 90, errors: int = 10) -> list[MatrixCell]:
    """Make cells in which each class is mistaken for the next one."""
    cells = []
    for (row, true_class), (column, predicted) in product(enumerate(names), repeat=2):
        count = hits if row == column else 0
        if column == (row + 1) % len(names):
            count = errors
        cells.append(MatrixCell(true_class, predicted, count, count / (hits + errors)))
    return cells


def draw(names: list[str]) -> Html:
    return draw_matrix_chart(MatrixChart(names, make_cells(names), "A label"))


def list_texts(rendered: Html) -> list[str]:
    svg = rendered[rendered.index("<svg") :].removesuffix("</div>")
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("text")]


@pytest.mark.parametrize("class_count", [3, 7, 26])
def test_every_square_has_its_share_and_its_count(class_count: int) -> None:
    names = [f"kind {number}" for number in range(class_count)]
    rendered = draw(names)
    texts = list_texts(rendered)
    assert texts.count("90%") == texts.count("90") == class_count
    assert texts.count("10%") == texts.count("10") == class_count
    for name in names:
        assert texts.count(name) == 2  # as a row and as a column
    assert "<title>kind 0 predicted as kind 1: 10 rows, 10.0% of kind 0</title>" in rendered


@pytest.mark.slow
def test_chart_of_26_long_names_fits_its_card() -> None:
    rendered = draw([f"a class with the long name {number}" for number in range(26)])
    size = re.search(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"', rendered)
    assert size
    assert float(size[1]) <= MAX_CARD_PIXELS


def test_colors_are_those_of_the_page_and_texts_are_escaped() -> None:
    rendered = draw(["a", BAD])
    assert BAD not in rendered
    fills = set(re.findall(r'(?:fill|stroke)="([^"]+)"', rendered))
    assert "var(--blue2)" in fills
    assert fills <= {
        "var(--blue2)",
        "var(--ink)",
        "var(--soft)",
        "var(--line)",
        "none",
        "transparent",
    }


def test_of_too_many_classes_those_with_errors_are_drawn() -> None:
    names = [f"kind {number}" for number in range(60)]
    cells = [MatrixCell(name, name, 100, 1.0) for name in names] + [
        MatrixCell("kind 58", "kind 3", 7, 0.07)
    ]
    drawn = choose_drawn_classes(cells)
    assert len(drawn) == 40
    assert {"kind 3", "kind 58"} <= set(drawn)
    assert drawn == [name for name in names if name in drawn]
