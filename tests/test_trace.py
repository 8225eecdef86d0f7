"""What a stage used is recorded: imports by whoever carried them out, files as they were read, settings, packages."""

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

from mlops_kit.core import dependencies, import_tracer
from mlops_kit.core.files import write_text
from mlops_kit.core.import_tracer import MAIN_MODULE, ImportLog
from mlops_kit.project import validation


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been used yet."""
    for name, empty in {
        "files": {},
        "settings": set(),
        "named": set(),
        "listings": {},
        "unknowable": set(),
        "written": set(),
        "overheard": set(),
        "imports": ImportLog(),
    }.items():
        monkeypatch.setattr(dependencies, name, empty)


def test_only_what_the_notebook_leads_to_is_reached_with_whoever_imported_it() -> None:
    found = ImportLog(
        {MAIN_MODULE: {"a"}, "a": {"b.c"}, "b.c": {"d"}, "elsewhere": {"far"}},
        frozenset({"elsewhere"}),
    ).find_reachable()
    assert found == {MAIN_MODULE: "", "a": MAIN_MODULE, "b.c": "a", "b": "a", "d": "b.c"}


def test_what_the_kernel_imports_for_itself_is_not_the_notebooks() -> None:
    assert (
        "debugger"
        not in ImportLog(
            {MAIN_MODULE: {"IPython.display"}, "IPython.display": {"debugger"}}
        ).find_reachable()
    )


def test_code_that_stands_in_no_module_is_a_root() -> None:
    assert (
        "json"
        in ImportLog({"features_of_a_project": {"json"}}, frozenset({"json"})).find_reachable()
    )
    assert (
        "json"
        not in ImportLog(
            {"features_of_a_project": {"json"}}, frozenset({"features_of_a_project"})
        ).find_reachable()
    )


def test_what_came_in_without_an_import_statement_is_laid_to_whoever_was_loading() -> None:
    held = ImportLog({"a": {"json"}})
    held.attribute_new_modules("b", set(sys.modules) - {"json", "glob"})
    assert held.edges == {"a": {"json"}, "b": {"glob"}}


CODE = """
from mlops_kit import trace
trace.install()
import early
trace.born()
import importlib, outer
from pkg import inner
importlib.import_module("named")
outer.lazy()
try:
    import absent
except ImportError:
    pass
