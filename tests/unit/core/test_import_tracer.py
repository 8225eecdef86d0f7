"""What a stage used is recorded: imports, files as they were read, settings, packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from mlops_kit.core import dependencies, file_tracer, files, import_tracer
from mlops_kit.core.file_log import file_log
from mlops_kit.core.import_tracer import MAIN_MODULE, ImportLog
from mlops_kit.project import validation


@pytest.fixture(autouse=True)
def nothing_used_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as in a new process."""
    file_log.clear()
    file_log.written.clear()
    for name in ("settings_read", "packages_read", "untracked_sources"):
        monkeypatch.setattr(dependencies, name, set())
    monkeypatch.setattr(import_tracer, "import_log", ImportLog())


def test_only_modules_that_the_notebook_imported_are_reachable() -> None:
    log = ImportLog(
        {MAIN_MODULE: {"a"}, "a": {"b.c"}, "b.c": {"d"}, "elsewhere": {"far"}},
        frozenset({"elsewhere"}),
    )
    assert log.find_reachable() == {
        MAIN_MODULE: "",
        "a": MAIN_MODULE,
        "b.c": "a",
        "b": "a",
        "d": "b.c",
    }


def test_imports_of_the_kernel_are_not_the_notebooks() -> None:
    log = ImportLog({MAIN_MODULE: {"IPython.display"}, "IPython.display": {"debugger"}})
    assert "debugger" not in log.find_reachable()


def test_code_that_is_in_no_module_is_a_root() -> None:
    edges = {"features_of_a_project": {"json"}}
    assert "json" in ImportLog(edges, frozenset({"json"})).find_reachable()
    preloaded = frozenset({"features_of_a_project"})
    assert "json" not in ImportLog(edges, preloaded).find_reachable()


def test_module_loaded_without_an_import_statement_is_attributed_to_the_module_being_loaded() -> (
    None
):
    log = ImportLog({"a": {"json"}})
    log.attribute_new_modules("b", set(sys.modules) - {"json", "glob"})
    assert log.edges == {"a": {"json"}, "b": {"glob"}}


IMPORTING_CODE = """
from mlops_kit.core import dependencies, import_tracer
import_tracer.install_import_hooks()
import early
import_tracer.mark_process_fork()
import importlib, outer
from pkg import inner
importlib.import_module("by_name")
outer.lazy()
try:
    import absent
except ImportError:
    pass
report = dependencies.report_dependencies()
for path, importer in sorted(report["modules"].items()):
    if "mlops_kit" not in path:
        print(path.rsplit("/", 1)[1], importer.rsplit("/", 1)[-1])
print(sorted(report["packages"]), report["edited"], report["absent"])
"""
IMPORTED_FILES = {
    "early.py": "import before",
    "before.py": "",
    "outer.py": "import before\n"
    "def lazy():\n    import late, yaml\n"
    "def never():\n    import unused",
    "late.py": "",
    "unused.py": "",
    "by_name.py": "",
    "pkg/__init__.py": "",
    "pkg/inner.py": "from . import other",
    "pkg/other.py": "",
}


