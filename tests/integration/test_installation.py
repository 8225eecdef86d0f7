"""The wheel in environments of its own: what the base and an extra can do, and what is missing.

The environments are created by uv, from the registry or uv's cache, at the versions of the lock.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from mlops_kit.core.extras import EXTRAS, format_install_command
from mlops_kit.project import loader
from mlops_kit.registry.scoring import predict_with_champion
from tests.support import watched_project
from tests.support.environment import ROOT, make_clean_environment
from tests.support.server_process import ServerProcess, send

INSTALLATION_SECONDS = 1200
COMMAND_SECONDS = 300
REGISTRY_FAILURE = re.compile(r"Failed to fetch|error sending request|network was disabled")
SCORED_ROWS = 20
LAUNCHER_THAT_LISTS_MODULES = """
import atexit, json, pathlib, sys
from mlops_kit import cli
list_file = pathlib.Path({file!r})
atexit.register(lambda: list_file.write_text(json.dumps(list(sys.modules))))
cli.main()
"""
HEAVY_MODULES = ("jupyterlab", "voila", "optuna", "data_profiling", "ydata_profiling", "papermill")
COMMANDS_WITHOUT_EXTRAS = {
    "run": "train",
    "approve --reason fine": "train",
    "watch --once": "train",
    "serve --port 0": "serve",
    "dashboard --no-browser": "dashboards",
    "report": "dashboards",
    "lab": "lab",
}


def create_installation(folder: Path, wheel: Path, extra: str = "") -> Path:
    """Install the wheel with an extra into an empty environment; return its ``bin`` folder."""
    uv = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    assert uv, "make installs uv"
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        check=True,
        capture_output=True,
        timeout=COMMAND_SECONDS,
    )
    suffix = f"[{extra}]" if extra else ""
    options = ["--python", str(folder / "bin" / "python"), "-c", str(ROOT / "requirements.lock")]
    installed = subprocess.run(
        [uv, "pip", "install", *options, f"mlops-kit{suffix} @ {wheel.as_uri()}"],
        capture_output=True,
        text=True,
        timeout=INSTALLATION_SECONDS,
        check=False,
    )
    if installed.returncode and REGISTRY_FAILURE.search(installed.stderr):
        pytest.skip(f"the package registry cannot be reached: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    return folder / "bin"


@pytest.fixture(scope="module")
def environments() -> Iterator[Path]:
    """A folder beside uv's cache on the disk, whose files uv links instead of copying them."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def base(wheel: Path, environments: Path) -> Path:
    """The commands of an environment with the base only."""
    return create_installation(environments / "base", wheel)


@pytest.fixture(scope="module")
def serving(wheel: Path, environments: Path) -> Path:
    """The commands of an environment with the extra ``serve``."""
    return create_installation(environments / "serve", wheel, "serve")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    """A project whose champion is a pipeline of skrub and scikit-learn; only to be copied."""
    return watched_project.build_project(tmp_path_factory.mktemp("trained") / "home")


@pytest.fixture(scope="module")
def rows(trained: loader.Project) -> pd.DataFrame:
    """Rows to score."""
    frame = pd.read_csv(trained.root / "t.csv", nrows=SCORED_ROWS)
    return frame.drop(columns="y")


@pytest.fixture(scope="module")
def known_scores(trained: loader.Project, rows: pd.DataFrame) -> list[float]:
    """The scores of the rows in the environment of the tests."""
    scores: list[float] = predict_with_champion(trained, rows)["score"].tolist()
    assert len(set(scores)) > 1
    return scores


@pytest.fixture
def home(trained: loader.Project, tmp_path: Path) -> Path:
    """A copy of the project in another folder."""
    return shutil.copytree(trained.root, tmp_path / "copied")


