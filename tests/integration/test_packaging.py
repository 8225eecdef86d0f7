"""environment.yml, pyproject.toml and requirements.lock say the same."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mlops_kit import __version__
from tests.support.environment import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = {
    canonicalize_name(m[1]): m[2]
    for m in re.finditer(
        r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)",
        (ROOT / "requirements.lock").read_text(),
        re.M,
    )
}
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


@pytest.mark.parametrize("line", PROJECT["dependencies"])
def test_a_dependency_is_locked_at_a_version_it_allows(line: str) -> None:
    wanted = Requirement(line)
    assert wanted.specifier.contains(LOCK[canonicalize_name(wanted.name)])


def test_the_environment_installs_the_lock_on_a_python_the_project_allows() -> None:
    python = next(
        d.split("=")[1]
        for d in ENVIRONMENT["dependencies"]
        if isinstance(d, str) and d.startswith("python=")
    )
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")
    pip = next(d["pip"] for d in ENVIRONMENT["dependencies"] if isinstance(d, dict))
    assert "-r requirements.lock" in pip
    assert "pip" in ENVIRONMENT["dependencies"]


def test_the_environment_has_the_projects_name_and_conda_forge_alone() -> None:
    assert ENVIRONMENT["name"] == PROJECT["name"]
    assert ENVIRONMENT["channels"] == ["conda-forge"]


def test_the_package_says_its_own_version() -> None:
    assert PROJECT["version"] == __version__


def test_each_locked_package_stands_once() -> None:
    lines = [
        line.split("==")[0].lower()
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    ]
    assert len(lines) == len(set(lines)) > 50


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as its wheel lays it down, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=300,
    )
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(folder / "site"),
            str(wheel),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder / "site"


def test_the_wheel_brings_notebooks_templates_and_types(installed: Path) -> None:
    inside = {
        p.relative_to(installed / "mlops_kit").as_posix()
        for p in (installed / "mlops_kit").rglob("*")
        if p.is_file()
    }
    assert {f"notebooks/{p.name}" for p in (ROOT / "notebooks").glob("*.ipynb")} <= inside
    assert {"py.typed", "templates/report/index.html", "templates/report/style.css"} <= inside
    migrations = ROOT / "mlops_kit" / "db" / "migrations"
    for pattern in ("*.py", "*.mako", "versions/*.py"):
        assert {f"db/migrations/{p.relative_to(migrations)}" for p in migrations.glob(pattern)} <= (
            inside
        )


def test_the_installed_package_migrates_a_database(installed: Path, tmp_path: Path) -> None:
    database = tmp_path / "mlops.db"
    with closing(sqlite3.connect(database)) as old:
        old.executescript((ROOT / "tests/data/tables-of-commit-0cc9fa2.sql").read_text())
    code = (
        "import sys; from pathlib import Path; from mlops_kit.db import engine; "
        "file = Path(sys.argv[1]); engine.get_engine(f'sqlite:///{file}', file); "
        "print(engine.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(database)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert Path(done.stdout.strip()).is_relative_to(installed)
    assert done.stderr.startswith("mlops.db: tables migrated from schema revision")
    assert done.stderr.count("\n") == 1


def test_the_installed_package_finds_its_own_notebooks_and_templates(
    installed: Path, tmp_path: Path
) -> None:
    code = (
        "import mlops_kit; from mlops_kit.core.resources import find_resource_folder as find; "
        "print(mlops_kit.__file__, find('notebooks'), find('templates'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert all(Path(p).is_relative_to(installed) for p in done.stdout.split())
