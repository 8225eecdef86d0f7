"""Old runs again: what a stage said, a console at its failure, the whole run made anew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.core import files, lazy
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.pipeline import object_store, reproduce, stage_log
from mlops_kit.project import loader, run_manifest

from .conftest import write

Go = Callable[..., dict[str, Any]]
SAY = lambda text, transient=False: None


def latest(home: Path, made: dict[str, Any]) -> Path:
    return home / "reports" / str(made.run)


def test_a_log_holds_what_was_printed_what_the_kernel_said_and_the_error(
    tiny: Path, go: Go
) -> None:
    write(tiny, "second", "print('counting')", "import os\nos.write(2, b'a complaint')\n1 / 0")
    text = stage_log.format_stage_log(latest(tiny, go()), "second")
    assert text.startswith("second of run ")
    assert ": failed\n" in text
    for line in (
        "--- cell 4\ncounting",
        "--- the kernel itself\na complaint",
        "--- failed in cell 5, line 3",
        "ZeroDivisionError: division by zero",
    ):
        assert line in text
    with pytest.raises(KitError, match="no stage 'secnd'"):
        stage_log.format_stage_log(tiny / "reports" / text.split()[3].rstrip(":"), "secnd")


def test_a_console_stands_where_the_stage_failed_and_leaves_the_run_alone(
    tiny: Path, go: Go
) -> None:
    made = go(second={"k": 5})
    before = {p: p.stat().st_mtime_ns for p in latest(tiny, made).rglob("*") if p.is_file()}
    done = subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", "debug", "second", "--project", str(tiny)],
        input="print('total is', total)\nexit\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "failed; its names are here" in done.stdout and "total is 30" in done.stdout, done.stderr
    assert {p: p.stat().st_mtime_ns for p in latest(tiny, made).rglob("*") if p.is_file()} == before


def git(home: Path, *words: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    return subprocess.run(
        ["git", "-C", str(home), *words],
        env={**os.environ, **identity},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_run_is_made_again_after_code_and_data_have_changed(tiny: Path, go: Go) -> None:
    (tiny / "helper.py").write_text("A = [1, 2, 3]\n")
    (tiny / "data.csv").write_text("4\n")
    (tiny / "mlops.yaml").write_text(
        (tiny / "mlops.yaml")
        .read_text()
        .replace("writes: [numbers]", "writes: [numbers], files: [data.csv, parts]")
    )
    (tiny / "parts").mkdir()
    for name in "ab":
        (tiny / "parts" / f"{name}.txt").write_text(name)
    write(
        tiny,
        "first",
        "import helper\nfrom pathlib import Path",
        "stage.write('numbers', {'a': [*helper.A, int(open('data.csv').read()), *(ord(p.read_text()) for p in sorted(Path('parts').iterdir()))]})",
        "stage.log(n=4)",
        "stage.hand_over('Numbers.')",
    )
    (tiny / ".gitignore").write_text(".mlops\nreports\n__pycache__\n")
    git(tiny, "init", "-q")
    git(tiny, "add", "-A")
    git(tiny, "commit", "-qm", "one")
    (tiny / "helper.py").write_text("A = [1, 2, 4]\n")  # not committed when the run is made
    made = go(second={"k": 2})
    assert made.git.dirty
    (tiny / "helper.py").write_text("A = []\n")
    (tiny / "data.csv").write_text("9\n")
    (tiny / "parts" / "a.txt").write_text("another")
    (tiny / "parts" / "b.txt").unlink()
    write(tiny, "third", "raise ValueError('broken since')")
    project = loader.load_project(tiny)
    found = reproduce.reproduce_run(project, latest(tiny, made), SAY)
    assert found.is_identical
    assert found.environment_changes == []
    assert "identical" in found.sentence
    assert {(s, n) for s, n, same, _ in found.rows if same} >= {
        ("first", "numbers"),
        ("second", "total"),
        ("third", "third_result"),
        ("first", "n"),
    }
    assert not reproduce.get_reproduction_folder(project, latest(tiny, made)).exists()
    assert len(git(tiny, "worktree", "list").splitlines()) == 1
    # content that is nowhere any more is named
    found_trace = run_manifest.read_manifest(latest(tiny, made)).stages["first"].dependencies
    object_store.get_object_path(project, found_trace.modules["helper.py"].hash).unlink()
    with pytest.raises(RunFailedError, match="`helper.py` as it was then is not to be had"):
        reproduce.reproduce_run(project, latest(tiny, made), SAY)


def test_a_run_that_is_not_the_same_again_says_where() -> None:
    rows = [
        ("first", "numbers", False, "a → b"),
        ("first", "n", True, "3"),
        ("review", "version", None, "a record"),
    ]
    found = reproduce.Reproduction("old", "new", ["pandas 1 → 2"], rows)
    assert not found.is_identical
    assert (
        found.sentence
        == "Run old made again: 1 of 2 artifacts and numbers are identical; first.numbers is the first that is not."
    )
    assert [line.split()[0] for line in found.text.splitlines()[:-1]] == ["◆", "▲", "●", "○"]


def test_what_differs_in_the_environment_is_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODE", "b")
    modules = {
        "mlops_kit/stage.py": {"hash": "another", "by": ""},
        "mlops_kit/late.py": {"hash": files.hash_file(Path(lazy.__file__)), "by": ""},
    }
    old = {
        "packages": {"pandas": "0.1", "gone": "1"},
        "modules": modules,
        "python": "2.7",
        "env": {"MODE": "x"},
    }
    said = [*reproduce.list_environment_changes(loader.load_project(tiny), old)]
    assert said[0].startswith("pandas 0.1 → ")
    assert said.pop(2) == "`mlops_kit/stage.py` of the installed package changed"
    assert said[1:] == [
        "gone 1 → not installed",
        "Python 2.7 → 3.11" if sys.version_info[:2] == (3, 11) else said[2],
        "environment variable MODE",
    ]
