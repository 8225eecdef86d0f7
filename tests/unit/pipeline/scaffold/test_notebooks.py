"""The notebooks of a project: one is edited, the others stay with the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.dashboards import server
from mlops_kit.pipeline.scaffold import notebooks, origin
from mlops_kit.project import loader
from mlops_kit.project.config.pipeline import DEFAULT_STAGES
from mlops_kit.project.loader import Project


@pytest.fixture
def package_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's notebooks, which a later version may change."""
    copy = tmp_path / "package" / "notebooks"
    shutil.copytree(find_resource_folder("notebooks"), copy)
    monkeypatch.setattr(loader, "find_resource_folder", lambda name: copy.parent / name)
    return copy


def change_cell(path: Path, position: int, source: str) -> None:
    """Change the source of a cell."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[position].source = source
    nbformat.write(notebook, path)


def read_sources(path: Path) -> list[str]:
    """Read the sources of all cells."""
    return ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]


def find_status(project: Project, name: str) -> notebooks.NotebookStatus:
    """Return the status of one notebook in the list."""
    (status,) = [status for status in notebooks.list_notebooks(project) if status.name == name]
    return status


def test_all_notebooks_come_from_the_package(project: Project) -> None:
    names = [status.name for status in notebooks.list_notebooks(project)]
    assert names == [*DEFAULT_STAGES, "dashboards/monitoring", "dashboards/review"]
    assert notebooks.list_replaced_notebooks(project) == []


def test_one_copied_notebook_leaves_the_others_with_the_package(
    project: Project, package_notebooks: Path
) -> None:
    copy = notebooks.edit_notebook(project, "train")
    assert copy == project.root / "notebooks" / "03_train.ipynb"
    assert project.get_notebook_path("train") == copy
    assert project.get_notebook_path("review") == package_notebooks / "04_review.ipynb"
    assert notebooks.list_replaced_notebooks(project) == ["train"]
    status = find_status(project, "train")
    assert not status.is_edited
    assert "copied from mlops-kit" in status.describe()
    assert list(loader.load_project(project.root).config.stages) == list(DEFAULT_STAGES)


def test_settings_of_a_stage_do_not_remove_the_others(project: Project) -> None:
    with (project.root / "mlops.yaml").open("a") as file:
        file.write("stages: {train: {params: {trials: 2}}}\n")
    notebooks.edit_notebook(project, "dashboards/review")
    stages = loader.load_project(project.root).config.stages
    assert list(stages) == list(DEFAULT_STAGES)
    assert stages["train"].params == {"trials": 2}


def test_own_stage_beside_the_default_ones_needs_no_copy(project: Project) -> None:
    (project.root / "notebooks").mkdir()
    with (project.root / "mlops.yaml").open("a") as file:
        file.write("stages: {summary: {notebook: summary.ipynb, needs: review}}\n")
    stages = loader.load_project(project.root).config.stages
    assert list(stages) == [*DEFAULT_STAGES, "summary"]


def test_page_of_the_project_stands_beside_those_of_the_package(
    project: Project, package_notebooks: Path
) -> None:
    assert server.find_notebook_folder(project) == package_notebooks / "dashboards"
    copy = notebooks.edit_notebook(project, "dashboards/review")
    folder = server.find_notebook_folder(project)
    assert (folder / "review.ipynb").resolve() == copy.resolve()
    monitoring = package_notebooks / "dashboards" / "monitoring.ipynb"
    assert (folder / "monitoring.ipynb").resolve() == monitoring.resolve()
    assert server.find_notebook_folder(project) == folder


def test_dashboards_that_start_at_once_always_find_their_pages(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebooks.edit_notebook(project, "dashboards/review")
    folder = server.find_notebook_folder(project)
    removed = project.own_notebooks_folder / "dashboards" / "old.ipynb"
    (folder / "old.ipynb").symlink_to(removed)
    pages = ["monitoring.ipynb", "review.ipynb"]
    create_link = Path.symlink_to
    created = []

    def create_link_while_another_server_starts(link: Path, target: Path) -> None:
        assert all((folder / page).exists() for page in pages)
        create_link(link, target)
        created.append(link)
        if len(created) == 2:
            assert server.find_notebook_folder(project) == folder

    monkeypatch.setattr(Path, "symlink_to", create_link_while_another_server_starts)
    assert server.find_notebook_folder(project) == folder
    assert len(created) == 2 * len(pages)
    assert sorted(path.name for path in folder.iterdir()) == pages


def test_notebook_is_not_copied_twice(project: Project) -> None:
    copy = notebooks.edit_notebook(project, "train")
    change_cell(copy, 0, "# Mine")
    with pytest.raises(KitError, match="the project's own already"):
        notebooks.edit_notebook(project, "train")
    assert read_sources(copy)[0] == "# Mine"


@pytest.mark.parametrize("name", ["trian", "dashboards/home", "review.ipynb"])
def test_unknown_notebook_is_refused(project: Project, name: str) -> None:
    with pytest.raises(KitError, match="there is no notebook"):
        notebooks.edit_notebook(project, name)


@pytest.mark.slow
def test_changes_of_the_package_are_shown_and_merged(
    project: Project, package_notebooks: Path
) -> None:
    copy = notebooks.edit_notebook(project, "train")
    assert notebooks.diff_notebook(project, "train") == ""
    sources = read_sources(copy)
    change_cell(copy, 0, sources[0] + "\n\nOur notes.")
    packaged = package_notebooks / "03_train.ipynb"
    change_cell(packaged, len(sources) - 1, "New last cell.")
    status = find_status(project, "train")
    assert (status.is_edited, status.has_new_version) == (True, True)
    assert "mlops notebook diff train" in status.describe()
    difference = notebooks.diff_notebook(project, "train")
    assert "+New last cell." in difference
    assert "Our notes" not in difference
    assert notebooks.merge_notebook(project, "train") == 0
    merged = read_sources(copy)
    assert merged == [sources[0] + "\n\nOur notes.", *sources[1:-1], "New last cell."]
    status = find_status(project, "train")
    assert (status.is_edited, status.has_new_version) == (True, False)


@pytest.mark.slow
def test_conflicting_changes_are_marked_in_their_cell(
    project: Project, package_notebooks: Path
) -> None:
    copy = notebooks.edit_notebook(project, "train")
    change_cell(copy, 1, "ours = 1")
    change_cell(package_notebooks / "03_train.ipynb", 1, "theirs = 2")
    assert notebooks.merge_notebook(project, "train") == 1
    nbformat.validate(nbformat.read(copy, as_version=4))
    text = "\n".join(read_sources(copy))
    assert "ours = 1" in text
    assert "theirs = 2" in text
    assert "<<<<<<<" in text
    with pytest.raises(KitError, match="not resolved"):
        notebooks.merge_notebook(project, "train")


def test_notebook_that_was_not_copied_cannot_be_merged(project: Project) -> None:
    with pytest.raises(KitError, match="is not a copy"):
        notebooks.diff_notebook(project, "train")


def test_record_of_a_copy_survives_git_filters(project: Project) -> None:
    copy = notebooks.edit_notebook(project, "train")
    notebook = nbformat.read(copy, as_version=4)
    nbformat.write(notebook, copy)  # as JupyterLab writes it
    assert not find_status(project, "train").is_edited
    assert "03_train.ipynb" in origin.read_origin(project.root).notebooks
