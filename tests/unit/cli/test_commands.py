"""The command line: errors name a hint and leave nothing behind, commands print what they did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_kit.cli import application
from mlops_kit.core.files import write_json
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.project import explain, loader, run_folder
from mlops_kit.watch.lease import hold_lease

VALID_CONFIG = "name: tiny\nsource: t.csv\ntarget: late\ntask: binary\ntime: at\n"
HEAVY_MODULES = {
    "pandas",
    "numpy",
    "mlflow",
    "pydantic",
    "sklearn",
    "optuna",
    "papermill",
    "altair",
    "IPython",
}
RunCommand = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project of two rows."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mlops.yaml").write_text(VALID_CONFIG)
    (folder / "t.csv").write_text("at,late\n2013-01-01,0\n2013-01-02,1\n")
    return folder


@pytest.fixture
def mlops(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Run a command in this process; returns exit code, standard output and standard error."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlops", *map(str, arguments)])
        code = 0
        try:
            application.main()
        except SystemExit as exited:
            code = int(exited.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    return run_command


def run_process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def read_files(folder: Path) -> dict[str, bytes]:
    """The content of all files of a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# By mistake: the config (None: there is none), then the field, the value and the expectation that
# the error names.
CONFIG_MISTAKES: dict[str, tuple[str | None, str, str, str]] = {
    "unknown key": (
        VALID_CONFIG + "trian: {trials: 3}\n",
        "trian",
        "unknown key",
        "expected 'train'",
    ),
    "wrong type": (VALID_CONFIG + "seed: abc\n", "seed", "'abc'", "expected a valid integer"),
    "missing target": (
        VALID_CONFIG.replace("target: late\n", ""),
        "target",
        "missing",
        "expected: Column to predict",
    ),
    "target not in the data": (
        VALID_CONFIG.replace("target: late", "target: lat"),
        "target",
        "'lat'",
        "expected 'late'",
    ),
    "invalid date": (
        VALID_CONFIG + "as_of: 2013-02-30\n",
        "as_of",
        "'2013-02-30'",
        "expected a date such as",
    ),
    "until before as_of": (
        VALID_CONFIG + "as_of: 2013-07-01\nuntil: 2013-06-01\n",
        "until",
        "2013-06-01",
        "expected the same time or a later one",
    ),
    "until before the default as_of": (
        VALID_CONFIG + "until: 2012-06-01\n",
        "until",
        "2012-06-01",
        "Expected: as_of at or before until",
    ),
    "unknown metric": (
        VALID_CONFIG + "train: {metric: log_los}\n",
        "train.metric",
        "'log_los'",
        "expected 'log_loss'",
    ),
    "negative budget": (
        VALID_CONFIG + "train: {trials: -1}\n",
        "train.trials",
        "-1",
        "expected greater than or equal to 1",
    ),
    "unknown stage": (
        VALID_CONFIG + "stages: {trian: {needs: [prepare]}}\n",
        "stage",
        "'trian'",
        "expected 'train'",
    ),
    "cyclic needs": (
        VALID_CONFIG + "stages: {prepare: {needs: [train]}}\n",
        "stages",
        "prepare → train → prepare",
        "remove one of these needs",
    ),
    "missing source": (
        VALID_CONFIG.replace("t.csv", "u.csv"),
        "source",
        "'u.csv'",
        "a file at",
    ),
    "missing file": (None, "mlops.yaml", "home", "--project"),
    "empty file": (
        "",
        "mlops.yaml",
        "is empty",
        "Expected: at least name, source, target and task",
    ),
}


