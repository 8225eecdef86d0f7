"""Fingerprints by part: hashes and names of files, dependencies, descriptions of differences."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.core import files, import_tracer
from mlops_kit.core.errors import KitError
from mlops_kit.pipeline import (
    current_project,
    file_hashes,
    fingerprint,
    stage_dependencies,
)
from mlops_kit.pipeline.current_project import CurrentProject
from mlops_kit.pipeline.file_hashes import MISSING_FILE, FileHashes
from mlops_kit.pipeline.stage_dependencies import EDITED_DURING_RUN
from mlops_kit.project import artifacts, loader, run_manifest
from mlops_kit.project.loader import Project
from tests.support.pipeline_fixtures import write_notebook

YAML = """
name: tiny
source: t.csv
target: y
task: regression
stages:
  first: {notebook: first.ipynb, files: [note.yaml, limits/*.yaml], env: [TINY_WORD]}
"""
OLD_TIME_NS = 10**18  # a time long ago (ns)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    for folder in ("notebooks", "limits"):
        (tmp_path / folder).mkdir()
    for name, text in {
        "mlops.yaml": YAML,
        "t.csv": "x,y\n1,2\n",
        "helper.py": "import deep\n",
        "deep.py": "",
        "note.yaml": "a: 1\n",
        "limits/low.yaml": "low: 1\n",
    }.items():
        (tmp_path / name).write_text(text)
    write_notebook(tmp_path, "first", "1 + 1", "2 + 2")
    return loader.load_project(tmp_path)


def create_used_report(project: Project, **other: Any) -> dict[str, Any]:
    """A report as a kernel returns it."""
    data, helper, deep = (str(project.resolve_path(n)) for n in ("t.csv", "helper.py", "deep.py"))
    found = {
        "files": {data: list(stage_dependencies.read_file_stamp(data))},
        "modules": {helper: "", deep: helper},
        "packages": {"pandas": import_tracer.list_installed_versions()["pandas"]},
        "settings": [["TrainConfig", "trials"], ["Gone", "setting"]],
    }
    return {
        "edited": [],
        "listings": {},
        "unknowable": [],
        "start": time.time_ns(),
        **found,
        **other,
    }


def collect(project: Project, **other: Any) -> run_manifest.StageDependencies:
    return stage_dependencies.collect_dependencies(
        CurrentProject(project),
        "first",
        {"seed": 0},
        create_used_report(project, **other),
        {"numbers": "n1"},
    )


def list_differences(
    project: Project, old: run_manifest.StageDependencies, seed: int = 0, numbers: str | None = "n1"
) -> list[str]:
    return [
        *fingerprint.find_differences(
            CurrentProject(loader.load_project(project.root)),
            "first",
            {"seed": seed},
            {"numbers": numbers},
            old,
        )
    ]


def test_dependencies_have_each_part_and_names_relative_to_the_project(
    project: Project,
) -> None:
    found = collect(project)
    assert (len(found.cells), found.params, found.inputs, found.settings) == (
        4,
        {"seed": 0},
        {"numbers": "n1"},
        {"train.trials": 16},
    )
    assert list(found.files) == ["note.yaml", "limits/low.yaml", "t.csv"]
    assert found.files["t.csv"] == files.hash_file(project.resolve_path("t.csv"))
    assert found.modules["deep.py"] == run_manifest.ModuleDependency(
        hash=files.hash_file(project.resolve_path("deep.py")), imported_by="helper.py"
    )
    assert list_differences(project, found) == []
    assert fingerprint.compute_fingerprint(found) == fingerprint.compute_fingerprint(
        collect(project)
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("duckdb.sql(\"from 'parts/a.parquet' join read_csv('b c.csv')\")", ["parts/a.parquet"]),
        ("pd.read_csv('b c.csv')", ["b c.csv"]),
        ("x = 'parts/*.parquet'", ["parts/*.parquet"]),
        ("x = 'parts/'", ["parts"]),
        ("x = f'parts/{name}.parquet'", ["parts"]),
        ("x = '*.csv', '**/*.csv', '/', '.', 'mixed/', 'parts'", []),
        (
            "x = 'reports/r/out.csv', '.hidden/a.csv', 'none.csv', 'notebooks/first.ipynb', "
            "'helper.py', 'parts/\\0.csv'",
            [],
        ),
        ("%sql from 'parts/a.parquet'", ["parts/a.parquet"]),
    ],
)
def test_only_tables_that_code_mentions_are_found(
    project: Project, source: str, found: list[str]
) -> None:
    for name in (
        "parts/a.parquet",
        "parts/b.parquet",
        "b c.csv",
        "mixed/a.csv",
        "mixed/b.py",
        "reports/r/out.csv",
        ".hidden/a.csv",
    ):
        project.resolve_path(name).parent.mkdir(parents=True, exist_ok=True)
        project.resolve_path(name).write_text("x")
    write_notebook(project.root, "first", source)
    assert sorted(
        stage_dependencies.find_mentioned_tables(CurrentProject(project), "first", {}, [])
    ) == [str(project.resolve_path(n)) for n in found]
    write_notebook(project.root, "first", "1")
    given = {"data": project.resolve_path("b c.csv"), "names": ["parts/a.parquet", "x"], "size": 3}
    assert stage_dependencies.find_mentioned_tables(
        CurrentProject(project), "first", given, []
    ) == {str(project.resolve_path(n)) for n in ("b c.csv", "parts/a.parquet")}


