"""The user of a process: by name, or by number where the system knows no name."""

from __future__ import annotations

import getpass
import os
import pwd
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


def test_known_user_keeps_home_and_is_not_renamed_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setenv("HOME", str(tmp_path))
    environment.complete_environment()
    assert environment.get_user_name() == pwd.getpwuid(os.getuid()).pw_name != "ann"
    assert Path.home() == tmp_path
    assert not list(tmp_path.iterdir())


def test_missing_home_folder_is_replaced(nameless: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nameless.setenv("HOME", "/nonexistent")
    environment.complete_environment()
    assert Path.home().parent == tmp_path


def test_libraries_write_elsewhere_if_the_home_folder_is_read_only(
    nameless: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nameless.setenv("HOME", "/")
    nameless.setattr(os, "access", lambda path, mode: False)
    nameless.setenv("IPYTHONDIR", "/chosen")
    for name in ("JUPYTER_RUNTIME_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        nameless.setenv(name, "")
        nameless.delenv(name)
    environment.complete_environment()
    assert Path.home() == Path("/")
    assert os.environ["IPYTHONDIR"] == "/chosen"
    assert Path(os.environ["JUPYTER_RUNTIME_DIR"]).parent.parent == tmp_path


@pytest.mark.parametrize(
    ("variables", "cgroup", "expected"),
    [
        ({}, "0::/user.slice", False),
        ({}, "9:cpu:/kubepods/pod1", True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "0::/", True),
    ],
)
def test_container_is_recognized(
    variables: dict[str, str],
    cgroup: str,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in ("KUBERNETES_SERVICE_HOST", "container"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "cgroup"
    file.write_text(cgroup, encoding="utf-8")
    monkeypatch.setattr(environment, "_FIRST_PROCESS_CGROUP", file)
    monkeypatch.setattr(environment, "_CONTAINER_FILES", (tmp_path / ".dockerenv",))
    assert environment.is_container() == expected
