"""The command line: each mistake is worded and leaves nothing behind, each verb says what it did."""

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
from mlops_kit.project import run_folder

GOOD = "name: tiny\nsource: t.csv\ntarget: late\ntask: binary\ntime: at\n"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A project of two rows."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mlops.yaml").write_text(GOOD)
    (folder / "t.csv").write_text("at,late\n2013-01-01,0\n2013-01-02,1\n")
    return folder


@pytest.fixture
def mlops(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line's own door, in this process: exit code, output, errors."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mlops", *map(str, words)])
        code = 0
        try:
            application.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def process(*words: object, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", *map(str, words)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# what is wrong: the file (None: there is none), then field, value and what was expected, as the error has them
MISTAKES: dict[str, tuple[str | None, str, str, str]] = {
    "unknown key": (GOOD + "trian: {trials: 3}\n", "trian", "unknown key", "expected 'train'"),
    "wrong type": (GOOD + "seed: abc\n", "seed", "'abc'", "expected a valid integer"),
    "missing target": (
        GOOD.replace("target: late\n", ""),
        "target",
        "missing",
        "expected: Column to predict",
    ),
    "target not in the data": (
        GOOD.replace("target: late", "target: lat"),
        "target",
        "'lat'",
        "expected 'late'",
    ),
    "bad date": (GOOD + "as_of: 2013-02-30\n", "as_of", "'2013-02-30'", "expected a date such as"),
    "end before start": (
        GOOD + "as_of: 2013-07-01\nuntil: 2013-06-01\n",
        "until",
        "2013-06-01",
        "expected the same moment or a later one",
    ),
    "end before start, which is not given": (
        GOOD + "until: 2012-06-01\n",
        "until",
        "2012-06-01",
        "Expected: as_of at or before until",
    ),
    "unknown metric": (
        GOOD + "train: {metric: log_los}\n",
        "train.metric",
        "'log_los'",
        "expected 'log_loss'",
    ),
    "negative budget": (
        GOOD + "train: {trials: -1}\n",
        "train.trials",
        "-1",
        "expected greater than or equal to 1",
    ),
    "unknown stage": (
        GOOD + "stages: {trian: {needs: [prepare]}}\n",
        "stage",
        "'trian'",
        "expected 'train'",
    ),
    "cyclic needs": (
        GOOD + "stages: {prepare: {needs: [train]}}\n",
        "stages",
        "prepare → train → prepare",
        "take one of these needs out",
    ),
    "missing source": (GOOD.replace("t.csv", "u.csv"), "source", "'u.csv'", "a file at"),
    "missing file": (None, "mlops.yaml", "home", "name it with --project"),
    "empty file": (
        "",
        "mlops.yaml",
        "is empty",
        "Expected: at least name, source, target and task",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_config_is_worded_and_nothing_is_written(home: Path, name: str) -> None:
    text, field, value, expected = MISTAKES[name]
    (home / "mlops.yaml").write_text(text) if text is not None else (home / "mlops.yaml").unlink()
    before = files(home)
    done = process("run", "--project", home)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "Hint: " in done.stderr
    assert all(part in done.stderr for part in (field, value, expected))
    assert not any(word in done.stderr for word in ("Traceback", "pydantic", "site-packages"))
    assert files(home) == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--as-of", "2013-02-30"], "as_of: '2013-02-30'; expected a date"),
        (
            ["--as-of", "2013-01-02", "--until", "2013-01-01"],
            "until 2013-01-01 lies before as_of 2013-01-02",
        ),
        (["--only", "trian"], "unknown stage 'trian'\n  Expected: 'train'"),
        (["--from", "review", "--to", "train"], "--from review comes after --to train"),
        (["-p", "train.trails=3"], "train has no parameter 'trails'"),
        (["-p", "train.seed=abc"], "train.seed: 'abc' (-p) is no int"),
        (["-p", "seed=1"], "Expected: stage.name=value"),
    ],
)
def test_a_mistake_on_the_command_line_is_worded_and_nothing_is_written(
    home: Path, mlops: Command, words: list[str], told: str
) -> None:
    before = files(home)
    code, out, err = mlops("run", "--project", home, *words)
    assert (code, out) == (2, "")
    assert told in err
    assert "mlops.yaml;" not in err
    assert files(home) == before


def test_a_sample_of_less_than_nothing_is_refused(mlops: Command) -> None:
    code, _, err = mlops("run", "--sample", "-1")
    assert code == 2
    assert "--sample" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("ask", ["option", "setting"])
def test_debug_shows_the_traceback_and_keeps_words_and_exit_code(home: Path, ask: str) -> None:
    (home / "mlops.yaml").write_text("")
    done = (
        process("status", "--project", home, "--debug")
        if ask == "option"
        else process("status", "--project", home, MLOPS_DEBUG="1")
    )
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "error: mlops.yaml is empty" in done.stderr


def test_help_names_each_verb_and_loads_nothing_heavy() -> None:
    code = "import json, sys\nfrom mlops_kit import cli\nsys.argv = ['mlops', '--help']\ntry: cli.main()\nfinally: print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    page, _, modules = done.stdout.strip().rpartition("\n")
    assert all(
        f"  {verb} " in page
        for verb in ("run", "status", "config", "predict", "rollback", "lab", "doctor")
    )
    assert not {m.split(".")[0] for m in json.loads(modules)} & {
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


def test_without_a_verb_the_help_is_shown(mlops: Command) -> None:
    code, out, err = mlops()
    assert code == 2
    assert "Commands:" in out + err


def test_a_folder_that_cannot_be_written_is_no_traceback(home: Path, mlops: Command) -> None:
    (home / "reports").write_text("a file where a folder should be")
    code, _, err = mlops("run", "--project", home, "--only", "prepare")
    assert code == 1
    assert err.startswith("error: ")
    assert "reports" in err
    assert "Traceback" not in err


def recorded(home: Path) -> Path:
    """A run as the engine leaves one: review passed, deploy failed."""
    run = home / "reports" / "20130101-000000-abcd"
    stages = {
        "review": {"status": "succeeded", "sentence": "Fit to serve."},
        "deploy": {"status": "failed", "error": {"message": "no room"}},
        "monitor": {"status": "not run", "reason": "needs deploy"},
    }
    write_json(
        run / "manifest.json",
        {
            "run": run.name,
            "project": "tiny",
            "status": "failed",
            "started": "2013-01-01T00:00:00.000",
            "sample": 0,
            "stages": stages,
        },
    )
    return run


def test_status_without_a_run_says_what_to_do(home: Path, mlops: Command) -> None:
    code, out, err = mlops("status", "--project", home)
    assert (code, out) == (2, "")
    assert "there is no run yet" in err
    assert "Hint: mlops run" in err


def test_status_tells_each_stage_in_its_own_words(home: Path, mlops: Command) -> None:
    run = recorded(home)
    code, out, _ = mlops("status", "--project", home)
    assert code == 0
    assert out.startswith(f"run {run.name} of tiny: failed")
    assert [line.split(maxsplit=2)[2] for line in out.splitlines()[1:]] == [
        "Fit to serve.",
        "no room",
        "run       needs deploy",
    ]
    code, out, _ = mlops("status", "--project", home, "--json")
    assert code == 0
    assert json.loads(out)["stages"]["deploy"]["status"] == "failed"


def test_config_prints_each_setting_with_its_origin_and_meaning(home: Path, mlops: Command) -> None:
    from mlops_kit.project import explain, loader

    code, out, _ = mlops("config", "--project", home)
    assert code == 0
    assert "target = 'late'  [mlops.yaml]\n    Column to predict" in out
    assert "train.trials = 16  [default]" in out
    named = [line.partition(" = ")[0] for line in out.splitlines() if not line.startswith("    ")]
    assert named == [row[0] for row in explain.explain_settings(loader.load_project(home))]
    assert all(meaning.strip() for meaning in out.splitlines()[1::2])


def test_the_project_is_found_from_a_folder_inside_it(
    home: Path, mlops: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "a").mkdir()
    monkeypatch.chdir(home / "a")
    assert mlops("config")[0] == 0


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("no.csv", "'no.csv' does not exist"),
        ("mlops.yaml", "has an ending that is not known"),
        ("empty.csv", "cannot be read"),
    ],
)
def test_predict_of_a_file_that_cannot_be_read_is_worded(
    home: Path, mlops: Command, monkeypatch: pytest.MonkeyPatch, file: str, told: str
) -> None:
    monkeypatch.chdir(home)
    (home / "empty.csv").write_text("")
    before = files(home)
    code, out, err = mlops("predict", file)
    assert (code, out) == (2, "")
    assert told in err
    assert "Hint: " in err
    assert files(home) == before


def test_predict_without_a_champion_says_what_to_do(home: Path, mlops: Command) -> None:
    code, _, err = mlops("predict", home / "t.csv", "--project", home)
    assert code == 2
    assert "tiny has no champion yet" in err
    assert "Hint: mlops run" in err
    assert not (home / ".mlops").exists()


def test_predict_writes_only_what_it_knows_how_to(home: Path, mlops: Command) -> None:
    code, _, err = mlops(
        "predict", home / "t.csv", "--project", home, "--out", home / "scores.xlsx"
    )
    assert code == 2
    assert "scores.xlsx' has an ending that is not known" in err
    assert ".parquet" in err


def test_doctor_finds_nothing_wrong_here(home: Path, mlops: Command) -> None:
    code, out, err = mlops("doctor", "--project", home)
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == [
        f"● {n}"
        for n in (
            "Python",
            "packages",
            "kernel",
            "mlops.yaml",
            "notebooks",
            "source",
            "store",
            "disk",
        )
    ]
    assert sorted(files(home)) == ["mlops.yaml", "t.csv"]


def test_doctor_counts_what_needs_mending(home: Path, mlops: Command) -> None:
    shutil.copytree(find_resource_folder("notebooks"), home / "notebooks")
    (home / "notebooks" / "03_train.ipynb").unlink()
    (home / "t.csv").unlink()
    code, out, err = mlops("doctor", "--project", home)
    assert code == 1
    assert "2 of 8 things need mending" in err
    assert "▲ notebooks: the notebook '03_train.ipynb' does not exist" in out
    assert "▲ source: source: 't.csv' does not exist" in out


def test_a_draft_is_no_run(home: Path, mlops: Command) -> None:
    (home / "reports" / "draft" / run_folder.STAGE_RECORDS_FOLDER).mkdir(parents=True)
    assert mlops("status", "--project", home)[0] == 2


CHAIN = """\
name: tiny
stages:
  first: {notebook: first.ipynb, params: {k: {most: 3}}}
  second: {notebook: second.ipynb, needs: [first]}
"""


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A chain of own notebooks, not run yet."""
    folder = tmp_path / "chain"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "mlops.yaml").write_text(CHAIN)
    for name in ("first", "second"):
        cell = {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": ["k: int = 1  # Factor."],
            "outputs": [],
            "execution_count": None,
        }
        (folder / "notebooks" / f"{name}.ipynb").write_text(
            json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
        )
    return folder


def test_plan_says_what_would_run_and_where_a_value_came_from(
    chain: Path, mlops: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_PARAM_SECOND_K", "2")
    before = files(chain)
    code, out, _ = mlops("plan", "--project", chain, "-p", "first.k=3")
    assert code == 0
    assert files(chain) == before
    assert out.splitlines() == [
        "first   run   it has not been run yet",
        "        k = 3 (-p)",
        "second  run   it has not been run yet",
        "        k = 2 (environment MLOPS_PARAM_SECOND_K)",
    ]
    code, out, _ = mlops("plan", "--project", chain, "--json")
    assert [(d["action"], d["params"]) for d in json.loads(out)] == [
        ("run", {"k": {"value": 1, "from": "notebook"}}),
        ("run", {"k": {"value": 2, "from": "environment MLOPS_PARAM_SECOND_K"}}),
    ]
    code, _, err = mlops("plan", "--project", chain, "--accept")
    assert code == 2
    assert "there is no run whose stages could be taken" in err


def test_params_is_a_table_of_the_interface(chain: Path, mlops: Command) -> None:
    code, out, _ = mlops("params", "first", "--project", chain)
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
    code, out, _ = mlops("params", "--project", chain, "--json")
    assert [(p["stage"], p["name"], p["most"]) for p in json.loads(out)] == [
        ("first", "k", 3),
        ("second", "k", None),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plan", "-p", "first.k=4"], "first.k: 4 (-p) is out of its range"),
        (["params", "frist"], "unknown stage 'frist'"),
        (["logs", "first"], "there is no run yet"),
        (["debug", "first"], "there is no run yet"),
        (["reproduce", "20130101-000000-aaaa"], "there is no run '20130101-000000-aaaa'"),
        (["diff"], "there is no run to compare"),
        (["run", "--each", "first.q=1"], "'first.q' cannot differ between branches"),
        (["run", "--each", "first.k=1,9"], "first.k: 9 (-p) is out of its range"),
    ],
)
def test_a_verb_of_the_chain_that_cannot_be_done_is_worded(
    chain: Path, mlops: Command, words: list[str], said: str
) -> None:
    before = files(chain)
    code, out, err = mlops(*words, "--project", chain)
    assert (code, out) == (2, "")
    assert said in err
    assert files(chain) == before
