"""What all tests share: a clean environment, and one run of the chain for each of two tables.

The chain runs by the real command line; tests read these runs, and copy the project to change it.
Tests are marked by their folder: ``unit``, ``integration``, ``e2e`` or ``browser``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.environment import ROOT, SETTING_PREFIXES, make_clean_environment

pytest_plugins = [
    "tests.support.postgres_fixtures",
    "tests.support.dashboard_fixtures",
    "tests.support.pipeline_fixtures",
    "tests.support.review_fixtures",
    "tests.support.served_project",
    "tests.support.serving_fixtures",
    "tests.support.wheel_fixtures",
]
TESTS = ROOT / "tests"
MEMORY_FOLDER = Path("/dev/shm")
MIN_FREE_MEMORY_BYTES = 4 * 2**30


def pytest_configure() -> None:
    """Leave no resident server behind, and keep files in memory: on a disk, commits take long.

    Tests of the resident server unset ``CI`` and have a folder of their own for its socket.
    """
    os.environ["CI"] = "true"
    if MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free > MIN_FREE_MEMORY_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_FOLDER))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with the name of the folder it is in."""
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        kind = item.path.relative_to(TESTS).parts[0]
        item.add_marker(kind)
        if kind == "unit" and "run" in getattr(item, "fixturenames", ()):
            message = f"{item.nodeid}: a unit test may not run the chain; move it to integration"
            raise pytest.UsageError(message)


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the caller's settings, restore the folder, and keep stray MLflow calls in the test."""
    monkeypatch.chdir(Path.cwd())
    for name in list(os.environ):
        if name.startswith(SETTING_PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Send the tests that read one table's run to one worker, and the others file by file.

    The documents whose code blocks run take minutes each, so they are sent one by one.
    """
    from xdist.scheduler import LoadScopeScheduling

    class TableScheduling(LoadScopeScheduling):  # xdist's own groups do not reach pytest 9
        def _split_scope(self, nodeid: str) -> str:
            table = re.search(r"\[(diabetes|flights)\b", nodeid)
            if "test_code_blocks_run[" in nodeid:
                return nodeid
            return table[1] if table else nodeid.split("::")[0]

    return TableScheduling(config, log)


class SampleTable(NamedTuple):
    """Files of a project, and the settings that make its run short."""

    files: tuple[str, ...]
    changes: dict[str, str]


SMALL_PROFILE = "stages: {explore: {params: {profile_rows: 500}}}"
SAMPLE_TABLES = {
    "diabetes": SampleTable(
        ("examples/diabetes/mlops.yaml", "examples/diabetes/contract.yaml"),
        {"trials: 12": "trials: 4"},
    ),
    "flights": SampleTable(
        ("mlops.yaml", "contract.yaml", "features"),
        {"train: {trials: 12}": "train: {trials: 2}\nsample: 5000\n" + SMALL_PROFILE},
    ),
}


def copy_project(home: Path, table: SampleTable) -> Path:
    """Copy a project's files and change its settings."""
    home.mkdir()
    for name in table.files:
        source = ROOT / name
        target = home / source.name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    settings = home / "mlops.yaml"
    text = settings.read_text()
    for old, new in table.changes.items():
        assert old in text
        text = text.replace(old, new)
    settings.write_text(text)
    return home


@pytest.fixture(scope="session", params=SAMPLE_TABLES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run: all rows of diabetes, a sample of the flights, few trials."""
    folder = tmp_path_factory.mktemp("chain") / request.param
    home = copy_project(folder, SAMPLE_TABLES[request.param])
    completed = subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", "run", "--project", str(home), "--json"],
        env=make_clean_environment(),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert "leaked" not in completed.stderr, completed.stderr
    return home / "reports" / json.loads(completed.stdout)["run"]


@pytest.fixture
def fresh_diabetes_project(tmp_path: Path) -> Path:
    """Return a copy of the diabetes project in which nothing has been run."""
    return copy_project(tmp_path / "fresh", SAMPLE_TABLES["diabetes"])
