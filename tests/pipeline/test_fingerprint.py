"""Fingerprints: what counts changes one part and the whole, what does not count changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mlops_kit import config
from mlops_kit.pipeline import fingerprint

YAML = """
name: tiny
source: t.csv
target: y
task: regression
features: own.py
stages:
  first: {notebook: first.ipynb, files: note.yaml}
  second: {notebook: first.ipynb, needs: [first]}
"""
CELLS = ("seed: int = 0  # Seed.", "1 + 1")


def notebook(home: Path, *code: str, title: str = "# First", outputs: bool = False) -> None:
    cells = [new_markdown_cell(title), *map(new_code_cell, code)]
    if outputs:
        cells[-1].outputs = [new_output("stream", text="2")]
        cells[-1].execution_count = 5
    nbformat.write(new_notebook(cells=cells), home / "notebooks" / "first.ipynb")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "notebooks").mkdir()
    for name, text in {"mlops.yaml": YAML, "t.csv": "x,y\n1,2\n", "own.py": "A = 1\n", "contract.yaml": "columns: {}\n", "note.yaml": "owner: me\n"}.items():
        (tmp_path / name).write_text(text)
    notebook(tmp_path, *CELLS)
    return tmp_path


def parts(home: Path, seed: int = 0, **inputs: str) -> dict[str, str]:
    return fingerprint.parts(config.load(home), "first", {"seed": seed}, inputs)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {k for k in before if before[k] != after[k]}


def edit(name: str, text: str) -> Callable[[Path], object]:
    return lambda home: (home / name).write_text(text)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (edit("note.yaml", "owner: you\n"), "files"),
        (lambda home: notebook(home, CELLS[0], "1 + 2"), "code cells"),
        (lambda home: notebook(home, *reversed(CELLS)), "code cells"),
        (edit("t.csv", "x,y\n1,3\n"), "source"),
        (edit("own.py", "A = 2\n"), "features"),
        (edit("contract.yaml", "columns: {x: {type: number}}\n"), "contract"),
        (lambda home: (home / "contract.yaml").unlink(), "contract"),
        (edit("mlops.yaml", YAML + "seed: 1\n"), "config"),
        (edit("mlops.yaml", YAML.replace("first: {", "first: {params: {seed: 1}, ")), "config"),
    ],
    ids=["a file of its own", "a cell", "order of cells", "data", "feature file", "contract", "no contract", "a setting", "a stage's parameters"],
)
def test_what_counts_changes_its_own_part_and_the_whole(home: Path, change: Callable[[Path], object], part: str) -> None:
    before = parts(home)
    change(home)
    after = parts(home)
    assert changed(before, after) == {part}
    assert fingerprint.whole(before) != fingerprint.whole(after)


@pytest.mark.parametrize(
    "change",
    [
        lambda home: notebook(home, *CELLS, title="# Another title"),
        lambda home: notebook(home, *CELLS, outputs=True),
        edit("mlops.yaml", "# a remark\n" + YAML),
        edit("mlops.yaml", YAML + "seed: 0\n"),
        edit("mlops.yaml", YAML.replace("second: {", "second: {params: {seed: 1}, ")),
        edit("other.csv", "x,y\n"),
        lambda home: (home / "t.csv").touch(),
    ],
    ids=["prose", "outputs", "a remark", "a default written out", "another stage's parameters", "another file", "the clock of a file"],
)
def test_what_does_not_count_changes_nothing(home: Path, change: Callable[[Path], object]) -> None:
    before = parts(home)
    change(home)
    assert parts(home) == before


def test_parameters_and_inputs_count(home: Path) -> None:
    assert changed(parts(home), parts(home, seed=1)) == {"parameters"}
    assert changed(parts(home, a="1"), parts(home, a="2")) == {"inputs"}
    assert fingerprint.whole(parts(home, a="1", b="2")) == fingerprint.whole(parts(home, b="2", a="1"))


def test_a_project_elsewhere_has_the_same_fingerprint(home: Path) -> None:
    before = parts(home)
    there = home.parent / "there"
    home.rename(there)
    assert parts(there) == before


def test_the_code_of_the_package_counts_and_its_caches_do_not(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    for name in ("a.py", "b.txt", "__pycache__/c.py"):
        (tmp_path / name).write_text("1")
    assert list(fingerprint.code(tmp_path)) == ["a.py"]


def test_all_files_of_a_glob_count_and_a_dataset_has_none(home: Path) -> None:
    (home / "u.csv").write_text("x,y\n")
    assert list(fingerprint.source_files(config.load(home).with_values("the test", source="*.csv"))) == ["t.csv", "u.csv"]
    assert fingerprint.source_files(config.load(home).with_values("the test", source="dataset:flights")) == {}
    assert list(fingerprint.source_files(config.load(home).with_values("the test", source=str(home / "t.csv")))) == ["t.csv"]


def test_files_of_one_name_in_two_folders_both_count(home: Path) -> None:
    for folder in ("a", "b"):
        (home / folder).mkdir()
        (home / folder / "t.csv").write_text(folder)
    found = fingerprint.source_files(config.load(home).with_values("the test", source="*/t.csv"))
    assert len(found) == 2


def test_a_changed_file_of_a_folder_of_parquet_counts(home: Path) -> None:
    (home / "table" / "day=1").mkdir(parents=True)
    (home / "table" / "day=1" / "p.parquet").write_text("1")
    project = config.load(home).with_values("the test", source="table")
    before = fingerprint.source_files(project)
    (home / "table" / "day=1" / "p.parquet").write_text("2")
    assert before and fingerprint.source_files(project) != before


def test_installed_versions_and_python_count(home: Path) -> None:
    assert fingerprint.versions()["mlops-kit"]
    assert parts(home)["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