@pytest.mark.slow
def test_every_kind_of_import_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    for name, text in IMPORTED_FILES.items():
        (tmp_path / name).write_text(text)
    process = subprocess.run(
        [sys.executable, "-c", IMPORTING_CODE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    *modules, packages = process.stdout.splitlines()
    assert sorted(line.rstrip() for line in modules) == [
        "__init__.py",
        "before.py outer.py",
        "by_name.py",
        "inner.py",
        "late.py outer.py",
        "other.py inner.py",
        "outer.py",
    ]
    # What was imported before the notebook began does not count, nor what only that imported.
    assert packages == "['pyyaml'] [] ['absent']"


def test_files_of_a_folder_and_a_pattern_are_recorded_with_size_and_time(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text(name)
    os.utime(tmp_path / "a.csv", ns=(5, 5))
    a_path = str(tmp_path / "a.csv")
    b_path = str(tmp_path / "b.csv")
    dependencies.record_file_read(tmp_path / "*.csv")
    assert file_log.listings == {str(tmp_path / "*.csv"): [a_path, b_path]}
    assert file_log.read[a_path] == (5, 5)
    assert set(file_log.read) == {a_path, b_path}
    dependencies.record_file_read(tmp_path)
    assert len(file_log.listings[str(tmp_path)]) == 3
    (tmp_path / "a.csv").write_text("longer text")
    dependencies.record_file_read(a_path)
    assert file_log.read[a_path] == (5, 5)  # as it was when it was first read
    assert a_path not in file_log.listings


def test_setting_counts_when_it_is_read_and_not_when_it_is_validated() -> None:
    config = validation.validate_config(
        {"name": "t", "source": "t.csv", "target": "y", "task": "regression"}, "here"
    )
    assert not dependencies.settings_read
    assert config.train.trials
    assert dependencies.settings_read == {("ProjectConfig", "train"), ("TrainConfig", "trials")}
    with dependencies.settings_not_recorded():
        assert config.seed == 0
    assert ("ProjectConfig", "seed") not in dependencies.settings_read


def test_installed_versions_are_those_of_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "My_Own.Thing-2.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    versions = import_tracer.list_installed_versions()
    assert versions["my-own-thing"] == "2.0"
    for name in ("pandas", "pyyaml", "scikit-learn"):
        assert versions[name] == version(name)


def test_local_modules_are_neither_pythons_nor_installed(tmp_path: Path) -> None:
    assert import_tracer.is_local_module_file(str(tmp_path / "helper.py"))
    assert not import_tracer.is_local_module_file(json.__file__)
    assert not import_tracer.is_local_module_file(nbformat.__file__)


@pytest.mark.slow
def test_module_written_after_its_import_is_edited_whatever_its_modification_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "aged.py"
    path.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("aged")
    import_tracer.import_log.edges[MAIN_MODULE] = {"aged"}
    written_ns = path.stat().st_ctime_ns
    os.utime(path, ns=(2**62, 2**62))  # in the future
    import_tracer.import_log.start_ns = path.stat().st_ctime_ns + 1
    assert dependencies.report_dependencies()["edited"] == []
    os.utime(path, ns=(5, 5))
    import_tracer.import_log.start_ns = written_ns - 1
    assert dependencies.report_dependencies()["edited"] == [str(path)]


@pytest.mark.slow
def test_dependencies_of_a_cached_step_are_restored(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")

    def run_step() -> int:
        dependencies.record_file_read(tmp_path / "a.csv")
        dependencies.packages_read.add("pandas")
        import_tracer.import_log.record_import(MAIN_MODULE, "skrub_of_another_time", None)
        import_tracer.import_log.record_import(MAIN_MODULE, "lightgbm._of_another_time", None)
        return 5

    dependencies.untracked_sources.add("before")
    import_tracer.import_log.record_import(MAIN_MODULE, "before", None)
    result, used = dependencies.record_dependencies(run_step)
    assert result == 5
    assert dependencies.untracked_sources == {"before"}
    assert "before" in import_tracer.import_log.edges[MAIN_MODULE]
    assert "before" not in used.untracked_sources
    assert "before" not in used.imports[MAIN_MODULE]
    file_log.read.clear()
    dependencies.packages_read.clear()
    import_tracer.import_log.edges.clear()
    dependencies.restore_dependencies(used)
    assert set(file_log.read) == {str(tmp_path / "a.csv")}
    assert set(dependencies.report_dependencies()["packages"]) >= {"pandas", "lightgbm"}


def test_failed_step_leaves_the_earlier_dependencies() -> None:
    dependencies.packages_read.add("pandas")
    with pytest.raises(ZeroDivisionError):
        dependencies.record_dependencies(lambda: 1 / 0)
    assert dependencies.packages_read == {"pandas"}


@pytest.mark.slow
def test_in_a_notebook_run_by_hand_every_module_in_memory_counts() -> None:
    report = dependencies.report_dependencies(exact=False)
    assert report["packages"]["pytest"] == version("pytest")
    assert str(Path(dependencies.__file__)) in report["modules"]


@pytest.mark.slow
def test_files_of_the_project_that_python_opens_are_recorded_but_not_those_it_writes(
    tmp_path: Path,
) -> None:
    for name in (
        "data/raw.csv",
        "reports/r/out.json",
        ".mlops/cache.json",
        "mlops.yaml",
        "own.py",
        "book.ipynb",
        "state.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a,b\n1,2\n")
    outside_file = tmp_path.parent / f"{tmp_path.name}.csv"
    outside_file.write_text("x")
    file_log.written.clear()  # written above, if the audit hook was there already
    dependencies.watch_project_files(str(tmp_path), str(tmp_path / "reports"))
    try:
        for path in [*tmp_path.rglob("*"), outside_file]:
            if path.is_file():
                path.read_text()
        pd.read_csv(tmp_path / "data" / "raw.csv")
        (tmp_path / "state.txt").open("a").close()
        files.write_text(tmp_path / "made.json", "{}")
        (tmp_path / "made.json").read_text()
    finally:
        file_tracer.tracer_state.paths = None
    report = dependencies.report_dependencies()
    # The test is code outside of the package, so what it reads by itself counts: all of it.
    names = {Path(path).name for path in report["files"]}
    assert names == {"raw.csv", "mlops.yaml", "own.py", "book.ipynb", outside_file.name}
