"""The kernel of a stage: this Python, told where its run is, and nothing left behind."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from mlops_kit.pipeline import kernels


def ran(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a cell prints in a kernel of ours, whose working directory is the project's root."""
    root = folder / "root"
    root.mkdir()
    short = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    kernels.register()
    out = folder / "out.ipynb"
    options = {"kernel_env": kernels.environment(folder / "run", root), "kernel_cwd": str(root)}
    try:
        with (folder / "stderr").open("wb") as log:
            book = new_notebook(cells=[new_code_cell(code)])
            papermill.execute_notebook(book, str(out), engine_name=kernels.NAME, kernel_name="python3", language="python", progress_bar=False, kernel_log=log, **options)
    finally:
        assert list(short.iterdir()) == []
        short.rmdir()
    return "".join(o.get("text", "") for o in nbformat.read(out, as_version=4).cells[0].outputs)


def test_a_kernel_is_this_python_in_the_projects_root_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("MLOPS_RUN", "MLOPS_PROJECT", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")
    code = f"import os, sys\nos.write(2, b'a complaint')\nprint(sys.executable, os.getcwd(), *(os.environ[n] for n in {names}), sep='|')"
    root = str(tmp_path / "root")
    assert ran(tmp_path, code, monkeypatch).strip().split("|") == [sys.executable, root, str(tmp_path / "run"), root, "true", "true"]
    assert "a complaint" in (tmp_path / "stderr").read_text()


def test_a_failing_cell_leaves_no_socket_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        ran(tmp_path, "1 / 0", monkeypatch)


def test_the_callers_environment_reaches_the_kernel_and_the_runs_own_stands_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "1")
    monkeypatch.setenv("MLOPS_RUN", "another")
    found = kernels.environment(Path("/a/run"), Path("/a"))
    assert (found["MINE"], found["MLOPS_RUN"], found["MLOPS_PROJECT"]) == ("1", "/a/run", "/a")
