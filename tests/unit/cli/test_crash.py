"""Whatever a command raises is reported in three lines, with the traceback in a file."""

from __future__ import annotations

import builtins
import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc

import mlops_kit.cli
from mlops_kit.cli import application, crash
from mlops_kit.project import loader

CONFIG = "name: chain\nsecrets: [CRASH_SECRET]\nstages:\n  a: {notebook: a.ipynb}\n"
# One call of every command; `mlops new` and `mlops people` read no project.
COMMANDS = [
    "update",
    "run",
    "plan",
    "params",
    "status",
    "runs",
    "logs",
    "debug a",
    "diff",
    "reproduce latest",
    "resume",
    "clean",
    "approve --reason x",
    "reject --reason x",
    "rollback --reason x",
    "predict rows.csv",
    "serve",
    "watch",
    "drift",
    "replay --from 2024-01-01 --to 2024-02-01",
    "dashboard",
    "report",
    "lab",
    "config",
    "doctor",
    "export cron",
    "notebook list",
    "data show",
    "alerts list",
    "promotion enable --reason x",
    "reference accept 0.5 --reason x",
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a chain of one notebook, in which commands run."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "mlops.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLOPS_DEBUG", raising=False)
    return tmp_path


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the program in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["mlops", *arguments])
    with pytest.raises(SystemExit) as ended:
        mlops_kit.cli.main()
    return int(ended.value.code or 0)


def check_report(error_text: str, folder: Path) -> str:
    """Check that an error has three lines and a file with the traceback; return the traceback."""
    first, second, third = error_text.strip().splitlines()
    assert first.startswith("error: ")
    assert re.fullmatch(r"  Where: .+, line \d+, in \w+", second)
    assert re.match(r"  Hint: .+; the traceback is in ", third)
    file = folder / third.rpartition(" is in ")[2]
    text = file.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in text
    return text


def test_every_command_is_covered() -> None:
    covered = {command.partition(" ")[0] for command in COMMANDS}
    known = {*application._COMMANDS, *application._GROUPS}
    assert known - covered == {"new", "people"}


@pytest.mark.parametrize("command", COMMANDS)
def test_fault_in_a_command_is_reported_in_three_lines(
    command: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> loader.Project:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(loader, "validate_config", fail)
    assert run_main(monkeypatch, *command.split()) == 1
    error_text = capsys.readouterr().err
    assert "error: RuntimeError: first line\n" in error_text
    assert "second line" in check_report(error_text, home)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "free disk space"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "give this user access"),
        (OSError(errno.EROFS, "Read-only file system", "/data/x"), "can be written"),
        (MemoryError(), "free memory"),
        (ModuleNotFoundError("No module named 'polars'", name="polars"), "'polars' is missing"),
        (sqlalchemy.exc.OperationalError("select 1", {}, Exception("locked")), "mlops doctor"),
        (ZeroDivisionError("division by zero"), "report this fault of mlops-kit"),
    ],
)
def test_hint_fits_the_error(
    error: Exception, hint: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crash.report_crash(error) == 1
    assert hint in capsys.readouterr().err


def test_fault_in_a_file_of_the_user_names_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = home / "features.py"
    script.write_text("def compute():\n    return {}['rows']\n")
    namespace: dict[str, Any] = {}
    exec(compile(script.read_text(), str(script), "exec"), namespace)
    with pytest.raises(KeyError) as raised:
        namespace["compute"]()
    crash.report_crash(raised.value)
    error_text = capsys.readouterr().err
    assert "features.py, line 2, in compute" in error_text
    assert "Hint: correct features.py" in error_text


def test_failing_import_is_reported_in_three_lines(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = builtins.__import__

    def fail(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "mlops_kit.cli" and arguments[2:] and "application" in (arguments[2] or ()):
            raise ModuleNotFoundError("No module named 'typer'", name="typer")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", fail)
    assert run_main(monkeypatch, "plan") == 1
    error_text = capsys.readouterr().err
    check_report(error_text, home)
    assert "'typer' is missing or broken in" in error_text


def test_secrets_are_neither_printed_nor_stored(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CRASH_SECRET", "sesame-open")
    monkeypatch.setattr(sys, "argv", ["mlops", "plan"])
    crash.report_crash(RuntimeError("cannot log in with sesame-open"))
    (file,) = (home / ".mlops" / "errors").glob("*.txt")
    assert "sesame-open" not in capsys.readouterr().err + file.read_text()


def test_debug_prints_the_traceback_too(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> loader.Project:
        raise RuntimeError("why")

    monkeypatch.setenv("MLOPS_DEBUG", "1")
    monkeypatch.setattr(loader, "validate_config", fail)
    assert run_main(monkeypatch, "plan") == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_interruption_has_the_exit_code_of_a_shell(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "complete_environment", interrupt)
    assert run_main(monkeypatch, "plan") == 130


def test_traceback_goes_to_the_temporary_folder_without_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mlops", "plan"])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    crash.report_crash(RuntimeError("why"))
    (file,) = (tmp_path / "tmp").glob("mlops-error-*.txt")
    assert file.name in capsys.readouterr().err
    assert not (tmp_path / ".mlops").exists()


def test_only_the_newest_tracebacks_are_kept(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / ".mlops" / "errors"
    folder.mkdir(parents=True)
    for number in range(30):
        (folder / f"20000101-0000{number:02}-1.txt").touch()
    monkeypatch.setattr(sys, "argv", ["mlops", "plan"])
    crash.report_crash(RuntimeError("why"))
    assert len(list(folder.iterdir())) == 20


@pytest.mark.slow
def test_closed_output_and_latin_1_terminal_are_no_faults(home: Path) -> None:
    command = f"{sys.executable} -m mlops_kit.cli config | head -1"
    completed = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=120, check=True
    )
    assert completed.stderr == ""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    doctor = subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", "doctor"],
        capture_output=True,
        encoding="latin-1",
        timeout=120,
        check=False,
        env=environment,
    )
    assert "\\u25cf Python" in doctor.stdout
    assert "UnicodeEncodeError" not in doctor.stderr
