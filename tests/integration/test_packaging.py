"""environment.yml, pyproject.toml and requirements.lock say the same."""

from __future__ import annotations

import ast
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from mlops_kit import __version__
from mlops_kit.core.extras import EXTRAS
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
DISTRIBUTIONS = packages_distributions()
# Part of another library, which pins its version.
PARTS_OF_LIBRARIES = {"pydantic_core": "pydantic"}
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())


def list_names(lines: list[str]) -> set[str]:
    """Return the names of the distributions that requirements name."""
    return {canonicalize_name(Requirement(line).name) for line in lines}


OPTIONAL = PROJECT["optional-dependencies"]
BASE = list_names(PROJECT["dependencies"])
LIBRARY_LINES = {
    line
    for lines in (PROJECT["dependencies"], *OPTIONAL.values())
    for line in lines
    if canonicalize_name(Requirement(line).name) != PROJECT["name"]
}


@pytest.mark.parametrize("line", sorted(LIBRARY_LINES))
def test_a_dependency_is_locked_at_a_version_it_allows(line: str) -> None:
    wanted = Requirement(line)
    assert wanted.specifier.contains(LOCK[canonicalize_name(wanted.name)])


def test_all_is_the_union_of_the_extras_for_users() -> None:
    (line,) = OPTIONAL["all"]
    assert Requirement(line).name == PROJECT["name"]
    assert Requirement(line).extras == set(OPTIONAL) - {"all", "dev"}


def test_the_extras_for_users_are_those_that_the_package_knows() -> None:
    assert set(EXTRAS) == set(OPTIONAL) - {"all", "dev"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_installs_the_modules_that_the_package_says(extra: str) -> None:
    declared = list_names(OPTIONAL[extra])
    providers = [set(map(canonicalize_name, DISTRIBUTIONS[m])) for m in EXTRAS[extra].modules]
    assert all(names & declared for names in providers)
    assert declared <= set().union(*providers)


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_readme_says_what_an_extra_is_for(extra: str) -> None:
    rows = re.findall(rf"^\| `{extra}` \| (.+) \|$", (ROOT / "README.md").read_text(), re.M)
    assert len(rows) == 1


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
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as its wheel lays it down, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*command, "--target", str(folder), str(wheel)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder


def test_the_wheel_brings_notebooks_templates_and_types(installed: Path) -> None:
    inside = {
        p.relative_to(installed / "mlops_kit").as_posix()
        for p in (installed / "mlops_kit").rglob("*")
        if p.is_file()
    }
    assert {f"notebooks/{p.name}" for p in (ROOT / "notebooks").glob("*.ipynb")} <= inside
    assert {"py.typed", "templates/report/index.html", "templates/report/style.css"} <= inside
    templates = [path for path in (ROOT / "templates").rglob("*") if path.is_file()]
    assert {path.relative_to(ROOT).as_posix() for path in templates} <= inside
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


def test_the_installed_package_creates_and_updates_a_project(
    installed: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("x,y\n" + "".join(f"{n * 7 % 31},{n % 2}\n" for n in range(60)))
    options = ["--data", str(table), "--target", "y", "--yes"]
    for arguments in (["new", "p", *options], ["notebook", "edit", "train", "--project", "p"]):
        subprocess.run(
            [sys.executable, "-m", "mlops_kit.cli", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            check=True,
            capture_output=True,
            timeout=120,
        )
    names = {".gitattributes", ".gitignore", ".github/workflows/tests.yml", "tests/test_project.py"}
    names |= {"mlops.yaml", "contract.yaml", "notebooks/03_train.ipynb"}
    assert all((tmp_path / "p" / name).is_file() for name in names)


CALLERS_EXTRA = "all"


def find_extra(node: ast.AST, extra: str) -> str:
    """Return the extra from which the imports inside a node come; ``extra`` if it names none.

    ``CALLERS_EXTRA`` stands for one that a function receives as an argument.
    """
    calls = [item.context_expr for item in node.items] if isinstance(node, ast.With) else [node]
    for call in calls:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "import_from_extra":
            return str(getattr(call.args[0], "value", CALLERS_EXTRA))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "LazyModule":
            return "".join(ast.literal_eval(keyword.value) for keyword in call.keywords)
    return extra


ALLOWED_BY_EXTRA = {"": set[str]()} | {name: list_names(OPTIONAL[name]) for name in EXTRAS}
ALLOWED_BY_EXTRA[CALLERS_EXTRA] = set().union(*ALLOWED_BY_EXTRA.values())


def list_imported_names(node: ast.AST) -> list[str]:
    """Return the dotted names of the modules that a statement or a ``LazyModule`` imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [str(node.module)]
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "LazyModule":
        return [str(ast.literal_eval(node.args[0]))]
    return []


def iterate_library_imports(node: ast.AST, extra: str = "") -> Iterator[tuple[str, str]]:
    """Yield the module of each import of a library, and the extra from which it is imported."""
    extra = find_extra(node, extra)
    for name in list_imported_names(node):
        module = name.partition(".")[0]
        if module not in sys.stdlib_module_names and module != "mlops_kit":
            yield module, extra
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        children = list(node.orelse)
    for child in children:
        yield from iterate_library_imports(child, extra)


def test_each_library_is_imported_from_the_base_or_from_an_extra_that_installs_it() -> None:
    undeclared = []
    import_count = 0
    for file in sorted((ROOT / "mlops_kit").rglob("*.py")):
        for module, extra in iterate_library_imports(ast.parse(file.read_text())):
            import_count += 1
            declared = BASE | ALLOWED_BY_EXTRA[extra]
            name = PARTS_OF_LIBRARIES.get(module, module)
            providers = set(map(canonicalize_name, DISTRIBUTIONS[name]))
            if not providers & declared:
                place = f"the extra {extra!r}" if extra else "the base"
                undeclared.append(f"{file.relative_to(ROOT)}: {module} is not in {place}")
    assert import_count > 100
    assert undeclared == []
