"""Small projects of a few notebooks that can be broken, for tests of failures and benchmarks."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import psutil
from filelock import FileLock, Timeout
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mlops_kit.core import files
from mlops_kit.pipeline import runner
from mlops_kit.project import loader, run_folder, run_manifest
from tests.support.environment import make_clean_environment

QUICK_COMMAND = (
    "import sys; "
    "from mlops_kit import cli; "
    "from mlops_kit.pipeline import preloaded_modules; "
    "preloaded_modules.END_OF_RUN_MODULES = (); "
    "cli.main()"
)  # what a run imports ahead takes longer than a small chain


def make_cell(source: str, tag: str = "") -> Any:
    """Return a code cell, with a tag if one is given."""
    return new_code_cell(source, metadata={"tags": [tag]} if tag else {})


def write_project(home: Path, chain: dict[str, tuple[str, list[Any]]], more: str = "") -> Path:
    """Write a project.

    ``chain`` has the options (YAML) and the cells (text, or from ``make_cell``) of each stage;
    before them come a title, the parameters and the cell that opens the stage.
    """
    (home / "notebooks").mkdir(parents=True, exist_ok=True)
    lines = [
        f"  {name}: {{notebook: {name}.ipynb, {options}}}" for name, (options, _) in chain.items()
    ]
    (home / "mlops.yaml").write_text(
        "\n".join(["name: tiny", *filter(None, [more]), "stages:", *lines, ""])
    )
    for name, (_, cells) in chain.items():
        opening = [
            make_cell("seed: int = 0  # Seed.", "parameters"),
            make_cell(f"from mlops_kit.stages import open_stage\nstage = open_stage({name!r})"),
        ]
        book = new_notebook(
            cells=[
                new_markdown_cell(f"# {name}"),
                *opening,
                *(make_cell(c) if isinstance(c, str) else c for c in cells),
            ]
        )
        for number, one in enumerate(book.cells):
            one.id = f"{name}-{number}"
        nbformat.write(book, home / "notebooks" / f"{name}.ipynb")
    return home


def start_run(home: Path, *words: str) -> subprocess.Popen[str]:
    """``mlops run`` as a process (and group) of its own."""
    env = make_clean_environment()
    return subprocess.Popen(
        [sys.executable, "-c", QUICK_COMMAND, "run", "--project", str(home), *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def list_process_tree(pid: int) -> list[psutil.Process]:
    """A process with all that it has started."""
    one = psutil.Process(pid)
    return [one, *one.children(recursive=True)]


def list_stray_processes(home: Path) -> list[str]:
    """Processes that a run of this project has started and that are still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("MLOPS_RUN", "").startswith(str(home))
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                found.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return found


def read_outputs(folder: Path) -> dict[str, str]:
    """Content of what a run's stages hand on, and the hash of each file of it."""
    made = run_folder.list_artifacts(folder)
    held = {name: artifact.sha256 for name, artifact in made.items()}
    return held | {
        f"{name}: content": artifact.content for name, artifact in made.items() if artifact.content
    }


def write_parallel_project(home: Path) -> Path:
    """A chain of four quick stages, two of which run at once."""
    table = (
        "import pandas as pd\nrows = pd.DataFrame({'a': range(1000)})\nstage.write('rows', rows)"
    )
    half = (
        "import time\n"
        "rows = stage.read('rows')\n"
        "time.sleep(0.2)\n"
        "stage.log(n=len(rows))\n"
        "stage.write({name!r}, {{'sum': int((rows.a * {factor}).sum())}})"
    )
    close = "stage.hand_over('Done.')"
    return write_project(
        home,
        {
            "start": ("writes: [rows]", [table, close]),
            "left": ("needs: [start], writes: [left]", [half.format(name="left", factor=2), close]),
            "right": (
                "needs: [start], writes: [right]",
                [half.format(name="right", factor=3), close],
            ),
            "whole": (
                "needs: [left, right], writes: [whole]",
                [
                    "left, right = stage.read('left'), stage.read('right')\n"
                    "stage.write('whole', {'sum': left['sum'] + right['sum']})",
                    close,
                ],
            ),
        },
        "run: {jobs: 2}",
    )


def run_to_end(home: Path) -> Path:
    """Run a project in this process; the run's folder.

    Raises
    ------
    KitError
        If it does not end well.
    """
    opened = loader.load_project(home)
    made = runner.run_pipeline(
        opened, runner.select_stages(opened), {}, lambda text, transient=False: None
    )
    if (error := runner.find_run_error(made)) is not None:
        raise error
    return home / "reports" / made.run


def kill_and_resume(home: Path, whole: dict[str, str], seconds: float) -> tuple[str, list[str]]:
    """Kill a fresh run of a project after some seconds, with its process group, and run it again.

    Returns
    -------
    str, list of str
        How far it had got, and what is wrong: processes or locks that are left, a false record, a
        damaged store, or artifacts other than ``whole`` (those of an undisturbed run).
    """
    shutil.rmtree(home / "reports", ignore_errors=True)
    process, alive = start_run(home), []
    try:
        process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        held = list_process_tree(process.pid)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        alive = psutil.wait_procs(held, timeout=60)[1]
    before = [run_manifest.read_manifest(f) for f in run_folder.list_run_folders(home / "reports")]
    far = (
        ", ".join(f"{n} {e.status}" for m in before for n, e in m.stages.items())
        or "nothing was recorded"
    )
    again = run_to_end(home)
    faults = [
        *(f"left: {p}" for p in (*alive, *list_stray_processes(home))),
        *(f"lock held: {f.name}" for f in home.glob(".mlops/**/*.lock") if not is_lock_free(f)),
        *find_false_records(home),
    ]
    return far, faults if read_outputs(again) == whole else [
        *faults,
        f"artifacts differ: {read_outputs(again)}",
    ]


def find_false_records(home: Path) -> list[str]:
    """Return what manifests, notebooks and MLflow record that is false after all runs ended."""
    made = [
        run_manifest.read_stored_manifest(f) for f in run_folder.list_run_folders(home / "reports")
    ]
    books = {
        b: files.read_json(b)["metadata"].get("mlops", {}).get("status")
        for b in home.glob("reports/*/notebooks/*.ipynb")
    }
    with closing(sqlite3.connect(home / ".mlops" / "mlflow.db")) as database:
        told = database.execute("SELECT name, status FROM runs").fetchall()
        damaged = [said for (said,) in database.execute("PRAGMA integrity_check") if said != "ok"]
    names = {name for name, _ in told}
    return [
        *(f"{m.run} is {m.status}" for m in made if m.status not in {"succeeded", "killed"}),
        *(f"{b} is {s}" for b, s in books.items() if s not in {"succeeded", "killed"}),
        *(f"store: {said}" for said in damaged),
        *(f"MLflow: {n} is {s}" for n, s in told if s not in {"FINISHED", "KILLED"}),
        *(f"MLflow does not know {m.run}" for m in made if m.run not in names),
    ]


def is_lock_free(lock: Path) -> bool:
    """Whether nobody holds a lock."""
    try:
        with FileLock(str(lock), timeout=0):
            return True
    except Timeout:
        return False