def run_command(commands: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``mlops`` of an environment in a project."""
    return subprocess.run(
        [str(commands / "mlops"), *arguments],
        cwd=home,
        env=make_clean_environment(),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )


def list_missing_modules(commands: Path) -> set[str]:
    """Return those of the heavy modules that an environment lacks."""
    code = f"""
import importlib.util, json
modules = {HEAVY_MODULES!r}
print(json.dumps([name for name in modules if importlib.util.find_spec(name) is None]))
"""
    printed = subprocess.run(
        [str(commands / "python"), "-I", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
    )
    return set(json.loads(printed.stdout))


def predict_by_rest(server: ServerProcess, rows: pd.DataFrame) -> list[float]:
    """Return the scores that a server answers."""
    payload = {"rows": json.loads(rows.to_json(orient="records"))}
    status, content = send(server.connect(), "/predict", payload)
    assert status == 200, content
    return [prediction["score"] for prediction in content["predictions"]]


def test_serving_environment_serves_the_champion_of_a_copied_project(
    serving: Path, home: Path, rows: pd.DataFrame, known_scores: list[float]
) -> None:
    server = ServerProcess(home, [str(serving / "mlops")])
    answered_scores = predict_by_rest(server, rows)
    assert server.stop(signal.SIGTERM) == 0
    assert answered_scores == known_scores


def test_base_scores_a_file_with_the_champion_of_a_copied_project(
    base: Path, home: Path, rows: pd.DataFrame, known_scores: list[float]
) -> None:
    rows.to_csv(home / "rows.csv", index=False)
    completed = run_command(base, home, "predict", "rows.csv")
    assert completed.returncode == 0, completed.stderr
    scores = pd.read_csv(io.StringIO(completed.stdout), float_precision="round_trip")
    assert scores["score"].tolist() == known_scores


@pytest.mark.parametrize("installation", ["base", "serving"])
def test_small_installation_has_none_of_the_heavy_packages(
    installation: str, request: pytest.FixtureRequest
) -> None:
    assert list_missing_modules(request.getfixturevalue(installation)) == set(HEAVY_MODULES)


@pytest.mark.parametrize(("command", "extra"), COMMANDS_WITHOUT_EXTRAS.items())
def test_command_whose_libraries_are_missing_names_the_extra(
    command: str, extra: str, base: Path, home: Path
) -> None:
    completed = run_command(base, home, *command.split())
    assert completed.returncode == 2
    first_line, *others = completed.stderr.strip().splitlines()
    assert re.fullmatch(rf"error: this needs the '{extra}' extra: \w+ is not installed", first_line)
    assert others[-1] == f"  Hint: {format_install_command(extra)}"
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize("command", ["--help", "config", "doctor", "runs", "plan"])
def test_command_of_the_base_succeeds(command: str, base: Path, home: Path) -> None:
    completed = run_command(base, home, command)
    assert completed.returncode == 0, completed.stderr + completed.stdout


def test_doctor_lists_the_extras_of_a_small_installation(serving: Path, home: Path) -> None:
    output = run_command(serving, home, "doctor").stdout
    assert f"● extras: 1 of {len(EXTRAS)} installed" in output
    assert "  serve: installed" in output
    for extra in set(EXTRAS) - {"serve"}:
        assert f"  {extra}: {format_install_command(extra)}" in output


def test_serving_process_of_a_full_installation_imports_no_other_extra(
    home: Path, rows: pd.DataFrame, known_scores: list[float], tmp_path: Path
) -> None:
    list_file = tmp_path / "modules.json"
    launcher = LAUNCHER_THAT_LISTS_MODULES.format(file=str(list_file))
    server = ServerProcess(home, [sys.executable, "-c", launcher])
    assert predict_by_rest(server, rows) == known_scores
    assert server.stop(signal.SIGTERM) == 0
    top_level_modules = {name.partition(".")[0] for name in json.loads(list_file.read_text())}
    assert {"fastapi", "mlflow", "sklearn", "skops"} <= top_level_modules
    assert top_level_modules & set(HEAVY_MODULES) == set()
