"""The filter for notebooks: it is set once in a repository, and what git refuses is reported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.pipeline.manifest import run_git
from mlops_kit.pipeline.scaffold.git_filter import set_up_notebook_filter

CLEAN = "filter.nbstripout.clean"


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repository, without the settings of the person who runs the test."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    assert run_git(tmp_path, "init", "--quiet") is not None
    return tmp_path


def test_filter_strips_outputs_and_is_set_once(repository: Path) -> None:
    assert "was set in this repository" in set_up_notebook_filter(repository)
    command = run_git(repository, "config", "--local", "--get", CLEAN)
    assert command is not None
    assert command.endswith("-m nbstripout --keep-id")
    run_git(repository, "config", "--local", CLEAN, "another command")
    assert "was set before" in set_up_notebook_filter(repository)
    assert run_git(repository, "config", "--get", CLEAN) == "another command"


def test_setting_that_git_refuses_is_an_error(repository: Path) -> None:
    (repository / ".git" / "config.lock").touch()  # as while another git changes the settings
    with pytest.raises(RunFailedError, match=f"could not set {CLEAN}"):
        set_up_notebook_filter(repository)


def test_folder_outside_a_repository_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(KitError, match="is not in a git repository"):
        set_up_notebook_filter(tmp_path)
