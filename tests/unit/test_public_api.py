"""The public interface: light to import, complete, documented, and all that notebooks need."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import mlops_kit
from tests.support.environment import ROOT

HEAVY_LIBRARIES = ("pandas", "mlflow", "sklearn", "duckdb", "altair", "pydantic", "yaml")
# Values and records that say in their docstring what they are; an example would show nothing. The
# examples of Stage and open_stage are the seven notebooks.
WITHOUT_EXAMPLE = {
    "Alert",
    "CheckOutcome",
    "CheckSeverity",
    "DriftTestResult",
    "Figure",
    "IncidentSeverity",
    "Interval",
    "JointCost",
    "KeyNumber",
    "KeyNumbers",
    "KitError",
    "NotAllowedError",
    "PanelContext",
    "ParameterRange",
    "Project",
    "ProjectConfig",
    "ReferenceRefit",
    "RefitAgreement",
    "RetrainingAction",
    "RetrainingDecision",
    "RetrainingEvidence",
    "ReviewEvidence",
    "RuleResult",
    "RuleRole",
    "RunFailedError",
    "SignalTime",
    "Stage",
    "Table",
    "Verdict",
    "Verdicts",
    "WaitingForApprovalError",
    "WindowEvidence",
    "WindowMonitoring",
    "WindowPerformance",
    "open_stage",
}


def list_sources() -> list[tuple[str, str]]:
    """The name and the code of every notebook and example."""
    sources = []
    for path in sorted([*ROOT.glob("notebooks/**/*.ipynb"), *ROOT.glob("templates/*.ipynb")]):
        cells = json.loads(path.read_text())["cells"]
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        sources += [(str(path.relative_to(ROOT)), code) for code in codes]
    for path in sorted([*ROOT.glob("features/**/*.py"), *ROOT.glob("examples/**/*.py")]):
        sources.append((str(path.relative_to(ROOT)), path.read_text()))
    return sources


def list_imports(code: str) -> list[tuple[str, str]]:
    """Module and name of each import from the package; the name is empty if a module is meant."""
    imports = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            imports += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports += [(node.module, alias.name) for alias in node.names]
    return [found for found in imports if found[0].partition(".")[0] == "mlops_kit"]


@pytest.mark.parametrize(("path", "code"), list_sources())
def test_notebooks_and_examples_import_public_names_only(path: str, code: str) -> None:
    for module, name in list_imports(code):
        assert module == "mlops_kit", f"{path} imports {module}"
        assert name in {"", *mlops_kit.__all__}, f"{path} imports {name}"


def test_the_sources_that_are_looked_at_import_the_package() -> None:
    importing = {path for path, code in list_sources() if list_imports(code)}
    assert len(importing) >= 9
    assert "features/flights.py" in importing


@pytest.mark.parametrize("name", mlops_kit.__all__)
def test_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(mlops_kit, name)
    if name == "__version__":
        return
    assert inspect.getdoc(value)
    if isinstance(value, ModuleType):
        assert value.__all__, f"{name} does not say what is public in it"
        for public in value.__all__:
            assert hasattr(value, public), f"{name} has no {public}"
            assert not public.startswith("_")


@pytest.mark.parametrize("name", sorted(set(mlops_kit.__all__) - WITHOUT_EXAMPLE))
def test_public_function_has_an_example_that_runs(name: str) -> None:
    value = getattr(mlops_kit, name)
    if isinstance(value, ModuleType | str):
        return
    assert ">>>" in (inspect.getdoc(value) or ""), f"{name} has no example"


def list_annotated_classes(value: type) -> set[type]:
    """The classes of the package that the annotations of a record's fields name."""
    texts = [getattr(hint, "__forward_arg__", str(hint)) for hint in value.__annotations__.values()]
    names = set(re.findall(r"\w+", " ".join(texts)))
    module = vars(sys.modules[value.__module__])
    classes = [module[name] for name in names if isinstance(module.get(name), type)]
    return {found for found in classes if found.__module__.startswith("mlops_kit.")}


def list_public_records() -> list[str]:
    """The public names of records: data classes and named tuples."""
    values = {name: getattr(mlops_kit, name) for name in mlops_kit.__all__}
    return [
        name
        for name, value in values.items()
        if isinstance(value, type)
        and (dataclasses.is_dataclass(value) or hasattr(value, "_fields"))
    ]


@pytest.mark.parametrize("name", list_public_records())
def test_what_a_public_record_holds_is_public(name: str) -> None:
    for held in list_annotated_classes(getattr(mlops_kit, name)):
        assert held.__name__ in mlops_kit.__all__, f"{name} holds a {held.__name__}"


def test_a_signal_gets_records_that_can_be_named() -> None:
    held = list_annotated_classes(mlops_kit.WindowEvidence)
    assert held == {
        mlops_kit.ProjectConfig,
        mlops_kit.WindowMonitoring,
        mlops_kit.WindowPerformance,
    }


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'reviews'"):
        mlops_kit.reviews  # noqa: B018 - the access is what is tested


def test_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(mlops_kit.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = set()
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            expected = f"{node.module}.{alias.name}"
            if alias.name in mlops_kit.__all__:
                found = mlops_kit.find_public_module(alias.name)
                assert found in {node.module, expected}
            seen.add(alias.name)
    assert set(mlops_kit.__all__) - seen == {"__version__", "new", "open"}


@pytest.mark.slow
def test_import_is_light() -> None:
    code = "import sys, mlops_kit; dir(mlops_kit); print(' '.join(sys.modules))"
    completed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not set(HEAVY_LIBRARIES) & set(completed.stdout.split())
