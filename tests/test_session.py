"""The commands' twin in JupyterLab: open, run, look, read, predict; and what it says without a run."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import mlops_kit
from mlops_kit import client
from mlops_kit.core import files
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.project import artifacts

YAML = """
name: tiny
source: t.csv
target: y
task: regression
stages:
  first: {notebook: first.ipynb, writes: [numbers]}
"""
CELLS = (
    "from mlops_kit.stages import open_stage\nstage = open_stage('first', seed=seed)",
    "stage.write('numbers', {'seed': seed})",
    "stage.hand_over('One number.')",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project whose first stage is a notebook of its own."""
    folder = tmp_path / "home"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "mlops.yaml").write_text(YAML)
    (folder / "t.csv").write_text("x,y\n1,2\n")
    parameters = new_code_cell("seed: int = 0  # Seed.", metadata={"tags": ["parameters"]})
    nbformat.write(
        new_notebook(cells=[parameters, *map(new_code_cell, CELLS)]),
        folder / "notebooks" / "first.ipynb",
    )
    return folder


def recorded(home: Path) -> Path:
    """A run as the engine leaves one."""
    run = home / "reports" / "20240101-000000-abcd"
    stages = {
        "first": {"status": "succeeded", "seconds": 3.5, "sentence": "One number."},
        "train": {"status": "failed", "error": {"message": "no rows"}},
        "review": {"status": "not run", "reason": "needs train"},
    }
    files.write_json(
        run / "manifest.json",
        {"run": run.name, "project": "tiny", "status": "failed", "sample": 0, "stages": stages},
    )
    made = artifacts.write_artifact(run, "first", "numbers", {"seed": 1})
    files.write_json(run / "stages" / "first.json", {"artifacts": {"numbers": made.model_dump()}})
    return run


def test_a_session_opens_the_project_it_stands_in(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home / "notebooks")
    assert mlops_kit.open().project.root == mlops_kit.open(home).project.root == home


def test_a_run_is_started_waited_for_and_read(home: Path) -> None:
    opened = mlops_kit.open(home).run(wait=True, only="first", note="why", params={"first.seed": 7})
    table = opened.status()
    assert table.data.set_index("stage").loc["first", ["status", "what it says"]].tolist() == [
        "succeeded",
        "One number.",
    ]
    assert opened.read_artifact("numbers") == {"seed": 7}
    assert opened.get_report_path().is_file()
    assert files.read_json(opened.get_latest_run() / "manifest.json")["note"] == "why"
    assert opened.read_last_message().startswith("Report: reports/")


def test_a_refused_run_says_why_and_leaves_no_run(home: Path) -> None:
    opened = mlops_kit.open(home)
    with pytest.raises(RunFailedError, match="unknown stage 'frist'"):
        opened.run(wait=True, only="frist")
    assert opened.build_current_view().startswith("unknown stage 'frist'")
    assert not (home / "reports").exists()


def test_one_run_at_a_time(home: Path) -> None:
    opened = mlops_kit.open(home).run(only="frist")
    assert opened.process is not None
    if opened.process.poll() is None:
        with pytest.raises(KitError, match="still going") as error:
            opened.run()
        assert "p.status()" in error.value.hint
    opened.process.wait()


def test_options_become_the_command_lines_words() -> None:
    assert client.build_run_arguments(
        {
            "first": "train",
            "last": "review",
            "as_of": "2024-01-01",
            "force": True,
            "note": "",
            "only": None,
        }
    ) == ["--from", "train", "--to", "review", "--as-of", "2024-01-01", "--force"]
    assert client.build_run_arguments(
        {"params": {"train.seed": 1, "train.families": ["linear"]}}
    ) == [
        "-p",
        "train.seed:=1",
        "-p",
        'train.families:=["linear"]',
    ]
    assert client.build_run_arguments({"force": False}) == []


def test_an_option_that_there_is_not_names_the_nearest(home: Path) -> None:
    opened = mlops_kit.open(home)
    with pytest.raises(KitError, match="unknown option 'asof' of run") as error:
        opened.run(asof="2024-01-01")
    assert error.value.expected.startswith("'as_of'")
    assert opened.process is None
    assert not (home / ".mlops").exists()


def test_status_tells_each_stage_in_its_own_words(home: Path) -> None:
    recorded(home)
    table = mlops_kit.open(home).status()
    assert table.data["what it says"].tolist() == ["One number.", "no rows", "needs train"]
    assert table.sentence == "Run 20240101-000000-abcd of tiny: failed."


def test_an_artifact_is_read_by_name_and_an_unknown_one_names_the_nearest(home: Path) -> None:
    recorded(home)
    opened = mlops_kit.open(home)
    assert opened.read_artifact("numbers") == {"seed": 1}
    with pytest.raises(KitError, match="no artifact 'number'") as error:
        opened.read_artifact("number")
    assert error.value.expected.startswith("'numbers'")


@pytest.mark.parametrize("ask", ["status", "report", "latest"])
def test_without_a_run_the_cure_is_a_run(home: Path, ask: str) -> None:
    with pytest.raises(KitError, match="there is no run yet") as error:
        getattr(mlops_kit.open(home), ask)()
    assert "p.run()" in error.value.hint


def test_without_a_run_there_is_a_sentence_to_show(home: Path) -> None:
    assert mlops_kit.open(home).build_current_view() == "tiny: no run yet"


def test_without_a_champion_the_cure_is_a_run_and_no_store_is_made(home: Path) -> None:
    with pytest.raises(KitError, match="tiny has no champion yet"):
        mlops_kit.open(home).load_champion()
    assert not (home / ".mlops").exists()


def test_a_decision_needs_a_run_that_has_come_to_a_version(home: Path) -> None:
    opened = mlops_kit.open(home)
    with pytest.raises(KitError, match="there is no run yet"):
        opened.reject("too many alarms")
    recorded(home)
    with pytest.raises(KitError, match="there is no run '2024'"):
        opened.approve("it is fit", run="2024")
    with pytest.raises(KitError, match="no artifact 'version'"):
        opened.approve("it is fit")