@pytest.mark.parametrize("mistake", CONFIG_MISTAKES)
def test_config_mistake_is_reported_and_nothing_is_written(home: Path, mistake: str) -> None:
    config, field, value, expected = CONFIG_MISTAKES[mistake]
    if config is None:
        (home / "mlops.yaml").unlink()
    else:
        (home / "mlops.yaml").write_text(config)
    files_before = read_files(home)
    process = run_process("run", "--project", home)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.startswith("error: ")
    assert "Hint: " in process.stderr
    for part in (field, value, expected):
        assert part in process.stderr
    for internal in ("Traceback", "pydantic", "site-packages"):
        assert internal not in process.stderr
    assert read_files(home) == files_before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--as-of", "2013-02-30"], "as_of: '2013-02-30'; expected a date"),
        (
            ["--as-of", "2013-01-02", "--until", "2013-01-01"],
            "until 2013-01-01 is before as_of 2013-01-02",
        ),
        (["--only", "trian"], "unknown stage 'trian'\n  Expected: 'train'"),
        (["--from", "review", "--to", "train"], "--from review comes after --to train"),
        (["-p", "train.trails=3"], "train has no parameter 'trails'"),
        (["-p", "train.seed=abc"], "train.seed: 'abc' (-p) is "),
        (["-p", "seed=1"], "Expected: stage.name=value"),
    ],
)
def test_option_mistake_is_reported_and_nothing_is_written(
    home: Path, mlops: RunCommand, arguments: list[str], message: str
) -> None:
    files_before = read_files(home)
    code, out, err = mlops("run", "--project", home, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "mlops.yaml;" not in err
    assert read_files(home) == files_before


def test_negative_sample_is_refused(mlops: RunCommand) -> None:
    code, _, err = mlops("run", "--sample", "-1")
    assert code == 2
    assert "--sample" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("source", ["option", "variable"])
def test_debug_adds_the_traceback_to_message_and_exit_code(home: Path, source: str) -> None:
    (home / "mlops.yaml").write_text("")
    if source == "option":
        process = run_process("status", "--project", home, "--debug")
    else:
        process = run_process("status", "--project", home, MLOPS_DEBUG="1")
    assert process.returncode == 2
    assert "Traceback" in process.stderr
    assert "error: mlops.yaml is empty" in process.stderr


def test_help_lists_the_commands_and_imports_nothing_heavy() -> None:
    code = """
import json, sys
from mlops_kit import cli
sys.argv = ['mlops', '--help']
try:
    cli.main()
finally:
    print(json.dumps(sorted(sys.modules)))
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    page, _, modules = process.stdout.strip().rpartition("\n")
    for command in ("run", "status", "config", "predict", "rollback", "lab", "doctor"):
        assert f"  {command} " in page
    packages = {name.split(".")[0] for name in json.loads(modules)}
    assert not packages & HEAVY_MODULES


def test_without_a_command_the_help_is_shown(mlops: RunCommand) -> None:
    code, out, err = mlops()
    assert code == 2
    assert "Commands:" in out + err


def test_folder_that_is_not_writable_is_reported(home: Path, mlops: RunCommand) -> None:
    (home / "reports").write_text("a file where a folder should be")
    code, _, err = mlops("run", "--project", home, "--only", "prepare")
    assert code == 1
    assert err.startswith("error: ")
    assert "reports" in err
    assert "Traceback" not in err


def write_failed_run(home: Path) -> Path:
    """Write the manifest of a run: review succeeded, deploy failed."""
    run = home / "reports" / "20130101-000000-abcd"
    stages = {
        "review": {"status": "succeeded", "sentence": "Fit to serve."},
        "deploy": {"status": "failed", "error": {"type": "OSError", "message": "disk full"}},
        "monitor": {"status": "not run", "reason": "needs deploy"},
    }
    manifest = {
        "run": run.name,
        "project": "tiny",
        "status": "failed",
        "started": "2013-01-01T00:00:00.000",
        "sample": 0,
        "stages": stages,
    }
    write_json(run / "manifest.json", manifest)
    return run


def test_status_without_a_run_says_what_to_do(home: Path, mlops: RunCommand) -> None:
    code, out, err = mlops("status", "--project", home)
    assert (code, out) == (2, "")
    assert "there is no run yet" in err
    assert "Hint: mlops run" in err


def test_status_without_a_run_shows_the_watch(home: Path, mlops: RunCommand) -> None:
    with hold_lease(loader.load_project(home)):
        code, out, _ = mlops("status", "--project", home)
    assert code == 0
    assert out.startswith("There is no run in this folder.\nwatch: running on ")
    code, out, _ = mlops("status", "--project", home, "--json")
    assert list(json.loads(out)) == ["watch"]


def test_status_shows_result_error_or_reason_of_each_stage(home: Path, mlops: RunCommand) -> None:
    run = write_failed_run(home)
    code, out, _ = mlops("status", "--project", home)
    assert code == 0
    assert out.startswith(f"run {run.name} of tiny: failed")
    assert [line.split(maxsplit=2)[2] for line in out.splitlines()[1:]] == [
        "Fit to serve.",
        "disk full",
        "run       needs deploy",
    ]
    code, out, _ = mlops("status", "--project", home, "--json")
    assert code == 0
    assert json.loads(out)["stages"]["deploy"]["status"] == "failed"


def test_config_shows_each_setting_with_origin_and_description(
    home: Path, mlops: RunCommand
) -> None:
    code, out, _ = mlops("config", "--project", home)
    assert code == 0
    assert "target = 'late'  [mlops.yaml]\n    Column to predict" in out
    assert "train.trials = 16  [default]" in out
    lines = [line for line in out.splitlines() if not line.startswith("    ")]
    names = [line.partition(" = ")[0] for line in lines]
    settings = explain.explain_settings(loader.load_project(home))
    assert names == [setting[0] for setting in settings]
    assert all(description.strip() for description in out.splitlines()[1::2])


def test_schema_is_printed_without_a_project(tmp_path: Path, mlops: RunCommand) -> None:
    os.chdir(tmp_path)
    code, out, _ = mlops("config", "--schema")
    assert code == 0
    assert json.loads(out)["properties"]["target"]["description"] == "Column to predict"


def test_project_is_found_from_a_folder_inside_it(
    home: Path, mlops: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "a").mkdir()
    monkeypatch.chdir(home / "a")
    assert mlops("config")[0] == 0


@pytest.fixture
def jupyterlab(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which the command starts JupyterLab; it is not started."""
    folders: list[Path] = []
    monkeypatch.setattr(os, "execv", lambda _program, _command: folders.append(Path.cwd()))
    monkeypatch.setenv("MLOPS_PROJECT", "")
    monkeypatch.chdir(Path.cwd())
    return folders


def test_lab_opens_a_project_without_notebooks_of_its_own(
    home: Path, mlops: RunCommand, jupyterlab: list[Path]
) -> None:
    _, out, _ = mlops("lab", "--project", home)
    assert jupyterlab == [home]
    assert "come from mlops-kit: explore, prepare, train, review, deploy, monitor, retrain," in out
    assert "mlops notebook edit STAGE" in out


def test_lab_opens_the_notebooks_of_a_project(
    home: Path, mlops: RunCommand, jupyterlab: list[Path]
) -> None:
    mlops("notebook", "edit", "explore", "--project", home)
    _, out, _ = mlops("lab", "--project", home)
    assert jupyterlab == [home / "notebooks"]
    assert "come from mlops-kit: prepare, train," in out


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("no.csv", "'no.csv' does not exist"),
        ("mlops.yaml", "'mlops.yaml'"),
        ("empty.csv", "has no rows"),
    ],
)
def test_predict_reports_a_file_that_cannot_be_read(
    home: Path, mlops: RunCommand, monkeypatch: pytest.MonkeyPatch, file: str, message: str
) -> None:
    monkeypatch.chdir(home)
    (home / "empty.csv").write_text("")
    files_before = read_files(home)
    code, out, err = mlops("predict", file)
    assert (code, out) == (2, "")
    assert message in err
    assert "Hint: " in err
    assert read_files(home) == files_before


