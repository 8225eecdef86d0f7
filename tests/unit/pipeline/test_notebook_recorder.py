"""Executed notebooks are JSON for strict parsers too."""

from __future__ import annotations

import json
from typing import NoReturn

import nbformat

from mlops_kit.pipeline.notebook_recorder import replace_non_finite_numbers, write_strict_json


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and infinity, as strict parsers do."""
    raise ValueError(name)


def test_nan_and_infinity_leave_strict_json() -> None:
    output = nbformat.v4.new_output(
        "display_data", data={"application/json": {"auc": float("nan"), "rows": [1, float("inf")]}}
    )
    cell = nbformat.v4.new_code_cell("x = float('nan')  # NaN", outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["papermill"] = {"parameters": {"limit": float("-inf"), "trials": 3}}
    stored = json.loads(write_strict_json(notebook), parse_constant=refuse_constant)
    data = stored["cells"][0]["outputs"][0]["data"]["application/json"]
    assert data == {"auc": None, "rows": [1, None]}
    assert stored["metadata"]["papermill"]["parameters"] == {"limit": None, "trials": 3}
    assert "".join(stored["cells"][0]["source"]) == "x = float('nan')  # NaN"


def test_finite_numbers_are_unchanged() -> None:
    value = {"a": [1, 2.5, True, None, "NaN"]}
    assert replace_non_finite_numbers(value) == value
