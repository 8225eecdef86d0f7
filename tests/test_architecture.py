"""The layers: rooms know only root modules, each heavy library has one door, and importing loads nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mlops_kit"
SHARED = {
    "features"
}  # a folder, but everybody's: features are computed alike in training and in serving
ROOMS = sorted(
    p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists() and p.name not in SHARED
)
ENTRIES = {"cli", "doctor", "session", "watch", "fleet"}  # where rooms are put together
DOORS = {
    "mlflow": ("tracking.py",),
    "optuna": ("train/search.py",),
    "papermill": ("pipeline/",),
    "ipywidgets": ("explore/widgets.py",),
    "pandera": ("contract.py",),
    "fastapi": ("deploy/app.py",),
    "prometheus_client": ("deploy/meters.py",),
    "uvicorn": ("deploy/server.py",),
}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "notebooks" not in p.parts)


def imported(file: Path) -> set[str]:
    """Dotted names of all that a file imports, wherever it does, ``Late`` included; ``from a import b`` counts as a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{file.name} imports relatively; the layers are checked by full names"
            )
            found |= {f"{node.module}.{a.name}" for a in node.names}
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "Late"
        ):
            found |= {str(a.value) for a in node.args if isinstance(a, ast.Constant)}
    return found


def rooms_of(file: Path) -> set[str]:
    """The rooms that a file imports from."""
    return {n.split(".")[1] for n in imported(file) if n.startswith("mlops_kit.")} & set(ROOMS)


def relative(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_other_room(room: str) -> None:
    found = {relative(f): rooms_of(f) - {room} for f in (PACKAGE / room).rglob("*.py")}
    allowed = room in ENTRIES
    assert allowed or not {k: v for k, v in found.items() if v}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_entry(room: str) -> None:
    found = {
        (relative(f), n)
        for f in (PACKAGE / room).rglob("*.py")
        for n in imported(f)
        if n.split(".")[:1] == ["mlops_kit"]
        and len(n.split(".")) > 1
        and n.split(".")[1] in ENTRIES - {room}
    }
    assert not found


def test_only_the_entries_import_rooms() -> None:
    outside = [f for f in FILES if f.parent == PACKAGE or f.parent.name in SHARED]
    found = {relative(f): rooms_of(f) for f in outside if f.stem not in ENTRIES}
    assert not {k: v for k, v in found.items() if v}


@pytest.mark.parametrize("library", DOORS)
def test_a_heavy_library_has_one_door(library: str) -> None:
    users = {relative(f) for f in FILES if any(n.split(".")[0] == library for n in imported(f))}
    assert {u for u in users if not u.startswith(DOORS[library])} == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, json, mlops_kit; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {m.split(".")[0] for m in json.loads(done.stdout)}
    assert not loaded & {
        "pandas",
        "numpy",
        "mlflow",
        "pydantic",
        "sklearn",
        "optuna",
        "papermill",
        "yaml",
        "altair",
    }


def test_the_config_loads_no_table_library() -> None:
    code = "import sys, json, mlops_kit.project.loader; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout)) & {"pandas", "numpy", "mlflow", "sklearn"}


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_a_module_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not text or ast.get_docstring(ast.parse(text))
