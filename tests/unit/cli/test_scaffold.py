"""The commands new, update and notebook: what they print, and how they end."""

from __future__ import annotations

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
