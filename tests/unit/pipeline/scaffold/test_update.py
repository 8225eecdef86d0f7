"""Updating a project: edits are kept, conflicts are marked, nothing is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.pipeline.scaffold import merging, origin, update
from mlops_kit.pipeline.scaffold.template import render_template
from mlops_kit.pipeline.scaffold.update import FileOutcome
from mlops_kit.project.loader import Project, load_project

ChangeTemplate = Callable[[dict[str, str]], None]


@pytest.fixture
def change_template(monkeypatch: pytest.MonkeyPatch, project: Project) -> ChangeTemplate:
    """Let the installed package have another template: some files with another text."""
    rendered = render_template(origin.read_origin(project.root).answers)

    def change(texts: dict[str, str]) -> None:
        monkeypatch.setattr(
            update, "render_template", lambda answers, package: {**rendered, **texts}
        )

    return change


def read(project: Project, path: str) -> str:
    return (project.root / path).read_text()


def edit(project: Project, path: str, old: str, new: str) -> None:
    text = read(project, path)
    assert old in text
    (project.root / path).write_text(text.replace(old, new))


def test_unchanged_template_changes_nothing(project: Project) -> None:
    edit(project, "mlops.yaml", "task: binary", "task: binary\nseed: 7")
    text = read(project, "mlops.yaml")
    assert update.update_project(project) == []
    assert read(project, "mlops.yaml") == text


def test_requirement_follows_the_setting_package(project: Project) -> None:
    package = "mlops-kit[all] @ git+https://example.com/mlops-kit@v1"
    edit(project, "mlops.yaml", "task: binary", f"task: binary\npackage: '{package}'")
    (change,) = update.update_project(load_project(project.root))
    assert change == ("requirements.txt", FileOutcome.UPDATED)
    assert read(project, "requirements.txt") == f"{package}\npytest>=8\n"


def test_edits_are_kept_where_the_template_changed_elsewhere(
    project: Project, change_template: ChangeTemplate
) -> None:
    template_text = read(project, ".gitignore")
    change_template(
        {".gitignore": f"{template_text}dist/\n", "new.txt": "new\n", "README.md": "# changed\n"}
    )
    edit(project, ".gitignore", "# what runs write", "secrets.txt\n# what runs write")
    outcomes = {change.path: change.outcome for change in update.update_project(project)}
    assert outcomes == {
        ".gitignore": FileOutcome.MERGED,
        "new.txt": FileOutcome.ADDED,
        "README.md": FileOutcome.UPDATED,
    }
    assert read(project, ".gitignore").startswith("secrets.txt\n")
    assert read(project, ".gitignore").endswith("dist/\n")
    assert read(project, "README.md") == "# changed\n"
    assert update.update_project(project) == []


def test_conflicts_are_marked_and_nothing_is_lost(
    project: Project, change_template: ChangeTemplate
) -> None:
    template_text = read(project, "mlops.yaml")
    change_template({"mlops.yaml": template_text.replace("task: binary", "task: regression")})
    edit(project, "mlops.yaml", "task: binary", "task: binary  # as agreed")
    (change,) = update.update_project(project)
    assert change == ("mlops.yaml", FileOutcome.CONFLICT)
    text = read(project, "mlops.yaml")
    assert "task: binary  # as agreed\n" in text
    assert "task: regression\n" in text
    assert "<<<<<<< your version" in text
    with pytest.raises(KitError, match=r"not resolved: mlops\.yaml"):
        update.update_project(project)


def test_removed_file_stays_removed(project: Project, change_template: ChangeTemplate) -> None:
    change_template({"README.md": "# changed\n"})
    (project.root / "README.md").unlink()
    (change,) = update.update_project(project)
    assert change.outcome == FileOutcome.REMOVED_BY_USER
    assert not (project.root / "README.md").exists()


def test_file_that_left_the_template_is_kept(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = render_template(origin.read_origin(project.root).answers)
    del rendered["README.md"]
    monkeypatch.setattr(update, "render_template", lambda answers, package: rendered)
    (change,) = update.update_project(project)
    assert change == ("README.md", FileOutcome.NOT_IN_TEMPLATE)
    assert (project.root / "README.md").exists()


def test_new_file_of_the_template_that_the_user_has_too_is_a_conflict(
    project: Project, change_template: ChangeTemplate
) -> None:
    (project.root / "Makefile").write_text("mine:\n")
    change_template({"Makefile": "theirs:\n"})
    (change,) = update.update_project(project)
    assert change.outcome == FileOutcome.CONFLICT
    assert "mine:" in read(project, "Makefile")
    assert "theirs:" in read(project, "Makefile")


def test_project_that_was_not_created_from_the_template_is_not_updated(project: Project) -> None:
    (project.root / origin.ORIGIN_FILE).unlink()
    with pytest.raises(KitError, match="was not created by mlops new"):
        update.update_project(project)


def test_merge_without_git_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KitError, match="git is not installed"):
        merging.merge_texts("a\n", "b\n", "c\n")
    assert merging.merge_texts("a\n", "a\n", "c\n") == ("c\n", 0)