def test_declared_files_outside_the_project_and_folders_are_compared(project: Project) -> None:
    beside = project.root.parent / f"{project.root.name}.csv"
    beside.write_text("1")
    (project.root / "mlops.yaml").write_text(
        YAML.replace(
            "note.yaml, limits/*.yaml", f"../{beside.name}, ./note.yaml, limits/, none.csv"
        )
    )
    opened = loader.load_project(project.root)
    found = stage_dependencies.collect_dependencies(
        CurrentProject(opened), "first", {"seed": 0}, create_used_report(opened), {"numbers": "n1"}
    )
    assert list(found.files) == [
        str(beside),
        "note.yaml",
        "limits/low.yaml",
        "none.csv",
        "t.csv",
    ]
    assert found.listings == {"limits": ["limits/low.yaml"]}
    assert list_differences(project, found) == []
    beside.write_text("2")
    assert list_differences(project, found) == [f"`{beside}` changed"]


def test_each_difference_is_described_with_old_and_new_value(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = collect(project)
    monkeypatch.setenv("TINY_WORD", "a")
    project.resolve_path("deep.py").unlink()
    project.resolve_path("t.csv").write_text("x,y\n1,3\n")
    project.resolve_path("mlops.yaml").write_text(YAML + "train: {trials: 5}\n")
    write_notebook(project.root, "first", "1 + 1", "2 + 3")
    old.packages = {**old.packages, "gone": "1.0"}
    old.python = "2.7"
    old.unknowable = ["a query"]
    assert list_differences(project, old, seed=1, numbers="n2") == [
        "code cell 4 of first changed",
        "parameter seed: 0 → 1",
        "setting train.trials: 16 → 5",
        "`t.csv` changed",
        "`deep.py` is gone: imported by helper",
        "`numbers` changed",
        "gone 1.0 → not installed",
        "environment variable TINY_WORD changed",
        f"Python 2.7 → {current_project.PYTHON_VERSION}",
        "its source is a query: only reading it tells whether it changed",
    ]


def test_empty_text_is_visible_in_a_difference(project: Project) -> None:
    old = collect(project)
    old.params = {"seed": ""}
    assert list_differences(project, old) == ["parameter seed: '' → 0"]


def test_pending_input_is_no_difference_but_a_missing_one_is(
    project: Project,
) -> None:
    old = collect(project)
    assert list_differences(project, old, numbers=None) == []
    assert [
        *fingerprint.find_differences(CurrentProject(project), "first", {"seed": 0}, {}, old)
    ] == ["`numbers` changed"]
    project.resolve_path("t.csv").write_text("other")
    assert [
        *fingerprint.find_differences(
            CurrentProject(project), "first", {"seed": 0}, {"numbers": "n1", "t.csv": None}, old
        )
    ] == []


def test_value_of_an_environment_variable_is_not_stored(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_WORD", "secret-word")
    found = collect(project)
    assert "secret-word" not in str(found)
    assert list_differences(project, found) == []
    monkeypatch.setenv("TINY_WORD", "")
    assert list_differences(project, found) == ["environment variable TINY_WORD changed"]


def test_files_changed_during_the_run_are_marked_as_edited(
    project: Project,
) -> None:
    before = create_used_report(project)
    project.resolve_path("t.csv").write_text("x,y\n1,2,3\n")
    found = stage_dependencies.collect_dependencies(
        CurrentProject(project),
        "first",
        {"seed": 0},
        {**before, "edited": [str(project.resolve_path("deep.py"))], "start": 0},
        {},
    )
    assert found.files == {
        "note.yaml": EDITED_DURING_RUN,
        "limits/low.yaml": EDITED_DURING_RUN,
        "t.csv": EDITED_DURING_RUN,
    }
    assert found.modules["deep.py"].hash == EDITED_DURING_RUN
    assert list_differences(project, found, numbers="any") == [
        f"`{n}` {EDITED_DURING_RUN}" for n in ("note.yaml", "limits/low.yaml", "t.csv")
    ] + [f"`deep.py` {EDITED_DURING_RUN}: imported by helper"]
    assert stage_dependencies.get_write_time_ns(str(project.resolve_path("none.yaml"))) == 0


def test_executed_cells_are_recorded_not_the_present_ones(project: Project) -> None:
    ran = CurrentProject(project).hash_cells("first")
    write_notebook(project.root, "first", "1 + 1", "edited")
    assert collect(project).cells != collect(project, cells=ran).cells == ran


def test_refreshed_dependencies_have_no_differences(project: Project) -> None:
    old = collect(project)
    project.resolve_path("deep.py").write_text("A = 1\n")
    project.resolve_path("note.yaml").write_text("a: 2\n")
    write_notebook(project.root, "first", "1 + 1")
    assert len(list_differences(project, old)) == 3
    assert (
        list_differences(
            project, stage_dependencies.refresh_dependencies(CurrentProject(project), "first", old)
        )
        == []
    )
    assert list_differences(
        project,
        stage_dependencies.refresh_dependencies(CurrentProject(project), "first", old),
        seed=1,
    ) == ["parameter seed: 0 → 1"]


def test_file_hash_is_cached_unless_the_file_is_young(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = files.hash_file
    monkeypatch.setattr(
        file_hashes, "hash_file", lambda path: read.append(Path(path).name) or plain(path)
    )
    old, young = project.resolve_path("t.csv"), project.resolve_path("note.yaml")
    os.utime(old, ns=(OLD_TIME_NS, OLD_TIME_NS))
    hashes = FileHashes(project)
    for _ in range(2):
        assert hashes.hash_path(old) == plain(old)
        assert hashes.hash_path(young) == plain(young)
    assert read == [
        "t.csv",
        "note.yaml",
        "note.yaml",
    ]  # it may change again within the same tick of its clock
    hashes.save_cache()
    again = FileHashes(project)
    old.rename(project.resolve_path("renamed.csv"))
    assert again.hash_path(project.resolve_path("renamed.csv")) == plain(
        project.resolve_path("renamed.csv")
    )
    assert read.count("t.csv") == 1
    assert FileHashes(project, verify=True).hash_path(project.resolve_path("renamed.csv"))
    assert read[-1] == "renamed.csv"


def test_verify_corrects_a_wrong_cached_hash(project: Project) -> None:
    hashes = FileHashes(project, verify=True)
    hashes.add_known_hash(project.resolve_path("t.csv"), "wrong")
    right = files.hash_file(project.resolve_path("t.csv"))
    assert hashes.hash_path(project.resolve_path("t.csv")) == right
    hashes.save_cache()
    assert FileHashes(project).hash_path(project.resolve_path("t.csv")) == right


def test_unreadable_hash_cache_is_rebuilt(project: Project) -> None:
    files.write_text(project.resolve_path(".mlops/cache/hashes.json"), "{ half")
    assert FileHashes(project).hash_path(project.resolve_path("t.csv")) == files.hash_file(
        project.resolve_path("t.csv")
    )


def test_hash_of_folder_and_pattern_covers_names_and_contents(project: Project) -> None:
    folder, pattern, hashes = (
        project.resolve_path("limits"),
        project.resolve_path("limits/*.yaml"),
        FileHashes(project),
    )
    assert hashes.hash_path(folder) == files.hash_file(folder)
    assert (
        hashes.hash_path(project.resolve_path("none/*.yaml"))
        == hashes.hash_path(project.resolve_path("none"))
        == MISSING_FILE
    )
    seen = [hashes.hash_path(pattern)]
    for change in (
        lambda: (folder / "low.yaml").write_text("low: 2\n"),
        lambda: (folder / "low.yaml").rename(folder / "high.yaml"),
        lambda: (folder / "new.yaml").touch(),
    ):
        change()
        seen.append(hashes.hash_path(pattern))
    assert len({*seen}) == 4
    (folder / "other.txt").touch()
    assert hashes.hash_path(pattern) == seen[-1]


def test_recorded_file_names_resolve_to_the_same_files(project: Project) -> None:
    now, outside = CurrentProject(project), project.root.parent / "outside.py"
    for path, name in (
        (fingerprint.__file__, "mlops_kit/pipeline/fingerprint.py"),
        (str(project.resolve_path("limits/low.yaml")), "limits/low.yaml"),
        (str(outside), str(outside)),
    ):
        assert now.format_path_name(path) == name
        assert str(now.resolve_path(name)) == path


def test_missing_damaged_and_unwritten_outputs_are_found(project: Project) -> None:
    run = project.root / "reports" / "r"
    wrote = {n: artifacts.write_artifact(run, "first", n, {"n": n}) for n in ("a", "b", "c")}
    assert [*fingerprint.find_damaged_outputs(run, wrote, FileHashes(project), ["a"])] == []
    (run / wrote["a"].path).unlink()
    (run / wrote["b"].path).write_text("{}")
    assert [*fingerprint.find_damaged_outputs(run, wrote, FileHashes(project), ["c", "d"])] == [
        "output `a` is gone",
        "output `b` is damaged",
        "output `d` is declared and was not written",
    ]


def test_partitioned_table_is_intact_until_a_partition_changes(project: Project) -> None:
    import pandas as pd

    run = project.root / "reports" / "r"
    wrote = {
        "t": artifacts.write_partitioned_artifact(
            run, "first", "t", pd.DataFrame({"day": ["a", "b"], "x": [1, 2]}), "day"
        )
    }
    assert [*fingerprint.find_damaged_outputs(run, wrote, FileHashes(project))] == []
    (run / "artifacts" / "t" / "day=a" / "part-0.parquet").write_bytes(b"")
    assert [*fingerprint.find_damaged_outputs(run, wrote, FileHashes(project))] == [
        "output `t` is damaged"
    ]


def test_only_files_of_the_project_can_be_displaced(project: Project) -> None:
    run = project.root / "reports" / "r"
    wrote = {
        "a": artifacts.write_artifact(run, "first", "a", {"n": 1}),
        "t.csv": artifacts.copy_file_artifact(run, "first", "t.csv", project.resolve_path("t.csv")),
    }
    assert fingerprint.find_displaced_outputs(project, wrote, FileHashes(project)) == []
    project.resolve_path("t.csv").unlink()
    assert fingerprint.find_displaced_outputs(project, wrote, FileHashes(project)) == ["t.csv"]


def test_code_origins_distinguish_package_features_and_contract(project: Project) -> None:
    before = fingerprint.hash_code_origins(CurrentProject(project))
    project.resolve_path("contract.yaml").write_text("columns: {}\n")
    after = fingerprint.hash_code_origins(CurrentProject(project))
    assert {n for n in before if before[n] != after[n]} == {"contract"}
    assert before["contract"] == MISSING_FILE


def test_folder_in_which_the_kernel_starts_is_a_dependency(project: Project) -> None:
    before = collect(project)
    config_file = project.root / "mlops.yaml"
    config_file.write_text(YAML.replace("first.ipynb,", "first.ipynb, cwd: limits,"))
    assert list_differences(project, before) == ["setting stages.first.cwd: not given → limits"]
    moved = loader.load_project(project.root)
    assert moved.get_working_folder("first") == project.root / "limits"
    after = collect(moved)
    assert after.settings["stages.first.cwd"] == "limits"
    assert list_differences(moved, after) == []
    config_file.write_text(YAML)
    assert list_differences(project, after) == ["setting stages.first.cwd: limits → not given"]


def test_table_beside_the_notebook_is_found_where_its_kernel_starts(project: Project) -> None:
    (project.root / "limits" / "beside.csv").write_text("x\n1\n")
    write_notebook(project.root, "first", "pd.read_csv('beside.csv')")
    assert "limits/beside.csv" not in collect(project).files
    stages = {"first": {"notebook": "first.ipynb", "cwd": "limits"}}
    moved = project.with_values("the test", stages=stages)
    found = stage_dependencies.find_mentioned_tables(CurrentProject(moved), "first", {}, [])
    assert str(project.root / "limits" / "beside.csv") in found


def test_folder_that_does_not_exist_is_an_error_before_the_run(project: Project) -> None:
    stages = {"first": {"notebook": "first.ipynb", "cwd": "nowhere"}}
    moved = project.with_values("the test", stages=stages)
    with pytest.raises(KitError, match=r"stages.first.cwd: 'nowhere' is not a folder"):
        moved.get_working_folder("first")
