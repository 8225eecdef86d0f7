"""What makes a stage stale, with which reason, and what does not, after a run."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_output

from mlops_kit.data import source
from mlops_kit.pipeline import (
    current_project,
    file_hashes,
    history,
    manifest,
    plan,
    runner,
    stage_dependencies,
)
from mlops_kit.project import artifacts, loader, run_folder, run_manifest
from tests.support.pipeline_fixtures import write_notebook

YAML = """
name: tiny
source: data/*.csv
target: y
task: regression
features: views.py
train: {trials: 3}
cost: {miss: 2}
dashboard: {port: 8600}
stages:
  first: {notebook: first.ipynb, writes: [numbers, made/lines.csv]}
  second:
    {notebook: second.ipynb, needs: [first], writes: [total], env: [TINY_WORD, TINY_OTHER],
     files: [note.yaml, more.yaml, limits/*.yaml]}
"""
FILES = {
    "mlops.yaml": YAML,
    "data/a.csv": "x,y\n1,2\n2,4\n",
    "note.yaml": "owner: me\n",
    "limits/low.yaml": "low: 1\n",
    "views.py": (
        "from mlops_kit.data import features\n"
        "\n"
        "@features.view\n"
        "def one(db):\n"
        "    return db.sql('SELECT row, 1 AS one FROM rows')\n"
    ),
    "helper.py": (
        "import deep\n"
        "\n"
        "def size():\n"
        "    import late\n"
        "    return deep.SIZE + late.SIZE\n"
        "\n"
        "def never():\n"
        "    import unused\n"
    ),
    "deep.py": "import deeper\nSIZE = deeper.SIZE\n",
    "deeper.py": "SIZE = 1\n",
    "late.py": "SIZE = 1\n",
    "unused.py": "SIZE = 1\n",
    "named.py": "SIZE = 1\n",
    "pkg/__init__.py": "from .inner import SIZE\n",
    "pkg/inner.py": "SIZE = 1\n",
    "pkg/apart.py": "SIZE = 1\n",
    "sizes.py": (
        "TABLE = 'parts/sizes.csv'\ntry:\n    import maybe\nexcept ImportError:\n    maybe = None\n"
    ),
    "parts/sizes.csv": "x\n1\n",
    "parts/more.csv": "x\n1\n",
}
EDIT_WHILE_RUNNING_CELL = (
    "import json, os, pathlib\n"
    "for name, text in json.loads(os.environ.get('TINY_EDIT', '{}')).get(stage.name, {}).items():\n"
    "    pathlib.Path(name).write_text(text)"
)
FIRST_CELLS = (
    (
        "import importlib\n"
        "import helper, pkg, tiny\n"
        "from mlops_kit.data.features import views\n"
        "named = importlib.import_module('named')"
    ),
    (
        "frame, trials = stage.read_source(), stage.config.train.trials\n"
        "views.load_views(stage.project)"
    ),
    "size = helper.size() + pkg.SIZE + named.SIZE\n"
    "stage.write('numbers', {'a': frame['y'].tolist(), 'size': size})",
    EDIT_WHILE_RUNNING_CELL,
    (
        "pathlib.Path('made').mkdir(exist_ok=True)\n"
        "_ = pathlib.Path('made/lines.csv').write_text(f'x\\n"
        "{trials}\\n"
        "')"
    ),
    "stage.hand_over('Numbers.')",
)
SECOND_CELLS = (
    (
        "import sizes\n"
        "from pyarrow import csv  # reads past Python's eyes\n"
        "csv.read_csv(sizes.TABLE)\n"
        "csv.read_csv('parts/more.csv')\n"
        "csv.write_csv(csv.read_csv('made/lines.csv'), 'made/own.csv')"
    ),
    EDIT_WHILE_RUNNING_CELL,
    "stage.write('total', {'total': sum(stage.read('numbers')['a']) * stage.config.cost.miss})",
    "stage.hand_over('Their total.')",
)
DEPENDS_ON_FIRST = "if what it reads changes: `numbers`; `made/lines.csv`"


def write_files(home: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)


@pytest.fixture(scope="module")
def finished_project(
    copy_mlflow_store: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The project after a run."""
    home = copy_mlflow_store(tmp_path_factory.mktemp("plan"))
    write_files(home, FILES)
    write_notebook(home, "first", *FIRST_CELLS)
    write_notebook(home, "second", *SECOND_CELLS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINY_WORD", "a")
        made = run_project(home)
        assert made.status == "succeeded", [e.error for e in made.stages.values()]
        yield home


@pytest.fixture
def home(finished_project: Path, installed_packages: Path) -> Iterator[Path]:
    """The project, restored afterwards: each test also shows that a reverted edit is skipped."""
    variables = dict(os.environ)
    with restore_afterwards(finished_project), restore_afterwards(installed_packages):
        yield finished_project
    os.environ.clear()
    os.environ |= variables
    assert list_reasons(finished_project) == ("skip", "skip")


@contextmanager
def restore_afterwards(folder: Path) -> Iterator[None]:
    def files() -> list[Path]:
        return [
            p
            for p in folder.rglob("*")
            if p.is_file() and not {".mlops", "__pycache__"} & set(p.parts)
        ]

    held = {p: p.read_bytes() for p in files()}
    yield
    for path in {*files()} - {*held}:
        path.unlink()
    for path, content in held.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)


def run_project(home: Path, force: bool = False, **more: Any) -> run_manifest.RunManifest:
    project = loader.load_project(home)
    return runner.run_pipeline(
        project,
        runner.select_stages(project),
        {},
        lambda text, transient=False: None,
        runner.RunOptions(force, **more),
    )


def plan_project(
    home: Path,
    given: dict[str, dict[str, Any]] | None = None,
    force: bool = False,
    verify: bool = False,
) -> list[plan.PlannedStage]:
    project = source.resolve_cutoffs(loader.load_project(home))
    chosen = runner.select_stages(project)
    values = {s: runner.resolve_stage_values(project, s, (given or {}).get(s, {})) for s in chosen}
    return plan.plan_stages(project, chosen, values, force, file_hashes.FileHashes(project, verify))


def list_reasons(home: Path, **more: Any) -> tuple[str, ...]:
    """Return what the plan says of each stage: skip, why it runs, or on what that depends."""
    lead = {"skip": "skip", "run": "", "depends": "if what it reads changes: "}
    return tuple(lead[d.action] + "; ".join(d.reasons) for d in plan_project(home, **more))


def edit_file(name: str, *pair: str) -> Callable[[Path], object]:
    """Return an edit of a file: one text for another, or all of it."""

    def made(home: Path) -> None:
        text = (home / name).read_text() if len(pair) == 2 else ""
        assert len(pair) == 1 or pair[0] in text
        write_files(home, {name: text.replace(*pair) if len(pair) == 2 else pair[0]})

    return made


def edit_notebook(
    change: Callable[[Any], object], stage: str = "first"
) -> Callable[[Path], object]:
    """Return an edit of a notebook."""

    def made(home: Path) -> None:
        file = home / "notebooks" / f"{stage}.ipynb"
        held = nbformat.read(file, as_version=4)
        change(held)
        nbformat.write(held, file)

    return made


def touch_files(home: Path) -> None:
    for name in [*FILES, "notebooks/first.ipynb"]:
        os.utime(home / name, (10**9, 10**9))


def set_execution_counts(held: Any) -> None:
    for count, cell in enumerate((c for c in held.cells if c.cell_type == "code"), 7):
        cell.execution_count, cell.outputs = count, [new_output("stream", text="seen")]


def change_ids_and_metadata(held: Any) -> None:
    held.metadata["kernelspec"] = {"name": "other", "display_name": "Other", "language": "python"}
    for number, cell in enumerate(held.cells):
        cell.id, cell.metadata["collapsed"] = f"cell-{number}", True


def inject_parameters(held: Any) -> None:
    held.cells.insert(2, new_code_cell("seed = 5", metadata={"tags": ["injected-parameters"]}))


def rewrite_sources_as_text(home: Path) -> None:
    held = json.loads((home / "notebooks" / "first.ipynb").read_text())
    for cell in held["cells"]:
        cell["source"] = "".join(cell["source"])  # one text, not a list of lines
    (home / "notebooks" / "first.ipynb").write_text(json.dumps(held))


def move_function(home: Path) -> None:
    edit_file("late.py", "")(home)
    edit_file("deeper.py", "SIZE = 1\nLATE = 1\n")(home)


def set_variable(name: str, value: str | None) -> Callable[[Path], object]:
    def made(home: Path) -> None:
        os.environ.pop(name, None)
        os.environ |= {name: value} if value is not None else {}

    return made


UNCHANGED: dict[str, Callable[[Path], object]] = {
    "nothing": lambda home: None,
    "a file touched": touch_files,
    "markdown": edit_notebook(lambda held: held.cells[0].update(source="# Something else?")),
    "outputs and execution counts": edit_notebook(set_execution_counts),
    "ids, cell metadata and kernel": edit_notebook(change_ids_and_metadata),
    "parameters that papermill injected": edit_notebook(inject_parameters),
    "the notebook regenerated": rewrite_sources_as_text,
    "a setting that nobody reads": edit_file("mlops.yaml", "8600", "8601"),
    "another name of a limit": edit_file(
        "mlops.yaml", "writes: [total],", "writes: [total], timeout: 1h, retries: 2,"
    ),
    "a comment in mlops.yaml": edit_file("mlops.yaml", YAML + "# a comment\n"),
    "a module in a function that was not called": edit_file("unused.py", "SIZE = 2\n"),
    "a module of a package that nobody imports": edit_file("pkg/apart.py", "SIZE = 2\n"),
    "a module that nobody imports": edit_file("apart.py", "SIZE = 2\n"),
    "a table beside one that it reads": edit_file("parts/other.csv", "x\n1\n"),
    "a table that it has written by itself": edit_file("made/own.csv", "x\n1\n"),
    "a file beside the source": edit_file("data/readme.txt", "a table"),
    "a variable that nobody declares": set_variable("TINY_THIRD", "a"),
    "the project's README": edit_file("README.md", "# Tiny\n"),
}


@pytest.mark.parametrize("change", UNCHANGED.values(), ids=UNCHANGED.keys())
def test_irrelevant_change_is_skipped(home: Path, change: Callable[[Path], object]) -> None:
    change(home)
    assert list_reasons(home) == ("skip", "skip")


CHANGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a cell": (
        edit_notebook(
            lambda held: held.cells[4].update(
                source="frame, trials = stage.read_source(), 3\nviews.load_views(stage.project)"
            )
        ),
        "code cell 4 of first changed",
    ),
    "a comment in a cell": (
        edit_notebook(lambda held: held.cells[4].update(source=held.cells[4].source + "  # why")),
        "code cell 4 of first changed",
    ),
    "a cell more": (
        edit_notebook(lambda held: held.cells.append(new_code_cell("1"))),
        "first has 9 code cells, it had 8",
    ),
    "a cell less": (
        edit_notebook(lambda held: held.cells.pop(6)),
        "first has 7 code cells, it had 8",
    ),
    "cells in another order": (
        edit_notebook(lambda held: held.cells.insert(5, held.cells.pop(4))),
        "code cell 4 of first changed",
    ),
    "a parameter's default": (
        edit_notebook(lambda held: held.cells[1].update(source="seed: int = 1  # Seed.")),
        "code cell 1 of first changed; parameter seed: 0 → 1",
    ),
    "a parameter in mlops.yaml": (
        edit_file("mlops.yaml", "first: {", "first: {params: {seed: 3}, "),
        "parameter seed: 0 → 3",
    ),
    "a setting that it reads": (
        edit_file("mlops.yaml", "trials: 3", "trials: 4"),
        "setting train.trials: 3 → 4",
    ),
    "a setting that reading the source reads": (
        edit_file("mlops.yaml", "target: y", "target: x"),
        "setting target: y → x",
    ),
    "an imported module": (
        edit_file("helper.py", "import late", "import late  # late"),
        "`helper.py` changed: imported by first",
    ),
    "a module two imports deep": (
        edit_file("deeper.py", "SIZE = 2\n"),
        "`deeper.py` changed: imported by deep",
    ),
    "a module in a function that was called": (
        edit_file("late.py", "SIZE = 2\n"),
        "`late.py` changed: imported by helper",
    ),
    "a package's __init__": (
        edit_file("pkg/__init__.py", "SIZE = 2\n"),
        "`pkg/__init__.py` changed: imported by first",
    ),
    "a relative import": (
        edit_file("pkg/inner.py", "SIZE = 2\n"),
        "`pkg/inner.py` changed: imported by pkg",
    ),
    "a module imported by name": (
        edit_file("named.py", "SIZE = 2\n"),
        "`named.py` changed: imported by first",
    ),
    "a function in another module": (
        move_function,
        "`late.py` changed: imported by helper; `deeper.py` changed: imported by deep",
    ),
    "a module gone": (
        lambda home: (home / "named.py").unlink(),
        "`named.py` is gone: imported by first",
    ),
    "a feature file": (edit_file("views.py", "1 AS", "2 AS"), "`views.py` changed"),
    "data": (edit_file("data/a.csv", "x,y\n1,2\n2,5\n"), "`data/a.csv` changed"),
    "a new file of the source": (
        edit_file("data/b.csv", "x,y\n1,2\n"),
        "`data/*.csv` holds other files than before",
    ),
    "a file of the source gone": (
        lambda home: (home / "data/a.csv").rename(home / "data/b.csv"),
        "`data/a.csv` is gone; `data/*.csv` holds other files than before",
    ),
    "an output that is newly declared": (
        edit_file("mlops.yaml", "writes: [numbers,", "writes: [letters, numbers,"),
        "output `letters` is declared and was not written",
    ),
    "always": (edit_file("mlops.yaml", "first: {", "first: {rerun: always, "), "always runs"),
}


@pytest.mark.parametrize(("change", "reason"), CHANGED.values(), ids=CHANGED.keys())
def test_relevant_change_runs_the_stage_and_leaves_the_next_open(
    home: Path, change: Callable[[Path], object], reason: str
) -> None:
    change(home)
    assert list_reasons(home) == (reason, DEPENDS_ON_FIRST)


CHANGED_SECOND_STAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a cell": (
        edit_notebook(lambda held: held.cells.append(new_code_cell("1")), "second"),
        "second has 7 code cells, it had 6",
    ),
    "a setting that only it reads": (
        edit_file("mlops.yaml", "miss: 2", "miss: 3"),
        "setting cost.miss: 2.0 → 3.0",
    ),
    "a declared file": (edit_file("note.yaml", "owner: you\n"), "`note.yaml` changed"),
    "a declared file gone": (lambda home: (home / "note.yaml").unlink(), "`note.yaml` is gone"),
    "a declared file that was not there": (
        edit_file("more.yaml", "more: 1\n"),
        "`more.yaml` exists now",
    ),
    "a file of a declared pattern": (
        edit_file("limits/low.yaml", "low: 2\n"),
        "`limits/low.yaml` changed",
    ),
    "one more of a declared pattern": (
        edit_file("limits/high.yaml", "high: 2\n"),
        "`limits/*.yaml` holds other files than before",
    ),
    "a file that is newly declared": (
        edit_file("mlops.yaml", "files: [note.yaml,", "files: [deep.py, note.yaml,"),
        "`deep.py` is newly declared",
    ),
    "a table that a library opens by itself": (
        edit_file("parts/more.csv", "x\n2\n"),
        "`parts/more.csv` changed",
    ),
    "a table that a module of the project names": (
        edit_file("parts/sizes.csv", "x\n2\n"),
        "`parts/sizes.csv` changed",
    ),
    "a module that was looked for in vain": (
        edit_file("maybe.py", "SIZE = 1\n"),
        "maybe can be imported now",
    ),
    "a variable changed": (
        set_variable("TINY_WORD", "b"),
        "environment variable TINY_WORD changed",
    ),
    "a variable unset": (set_variable("TINY_WORD", None), "environment variable TINY_WORD changed"),
    "a variable set": (set_variable("TINY_OTHER", ""), "environment variable TINY_OTHER changed"),
    "a variable that is newly declared": (
        edit_file("mlops.yaml", "env: [", "env: [TINY_THIRD, "),
        "environment variable TINY_THIRD is newly declared",
    ),
}


@pytest.mark.parametrize(
    ("change", "reason"), CHANGED_SECOND_STAGE.values(), ids=CHANGED_SECOND_STAGE.keys()
)
def test_change_that_only_the_second_stage_uses_skips_the_first(
    home: Path, change: Callable[[Path], object], reason: str
) -> None:
    change(home)
    assert list_reasons(home) == ("skip", reason)


def test_given_parameter_and_force_run_stages(home: Path) -> None:
    assert list_reasons(home, given={"first": {"seed": 4}}) == (
        "parameter seed: 0 → 4",
        DEPENDS_ON_FIRST,
    )
    assert list_reasons(home, given={"second": {"seed": 4}}) == ("skip", "parameter seed: 0 → 4")
    assert list_reasons(home, given={"first": {"seed": 0}}) == ("skip", "skip")
    assert list_reasons(home, force=True) == ("forced", "forced")


def test_unselected_stage_is_carried_over_from_a_run_with_the_same_sample(home: Path) -> None:
    other = home / "reports" / "99990101-000000-aaaa-sample"
    shutil.copytree(get_latest_run(home), other)
    made = run_manifest.read_manifest(other)
    made.sample = 5
    made.stages["first"].artifacts["numbers"].content = "of the sample"
    run_manifest.write_manifest(other, made)
    project = loader.load_project(home)
    assert [
        d.action
        for d in plan.plan_stages(
            project, ["second"], {"second": runner.resolve_stage_values(project, "second", {})}
        )
    ] == ["skip"]


def test_package_version_matters_where_it_was_imported(
    home: Path, installed_packages: Path
) -> None:
    for name, reason in (("other", "skip"), ("tiny", "tiny 1.0 → 1.1")):
        (installed_packages / f"{name}-1.0.dist-info").rename(
            installed_packages / f"{name}-1.1.dist-info"
        )
        found = list_reasons(home)
        (installed_packages / f"{name}-1.1.dist-info").rename(
            installed_packages / f"{name}-1.0.dist-info"
        )
        assert found[0] == reason
    (installed_packages / "tiny-1.0.dist-info").rename(installed_packages / "away")
    found = list_reasons(home)
    (installed_packages / "away").rename(installed_packages / "tiny-1.0.dist-info")
    assert found[0] == "tiny 1.0 → not installed"


def test_change_of_same_size_in_the_same_second_is_detected(home: Path) -> None:
    for digit in "5678":
        edit_file("data/a.csv", f"x,y\n1,2\n2,{digit}\n")(home)
        assert list_reasons(home)[0] == "`data/a.csv` changed"
        edit_file("data/a.csv", FILES["data/a.csv"])(home)
        assert list_reasons(home)[0] == "skip"


def get_latest_run(home: Path) -> Path:
    return run_folder.list_run_folders(home / "reports")[0]


def test_missing_or_damaged_output_is_produced_again(home: Path) -> None:
    total = get_latest_run(home) / "artifacts" / "total.json"
    held = total.read_text()
    total.unlink()
    assert list_reasons(home) == ("skip", "output `total` is gone")
    total.write_text(held.replace("12", "13"))
    assert list_reasons(home) == ("skip", "output `total` is damaged")


def test_damage_with_same_size_and_time_is_found_only_with_verify(home: Path) -> None:
    # to read every output at each plan is what the kept hashes are there to spare
    total = get_latest_run(home) / "artifacts" / "total.json"
    held, times = total.read_bytes(), (10**18, 10**18)
    os.utime(total, ns=times)
    assert list_reasons(home) == ("skip", "skip")
    total.write_bytes(held.replace(b"12", b"13"))
    os.utime(total, ns=times)
    assert list_reasons(home) == ("skip", "skip")
    assert list_reasons(home, verify=True) == ("skip", "output `total` is damaged")
    assert list_reasons(home) == ("skip", "output `total` is damaged")


@pytest.mark.parametrize(
    "change",
    [edit_file("made/lines.csv", "x\n9\n"), lambda home: (home / "made/lines.csv").unlink()],
    ids=["changed", "gone"],
)
def test_file_output_is_restored_in_the_project(
    home: Path, change: Callable[[Path], object]
) -> None:
    change(home)
    name = get_latest_run(home).name
    assert list_reasons(home) == ("skip`made/lines.csv` is restored", "skip")
    assert plan_project(home)[0].summary == f"unchanged since {name}; `made/lines.csv` is restored"
    made = run_project(home)
    assert [e.status for e in made.stages.values()] == [
        "skipped",
        "skipped",
    ]
    assert not made.is_up_to_date
    assert (home / "made" / "lines.csv").read_text() == "x\n3\n"
    shutil.rmtree(home / "reports" / made.run)


def test_rerun_never_runs_only_if_outputs_are_missing(home: Path) -> None:
    edit_file("mlops.yaml", "first: {", "first: {rerun: never, ")(home)
    for change in ("data", "a cell", "an imported module"):
        CHANGED[change][0](home)
    assert list_reasons(home)[0] == "skip"
    (get_latest_run(home) / "artifacts" / "numbers.json").unlink()
    assert list_reasons(home)[0] == "output `numbers` is gone"


def test_rerun_after_runs_when_the_last_run_is_older(home: Path) -> None:
    edit_file("mlops.yaml", "first: {", "first: {rerun: {after: 7d}, ")(home)
    assert list_reasons(home) == ("skip", "skip")
    made = run_manifest.read_manifest(get_latest_run(home))
    made.stages["first"].started = "2020-01-01T00:00:00+00:00"
    run_manifest.write_manifest(get_latest_run(home), made)
    reason, then = list_reasons(home)
    assert reason.startswith("its last run is ")
    assert reason.endswith(" old, over 7d")
    assert then == DEPENDS_ON_FIRST


def test_moved_project_is_skipped(home: Path) -> None:
    away = home.with_name("elsewhere")
    home.rename(away)
    try:
        assert list_reasons(away) == ("skip", "skip")
    finally:
        away.rename(home)


def test_copied_project_is_skipped(home: Path, tmp_path: Path) -> None:
    assert list_reasons(Path(shutil.copytree(home, tmp_path / "copy"))) == ("skip", "skip")


PARTS = {
    0: (
        "a setting that it reads",
        "an imported module",
        "a module in a function that was called",
        "a relative import",
        "a module imported by name",
        "a feature file",
        "data",
        "a parameter in mlops.yaml",
        "a cell more",
    ),
    1: (
        "a setting that only it reads",
        "a declared file",
        "a declared file that was not there",
        "a variable changed",
        "a file of a declared pattern",
        "a cell",
    ),
}


@pytest.mark.parametrize("seed", range(6))
def test_combined_edits_give_exactly_their_reasons(home: Path, seed: int) -> None:
    draw = random.Random(seed)
    cases = {
        (n, name): (CHANGED, CHANGED_SECOND_STAGE)[n][name] for n in PARTS for name in PARTS[n]
    }
    chosen = draw.sample(sorted(cases), draw.randint(2, len(cases)))
    for case in chosen:
        cases[case][0](home)
    found = [{*d.reasons} for d in plan_project(home) if d.action == "run"]
    wanted = [{cases[c][1] for c in chosen if c[0] == n} for n in PARTS]
    assert found == [w for w in wanted if w]


# The tests below run notebooks.


def get_statuses(made: run_manifest.RunManifest) -> tuple[str, ...]:
    return tuple(e.status for e in made.stages.values())


def test_equal_outputs_skip_the_next_stage_and_others_do_not(home: Path) -> None:
    first = get_latest_run(home).name
    edit_notebook(lambda held: held.cells.insert(3, new_code_cell("1 + 1")))(home)
    edit_file("late.py", "SIZE = 2 - 1\n")(home)
    made = run_project(home)
    assert get_statuses(made) == ("succeeded", "skipped")
    assert made.stages["second"].reason == f"unchanged since {first}"
    edit_file("late.py", "SIZE = 2\n")(home)
    made = run_project(home)
    assert get_statuses(made) == ("succeeded", "succeeded")
    assert made.stages["first"].reasons == ["`late.py` changed: imported by helper"]
    assert made.stages["second"].reasons == ["`numbers` changed"]
    edit_file("mlops.yaml", "trials: 3", "trials: 4")(home)
    assert run_project(home).stages["second"].reasons == [
        "`made/lines.csv` changed"
    ]  # though it never asked its handle for it


def test_failed_stage_runs_again_with_its_last_status_as_reason(
    home: Path,
) -> None:
    edit_notebook(lambda held: held.cells.append(new_code_cell("1 / 0")), "second")(home)
    assert [get_statuses(run_project(home)) for _ in range(2)] == [("skipped", "failed")] * 2
    for folder in run_folder.list_run_folders(home / "reports"):
        made = run_manifest.read_manifest(folder)
        made.stages["second"].dependencies = None  # none of them counts as succeeded now
        run_manifest.write_manifest(folder, made)
    assert list_reasons(home) == (
        "skip",
        f"it has not succeeded yet: failed in {get_latest_run(home).name}",
    )


def test_killed_run_is_not_reused(home: Path) -> None:
    folder = get_latest_run(home)
    made = run_manifest.read_manifest(folder)
    made.status = run_manifest.RunStatus.RUNNING
    assert made.process is not None
    made.process = dataclasses.replace(made.process, process_id=2**22 + 1)
    made.stages["second"].status = run_manifest.StageStatus.RUNNING
    made.stages["second"].dependencies = None
    made.stages["second"].fingerprint = None
    run_manifest.write_manifest(folder, made)
    assert list_reasons(home) == (
        "skip",
        f"it has not succeeded yet: killed (with the run) in {folder.name}",
    )


def test_file_edited_during_the_run_is_stale(home: Path) -> None:
    first, second = ((home / "notebooks" / f"{n}.ipynb").read_text() for n in ("first", "second"))
    edits = {
        "first": {
            "deep.py": FILES["deep.py"] + "\n",
            "data/a.csv": "x,y\n1,2\n2,9\n",
            "notebooks/first.ipynb": first.replace(
                "views.load_views(stage.project)", "views.load_views(stage.project)  # edited"
            ),
            "unused.py": "SIZE = 3\n",
        },
        "second": {
            "note.yaml": "owner: you\n",
            "notebooks/second.ipynb": second.replace("# second", "# The second"),
        },
    }
    os.environ["TINY_EDIT"] = json.dumps(edits)
    made = run_project(home, force=True)
    assert get_statuses(made) == ("succeeded", "succeeded")
    assert [d.reasons for d in plan_project(home)] == [
        (
            "code cell 4 of first changed",
            "`data/a.csv` edited while the stage ran",
            "`deep.py` edited while the stage ran: imported by helper",
        ),
        ("`note.yaml` edited while the stage ran",),
    ]


def test_warm_and_cold_kernels_record_the_same_artifacts_and_dependencies(home: Path) -> None:
    warm = run_manifest.read_manifest(get_latest_run(home)).stages
    edit_file("mlops.yaml", "name: tiny", "name: tiny\nrun: {kernels: cold}")(home)
    cold = run_project(home, force=True).stages
    for name, entry in warm.items():
        assert history.get_content_hashes(cold[name]) == history.get_content_hashes(entry)
        assert cold[name].dependencies == entry.dependencies
    assert {"tiny", "pandas", "pyarrow"} <= set(warm["first"].dependencies.packages)
    assert "other" not in warm["first"].dependencies.packages
    assert list_reasons(home) == ("skip", "skip")


def test_query_source_always_runs_and_equal_rows_skip_the_next_stage(home: Path) -> None:
    with sqlite3.connect(home / "t.db") as database:
        database.execute("CREATE TABLE t AS SELECT 1 AS x, 2 AS y UNION SELECT 2, 4")
    database.close()
    edit_file(
        "mlops.yaml",
        "source: data/*.csv",
        "source: {sql: SELECT * FROM t ORDER BY x, url: 'sqlite:///${TINY_THIRD}'}",
    )(home)
    os.environ["TINY_THIRD"] = str(home / "t.db")
    assert get_statuses(run_project(home)) == ("succeeded", "skipped")
    assert list_reasons(home) == (
        "its source is a query: only reading it tells whether it changed",
        DEPENDS_ON_FIRST,
    )
    assert get_statuses(run_project(home)) == ("succeeded", "skipped")


def create_long_project(home: Path, count: int) -> loader.Project:
    """Write a project of many stages with a run of all of them, without running it."""
    names = [f"s{n}" for n in range(count)]
    (home / "notebooks").mkdir(parents=True)
    write_files(
        home,
        {
            "mlops.yaml": "name: long\nstages:\n"
            + "".join(
                f"  {n}: {{notebook: {n}.ipynb, needs: [{b}], writes: [{n}_out]}}\n"
                for n, b in zip(names, ["", *names], strict=False)
            ),
            "own.py": "",
        },
    )
    for name in names:
        write_notebook(home, name, "1 + 1")
    project = loader.load_project(home)
    folder, made = home / "reports" / "r", manifest.create_manifest(project, names, "")
    now, inputs = current_project.CurrentProject(project), {}
    for name in names:
        used = {
            "edited": [],
            "files": {},
            "settings": [],
            "listings": {},
            "modules": {str(home / "own.py"): ""},
            "packages": {"pandas": now.package_versions["pandas"]},
            "unknowable": [],
            "start": time.time_ns(),
        }
        artifact = artifacts.write_artifact(folder, name, f"{name}_out", {"n": name})
        trace = stage_dependencies.collect_dependencies(now, name, {"seed": 0}, used, inputs)
        made.stages[name].status = run_manifest.StageStatus.SUCCEEDED
        made.stages[name].artifacts = {f"{name}_out": artifact}
        made.stages[name].dependencies = trace
        inputs = {f"{name}_out": artifact.content}
    made.status = run_manifest.RunStatus.SUCCEEDED
    run_manifest.write_manifest(folder, made)
    return project


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_plan_is_right_for_many_stages(tmp_path: Path, count: int) -> None:
    project = create_long_project(tmp_path / "long", count)
    values = {s: runner.resolve_stage_values(project, s, {}) for s in runner.select_stages(project)}
    begin = time.perf_counter()
    found = plan.plan_stages(project, list(values), values)
    took = time.perf_counter() - begin
    print(f"{count} stages planned in {took:.3f} s, {1000 * took / count:.2f} ms each")
    assert {d.action for d in found} == {"skip"}
    write_notebook(project.root, f"s{count // 2}", "1 + 2")
    found = plan.plan_stages(project, list(values), values)
    assert [d.action for d in found] == ["skip"] * (count // 2) + ["run"] + ["depends"] * (
        count - count // 2 - 1
    )
    assert found[count // 2].summary == f"code cell 3 of s{count // 2} changed"
