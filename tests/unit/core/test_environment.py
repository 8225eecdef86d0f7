"""The user of a process: by name, or by number where the system knows no name."""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

import pytest

from mlops_kit.core import environment

USER_VARIABLES = ("LOGNAME", "USER", "LNAME", "USERNAME")


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A process of a user id without an entry in the list of users, as in many containers."""
    for name in (*USER_VARIABLES, "HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return monkeypatch


def test_user_without_a_name_is_named_by_number(nameless: pytest.MonkeyPatch) -> None:
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    assert environment.get_user_name() == "uid 2147483641"


def test_environment_gets_a_name_and_a_private_home(
    nameless: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.complete_environment()
    assert getpass.getuser() == "uid 2147483641"
    home = Path.home()
    assert home.parent == tmp_path
    assert home.stat().st_mode & 0o777 == 0o700
    environment.complete_environment()
    assert Path.home() == home


def test_home_folder_of_another_user_is_not_used(
    nameless: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    foreign = tmp_path / "mlops-kit-2147483641"
    foreign.mkdir(mode=0o777)
    environment.complete_environment()
    assert Path.home() != foreign
    assert Path.home().parent == tmp_path


def test_known_user_keeps_name_and_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("HOME", str(tmp_path))
    environment.complete_environment()
    assert environment.get_user_name() == "ann"
    assert Path.home() == tmp_path
    assert not list(tmp_path.iterdir())
