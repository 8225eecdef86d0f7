"""A project that ``mlops new`` created passes its own tests in a fresh clone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlops_kit.pipeline.scaffold import create
from tests.support.environment import make_clean_environment
from tests.unit.pipeline.scaffold.conftest import write_visits

TEST_SECONDS = 600
QUICK_SEARCH = "train: {trials: 2, families: [linear]}\n"


def run_git(folder: Path, *arguments: str) -> None:
    """Run a git command as a person whom no configuration knows."""
    person = ["-c", "user.name=Ann", "-c", "user.email=ann@localhost"]
    subprocess.run(
        ["git", *person, *arguments], cwd=folder, check=True, capture_output=True, timeout=60
    )


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a created project; a quick search is the only edit."""
    folder = tmp_path_factory.mktemp("created")
    file = write_visits(folder)
    request = create.ProjectRequest(folder / "visits", [str(file)], "missed")
    project = create.write_project(create.draft_project(request))
    with (project.root / "mlops.yaml").open("a") as settings:
        settings.write(QUICK_SEARCH)
    run_git(project.root, "init", "--quiet")
    run_git(project.root, "add", "--all")
    run_git(project.root, "commit", "--quiet", "--message", "New")
    run_git(folder, "clone", "--quiet", "visits", "clone")
    return folder / "clone"


@pytest.fixture(scope="module")
def tested(clone: Path) -> subprocess.CompletedProcess[str]:
    """The last step of the project's workflow."""
    workflow = yaml.safe_load((clone / ".github" / "workflows" / "tests.yml").read_text())
    program, *arguments = workflow["jobs"]["tests"]["steps"][-1]["run"].split()
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=clone,
        env=make_clean_environment(),
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
        check=False,
    )


def test_its_own_tests_pass_in_a_fresh_clone(tested: subprocess.CompletedProcess[str]) -> None:
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert re.search(r"\b4 passed", tested.stdout)
    assert "skipped" not in tested.stdout


def test_its_tests_leave_no_run_in_it(
    clone: Path, tested: subprocess.CompletedProcess[str]
) -> None:
    assert not (clone / "reports").exists()
    assert not (clone / ".mlops").exists()
