"""The commands new, update and notebook: what they print, and how they end."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mlops_kit.pipeline.scaffold import update
from tests.unit.cli.test_commands import RunCommand, mlops
from tests.unit.pipeline.scaffold.conftest import write_visits

__all__ = ["mlops"]


@pytest.fixture
def arguments(tmp_path: Path) -> list[object]:
    """The arguments of mlops new for a table."""
    file = write_visits(tmp_path)
    return ["new", tmp_path / "visits", "--data", file, "--target", "missed"]


def test_without_a_terminal_yes_is_required(mlops: RunCommand, arguments: list[object]) -> None:
    code, _, error = mlops(*arguments)
    assert code == 2
    assert "not a terminal" in error
    assert "--yes" in error
    assert not Path(str(arguments[1])).exists()


def test_new_prints_each_guess_and_marks_what_is_uncertain(
    mlops: RunCommand, arguments: list[object]
) -> None:
    code, printed, _ = mlops(*arguments, "--yes")
    assert code == 0
    assert "  task = binary: missed has the two values no and yes.\n" in printed
    assert "? excluded_columns = [fee]: fee alone ranks missed" in printed
    assert "Project visits written to" in printed


def test_new_refuses_a_folder_with_content(mlops: RunCommand, arguments: list[object]) -> None:
    assert mlops(*arguments, "--yes")[0] == 0
    before = {path: path.read_bytes() for path in Path(str(arguments[1])).rglob("*.yaml")}
    code, _, error = mlops(*arguments, "--yes")
    assert code == 2
    assert "exists and is not empty" in error
    assert before == {path: path.read_bytes() for path in before}


def test_on_a_terminal_the_guesses_are_the_defaults(
    mlops: RunCommand, arguments: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["clinic", "", "no", "", "-", "clinic"])
    asked = []

    def prompt(text: str, default: str) -> str:
        asked.append((text, default))
        return next(answers) or default

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.prompt", prompt)
    code, _, _ = mlops(*arguments)
    assert code == 0
    assert [default for _, default in asked] == ["visits", "binary", "yes", "-", "visit_id", "-"]
    text = (Path(str(arguments[1])) / "mlops.yaml").read_text()
    assert "name: clinic\n" in text
    assert "positive: 'no'\n" in text
    assert "\nid:" not in text
    assert "validation:\n  group: clinic\n" in text


def test_update_lists_conflicts_and_fails(
    mlops: RunCommand, arguments: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    mlops(*arguments, "--yes")
    root = Path(str(arguments[1]))
    assert "has not changed" in mlops("update", "--project", root)[1]
    changes = [update.FileUpdate("mlops.yaml", update.FileOutcome.CONFLICT)]
    monkeypatch.setattr(update, "update_project", lambda project: changes)
    code, printed, error = mlops("update", "--project", root)
    assert code == 1
    assert "mlops.yaml: conflict" in printed
    assert "conflicts in mlops.yaml" in error


@pytest.mark.slow
def test_notebook_commands_and_where_else_own_notebooks_are_named(
    mlops: RunCommand, arguments: list[object]
) -> None:
    mlops(*arguments, "--yes")
    root = ["--project", arguments[1]]
    assert "train" not in mlops("plan", *root)[1].splitlines()[-1]
    code, printed, _ = mlops("notebook", "edit", "train", *root)
    assert (code, printed.split()[0]) == (0, "notebooks/03_train.ipynb")
    assert "the project's own, copied" in mlops("notebook", "list", *root)[1]
    assert "has not changed" in mlops("notebook", "diff", "train", *root)[1]
    assert mlops("plan", *root)[1].endswith("The project's own notebooks: train.\n")
    assert "the project's own: train" in mlops("doctor", *root)[1]


def run_git(folder: Path, *arguments: str) -> str:
    """Run a git command as a person whom no configuration knows."""
    person = ["-c", "user.name=Ann", "-c", "user.email=ann@localhost"]
    finished = subprocess.run(
        ["git", *person, *arguments], cwd=folder, check=True, capture_output=True, timeout=300
    )
    return finished.stdout.decode()


def test_filter_without_a_repository_says_what_to_do(
    mlops: RunCommand, arguments: list[object]
) -> None:
    code, printed, _ = mlops(*arguments, "--yes")
    assert code == 0
    assert "git" not in printed
    code, _, error = mlops("notebook", "filter", "--project", arguments[1])
    assert code == 2
    assert "not in a git repository" in error


@pytest.mark.skipif(shutil.which("git") is None, reason="no git on this machine")
@pytest.mark.slow
def test_notebooks_are_committed_without_outputs(
    mlops: RunCommand, arguments: list[object], tmp_path: Path
) -> None:
    run_git(tmp_path, "init", "--quiet")
    code, printed, _ = mlops(*arguments, "--yes")
    assert code == 0
    assert "git commits notebooks without outputs: filter.nbstripout was set in" in printed
    project = Path(str(arguments[1]))
    code, printed, _ = mlops("notebook", "filter", "--project", project)
    assert code == 0
    assert "was set before" in printed
    mlops("notebook", "edit", "explore", "--project", project)
    [notebook] = (project / "notebooks").glob("*.ipynb")
    content = json.loads(notebook.read_text())
    cell = next(cell for cell in content["cells"] if cell["cell_type"] == "code")
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["secret"]}]
    cell["execution_count"] = 3
    notebook.write_text(json.dumps(content))
    run_git(project, "add", "--all")
    committed = run_git(project, "show", f":./notebooks/{notebook.name}")
    assert "secret" not in committed
    stored_cells = json.loads(committed)["cells"]
    assert [stored["id"] for stored in stored_cells] == [kept["id"] for kept in content["cells"]]
    assert "secret" in notebook.read_text()
