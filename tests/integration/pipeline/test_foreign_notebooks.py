"""Notebooks that were written for papermill, Jupyter or VS Code, without a thought of this package.

Papermill prints what is expected here for each of them, run in the folder of its notebook.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.pipeline import runner
from mlops_kit.project import loader
from mlops_kit.project.run_manifest import RunManifest

KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
VIEW = {"model_id": "abc", "version_major": 2, "version_minor": 0}
WIDGET_STATE = {
    "application/vnd.jupyter.widget-state+json": {
        "version_major": 2,
        "version_minor": 0,
        "state": {"abc": {"model_name": "IntSliderModel", "state": {"value": 3}}},
    }
}


def make_cell(source: str, **changes: Any) -> dict[str, Any]:
    """A code cell as nbformat stored it before cells had ids."""
    cell = {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": source.splitlines(keepends=True),
    }
    return {**cell, **changes}


def make_parameters_cell(source: str) -> dict[str, Any]:
    """A cell tagged as papermill expects it."""
    return make_cell(source, metadata={"tags": ["parameters"]})


# By stage: notebook, cells, metadata, what it prints.
NOTEBOOKS: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any], str]] = {
    "equals": (
        "equals.ipynb",
        [make_parameters_cell('url: str = "pg://db?ssl=require"'), make_cell("print(url)")],
        {},
        "pg://db?ssl=require",
    ),
    "optional": (
        "optional.ipynb",
        [make_parameters_cell("n: int | None = None"), make_cell("print(n)")],
        {},
        "None",
    ),
    "imports": (
        "imports.ipynb",
        [
            make_parameters_cell("from datetime import date\nday = date(2024, 2, 29)"),
            make_cell("print(day)"),
        ],
        {},
        "2024-02-29",
    ),
    "tuple": (
        "tuple.ipynb",
        [
            make_parameters_cell("limits = (1, 2)\nnames = []\nnames.append('a')"),
            make_cell("print(limits, names)"),
        ],
        {},
        "(1, 2) ['a']",
    ),
    "bare": ("bare.ipynb", [make_cell("print(1)")], {}, "1"),
    "widgets": (
        "widgets.ipynb",
        [
            make_cell(
                "import ipywidgets\n"
                "slider = ipywidgets.IntSlider(value=3)\n"
                "display(slider)\n"
                "print(slider.value)",
                outputs=[
                    {
                        "output_type": "display_data",
                        "metadata": {},
                        "data": {"application/vnd.jupyter.widget-view+json": VIEW},
                    }
                ],
            )
        ],
        {"widgets": WIDGET_STATE},
        "3",
    ),
    "vscode": (
        "vscode.ipynb",
        [
            make_parameters_cell("k = 2"),
            make_cell("# %%\nprint(k)\n", metadata={"vscode": {"languageId": "python"}}),
        ],
        {
            "kernelspec": {"name": "python3", "display_name": ".venv (3.11.4)"},
            "vscode": {"interpreter": {"hash": "31f2aee4e71d21fb"}},
            "language_info": {"name": "python", "version": "3.11.4"},
        },
        "2",
    ),
    "deep": (
        "team/deep/report.ipynb",
        [make_cell("from helper import double\nprint(double(int(open('rows.txt').read())))")],
        {},
        "42",
    ),
    "namesake": ("team/report.ipynb", [make_cell("print('the other report')")], {}, "the other"),
}


def write_project(home: Path) -> loader.Project:
    """A chain of these notebooks, none of which writes anything."""
    stages = {}
    for stage, (file, cells, metadata, _) in NOTEBOOKS.items():
        path = home / "notebooks" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        notebook = {
            "cells": cells,
            "metadata": {"kernelspec": KERNELSPEC, **metadata},
            "nbformat": 4,
            "nbformat_minor": 2,
        }
        path.write_text(json.dumps(notebook))
        stages[stage] = {"notebook": file, "cwd": "notebook"}
    deep = home / "notebooks" / "team" / "deep"
    (deep / "helper.py").write_text("def double(value):\n    return 2 * value\n")
    (deep / "rows.txt").write_text("21\n")
    (home / "mlops.yaml").write_text(json.dumps({"name": "foreign", "stages": stages}))
    return loader.load_project(home)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunManifest]:
    """The folder and the manifest of a run of all of them."""
    project = write_project(tmp_path_factory.mktemp("foreign"))
    manifest = runner.run_pipeline(project, list(NOTEBOOKS), {}, lambda text, transient=False: None)
    return project.reports_folder / manifest.run, manifest


@pytest.mark.parametrize("stage", NOTEBOOKS)
def test_notebook_runs_as_with_papermill(stage: str, executed: tuple[Path, RunManifest]) -> None:
    folder, manifest = executed
    entry = manifest.stages[stage]
    assert entry.status == "succeeded", entry.error_message
    notebook = json.loads((folder / "notebooks" / f"{entry.notebook}.ipynb").read_text())
    printed = [
        "".join(output["text"])
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if output["output_type"] == "stream" and output["name"] == "stdout"
    ]
    assert "".join(printed).startswith(NOTEBOOKS[stage][3])


def test_notebooks_of_the_same_name_do_not_overwrite_each_other(
    executed: tuple[Path, RunManifest],
) -> None:
    folder, manifest = executed
    names = {entry.notebook for entry in manifest.stages.values()}
    assert len(names) == len(NOTEBOOKS)
    assert all((folder / "notebooks" / f"{name}.html").exists() for name in names)