def test_predict_without_a_champion_says_what_to_do(home: Path, mlops: RunCommand) -> None:
    code, _, err = mlops("predict", home / "t.csv", "--project", home)
    assert code == 2
    assert "tiny has no champion yet" in err
    assert "Hint: mlops run" in err
    assert not (home / ".mlops").exists()


def test_predict_refuses_an_unknown_output_type(home: Path, mlops: RunCommand) -> None:
    output = home / "scores.xlsx"
    code, _, err = mlops("predict", home / "t.csv", "--project", home, "--out", output)
    assert code == 2
    assert "scores.xlsx' has an unknown file type" in err
    assert ".parquet" in err


def test_doctor_passes_in_a_valid_project(home: Path, mlops: RunCommand) -> None:
    code, out, err = mlops("doctor", "--project", home)
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if line.startswith("●")]
    assert [line.split(":")[0] for line in lines] == [
        "● Python",
        "● packages",
        "● extras",
        "● kernel",
        "● fork server",
        "● mlops.yaml",
        "● plugins",
        "● notebooks",
        "● source",
        "● retraining",
        "● store",
        "● database",
        "● people",
        "● disk",
    ]
    assert sorted(read_files(home)) == ["mlops.yaml", "t.csv"]


def test_doctor_counts_the_problems(home: Path, mlops: RunCommand) -> None:
    shutil.copytree(find_resource_folder("notebooks"), home / "notebooks")
    (home / "notebooks" / "03_train.ipynb").write_text("no notebook")
    (home / "t.csv").unlink()
    code, out, err = mlops("doctor", "--project", home)
    assert code == 1
    assert "2 of 14 checks found a problem" in err
    assert "▲ notebooks: 03_train.ipynb is not a notebook" in out
    assert "▲ source: source: 't.csv' does not exist" in out


