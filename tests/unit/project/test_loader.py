"""Loading of ``mlops.yaml`` with settings under their earlier names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.project import loader


def test_setting_under_an_earlier_name_works_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "name: a\nsource: t.csv\ntarget: y\ntask: binary\nleave_out: [x]\nsplit: {test: 0.3}\n"
    (tmp_path / "mlops.yaml").write_text(text)
    config = loader.load_project(tmp_path).config
    assert config.excluded_columns == ["x"]
    assert config.validation.test == 0.3
    messages = [record.getMessage() for record in caplog.records]
    assert any("'leave_out' is now called 'excluded_columns'" in line for line in messages)
    assert any("'split.test' is now called 'validation.test'" in line for line in messages)
    (tmp_path / "mlops.yaml").write_text(text + "excluded_columns: [z]\n")
    with pytest.raises(KitError, match="sets 'excluded_columns' and also 'leave_out'"):
        loader.load_project(tmp_path)


def make_chain(home: Path, stages: str) -> loader.Project:
    """A chain whose stages have these settings."""
    (home / "notebooks" / "sub").mkdir(parents=True)
    (home / "mlops.yaml").write_text(f"name: chain\nstages:\n{stages}")
    for name in ("a.ipynb", "sub/a.ipynb", "sub/b.ipynb"):
        (home / "notebooks" / name).write_text('{"cells": []}')
    return loader.load_project(home)


def test_kernel_starts_in_the_folder_that_cwd_names(tmp_path: Path) -> None:
    project = make_chain(
        tmp_path,
        "  default: {notebook: a.ipynb}\n"
        "  project: {notebook: sub/a.ipynb, cwd: project}\n"
        "  notebook: {notebook: sub/a.ipynb, cwd: notebook}\n"
        "  named: {notebook: a.ipynb, cwd: notebooks/sub}\n"
        "  missing: {notebook: a.ipynb, cwd: nowhere}\n",
    )
    folders = {
        stage: project.get_working_folder(stage) for stage in list(project.config.stages)[:-1]
    }
    assert folders == {
        "default": tmp_path,
        "project": tmp_path,
        "notebook": tmp_path / "notebooks" / "sub",
        "named": tmp_path / "notebooks" / "sub",
    }
    with pytest.raises(KitError, match="'nowhere' is not a folder"):
        project.get_working_folder("missing")


def test_folder_of_a_notebook_of_the_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(
        "name: table\nsource: t.csv\ntarget: y\ntask: regression\n"
        "stages: {explore: {cwd: notebook}}\n"
    )
    with pytest.raises(KitError, match="comes from mlops-kit"):
        loader.load_project(tmp_path).get_working_folder("explore")


def test_executed_notebooks_of_the_same_name_have_names_of_their_own(tmp_path: Path) -> None:
    project = make_chain(
        tmp_path,
        "  one: {notebook: a.ipynb}\n"
        "  two: {notebook: sub/a.ipynb}\n"
        "  three: {notebook: sub/b.ipynb}\n",
    )
    names = [project.get_executed_notebook_name(stage) for stage in project.config.stages]
    assert names == ["a-one", "a-two", "b"]
