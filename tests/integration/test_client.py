"""The client for notebooks: open, run, read, decide; and its messages without a run."""

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


def write_run(home: Path) -> Path:
    """A run as the engine leaves one."""
    run = home / "reports" / "20240101-000000-abcd"
    stages = {
        "first": {"status": "succeeded", "seconds": 3.5, "sentence": "One number."},
        "train": {"status": "failed", "error": {"type": "ValueError", "message": "no rows"}},
        "review": {"status": "not run", "reason": "needs train"},
    }
    files.write_json(
        run / "manifest.json",
        {"run": run.name, "project": "tiny", "status": "failed", "sample": 0, "stages": stages},
    )
    artifact = artifacts.write_artifact(run, "first", "numbers", {"seed": 1})
    files.write_json(
        run / "stages" / "first.json", {"artifacts": {"numbers": artifact.model_dump()}}
    )
    return run


def test_client_opens_the_project_of_the_current_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home / "notebooks")
    assert mlops_kit.open().project.root == mlops_kit.open(home).project.root == home


def test_run_is_started_awaited_and_read(home: Path) -> None:
    client = mlops_kit.open(home).run(wait=True, only="first", note="why", params={"first.seed": 7})
    table = client.status()
    assert table.data.set_index("stage").loc["first", ["status", "result"]].tolist() == [
        "succeeded",
        "One number.",
    ]
    assert client.read_artifact("numbers") == {"seed": 7}
    assert client.get_report_path().is_file()
    assert files.read_json(client.get_latest_run() / "manifest.json")["note"] == "why"
    assert Path(client.read_last_message().removeprefix("Report: ")) == client.get_report_path()


def test_refused_run_is_explained_and_leaves_no_run(home: Path) -> None:
    client = mlops_kit.open(home)
    with pytest.raises(RunFailedError, match="unknown stage 'frist'"):
        client.run(wait=True, only="frist")
    assert client.build_current_view().startswith("unknown stage 'frist'")
    assert not (home / "reports").exists()


def test_only_one_run_at_a_time(home: Path) -> None:
    client = mlops_kit.open(home).run(only="frist")
    assert client.process is not None
    if client.process.poll() is None:
        with pytest.raises(KitError, match="still running") as error:
            client.run()
        assert "p.status()" in error.value.hint
    client.process.wait()


def test_options_become_command_line_arguments() -> None:
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


def test_unknown_option_suggests_the_nearest(home: Path) -> None:
    client = mlops_kit.open(home)
    with pytest.raises(KitError, match="unknown option 'asof' of run") as error:
        client.run(asof="2024-01-01")
    assert error.value.expected.startswith("'as_of'")
    assert client.process is None
    assert not (home / ".mlops").exists()


def test_status_shows_sentence_error_or_reason_of_each_stage(home: Path) -> None:
    write_run(home)
    table = mlops_kit.open(home).status()
    assert table.data["result"].tolist() == ["One number.", "no rows", "needs train"]
    assert table.sentence == "Run 20240101-000000-abcd of tiny: failed."


def test_artifact_is_read_by_name_and_unknown_one_suggests_the_nearest(home: Path) -> None:
    write_run(home)
    client = mlops_kit.open(home)
    assert client.read_artifact("numbers") == {"seed": 1}
    with pytest.raises(KitError, match="no artifact 'number'") as error:
        client.read_artifact("number")
    assert error.value.expected.startswith("'numbers'")


@pytest.mark.parametrize("method", ["status", "get_report_path", "get_latest_run"])
def test_without_a_run_the_hint_is_a_run(home: Path, method: str) -> None:
    with pytest.raises(KitError, match="there is no run yet") as error:
        getattr(mlops_kit.open(home), method)()
    assert "p.run()" in error.value.hint


def test_without_a_run_a_sentence_is_shown(home: Path) -> None:
    assert mlops_kit.open(home).build_current_view() == "tiny: no run yet"


def test_without_a_champion_no_store_is_created(home: Path) -> None:
    with pytest.raises(KitError, match="tiny has no champion yet"):
        mlops_kit.open(home).load_champion()
    assert not (home / ".mlops").exists()


def test_decision_needs_a_run_with_a_version(home: Path) -> None:
    client = mlops_kit.open(home)
    with pytest.raises(KitError, match="there is no run yet"):
        client.reject("too many alarms")
    write_run(home)
    with pytest.raises(KitError, match="there is no run '2024'"):
        client.approve("it is fit", run="2024")
    with pytest.raises(KitError, match="no artifact 'version'"):
        client.approve("it is fit")


def test_run_that_ended_before_deploy_is_not_approved(home: Path) -> None:
    run = write_run(home)
    artifact = artifacts.write_artifact(run, "first", "version", {"version": "1"})
    files.write_json(
        run / "stages" / "first.json", {"artifacts": {"version": artifact.model_dump()}}
    )
    stages = {"first": {"status": "succeeded"}, "deploy": {"reason": "not chosen"}}
    files.write_json(
        run / "manifest.json",
        {"run": run.name, "project": "tiny", "status": "succeeded", "stages": stages},
    )
    with pytest.raises(KitError, match="it was not asked for deploy") as error:
        mlops_kit.open(home).approve("it is fit")
    assert error.value.hint.startswith("mlops run makes a run of all stages")
    assert not (home / ".mlops").exists()


@pytest.mark.parametrize("name", mlops_kit.__all__)
def test_public_names_are_available(name: str) -> None:
    assert getattr(mlops_kit, name) is not None


def test_unknown_name_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'opne'"):
        _ = mlops_kit.opne
