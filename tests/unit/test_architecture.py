"""The structure of the package is the one that docs/architecture.md describes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import ROOT

PACKAGE = ROOT / "mlops_kit"
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MODULES = sorted(PACKAGE.rglob("*.py"))


def read_table(heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading of docs/architecture.md."""
    section = ARCHITECTURE.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


LEVELS = {row[1].strip("`"): int(row[0]) for row in read_table("Layers")}
HEAVY_LIBRARIES = {
    row[0].strip("`"): re.findall(r"`([^`]+)`", row[1])
    for row in read_table("Where heavy libraries are imported")
}


def get_relative_path(module: Path) -> str:
    """Return the path of a module below the package."""
    return module.relative_to(PACKAGE).as_posix()


def get_unit(module: Path) -> str:
    """Return the top-level package or module that a file belongs to."""
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def iterate_imported_names(module: Path) -> Iterator[str]:
    """Yield dotted names that a module imports anywhere, ``LazyModule`` included."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{get_relative_path(module)} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "LazyModule":
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))


def list_imported_units(module: Path) -> set[str]:
    """Return the top-level packages of mlops_kit that a module imports from."""
    units = set()
    for name in iterate_imported_names(module):
        parts = name.split(".")
        if parts[0] == "mlops_kit" and len(parts) > 1 and parts[1] in LEVELS:
            units.add(parts[1])
    return units


def test_the_table_of_layers_lists_every_package() -> None:
    units = {get_unit(module) for module in MODULES} - {"__init__", "notebooks", "templates"}
    assert set(LEVELS) == units


@pytest.mark.parametrize("unit", sorted(LEVELS))
def test_a_layer_imports_only_layers_below(unit: str) -> None:
    upward_imports = []
    for module in MODULES:
        if get_unit(module) != unit:
            continue
        for target in sorted(list_imported_units(module) - {unit}):
            if LEVELS[target] >= LEVELS[unit]:
                upward_imports.append(f"{get_relative_path(module)} imports {target}")
    assert upward_imports == []


def test_stages_do_not_import_one_another() -> None:
    stage_names = {path.parent.name for path in PACKAGE.glob("stages/*/__init__.py")}
    foreign_imports = []
    for module in PACKAGE.glob("stages/*/*.py"):
        for name in iterate_imported_names(module):
            parts = name.split(".")
            is_stage = parts[:2] == ["mlops_kit", "stages"] and parts[2] in stage_names
            if is_stage and parts[2] != module.parent.name:
                foreign_imports.append(f"{get_relative_path(module)} imports {name}")
    assert foreign_imports == []


def build_import_graph() -> dict[str, set[str]]:
    """Return the modules that each module imports, by dotted name."""
    names = {}
    for module in MODULES:
        parts = module.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = module
    graph: dict[str, set[str]] = {}
    for name, module in names.items():
        targets = set()
        for imported in iterate_imported_names(module):
            while imported and imported not in names:
                imported = imported.rpartition(".")[0]
            is_own_package = name.startswith(f"{imported}.")
            if imported and imported != name and not is_own_package:
                targets.add(imported)
        graph[name] = targets
    return graph


@pytest.mark.slow
def test_modules_do_not_import_in_a_cycle() -> None:
    graph = build_import_graph()
    while True:
        imported = set().union(*graph.values())
        outside = {
            n for n, targets in graph.items() if not targets & set(graph) or n not in imported
        }
        if not outside:
            break
        graph = {name: targets - outside for name, targets in graph.items() if name not in outside}
    assert graph == {}, "these modules import one another"


@pytest.mark.parametrize("library", sorted(HEAVY_LIBRARIES))
@pytest.mark.slow
def test_a_heavy_library_is_imported_where_the_page_says(library: str) -> None:
    allowed = tuple(HEAVY_LIBRARIES[library])
    users = {
        get_relative_path(module)
        for module in MODULES
        if any(name.split(".")[0] == library for name in iterate_imported_names(module))
    }
    assert users, f"{library} is not imported at all: remove it from docs/architecture.md"
    assert {user for user in users if not user.startswith(allowed)} == set()


def list_loaded_modules(statement: str) -> set[str]:
    """Return the names of the modules that a fresh Python has loaded after a statement."""
    code = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(json.loads(completed.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"pandas", "numpy", "mlflow", "pydantic", "sklearn", "optuna", "papermill", "yaml"}
    assert list_loaded_modules("import mlops_kit") & (heavy | {"altair"}) == set()


def test_loading_the_configuration_loads_no_table_library() -> None:
    loaded = list_loaded_modules("import mlops_kit.project.loader")
    assert loaded & {"pandas", "numpy", "mlflow", "sklearn"} == set()


@pytest.mark.parametrize("module", MODULES, ids=get_relative_path)
def test_a_module_has_a_docstring(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert not text or ast.get_docstring(ast.parse(text))
