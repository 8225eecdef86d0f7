"""Old runs: the log of a stage, a console at its failure, and executing a run again."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_kit.core import files, lazy
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.pipeline import object_store, reproduce, stage_log
from mlops_kit.pipeline.compare.records import OutputComparison
from mlops_kit.project import loader, run_manifest
from mlops_kit.project.run_manifest import ModuleDependency, RunManifest, StageDependencies
from tests.support.pipeline_fixtures import write_notebook

RunPipeline = Callable[..., RunManifest]


def ignore_progress(text: str, transient: bool = False) -> None:
    """Report progress to nobody."""


def get_folder(home: Path, manifest: RunManifest) -> Path:
    return home / "reports" / manifest.run


def test_log_has_printed_lines_kernel_output_and_the_error(
    tiny: Path, run_tiny: RunPipeline
) -> None:
    write_notebook(
        tiny, "second", "print('counting')", "import os\nos.write(2, b'a complaint')\n1 / 0"
    )
    folder = get_folder(tiny, run_tiny())
    text = stage_log.format_stage_log(folder, "second")
    assert text.startswith("second of run ")
    assert ": failed\n" in text
    assert "--- cell 4\ncounting" in text
    assert "--- kernel\na complaint" in text
    assert "--- failed in cell 5, line 3" in text
    assert "ZeroDivisionError: division by zero" in text
    with pytest.raises(KitError, match="no stage 'secnd'"):
        stage_log.format_stage_log(folder, "secnd")


def list_modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_console_opens_at_the_failure_and_does_not_change_the_run(
    tiny: Path, run_tiny: RunPipeline
) -> None:
    folder = get_folder(tiny, run_tiny(second={"k": 5}))
    before = list_modification_times(folder)
    done = subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", "debug", "second", "--project", str(tiny)],
        input="print('total is', total)\nexit\n",
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "failed; its variables are available here" in done.stdout, done.stderr
    assert "total is 30" in done.stdout, done.stderr
    assert list_modification_times(folder) == before


def run_git(home: Path, *words: str) -> str:
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    done = subprocess.run(
        ["git", "-C", str(home), *words],
        env={**os.environ, **identity},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


READ_EVERYTHING = """\
data = int(open('data.csv').read()) + int(open('../outside.csv').read())
parts = [ord(path.read_text()) for path in sorted(Path('parts').iterdir())]
stage.write('numbers', {'a': [*helper.A, data, *parts]})"""


@pytest.fixture
def committed(tiny: Path) -> Path:
    """The tiny project under git; its first stage reads a module, a file and a folder."""
    (tiny / "helper.py").write_text("A = [1, 2, 3]\n")
    (tiny / "data.csv").write_text("4\n")
    (tiny.parent / "outside.csv").write_text("5\n")
    (tiny / "parts").mkdir()
    for name in "ab":
        (tiny / "parts" / f"{name}.txt").write_text(name)
    config = (tiny / "mlops.yaml").read_text()
    with_files = "writes: [numbers], files: [data.csv, parts]"
    (tiny / "mlops.yaml").write_text(config.replace("writes: [numbers]", with_files))
    write_notebook(
        tiny,
        "first",
        "import helper\nfrom pathlib import Path",
        READ_EVERYTHING,
        "stage.log(n=4)",
        "stage.hand_over('Numbers.')",
    )
    (tiny / ".gitignore").write_text(".mlops\nreports\n__pycache__\n")
    run_git(tiny, "init", "-q")
    run_git(tiny, "add", "-A")
    run_git(tiny, "commit", "-qm", "one")
    return tiny


def test_run_is_reproduced_after_code_and_data_have_changed(
    committed: Path, run_tiny: RunPipeline
) -> None:
    (committed / "helper.py").write_text("A = [1, 2, 4]\n")  # not committed before the run
    manifest = run_tiny(second={"k": 2})
    folder = get_folder(committed, manifest)
    assert manifest.git.dirty
    (committed / "helper.py").write_text("A = []\n")
    (committed / "data.csv").write_text("9\n")
    (committed / "parts" / "a.txt").write_text("another")
    (committed / "parts" / "b.txt").unlink()
    outside = committed.parent / "outside.csv"
    outside.write_text("7\n")
    write_notebook(committed, "third", "raise ValueError('broken since')")
    project = loader.load_project(committed)
    reproduction = reproduce.reproduce_run(project, folder, ignore_progress)
    assert reproduction.is_identical
    # The file outside the project is read from a copy, since the notebook names it relatively.
    (change,) = reproduction.environment_changes
    outside_hash = hashlib.sha256(b"5\n").hexdigest()
    copy = object_store.get_object_path(project, outside_hash)
    assert change == f"`{outside}` outside the project changed (copy of it as it was: {copy})"
    assert "identical" in reproduction.sentence
    identical = {(output.stage, output.name) for output in reproduction.outputs if output.is_same}
    assert identical >= {
        ("first", "numbers"),
        ("second", "total"),
        ("third", "third_result"),
        ("first", "n"),
    }
    assert not reproduce.get_reproduction_folder(project, folder).exists()
    assert len(run_git(committed, "worktree", "list").splitlines()) == 1
    # A content that is stored nowhere any more is named.
    dependencies = run_manifest.read_manifest(folder).stages["first"].dependencies
    assert dependencies is not None
    helper_hash = dependencies.modules["helper.py"].hash
    object_store.get_object_path(project, helper_hash).unlink()
    with pytest.raises(RunFailedError, match=r"`helper\.py` is not available with the content"):
        reproduce.reproduce_run(project, folder, ignore_progress)


def test_first_difference_of_a_reproduction_is_named() -> None:
    outputs = [
        OutputComparison("first", "numbers", False, "a → b"),
        OutputComparison("first", "n", True, "3"),
        OutputComparison("review", "version", None, "a record"),
    ]
    reproduction = reproduce.Reproduction("old", "new", ["pandas 1 → 2"], outputs)
    assert not reproduction.is_identical
    assert reproduction.sentence == (
        "Run old was executed again: 1 of 2 artifacts and numbers are identical; "
        "first.numbers is the first that differs."
    )
    failed = reproduce.Reproduction(
        "old", "new", [], [OutputComparison("first", "", False, "was not executed again")]
    )
    assert failed.sentence.endswith("are identical; first was not executed again.")
    marks = [line.split()[0] for line in reproduction.text.splitlines()[:-1]]
    assert marks == ["◆", "▲", "●", "○"]


def test_changes_of_the_environment_are_named(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODE", "b")
    unchanged_hash = files.hash_file(Path(lazy.__file__))
    dependencies = StageDependencies(
        packages={"pandas": "0.1", "gone": "1"},
        modules={
            "mlops_kit/client.py": ModuleDependency(hash="another"),
            "mlops_kit/core/lazy.py": ModuleDependency(hash=unchanged_hash),
        },
        python="2.7",
        env={"MODE": "x"},
    )
    (tmp_path / "rates.csv").write_text("1")
    (tmp_path / "new.csv").write_text("1")
    dependencies.files = {
        "data.csv": 64 * "1",  # of the project: it is restored
        str(tmp_path / "rates.csv"): 64 * "2",
        str(tmp_path / "lost.csv"): 64 * "3",
        str(tmp_path / "new.csv"): "gone",
    }
    project = loader.load_project(tiny)
    changes = list(reproduce.list_environment_changes(project, dependencies))
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert changes[0].startswith("pandas 0.1 → ")
    assert changes[1:] == [
        "gone 1 → not installed",
        "`mlops_kit/client.py` of the installed package changed",
        f"Python 2.7 → {python}",
        "environment variable MODE",
        f"`{tmp_path}/rates.csv` outside the project changed (no copy of it was stored)",
        f"`{tmp_path}/lost.csv` outside the project is gone (no copy of it was stored)",
        f"`{tmp_path}/new.csv` outside the project exists now",
    ]
