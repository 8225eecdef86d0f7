"""Bad data is quarantined and reported, or refused with a clear error; real kernels."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_kit.cli import application
from mlops_kit.core import files
from mlops_kit.data import contract, contract_inference, source
from mlops_kit.project import artifacts, loader, run_folder

YAML = "name: small\nsource: t.csv\ntarget: y\ntask: binary\nid: k\ntracking: sqlite:///{store}/mlflow.db\n"
ROWS = 300


def rows() -> pd.DataFrame:
    """Three hundred rows that keep to the contract."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "k": range(ROWS),
            "age": rng.integers(18, 80, ROWS),
            "kind": rng.choice(["a", "b", "c"], ROWS),
            "pay": rng.normal(50, 10, ROWS).round(2),
        }
    )
    return frame.assign(y=(frame["age"] + rng.normal(0, 20, ROWS) > 50).astype(int))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One MLflow store for all cases: a fresh one costs seconds."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def home(tmp_path: Path, place: Path) -> Path:
    """A project whose contract was inferred from good rows."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mlops.yaml").write_text(YAML.format(store=place))
    rows().to_csv(folder / "t.csv", index=False)
    project = loader.load_project(folder)
    contract.save_contract(
        folder / "contract.yaml",
        contract_inference.infer_contract(source.read_source(project), project.config),
    )
    return folder


Prepared = Callable[[pd.DataFrame], tuple[int, str, str]]


@pytest.fixture
def prepared(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Prepared:
    """``mlops run --only prepare`` on other rows: exit code, output, errors."""

    def run(frame: pd.DataFrame) -> tuple[int, str, str]:
        frame.to_csv(home / "t.csv", index=False)
        monkeypatch.setattr(
            sys, "argv", ["mlops", "run", "--only", "prepare", "--project", str(home)]
        )
        code = 0
        try:
            application.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return code, said.out, said.err

    return run


def spoiled(column: str, value: object, count: int) -> pd.DataFrame:
    """The rows with another value in the first of them."""
    frame = rows().astype({column: object})
    frame.loc[: count - 1, column] = value
    return frame


@pytest.mark.parametrize(
    ("frame", "count"),
    [(spoiled("age", "old", 9), 9), (spoiled("k", 0, 4), 3)],
    ids=["3 % are no number", "an id more than once"],
)
def test_bad_rows_are_quarantined_and_counted(
    home: Path, prepared: Prepared, frame: pd.DataFrame, count: int
) -> None:
    code, out, err = prepared(frame)
    assert (code, err) == (0, "")
    assert "succeeded" in out
    run = run_folder.list_run_folders(home / "reports")[0]
    found = run_folder.list_artifacts(run)
    assert len(artifacts.read_artifact(run, found["quarantine"])) == count
    assert artifacts.read_artifact(run, found["contract_report"]).sentence.startswith(
        f"{count} of {ROWS} rows"
    )
    assert len(artifacts.read_artifact(run, found["features"])) == ROWS - count
    assert run_folder.read_stage_records(run)["prepare"]["logged"]["quarantined"] == count
    assert f"{count} of {ROWS} rows" in (run / "notebooks" / "02_prepare.html").read_text()


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (rows().drop(columns="age"), "the source has no column 'age'"),
        (spoiled("age", "old", ROWS), "values of 'age' are not a whole number"),
        (spoiled("age", None, ROWS), "the column 'age' has no values"),
        (spoiled("y", 1, ROWS), "have one class of 'y': 1"),
    ],
    ids=["a column is gone", "another type", "a column is empty", "one class"],
)
def test_data_that_cannot_be_used_stop_the_run_in_words(
    home: Path, prepared: Prepared, frame: pd.DataFrame, told: str
) -> None:
    code, _, err = prepared(frame)
    assert code == 1
    assert err.startswith("error: prepare failed: ")
    assert told in err
    assert "Hint: " in err
    run = run_folder.list_run_folders(home / "reports")[0]
    assert files.read_json(run / "manifest.json")["status"] == "failed"
    assert told in html.unescape((run / "index.html").read_text())


@pytest.mark.parametrize(
    ("frame", "code", "told"),
    [
        (rows().head(0), 1, "the source 't.csv' has no rows"),
        (rows().drop(columns="y"), 2, "target: column 'y' is not in the source"),
        (rows().drop(columns="k"), 2, "id: column 'k' is not in the source"),
    ],
    ids=["no rows", "no target", "no id"],
)
def test_what_a_glance_shows_is_refused_before_a_kernel_starts(
    home: Path, prepared: Prepared, frame: pd.DataFrame, code: int, told: str
) -> None:
    found, out, err = prepared(frame)
    assert (found, out) == (code, "")
    assert told in err
    assert "Hint: " in err
    assert sorted(p.name for p in home.iterdir()) == ["contract.yaml", "mlops.yaml", "t.csv"]
