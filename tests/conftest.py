"""What all tests share: no setting of the caller's reaches them, and none of them reaches the caller's store.

The chain is run once for each of two tables, by the real command line; tests read these runs, and
copy the project if they want to change it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the caller's settings out, and come back to the caller's folder; a stray MLflow call lands in the test's own folder."""
    monkeypatch.chdir(Path.cwd())
    for name in [n for n in os.environ if n.startswith(("MLOPS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that read one table's run go to one worker, so that it is made once; the others go by file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByTable(LoadScopeScheduling):  # xdist's own groups do not reach pytest 9
        def _split_scope(self, nodeid: str) -> str:
            table = re.search(r"\[(diabetes|flights)\b", nodeid)
            return table[1] if table else nodeid.split("::")[0]

    return ByTable(config, log)


def clean() -> dict[str, str]:
    """The caller's environment without settings of mlops-kit and MLflow."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "MLFLOW_"))}


def project(home: Path, files: Iterable[str], mend: dict[str, str]) -> Path:
    """Copy a project's files and lay small numbers over its ``mlops.yaml``."""
    home.mkdir()
    for file in files:
        target = home / Path(file).name
        shutil.copytree(ROOT / file, target, ignore=shutil.ignore_patterns("__pycache__")) if (
            ROOT / file
        ).is_dir() else shutil.copy(ROOT / file, target)
    text = (home / "mlops.yaml").read_text()
    for old, new in mend.items():
        assert old in text
        text = text.replace(old, new)
    (home / "mlops.yaml").write_text(text)
    return home


TABLES = {
    "diabetes": (
        ("examples/diabetes/mlops.yaml", "examples/diabetes/contract.yaml"),
        {"trials: 12": "trials: 4"},
    ),
    "flights": (
        ("mlops.yaml", "contract.yaml", "features"),
        {"train: {trials: 12}": "train: {trials: 2}\nsample: 5000"},
    ),
}


@pytest.fixture(scope="session", params=TABLES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run: on the diabetes data whole, on the flights a sample; few trials of each."""
    home = project(tmp_path_factory.mktemp("chain") / request.param, *TABLES[request.param])
    done = subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", "run", "--project", str(home), "--json"],
        env=clean(),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home / "reports" / json.loads(done.stdout)["run"]


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    """The diabetes project anew, with nothing run yet."""
    return project(tmp_path / "twin", *TABLES["diabetes"])
