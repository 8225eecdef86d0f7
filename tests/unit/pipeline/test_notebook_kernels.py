"""Notebooks for kernels other than the one that runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.pipeline.notebook_kernels import check_notebook_kernels
from mlops_kit.project import loader


def make_project(folder: Path, metadata: dict[str, Any]) -> loader.Project:
    """A chain of one notebook with these metadata."""
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    (folder / "mlops.yaml").write_text("name: chain\nstages:\n  a: {notebook: a.ipynb}\n")
    nbformat.write(nbformat.v4.new_notebook(metadata=metadata), notebooks / "a.ipynb")
    return loader.load_project(folder)


@pytest.mark.parametrize(
    "metadata",
    [
        {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}},
        {"language_info": {"name": "julia"}},
    ],
)
def test_notebook_in_another_language_is_an_error(tmp_path: Path, metadata: dict[str, Any]) -> None:
    with pytest.raises(KitError, match=r"stage a: a\.ipynb is in (R|julia)"):
        check_notebook_kernels(make_project(tmp_path, metadata), ["a"])


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"kernelspec": {"name": "python3", "display_name": ".venv (3.11.4)"}},  # VS Code
        {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
        {"language_info": {"name": "python", "version": "3.9.1"}},
    ],
)
def test_ordinary_python_notebook_has_no_note(tmp_path: Path, metadata: dict[str, Any]) -> None:
    assert check_notebook_kernels(make_project(tmp_path, metadata), ["a"]) == []


def test_kernel_of_another_environment_is_noted(tmp_path: Path) -> None:
    kernelspec = {"name": "conda-env-other-py", "display_name": "Python [other]"}
    project = make_project(tmp_path, {"kernelspec": {**kernelspec, "language": "python"}})
    (note,) = check_notebook_kernels(project, ["a"])
    assert "'Python [other]' of another environment" in note
