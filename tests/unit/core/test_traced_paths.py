"""Which files count as what a stage used."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from mlops_kit.core.traced_paths import TooManyNamesError, TracedPaths

PATHS = TracedPaths("/home/me/project", "/home/me/project/reports")


@pytest.mark.parametrize(
    "path",
    [
        "/home/me/project/data/a.csv",
        "/home/me/project/.env",
        "/home/me/project/mlops.yaml",
        "/home/me/other.csv",
        "/srv/data/a.csv",
        "/etc/settings.ini",
    ],
)
def test_files_of_the_project_and_outside_of_it_count(path: str) -> None:
    assert PATHS.contains(path)


@pytest.mark.parametrize(
    "path",
    [
        "/home/me/project/reports/run/a.json",
        "/home/me/project/.mlops/mlflow.db",
        "/home/me/project/.git/HEAD",
        "/home/me/project/.ruff_cache/x",
        "/home/me/project/__pycache__/a.cpython-311.pyc",
        "/home/me/.cache/library/x",
        "/proc",
        "/proc/meminfo",
        "/dev/urandom",
        "/tmp/scratch.csv",
        f"{sysconfig.get_path('purelib')}/pandas/core.py",
        f"{sysconfig.get_path('stdlib')}/json/__init__.py",
        sysconfig.get_path("purelib"),
    ],
)
def test_runs_tools_caches_temporary_files_and_packages_do_not_count(path: str) -> None:
    assert not PATHS.contains(path)


def test_files_of_a_pattern_are_listed_in_a_project_whose_path_looks_like_one(
    tmp_path: Path,
) -> None:
    root = tmp_path / "project [1]"
    (root / "data").mkdir(parents=True)
    (root / "data/a.csv").touch()
    paths = TracedPaths(str(root), str(root / "reports"))
    assert paths.list_names(f"{root}/data/*.csv") == [f"{root}/data/a.csv"]


def test_project_in_a_temporary_folder_counts_with_its_surroundings() -> None:
    paths = TracedPaths("/tmp/mine/project", "/tmp/mine/project/reports")
    assert paths.contains("/tmp/mine/project/a.csv")
    assert paths.contains("/tmp/mine/outside.csv")
    assert not paths.contains("/tmp/other/a.csv")


def test_names_of_folders_and_patterns_leave_out_caches_and_runs(tmp_path: Path) -> None:
    for name in ("a.csv", ".hidden.csv", "b.txt", "reports/x", "__pycache__/a.pyc", "sub/c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    paths = TracedPaths(str(tmp_path), str(tmp_path / "reports"))

    def list_names(search: str) -> list[str]:
        names = paths.list_names(f"{tmp_path}/{search}")
        return [str(Path(name).relative_to(tmp_path)) for name in names]

    assert list_names("") == [".hidden.csv", "a.csv", "b.txt", "sub"]
    assert list_names("*.csv") == [".hidden.csv", "a.csv"]
    assert list_names("**/*.csv") == [".hidden.csv", "a.csv", "sub/c.csv"]
    assert list_names("nothing/") == []


def test_pattern_with_too_many_names_is_not_listed(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    paths = TracedPaths(str(tmp_path), str(tmp_path / "reports"))
    assert len(paths.list_names(f"{tmp_path}/*.csv", max_names=2)) == 2
    with pytest.raises(TooManyNamesError):
        paths.list_names(f"{tmp_path}/*.csv", max_names=1)