found = trace.report()
print(sorted((path.rsplit("/", 1)[1], by.rsplit("/", 1)[-1]) for path, by in found["modules"].items() if "mlops_kit" not in path))
print(sorted(found["packages"]), found["edited"])
"""


def test_each_kind_of_import_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    files = {
        "early.py": "import before",
        "before.py": "",
        "outer.py": "import before\ndef lazy():\n    import late, yaml\ndef never():\n    import unused",
        "late.py": "",
        "unused.py": "",
        "named.py": "",
        "pkg/__init__.py": "",
        "pkg/inner.py": "from . import other",
        "pkg/other.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    modules, packages = done.stdout.splitlines()
    assert modules == str(
        [
            ("__init__.py", ""),
            ("before.py", "outer.py"),
            ("inner.py", ""),
            ("late.py", "outer.py"),
            ("named.py", ""),
            ("other.py", "inner.py"),
            ("outer.py", ""),
        ]
    )
    assert (
        packages == "['pyyaml'] []"
    )  # the one before the notebook began does not count, nor what it imported alone


def test_files_of_a_folder_and_a_pattern_are_noted_with_size_and_time(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text(name)
    os.utime(tmp_path / "a.csv", ns=(5, 5))
    dependencies.record_file_read(tmp_path / "*.csv")
    a, b = str(tmp_path / "a.csv"), str(tmp_path / "b.csv")
    assert dependencies.folder_listings == {str(tmp_path / "*.csv"): [a, b]}
    assert dependencies.files_read[a] == (5, 5)
    assert set(dependencies.files_read) == {a, b}
    dependencies.record_file_read(tmp_path)
    assert len(dependencies.folder_listings[str(tmp_path)]) == 3
    (tmp_path / "a.csv").write_text("longer text")
    dependencies.record_file_read(a)
    assert dependencies.files_read[a] == (5, 5)
    assert a not in dependencies.folder_listings


def test_a_setting_counts_when_it_is_read_and_checks_do_not_read() -> None:
    held = validation.validate_config(
        {"name": "t", "source": "t.csv", "target": "y", "task": "regression"}, "here"
    )
    assert not dependencies.settings_read
    assert held.train.trials
    assert dependencies.settings_read == {("Config", "train"), ("Train", "trials")}


def test_versions_are_those_of_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "My_Own.Thing-2.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    found = import_tracer.list_installed_versions()
    assert found["my-own-thing"] == "2.0"
    assert {n: found[n] for n in ("pandas", "pyyaml", "scikit-learn")} == {
        n: version(n) for n in ("pandas", "pyyaml", "scikit-learn")
    }


def test_own_is_what_is_neither_pythons_nor_installed(tmp_path: Path) -> None:
    assert import_tracer.is_local_module_file(str(tmp_path / "helper.py"))
    assert not import_tracer.is_local_module_file(json.__file__)
    assert not import_tracer.is_local_module_file(nbformat.__file__)


def test_a_module_written_after_it_may_have_been_imported_is_edited_whatever_time_it_bears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "aged.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("aged")
    import_tracer.import_log.edges[MAIN_MODULE] = {"aged"}
    written = os.stat(tmp_path / "aged.py").st_ctime_ns
    os.utime(tmp_path / "aged.py", ns=(2**62, 2**62))  # a time to come
    import_tracer.import_log.start_ns = os.stat(tmp_path / "aged.py").st_ctime_ns + 1
    assert dependencies.report_dependencies()["edited"] == []
    os.utime(tmp_path / "aged.py", ns=(5, 5))
    import_tracer.import_log.start_ns = written - 1
    assert dependencies.report_dependencies()["edited"] == [str(tmp_path / "aged.py")]


def test_what_a_step_from_the_cache_used_counts_again_though_it_is_not_imported_now(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.csv").write_text("x")

    def step() -> int:
        dependencies.record_file_read(tmp_path / "a.csv")
        dependencies.packages_read.add("pandas")
        import_tracer.import_log.record_import(MAIN_MODULE, "skrub_of_another_time", None)
        import_tracer.import_log.record_import(MAIN_MODULE, "lightgbm._of_another_time", None)
        return 5

    dependencies.untracked_sources.add("before")
    import_tracer.import_log.record_import(MAIN_MODULE, "before", None)
    result, used = dependencies.record_dependencies(step)
    assert result == 5
    assert dependencies.untracked_sources == {"before"}
    assert "before" in import_tracer.import_log.edges[MAIN_MODULE]
    assert "before" not in used[3]
    assert "before" not in used[-1][MAIN_MODULE]
    for held in (
        dependencies.files_read,
        dependencies.packages_read,
        import_tracer.import_log.edges,
    ):
        held.clear()
    dependencies.restore_dependencies(used)
    assert set(dependencies.files_read) == {str(tmp_path / "a.csv")}
    assert set(dependencies.report_dependencies()["packages"]) >= {"pandas", "lightgbm"}


def test_a_step_that_fails_leaves_what_was_used_before() -> None:
    dependencies.packages_read.add("pandas")
    with pytest.raises(ZeroDivisionError):
        dependencies.record_dependencies(lambda: 1 / 0)
    assert dependencies.packages_read == {"pandas"}


def test_in_a_notebook_run_by_hand_all_that_is_in_memory_counts() -> None:
    found = dependencies.report_dependencies(exact=False)
    assert found["packages"]["pytest"] == version("pytest")
    assert str(Path(dependencies.__file__)) in found["modules"]


def test_files_of_the_project_that_python_opens_are_noted_and_what_is_written_is_not(
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
    elsewhere = tmp_path.parent / f"{tmp_path.name}.csv"
    elsewhere.write_text("x")
    dependencies.files_written.clear()  # what this test wrote above, where an earlier one had begun to listen
    dependencies.watch_project_files(str(tmp_path), str(tmp_path / "reports"))
    try:
        for file in [*tmp_path.rglob("*"), elsewhere]:
            if file.is_file():
                file.read_text()
        pd.read_csv(tmp_path / "data" / "raw.csv")
        (tmp_path / "state.txt").open("a").close()
        write_text(tmp_path / "made.json", "{}")
        (tmp_path / "made.json").read_text()
    finally:
        dependencies.watched_folders[:] = [
            str(tmp_path / "nothing" / ""),
            str(tmp_path / "nothing"),
        ]
    assert [
        f for f in dependencies.report_dependencies()["files"] if Path(f).is_relative_to(tmp_path)
    ] == [str(tmp_path / "data" / "raw.csv")]
