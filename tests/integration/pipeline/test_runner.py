"""The chain itself, on two tiny notebooks of a project's own: run, skip, fail, go on."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mlops_kit.core import files
from mlops_kit.core.errors import KitError
from mlops_kit.core.results import Verdicts
from mlops_kit.pipeline import manifest, report, runner
from mlops_kit.project import artifacts, loader, run_folder, run_manifest
from mlops_kit.project.run_manifest import RunManifest
from tests.support.pipeline_fixtures import write_notebook

YAML = """
name: tiny
source: t.csv
target: y
task: regression
stages:
  first: {notebook: first.ipynb, writes: [numbers]}
  second: {notebook: second.ipynb, needs: [first], writes: [total]}
"""


@pytest.fixture
def home(tmp_path: Path, copy_mlflow_store: Callable[[Path], Path]) -> Path:
    copy_mlflow_store(tmp_path)
    (tmp_path / "mlops.yaml").write_text(YAML)
    (tmp_path / "t.csv").write_text("x,y\n1,2\n2,4\n")
    write_notebook(
        tmp_path,
        "first",
        "stage.write('numbers', {'a': [1, 2, 3]})",
        "stage.log(n=3)",
        "stage.hand_over('Three numbers.')",
    )
    write_notebook(
        tmp_path,
        "second",
        "stage.write('total', {'total': sum(stage.read('numbers')['a'])})",
        "stage.hand_over('Their total.')",
    )
    return tmp_path


def run_home(
    home: Path,
    first: str = "first",
    last: str = "second",
    only: str = "",
    force: bool = False,
    given: dict[str, dict[str, Any]] | None = None,
) -> RunManifest:
    project = loader.load_project(home)
    return runner.run_pipeline(
        project,
        runner.select_stages(project, first, last, only),
        given or {},
        lambda text, transient=False: None,
        runner.RunOptions(force, "why"),
    )


def get_statuses(made: RunManifest) -> tuple[str, str]:
    return made.stages["first"].status, made.stages["second"].status


def test_run_stores_what_its_stages_wrote(home: Path) -> None:
    made = run_home(home)
    folder = home / "reports" / made.run
    assert get_statuses(made) == ("succeeded", "succeeded")
    found = run_folder.list_artifacts(folder)
    assert artifacts.read_artifact(folder, found["total"]) == {"total": 6}
    assert found["total"].made_from == {"numbers": found["numbers"].content}
    assert made.stages["first"].logged == {"n": 3}
    page = (folder / "index.html").read_text()
    assert "Three numbers." in page
    assert "notebooks/first.html" in page
    assert "stage.write" not in (folder / "notebooks" / "first.html").read_text()
    assert not list(folder.rglob(".*"))


def test_up_to_date_project_makes_no_new_run_until_an_output_is_damaged(
    home: Path,
) -> None:
    made = run_home(home)
    book = nbformat.read(home / "notebooks" / "first.ipynb", as_version=4)
    book.cells[0].source = "# Another title"
    nbformat.write(book, home / "notebooks" / "first.ipynb")
    (home / "t.csv").write_text("x,y\n1,2\n2,5\n")  # no stage reads it
    again = run_home(home)
    assert again.is_up_to_date
    assert again.run == made.run
    files.write_text(home / "reports" / made.run / "artifacts" / "total.json", "{}")
    again = run_home(home)
    assert not again.is_up_to_date
    assert get_statuses(again) == ("skipped", "succeeded")
    assert (again.stages["first"].reason, again.stages["second"].reasons) == (
        f"unchanged since {made.run}",
        ["output `total` is damaged"],
    )
    folder = home / "reports" / again.run
    assert all(
        (folder / f).exists()
        for f in (
            "artifacts/numbers.json",
            "artifacts/total.json",
            "stages/first.json",
            "notebooks/first.ipynb",
            "notebooks/first.html",
        )
    )


IMPORT_MISSING_LIBRARY = """\
from mlops_kit.core.lazy import LazyModule
LazyModule("no_such_library", extra="profile").report"""


def test_library_that_a_kernel_misses_is_reported_as_a_missing_extra(home: Path) -> None:
    write_notebook(home, "second", IMPORT_MISSING_LIBRARY)
    made = run_home(home)
    assert get_statuses(made) == ("succeeded", "failed")
    assert made.stages["second"].error.type == "MissingExtraError"
    error = runner.find_run_error(made)
    assert error is not None
    assert error.exit_code == 2
    assert "this needs the 'profile' extra: no_such_library is not installed" in str(error)
    assert str(error).endswith('Hint: pip install "mlops-kit[profile]"')


def test_failed_run_is_kept_and_the_next_one_continues(home: Path) -> None:
    write_notebook(home, "second", "1 / 0")
    made = run_home(home)
    assert made.status == "failed"
    assert get_statuses(made) == ("succeeded", "failed")
    assert made.stages["second"].error.type == "ZeroDivisionError"
    error = runner.find_run_error(made)
    assert error is not None
    assert error.exit_code == 1
    assert "division by zero" in str(error)
    assert f"Hint: mlops logs second {made.run} shows what it printed" in str(error)
    assert (
        "ZeroDivisionError"
        in (home / "reports" / made.run / "notebooks" / "second.html").read_text()
    )
    write_notebook(
        home, "second", "stage.write('total', {'total': 6})", "stage.hand_over('Their total.')"
    )
    assert get_statuses(run_home(home)) == ("skipped", "succeeded")


def test_killed_kernel_and_missing_outputs_are_failures(home: Path) -> None:
    write_notebook(home, "second", "import os, signal", "os.kill(os.getpid(), signal.SIGKILL)")
    assert "kernel died" in run_home(home).stages["second"].error.message
    write_notebook(home, "second", "stage.hand_over('Nothing.')")
    assert "did not write 'total'" in run_home(home).stages["second"].error.message
    write_notebook(home, "second", "pass")
    assert "hand_over" in run_home(home).stages["second"].error.message


def test_stage_that_needs_a_failed_one_is_not_run(home: Path) -> None:
    write_notebook(home, "first", "raise ValueError('no')")
    made = run_home(home)
    assert get_statuses(made) == ("failed", "not run")
    assert made.stages["second"].reason == "needs first"


def test_only_carries_needed_stages_over_from_the_last_run(home: Path) -> None:
    before = run_home(home)
    made = run_home(home, first="", last="", only="second", force=True)
    assert get_statuses(made) == ("skipped", "succeeded")
    assert made.stages["first"].reason == f"as in {before.run}"
    assert not made.stages["first"].is_selected


def test_unknown_parameter_is_refused_before_anything_is_written(home: Path) -> None:
    with pytest.raises(KitError, match="'seed'"):
        run_home(home, given={"first": {"sed": 1}})
    assert not (home / "reports").exists()


def test_secret_is_refused_as_parameter_and_scrubbed_from_records(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_KEY", "hunter2-hunter2")
    with (home / "mlops.yaml").open("a") as file:
        file.write("secrets: [TINY_KEY]\n")
    write_notebook(
        home,
        "second",
        "import os",
        "stage.log(word=os.environ['TINY_KEY'])",
        "stage.write('total', {'total': 6})",
        "stage.hand_over(f\"With {os.environ['TINY_KEY']}.\")",
        parameters="word: str = 'a'  # Word.",
    )
    with pytest.raises(
        KitError, match=r"parameter second\.word holds the value of the secret TINY_KEY"
    ) as refused:
        run_home(home, given={"second": {"word": "https://hunter2-hunter2@host"}})
    assert "hunter2" not in str(refused.value)
    assert not (home / "reports").exists()
    made = run_home(home)
    assert made.stages["second"].logged == {"word": "•••TINY_KEY•••"}
    assert made.stages["second"].sentence == "With •••TINY_KEY•••."
    assert not [
        p
        for p in [*(home / "reports").rglob("*"), *(home / ".mlops").rglob("*")]
        if p.is_file() and b"hunter2-hunter2" in p.read_bytes()
    ]


def test_run_names_sort_by_start_time(home: Path) -> None:
    names = [manifest.create_manifest(loader.load_project(home), [], "").run for _ in range(20)]
    assert names == sorted(set(names))


def test_running_run_without_a_process_is_killed(home: Path) -> None:
    made = run_home(home)
    folder = home / "reports" / made.run
    stopped = run_manifest.read_stored_manifest(folder)
    stopped.status = run_manifest.RunStatus.RUNNING
    assert stopped.process is not None
    stopped.process = dataclasses.replace(stopped.process, process_id=2**22 + 1)
    stopped.stages["second"].status = run_manifest.StageStatus.RUNNING
    run_manifest.write_manifest(folder, stopped)
    found = run_manifest.read_manifest(folder)
    assert (found.status, found.stages["second"].status) == ("killed", "killed")
    assert report.build_headline(found, Verdicts(()))[0] == "▲ Failed"


def test_simultaneous_runs_have_their_own_folders(home: Path) -> None:
    made: list[RunManifest] = []
    started = [
        threading.Thread(target=lambda: made.append(run_home(home, force=True))) for _ in range(2)
    ]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert len({m.run for m in made}) == 2
    assert {get_statuses(m) for m in made} == {("succeeded", "succeeded")}


WAITING_CELL = (
    "from pathlib import Path\n"
    "from mlops_kit.core.errors import WaitingForApprovalError\n"
    "if not Path('approved').exists():\n"
    "    raise WaitingForApprovalError('version 1 waits for an approval')"
)


def test_waiting_run_is_resumed_in_its_own_folder(home: Path) -> None:
    write_notebook(
        home,
        "second",
        WAITING_CELL,
        "stage.write('total', {'total': 6})",
        "stage.hand_over('Their total.')",
    )
    made = run_home(home)
    assert (made.status, *get_statuses(made)) == (
        "waiting (approval)",
        "succeeded",
        "waiting (approval)",
    )
    error = runner.find_run_error(made)
    assert error is not None
    assert error.exit_code == 3
    assert f"mlops approve {made.run}" in str(error)
    assert "Waiting for an approval" in (home / "reports" / made.run / "index.html").read_text()
    (home / "approved").touch()
    project, folder = loader.load_project(home), home / "reports" / made.run
    again = runner.resume_run(project, folder, lambda text, transient=False: None)
    assert (again.run, again.status, *get_statuses(again)) == (
        made.run,
        "succeeded",
        "succeeded",
        "succeeded",
    )
    assert again.stages["first"].started == made.stages["first"].started
    with pytest.raises(KitError, match="cannot be resumed"):
        runner.resume_run(project, folder, lambda text, transient=False: None)


def test_kernel_starts_beside_the_files_of_its_notebook_if_set(home: Path) -> None:
    folder = home / "notebooks" / "sub"
    folder.mkdir()
    (folder / "rows.txt").write_text("1")
    write_notebook(
        home,
        "first",
        "stage.write('numbers', {'a': [int(open('rows.txt').read())]})",
        "stage.hand_over('Read.')",
    )
    config = home / "mlops.yaml"
    text = config.read_text()
    failed = run_home(home, only="first").stages["first"]
    assert failed.status == "failed"
    assert f"relative paths begin in {home}, where the kernel starts" in failed.error_message
    assert "stages.first.cwd names another folder" in failed.error_message
    config.write_text(text.replace("first.ipynb", "first.ipynb, cwd: notebooks/sub"))
    succeeded = run_home(home, only="first").stages["first"]
    assert succeeded.status == "succeeded"
    assert "notebooks/sub/rows.txt" in succeeded.dependencies.files
