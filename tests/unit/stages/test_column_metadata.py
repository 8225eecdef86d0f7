"""Labels of columns: from mlops.yaml, from the contract and from docstrings of feature views."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core import dependencies
from mlops_kit.core.column_labels import ColumnLabel
from mlops_kit.core.file_log import file_log
from mlops_kit.project import loader
from mlops_kit.stages import column_metadata

CONFIG = """
name: t
source: t.csv
target: y
task: regression
features: [views.py, gone.py]
columns:
  a: {label: Age, unit: years}
  b: {description: From the file.}
"""
CONTRACT = """
columns:
  a: {type: number, label: Not this, unit: months, description: How old.}
  c: {type: text, label: Carrier}
"""
VIEWS = '''
import not_installed

from mlops_kit import features

@features.view
def plane(db):
    """Look up the plane.

    Columns
    -------
    plane_age : Age of the plane (years)
        Years since it was built,
        at the departure.
    seats : Seats
    a : Only used if nobody else says it (days)

    Notes
    -----
    other : Not a column
    """

def helper():
    """No view.

    Columns
    -------
    hidden : Hidden
    """
'''


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    for name, text in {
        "mlops.yaml": CONFIG,
        "contract.yaml": CONTRACT,
        "views.py": VIEWS,
    }.items():
        (tmp_path / name).write_text(text)
    return loader.load_project(tmp_path)


def test_settings_override_the_contract_which_overrides_docstrings(
    project: loader.Project,
) -> None:
    assert column_metadata.load_column_labels(project) == {
        "plane_age": ColumnLabel(
            "plane_age", "Age of the plane", "years", "Years since it was built, at the departure."
        ),
        "seats": ColumnLabel("seats", "Seats"),
        "a": ColumnLabel("a", "Age", "years", "How old."),
        "b": ColumnLabel("b", description="From the file."),
        "c": ColumnLabel("c", "Carrier"),
    }


def test_reading_labels_is_no_dependency_of_a_stage(project: loader.Project) -> None:
    settings_before = set(dependencies.settings_read)
    files_before = dict(file_log.read)
    column_metadata.load_column_labels(project)
    assert dependencies.settings_read == settings_before
    assert file_log.read == files_before


def test_contract_with_a_mistake_has_no_labels(project: loader.Project) -> None:
    (project.root / "contract.yaml").write_text("columns: [")
    assert "c" not in column_metadata.load_column_labels(project)
    (project.root / "contract.yaml").unlink()
    assert column_metadata.load_column_labels(project)["a"].text == "Age (years)"


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("x : Speed (km/h)", ColumnLabel("x", "Speed", "km/h")),
        ("x: Speed", ColumnLabel("x", "Speed")),
        ("x : Rate (of all) per day (%)", ColumnLabel("x", "Rate (of all) per day", "%")),
        ("x :", ColumnLabel("x")),
    ],
)
def test_line_of_a_docstring_is_name_label_and_unit(line: str, label: ColumnLabel) -> None:
    docstring = f"Compute.\n\n    Columns\n    -------\n    {line}\n"
    assert list(column_metadata.parse_column_section(docstring)) == [label]


@pytest.mark.parametrize("docstring", ["", "Columns", "One line.\n\nColumns\n\nx : Label"])
def test_docstring_without_the_section_has_no_labels(docstring: str) -> None:
    assert list(column_metadata.parse_column_section(docstring)) == []