def test_draft_is_not_a_run(home: Path, mlops: RunCommand) -> None:
    (home / "reports" / "draft" / run_folder.STAGE_RECORDS_FOLDER).mkdir(parents=True)
    assert mlops("status", "--project", home)[0] == 2


PIPELINE_CONFIG = """\
name: tiny
stages:
  first: {notebook: first.ipynb, params: {k: {max: 3}}}
  second: {notebook: second.ipynb, needs: [first]}
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A project with two notebooks of its own that were not run yet."""
    folder = tmp_path / "chain"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "mlops.yaml").write_text(PIPELINE_CONFIG)
    parameters_cell = {
        "cell_type": "code",
        "metadata": {"tags": ["parameters"]},
        "source": ["k: int = 1  # Factor."],
        "outputs": [],
        "execution_count": None,
    }
    notebook = {"cells": [parameters_cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for name in ("first", "second"):
        (folder / "notebooks" / f"{name}.ipynb").write_text(json.dumps(notebook))
    return folder


def test_plan_shows_actions_and_origins_of_values(
    pipeline: Path, mlops: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_PARAM_SECOND_K", "2")
    files_before = read_files(pipeline)
    code, out, _ = mlops("plan", "--project", pipeline, "-p", "first.k=3")
    assert code == 0
    assert read_files(pipeline) == files_before
    assert out.splitlines() == [
        "first   run   it has not been run yet",
        "        k = 3 (-p)",
        "second  run   it has not been run yet",
        "        k = 2 (environment MLOPS_PARAM_SECOND_K)",
    ]
    code, out, _ = mlops("plan", "--project", pipeline, "--json")
    assert [(planned["action"], planned["params"]) for planned in json.loads(out)] == [
        ("run", {"k": {"value": 1, "from": "notebook"}}),
        ("run", {"k": {"value": 2, "from": "environment MLOPS_PARAM_SECOND_K"}}),
    ]
    code, _, err = mlops("plan", "--project", pipeline, "--accept")
    assert code == 2
    assert "no run has stages that can be accepted as up to date" in err


def test_params_lists_types_values_and_limits(pipeline: Path, mlops: RunCommand) -> None:
    code, out, _ = mlops("params", "first", "--project", pipeline)
    assert code == 0
    assert out.splitlines()[1].split(maxsplit=6) == [
        "first.k",
        "int",
        "1",
        "1",
        "notebook",
        "at",
        "most 3  Factor.",
    ]
    code, out, _ = mlops("params", "--project", pipeline, "--json")
    parameters = json.loads(out)
    assert [(item["stage"], item["name"], item["max"]) for item in parameters] == [
        ("first", "k", 3),
        ("second", "k", None),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "-p", "first.k=4"], "first.k: 4 (-p) is out of its range"),
        (["params", "frist"], "unknown stage 'frist'"),
        (["logs"], "there is no run yet"),
        (["logs", "first"], "there is no run yet"),
        (["debug", "first"], "there is no run yet"),
        (["reproduce", "20130101-000000-aaaa"], "there is no run '20130101-000000-aaaa'"),
        (["diff"], "there is no run to compare"),
        (["run", "--each", "first.q=1"], "'first.q' cannot differ between branches"),
        (["run", "--each", "first.k=1,9"], "first.k: 9 (-p) is out of its range"),
        (["plan", "-p", "first"], "Hint: mlops params first lists the parameters of that stage"),
        (["run", "--each", "first"], "Hint: --each seed=1,2,3"),
        (["predict", "rows.csv"], "tiny has no model: its stages are first → second"),
        (["serve"], "tiny has no model"),
        (["watch", "--once"], "tiny has no model"),
        (["approve", "--reason", "why"], "tiny has no model"),
        (["reject", "--reason", "why"], "tiny has no model"),
        (["rollback", "--reason", "why"], "tiny has no model"),
        (["drift"], "tiny has no model"),
        (["dashboard"], "tiny has no model"),
        (["report"], "tiny has no model"),
        (["replay", "--from", "2024-01-01", "--to", "2024-02-01"], "tiny has no model"),
    ],
)
def test_command_that_is_not_possible_is_refused(
    pipeline: Path, mlops: RunCommand, arguments: list[str], message: str
) -> None:
    files_before = read_files(pipeline)
    code, out, err = mlops(*arguments, "--project", pipeline)
    assert (code, out) == (2, "")
    assert message in err
    assert read_files(pipeline) == files_before
