"""The notebook of the review dashboard, executed as JupyterLab does."""

from __future__ import annotations

import re

import nbformat
import pytest
from nbclient import NotebookClient

from mlops_kit.core import resources
from mlops_kit.dashboards.review_page import ReviewPage
from mlops_kit.project.loader import Project
from tests.support.page_text import read_text


def test_the_notebook_shows_every_part_in_jupyterlab(
    sample_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_PROJECT", str(sample_project.root))
    path = resources.find_resource_folder("notebooks") / "dashboards" / "review.ipynb"
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "data" in output:
                shown.append(output["data"]["text/html"])
    *parts, plugin_panels = shown
    assert len(parts) == 1 + len(ReviewPage.tabs)
    assert plugin_panels.endswith("<div class=dash></div>")
    assert all(part.startswith("<style>") for part in shown)
    assert "Errors cost $0.19 less per flight" in read_text(shown[0])
    without_styles = [re.sub("<style>.*?</style>", "", part, flags=re.DOTALL) for part in shown]
    assert "data-act" not in "".join(without_styles)
